use super::super::{Answer, AtRoute, Declared, Question, RouteWords, RuleSet, Ruling, Said, Source, Type, Words};
use crate::clock::Timestamp;
use crate::identity::{Asserted, ClaimPath};
use crate::name::{GroupName, PeopleName, RoleName, RouteName, WorkloadName};
use crate::policy::{Access, AllowList, joined};
use crate::principal::{Principal, SpiffeId, User, Workload};
use crate::refusal::Refusal;
use crate::request::{Facts, Protocol};
use crate::verdict::RuleId;
use http::Method;
use proptest::prelude::*;
use serde_json::{Map, Value, json};
use std::{net::IpAddr, path::Path, sync::Arc};
use test_case::test_case;

/// Sunday, 2026-11-22, 13:00 UTC.
const NOW: i64 = 1_795_352_400;

fn declared(name: &str, is: Type) -> Declared {
    let of = vec![PeopleName::parse("staff").unwrap()];
    Declared { name: name.into(), path: ClaimPath::parse(name).unwrap(), is, of }
}

fn words() -> Words {
    let route = |name: &str, groups: &[&str], methods: Option<Vec<Method>>| RouteWords {
        name: RouteName::parse(name).unwrap(),
        groups: groups.iter().map(|name| GroupName::parse(name).unwrap()).collect(),
        methods,
        has_facts: name != "catalog",
        has_users: true,
    };
    Words {
        workloads: ["checkout", "reports"].iter().map(|name| WorkloadName::parse(name).unwrap()).collect(),
        roles: ["support", "admin"].iter().map(|name| RoleName::parse(name).unwrap()).collect(),
        routes: vec![
            route("orders", &["shop"], None),
            route("admin", &[], None),
            route("catalog", &["shop"], Some(vec![Method::GET])),
        ],
        claims: vec![
            declared("department", Type::Text),
            declared("level", Type::Number),
            declared("realm.groups", Type::Texts),
        ],
        facts: vec![
            declared("country", Type::Text),
            declared("score", Type::Number),
            declared("bot", Type::Truth),
            declared("tags", Type::Texts),
        ],
    }
}

fn rules(text: &str) -> RuleSet {
    let source = Source { file: Path::new("policies/a.cedar"), text };
    let read = RuleSet::read(&words(), &[source]);
    read.unwrap_or_else(|faults| panic!("{faults:?}")).0
}

/// What is asked, said shortly.
#[derive(Debug, Clone)]
struct Ask {
    workload: Option<&'static str>,
    roles: Vec<&'static str>,
    claims: Option<Value>,
    facts: Value,
    method: Method,
    path: String,
    client: Option<IpAddr>,
    at: i64,
}

impl Default for Ask {
    fn default() -> Self {
        Self {
            workload: Some("checkout"),
            roles: Vec::new(),
            claims: None,
            facts: json!({}),
            method: Method::GET,
            path: "/orders/7".into(),
            client: None,
            at: NOW,
        }
    }
}

impl Ask {
    fn principal(&self) -> Principal {
        let Some(name) = self.workload else { return Principal::Anonymous };
        let roles: Box<[_]> = self.roles.iter().map(|name| RoleName::parse(name).unwrap()).collect();
        let id = SpiffeId::parse("spiffe://example.com/worker/checkout").unwrap();
        let name = WorkloadName::parse(name).unwrap();
        let Some(claims) = &self.claims else { return Principal::Workload(Arc::new(Workload { name, id, roles })) };
        let user = User {
            people: PeopleName::parse("staff").unwrap(),
            issuer: "https://login.example.com".into(),
            subject: "ada".into(),
            roles: roles.clone(),
            claims: claims.as_object().unwrap().clone(),
            expires: i64::MAX,
            token: crate::identity::Thumbprint::of(format!("{claims}{roles:?}").as_bytes()).bytes(),
        };
        let workload = Workload { name, id, roles: Box::default() };
        Principal::User(Arc::new(workload), Arc::new(user))
    }

