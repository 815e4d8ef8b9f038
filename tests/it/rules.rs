//! Rules in Cedar beside the lists: what they decide, how they come and go, and what is told of them.

use crate::support::login::{Login, claims};
use crate::support::operator::{command, with_socket};
use crate::support::{Ask, Belay, NOW, Running, Site, World, eventually, settled, show, tunnel};
use belay::audit::{Actor, Cause};
use belay::runtime::Change;
use serde_json::{Value, json};
use std::time::Duration;
use test_case::test_case;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio_rustls::client::TlsStream;

const PEOPLE: &str = "\
access: { policies: [policies/*.cedar] }
people:
  staff:
    issuer: 'https://login.example.com'
    audience: 'api://shop'
    jwks: 'file:jwks.json'
    claims: { department: text, level: number }
roles:
  support: { people: staff, claim: groups, has: support, through: [checkout] }
";

const ROUTES: &str = "\
routes:
  - { name: desk, match: { path: /desk/** }, identity: mtls+jwt+user, allow: [], groups: [inner], pool: shop }
  - { name: secret, match: { path: /secret/** }, identity: mtls+jwt+user, allow: [support], groups: [inner], hide: true, pool: shop }
  - { name: feed, match: { path: /feed }, identity: mtls, allow: [checkout], pool: live }
";

/// A site with those rules in `policies/shop.cedar`, whose `desk` nobody is let into but by a rule.
async fn site(login: &Login, rules: &str) -> Site {
    let site = Site::new(NOW).await;
    prepare(&site, login, rules);
    site
}

fn prepare(site: &Site, login: &Login, rules: &str) {
    site.write("jwks.json", &login.jwks());
    std::fs::create_dir_all(site.folder.path().join("policies")).unwrap();
    site.write("policies/shop.cedar", rules);
}

fn config(text: &str, live: &str) -> String {
    text.replace("roles:\n", PEOPLE)
        .replace("routes:\n", ROUTES)
        .replace("pools:\n", &format!("pools:\n  live: {{ servers: [{{ name: a, address: '{live}' }}] }}\n"))
        .replace("https://lb.example.com\n", "https://lb.example.com\n  facts: { country: text, score: number }\n")
        .replace("file:checkout.pub' }]", "file:checkout.pub' }], may_assert: [country, score]")
}

async fn with(login: &Login, rules: &str) -> World {
    let site = site(login, rules).await;
    let live = tunnel::origin(tunnel::SWITCHED).await;
    let world = World::before_checks(site, |text| config(&text, &live));
    world.is_healthy().await;
    world
}

fn last(world: &World) -> Value {
    world.records_of("decision").pop().unwrap()
}

const RULES: &str = r#"
@id("desk-reads") permit(principal in Role::"support", action in Action::"read", resource in RouteGroup::"inner");
@id("leads-write") permit(principal in Workload::"checkout", action, resource == Route::"desk")
  when { principal.claims has level && principal.claims.level >= 3 };
@id("sales-by-path") permit(principal, action, resource == Route::"desk")
  when { principal.claims has department && principal.claims.department == "sales" && context.path like "/desk/sales/*" };
@id("embargo") forbid(principal, action, resource)
  when { context.facts has country && ["KP", "SY"].contains(context.facts.country) };
@id("no-scans") forbid(principal, action, resource == Route::"status") when { context.path == "/status" && context.hour == 3 };
@id("from-inside") forbid(principal, action in Action::"write", resource == Route::"orders")
  unless { context has client && context.client.isInRange(ip("203.0.113.0/24")) };
@id("tried") @shadow forbid(principal, action, resource == Route::"desk") unless { context.mfa };
"#;

/// Who asks what, with what is said of him: the status, and the rule or reason.
#[test_case("GET /desk/7", json!({ "groups": ["support"] }), json!({}), 200, "policies.desk-reads")]
#[test_case("HEAD /desk/7", json!({ "groups": ["support"] }), json!({}), 200, "policies.desk-reads"; "HEAD reads")]
#[test_case("POST /desk/7", json!({ "groups": ["support"] }), json!({}), 403, "policy.not_allowed"; "support does not write")]
#[test_case("POST /desk/7", json!({ "groups": ["support"], "level": 3 }), json!({}), 200, "policies.leads-write"; "a lead writes")]
#[test_case("POST /desk/7", json!({ "level": 2 }), json!({}), 403, "policy.not_allowed"; "no lead")]
#[test_case("PURGE /desk/7", json!({ "groups": ["support"] }), json!({}), 403, "policy.not_allowed"; "a method without a name writes")]
#[test_case("GET /desk/sales/1", json!({ "department": "sales" }), json!({}), 200, "policies.sales-by-path")]
#[test_case("GET /desk/other/1", json!({ "department": "sales" }), json!({}), 403, "policy.not_allowed"; "another path")]
#[test_case("GET /desk/sales/1", json!({ "department": "it" }), json!({}), 403, "policy.not_allowed"; "another department")]
#[test_case("GET /desk/7", json!({ "groups": ["support"] }), json!({ "country": "KP" }), 403, "policies.embargo")]
#[test_case("GET /desk/7", json!({ "groups": ["support"] }), json!({ "country": "DE" }), 200, "policies.desk-reads"; "another country")]
#[test_case("GET /desk/7", json!({ "groups": ["support"], "level": "3" }), json!({}), 403, "principal.claims.level"; "a claim of another type")]
#[test_case("GET /desk/7", json!({ "groups": ["support"] }), json!({ "country": ["KP"] }), 403, "context.facts.country"; "a fact of another type")]
#[test_case("GET /secret/7", json!({ "groups": ["support"] }), json!({}), 200, "routes.secret.allow.support"; "the list comes first")]
#[test_case("GET /secret/7", json!({ "groups": ["support"] }), json!({ "country": "SY" }), 404, "policies.embargo"; "hidden to whom a rule forbids it")]
#[test_case("GET /secret/7", json!({}), json!({}), 404, "policy.not_allowed"; "hidden to others")]
#[test_case("GET /orders/7", json!(null), json!({}), 200, "routes.orders.allow.checkout")]
#[test_case("GET /orders/7", json!(null), json!({ "country": "KP" }), 403, "policies.embargo"; "whom the list names")]
#[test_case("POST /orders/7", json!(null), json!({ "cip": "203.0.113.9" }), 200, "routes.orders.allow.checkout"; "from inside")]
#[test_case("POST /orders/7", json!(null), json!({ "cip": "198.51.100.9" }), 403, "policies.from-inside"; "from outside")]
#[test_case("GET /status", json!(null), json!({}), 200, "routes.status.allow.public")]
#[tokio::test]
async fn a_rule_decides(what: &'static str, said: Value, facts: Value, status: u16, by: &str) {
    let login = Login::new("l-1");
    let world = with(&login, RULES).await;
    world
        .apply(&world.config_text().replacen("edge:\n    bind", "edge:\n    client_address: 'claim:cip'\n    bind", 1))
        .unwrap();
    let (method, target) = what.split_once(' ').unwrap();
    let body = if method == "POST" { "x" } else { "" };
    let mut ask = Ask { method, target, body, ..Ask::get(target) };
    if let Some(more) = said.as_object() {
        let mut said = claims("ada", &[]);
        said.as_object_mut().unwrap().extend(more.clone());
        ask = ask.for_user(&login.sign(&said));
    }
    for name in ["country", "cip"] {
        ask = match facts.get(name) {
            Some(value) => ask.claim(name, value.clone()),
            None => ask,
        };
    }
    for _again_as_remembered in 0..2 {
        let reply = world.ask(&ask).await;
        let record = last(&world);
        let told = record["belay"]["rule"].as_str().or_else(|| record["event"]["reason"].as_str()).unwrap();
        assert_eq!((reply.status, told), (status, by), "{record:#}");
        assert!(!reply.body.contains("policies") && !reply.body.contains("principal"), "{}", reply.body);
    }
}

#[tokio::test]
async fn a_public_route_has_its_guards_too() {
    let world = with(&Login::new("l-1"), RULES).await;
    let status = Ask { certificate: None, signer: None, ..Ask::get("/status") };
    assert_eq!(world.ask(&status).await.status, 200);
    // Three in the morning.
    world.clock.set(NOW - NOW % 86_400 + 3 * 3600 + 60 + 86_400);
    assert_eq!(world.ask(&status).await.status, 403);
    assert_eq!(last(&world)["belay"]["rule"], "policies.no-scans");
}

#[tokio::test]
async fn users_and_clients_stand_there_by_hashes() {
    let login = Login::new("l-1");
    let site = site(&login, RULES).await;
    site.write("pseudonyms.key", crate::support::SECRET);
    let live = tunnel::origin(tunnel::SWITCHED).await;
    let world = World::before_checks(site, |text| {
        let audit = "file: audit.jsonl, pseudonyms: { key: 'file:pseudonyms.key' }";
        config(&text, &live).replace("file: audit.jsonl", audit)
    });
    world.is_healthy().await;
    let mut said = claims("ada", &["support"]);
    said["department"] = json!("finance");
    let ask = Ask::get("/desk/7").for_user(&login.sign(&said)).claim("country", "DE").claim("score", 3);
    for _twice in 0..2 {
        assert_eq!(world.ask(&Ask { signer: Some("checkout"), ..ask.clone() }).await.status, 200);
    }
    let decisions = world.records_of("decision");
    let record = &decisions[0];
    assert!(record["user"]["id"].as_str().unwrap().starts_with("hmac:"), "{record:#}");
    assert_eq!(record["user"]["id"], decisions[1]["user"]["id"], "the same user has the same hash");
    assert_eq!(record["user"]["roles"], json!(["support"]));
    let read = &record["belay"]["read"];
    assert_eq!(read["context.facts.country"], "DE", "what the edge says is said");
    assert!(read["principal.claims.department"].as_str().unwrap().starts_with("hmac:"), "{record:#}");
    let text = std::fs::read_to_string(world.site.folder.path().join("audit.jsonl")).unwrap();
    for hidden in ["|ada", "finance", "\"ip\":"] {
        assert!(!text.contains(hidden), "{hidden} in {text}");
    }
}

#[tokio::test]
async fn the_record_says_what_rules_have_read() {
    let login = Login::new("l-1");
    let world = with(&login, RULES).await;
    let mut said = claims("ada", &["support"]);
    (said["department"], said["email"]) = (json!("it"), json!("ada@example.com"));
    let ask = Ask::get("/desk/7").for_user(&login.sign(&said)).claim("country", "DE").claim("score", 3);
    assert_eq!(world.ask(&ask).await.status, 200);
    let belay = &last(&world)["belay"];
    let read = json!({ "context.facts.country": "DE", "context.mfa": false, "principal.claims.department": "it" });
    assert_eq!(belay["read"], read, "what no rule reads is nobody's business");
    assert_eq!(belay["shadow"], json!({ "rules": ["policies.tried"], "decision": "deny" }));
    let counted = "belay_shadow_decisions_total{decision=\"deny\",rule=\"policies.tried\"} 1";
    assert!(world.metrics().contains(counted), "{}", world.metrics());
    let bob = Ask::get("/desk/7").for_user(&login.token("bob", &[]));
    assert_eq!(world.ask(&bob).await.status, 403);
    let belay = &last(&world)["belay"];
    let near: Vec<_> = belay["near"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert_eq!(near[0], "policies.desk-reads wants principal in Role::\"support\"", "{near:?}");
    assert!(belay.get("shadow").is_none(), "it would change nothing");
}

const LOCKED: &str =
    "@id(\"guard\") @locked forbid(principal, action, resource) when { context.path like \"/orders/9*\" };\n";

fn refreshed(world: &World) -> Result<Change, String> {
    world.live.refresh().map_err(|findings| show(&findings))
}

#[tokio::test]
async fn rules_come_and_go_with_their_files() {
    let world = with(&Login::new("l-1"), LOCKED).await;
    let status = async |target| world.ask(&Ask::get(target)).await.status;
    assert_eq!((status("/orders/7").await, status("/orders/9").await), (200, 403));
    world.write("policies/more.cedar", "@id(\"more\") forbid(principal, action, resource == Route::\"orders\");");
    assert!(matches!(refreshed(&world), Ok(Change::Applied(_))), "a new file counts");
    assert_eq!(status("/orders/7").await, 403);
    world.write("policies/more.cedar", "@id(\"more\") forbid(principal, action, resource == Route::\"order\");");
    let said = refreshed(&world).unwrap_err();
    assert!(said.contains("there is no route `order`") && said.contains("did you mean `orders`?"), "{said}");
    assert!(said.contains("policies/more.cedar:1:") && status("/orders/7").await == 403, "the old one stays: {said}");
    std::fs::remove_file(world.folder.path().join("policies/more.cedar")).unwrap();
    let said = refreshed(&world).unwrap_err();
    assert!(said.contains("is gone, and the rules in it would be") && said.contains("belay reload"), "{said}");
    assert_eq!(status("/orders/7").await, 403, "perhaps it is only being written");
    assert!(matches!(world.apply(&world.config_text()), Ok(Change::Applied(_))), "somebody has said so");
    assert_eq!(status("/orders/7").await, 200);
}

#[test_case("@id(\"other\") forbid(principal, action, resource);"; "gone")]
#[test_case("@id(\"guard\") forbid(principal, action, resource) when { context.path like \"/orders/9*\" };"; "not locked any more")]
#[test_case("@id(\"guard\") @locked forbid(principal, action, resource) when { context.path like \"/orders/99*\" };"; "narrower")]
#[tokio::test]
async fn a_guardrail_stays_unless_that_is_accepted(rules: &str) {
    let world = with(&Login::new("l-1"), LOCKED).await;
    world.write("policies/shop.cedar", rules);
    let said = refreshed(&world).unwrap_err();
    assert!(said.contains("--accept policies.guard.locked"), "{said}");
    assert_eq!(world.ask(&Ask::get("/orders/9")).await.status, 403);
    let config = config_of(&world, &world.config_text());
    let accepted = vec!["policies.guard.locked".to_owned()];
    let cause = Cause { accepted, ..Cause::of(Actor::User(0)) };
    let consented = world.live.consent(config, "reload", &cause).unwrap();
    assert!(matches!(world.live.apply(consented, false, &cause), Ok(Change::Applied(_))));
}

#[tokio::test]
async fn a_guardrail_in_other_words_is_the_same() {
    let world = with(&Login::new("l-1"), LOCKED).await;
    world.write("policies/shop.cedar", &LOCKED.replace("forbid(", "@because(\"it is so\")\n// and this\nforbid( "));
    assert!(refreshed(&world).is_ok(), "it decides alike");
}

/// What a guardrail speaks of may go with the config, too.
#[test_case("groups: [inner], pool: shop }\n  - { name: secret", "pool: shop }\n  - { name: secret", "policies.guard.locked"; "a route leaves its group")]
#[test_case("path: /desk/** }, identity: mtls+jwt+user", "path: /desk/** }, identity: mtls+user", "policies.guard.locked"; "nobody signs facts any more")]
#[test_case("access: { policies: [policies/*.cedar] }", "access: { policies: [other.cedar] }", "policies.guard.locked"; "other files")]
#[test_case("path: /desk/** }", "path: /desk/**, methods: [GET] }", ""; "fewer methods")]
#[test_case("path: /desk/** }", "path: /desk/* }", ""; "fewer paths")]
#[tokio::test]
async fn a_guardrail_holds_where_it_did(old: &str, new: &str, danger: &str) {
    let rules = "@id(\"guard\") @locked forbid(principal, action, resource in RouteGroup::\"inner\") when { context has facts.country && context.facts.country == \"KP\" };";
    let world = with(&Login::new("l-1"), rules).await;
    world.write("other.cedar", "@id(\"other\") forbid(principal, action, resource == Route::\"feed\");");
    let text = world.config_text().replace(old, new);
    assert_ne!(text, world.config_text());
    world.write("belay.yaml", &text);
    let cause = Cause { accepted: vec!["desk.weaker".into()], ..Cause::of(Actor::User(0)) };
    let applied = world.live.consent(config_of(&world, &text), "reload", &cause);
    let applied = applied.and_then(|consented| world.live.apply(consented, false, &cause));
    let said = applied.map_or_else(|findings| show(&findings), |_| String::new());
    assert_eq!(said.contains("--accept policies.guard.locked"), !danger.is_empty(), "{said}");
}

#[tokio::test]
async fn a_rule_lets_nobody_in_who_proves_nothing() {
    let text = "@id(\"all\") permit(principal, action in Action::\"read\", resource);";
    let world = with(&Login::new("l-1"), text).await;
    let config = world.config_text();
    // The same routes by a listener that asks nobody who he is, beside one that does.
    let open = config.replacen("listeners:\n", "listeners:\n  open: { bind: ['127.0.0.1:0'], identity: none }\n", 1);
    world.apply(&open.replace("    identity: mtls\n", "")).unwrap_or_else(|findings| panic!("{}", show(&findings)));
    let snapshot = world.live.snapshot();
    let route = snapshot.config.routes.iter().find(|route| route.name.as_str() == "reports").unwrap();
    let door = belay::policy::Door {
        route: route.name.clone(),
        demands: None,
        access: std::sync::Arc::clone(&route.access),
        rules: snapshot.rules.as_ref().unwrap().at(&route.name),
        is_hidden: false,
        demands_digest: false,
        term: route.term,
        pool: route.pool.clone(),
    };
    let facts = facts("/reports/7");
    let (id, profile) = (belay::request::Id::random(), belay::identity::Profile::None);
    let trust = &snapshot.trust;
    let headers = http::HeaderMap::new();
    let evidence = belay::identity::Evidence { facts: &facts, peer: None, tokens: [None, None], headers: &headers };
    let now = belay::clock::Timestamp::from_unix_seconds(NOW);
    let nobody = belay::identity::authenticate(profile, &evidence, None, trust, now).unwrap();
    let case = belay::policy::Case {
        id: &id,
        facts: &facts,
        client: None,
        tls: None,
        listener: profile,
        generation: snapshot.generation,
        now,
    };
    let decided = belay::policy::decide(&nobody, &door, &case, belay::identity::Replay::Strict);
    assert_eq!(decided.unwrap_err().refusal, belay::refusal::Refusal::NotAllowed);
}

fn facts(target: &str) -> belay::request::Facts {
    let head = belay::request::Head {
        method: &http::Method::GET,
        target: target.as_bytes(),
        authority: Some("shop.example.com"),
        hosts: [None, None],
        protocol: belay::request::Protocol::Http2,
    };
    belay::request::Facts::read(&head).unwrap()
}

fn config_of(world: &World, text: &str) -> belay::config::Config {
    belay::config::read(&world.config(), text, belay::filter::KINDS).config.unwrap()
}

async fn is_open(tunnel: &mut TlsStream<DuplexStream>) -> bool {
    tunnel.write_all(b"hello").await.unwrap();
    let mut heard = [0; 5];
    tunnel.read_exact(&mut heard).await.is_ok() && heard == *b"hello"
}

#[tokio::test]
async fn a_tunnel_ends_when_a_rule_forbids_it() {
    let world = with(&Login::new("l-1"), LOCKED).await;
    let mut tunnel = tunnel::open_at(&world, "/feed").await;
    assert!(is_open(&mut tunnel).await);
    world.write("policies/other.cedar", "@id(\"later\") forbid(principal in Workload::\"reports\", action, resource);");
    refreshed(&world).unwrap();
    assert!(is_open(&mut tunnel).await, "it is not about this one");
    world.write(
        "policies/other.cedar",
        "@id(\"later\") forbid(principal in Workload::\"checkout\", action, resource == Route::\"feed\");",
    );
    refreshed(&world).unwrap();
    let mut rest = Vec::new();
    let ended = tokio::time::timeout(Duration::from_secs(5), tunnel.read_to_end(&mut rest)).await;
    assert!(ended.is_ok() && rest.is_empty(), "{ended:?} {rest:?}");
    settled("its outcome", || !world.records_of("outcome").is_empty()).await;
    assert_eq!(world.records_of("outcome")[0]["event"]["reason"], "policy.forbidden");
}

#[test_case("permit(principal, action, resource);", "a rule has a name"; "without a name")]
#[test_case("@id(\"a\") permit(principal in Role::\"suport\", action, resource);", "did you mean `support`?"; "no such role")]
#[test_case("@id(\"a\") permit(principal, action, resource) when { context.facts.country == \"DE\" };", "context.facts has country"; "a fact that may not be there")]
#[test_case("@id(\"a\") permit(principal, action, resource) when { principal.claims.email == \"x\" };", "email"; "a claim that is not declared")]
#[test_case("@id(\"a\") permit(principal, action, resource", "policies/shop.cedar:1:"; "half a rule")]
#[tokio::test]
async fn a_broken_rule_is_said_with_its_place(rules: &str, expected: &str) {
    let world = with(&Login::new("l-1"), LOCKED).await;
    world.write("policies/shop.cedar", rules);
    let said = refreshed(&world).unwrap_err();
    assert!(said.contains(expected) && said.contains("policies/shop.cedar:1:"), "{said}");
    assert_eq!(world.ask(&Ask::get("/orders/9")).await.status, 403, "the old one stays");
}

#[test_case("policies/*.cedar", "policies/*/a.cedar", "`*` stands once, in the last name"; "a pattern of folders")]
#[test_case("policies/*.cedar", "policies/*.none", "no file is called so"; "a pattern that nothing fits")]
#[test_case("policies/*.cedar", "policies/gone.cedar", "No such file"; "a file that is not there")]
#[test_case("country: text", "countri: text", "did you mean `country`?"; "a fact that nobody asserts")]
#[test_case("department: text", "department: word", "department"; "no type")]
#[test_case("groups: [inner], pool", "groups: [inner, inner], pool", "this group stands at"; "a group twice")]
#[test_case("access: { policies: [policies/*.cedar] }", "", "nobody may pass"; "an empty list without rules")]
#[tokio::test]
async fn a_config_that_rules_cannot_speak_of_is_refused(old: &str, new: &str, expected: &str) {
    let world = with(&Login::new("l-1"), LOCKED).await;
    let text = world.config_text();
    assert!(text.contains(old), "{text}");
    let said = show(&world.apply(&text.replace(old, new)).unwrap_err());
    assert!(said.contains(expected), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_are_told_on_the_command_line() {
    let login = Login::new("l-1");
    let running = Running::started_at(|site| {
        prepare(site, &login, &format!("{RULES}{LOCKED}"));
        let text = format!("{}admin: {{ http: '127.0.0.1:0' }}\n", site.config_text());
        // Without the server that tunnels.
        let text: Vec<_> =
            config(&with_socket(text), "").lines().filter(|line| !line.contains("live")).map(str::to_owned).collect();
        site.write("belay.yaml", &text.join("\n"));
    });
    let Running { site, belay } = running.await;
    let running = Running::healthy(site, belay).await;
    let site = &running.site;
    let said = |words: &[&str]| {
        let said = command(site, words);
        (said.code, format!("{}{}", said.out, said.err))
    };
    let url = "https://shop.example.com/orders/7";
    let (code, told) = said(&["explain", "--as", "checkout", "--fact", "country=KP", "GET", url]);
    assert!(code == Some(0) && told.contains("deny with 403, a rule forbids it"), "{told}");
    assert!(told.contains("policies.embargo forbids it, whoever lets him in"), "{told}");
    let desk = "https://shop.example.com/desk/7";
    let (_, told) = said(&["explain", "--as", "checkout", "--claim", "level=3", "POST", desk]);
    assert!(told.contains("policies.leads-write permits it; tried out only, policies.tried would refuse it"), "{told}");
    let (_, told) = said(&["explain", "--as", "checkout", "--claim", "level=2", "POST", desk]);
    assert!(told.contains("no rule says anything to it: policies.leads-write wants"), "{told}");
    // What was tried out.
    let mut ada = claims("ada", &["support"]);
    (ada["iat"], ada["exp"]) = (json!(site.now), json!(site.now + 600));
    assert_eq!(running.status(&Ask::get("/desk/7").for_user(&login.sign(&ada))).await, 200);
    let (code, told) = said(&["policy", "shadow"]);
    assert!(code == Some(0) && told.contains("policies.tried  deny   1         desk    checkout"), "{told}");
    let log = site.folder.path().join("audit.jsonl");
    let (_, from_log) = said(&["policy", "shadow", "--file", log.to_str().unwrap()]);
    assert_eq!(from_log, told, "the log says the same");
    // A plan.
    std::fs::create_dir(site.folder.path().join("next")).unwrap();
    site.write(
        "next/shop.cedar",
        &RULES.replace("\"sales\"", "\"retail\"").replace("@id(\"embargo\")", "@id(\"ban\")"),
    );
    site.write("new.yaml", &site.config_text().replace("policies/*.cedar", "next/*.cedar"));
    let new = site.folder.path().join("new.yaml");
    let plan = Belay::output(&["plan", new.to_str().unwrap()]);
    let told = String::from_utf8(plan.stdout).unwrap();
    assert_eq!(plan.status.code(), Some(77), "{told}");
    for line in [
        "policies.ban is new: forbid\n",
        "policies.embargo is gone: forbid\n",
        "policies.guard is gone: forbid, locked\n",
        "policies.sales-by-path is another: permit\n",
        "--accept policies.guard.locked",
    ] {
        assert!(told.contains(line), "{line}: {told}");
    }
    let (_, schema) = said(&["policy", "schema"]);
    assert!(
        schema.contains("entity Caller in [Workload, Role]") && schema.contains("\"country\"?: String"),
        "{schema}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_brings_back_the_rules_of_then() {
    let login = Login::new("l-1");
    let running = Running::started_at(|site| {
        prepare(site, &login, LOCKED);
        std::fs::create_dir(site.folder.path().join("history")).unwrap();
        let text = format!("{}admin: {{ http: '127.0.0.1:0' }}\nhistory: {{ dir: history }}\n", site.config_text());
        let text: Vec<_> =
            config(&with_socket(text), "").lines().filter(|line| !line.contains("live")).map(str::to_owned).collect();
        site.write("belay.yaml", &text.join("\n"));
    });
    let Running { site, belay } = running.await;
    let running = Running::healthy(site, belay).await;
    let site = &running.site;
    let generations = || {
        let told: Value = serde_json::from_str(&command(site, &["history", "--json"]).out).unwrap();
        told["generations"].as_array().unwrap().len()
    };
    let is_live = |count: usize| eventually("the generation", || (generations() == count).then_some(()));
    let ask = async |target| site.ask_at(running.address(), &Ask::get(target)).await.status;
    site.write("policies/more.cedar", "@id(\"more\") forbid(principal, action, resource == Route::\"orders\");");
    is_live(2);
    assert_eq!(ask("/orders/7").await, 403);
    let said = command(site, &["rollback", "1"]);
    assert!(
        said.code == Some(78) && said.err.contains("was not there in that generation"),
        "{:?} {}",
        said.code,
        said.err
    );
    assert!(said.err.contains("policies/more.cedar"), "{}", said.err);
    std::fs::remove_file(site.folder.path().join("policies/more.cedar")).unwrap();
    assert_eq!(command(site, &["reload"]).code, Some(0));
    is_live(3);
    site.write(
        "policies/shop.cedar",
        &format!("{LOCKED}@id(\"more\") forbid(principal, action, resource == Route::\"orders\");"),
    );
    is_live(4);
    assert_eq!(ask("/orders/8").await, 403);
    let said = command(site, &["rollback", "1"]);
    assert_eq!(said.code, Some(0), "{}", said.err);
    assert_eq!((ask("/orders/8").await, ask("/orders/9").await), (200, 403), "the file does not count as it is");
    // A start asks nobody, and says it.
    let Running { site, belay } = running;
    belay.stop();
    site.write("policies/shop.cedar", "@id(\"other\") forbid(principal, action, resource == Route::\"reports\");");
    let started = Belay::start(&["run", "--json", "-c", site.config().to_str().unwrap()]);
    let (_, said) = started.stop();
    assert!(said.contains("the guardrail `policies.guard` is gone since the last generation"), "{said}");
}

/// Tests of the policy, and what is told of them.
#[test_case("expect: allow", "", 0, "8 of 8 tests passed; "; "all pass")]
#[test_case("bot_score: 81", "bot_score: 80", 1, "it is allowed, and is to be denied: decided by routes.orders.allow.checkout"; "one fails")]
#[test_case("rule: policies.no-bots", "rule: policies.other", 1, "it is denied by policies.no-bots, and is to be so by policies.other"; "by another rule")]
#[test_case("- who: reports", "- who: report", 1, "there is no workload `report`: did you mean `reports`?"; "nobody")]
#[test_case("facts: { bot_score: 81 }", "facts: { bot_scor: 81 }", 1, "there is no fact that he may assert, `bot_scor`: did you mean `bot_score`?"; "no fact")]
#[test_case("GET https://origin.example.net/orders/7\n  expect: deny", "GET https://origin.example.org/orders/7\n  expect: deny", 1, "no route takes it, so that nothing is decided of it"; "no route")]
#[test_case("- who: reports", "- whoo: reports", 65, "did you mean `who`?"; "a key that is none")]
#[test_case("at: 2026-11-24T22:00:00Z", "at: tonight", 65, "`tonight` is no time"; "no time")]
fn tests_of_the_policy(old: &str, new: &str, code: i32, expected: &str) {
    let folder = tempfile::tempdir().unwrap();
    let copied = |from: &str, edit: &dyn Fn(String) -> String| {
        let to = folder.path().join(from.trim_start_matches("conf/"));
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::write(to, edit(std::fs::read_to_string(from).unwrap())).unwrap();
    };
    copied("conf/policies/shop.cedar", &|text| text);
    copied("conf/policies/shop.test.yaml", &|text| if new.is_empty() { text } else { text.replacen(old, new, 1) });
    copied("conf/belay.yaml", &|text| text);
    std::fs::create_dir(folder.path().join("people")).unwrap();
    std::fs::write(folder.path().join("people/staff.yaml"), "{}").unwrap();
    let config = folder.path().join("belay.yaml");
    let output = Belay::output(&["policy", "test", "-c", config.to_str().unwrap()]);
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{text}");
    assert!(text.contains(expected), "{text}");
}
