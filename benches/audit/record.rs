//! A record like those of usual requests.

use belay::audit::{Decision, Judged, Source, Subject};
use belay::clock::Timestamp;
use belay::generation::{Digest, Generation};
use belay::identity::Profile;
use belay::name::{ListenerName, RouteName, WorkloadName};
use belay::request::{Id, Protocol};
use belay::verdict::{HasRead, RuleId};
use http::Method;
use std::time::Duration;

/// The decision of a request that is let in.
pub(crate) fn decision(time: Timestamp) -> Box<Decision> {
    Box::new(Decision {
        time,
        request_id: Id::random(),
        source: Source {
            client: None,
            listener: ListenerName::parse("edge").unwrap(),
            address: Some((std::net::Ipv4Addr::LOCALHOST.into(), 1234)),
            tls_version: Some("1.3"),
            certificate: None,
        },
        subject: Some(Subject {
            method: Method::GET,
            host: "h500.example.com".into(),
            path: "/orders/7".into(),
            protocol: Protocol::Http1,
        }),
        cf_ray: Some("8e5fa1b2c3d4e5f6-FRA".into()),
        traceparent: None,
        route: Some(RouteName::parse("orders").unwrap()),
        profile: Some(Profile::MtlsJwt),
        workload: Some(WorkloadName::parse("checkout").unwrap()),
        kid: None,
        token: None,
        user: None,
        verdict: Ok(RuleId::new("routes.orders.allow.checkout")),
        denied_by: None,
        near: Vec::new(),
        read: HasRead::default(),
        shadow: None,
        judged: Judged { generation: Generation::new(1), digest: Digest::of(&[]), policy: Digest::of(&[]) },
        took: Duration::from_micros(60),
    })
}
