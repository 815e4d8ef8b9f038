use super::*;
use crate::identity::{Algorithm, SigningKey};
use crate::name::{Kid, RoleName};
use base64::{
    Engine,
    engine::general_purpose::{URL_SAFE, URL_SAFE_NO_PAD},
};
use http::HeaderValue;
use proptest::prelude::*;
use rcgen::KeyPair;
use serde_json::json;
use test_case::test_case;

const NOW: UnixSeconds = 1_795_000_000;
const STAFF: &str = "https://login.example.com";
const ACCESS: &str = "https://team.cloudflareaccess.com";
const ACCESS_HEADER: &str = "cf-access-jwt-assertion";

const ALB: &str = "arn:aws:elasticloadbalancing:eu-west-1:123456789012:loadbalancer/app/web/50dc6c495c0c9188";
const ALB_HEADER: &str = "x-amzn-oidc-data";
const ALB_KEY: &str = "7e5c1f9a-0d3b-4a52-9f10-2b6d8f1c4e77";

struct World {
    key: SigningKey,
    people: Vec<People>,
    checkout: WorkloadName,
}

fn key_set(kid: &str, pair: &KeyPair) -> KeySet {
    let point = pair.public_key_raw();
    let [x, y] = [&point[1..33], &point[33..]].map(|part| URL_SAFE_NO_PAD.encode(part));
    let key = json!({ "kty": "EC", "crv": "P-256", "kid": kid, "x": x, "y": y });
    KeySet::read(json!({ "keys": [key] }).to_string().as_bytes()).unwrap()
}

impl World {
    fn new() -> Self {
        let pair = KeyPair::generate().unwrap();
        let checkout = WorkloadName::parse("checkout").unwrap();
        let support = Membership {
            role: RoleName::parse("support").unwrap(),
            by: By::Claim(ClaimPath::parse("groups").unwrap(), ["support".into()].into()),
            through: [checkout.clone()].into(),
        };
        let claim = |text| ClaimPath::parse(text).unwrap();
        let people = |name: &str, issuer: &str, header: &'static str| People {
            name: PeopleName::parse(name).unwrap(),
            issuer: issuer.into(),
            addressed: Addressed::To {
                claim: claim("aud"),
                audiences: ["api://shop".into(), "api://store".into()].into(),
            },
            header: HeaderName::from_static(header),
            subject: [claim("sub"), claim("common_name")].into(),
            memberships: [support.clone()].into(),
            is_forwarded: false,
            keys: Arc::new(Keys::new(key_set("k-1", &pair))),
        };
        let people = vec![
            people("staff", STAFF, "authorization"),
            people("partners", "https://partners.example.com", "authorization"),
            people("access", ACCESS, ACCESS_HEADER),
            People {
                addressed: Addressed::By { signers: [ALB.into()].into() },
                keys: Arc::new(Keys::new(key_set(ALB_KEY, &pair))),
                ..people("alb", STAFF, ALB_HEADER)
            },
        ];
        Self { key: SigningKey::from_pkcs8(&pair.serialize_der()).unwrap(), people, checkout }
    }

    fn sign(&self, claims: &Value) -> String {
        self.key.sign_as("JWT", &Kid::parse("k-1").unwrap(), claims).unwrap()
    }

    /// A token with a header of its own.
    fn sign_with(&self, header: &str, claims: &str) -> String {
        let message = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part)).join(".");
        format!("{message}.{}", self.key.signature(message.as_bytes()).unwrap())
    }

    fn verify(&self, headers: &[(&str, String)]) -> Result<User, Refusal> {
        self.verify_from(headers, (None, None))
    }

    fn verify_from(
        &self,
        headers: &[(&str, String)],
        (certificate, says): (Option<Thumbprint>, Option<Option<Thumbprint>>),
    ) -> Result<User, Refusal> {
        let header = |(name, value): &(&str, String)| {
            (HeaderName::try_from(*name).unwrap(), HeaderValue::from_bytes(value.as_bytes()).unwrap())
        };
        let bringer = Bringer { workload: &self.checkout, certificate, says };
        let mut map = HeaderMap::new();
        for (name, value) in headers.iter().map(header) {
            map.append(name, value);
        }
        verify(&map, &self.people, &bringer, NOW).map_err(|fault| fault.refusal)
    }

    fn bearer(&self, claims: &Value) -> Result<User, Refusal> {
        self.verify(&[("authorization", format!("Bearer {}", self.sign(claims)))])
    }
}

