use super::*;
use crate::identity::{Algorithm, BadKey, SigningKey};
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

fn token_key(workload: &Arc<Workload>, key: &VerifyingKey, may_assert: &[&str]) -> TokenKey {
    let may_assert = may_assert.iter().map(|name| (*name).into()).collect();
    TokenKey {
        workload: Arc::clone(workload),
        key: key.clone(),
        may_assert,
        counts: Counts::Always,
        uses: Uses::default(),
    }
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
        let (issuer, audience) = (ISSUER.into(), AUDIENCE.into());
        let edge = Edge { issuer, audience, lifetime_max: 300, demands_digest: true };
        let ours = token_key(&workload, key.public(), &["country", "scores"]);
        let trust = Trust {
            edge: Some(edge),
            workloads: HashMap::from([(workload.id.clone(), Arc::clone(&workload))]),
            keys: HashMap::from([(Kid::parse("w-1").unwrap(), ours)]),
            ..Trust::default()
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
        self.verify_as(Profile::MtlsJwt, tokens)
    }

    fn verify_as(&self, profile: Profile, tokens: [Option<&[u8]>; 2]) -> Result<Sighting, Refusal> {
        let thumbprint = Thumbprint::of(b"certificate");
        let now = Timestamp::from_unix_seconds(NOW);
        let certified = profile.needs_certificate().then_some((&self.workload, thumbprint));
        let context = Context { profile, certified, facts: &self.facts, now };
        verify(tokens, &self.trust, &context).map(|(_, sighting)| sighting).map_err(|fault| fault.refusal)
    }

    /// Signs with another key of checkout's.
    fn verify_by(&mut self, profile: Profile, key: &SigningKey, claims: &Value) -> Result<Sighting, Refusal> {
        let kid = Kid::parse("w-2").unwrap();
        self.trust.keys.insert(kid.clone(), token_key(&self.workload, key.public(), &[]));
        self.verify_as(profile, [Some(key.sign(&kid, claims).unwrap().as_bytes()), None])
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
#[test_case("cip", &json!("2001:db8::1"), Ok(()); "client address in v6")]
#[test_case("ohost", &json!("www.example.com"), Ok(()); "original host")]
#[test_case("ohost", &json!("www.example.com:8443"), Ok(()); "original host with a port")]
#[test_case("cdg", &json!(BodyDigest::of(b"").to_string()), Ok(()); "digest of nothing")]
#[test_case("country", &json!("DE"), Ok(()); "a fact that it may assert")]
#[test_case("scores", &json!([1, 2.5, "x", true]), Ok(()); "a list of facts")]
#[test_case("cip", &json!("192.0.2.01"), MALFORMED; "client address with zeros")]
#[test_case("cip", &json!("2001:DB8::1"), MALFORMED; "client address in upper case")]
#[test_case("cip", &json!("2001:db8:0:0:0:0:0:1"), MALFORMED; "client address in another form")]
#[test_case("cip", &json!("example.com"), MALFORMED; "no client address")]
#[test_case("ohost", &json!("WWW.example.com"), MALFORMED; "original host in upper case")]
#[test_case("ohost", &json!("user@example.com"), MALFORMED; "original host with a user")]
#[test_case("ohost", &json!("example.com."), MALFORMED; "original host with a dot")]
#[test_case("cdg", &json!("sha-256=:AAAA:"), MALFORMED; "no digest")]
#[test_case("ath", &json!(Thumbprint::of(b"token").to_string()), Ok(()); "a user's token")]
#[test_case("ath", &json!("AAAA"), MALFORMED; "no digest of a user's token")]
#[test_case("ath", &json!(true), MALFORMED; "a user's token as a truth")]
#[test_case("role", &json!("admin"), Err(Refusal::TokenAssertion); "a fact that nobody may assert")]
#[test_case("Country", &json!("DE"), Err(Refusal::TokenAssertion); "a fact in other case")]
#[test_case("country", &json!({ "a": 1 }), Err(Refusal::TokenAssertion); "a nested fact")]
#[test_case("country", &json!([["DE"]]), Err(Refusal::TokenAssertion); "a list of lists")]
#[test_case("country", &Value::Null, Err(Refusal::TokenAssertion); "no fact")]
#[test_case("country", &json!("x".repeat(2049)), Err(Refusal::TokenAssertion); "too long a fact")]
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
fn without(name: &str) {
    let mut claims = claims();
    claims.as_object_mut().unwrap().remove(name);
    assert_eq!(World::new().verify_claims(&claims), MALFORMED);
}

#[test]
fn without_a_confirmation_a_token_is_bound_to_no_certificate() {
    let mut claims = claims();
    claims.as_object_mut().unwrap().remove("cnf");
    assert_eq!(World::new().verify_claims(&claims), Err(Refusal::TokenCertificate));
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

struct Raw(String);

impl Serialize for Raw {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let raw: Box<serde_json::value::RawValue> = serde_json::value::RawValue::from_string(self.0.clone()).unwrap();
        raw.serialize(to)
    }
}

/// A key that may assert facts is read in another way than one that may not.
#[test_case(r#"{"sub":"spiffe://example.com/worker/checkout","#; "a claim")]
#[test_case(r#"{"country":"DE","country":"FR","#; "a fact")]
#[test_case(r#"{"scores":[{"a":1,"a":2}],"#; "inside a fact")]
fn a_key_twice_is_refused(begin: &str) {
    let twice = Raw(claims().to_string().replacen('{', begin, 1));
    for may_assert in [&["country", "scores"][..], &[]] {
        let mut world = World::new();
        let key = token_key(&world.workload, world.key.public(), may_assert);
        world.trust.keys.insert(Kid::parse("w-1").unwrap(), key);
        let token = world.key.sign(&Kid::parse("w-1").unwrap(), &twice).unwrap();
        assert_eq!(world.verify([Some(token.as_bytes()), None]).err(), Some(Refusal::TokenMalformed));
    }
}

#[test]
fn facts_are_kept() {
    let world = World::new();
    let mut claims = claims();
    claims["country"] = json!("DE");
    let token = world.key.sign(&Kid::parse("w-1").unwrap(), &claims).unwrap();
    let asserted = world.verify([Some(token.as_bytes()), None]).unwrap().asserted;
    assert_eq!(asserted, Asserted::from([("country".into(), json!("DE"))]));
}

fn key_of(pem: &str) -> SigningKey {
    use rustls::pki_types::{PrivatePkcs8KeyDer, pem::PemObject};
    SigningKey::from_pkcs8(PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes()).unwrap().secret_pkcs8_der()).unwrap()
}

fn ed25519() -> SigningKey {
    key_of(&rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap().serialize_pem())
}

fn rsa(size: rcgen::RsaKeySize) -> SigningKey {
    key_of(&rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, size).unwrap().serialize_pem())
}

