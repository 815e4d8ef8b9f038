//! Tokens: nothing but a token that the key has signed for this request passes, and nothing panics.
#![no_main]

mod caller;

use belay::clock::Timestamp;
use belay::identity::{Evidence, Profile, authenticate};
use caller::{Caller, ID, NOW};
use http::HeaderMap;
use libfuzzer_sys::fuzz_target;
use serde_json::value::RawValue;
use std::sync::LazyLock;

static WORLD: LazyLock<Caller> = LazyLock::new(|| Caller::checkout(&["country"]));

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