fn claims() -> Value {
    json!({ "iss": STAFF, "aud": "api://shop", "sub": "ada", "iat": NOW, "exp": NOW + 3600, "groups": ["support"] })
}

const MALFORMED: Result<(), Refusal> = Err(Refusal::UserTokenMalformed);

#[test]
fn a_user_is_who_the_token_says() {
    let user = World::new().bearer(&claims()).unwrap();
    assert_eq!((user.people.as_str(), user.to_string().as_str()), ("staff", "https://login.example.com|ada"));
    assert_eq!(user.roles.iter().map(RoleName::as_str).collect::<Vec<_>>(), ["support"]);
    assert_eq!(user.expires, NOW + 3600 + CLOCK_OFF_MAX);
}

#[test_case("aud", json!(["x", "api://store"]), Ok(()); "one of several audiences")]
#[test_case("iss", json!("https://partners.example.com"), Ok(()); "another issuer with the same header")]
#[test_case("nbf", json!(NOW + 30), Ok(()); "a clock that is ahead")]
#[test_case("exp", json!(NOW - 29), Ok(()); "a clock that is behind")]
#[test_case("anything", json!({ "more": [1, null] }), Ok(()); "a claim that nobody knows")]
#[test_case("sub", json!("auth0|507f1f77bcf86cd799439011"), Ok(()); "a subject with a bar")]
#[test_case("iss", json!("https://login.example.com/"), Err(Refusal::UserTokenIssuer); "a slash more")]
#[test_case("iss", json!(ACCESS), Err(Refusal::UserTokenIssuer); "an issuer with another header")]
#[test_case("iss", json!([STAFF]), MALFORMED; "issuer in a list")]
#[test_case("iss", Value::Null, MALFORMED; "no issuer")]
#[test_case("aud", json!("api://shop/"), Err(Refusal::UserTokenAudience); "another service")]
#[test_case("aud", json!("API://shop"), Err(Refusal::UserTokenAudience); "another case")]
#[test_case("aud", json!([]), Err(Refusal::UserTokenAudience); "for nobody")]
#[test_case("aud", json!({ "api://shop": 1 }), Err(Refusal::UserTokenAudience); "audience is an object")]
#[test_case("aud", Value::Null, Err(Refusal::UserTokenAudience); "no audience")]
#[test_case("exp", json!(NOW - 30), Err(Refusal::UserTokenExpired); "expired")]
#[test_case("exp", json!(i64::MIN), Err(Refusal::UserTokenExpired); "long ago")]
#[test_case("exp", Value::Null, MALFORMED; "without an end")]
#[test_case("exp", json!("1795003600"), MALFORMED; "an end as text")]
#[test_case("exp", json!(1_795_003_600.5), MALFORMED; "an end with a fraction")]
#[test_case("exp", json!(u64::MAX), MALFORMED; "an end beyond numbers")]
#[test_case("nbf", json!(NOW + 31), Err(Refusal::UserTokenNotYet); "not yet")]
#[test_case("iat", json!(NOW + 31), Err(Refusal::UserTokenNotYet); "issued tomorrow")]
#[test_case("nbf", json!("soon"), MALFORMED; "a beginning as text")]
#[test_case("sub", json!(""), Err(Refusal::UserTokenSubject); "nobody")]
#[test_case("sub", json!("common_name:job"), Err(Refusal::UserTokenSubject); "like one by another claim")]
#[test_case("sub", json!(7), Err(Refusal::UserTokenSubject); "a number")]
#[test_case("sub", json!("a\r\nBelay-Roles: admin"), Err(Refusal::UserTokenSubject); "a line more")]
#[test_case("sub", json!("adä"), Err(Refusal::UserTokenSubject); "beyond ASCII")]
#[test_case("sub", json!(" ada"), Err(Refusal::UserTokenSubject); "a space before")]
#[test_case("sub", json!("a".repeat(256)), Err(Refusal::UserTokenSubject); "too long")]
#[test_case("cnf", json!({ "x5t#S256": Thumbprint::of(b"certificate").to_string() }), Err(Refusal::UserTokenCertificate); "bound to a certificate that is not there")]
#[test_case("cnf", json!({ "jkt": "x" }), Err(Refusal::UserTokenCertificate); "bound to a key that we cannot check")]
#[test_case("cnf", json!({}), Err(Refusal::UserTokenCertificate); "bound to nothing")]
#[test_case("cnf", json!("x"), Err(Refusal::UserTokenCertificate); "bound to a text")]
fn claim(name: &str, value: Value, expected: Result<(), Refusal>) {
    let mut claims = claims();
    if value.is_null() {
        claims.as_object_mut().unwrap().remove(name);
    } else {
        claims[name] = value;
    }
    assert_eq!(World::new().bearer(&claims).map(drop), expected);
}