/// Of 1024 bits.
const SHORT_RSA: &str = "\
-----BEGIN PUBLIC KEY-----
MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDD6GypGLUCJyqHmoJCLLUpglGJ
jlIbyWrT4ZHQ4AUW6RRlvCkAw8+ovdzcEG55qnIHAo1Fakj5lln/A/DV9orGGIb9
0JNJSZhTsCiBnB+xg+LNdvjdtCz26yziqHQPTXRBLzNqjShBK5BR+LLshHx7FwVv
xNWqA7K698XDXeI60QIDAQAB
-----END PUBLIC KEY-----
";

#[test]
fn a_short_rsa_key_is_none() {
    use rustls::pki_types::{SubjectPublicKeyInfoDer, pem::PemObject};
    let der = SubjectPublicKeyInfoDer::from_pem_slice(SHORT_RSA.as_bytes()).unwrap();
    assert_eq!(VerifyingKey::from_spki(&der).err(), Some(BadKey::RsaSize));
}

/// ES256 has its two numbers side by side (RFC 7518 § 3.4); the same signature in DER is another text for it.
#[test]
fn a_signature_in_der_is_none() {
    let world = World::new();
    let token = world.key.sign(&Kid::parse("w-1").unwrap(), &claims()).unwrap();
    let (message, signature) = token.rsplit_once('.').unwrap();
    let raw = URL_SAFE_NO_PAD.decode(signature).unwrap();
    let integer = |bytes: &[u8]| {
        let bytes: Vec<u8> = bytes.iter().copied().skip_while(|b| *b == 0).collect();
        let pad = usize::from(bytes[0] >= 0x80);
        let length = u8::try_from(bytes.len() + pad).unwrap();
        [&[2, length][..], &vec![0; pad], &bytes].concat()
    };
    let both = [integer(&raw[..32]), integer(&raw[32..])].concat();
    let der = [&[0x30, u8::try_from(both.len()).unwrap()][..], &both].concat();
    let other = format!("{message}.{}", URL_SAFE_NO_PAD.encode(der));
    assert_eq!(world.verify([Some(other.as_bytes()), None]).err(), Some(Refusal::TokenSignature));
}

const SECRET: &str = "bG9uZyBlbm91Z2ggYW5kIHJhbmRvbSBlbm91Z2ggdG8gYmUgdGFrZW4gYXMgYSBzZWNyZXQ=";

fn backed_by_nothing() -> Value {
    let mut claims = claims();
    claims.as_object_mut().unwrap().remove("cnf");
    claims["cdg"] = json!(BodyDigest::of(b"body").to_string());
    claims
}