    fn with<T>(&self, ask: impl FnOnce(&Question<'_>) -> T) -> T {
        let principal = self.principal();
        let facts = Facts {
            method: self.method.clone(),
            authority: "shop.example".into(),
            host: "shop.example".into(),
            target: self.path.as_str().into(),
            path: crate::request::Path::read(&self.path).unwrap(),
            protocol: Protocol::Http2,
        };
        let object: Map<String, Value> = self.facts.as_object().unwrap().clone();
        let asserted: Asserted = object.into_iter().map(|(name, value)| (name.into(), value)).collect();
        let now = Timestamp::from_unix_seconds(self.at);
        let tls = Some("1.3");
        ask(&Question {
            principal: &principal,
            facts: &facts,
            client: self.client,
            tls,
            asserted: Some(&asserted),
            now,
        })
    }

    /// What is said, remembered and anew; they must be the same.
    fn of(&self, rules: &AtRoute) -> Ruling {
        self.with(|question| {
            let [first, again] = [rules.judge(question), rules.judge(question)];
            let anew = rules.judge_anew(question);
            assert_eq!((&first, &again), (&anew, &anew), "{self:?}");
            anew.unwrap_or_else(|| ruling(Answer::Silent, &[]))
        })
    }
}

fn ruling(answer: Answer, by: &[&str]) -> Ruling {
    let by = by.iter().map(|rule| RuleId::new(rule)).collect();
    Ruling { said: Arc::new(Said { answer, by }), shadow: None }
}

fn at(rules: &RuleSet, route: &str) -> AtRoute {
    rules.at(&RouteName::parse(route).unwrap()).expect("rules for the route")
}

fn user(claims: Value) -> Ask {
    Ask { claims: Some(claims), ..Ask::default() }
}

fn with_facts(facts: Value) -> Ask {
    Ask { facts, ..Ask::default() }
}

#[test_case("true", &Ask::default(), true; "everybody")]
#[test_case("principal in Workload::\"checkout\"", &Ask::default(), true; "a workload")]
#[test_case("principal in Workload::\"reports\"", &Ask::default(), false; "another workload")]
#[test_case("principal in Role::\"support\"", &Ask { roles: vec!["support"], ..Ask::default() }, true; "a role")]
#[test_case("principal in Role::\"support\"", &Ask { roles: vec!["admin"], ..Ask::default() }, false; "another role")]
#[test_case("principal has user && principal.user == \"https://login.example.com|ada\"", &user(json!({})), true; "a user")]
#[test_case("principal has user", &Ask::default(), false; "no user")]
#[test_case("principal.claims has department && principal.claims.department == \"sales\"", &user(json!({ "department": "sales" })), true; "a claim")]
#[test_case("principal.claims has department && principal.claims.department == \"sales\"", &user(json!({ "department": "it" })), false; "another claim")]
#[test_case("principal.claims has department", &user(json!({ "department": null })), false; "a claim that is null")]
#[test_case("principal.claims has level && principal.claims.level >= 3", &user(json!({ "level": 3 })), true; "a level")]
#[test_case("principal.claims has level && principal.claims.level >= 3", &user(json!({ "level": 2 })), false; "a lower level")]
#[test_case("principal.claims has \"realm.groups\" && principal.claims[\"realm.groups\"].contains(\"sre\")", &user(json!({ "realm": { "groups": ["sre"] } })), true; "a group")]
#[test_case("principal.claims has \"realm.groups\" && principal.claims[\"realm.groups\"].contains(\"sre\")", &user(json!({ "realm": { "groups": "sre" } })), true; "a single group")]
#[test_case("context.facts has country && [\"DE\", \"CH\"].contains(context.facts.country)", &with_facts(json!({ "country": "CH" })), true; "a country")]
#[test_case("context.facts has country && [\"DE\", \"CH\"].contains(context.facts.country)", &with_facts(json!({ "country": "FR" })), false; "another country")]
#[test_case("context.facts has country", &with_facts(json!({})), false; "no country")]
#[test_case("context.facts has score && context.facts.score > 30", &with_facts(json!({ "score": 31 })), true; "a score")]
#[test_case("context.facts has score && 30 < context.facts.score", &with_facts(json!({ "score": 30 })), false; "turned round")]
#[test_case("context.facts has bot && !context.facts.bot", &with_facts(json!({ "bot": false })), true; "no bot")]
#[test_case("context.facts has bot && context.facts.bot", &with_facts(json!({ "bot": false })), false; "a bot")]
#[test_case("context.facts has tags && context.facts.tags.containsAny([\"a\", \"b\"])", &with_facts(json!({ "tags": ["b"] })), true; "a tag")]
#[test_case("context.facts has tags && context.facts.tags.containsAll([\"a\", \"b\"])", &with_facts(json!({ "tags": ["b"] })), false; "not all tags")]
#[test_case("context has client && context.client.isInRange(ip(\"10.0.0.0/8\"))", &Ask { client: Some("10.1.2.3".parse().unwrap()), ..Ask::default() }, true; "a network")]
#[test_case("context has client && context.client.isInRange(ip(\"10.0.0.0/8\"))", &Ask { client: Some("11.1.2.3".parse().unwrap()), ..Ask::default() }, false; "another network")]
#[test_case("context has client && context.client.isInRange(ip(\"10.0.0.0/8\"))", &Ask { client: Some("::ffff:10.1.2.3".parse().unwrap()), ..Ask::default() }, true; "IPv4 in IPv6")]
#[test_case("context has client && context.client == ip(\"2001:db8::1\")", &Ask { client: Some("2001:db8::1".parse().unwrap()), ..Ask::default() }, true; "an address")]
#[test_case("context.path like \"/orders/*\"", &Ask::default(), true; "a path")]
#[test_case("context.path like \"/orders/*/items\"", &Ask::default(), false; "another path")]
#[test_case("context.path like \"*7\"", &Ask::default(), true; "a path's end")]
#[test_case("context.path like \"/orders/7*7\"", &Ask::default(), false; "nothing is both start and end")]
#[test_case("context.host == \"shop.example\"", &Ask::default(), true; "a host")]
#[test_case("context.hour >= 8 && context.hour < 18", &Ask::default(), true; "working hours")]
#[test_case("context.hour >= 8 && context.hour < 18", &Ask { at: NOW + 6 * 3600, ..Ask::default() }, false; "the evening")]
#[test_case("context.weekday == 7", &Ask::default(), true; "a Sunday")]
#[test_case("context.time < datetime(\"2027-01-01\")", &Ask::default(), true; "before a day")]
#[test_case("context.time < datetime(\"2026-11-22T12:59:59Z\")", &Ask::default(), false; "after a moment")]
#[test_case("context.mfa", &user(json!({ "amr": ["pwd", "mfa"] })), true; "several factors")]
#[test_case("context.mfa", &user(json!({ "amr": ["pwd"] })), false; "one factor")]
#[test_case("context has tls && context.tls == \"1.3\"", &Ask::default(), true; "a TLS version")]
#[test_case("action in Action::\"read\"", &Ask::default(), true; "a group of actions")]
#[test_case("action == Action::\"OTHER\"", &Ask { method: Method::from_bytes(b"PURGE").unwrap(), ..Ask::default() }, true; "a method without a name")]
#[test_case("resource in RouteGroup::\"shop\"", &Ask::default(), true; "a group of routes")]
fn a_condition_holds(condition: &str, ask: &Ask, holds: bool) {
    let expected = |yes, id: &str| if holds { (yes, vec![format!("policies.{id}")]) } else { (Answer::Silent, vec![]) };
    for (effect, yes) in [("permit", Answer::Permitted), ("forbid", Answer::Forbidden)] {
        let rules = rules(&format!("@id(\"it\") {effect}(principal, action, resource) when {{ {condition} }};"));
        let said = ask.of(&at(&rules, "orders")).said;
        let by: Vec<_> = said.by.iter().map(ToString::to_string).collect();
        assert_eq!((said.answer, by), expected(yes, "it"), "{effect}");
    }
}

/// Rules whose condition reads something that is of another type are no rule's to pass over.
#[test_case("principal.claims has department", &user(json!({ "department": 7 })), "principal.claims.department")]
#[test_case("principal.claims has level", &user(json!({ "level": 1.5 })), "principal.claims.level"; "no whole number")]
#[test_case("principal.claims has \"realm.groups\"", &user(json!({ "realm": { "groups": ["a", 1] } })), "principal.claims.realm.groups"; "a list of all sorts")]
#[test_case("context.facts has country", &with_facts(json!({ "country": ["DE"] })), "context.facts.country"; "a list")]
#[test_case("context.facts has bot && context.facts.bot", &with_facts(json!({ "bot": "true" })), "context.facts.bot"; "a text")]
#[test_case("context has facts.bot", &with_facts(json!({ "bot": "true" })), "context.facts.bot"; "asked for at once")]
#[test_case("principal has claims.level", &user(json!({ "level": "3" })), "principal.claims.level"; "a claim asked for at once")]
#[test_case("{ it: context.facts }.it has bot", &with_facts(json!({ "bot": "true" })), "context.facts.bot"; "in a record")]
#[test_case("{ it: principal }.it.claims has level", &user(json!({ "level": "3" })), "principal.claims.level"; "of a principal in a record")]
#[test_case("(if context.mfa then context.facts else context.facts) has bot", &with_facts(json!({ "bot": 1 })), "context.facts.bot"; "by a condition")]
fn what_is_mistyped_is_refused(condition: &str, ask: &Ask, place: &str) {
    let text = format!("@id(\"it\") forbid(principal, action, resource) when {{ {condition} }};");
    assert_eq!(ask.of(&at(&rules(&text), "orders")), ruling(Answer::Mistyped, &[place]));
    // What is only tried out refuses nothing.
    let text = format!("@id(\"it\") @shadow forbid(principal, action, resource) when {{ {condition} }};");
    let shadow = ask.of(&at(&rules(&text), "orders"));
    assert_eq!((shadow.said.answer, shadow.shadow.unwrap().answer), (Answer::Silent, Answer::Mistyped));
}

#[test]
fn a_rule_that_cannot_be_judged_lets_nobody_in() {
    let text = "@id(\"all\") permit(principal, action, resource);
        @id(\"sum\") forbid(principal, action, resource) when { context.facts has score && context.facts.score + 1 > 5 };";
    let said = with_facts(json!({ "score": i64::MAX })).of(&at(&rules(text), "orders"));
    assert_eq!(said, ruling(Answer::Failed, &["policies.sum"]));
}

const SEVERAL: &str = r#"
@id("readers") permit(principal in Role::"support", action in Action::"read", resource in RouteGroup::"shop");
@id("writers") permit(principal in Role::"admin", action, resource);
@id("no-bots") @locked forbid(principal, action, resource) when { context.facts has bot && context.facts.bot };
@id("new") @shadow forbid(principal, action in Action::"write", resource) when { !context.mfa };
@id("wide") @shadow permit(principal in Workload::"reports", action, resource);
"#;

#[test_case("orders", &Ask { roles: vec!["support"], ..Ask::default() }, Answer::Permitted, Some("policies.readers"), None)]
#[test_case("orders", &Ask { roles: vec!["support"], method: Method::POST, ..Ask::default() }, Answer::Silent, None, Some((Answer::Forbidden, "policies.new")); "a support writes")]
#[test_case("admin", &Ask { roles: vec!["support"], ..Ask::default() }, Answer::Silent, None, None; "not in the group")]
#[test_case("admin", &Ask { roles: vec!["admin"], method: Method::POST, ..Ask::default() }, Answer::Permitted, Some("policies.writers"), Some((Answer::Forbidden, "policies.new")); "an admin writes")]
#[test_case("admin", &Ask { roles: vec!["admin"], facts: json!({ "bot": true }), ..Ask::default() }, Answer::Forbidden, Some("policies.no-bots"), None; "an admin's bot")]
#[test_case("catalog", &Ask { workload: Some("reports"), ..Ask::default() }, Answer::Silent, None, Some((Answer::Permitted, "policies.wide")); "tried out")]
#[test_case("catalog", &Ask { workload: None, facts: json!({ "bot": true }), ..Ask::default() }, Answer::Forbidden, Some("policies.no-bots"), None; "nobody's bot")]
fn several_rules(route: &str, ask: &Ask, answer: Answer, by: Option<&str>, shadow: Option<(Answer, &str)>) {
    let ruling = ask.of(&at(&rules(SEVERAL), route));
    let tried = ruling.shadow.as_ref().filter(|said| said.answer != Answer::Silent);
    let told = tried.map(|said| (said.answer, said.by[0].as_str()));
    assert_eq!((ruling.said.answer, ruling.said.by.first().map(RuleId::as_str), told), (answer, by, shadow));
}

#[test_case("permit(principal, action, resource);", "a rule has a name, which stands in every record", "write `@id(")]
#[test_case("@id(\"a b\") permit(principal, action, resource);", "a rule has a name, which stands in every record", "write `@id("; "a name with a space")]
#[test_case("@id(\"a\") permit(principal, action, resource);\n@id(\"a\") forbid(principal, action, resource);", "the rule `a` stands in policies/a.cedar too", "an `@id` of its own"; "one name twice")]
#[test_case(
    "@id(\"a\") @lockd forbid(principal, action, resource);",
    "there is no annotation `@lockd`",
    "did you mean `@locked`?"
)]
#[test_case(
    "@id(\"a\") @locked permit(principal, action, resource);",
    "only a `forbid` that counts can be `@locked`",
    "keeps out"
)]
#[test_case(
    "@id(\"a\") permit(principal == ?principal, action, resource);",
    "a rule with a slot is for nobody",
    "write out"
)]
#[test_case(
    "@id(\"a\") permit(principal in Role::\"suport\", action, resource);",
    "there is no role `suport`",
    "did you mean `support`?"
)]
#[test_case(
    "@id(\"a\") permit(principal, action, resource == Route::\"order\");",
    "there is no route `order`",
    "did you mean `orders`?"
)]
#[test_case(
    "@id(\"a\") permit(principal, action, resource in RouteGroup::\"shp\");",
    "there is no group of routes `shp`",
    "did you mean `shop`?"
)]
#[test_case(
    "@id(\"a\") permit(principal in Workload::\"chekout\", action, resource);",
    "there is no workload `chekout`",
    "did you mean `checkout`?"
)]
#[test_case(
    "@id(\"a\") permit(principal == Caller::\"checkout\", action, resource);",
    "a rule names no caller by himself",
    "principal in Workload"
)]
#[test_case(
    "@id(\"a\") permit(principal, action == Action::\"GTE\", resource);",
    "unrecognized action `Action::\"GTE\"`",
    "did you mean `Action::\"GET\"`?"
)]
#[test_case(
    "@id(\"a\") permit(principal, action, resource) when { context.pth == \"/\" };",
    "attribute `pth`",
    "did you mean `path`?"
)]
#[test_case("@id(\"a\") permit(principal, action, resource) when { context.facts.country == \"DE\" };", "optional attribute `facts.country`", "context.facts has country"; "without asking whether it is there")]
#[test_case("@id(\"a\") permit(principal, action, resource) when { context.hour == \"8\" };", "", ""; "a number and a text")]
#[test_case("@id(\"a\") permit(principal, action, resource) when { context.path == };", "unexpected token", ""; "no Cedar")]
fn a_fault_is_told(text: &str, message: &str, hint: &str) {
    let source = Source { file: Path::new("policies/a.cedar"), text };
    let faults = RuleSet::read(&words(), &[source]).unwrap_err();
    let fault = faults.iter().find(|fault| !fault.is_warning).unwrap();
    let told = fault.hint.clone().unwrap_or_default();
    assert!(fault.message.contains(message) && told.contains(hint), "{fault:?}");
    assert!(text.get(fault.place.0..).is_some(), "{fault:?}");
}

