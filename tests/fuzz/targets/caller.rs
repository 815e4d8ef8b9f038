//! The Worker checkout, who signs with a secret, and the request that it signs for.

use belay::identity::{Counts, Edge, Kid, SigningKey, TokenKey, Trust};
use belay::name::WorkloadName;
use belay::principal::{SpiffeId, Workload};
use belay::request::{Facts, Head, Protocol};
use belay::uses::Uses;
use http::Method;
use std::{collections::HashMap, sync::Arc};

pub const NOW: i64 = 1_795_000_000;
pub const ID: &str = "spiffe://example.com/worker/checkout";
const SECRET: &str = "bG9uZyBlbm91Z2ggYW5kIHJhbmRvbSBlbm91Z2ggdG8gYmUgdGFrZW4gYXMgYSBzZWNyZXQ=";

/// Who is trusted, and what is needed to be him.
pub struct Caller {
    pub trust: Trust,
    pub key: SigningKey,
    pub kid: Kid,
    pub facts: Facts,
}

impl Caller {
    /// checkout, whose tokens may state those facts.
    pub fn checkout(may_assert: &[&str]) -> Self {
        let key = SigningKey::from_secret(SECRET).unwrap();
        let (id, kid) = (SpiffeId::parse(ID).unwrap(), Kid::parse("w-1").unwrap());
        let name = WorkloadName::parse("checkout").unwrap();
        let workload = Arc::new(Workload { name, id: id.clone(), roles: Box::default() });
        let token_key = TokenKey {
            workload: Arc::clone(&workload),
            key: key.public().clone(),
            may_assert: may_assert.iter().map(|fact| (*fact).into()).collect(),
            counts: Counts::Always,
            uses: Uses::default(),
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
        Self { trust, key, kid, facts: Facts::read(&head).unwrap() }
    }
}