#[test_case(r#"{"typ":"JWT","alg":"ES256","kid":"k-1"}"#, Ok(()); "a plain header")]
#[test_case(r#"{"alg":"ES256","kid":"k-1"}"#, Ok(()); "without a type")]
#[test_case(r#"{"typ":"at+jwt","alg":"ES256","kid":"k-1"}"#, Ok(()); "an access token")]
#[test_case(r#"{"typ":"application/AT+JWT","alg":"ES256","kid":"k-1"}"#, Ok(()); "with the whole type")]
#[test_case(r#"{"alg":"ES256"}"#, Ok(()); "without a key's name where there is one key")]
#[test_case(r#"{"typ":"JWT","alg":"ES256","kid":"k-1","x5t":"abc","nonce":"n"}"#, Ok(()); "what is not for us")]
#[test_case(r#"{"typ":"edge-identity+jwt","alg":"ES256","kid":"k-1"}"#, MALFORMED; "a workload's token")]
#[test_case(r#"{"typ":"logout+jwt","alg":"ES256","kid":"k-1"}"#, MALFORMED; "a token for logging out")]
#[test_case(r#"{"typ":"dpop+jwt","alg":"ES256","kid":"k-1"}"#, MALFORMED; "a proof")]
#[test_case(r#"{"alg":"ES256","kid":"k-1","crit":[]}"#, MALFORMED; "critical")]
#[test_case(r#"{"alg":"ES256","kid":"k-1","jwk":{}}"#, MALFORMED; "a key in the token")]
#[test_case(r#"{"alg":"ES256","kid":"k-1","jku":"https://x"}"#, MALFORMED; "a key somewhere")]
#[test_case(r#"{"alg":"ES256","kid":"k-1","x5u":"https://x"}"#, MALFORMED; "a certificate somewhere")]
#[test_case(r#"{"alg":"ES256","kid":"k-1","x5c":[]}"#, MALFORMED; "a certificate in the token")]
#[test_case(r#"{"alg":"ES256","kid":"k-1","b64":false}"#, MALFORMED; "another payload")]
#[test_case(r#"{"alg":"ES256","kid":"k-1","zip":"DEF"}"#, MALFORMED; "packed")]
#[test_case(r#"{"alg":"ES256","kid":"k-1","kid":"k-1"}"#, MALFORMED; "a key named twice")]
#[test_case(r#"{"alg":"ES256","kid":"k-1","y":1,"y":2}"#, MALFORMED; "anything twice")]
#[test_case(r#"{"kid":"k-1"}"#, MALFORMED; "no algorithm")]
#[test_case(r#"{"alg":"ES256","kid":7}"#, MALFORMED; "a key's name that is a number")]
#[test_case(r#"{"alg":"none","kid":"k-1"}"#, Err(Refusal::UserTokenKeyUnknown); "unsigned")]
#[test_case(r#"{"alg":"HS256","kid":"k-1"}"#, Err(Refusal::UserTokenKeyUnknown); "the public key as a secret")]
#[test_case(r#"{"alg":"RS256","kid":"k-1"}"#, Err(Refusal::UserTokenKeyUnknown); "another algorithm")]
#[test_case(r#"{"alg":"es256","kid":"k-1"}"#, Err(Refusal::UserTokenKeyUnknown); "in lower case")]
#[test_case(r#"{"alg":"ES256","kid":"k-2"}"#, Err(Refusal::UserTokenKeyUnknown); "another key")]
#[test_case("[]", MALFORMED; "a list")]
#[test_case("", MALFORMED; "no header")]
fn header(header: &str, expected: Result<(), Refusal>) {
    let world = World::new();
    let token = world.sign_with(header, &claims().to_string());
    assert_eq!(world.verify(&[("authorization", format!("Bearer {token}"))]).map(drop), expected);
}

