use super::*;
use crate::identity::{Profile, SigningKey};
use crate::name::WorkloadName;
use crate::request::{Head, Protocol};
use http::Method;
use proptest::prelude::*;
use serde_json::{Value, json};
use test_case::test_case;

const NOW: UnixSeconds = 1_795_000_000;
const ISSUER: &str = "https://edge.example.com/worker";
const AUDIENCE: &str = "https://lb.example.com";
const SUBJECT: &str = "spiffe://example.com/worker/checkout";

fn signing_key() -> SigningKey {
    SigningKey::from_pkcs8(&rcgen::KeyPair::generate().unwrap().serialize_der()).unwrap()
}

struct World {
    trust: Trust,
    key: SigningKey,
    workload: Arc<Workload>,
    facts: Facts,
}

fn workload(name: &str) -> Arc<Workload> {
    Arc::new(Workload {
        name: WorkloadName::parse(name).unwrap(),
        id: SpiffeId::parse(&format!("spiffe://example.com/worker/{name}")).unwrap(),
        roles: Box::default(),
    })
}

impl World {
    fn new() -> Self {
        let key = signing_key();
        let workload = workload("checkout");
        let edge = Edge { issuer: ISSUER.into(), audience: AUDIENCE.into(), lifetime_max: 300 };
        let ours = TokenKey { workload: Arc::clone(&workload), key: key.public().clone() };
        let trust = Trust {
            edge: Some(edge),
            workloads: HashMap::from([(workload.id.clone(), Arc::clone(&workload))]),
            keys: HashMap::from([(Kid::parse("w-1").unwrap(), ours)]),
        };
        let head = Head {
            method: &Method::POST,
            target: b"/orders?a=%2f",
            authority: None,
            hosts: [Some(b"Shop.example.com:8443"), None],
            protocol: Protocol::Http1,
        };
        Self { trust, key, workload, facts: Facts::read(&head).unwrap() }
    }

    fn verify(&self, tokens: [Option<&[u8]>; 2]) -> Result<Sighting, Refusal> {
        let thumbprint = Thumbprint::of(b"certificate");
        let now = Timestamp::from_unix_seconds(NOW);
        let context = Context { workload: &self.workload, thumbprint, facts: &self.facts, now };
        verify(tokens, &self.trust, &context).map_err(|(refusal, _)| refusal)
    }

    fn verify_claims(&self, claims: &Value) -> Result<(), Refusal> {
        let token = self.key.sign(&Kid::parse("w-1").unwrap(), claims).unwrap();
        self.verify([Some(token.as_bytes()), None]).map(drop)
    }
}

fn claims() -> Value {
    json!({
        "iss": ISSUER, "aud": AUDIENCE, "sub": SUBJECT,
        "iat": NOW, "exp": NOW + 60, "jti": "0123456789abcdef",
        "htm": "POST", "hta": "Shop.example.com:8443", "htt": "/orders?a=%2f",
        "cnf": { "x5t#S256": Thumbprint::of(b"certificate").to_string() },
    })
}

const MALFORMED: Result<(), Refusal> = Err(Refusal::TokenMalformed);