#[test_case("@id(\"a\") permit(principal, action, resource) when { context.path == \"/a\" && false };"; "false")]
#[test_case("@id(\"a\") permit(principal, action == Action::\"POST\", resource == Route::\"catalog\");"; "a method that the route does not take")]
fn a_rule_that_never_matches_is_told(text: &str) {
    let source = Source { file: Path::new("policies/a.cedar"), text };
    let (_, warnings) = RuleSet::read(&words(), &[source]).unwrap();
    assert!(matches!(warnings.as_slice(), [warning] if warning.is_warning), "{warnings:?}");
}

#[test_case("@id(\"a\") permit(principal in Role::\"support\", action, resource) when { context.mfa };", &Ask::default(), "policies.a wants principal in Role::\"support\"")]
#[test_case("@id(\"a\") permit(principal in Role::\"support\", action, resource) when { context.mfa };", &Ask { roles: vec!["support"], ..Ask::default() }, "policies.a wants context.mfa"; "a condition")]
#[test_case("@id(\"a\") permit(principal, action, resource) when { context.facts has country && context.facts.country == \"DE\" };", &with_facts(json!({ "country": "FR" })), "policies.a wants context.facts.country == \"DE\""; "the second of two")]
#[test_case("@id(\"a\") permit(principal, action, resource) unless { context.weekday == 7 };", &Ask::default(), "policies.a wants !context.weekday == 7"; "unless")]
fn a_near_miss_is_told(text: &str, ask: &Ask, expected: &str) {
    let rules = at(&rules(text), "orders");
    let told = ask.with(|question| rules.near_misses(question));
    assert!(matches!(told.as_slice(), [only] if only.replace(['(', ')'], "") == expected), "{told:?}");
}

