#![expect(clippy::unwrap_used, reason = "a bench that cannot set up has nothing to measure")]
//! What each stage of a request's way costs on its own. `cargo bench --bench stages`.

#[path = "audit/record.rs"]
mod record;

use belay::audit::{Record, Sealer, Verifier};
use belay::balance::{Algorithm, Ask, Balancer, Candidate, Seed, Standing};
use belay::clock::{Clock, System, Timestamp};
use belay::generation::Generation;
use belay::identity::{
    Addressed, Authorities, By, ClaimPath, Claims, Confirmation, Counts, Edge, Evidence, KeySet, Keys, Kid, Membership,
    Peer, People, Profile, Replay, ReplayStore, Rules, SigningKey, TokenKey, Trust, authenticate,
};
use belay::limit::{Allowance, Frequency, Limiter};
use belay::name::{NodeName, PeopleName, PoolName, RoleName, RouteName, WorkloadName};
use belay::policy::{Access, AllowList, Case, Door, Term, decide};
use belay::principal::{SpiffeId, Workload};
use belay::request::{Facts, Head, Id, Protocol};
use belay::route::{HostPattern, PathPattern, Pattern, Table};
use belay::uses::Uses;
use belay::verdict::RuleId;
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use http::{HeaderMap, Method, header::AUTHORIZATION};
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType};
use serde_json::json;
use std::{collections::HashMap, hint::black_box, num::NonZeroU32, sync::Arc, time::Duration};

const ID: &str = "spiffe://example.com/worker/checkout";
const HEAD: Head<'static> = Head {
    method: &Method::GET,
    target: b"/orders/7?page=2&sort=%2Ftime",
    authority: None,
    hosts: [Some(b"h500.example.com"), None],
    protocol: Protocol::Http1,
};

struct Caller {
    trust: Trust,
    authorities: Authorities,
    peer: Peer,
    key: SigningKey,
    point: Vec<u8>,
    workload: Arc<Workload>,
    now: Timestamp,
}

impl Caller {
    fn new() -> Self {
        let mut ca = CertificateParams::default();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca_key = KeyPair::generate().unwrap();
        let ca_der = ca.self_signed(&ca_key).unwrap().der().clone();
        let mut leaf = CertificateParams::default();
        leaf.subject_alt_names = vec![SanType::URI(ID.try_into().unwrap())];
        leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let leaf = leaf.signed_by(&KeyPair::generate().unwrap(), &Issuer::new(ca, ca_key)).unwrap();
        let pair = KeyPair::generate().unwrap();
        let key = SigningKey::from_pkcs8(&pair.serialize_der()).unwrap();
        let name = WorkloadName::parse("checkout").unwrap();
        let workload = Arc::new(Workload { name, id: SpiffeId::parse(ID).unwrap(), roles: Box::default() });
        let token_key = TokenKey {
            workload: Arc::clone(&workload),
            key: key.public().clone(),
            may_assert: Arc::default(),
            counts: Counts::Always,
            uses: Uses::default(),
        };
        let edge = Edge {
            issuer: "https://edge".into(),
            audience: "https://lb".into(),
            lifetime_max: 300,
            demands_digest: true,
        };
        Self {
            trust: Trust {
                edge: Some(edge),
                workloads: HashMap::from([(workload.id.clone(), Arc::clone(&workload))]),
                keys: HashMap::from([(Kid::parse("w-1").unwrap(), token_key)]),
                ..Trust::default()
            },
            authorities: Authorities::new(&[ca_der], &[], Rules::default()).unwrap(),
            peer: Peer::new(&[leaf.der().clone()]).unwrap(),
            key,
            point: pair.public_key_raw().to_vec(),
            workload,
            now: System.now(),
        }
    }

    fn token(&self) -> String {
        let iat = self.now.unix_seconds();
        let claims = Claims {
            iss: "https://edge".into(),
            aud: vec!["https://lb".into()],
            sub: ID.into(),
            iat,
            exp: iat + 60,
            jti: Id::random().as_str().to_owned().into(),
            htm: "GET".into(),
            hta: "h500.example.com".into(),
            htt: "/orders/7?page=2&sort=%2Ftime".into(),
            cnf: Some(Confirmation { x5t_s256: self.peer.thumbprint().to_string().into() }),
            rid: Some(Id::random().as_str().to_owned().into()),
            cip: None,
            ohost: None,
            cdg: None,
            ath: None,
        };
        self.key.sign(&Kid::parse("w-1").unwrap(), &claims).unwrap()
    }

