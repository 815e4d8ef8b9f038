//! Users who come through workloads: their tokens, their roles, and what the origin is told of them.

use crate::support::login::{ISSUER, Login, claims};
use crate::support::{Ask, HOST, NOW, Site, World};
use serde_json::{Value, json};
use test_case::test_case;

const PEOPLE: &str = "\
people:
  staff: { issuer: 'https://login.example.com', audience: 'api://shop', jwks: 'file:jwks.json' }
roles:
  support: { people: staff, claim: groups, has: [support, sre], through: [checkout] }
";

const ADMIN: &str = "\
routes:
  - name: admin
    match: { host: shop.example.com, path: /admin/** }
    identity: mtls+jwt+user
    allow: [support]
    pool: shop
";

/// The usual config with people and a route for some of them, edited.
async fn with(login: &Login, edit: impl FnOnce(String) -> String) -> World {
    let site = Site::new(NOW).await;
    site.write("jwks.json", &login.jwks());
    let world = World::before_checks(site, |text| edit(text.replace("roles:\n", PEOPLE).replace("routes:\n", ADMIN)));
    world.is_healthy().await;
    world
}

fn last(world: &World) -> Value {
    world.records_of("decision").pop().unwrap()
}

#[tokio::test]
async fn a_user_comes_through_a_workload() {
    let login = Login::new("l-1");
    let world = with(&login, |text| text).await;
    for h2 in [false, true] {
        let ask = Ask { h2, ..Ask::get("/admin/orders").for_user(&login.token("ada", &["support"])) };
        let spoofed = ask.header("Belay-User", "root").header("belay_roles", "admin");
        let echo = world.ask(&spoofed).await.echo();
        let told = &echo["headers"];
        assert_eq!(told["belay-workload"], "checkout");
        assert_eq!(told["belay-user"], "https://login.example.com|ada");
        assert_eq!(told["belay-roles"], "support");
        assert!(told.get("authorization").is_none() && told.get("belay_roles").is_none(), "{told}");
    }
    let record = last(&world);
    assert_eq!(record["user"], json!({ "id": "https://login.example.com|ada", "roles": ["support"] }));
    assert_eq!(
        (&record["belay"]["people"], &record["belay"]["rule"]),
        (&json!("staff"), &json!("routes.admin.allow.support"))
    );
    assert_eq!(record["belay"]["profile"], "mtls+jwt+user");
    let text = serde_json::to_string(&world.records()).unwrap();
    assert!(!text.contains("eyJ"), "no token is in the audit log");
}

/// A request is answered so, for that reason, with a challenge that begins so.
async fn is_answered(world: &World, what: &str, ask: Ask, (status, reason): (u16, &str), challenge: &str) {
    let reply = world.ask(&ask).await;
    let record = last(world);
    let expected = if reason.is_empty() { Value::Null } else { json!(reason) };
    assert_eq!((reply.status, &record["event"]["reason"]), (status, &expected), "{what}: {reply:?}");
    let told = reply.header("www-authenticate").unwrap_or_default();
    assert!(told.starts_with(challenge) && told.is_empty() == challenge.is_empty(), "{what}: {told}");
    let is_known = record["belay"]["workload"].is_string();
    assert_eq!(is_known, ask.certificate.is_some(), "{what}: who has brought it is in the record");
}

#[tokio::test]
async fn a_user_must_be_proved() {
    let login = Login::new("l-1");
    let world = with(&login, |text| text).await;
    let said = |name: &str, value: Value| {
        let mut claims = claims("ada", &["support"]);
        claims[name] = value;
        login.sign(&claims)
    };
    let bound = |whose: &str| said("cnf", json!({ "x5t#S256": world.identities[whose].thumbprint() }));
    let invalid = "Bearer realm=\"belay\", error=\"invalid_token\", error_description=";
    for (what, token, answer) in [
        ("in two groups", login.token("eve", &["it", "sre"]), (200, "")),
        ("bound to our certificate", bound("checkout"), (200, "")),
        ("no JWT", "opaque".into(), (401, "user.user_token_malformed")),
        ("expired", said("exp", json!(NOW - 60)), (401, "user.user_token_expired")),
        ("for another service", said("aud", json!("api://bank")), (401, "user.user_token_audience")),
        ("of another provider", said("iss", json!("https://login.example.org")), (401, "user.user_token_issuer")),
        ("forged", Login::new("l-1").token("ada", &["support"]), (401, "user.user_token_signature")),
        ("with an unknown key", Login::new("l-2").token("ada", &[]), (401, "user.user_token_key_unknown")),
        ("bound to another's certificate", bound("reports"), (401, "user.user_token_certificate")),
        ("without a role", login.token("bob", &["sales"]), (403, "policy.not_allowed")),
        ("without any group", login.token("carl", &[]), (403, "policy.not_allowed")),
    ] {
        let challenge = if answer.0 == 401 { invalid } else { "" };
        is_answered(&world, what, Ask::get("/admin/orders").for_user(&token), answer, challenge).await;
    }
}

#[tokio::test]
async fn a_users_token_never_suffices() {
    let login = Login::new("l-1");
    let world = with(&login, |text| text).await;
    let (ada, bob) = (login.token("ada", &["support"]), login.token("bob", &[]));
    let get = || Ask::get("/admin/orders");
    let bearer = |token: &str| format!("Bearer {token}");
    let of_reports = Ask { certificate: Some("reports"), signer: Some("reports"), ..get() };
    let (unsigned, uncertified) = (Ask { signer: None, ..get() }, Ask { certificate: None, ..get() });
    let (missing, ours) = ("Bearer realm=\"belay\"", "EdgeIdentity");
    for (what, ask, answer, challenge) in [
        ("no token", get(), (401, "user.user_token_missing"), missing),
        ("another scheme", get().header("Authorization", "Basic YTpi"), (401, "user.user_token_missing"), missing),
        ("two", get().for_user(&ada).header("Authorization", bearer(&bob)), (400, "user.user_token_repeated"), ""),
        ("not named", get().header("Authorization", bearer(&ada)), (401, "identity.token_user"), ours),
        ("another named", get().header("Authorization", bearer(&ada)).naming(&bob), (401, "identity.token_user"), ours),
        ("without a token", unsigned.header("Authorization", bearer(&ada)), (401, "identity.token_missing"), ours),
        ("without a certificate", uncertified.for_user(&ada), (401, "identity.certificate_missing"), ours),
        ("through another", of_reports.for_user(&ada), (403, "policy.not_allowed"), ""),
    ] {
        is_answered(&world, what, ask, answer, challenge).await;
    }
}

/// Who may not pass, and what the record says of the rules.
#[tokio::test]
async fn a_denial_names_what_is_missing() {
    let login = Login::new("l-1");
    let world = with(&login, |text| text.replace("    allow: [support]", "    allow: [support, reader, spare]").replace("workloads:\n", "workloads:\n  spare: { id: spiffe://example.com/worker/spare, keys: [{ kid: spare-1, key: 'file:spare.pub' }] }\n")).await;
    let bob = login.token("bob", &["sales"]);
    let carl = login.sign(&json!({ "iss": ISSUER, "aud": "api://shop", "sub": "carl", "exp": NOW + 60 }));
    let nearly = |lacks: &str| {
        json!([
            "routes.admin.allow.reader is for workloads that have the role, and checkout has not",
            "routes.admin.allow.spare is for spare, and this is checkout",
            format!("routes.admin.allow.support wants groups to have support or sre, and {lacks}"),
        ])
    };
    for (token, lacks) in [(bob, "it has not"), (carl, "the token has no such claim")] {
        assert_eq!(world.ask(&Ask::get("/admin/orders").for_user(&token)).await.status, 403);
        assert_eq!(last(&world)["belay"]["near"], nearly(lacks));
    }
    let text = serde_json::to_string(&world.records()).unwrap();
    assert!(!text.contains("sales"), "what somebody is stays in his token");
}

#[tokio::test]
async fn where_no_user_is_demanded_nobody_looks_for_one() {
    let login = Login::new("l-1");
    let world = with(&login, |text| text).await;
    let echo = world.ask(&Ask::get("/orders/7").header("Authorization", "Bearer opaque")).await.echo();
    assert_eq!(echo["headers"]["authorization"], "Bearer opaque", "it is the origin's to read");
    assert!(echo["headers"].get("belay-user").is_none() && last(&world).get("user").is_none());
}

#[tokio::test]
async fn a_token_goes_on_where_the_config_says_so() {
    let login = Login::new("l-1");
    let world =
        with(&login, |text| text.replace("jwks: 'file:jwks.json'", "jwks: 'file:jwks.json', forward: true")).await;
    let ada = login.token("ada", &["support"]);
    let echo = world.ask(&Ask::get("/admin/orders").for_user(&ada)).await.echo();
    assert_eq!(echo["headers"]["authorization"], format!("Bearer {ada}"));
}

#[tokio::test]
async fn a_certificate_may_be_enough_of_the_workload() {
    let login = Login::new("l-1");
    let world = with(&login, |text| text.replace("mtls+jwt+user", "mtls+user")).await;
    let ada = login.token("ada", &["support"]);
    let ask = Ask { signer: None, ..Ask::get("/admin/orders") };
    let header = format!("Bearer {ada}");
    assert_eq!(world.ask(&ask.clone().header("Authorization", header.clone())).await.status, 200);
    assert_eq!(world.ask(&ask.clone()).await.status, 401);
    assert_eq!(world.ask(&Ask { certificate: None, ..ask }.header("Authorization", header)).await.status, 401);
}

#[tokio::test]
async fn a_listener_may_demand_users() {
    let login = Login::new("l-1");
    let world = with(&login, |text| {
        text.replace(
            "client_auth: { ca: [workers-ca.pem] }\n",
            "client_auth: { ca: [workers-ca.pem] }\n    identity: mtls+jwt+user\n",
        )
        .replace("    identity: mtls+jwt+user\n    allow: [support]", "    allow: [support]")
    })
    .await;
    let ada = login.token("ada", &["support"]);
    for (target, with_user, without) in [
        ("/admin/orders", 200, 401),
        ("/orders/7", 200, 401),
        ("/nothing", 404, 401),
        ("/status", 200, 200),
        ("/mtls", 200, 200),
    ] {
        assert_eq!(world.ask(&Ask::get(target).for_user(&ada)).await.status, with_user, "{target}");
        assert_eq!(world.ask(&Ask::get(target)).await.status, without, "{target}");
    }
}

#[tokio::test]
async fn a_user_of_the_host_that_the_token_says() {
    let login = Login::new("l-1");
    let world = with(&login, |text| {
        text.replace("    tls:\n", "    host_from: token\n    tls:\n")
            .replace("host: shop.example.com, path: /admin", "host: www.example.com, path: /admin")
    })
    .await;
    let ada = login.token("ada", &["support"]);
    let ask = || Ask::get("/admin/orders").claim("ohost", "www.example.com");
    let reply = world.ask(&ask().for_user(&ada)).await;
    assert_eq!(reply.echo()["headers"]["belay-user"], format!("{ISSUER}|ada"));
    assert_eq!(world.ask(&ask()).await.status, 401, "{HOST} is not asked for");
    assert_eq!(last(&world)["event"]["reason"], "user.user_token_missing");
    assert_eq!(world.records_of("outcome").len(), 2);
}

#[tokio::test]
async fn other_keys_of_a_provider_count_at_once() {
    let (old, new) = (Login::new("l-1"), Login::new("l-2"));
    let world = with(&old, |text| text).await;
    let ask = |login: &Login| Ask::get("/admin/orders").for_user(&login.token("ada", &["support"]));
    assert_eq!((world.ask(&ask(&old)).await.status, world.ask(&ask(&new)).await.status), (200, 401));
    world.write("jwks.json", &new.jwks());
    world.apply(&world.config_text()).unwrap();
    assert_eq!((world.ask(&ask(&old)).await.status, world.ask(&ask(&new)).await.status), (401, 200));
}

#[tokio::test]
async fn a_file_may_say_who_has_a_role() {
    let login = Login::new("l-1");
    let site = Site::new(NOW).await;
    site.write("jwks.json", &login.jwks());
    site.write("people.yaml", "people: { ada: [support], eve: [] }\ngroups: { sre: [support] }\n");
    let mapped = PEOPLE.replace("claim: groups, has: [support, sre]", "mapped: true");
    let mapped = mapped.replace("jwks:", "mapping: { file: people.yaml, group: teams }, jwks:");
    let world = World::before_checks(site, |text| text.replace("roles:\n", &mapped).replace("routes:\n", ADMIN));
    world.is_healthy().await;
    let ask = |subject: &str, teams: &[&str]| {
        let mut said = claims(subject, &["support", "sre"]);
        said["teams"] = json!(teams);
        Ask::get("/admin/orders").for_user(&login.sign(&said))
    };
    for (subject, teams, status) in [
        ("ada", &[][..], 200),
        ("bob", &["it", "sre"], 200),
        ("bob", &["it"], 403),
        ("eve", &[], 403),
        ("Ada", &[], 403),
        ("sre", &["ada"], 403),
    ] {
        assert_eq!(world.ask(&ask(subject, teams)).await.status, status, "{subject} {teams:?}");
    }
    let near = last(&world)["belay"]["near"].to_string();
    assert!(near.contains("is for whom the mapping names by sub or teams, and it does not name him"), "{near}");
    world.write("people.yaml", "people: { bob: [support] }\n");
    world.live.refresh().unwrap();
    assert_eq!(world.ask(&ask("bob", &[])).await.status, 200, "it is read again when it changes");
    assert_eq!(world.ask(&ask("ada", &["sre"])).await.status, 403);
    for (text, fault) in [
        ("people: { ada: [suport] }", "there is no role `suport` of these people that is `mapped`"),
        ("people: { ada: support }", "a list is expected"),
        ("peple: {}", "there is no key `peple` here"),
        ("[]", "this is a list"),
        ("people: [", "this is not the YAML that is expected"),
    ] {
        world.write("people.yaml", text);
        let findings = world.live.refresh().unwrap_err();
        let said: Vec<_> = findings.iter().map(ToString::to_string).collect();
        assert!(said.iter().any(|said| said.contains(fault) && said.contains("people.yaml")), "{text}: {said:#?}");
        assert_eq!(world.ask(&ask("bob", &[])).await.status, 200, "the last good one goes on counting");
    }
}

/// What a provider's tokens look like, and what of the config reads them.
#[test_case("header: Cf-Access-Jwt-Assertion, subject: [sub, common_name]", "cf-access-jwt-assertion", json!({ "sub": "", "common_name": "job.access", "aud": ["x", "api://shop"] }), "common_name:job.access"; "cloudflare access, a service")]
#[test_case("header: cf-access-jwt-assertion, subject: [sub, common_name]", "cf-access-jwt-assertion", json!({ "aud": ["api://shop"] }), "ada"; "cloudflare access, a person")]
#[test_case("audience_claim: client_id", "authorization", json!({ "aud": null, "client_id": "api://shop" }), "ada"; "cognito")]
#[test_case("subject: [oid]", "authorization", json!({ "oid": "00000000-0000-0000-66f3-3332eca7ea81" }), "00000000-0000-0000-66f3-3332eca7ea81"; "entra")]
#[test_case("subject: [email]", "authorization", json!({ "email": "ada@example.com" }), "ada@example.com"; "google")]
#[test_case("audience_claim: cid", "authorization", json!({ "cid": "api://shop", "uid": "00u1", "ver": 1 }), "ada"; "okta")]
#[test_case("subject: [sub]", "authorization", json!({ "sub": "arn:aws:iam::123456789012:role/nightly", "https://sts.amazonaws.com/": { "aws_account": "123456789012" } }), "arn:aws:iam::123456789012:role/nightly"; "aws web identity")]
#[tokio::test]
async fn tokens_differ(settings: &str, header: &'static str, more: Value, subject: &str) {
    let login = Login::new("l-1");
    let world =
        with(&login, |text| text.replace("audience: 'api://shop'", &format!("audience: 'api://shop', {settings}")))
            .await;
    let mut said = claims("ada", &["support"]);
    said.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    said.as_object_mut().unwrap().retain(|_, value| !value.is_null());
    let token = login.sign(&said);
    let value = if header == "authorization" { format!("Bearer {token}") } else { token.clone() };
    let reply = world.ask(&Ask::get("/admin/orders").header(header, value).naming(&token)).await;
    assert_eq!(reply.status, 200, "{reply:?} {}", last(&world));
    let echo = reply.echo();
    assert_eq!(echo["headers"]["belay-user"], format!("{ISSUER}|{subject}"));
    assert!(echo["headers"].get(header).is_none(), "the token goes no further");
}

/// Where roles stand in a token.
#[test_case("claim: realm_access.roles, has: support", json!({ "realm_access": { "roles": ["user", "support"] } }); "keycloak")]
#[test_case("claim: 'https://shop.example/roles', has: support", json!({ "https://shop.example/roles": ["support"] }); "auth0")]
#[test_case("claim: ['https://sts.amazonaws.com/', aws_account], has: '123456789012'", json!({ "https://sts.amazonaws.com/": { "aws_account": "123456789012" } }); "aws web identity")]
#[test_case("claim: ['https://sts.amazonaws.com/', principal_tags, team], has: support", json!({ "https://sts.amazonaws.com/": { "principal_tags": { "team": "support" } } }); "tags of an aws role")]
#[test_case("claim: [a.b, roles], has: support", json!({ "a.b": { "roles": "support" } }); "names with dots")]
#[test_case("claim: scope, has: 'shop:admin'", json!({ "scope": "openid shop:admin" }); "a scope")]
#[test_case("claim: groups, has: support", json!({ "groups": "support" }); "a text")]
#[tokio::test]
async fn a_role_is_what_a_claim_says(role: &str, more: Value) {
    let login = Login::new("l-1");
    let world = with(&login, |text| text.replace("claim: groups, has: [support, sre]", role)).await;
    let mut said = claims("ada", &[]);
    let ask = |said: &Value| Ask::get("/admin/orders").for_user(&login.sign(said));
    assert_eq!(world.ask(&ask(&said)).await.status, 403);
    said.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    assert_eq!(world.ask(&ask(&said)).await.status, 200);
}

/// What is secret, and what somebody could have put into it, are not compressed together.
#[test_case("", None; "unless it is said")]
#[test_case(", for_users: true", Some("gzip"); "where it is said")]
#[tokio::test]
async fn an_answer_to_a_user_is_compressed(more: &str, coding: Option<&str>) {
    let login = Login::new("l-1");
    let filters = format!("    allow: [support]\n    filters: [{{ compression: {{ min: 0B{more} }} }}]\n");
    let world = with(&login, |text| text.replacen("    allow: [support]\n", &filters, 1)).await;
    let ask = Ask { h2: true, ..Ask::get("/admin/orders").for_user(&login.token("ada", &["support"])) };
    let reply = world.ask(&ask.header("accept-encoding", "gzip")).await;
    assert_eq!((reply.status, reply.header("content-encoding")), (200, coding));
}