#[test]
fn a_claim_is_of_whom_it_is_declared_for() {
    let text = "@id(\"a\") permit(principal, action, resource) when { principal.claims has department };";
    let mut words = words();
    words.claims.iter_mut().for_each(|claim| claim.of = vec![PeopleName::parse("customers").unwrap()]);
    let source = Source { file: Path::new("policies/a.cedar"), text };
    let rules = RuleSet::read(&words, &[source]).unwrap().0;
    assert_eq!(user(json!({ "department": "finance" })).of(&at(&rules, "orders")).said.answer, Answer::Silent);
    assert_eq!(user(json!({ "department": 7 })).of(&at(&rules, "orders")).said.answer, Answer::Silent);
}

#[test_case("forbid(principal, action, resource) when { context has facts.country };", true; "of all routes")]
#[test_case("forbid(principal, action, resource == Route::\"orders\") when { context has facts.country };", false; "where they are")]
#[test_case("permit(principal, action, resource) when { context has facts.country };", false; "which lets nobody in there")]
fn a_rule_that_reads_what_nobody_brings_is_told(rule: &str, is_told: bool) {
    let text = format!("@id(\"a\") {rule}");
    let source = Source { file: Path::new("policies/a.cedar"), text: &text };
    let (_, warnings) = RuleSet::read(&words(), &[source]).unwrap();
    let told = "nobody brings context.facts.country to catalog, so the rule forbids nothing there";
    assert_eq!(warnings.iter().any(|warning| warning.message == told), is_told, "{warnings:?}");
}