    fn door(&self) -> Door {
        let rule = (self.workload.name.clone(), RuleId::new("routes.orders.allow.checkout"));
        Door {
            is_hidden: false,
            demands_digest: false,
            route: RouteName::parse("orders").unwrap(),
            demands: None,
            term: Term::default(),
            access: Arc::new(Access::Listed(AllowList { workloads: HashMap::from([rule]), roles: HashMap::new() })),
            rules: None,
            pool: PoolName::parse("orders").unwrap(),
        }
    }
}

fn thousand_routes() -> Table<usize> {
    Table::new((0..1000).map(|number| {
        let host = HostPattern::parse(&format!("h{number}.example.com")).unwrap();
        (Pattern { host, path: PathPattern::parse("/orders/**").unwrap(), methods: None }, number)
    }))
}

fn head_and_route(c: &mut Criterion) {
    c.bench_function("read a head", |b| b.iter(|| Facts::read(black_box(&HEAD))));
    let (table, facts) = (thousand_routes(), Facts::read(&HEAD).unwrap());
    c.bench_function("find one of 1,000 routes", |b| b.iter(|| table.find(black_box(&facts))));
}

fn identity_and_policy(c: &mut Criterion) {
    let caller = Caller::new();
    let facts = Facts::read(&HEAD).unwrap();
    let token = caller.token();
    let tokens = [Some(token.as_bytes()), None];
    let headers = HeaderMap::new();
    let evidence = Evidence { facts: &facts, peer: Some(&caller.peer), tokens, headers: &headers };
    let check =
        |profile| authenticate(profile, &evidence, Some(&caller.authorities), &caller.trust, caller.now).unwrap();
    c.bench_function("authenticate by certificate", |b| b.iter(|| check(Profile::Mtls)));
    c.bench_function("authenticate by certificate and token", |b| b.iter(|| check(Profile::MtlsJwt)));
    let signed = token.rsplit_once('.').unwrap();
    let algorithm = &aws_lc_rs::signature::ECDSA_P256_SHA256_FIXED;
    let key = aws_lc_rs::signature::UnparsedPublicKey::new(algorithm, &caller.point);
    let signature = base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, signed.1).unwrap();
    c.bench_function("  of which the ES256 signature itself", |b| {
        b.iter(|| key.verify(black_box(signed.0.as_bytes()), &signature).unwrap());
    });

    let (door, id) = (caller.door(), Id::random());
    let case = Case {
        id: &id,
        facts: &facts,
        client: None,
        tls: Some("1.3"),
        listener: Profile::MtlsJwt,
        generation: Generation::new(1),
        now: caller.now,
    };
    let store = ReplayStore::new(ReplayStore::CAPACITY, Timestamp::from_unix_seconds(0));
    let fresh = || {
        let token = caller.token();
        let evidence = Evidence { tokens: [Some(token.as_bytes()), None], ..evidence };
        authenticate(Profile::MtlsJwt, &evidence, Some(&caller.authorities), &caller.trust, caller.now).unwrap()
    };
    c.bench_function("decide, with the replay store", |b| {
        b.iter_batched(
            fresh,
            |verified| {
                let cleared = decide(&verified, &door, &case, Replay::Tolerant).unwrap();
                cleared.enter(&store, caller.now).unwrap().unwrap()
            },
            BatchSize::SmallInput,
        );
    });
}