#[test_case("aud", &json!([AUDIENCE, "https://other"]), Ok(()); "audience in an array")]
#[test_case("rid", &json!("7c1f2c8e-aaaa"), Ok(()); "request id")]
#[test_case("cip", &json!("192.0.2.1"), Ok(()); "client address")]
#[test_case("exp", &json!(NOW + 300), Ok(()); "longest life")]
#[test_case("iat", &json!(NOW + 5), Ok(()); "clock ahead")]
#[test_case("iss", &json!("https://edge.example.com/worker/"), Err(Refusal::TokenIssuer); "other issuer")]
#[test_case("aud", &json!("https://lb"), Err(Refusal::TokenAudience); "other audience")]
#[test_case("aud", &json!([]), Err(Refusal::TokenAudience); "no audience")]
#[test_case("aud", &json!(1), MALFORMED; "audience is a number")]
#[test_case("aud", &json!([AUDIENCE, 1]), MALFORMED; "a number among audiences")]
#[test_case("sub", &json!("spiffe://example.com/worker/reports"), Err(Refusal::TokenSubject); "other subject")]
#[test_case("sub", &json!("spiffe://example.com/worker/Checkout"), Err(Refusal::TokenSubject); "subject in other case")]
#[test_case("exp", &json!(NOW + 301), Err(Refusal::TokenLifetime); "too long a life")]
#[test_case("exp", &json!(NOW), Err(Refusal::TokenLifetime); "no life")]
#[test_case("exp", &json!(i64::MAX), Err(Refusal::TokenLifetime); "for ever")]
#[test_case("exp", &json!(i64::MIN), Err(Refusal::TokenLifetime); "underflow")]
#[test_case("iat", &json!(NOW + 6), Err(Refusal::TokenNotYet); "from the future")]
#[test_case("exp", &json!(1.5), MALFORMED; "float")]
#[test_case("exp", &json!("1795000060"), MALFORMED; "number as text")]
#[test_case("exp", &Value::Null, MALFORMED; "null")]
#[test_case("htm", &json!("post"), Err(Refusal::TokenBinding); "method in other case")]
#[test_case("htm", &json!("GET"), Err(Refusal::TokenBinding); "other method")]
#[test_case("hta", &json!("shop.example.com:8443"), Err(Refusal::TokenBinding); "authority in other case")]
#[test_case("hta", &json!("Shop.example.com"), Err(Refusal::TokenBinding); "authority without port")]
#[test_case("htt", &json!("/orders"), Err(Refusal::TokenBinding); "target without query")]
#[test_case("htt", &json!("/orders?a=/"), Err(Refusal::TokenBinding); "target decoded")]
#[test_case("htt", &json!("/orders?a=%2F"), Err(Refusal::TokenBinding); "target in other case")]
#[test_case("cnf", &json!({ "x5t#S256": "AAAA" }), Err(Refusal::TokenCertificate); "short thumbprint")]
#[test_case("cnf", &json!({ "x5t#S256": Thumbprint::of(b"x").to_string() }), Err(Refusal::TokenCertificate); "stolen")]
#[test_case("cnf", &json!({ "jkt": "x" }), MALFORMED; "other confirmation")]
#[test_case("cnf", &json!("x"), MALFORMED; "confirmation is text")]
#[test_case("jti", &json!("0123456789abcde"), MALFORMED; "short id")]
#[test_case("jti", &json!("0123456789abcde\n"), MALFORMED; "id with a newline")]
#[test_case("jti", &json!("x".repeat(65)), MALFORMED; "long id")]
#[test_case("rid", &json!("short"), MALFORMED; "short request id")]
#[test_case("rid", &json!("12345678\r\nx: y"), MALFORMED; "request id with a newline")]
#[test_case("role", &json!("admin"), MALFORMED; "a fact that nobody may assert")]
fn claim(name: &str, value: &Value, expected: Result<(), Refusal>) {
    let mut claims = claims();
    claims[name] = value.clone();
    assert_eq!(World::new().verify_claims(&claims), expected);
}

#[test_case("iss")]
#[test_case("aud")]
#[test_case("sub")]
#[test_case("iat")]
#[test_case("exp")]
#[test_case("jti")]
#[test_case("htm")]
#[test_case("hta")]
#[test_case("htt")]
#[test_case("cnf")]
fn without(name: &str) {
    let mut claims = claims();
    claims.as_object_mut().unwrap().remove(name);
    assert_eq!(World::new().verify_claims(&claims), MALFORMED);
}

#[test_case(-89, Ok(()); "in its last second, the clock behind")]
#[test_case(-90, Err(Refusal::TokenExpired); "expired")]
fn signed(offset: i64, expected: Result<(), Refusal>) {
    let mut claims = claims();
    claims["iat"] = json!(NOW + offset);
    claims["exp"] = json!(NOW + offset + 60);
    assert_eq!(World::new().verify_claims(&claims), expected);
}

fn header(alg: &str) -> Value {
    json!({ "typ": "edge-identity+jwt", "alg": alg, "kid": "w-1" })
}

/// Signs any header with the right key.
fn sign_raw(world: &World, header: &str, payload: &str) -> String {
    let encode = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let message = format!("{}.{}", encode(header), encode(payload));
    // `sign` fixes the header, so the signature comes from the JWT library itself.
    let pkcs8 = rcgen::KeyPair::generate().unwrap();
    let _ = world;
    let key = jsonwebtoken::EncodingKey::from_ec_der(&pkcs8.serialize_der());
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, jsonwebtoken::Algorithm::ES256).unwrap();
    format!("{message}.{signature}")
}

