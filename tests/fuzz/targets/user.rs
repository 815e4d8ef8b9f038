//! Users' tokens and the keys that providers publish: nothing but a token that the provider's key has signed passes, and
//! nothing panics.
#![no_main]

use belay::clock::Timestamp;
use belay::identity::{
    Addressed, By, ClaimPath, Counts, Edge, Evidence, KeySet, Keys, Kid, Membership, People, Profile, SigningKey,
    Thumbprint,
    TokenKey, Trust, authenticate,
};
use belay::name::{PeopleName, RoleName, WorkloadName};
use belay::principal::{SpiffeId, User, Workload};
use belay::request::{Facts, Head, Protocol};
use http::{HeaderMap, HeaderValue, Method, header::AUTHORIZATION};
use libfuzzer_sys::fuzz_target;
use serde_json::{json, value::RawValue};
use std::{
    collections::HashMap,
    sync::{Arc, LazyLock},
};

const NOW: i64 = 1_795_000_000;
const ID: &str = "spiffe://example.com/worker/checkout";
const SECRET: &str = "bG9uZyBlbm91Z2ggYW5kIHJhbmRvbSBlbm91Z2ggdG8gYmUgdGFrZW4gYXMgYSBzZWNyZXQ=";

struct World {
    trust: Trust,
    worker: SigningKey,
    login: SigningKey,
    facts: Facts,
}

static WORLD: LazyLock<World> = LazyLock::new(|| {
    let worker = SigningKey::from_secret(SECRET).unwrap();
    let (id, name) = (SpiffeId::parse(ID).unwrap(), WorkloadName::parse("checkout").unwrap());
    let workload = Arc::new(Workload { name: name.clone(), id: id.clone(), roles: Box::default() });
    let token_key = TokenKey {
        workload: Arc::clone(&workload),
        key: worker.public().clone(),
        may_assert: Arc::default(),
        counts: Counts::Always,
    };
    let claim = |text| ClaimPath::parse(text).unwrap();
    let staff = People {
        name: PeopleName::parse("staff").unwrap(),
        issuer: "https://login".into(),
        addressed: Addressed::To { claim: claim("aud"), audiences: ["shop".into()].into() },
        header: AUTHORIZATION,
        subject: [claim("sub"), claim("common_name")].into(),
        memberships: [Membership {
            role: RoleName::parse("support").unwrap(),
            by: By::Claim(claim("realm_access.roles"), ["support".into()].into()),
            through: [name].into(),
        }]
        .into(),
        is_forwarded: false,
        keys: Arc::new(Keys::new(KeySet::read(include_bytes!("login.json")).unwrap())),
    };
    let edge = Edge {
        issuer: "https://edge".into(),
        audience: "https://lb".into(),
        lifetime_max: 300,
        demands_digest: false,
    };
    let trust = Trust {
        edge: Some(edge),
        workloads: HashMap::from([(id, workload)]),
        keys: HashMap::from([(Kid::parse("w-1").unwrap(), token_key)]),
        people: vec![staff],
        ..Trust::default()
    };
    let head = Head {
        method: &Method::GET,
        target: b"/",
        authority: None,
        hosts: [Some(b"h"), None],
        protocol: Protocol::Http1,
    };
    let login = SigningKey::from_pkcs8(include_bytes!("login.pk8")).unwrap();
    World { trust, worker, login, facts: Facts::read(&head).unwrap() }
});

/// The user of a token that a good workload brings and names.
fn user(token: &[u8]) -> Option<Arc<User>> {
    let value = HeaderValue::from_bytes(&[b"Bearer ", token].concat()).ok()?;
    let claims = json!({
        "iss": "https://edge", "aud": "https://lb", "sub": ID, "iat": NOW, "exp": NOW + 60, "jti": "0123456789abcdef",
        "htm": "GET", "hta": "h", "htt": "/", "ath": Thumbprint::of(token).to_string(),
    });
    let worker = WORLD.worker.sign(&Kid::parse("w-1").unwrap(), &claims).unwrap();
    let headers = HeaderMap::from_iter([(AUTHORIZATION, value)]);
    let tokens = [Some(worker.as_bytes()), None];
    let evidence = Evidence { facts: &WORLD.facts, peer: None, tokens, headers: &headers };
    let now = Timestamp::from_unix_seconds(NOW);
    let verified = authenticate(Profile::Psk, &evidence, None, &WORLD.trust, now).unwrap();
    verified.with_user(&evidence, &WORLD.trust, now).ok()?.principal().user().map(Arc::clone)
}

fuzz_target!(|data: &[u8]| {
    // Whatever a provider publishes.
    drop(KeySet::read(data));
    assert!(user(data).is_none(), "a token that nobody has signed");
    let Ok(payload) = std::str::from_utf8(data) else { return };
    let Ok(payload) = RawValue::from_string(payload.to_owned()) else { return };
    let Ok(token) = WORLD.login.sign_as("JWT", &Kid::parse("l-1").unwrap(), &payload) else { return };
    if let Some(user) = user(token.as_bytes()) {
        let claims: serde_json::Value = serde_json::from_str(payload.get()).unwrap();
        assert_eq!(claims["iss"], "https://login");
        assert!(claims["exp"].as_i64() > Some(NOW - 31) && claims.get("cnf").is_none());
        assert!(!user.subject.is_empty() && user.to_string().is_ascii());
    }
});