/// A user's token beside the workload's, and a limit.
fn users_and_limits(c: &mut Criterion) {
    let mut caller = Caller::new();
    let login = KeyPair::generate().unwrap();
    let (x, y) = login.public_key_raw().split_at(1).1.split_at(32);
    let [x, y] = [x, y].map(|part| base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, part));
    let keys = json!({ "keys": [{ "kty": "EC", "crv": "P-256", "kid": "l-1", "x": x, "y": y }] }).to_string();
    let support = Membership {
        role: RoleName::parse("support").unwrap(),
        by: By::Claim(ClaimPath::parse("groups").unwrap(), ["support".into()].into()),
        through: [caller.workload.name.clone()].into(),
    };
    caller.trust.people = vec![People {
        name: PeopleName::parse("staff").unwrap(),
        issuer: "https://login".into(),
        addressed: Addressed::To { claim: ClaimPath::parse("aud").unwrap(), audiences: ["api://shop".into()].into() },
        header: AUTHORIZATION,
        subject: [ClaimPath::parse("sub").unwrap()].into(),
        memberships: [support].into(),
        is_forwarded: false,
        keys: Arc::new(Keys::new(KeySet::read(keys.as_bytes()).unwrap())),
    }];
    let now = caller.now.unix_seconds();
    let claims = json!({
        "iss": "https://login", "aud": "api://shop", "sub": "ada", "iat": now, "exp": now + 600,
        "name": "Ada Lovelace", "email": "ada@example.com", "groups": ["it", "sre", "support"],
    });
    let key = SigningKey::from_pkcs8(&login.serialize_der()).unwrap();
    let token = key.sign_as("JWT", &Kid::parse("l-1").unwrap(), &claims).unwrap();
    let headers = HeaderMap::from_iter([(AUTHORIZATION, format!("Bearer {token}").parse().unwrap())]);
    let facts = Facts::read(&HEAD).unwrap();
    let evidence = Evidence { facts: &facts, peer: Some(&caller.peer), tokens: [None, None], headers: &headers };
    let verified =
        authenticate(Profile::Mtls, &evidence, Some(&caller.authorities), &caller.trust, caller.now).unwrap();
    c.bench_function("add a user by his token", |b| {
        b.iter(|| verified.with_user(&evidence, &caller.trust, caller.now).unwrap());
    });
    let limiter = Arc::new(Limiter::default());
    let often = NonZeroU32::new(1_000_000).unwrap();
    let rate = Some(Frequency { times: often, period: Duration::from_secs(1), burst: often });
    let allowance = Allowance { rate, concurrency: Some(10), bandwidth: None };
    c.bench_function("count with a limit's rate and concurrency", |b| {
        b.iter(|| limiter.admit(limiter.counted([&b"checkout"[..]]), black_box(&allowance)).is_ok());
    });
}

fn pick(c: &mut Criterion) {
    let (balancer, now) = (Balancer::default(), Duration::from_secs(1));
    let standings: Vec<_> = (0..10).map(|number| Standing::new(Seed::of(&number.to_string()))).collect();
    standings.iter().for_each(|standing| standing.latency.observe(now, now));
    let candidates =
        standings.iter().enumerate().map(|(index, standing)| Candidate { index, weight: 100_000, standing });
    for (name, algorithm) in [
        ("round robin", Algorithm::RoundRobin),
        ("least connections", Algorithm::LeastConnections),
        ("power of two", Algorithm::PowerOfTwo),
        ("least latency", Algorithm::LeastLatency),
        ("hash", Algorithm::Hash { load_max: 150 }),
    ] {
        let mut dice = 0_u64;
        c.bench_function(&format!("pick one of 10 servers, {name}"), |b| {
            b.iter(|| {
                dice = dice.wrapping_add(0x9e37_79b9_7f4a_7c15);
                balancer.pick(black_box(algorithm), candidates.clone(), &Ask { key: Some(dice), now, dice })
            });
        });
    }
}

fn record(c: &mut Criterion) {
    let record = Record::Decision(record::decision(System.now()));
    let mut sealer = Sealer::new(NodeName::parse("bench").unwrap(), Id::random());
    let mut lines = Vec::new();
    c.bench_function("write a record (on the audit thread)", |b| {
        b.iter(|| {
            lines.clear();
            sealer.seal(&record, &mut lines).unwrap();
        });
    });
    let mut first = Vec::new();
    Sealer::new(NodeName::parse("bench").unwrap(), Id::random()).seal(&record, &mut first).unwrap();
    verify(c, first.trim_ascii_end());
}

/// What `belay audit verify` does with each record.
fn verify(c: &mut Criterion, line: &[u8]) {
    c.bench_function("prove a record (by belay audit verify)", |b| {
        b.iter(|| Verifier::default().take(black_box(line)).unwrap());
    });
}

criterion_group!(stages, head_and_route, identity_and_policy, users_and_limits, pick, record);
criterion_main!(stages);
