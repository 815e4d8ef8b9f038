//! Users' tokens and the keys that providers publish: nothing but a token that the provider's key has signed passes, and
//! nothing panics.
#![no_main]

mod caller;

use belay::clock::Timestamp;
use belay::identity::{
    Addressed, By, ClaimPath, Evidence, KeySet, Keys, Kid, Membership, People, Profile, SigningKey, Thumbprint,
    authenticate,
};
use belay::name::{PeopleName, RoleName, WorkloadName};
use belay::principal::User;
use caller::{Caller, ID, NOW};
use http::{HeaderMap, HeaderValue, header::AUTHORIZATION};
use libfuzzer_sys::fuzz_target;
use serde_json::{json, value::RawValue};
use std::sync::{Arc, LazyLock};

struct World {
    worker: Caller,
    login: SigningKey,
}

static WORLD: LazyLock<World> = LazyLock::new(|| {
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
            through: [WorkloadName::parse("checkout").unwrap()].into(),
        }]
        .into(),
        is_forwarded: false,
        keys: Arc::new(Keys::new(KeySet::read(include_bytes!("login.json")).unwrap())),
    };
    let mut worker = Caller::checkout(&[]);
    worker.trust.people = vec![staff];
    World { worker, login: SigningKey::from_pkcs8(include_bytes!("login.pk8")).unwrap() }
});

/// The user of a token that a good workload brings and names.
fn user(token: &[u8]) -> Option<Arc<User>> {
    let value = HeaderValue::from_bytes(&[b"Bearer ", token].concat()).ok()?;
    let claims = json!({
        "iss": "https://edge", "aud": "https://lb", "sub": ID, "iat": NOW, "exp": NOW + 60, "jti": "0123456789abcdef",
        "htm": "GET", "hta": "h", "htt": "/", "ath": Thumbprint::of(token).to_string(),
    });
    let Caller { trust, key, kid, facts } = &WORLD.worker;
    let worker = key.sign(kid, &claims).unwrap();
    let headers = HeaderMap::from_iter([(AUTHORIZATION, value)]);
    let tokens = [Some(worker.as_bytes()), None];
    let evidence = Evidence { facts, peer: None, tokens, headers: &headers };
    let now = Timestamp::from_unix_seconds(NOW);
    let verified = authenticate(Profile::Psk, &evidence, None, trust, now).unwrap();
    verified.with_user(&evidence, trust, now).ok()?.principal().user().map(Arc::clone)
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