#[test_case(&signing_key(), Algorithm::Es256)]
#[test_case(&ed25519(), Algorithm::EdDsa)]
#[test_case(&rsa(rcgen::RsaKeySize::_2048), Algorithm::Rs256)]
fn a_public_keys_kind_is_its_algorithm(key: &SigningKey, expected: Algorithm) {
    assert_eq!(key.public().algorithm(), expected);
    let mut world = World::new();
    assert!(world.verify_by(Profile::MtlsJwt, key, &claims()).is_ok());
    assert!(world.verify_by(Profile::Jwt, key, &backed_by_nothing()).is_ok());
    assert_eq!(world.verify_by(Profile::Psk, key, &backed_by_nothing()).err(), Some(Refusal::TokenKeyUnknown));
    let other = SigningKey::from_secret(SECRET).unwrap();
    let forged = other.sign(&Kid::parse("w-2").unwrap(), &backed_by_nothing()).unwrap();
    let judged = world.verify_as(Profile::Jwt, [Some(forged.as_bytes()), None]).err();
    assert_eq!(judged, Some(Refusal::TokenKeyUnknown), "an HMAC with the public key's id");
}

#[test]
fn a_shared_secret_counts_where_it_is_asked_for() {
    let mut world = World::new();
    let key = SigningKey::from_secret(SECRET).unwrap();
    assert!(world.verify_by(Profile::Psk, &key, &backed_by_nothing()).is_ok());
    assert_eq!(world.verify_by(Profile::Jwt, &key, &backed_by_nothing()).err(), Some(Refusal::TokenKeyUnknown));
    assert_eq!(world.verify_by(Profile::MtlsJwt, &key, &claims()).err(), Some(Refusal::TokenKeyUnknown));
    let strange = SigningKey::from_secret(&SECRET.replace("bG9u", "bG9v")).unwrap();
    let forged = strange.sign(&Kid::parse("w-2").unwrap(), &backed_by_nothing()).unwrap();
    world.verify_by(Profile::Psk, &key, &backed_by_nothing()).unwrap();
    assert_eq!(world.verify_as(Profile::Psk, [Some(forged.as_bytes()), None]).err(), Some(Refusal::TokenSignature));
}

#[test_case("exp", &json!(NOW + 60), Ok(()); "a minute")]
#[test_case("exp", &json!(NOW + 61), Err(Refusal::TokenLifetime); "longer than a minute")]
#[test_case("cdg", &json!(BodyDigest::of(b"").to_string()), Ok(()); "a digest")]
#[test_case("cnf", &json!({ "x5t#S256": Thumbprint::of(b"certificate").to_string() }), Err(Refusal::TokenCertificate); "bound to a certificate that is not shown")]
#[test_case("sub", &json!("spiffe://example.com/worker/reports"), Err(Refusal::TokenSubject); "another's name")]
fn a_token_that_no_certificate_backs(name: &str, value: &Value, expected: Result<(), Refusal>) {
    let mut claims = backed_by_nothing();
    claims[name] = value.clone();
    assert_eq!(World::new().verify_by(Profile::Jwt, &signing_key(), &claims).map(drop), expected);
}

#[test]
fn without_a_certificate_the_body_is_signed() {
    let mut claims = backed_by_nothing();
    claims.as_object_mut().unwrap().remove("cdg");
    let mut world = World::new();
    assert_eq!(world.verify_by(Profile::Jwt, &signing_key(), &claims).err(), Some(Refusal::TokenBodyMissing));
    world.trust.edge.as_mut().unwrap().demands_digest = false;
    assert!(world.verify_by(Profile::Jwt, &signing_key(), &claims).is_ok());
}

#[test_case(Counts::Always, Ok(()); "always")]
#[test_case(Counts::Until(NOW + 1), Ok(()); "its last second")]
#[test_case(Counts::Until(NOW), Err(Refusal::TokenKeyExpired); "too old")]
#[test_case(Counts::Revoked, Err(Refusal::TokenKeyRevoked); "revoked")]
fn a_key_counts_as_long_as_it_does(counts: Counts, expected: Result<(), Refusal>) {
    let mut world = World::new();
    world.trust.keys.get_mut("w-1").unwrap().counts = counts;
    assert_eq!(world.verify_claims(&claims()), expected);
}

#[test_case("", BadKey::Secret; "nothing")]
#[test_case("c2hvcnQ=", BadKey::Secret; "short")]
#[test_case("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", BadKey::Secret; "zeros")]
#[test_case("not base64 at all, but long enough to be a secret of somebody!", BadKey::Secret; "no base64")]
fn is_no_secret(text: &str, expected: BadKey) {
    assert_eq!(SigningKey::from_secret(text).err(), Some(expected));
    assert_eq!(VerifyingKey::from_secret(text).err(), Some(expected));
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
    let stolen = token_key(&reports, world.key.public(), &[]);
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