#[test_case(r#"{"iss":"https://login.example.com","iss":"https://login.example.com"}"#; "a claim twice")]
#[test_case(r#"{"a":{"b":1,"b":2}}"#; "twice within another")]
#[test_case("[]"; "a list")]
#[test_case("{"; "half an object")]
#[test_case(""; "nothing")]
fn no_claims(claims: &str) {
    let world = World::new();
    let token = world.sign_with(r#"{"alg":"ES256","kid":"k-1"}"#, claims);
    assert_eq!(world.verify(&[("authorization", format!("Bearer {token}"))]).map(drop), MALFORMED);
}

/// `T` stands for a good token of staff, `A` for one of Access.
#[test_case(&[("authorization", "Bearer T")], Ok(()); "after bearer")]
#[test_case(&[("authorization", "bearer   T")], Ok(()); "in lower case, with spaces")]
#[test_case(&[("authorization", "BEARER T")], Ok(()); "in upper case")]
#[test_case(&[(ACCESS_HEADER, "A")], Ok(()); "in a header of its own")]
#[test_case(&[("authorization", "Basic YTpi"), (ACCESS_HEADER, "A")], Ok(()); "another scheme is no token")]
#[test_case(&[], Err(Refusal::UserTokenMissing); "no header")]
#[test_case(&[("authorization", "T")], Err(Refusal::UserTokenMissing); "without a scheme")]
#[test_case(&[("authorization", "Basic T")], Err(Refusal::UserTokenMissing); "basic")]
#[test_case(&[("authorization", "")], Err(Refusal::UserTokenMissing); "empty")]
#[test_case(&[("x-token", "T")], Err(Refusal::UserTokenMissing); "a header that nobody named")]
#[test_case(&[("authorization", "Bearer T"), ("authorization", "Bearer T")], Err(Refusal::UserTokenRepeated); "twice")]
#[test_case(&[("authorization", "Bearer T"), ("authorization", "Basic YTpi")], Err(Refusal::UserTokenRepeated); "and another scheme")]
#[test_case(&[("authorization", "Bearer T"), (ACCESS_HEADER, "A")], Err(Refusal::UserTokenRepeated); "two tokens")]
#[test_case(&[("authorization", "Basic YTpi"), ("authorization", "Bearer T")], Err(Refusal::UserTokenRepeated); "after another scheme")]
#[test_case(&[("authorization", "Basic YTpi"), ("authorization", "Bearer T"), (ACCESS_HEADER, "A")], Err(Refusal::UserTokenRepeated); "hidden behind another scheme")]
#[test_case(&[(ACCESS_HEADER, "T")], Err(Refusal::UserTokenIssuer); "in another's header")]
#[test_case(&[("authorization", "Bearer A")], Err(Refusal::UserTokenIssuer); "another's token")]
#[test_case(&[("authorization", "Bearer T, Bearer T")], Err(Refusal::UserTokenMalformed); "two in one")]
#[test_case(&[("authorization", "Bearer ")], Err(Refusal::UserTokenMalformed); "nothing after it")]
#[test_case(&[("authorization", "Bearer a.b")], Err(Refusal::UserTokenMalformed); "two parts")]
#[test_case(&[("authorization", "Bearer a.b.c.d.e")], Err(Refusal::UserTokenMalformed); "encrypted")]
fn headers(headers: &[(&str, &str)], expected: Result<(), Refusal>) {
    let world = World::new();
    let staff = world.sign(&claims());
    let mut of_access = claims();
    of_access["iss"] = json!(ACCESS);
    let access = world.sign(&of_access);
    let fill = |text: &str| text.replacen(" T", &format!(" {staff}"), 2);
    let fill = |text: &str| match text {
        "T" => staff.clone(),
        "A" => access.clone(),
        "Bearer A" => format!("Bearer {access}"),
        "Bearer T, Bearer T" => format!("Bearer {staff}, Bearer {staff}"),
        other => fill(other),
    };
    let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, fill(value))).collect();
    assert_eq!(world.verify(&headers).map(drop), expected);
}