#[test]
fn what_rules_read_is_told() {
    let text = "@id(\"a\") permit(principal, action, resource == Route::\"orders\") when {
        principal.claims has department && principal.claims.department == \"it\" && context.mfa
        && context.facts has country && context.path == \"/\" };";
    let ask = Ask { facts: json!({ "country": "DE", "score": 3 }), ..user(json!({ "department": "it", "level": 1 })) };
    let read = ask.with(|question| at(&rules(text), "orders").read(question));
    let expected = json!({ "principal.claims.department": "it", "context.mfa": false, "context.facts.country": "DE" });
    assert_eq!(serde_json::to_value(read).unwrap(), expected);
    let none = RuleSet::read(&words(), &[Source { file: Path::new("a"), text }]).unwrap().0;
    assert!(none.at(&RouteName::parse("admin").unwrap()).is_none(), "no rule says anything there");
}

/// Conditions of all kinds: atoms, what goes beyond them, and what is the same for all requests of somebody.
const CONDITIONS: [&str; 27] = [
    "context has facts.country",
    "context has facts.country && context.facts.country != \"DE\"",
    "principal has claims.level && principal.claims.level == 4",
    "{ it: context.facts }.it has tags",
    "context.time < datetime(\"2026-11-23\")",
    "context.time >= datetime(\"2026-11-22T13:00:00.500Z\")",
    "context == context && context.facts has bot",
    "context.mfa",
    "context.path like \"/orders/*\"",
    "context.path like \"*/7\"",
    "context.path == \"/admin\"",
    "context.path != \"/orders/7\"",
    "context has client && context.client.isInRange(ip(\"10.0.0.0/8\"))",
    "context has client && context.client == ip(\"2001:db8::1\")",
    "context has client && context.client.isIpv4()",
    "context.facts has country && [\"DE\", \"FR\"].contains(context.facts.country)",
    "context.facts has score && context.facts.score >= 30",
    "context.facts has score && 50 > context.facts.score",
    "context.facts has score && context.facts.score + 1 > 40",
    "context.facts has bot && context.facts.bot",
    "context.facts has tags && context.facts.tags.containsAny([\"a\", \"b\"])",
    "context.hour < 12",
    "context.weekday == 7",
    "context.time > datetime(\"2026-11-22T14:00:00Z\")",
    "principal.claims has level && principal.claims.level > 2",
    "principal.claims has level && context.facts has score && principal.claims.level < context.facts.score",
    "principal in Role::\"support\"",
];

