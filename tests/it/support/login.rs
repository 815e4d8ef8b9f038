//! An identity provider as far as tests need one: a key, its JWK set, and tokens of any content.

use super::client::Ask;
use super::site::NOW;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use base64::{
    Engine,
    engine::general_purpose::{URL_SAFE, URL_SAFE_NO_PAD},
};
use belay::identity::{SigningKey, Thumbprint};
use belay::name::Kid;
use rcgen::KeyPair;
use serde_json::{Value, json};

pub const ISSUER: &str = "https://login.example.com";

pub struct Login {
    pair: KeyPair,
    kid: &'static str,
}

impl Login {
    pub fn new(kid: &'static str) -> Self {
        Self { pair: KeyPair::generate().unwrap(), kid }
    }

    /// What stands at its `jwks_uri`.
    pub fn jwks(&self) -> String {
        let point = self.pair.public_key_raw();
        let [x, y] = [&point[1..33], &point[33..]].map(|part| URL_SAFE_NO_PAD.encode(part));
        json!({ "keys": [{ "kty": "EC", "crv": "P-256", "kid": self.kid, "use": "sig", "x": x, "y": y }] }).to_string()
    }

    /// A token of a user who is in those groups.
    pub fn token(&self, subject: &str, groups: &[&str]) -> String {
        self.sign(&claims(subject, groups))
    }

    /// Its public key, as AWS shows those of load balancers.
    pub fn public_pem(&self) -> String {
        self.pair.public_key_pem()
    }

    /// A token as an Application Load Balancer makes it: filled up, and without an audience.
    pub fn sign_as_alb(&self, signer: &str, claims: &Value) -> String {
        let header = json!({ "typ": "JWT", "alg": "ES256", "kid": self.kid, "signer": signer, "iss": ISSUER });
        let message = [header, claims.clone()].map(|part| URL_SAFE.encode(part.to_string())).join(".");
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &self.pair.serialize_der()).unwrap();
        let signature = key.sign(&SystemRandom::new(), message.as_bytes()).unwrap();
        format!("{message}.{}", URL_SAFE.encode(signature))
    }

    pub fn sign(&self, claims: &Value) -> String {
        let key = SigningKey::from_pkcs8(&self.pair.serialize_der()).unwrap();
        key.sign_as("JWT", &Kid::parse(self.kid).unwrap(), claims).unwrap()
    }
}

/// What a token says of a user.
pub fn claims(subject: &str, groups: &[&str]) -> Value {
    json!({ "iss": ISSUER, "aud": "api://shop", "sub": subject, "iat": NOW, "exp": NOW + 600, "groups": groups })
}

impl Ask {
    /// The same for a user, whose token the workload's names.
    pub fn for_user(self, token: &str) -> Self {
        self.header("Authorization", format!("Bearer {token}")).naming(token)
    }

    /// The workload's token names that one.
    pub fn naming(self, token: &str) -> Self {
        self.claim("ath", Thumbprint::of(token.as_bytes()).to_string())
    }
}