#[test_case(&header("ES256").to_string(), Refusal::TokenSignature; "another key")]
#[test_case(&header("none").to_string(), Refusal::TokenKeyUnknown; "none")]
#[test_case(&header("HS256").to_string(), Refusal::TokenKeyUnknown; "key confusion")]
#[test_case(&header("RS256").to_string(), Refusal::TokenKeyUnknown; "rsa")]
#[test_case(r#"{"typ":"JWT","alg":"ES256","kid":"w-1"}"#, Refusal::TokenMalformed; "other type")]
#[test_case(r#"{"alg":"ES256","kid":"w-1"}"#, Refusal::TokenMalformed; "no type")]
#[test_case(r#"{"typ":"edge-identity+jwt","alg":"ES256"}"#, Refusal::TokenMalformed; "no kid")]
#[test_case(r#"{"typ":"edge-identity+jwt","alg":"ES256","kid":"../k"}"#, Refusal::TokenMalformed; "kid is a path")]
#[test_case(r#"{"typ":"edge-identity+jwt","alg":"ES256","kid":"w-2"}"#, Refusal::TokenKeyUnknown; "unknown kid")]
#[test_case(r#"{"typ":"edge-identity+jwt","alg":"ES256","kid":"w-1","kid":"w-1"}"#, Refusal::TokenMalformed; "kid twice")]
#[test_case(r#"{"typ":"edge-identity+jwt","alg":"ES256","kid":"w-1","crit":["b64"]}"#, Refusal::TokenMalformed; "crit")]
#[test_case(r#"{"typ":"edge-identity+jwt","alg":"ES256","kid":"w-1","jku":"https://e"}"#, Refusal::TokenMalformed; "jku")]
#[test_case(r#"{"typ":"edge-identity+jwt","alg":"ES256","kid":"w-1","jwk":{}}"#, Refusal::TokenMalformed; "jwk")]
#[test_case("[]", Refusal::TokenMalformed; "no object")]
#[test_case("", Refusal::TokenMalformed; "empty")]
fn jose_header(header: &str, expected: Refusal) {
    let world = World::new();
    let token = sign_raw(&world, header, &claims().to_string());
    assert_eq!(world.verify([Some(token.as_bytes()), None]).err(), Some(expected));
}

#[test]
fn a_claim_twice_is_refused() {
    let world = World::new();
    struct Raw(String);
    impl Serialize for Raw {
        fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
            let raw: Box<serde_json::value::RawValue> =
                serde_json::value::RawValue::from_string(self.0.clone()).unwrap();
            raw.serialize(to)
        }
    }
    let twice = claims().to_string().replacen('{', r#"{"sub":"spiffe://example.com/worker/checkout","#, 1);
    let token = world.key.sign(&Kid::parse("w-1").unwrap(), &Raw(twice)).unwrap();
    assert_eq!(world.verify([Some(token.as_bytes()), None]).err(), Some(Refusal::TokenMalformed));
}

#[test]
fn one_token_and_not_too_long() {
    let world = World::new();
    let token = world.key.sign(&Kid::parse("w-1").unwrap(), &claims()).unwrap();
    let token = token.as_bytes();
    assert!(world.verify([Some(token), None]).is_ok());
    assert_eq!(world.verify([None, None]).err(), Some(Refusal::TokenMissing));
    assert_eq!(world.verify([Some(token), Some(token)]).err(), Some(Refusal::TokenRepeated));
    assert_eq!(world.verify([Some(&[b'a'; 8193]), None]).err(), Some(Refusal::TokenTooLong));
    assert_eq!(world.verify([Some(b"\xff"), None]).err(), Some(Refusal::TokenMalformed));
}

#[test]
fn a_key_signs_for_its_own_workload_only() {
    let mut world = World::new();
    let reports = workload("reports");
    let stolen = TokenKey { workload: Arc::clone(&reports), key: world.key.public().clone() };
    world.trust.keys.insert(Kid::parse("w-1").unwrap(), stolen);
    assert_eq!(world.verify_claims(&claims()), Err(Refusal::TokenSubject), "checkout's name, reports' key");
    let mut of_reports = claims();
    of_reports["sub"] = json!(reports.id.as_str());
    assert_eq!(world.verify_claims(&of_reports), Err(Refusal::TokenSubject), "reports' token, checkout's certificate");
}

#[test]
fn without_an_edge_no_token_counts() {
    let mut world = World::new();
    world.trust.edge = None;
    assert_eq!(world.verify_claims(&claims()), Err(Refusal::TokenIssuer));
}

#[test]
fn profiles_have_names() {
    assert_eq!(Profile::ALL.map(Profile::name), ["none", "mtls", "mtls+jwt"]);
}

proptest! {
    #[test]
    fn an_altered_token_never_passes(at in 0usize..400, to in any::<u8>()) {
        let world = World::new();
        let mut token = world.key.sign(&Kid::parse("w-1").unwrap(), &claims()).unwrap().into_bytes();
        let at = at % token.len();
        prop_assume!(token[at] != to);
        token[at] = to;
        prop_assert!(world.verify([Some(&token), None]).is_err());
    }
}
