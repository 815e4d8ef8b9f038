//! The demo's users: keys of an identity provider, and tokens as it would issue them.

use super::Error;
use super::folder::Folder;
use crate::clock::{self, Clock};
use crate::config::document::{People, Role, Texts};
use crate::identity::{BadKey, SigningKey};
use crate::name::Kid;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use rcgen::KeyPair;
use serde_json::json;
use std::collections::BTreeMap;

const ISSUER: &str = "https://login.example.com";
const AUDIENCE: &str = "api://shop";
/// Who they are, and in which group.
const USERS: [(&str, &[&str]); 2] = [("ada", &["support"]), ("bob", &[])];

/// The users, as the config knows them.
pub(super) fn staff() -> People {
    People {
        issuer: ISSUER.into(),
        audience: Some(Texts::One(AUDIENCE.into())),
        signer: None,
        audience_claim: "aud".into(),
        header: None,
        jwks: Some("file:people/jwks.json".into()),
        ca: Vec::new(),
        allow_networks: Vec::new(),
        subject: vec!["sub".into()],
        claims: BTreeMap::new(),
        mapping: None,
        forward: false,
    }
}

/// The role of who is in the group.
pub(super) fn support() -> Role {
    Role {
        workloads: Vec::new(),
        people: Some("staff".into()),
        claim: Some(Texts::One("groups".into())),
        mapped: false,
        has: Some(Texts::One("support".into())),
        through: vec!["checkout".into()],
        priority: None,
    }
}

/// Writes the provider's keys, and a token for each user that is good for a day.
pub(super) fn write(folder: &Folder) -> Result<(), Error> {
    let key = KeyPair::generate()?;
    let Some((&4, point)) = key.public_key_raw().split_first() else { return Err(Error::Token(BadKey::Kind)) };
    let [x, y] = [point.get(..32), point.get(32..)].map(|part| URL_SAFE_NO_PAD.encode(part.unwrap_or_default()));
    let published = json!({ "kty": "EC", "crv": "P-256", "use": "sig", "kid": "login-1", "x": x, "y": y });
    folder.write("people/jwks.json", &json!({ "keys": [published] }).to_string())?;
    let signing = SigningKey::from_pkcs8(&key.serialize_der()).map_err(Error::Token)?;
    let kid = Kid::parse("login-1").ok_or(Error::Token(BadKey::Unsigned))?;
    let now = clock::System.now().unix_seconds();
    for (name, groups) in USERS {
        let claims = json!({
            "iss": ISSUER, "aud": AUDIENCE, "sub": name, "groups": groups,
            "iat": now, "exp": now.saturating_add(24 * 60 * 60),
        });
        let token = signing.sign_as("JWT", &kid, &claims).map_err(Error::Token)?;
        folder.write(&format!("people/{name}.jwt"), &token)?;
    }
    Ok(())
}
