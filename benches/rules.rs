#![expect(clippy::unwrap_used, reason = "a bench that cannot set up has nothing to measure")]
//! What rules in Cedar cost a request: 50 of them for 20 routes and 10 roles. `cargo bench --bench rules`.
//!
//! The mix: 200 users of 5 workloads ask all routes for different paths, from different countries and networks, with
//! scores that the edge signs. In the second mix a tenth of the rules compute with what the edge signs, which is judged anew each time.

use belay::clock::Timestamp;
use belay::identity::{Asserted, ClaimPath};
use belay::name::{GroupName, PeopleName, RoleName, RouteName, WorkloadName};
use belay::policy::rules::{AtRoute, Declared, Question, RouteWords, RuleSet, Source, Type, Words};
use belay::principal::{Principal, SpiffeId, User, Workload};
use belay::request::{Facts, Path, Protocol};
use criterion::{Criterion, criterion_group, criterion_main};
use http::Method;
use serde_json::{Map, json};
use std::{fmt::Write, hint::black_box, net::IpAddr, sync::Arc};

const ROUTES: usize = 20;
const ROLES: usize = 10;
const USERS: usize = 200;
const QUESTIONS: usize = 20_000;

fn words() -> Words {
    let declared = |name: &str, is| Declared {
        name: name.into(),
        path: ClaimPath::parse(name).unwrap(),
        is,
        of: vec![PeopleName::parse("staff").unwrap()],
    };
    let route = |number: usize| RouteWords {
        name: RouteName::parse(&format!("r{number}")).unwrap(),
        groups: vec![GroupName::parse(&format!("g{}", number % 4)).unwrap()],
        methods: None,
        has_facts: true,
        has_users: true,
    };
    Words {
        workloads: (0..5).map(|number| WorkloadName::parse(&format!("w{number}")).unwrap()).collect(),
        roles: (0..ROLES).map(|number| RoleName::parse(&format!("role{number}")).unwrap()).collect(),
        routes: (0..ROUTES).map(route).collect(),
        claims: vec![declared("department", Type::Text), declared("level", Type::Number)],
        facts: vec![declared("country", Type::Text), declared("score", Type::Number)],
    }
}

/// 50 rules: who may by role, what nobody may by what the edge says, and where from.
fn text(computes: bool) -> String {
    let mut text = String::new();
    for number in 0..20 {
        let (role, group) = (number % ROLES, number % 4);
        writeln!(text, "@id(\"read-{number}\") permit(principal in Role::\"role{role}\", action in Action::\"read\", resource in RouteGroup::\"g{group}\");").unwrap();
    }
    for number in 0..10 {
        writeln!(text, "@id(\"write-{number}\") permit(principal in Role::\"role{number}\", action in Action::\"write\", resource == Route::\"r{number}\") when {{ principal.claims has level && principal.claims.level > 2 && context.path like \"/r{number}/*\" }};").unwrap();
    }
    for number in 0..10 {
        writeln!(text, "@id(\"country-{number}\") forbid(principal, action, resource in RouteGroup::\"g{}\") when {{ context.facts has country && [\"KP\", \"SY\", \"X{number}\"].contains(context.facts.country) }};", number % 4).unwrap();
    }
    for number in 0..5 {
        writeln!(text, "@id(\"bots-{number}\") forbid(principal, action in Action::\"write\", resource == Route::\"r{number}\") when {{ context.facts has score && context.facts.score > 8{number} }};").unwrap();
    }
    for number in 0..5 {
        let condition = if computes {
            "context.facts has score && context.facts.score * 2 > 190"
        } else {
            "context.time < datetime(\"2020-01-01\")"
        };
        writeln!(text, "@id(\"inside-{number}\") forbid(principal, action, resource == Route::\"r1{number}\") when {{ {condition} || !(context has client && context.client.isInRange(ip(\"10.0.0.0/8\"))) }};").unwrap();
    }
    text
}

struct Asked {
    rules: AtRoute,
    principal: Principal,
    facts: Facts,
    client: IpAddr,
    asserted: Asserted,
}