#[test]
fn a_token_has_its_length() {
    let world = World::new();
    let mut long = claims();
    long["groups"] = json!(vec!["x".repeat(100); 120]);
    assert_eq!(world.bearer(&long).map(drop), Err(Refusal::UserTokenTooLong));
}

#[test]
fn an_empty_subject_is_not_everybody_who_has_one() {
    let world = World::new();
    let mut service = claims();
    service["sub"] = json!("");
    service["common_name"] = json!("ada");
    // A service called like a person is not that person.
    assert_eq!(&*world.bearer(&service).unwrap().subject, "common_name:ada");
}

#[test]
fn anothers_signature_is_none() {
    let world = World::new();
    let other = SigningKey::from_pkcs8(&KeyPair::generate().unwrap().serialize_der()).unwrap();
    let token = other.sign_as("JWT", &Kid::parse("k-1").unwrap(), &claims()).unwrap();
    let refused = world.verify(&[("authorization", format!("Bearer {token}"))]);
    assert_eq!(refused.map(drop), Err(Refusal::UserTokenSignature));
    assert_eq!(other.public().algorithm(), Algorithm::Es256);
}

#[test]
fn without_keys_nobody_is_let_in_and_nobody_is_called_a_liar() {
    let mut world = World::new();
    world.people[0].keys = Arc::default();
    assert_eq!(world.bearer(&claims()).map(drop), Err(Refusal::UserKeysMissing));
}

#[test]
fn a_token_that_is_bound_counts_with_its_certificate() {
    let world = World::new();
    let certificate = Thumbprint::of(b"certificate");
    let mut bound = claims();
    bound["cnf"] = json!({ "x5t#S256": certificate.to_string() });
    let header = [("authorization", format!("Bearer {}", world.sign(&bound)))];
    assert!(world.verify_from(&header, (Some(certificate), None)).is_ok());
    let others = world.verify_from(&header, (Some(Thumbprint::of(b"other")), None));
    assert_eq!(others.map(drop), Err(Refusal::UserTokenCertificate));
}

