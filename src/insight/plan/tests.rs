use super::*;
use crate::config;
use crate::filter;
use crate::insight::{Circumstances, judge};
use crate::name::PeopleName;
use proptest::prelude::*;
use serde_json::json;
use std::path::Path;
use test_case::test_case;

const BASE: &str = "\
version: 1
listeners:
  edge:
    bind: ['127.0.0.1:8443']
    tls:
      certificates: [{ cert: lb.pem, key: 'file:lb.key' }]
      client_auth: { ca: [ca.pem], crl: [ca.crl] }
  local: { bind: ['127.0.0.1:8081'], identity: none }
edge: { issuer: 'https://edge.example.com', audience: 'https://lb.example.com' }
workloads:
  checkout: { id: spiffe://example.com/checkout, keys: [{ kid: c-1, key: 'file:c.pub' }] }
  billing: { id: spiffe://example.com/billing, keys: [{ kid: b-1, key: 'file:b.pub', state: revoked }] }
people:
  staff: { issuer: 'https://login.example.com', audience: shop, jwks: 'file:jwks.json' }
roles:
  reader: { workloads: [billing] }
  support: { people: staff, claim: groups, has: support, through: [checkout] }
pools:
  shop: { servers: [{ name: a, address: '10.0.0.1:80' }] }
  store: { servers: [{ name: a, address: '10.0.0.2:80' }] }
audit: { file: audit.jsonl }
";

const ROUTES: &str = "\
routes:
  - { name: orders, match: { host: shop.example, path: /orders/**, methods: [GET, POST] }, allow: [checkout], pool: shop }
  - { name: reports, match: { host: shop.example, path: /reports/* }, identity: mtls, allow: [reader], pool: shop }
  - { name: status, match: { path: /status }, allow: public, pool: store }
";

fn read(text: &str) -> Config {
    let checked = config::read(Path::new("belay.yaml"), text, filter::KINDS);
    checked.config.unwrap_or_else(|| panic!("{:?}\n{text}", checked.findings))
}

/// What takes a guard away, and its reverse, which takes none.
#[test_case("hide: true, ", "", "orders.hide"; "hidden no more")]
#[test_case("limits: [{ rate: 5/s }], ", "", "routes.orders.limits.workload"; "a limit less")]
#[test_case("rate: 5/s", "rate: 6/s", "routes.orders.limits.workload"; "a higher rate")]
#[test_case("rate: 5/s", "rate: 5/s, burst: 9", "routes.orders.limits.workload"; "more at once")]
#[test_case("rate: 5/s", "rate: 5/s, for: [reader]", "routes.orders.limits.workload"; "for fewer")]
fn takes_a_guard(from: &str, to: &str, name: &str) {
    let routes = ROUTES.replacen("allow: [checkout]", "hide: true, limits: [{ rate: 5/s }], allow: [checkout]", 1);
    let old = format!("{BASE}{routes}");
    let new = old.replacen(from, to, 1);
    let names = |plan: Plan| plan.dangers.into_iter().map(|danger| danger.name).collect::<Vec<_>>();
    assert_eq!(names(planned(&old, &new)), [name]);
    assert!(names(planned(&new, &old)).is_empty());
}

/// The files are the same, wherever the folder is: `belay plan belay.yaml` stands beside a process that runs with
/// `/etc/belay/belay.yaml`.
#[test]
fn a_folder_changes_nothing() {
    let text = format!("{BASE}{ROUTES}");
    let at = |file: &str| config::read(Path::new(file), &text, filter::KINDS).config.unwrap();
    let (old, new) = (at("/etc/belay/belay.yaml"), at("belay.yaml"));
    assert_eq!(dangers(&old, &new), []);
    // The revoked key is known by its file, too.
    let renamed = text.replace("kid: b-1, key: 'file:b.pub', state: revoked", "kid: b-2, key: 'file:b.pub'");
    let renamed = config::read(Path::new("belay.yaml"), &renamed, filter::KINDS).config.unwrap();
    let names: Vec<_> = dangers(&old, &renamed).into_iter().map(|danger| danger.name).collect();
    assert_eq!(names, ["b-2.revoked"]);
}

fn planned(old: &str, new: &str) -> Plan {
    let (old, new) = (read(old), read(new));
    plan(&Side { config: &old, files: &[], rules: None }, &Side { config: &new, files: &[], rules: None })
}

/// What a replacement in the text changes.
#[test_case("name: x", "name: x", "nothing changes\n"; "nothing")]
#[test_case("allow: [checkout]", "allow: [checkout, reader]", "orders opens for billing"; "but a revoked key opens nothing")]
#[test_case("allow: [reader]", "allow: [reader, checkout]", "  reports opens for checkout, at edge\n    GET https://shop.example/reports/any by checkout at edge\n    before: 403 at reports, no rule allows it\n    after: passes by routes.reports.allow.checkout, with mtls, to shop"; "opens")]
#[test_case("allow: [checkout]", "allow: public", "--accept orders.public"; "public")]
#[test_case("allow: [checkout]", "identity: mtls, allow: [checkout]", "--accept orders.identity"; "weaker")]
#[test_case("identity: mtls, allow", "allow", "reports closes for billing"; "who has no key cannot prove more")]
#[test_case("allow: public", "allow: [checkout]", "status asks for other proof for checkout, at edge"; "public no more")]
#[test_case("methods: [GET, POST]", "methods: [GET]", "POST https://shop.example/orders by checkout at edge\n    before: passes by routes.orders.allow.checkout, with mtls+jwt, to shop\n    after: 404, no route takes it"; "a method less")]
#[test_case("pool: store", "pool: shop", "status is decided elsewhere"; "another pool")]
#[test_case("- { name: orders", "- { name: all, match: {}, allow: public, pool: shop }\n  - { name: orders", "orders: an earlier route takes all its requests"; "shadowed")]
#[test_case("reader: { workloads: [billing] }", "reader: { workloads: [billing, checkout] }", "reports opens for checkout"; "a role grows")]
#[test_case(", crl: [ca.crl]", "", "--accept edge.crl"; "no revocation lists")]
#[test_case("audience: 'https://lb.example.com' }", "audience: 'https://lb.example.com', token: { replay: off } }", "--accept edge.token.replay"; "tokens without number")]
#[test_case("  edge:\n    bind: ['127.0.0.1:8443']\n    tls:\n      certificates: [{ cert: lb.pem, key: 'file:lb.key' }]\n      client_auth: { ca: [ca.pem], crl: [ca.crl] }", "  door:\n    bind: ['127.0.0.1:8444']\n    tls:\n      certificates: [{ cert: lb.pem, key: 'file:lb.key' }]\n      client_auth: { ca: [ca.pem] }", "--accept door.crl"; "no revocation lists under another name")]
#[test_case("kid: b-1, key: 'file:b.pub', state: revoked", "kid: b-2, key: 'file:b.pub'", "--accept b-2.revoked"; "a revoked key under another id")]
#[test_case("state: revoked", "state: active", "--accept b-1.revoked"; "a revoked key")]
#[test_case("bind: ['127.0.0.1:8081'], identity", "bind: ['127.0.0.1:8081'], proxy_protocol: { from: [10.0.0.0/8] }, identity", "--accept local.proxy_protocol"; "who says who the client is")]
#[test_case("audit:", "admin: { socket: /run/a.sock, change: [ada] }\naudit:", "--accept admin.change"; "who changes things")]
#[test_case("audit:", "admin: { https: { bind: '10.0.0.5:9901', certificates: [{ folder: certs }], ca: [ca.pem], allow: [checkout] } }\naudit:", "--accept admin.https"; "who reads metrics from elsewhere")]
#[test_case("identity: mtls, allow: [reader]", "identity: mtls, hide: true, allow: [reader]", "  reports is hidden for billing, checkout, strangers, at edge, local\n    GET https://shop.example/reports/any by a stranger at local\n    before: 401 at reports, who asks is not known\n    after: 404 at reports, who asks is not known"; "hidden")]
#[test_case("issuer: 'https://login.example.com'", "issuer: 'https://login.example.org'", "--accept staff.provider"; "another provider")]
#[test_case("jwks: 'file:jwks.json'", "jwks: 'file:other.json'", "--accept staff.provider"; "other keys")]
#[test_case("audience: shop", "audience: [shop, store]", "--accept staff.audience"; "tokens for another service")]
#[test_case("jwks: 'file:jwks.json'", "jwks: 'file:jwks.json', forward: true", "--accept staff.forward"; "tokens that go on")]
#[test_case("identity: mtls, allow: [reader]", "identity: mtls+user, allow: [reader, support]", "a user of staff with groups=support through checkout, at edge"; "a role of people")]
#[test_case("address: '10.0.0.1:80'", "address: '10.0.0.9:80'", "pools.shop.servers[a].address: 10.0.0.1:80 -> 10.0.0.9:80"; "a server")]
#[test_case("tls:\n", "limits: { body: 1GiB }\n    tls:\n", "listeners.edge.limits.body: 10MiB -> 1GiB"; "a limit")]
#[test_case("identity: none }\nedge", "identity: none }\n  other: { bind: ['127.0.0.1:8082'], identity: none }\nedge", "listeners.other is new"; "a listener more makes nothing public")]
#[test_case("  local: { bind: ['127.0.0.1:8081'], identity: none }\n", "", "nobody listens"; "a listener less")]
fn tells(from: &str, to: &str, expected: &str) {
    let old = format!("{BASE}{ROUTES}");
    let new = old.replacen(from, to, 1);
    let said = planned(&old, &new).show(false);
    let is_there = said.contains(expected);
    assert!(
        said.contains("Must be accepted") == expected.contains("--accept") || expected.contains("earlier route"),
        "{said}"
    );
    let is_not_meant = from == "allow: [checkout]" && to == "allow: [checkout, reader]";
    assert_eq!(is_there, !is_not_meant, "{said}");
}

#[test_case("crl], allow: [reader]", "crl], allow: [reader, checkout]", &["admin.https"]; "one more by name")]
#[test_case("reader: { workloads: [billing] }", "reader: { workloads: [billing, checkout] }", &["admin.https"]; "one more by a role")]
#[test_case(", crl: [scrapers.crl]", "", &["admin.crl"]; "no revocation list")]
#[test_case("crl], allow: [reader]", "crl], allow: [billing]", &[]; "the same by name")]
#[test_case("10.0.0.5:9901", "10.0.0.6:9901", &[]; "elsewhere")]
fn who_reads_metrics(from: &str, to: &str, expected: &[&str]) {
    let https = "https: { bind: '10.0.0.5:9901', certificates: [{ folder: certs }], ca: [ca.pem], crl: [scrapers.crl], allow: [reader] }";
    let old = format!("{BASE}{ROUTES}").replacen("audit:", &format!("admin: {{ {https} }}\naudit:"), 1);
    assert!(old.contains(from));
    let plan = planned(&old, &old.replacen(from, to, 1));
    assert_eq!(plan.dangers.iter().map(|danger| danger.name.as_str()).collect::<Vec<_>>(), expected);
}

#[test]
fn a_word_that_stands_for_all_others_may_be_named() {
    let text = |allow: &str| {
        format!(
            "{BASE}routes:\n  - {{ name: known, match: {{ path: /x/any }}, allow: [checkout], pool: shop }}\n  - {{ name: below, match: {{ path: /x/any/** }}, allow: [checkout], pool: shop }}\n  - {{ name: all, match: {{ path: /x/* }}, allow: {allow}, pool: store }}\n"
        )
    };
    let plan = planned(&text("[checkout]"), &text("public"));
    assert_eq!(plan.dangers.iter().map(|danger| danger.name.as_str()).collect::<Vec<_>>(), ["all.public"]);
}

#[test]
fn a_plan_to_read() {
    let old = format!("{BASE}{ROUTES}");
    let new = old
        .replacen("allow: [checkout]", "allow: public", 1)
        .replacen("allow: [reader]", "allow: [checkout]", 1)
        .replacen("address: '10.0.0.1:80'", "address: '10.0.0.9:80'", 1);
    let (old, new) = (read(&old), read(&new));
    let digest = |text: &str| Digest::of_content(text.as_bytes());
    let files = |content| vec![(PathBuf::from("ca.pem"), digest(content)), (PathBuf::from("lb.pem"), digest("lb"))];
    let plan = plan(
        &Side { config: &old, files: &files("one"), rules: None },
        &Side { config: &new, files: &files("other"), rules: None },
    );
    insta::assert_snapshot!("plan_text", plan.show(false));
    insta::assert_snapshot!("plan_markdown", plan.show(true));
    assert_eq!(plan.unaccepted(&["orders.public".into()]).count(), 0);
    assert_eq!(plan.unaccepted(&["status.public".into()]).count(), 1);
}

#[test]
fn a_thousand_routes_are_compared_quickly_if_few_are_changed() {
    let routes = |changed: &str| {
        let route = |number: usize| {
            let allow = if number == 500 { changed } else { "[checkout]" };
            format!(
                "  - {{ name: r{number}, match: {{ host: shop.example, path: /r{number}/** }}, allow: {allow}, pool: shop }}\n"
            )
        };
        format!("{BASE}routes:\n{}", (0..1_000).map(route).collect::<String>())
            .replace("  store: { servers: [{ name: a, address: '10.0.0.2:80' }] }\n", "")
    };
    let plan = planned(&routes("[checkout]"), &routes("public"));
    assert_eq!(plan.dangers.len(), 1);
    assert!(plan.changes.iter().all(|change| change.route == "r500"));
}

fn route() -> impl Strategy<Value = String> {
    let hosts = prop::sample::select(vec!["a.x", "b.x", "'*.x'", "'*'"]);
    let paths = prop::sample::select(vec!["/p", "/p/*", "/p/**", "/p/q", "/p/q/**", "/**", "/*"]);
    let methods = prop::sample::select(vec!["", ", methods: [GET]", ", methods: [POST, PUT]"]);
    let allow = ["public", "[checkout]", "[reader]", "[checkout, reader]"];
    let of_workloads = ["", "identity: mtls, "].map(|identity| allow.map(|allow| format!("{identity}allow: {allow}")));
    let of_people = ["mtls+jwt+user", "mtls+user"].map(|identity| {
        ["[support]", "[checkout]", "[support, reader]"].map(|allow| format!("identity: {identity}, allow: {allow}"))
    });
    let who = prop::sample::select([of_workloads.concat(), of_people.concat()].concat());
    let pool = prop::sample::select(vec!["shop", "store"]);
    (hosts, paths, methods, who, pool, any::<bool>()).prop_map(|(host, path, methods, who, pool, hides)| {
        let hide = if hides && !who.contains("public") { ", hide: true" } else { "" };
        format!("match: {{ host: {host}, path: {path}{methods} }}, {who}{hide}, pool: {pool}")
    })
}

fn config() -> impl Strategy<Value = String> {
    prop::collection::vec((0..4_u8, route()), 1..4).prop_map(|mut routes| {
        routes.dedup_by_key(|(name, _)| *name);
        let mut seen = HashSet::new();
        routes.retain(|(name, _)| seen.insert(*name));
        let text: String = routes.iter().map(|(name, route)| format!("  - {{ name: r{name}, {route} }}\n")).collect();
        format!("{}routes:\n{text}", BASE.replace(", state: revoked", ""))
    })
}

fn user(group: &str) -> AskedUser {
    let claims = if group.is_empty() { json!({}) } else { json!({ "groups": [group] }) };
    AskedUser { people: PeopleName::parse("staff").unwrap(), claims: serde_json::from_value(claims).unwrap() }
}

fn asked() -> impl Strategy<Value = Asked> {
    let hosts = prop::sample::select(vec!["a.x", "b.x", "c.x", "d.c.x", "other"]);
    let paths = prop::sample::select(vec!["/", "/p", "/p/q", "/p/z", "/p/q/z", "/z"]);
    let methods = prop::sample::select(vec![Method::GET, Method::POST, Method::DELETE]);
    let who = prop::sample::select(vec![None, Some("checkout"), Some("billing")]);
    let listener = prop::sample::select(vec!["edge", "local"]);
    let groups = prop::sample::select(vec![None, Some(""), Some("support")]);
    (listener, who, groups, methods, hosts, paths).prop_map(|(listener, who, groups, method, host, path)| Asked {
        listener: ListenerName::parse(listener).unwrap(),
        workload: who.map(|name| WorkloadName::parse(name).unwrap()),
        user: groups.filter(|_| who.is_some()).map(user),
        method,
        host: host.into(),
        path: path.into(),
    })
}

proptest! {
    #[test]
    fn equal_configs_have_no_plan(text in config()) {
        prop_assert!(planned(&text, &text).is_empty());
    }

    /// Every request of a plan is decided differently, and whatever is decided differently is in the plan.
    #[test]
    fn a_plan_is_true_and_whole(old in config(), new in config(), asked in asked()) {
        let plan = planned(&old, &new);
        let (old, new) = (read(&old), read(&new));
        for Change { witness, .. } in &plan.changes {
            prop_assert_eq!(&judge(&old, &witness.asked, &nothing_else()), &witness.before);
            prop_assert_eq!(&judge(&new, &witness.asked, &nothing_else()), &witness.after);
            prop_assert_ne!(&witness.before, &witness.after);
        }
        let (before, after) = (judge(&old, &asked, &nothing_else()), judge(&new, &asked, &nothing_else()));
        let everybodys = |verdict: &Verdict| matches!(verdict, Verdict::Allow { profile: None, .. });
        prop_assume!(!(before == Verdict::Nowhere && everybodys(&after)));
        if let Some(kind) = kind(&before, &after) {
            // Where no user is demanded, only the workload is told.
            let who = [asked.asker(), Asker { user: None, ..asked.asker() }].map(|asker| asker.in_words("strangers"));
            let is_told = plan.changes.iter().any(|change| {
                change.kind == kind && who.iter().any(|who| change.whom.contains(who)) && change.listeners.contains(asked.listener.as_str())
                    && (change.witness.before.route(), change.witness.after.route()) == (before.route(), after.route())
            });
            prop_assert!(is_told, "{asked:?}: {before:?} -> {after:?} is not told in\n{}", plan.show(false));
        }
    }
}

fn nothing_else() -> Circumstances<'static> {
    Circumstances::with(None, crate::clock::Timestamp::from_unix_seconds(0))
}