fn any_rules() -> impl Strategy<Value = String> {
    let condition = proptest::sample::select(&CONDITIONS[..]);
    let joined = proptest::collection::vec((condition, any::<bool>()), 1..4).prop_map(|parts| {
        let part = |(text, plain): (&str, bool)| if plain { format!("({text})") } else { format!("!({text})") };
        parts.into_iter().map(part).collect::<Vec<_>>().join(" && ")
    });
    let scope = proptest::sample::select(
        &[
            "principal, action, resource",
            "principal in Role::\"support\", action, resource",
            "principal in Workload::\"checkout\", action in Action::\"read\", resource",
            "principal, action, resource in RouteGroup::\"shop\"",
            "principal, action == Action::\"POST\", resource == Route::\"orders\"",
        ][..],
    );
    let effect = proptest::sample::select(&["permit", "permit", "forbid", "@shadow permit", "@shadow forbid"][..]);
    proptest::collection::vec((effect, scope, joined), 1..6).prop_map(|rules| {
        let rule = |(number, (effect, scope, condition)): (usize, (&str, &str, String))| {
            let condition = if condition.contains("false") { "true".to_owned() } else { condition };
            format!("@id(\"r{number}\") {effect}({scope}) when {{ {condition} }};")
        };
        rules.into_iter().enumerate().map(rule).collect::<Vec<_>>().join("\n")
    })
}