impl Asked {
    fn with<T>(&self, ask: impl FnOnce(&AtRoute, &Question<'_>) -> T) -> T {
        let question = Question {
            principal: &self.principal,
            facts: &self.facts,
            client: Some(self.client),
            tls: Some("1.3"),
            asserted: Some(&self.asserted),
            now: Timestamp::from_unix_seconds(1_795_352_400),
        };
        ask(&self.rules, &question)
    }
}

fn user(number: usize) -> Principal {
    let workload = Workload {
        name: WorkloadName::parse(&format!("w{}", number % 5)).unwrap(),
        id: SpiffeId::parse(&format!("spiffe://example.com/w{}", number % 5)).unwrap(),
        roles: Box::default(),
    };
    let claims: Map<_, _> =
        [("department", json!("sales")), ("level", json!(number % 5)), ("email", json!("ada@example.com"))]
            .map(|(name, value)| (name.to_owned(), value))
            .into_iter()
            .collect();
    let mut token = [0; 32];
    token[..8].copy_from_slice(&number.to_le_bytes());
    let role = |number: usize| RoleName::parse(&format!("role{}", number % ROLES)).unwrap();
    let user = User {
        people: PeopleName::parse("staff").unwrap(),
        issuer: "https://login.example.com".into(),
        subject: format!("user-{number}").into(),
        roles: [role(number), role(number + 3)].into(),
        claims,
        expires: i64::MAX,
        token,
    };
    Principal::User(Arc::new(workload), Arc::new(user))
}

fn questions(rules: &RuleSet) -> Vec<Asked> {
    let mut rng = fastrand::Rng::with_seed(7);
    let users: Vec<_> = (0..USERS).map(user).collect();
    let ask = |_number| {
        let route = rng.usize(..ROUTES);
        let path = format!("/r{route}/{}", rng.u32(..10_000));
        let country = rng.choice(["DE", "FR", "US", "KP"]).unwrap();
        let asserted = [("country", json!(country)), ("score", json!(rng.u8(..100)))];
        Asked {
            rules: rules.at(&RouteName::parse(&format!("r{route}")).unwrap()).unwrap(),
            principal: rng.choice(&users).unwrap().clone(),
            facts: Facts {
                method: if rng.bool() { Method::GET } else { Method::POST },
                authority: "shop.example.com".into(),
                host: "shop.example.com".into(),
                target: path.as_str().into(),
                path: Path::read(&path).unwrap(),
                protocol: Protocol::Http2,
            },
            client: [rng.choice([10, 11]).unwrap(), 1, 2, rng.u8(..)].into(),
            asserted: asserted.into_iter().map(|(name, value)| (name.into(), value)).collect(),
        }
    };
    (0..QUESTIONS).map(ask).collect()
}

fn rules(c: &mut Criterion) {
    for (name, computes) in [("50 rules", false), ("50 rules of which 5 compute", true)] {
        let text = text(computes);
        let source = Source { file: std::path::Path::new("bench.cedar"), text: &text };
        let (rules, _) = RuleSet::read(&words(), &[source]).unwrap();
        assert_eq!(rules.all().len(), 50);
        let asked = questions(&rules);
        // The first pass through the mix is what a new generation costs; after it most is remembered.
        let mut all = asked.iter().cycle();
        c.bench_function(&format!("judge by {name}, as they come"), |b| {
            b.iter(|| all.next().unwrap().with(|rules, question| black_box(rules.judge(question))));
        });
        let mut all = asked.iter().cycle();
        c.bench_function(&format!("judge by {name}, each anew"), |b| {
            b.iter(|| all.next().unwrap().with(|rules, question| black_box(rules.judge_anew(question))));
        });
        let mut all = asked.iter().cycle();
        c.bench_function(&format!("  what they have read ({name})"), |b| {
            b.iter(|| all.next().unwrap().with(|rules, question| black_box(rules.read(question))));
        });
    }
    let text = text(false);
    let source = Source { file: std::path::Path::new("bench.cedar"), text: &text };
    c.bench_function("read 50 rules", |b| b.iter(|| RuleSet::read(&words(), &[source]).unwrap()));
}

criterion_group!(benches, rules);
criterion_main!(benches);
