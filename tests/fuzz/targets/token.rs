//! Tokens: nothing but a token that the key has signed for this request passes, and nothing panics.
#![no_main]

use belay::clock::Timestamp;
use belay::identity::{
    Counts, Edge, Evidence, Kid, Profile, SigningKey, TokenKey, Trust, authenticate,
};
use belay::name::WorkloadName;
use belay::principal::{SpiffeId, Workload};
use belay::request::{Facts, Head, Protocol};
use http::{HeaderMap, Method};
use libfuzzer_sys::fuzz_target;
use serde_json::value::RawValue;
use std::{
    collections::HashMap,
    sync::{Arc, LazyLock},
};

const NOW: i64 = 1_795_000_000;
const ID: &str = "spiffe://example.com/worker/checkout";
const SECRET: &str = "bG9uZyBlbm91Z2ggYW5kIHJhbmRvbSBlbm91Z2ggdG8gYmUgdGFrZW4gYXMgYSBzZWNyZXQ=";

struct World {
    trust: Trust,
    key: SigningKey,
    kid: Kid,
    facts: Facts,
}

static WORLD: LazyLock<World> = LazyLock::new(|| {
    let key = SigningKey::from_secret(SECRET).unwrap();
    let (id, kid) = (SpiffeId::parse(ID).unwrap(), Kid::parse("w-1").unwrap());
    let name = WorkloadName::parse("checkout").unwrap();
    let workload = Arc::new(Workload { name, id: id.clone(), roles: Box::default() });
    let token_key = TokenKey {
        workload: Arc::clone(&workload),
        key: key.public().clone(),
        may_assert: Arc::new(["country".into()]),
        counts: Counts::Always,
    };
    let trust = Trust {
        edge: Some(Edge {
            issuer: "https://edge".into(),
            audience: "https://lb".into(),
            lifetime_max: 300,
            demands_digest: false,
        }),
        workloads: HashMap::from([(id, workload)]),
        keys: HashMap::from([(kid.clone(), token_key)]),
        ..Trust::default()
    };
    let head = Head {
        method: &Method::GET,
        target: b"/",
        authority: None,
        hosts: [Some(b"h"), None],
        protocol: Protocol::Http1,
    };
    World { trust, key, kid, facts: Facts::read(&head).unwrap() }
});

fn passes(token: &[u8]) -> bool {
    let headers = HeaderMap::new();
    let evidence = Evidence { facts: &WORLD.facts, peer: None, tokens: [Some(token), None], headers: &headers };
    authenticate(Profile::Psk, &evidence, None, &WORLD.trust, Timestamp::from_unix_seconds(NOW)).is_ok()
}

fuzz_target!(|data: &[u8]| {
    // Nobody guesses a signature.
    assert!(!passes(data), "a token that nobody has signed");
    let Ok(payload) = std::str::from_utf8(data) else { return };
    let Ok(payload) = RawValue::from_string(payload.to_owned()) else { return };
    let Ok(token) = WORLD.key.sign(&WORLD.kid, &payload) else { return };
    if passes(token.as_bytes()) {
        let claims: serde_json::Value = serde_json::from_str(payload.get()).unwrap();
        let said = |name: &str| claims[name].as_str();
        assert_eq!((said("sub"), said("htm"), said("hta"), said("htt")), (Some(ID), Some("GET"), Some("h"), Some("/")));
        assert!(claims.get("cnf").is_none() && claims["exp"].as_i64() > Some(NOW - 30));
    }
});