fn any_ask() -> impl Strategy<Value = Ask> {
    let facts = (
        proptest::option::of(proptest::sample::select(&["DE", "FR", "US"][..])),
        proptest::option::of(prop_oneof![
            Just(json!(29)),
            Just(json!(30)),
            Just(json!(45)),
            Just(json!(i64::MAX)),
            Just(json!("x"))
        ]),
        proptest::option::of(any::<bool>()),
        proptest::option::of(proptest::sample::subsequence(vec!["a", "b", "c"], 0..3)),
    );
    let claims = proptest::option::of((proptest::option::of(0..5_i64), any::<bool>()));
    let clients = proptest::sample::select(&["10.1.2.3", "11.0.0.1", "2001:db8::1", "::ffff:10.0.0.1"][..]);
    (
        (any::<bool>(), proptest::sample::subsequence(vec!["support", "admin"], 0..3), claims, facts),
        (
            proptest::sample::select(&["GET", "POST", "PURGE"][..]),
            proptest::sample::select(&["/orders/7", "/orders/8", "/admin", "/"][..]),
            proptest::option::of(clients),
            0..48_i64,
        ),
    )
        .prop_map(|((is_checkout, roles, claims, (country, score, bot, tags)), (method, path, client, hours))| {
            let facts = [
                ("country", country.map(Value::from)),
                ("score", score),
                ("bot", bot.map(Value::from)),
                ("tags", tags.map(Value::from)),
            ];
            let known = facts.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
            Ask {
                workload: Some(if is_checkout { "checkout" } else { "reports" }),
                // Those of a workload are the same, whoever comes through it.
                roles: match &claims {
                    Some(_) => roles,
                    None if is_checkout => vec!["support"],
                    None => Vec::new(),
                },
                claims: claims
                    .map(|(level, mfa)| json!({ "level": level, "amr": if mfa { vec!["mfa"] } else { vec![] } })),
                facts: Value::Object(known.collect()),
                method: method.parse().unwrap(),
                path: path.into(),
                client: client.map(|text| text.parse().unwrap()),
                at: NOW + hours * 3600,
            }
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    /// What is remembered is what Cedar says, whatever was asked before.
    #[test]
    fn remembered_is_as_good_as_new(text in any_rules(), asks in proptest::collection::vec(any_ask(), 24)) {
        let source = Source { file: Path::new("a.cedar"), text: &text };
        let (rules, _) = RuleSet::read(&words(), &[source]).unwrap();
        for route in ["orders", "admin"] {
            if let Some(rules) = rules.at(&RouteName::parse(route).unwrap()) {
                asks.iter().for_each(|ask| drop(ask.of(&rules)));
            }
        }
    }

    /// A list says what the same rules in Cedar say.
    #[test]
    fn a_list_is_as_good_as_rules(names in proptest::sample::subsequence(vec!["checkout", "reports", "support", "admin"], 1..4), ask in any_ask()) {
        let mut list = AllowList::default();
        let mut text = String::new();
        for name in names {
            let rule = RuleId::new(&format!("routes.orders.allow.{name}"));
            let kind = match WorkloadName::parse(name).unwrap() {
                name if words().workloads.contains(&name) => { list.workloads.insert(name, rule); "Workload" }
                _ => { list.roles.insert(RoleName::parse(name).unwrap(), rule); "Role" }
            };
            text.push_str(&format!("@id(\"{name}\") permit(principal in {kind}::\"{name}\", action, resource);\n"));
        }
        let ruling = ask.of(&at(&rules(&text), "orders"));
        let by_rules = joined(None, Some(&ruling)).map_err(|denial| denial.refusal);
        let access = Access::Listed(list);
        let by_list = joined(crate::policy::rule_for(&access, &ask.principal()), None);
        let by_list = by_list.map_err(|denial| denial.refusal);
        prop_assert_eq!(by_rules.is_ok(), by_list.is_ok());
        prop_assert_eq!(by_rules.err(), by_list.err());
    }
}

#[test_case(None, Answer::Silent, Err(Refusal::NotAllowed))]
#[test_case(None, Answer::Permitted, Ok("policies.it"))]
#[test_case(None, Answer::Forbidden, Err(Refusal::Forbidden))]
#[test_case(Some("list"), Answer::Silent, Ok("list"); "the list alone")]
#[test_case(Some("list"), Answer::Permitted, Ok("list"); "both")]
#[test_case(Some("list"), Answer::Forbidden, Err(Refusal::Forbidden); "forbid wins")]
#[test_case(Some("list"), Answer::Failed, Err(Refusal::RuleFailed); "no judgement is no yes")]
#[test_case(Some("list"), Answer::Mistyped, Err(Refusal::FactMistyped); "nor is a wrong type")]
fn list_and_rules_together(listed: Option<&str>, answer: Answer, expected: Result<&str, Refusal>) {
    let listed = listed.map(RuleId::new);
    let said = joined(listed.as_ref(), Some(&ruling(answer, &["policies.it"])));
    let said = said.as_ref().map(|(rule, _)| rule.as_str()).map_err(|denial| denial.refusal);
    assert_eq!(said, expected);
}

#[test_case(Some("list"), Answer::Forbidden, Some(false); "it would keep out")]
#[test_case(Some("list"), Answer::Permitted, None; "who is in already")]
#[test_case(None, Answer::Permitted, Some(true); "it would let in")]
#[test_case(None, Answer::Forbidden, None; "who is out already")]
fn what_is_tried_out_changes_nothing(listed: Option<&str>, tried: Answer, would_allow: Option<bool>) {
    let listed = listed.map(RuleId::new);
    let shadow = Some(ruling(tried, &["policies.it"]).said);
    let said = joined(listed.as_ref(), Some(&Ruling { shadow, ..ruling(Answer::Silent, &[]) }));
    assert_eq!(said.is_ok(), listed.is_some());
    let shadow = said.map_or_else(|denial| denial.shadow, |(_, shadow)| shadow);
    assert_eq!(shadow.map(|shadow| shadow.would_allow), would_allow);
}