#[test]
fn the_workloads_token_names_the_users() {
    let world = World::new();
    let token = world.sign(&claims());
    let header = [("authorization", format!("Bearer {token}"))];
    let says = |says: &str| Some(Some(Thumbprint::of(says.as_bytes())));
    assert!(world.verify_from(&header, (None, says(&token))).is_ok());
    for other in [Some(None), says("another token"), says(&format!("Bearer {token}"))] {
        assert_eq!(world.verify_from(&header, (None, other)).map(drop), Err(Refusal::TokenUser));
    }
}

#[test]
fn through_another_workload_he_has_no_role() {
    let mut world = World::new();
    world.checkout = WorkloadName::parse("reports").unwrap();
    assert!(world.bearer(&claims()).unwrap().roles.is_empty());
}

proptest! {
    #[test]
    fn no_text_gets_in_or_panics(text in ".{0,200}") {
        let value: String = text.chars().filter(|c| !c.is_control()).collect();
        let header = format!("Bearer {value}");
        prop_assert!(World::new().verify(&[("authorization", header)]).is_err());
    }

    #[test]
    fn one_byte_changed_is_refused(at in any::<prop::sample::Index>(), with in "[A-Za-z0-9_.-]") {
        let world = World::new();
        let mut token = world.sign(&claims());
        let at = at.index(token.len());
        prop_assume!(token[at..=at] != with);
        token.replace_range(at..=at, &with);
        let header = format!("Bearer {token}");
        prop_assert!(world.verify(&[("authorization", header)]).is_err());
    }
}

/// A token as an Application Load Balancer makes it, with one thing different.
#[test_case("", "", Ok(()); "as it is")]
#[test_case("50dc6c495c0c9188", "60dc6c495c0c9188", Err(Refusal::UserTokenSigner); "another load balancer")]
#[test_case("\"signer\"", "\"signatory\"", Err(Refusal::UserTokenSigner); "no load balancer")]
#[test_case("7e5c1f9a-0d3b", "7E5C1F9A-0D3B", MALFORMED; "upper case")]
#[test_case("7e5c1f9a-0d3b-4a52-9f10-2b6d8f1c4e77", "../../evil", MALFORMED; "a path for a key")]
#[test_case("7e5c1f9a-0d3b-4a52-9f10-2b6d8f1c4e77", "7e5c1f9a-0d3b-4a52-9f10-2b6d8f1c4e7g", MALFORMED; "no hexadecimal")]
#[test_case("\"kid\"", "\"key\"", MALFORMED; "no key")]
#[test_case("7e5c1f9a", "8e5c1f9a", Err(Refusal::UserTokenKeyUnknown); "another key")]
#[test_case("ES256", "RS256", MALFORMED; "another algorithm")]
fn a_load_balancer_of_aws(from: &str, to: &str, expected: Result<(), Refusal>) {
    let world = World::new();
    let header = json!({ "typ": "JWT", "alg": "ES256", "kid": ALB_KEY, "signer": ALB, "client": "c", "iss": STAFF, "exp": NOW + 120 });
    let header = header.to_string().replace(from, to);
    let said =
        json!({ "iss": STAFF, "sub": "ada", "email": "ada@example.com", "exp": NOW + 120, "groups": ["support"] });
    for padded in [true, false] {
        let encode = |bytes: &[u8]| if padded { URL_SAFE.encode(bytes) } else { URL_SAFE_NO_PAD.encode(bytes) };
        let message = [header.as_bytes(), said.to_string().as_bytes()].map(encode).join(".");
        let signature = encode(&URL_SAFE_NO_PAD.decode(world.key.signature(message.as_bytes()).unwrap()).unwrap());
        let token = format!("{message}.{signature}");
        assert_eq!(token.contains('='), padded, "both are seen here");
        let user = world.verify(&[(ALB_HEADER, token.clone())]);
        assert_eq!(user.as_ref().map(drop).map_err(|refusal| *refusal), expected, "{header}");
        // Nobody else fills up.
        let elsewhere = world.verify(&[("authorization", format!("Bearer {token}"))]);
        assert!(elsewhere.is_err());
    }
}
