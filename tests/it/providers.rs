//! Keys of identity providers: where they are found, how often they are asked for, and what becomes of a bad answer.

use crate::support::login::{Login, claims};
use crate::support::oidc::Oidc;
use crate::support::provider::{Answer, Provider};
use crate::support::{Ask, NOW, Site, World, settled};
use belay::clock::{Clock, System};
use serde_json::{Value, json};

/// The usual config with an identity provider, edited.
async fn with(provider: &Provider, edit: impl FnOnce(String) -> String) -> World {
    let site = Site::new(NOW).await;
    site.write("login-ca.pem", &provider.ca.pem);
    site.write("other-ca.pem", &site.worker_ca.pem);
    let world = World::before_checks(site, |text| edit(asking(text, &provider.issuer)));
    world.is_healthy().await;
    world
}

/// The config with people of that provider, and a route for some of them.
fn asking(text: String, issuer: &str) -> String {
    let people = format!(
        "people:\n  staff: {{ issuer: '{}', audience: 'api://shop', ca: [login-ca.pem], allow_networks: [127.0.0.0/8, '::1'] }}\nroles:\n  support: {{ people: staff, claim: groups, has: support, through: [checkout] }}\n",
        issuer
    );
    let route = "routes:\n  - { name: admin, match: { host: shop.example.com, path: /admin }, identity: mtls+jwt+user, allow: [support], pool: shop }\n";
    text.replace("roles:\n", &people).replace("routes:\n", route)
}

/// A request for a user, with a token of that provider.
fn ask(provider: &Provider, login: &Login) -> Ask {
    let mut said = claims("ada", &["support"]);
    said["iss"] = json!(provider.issuer);
    Ask::get("/admin").for_user(&login.sign(&said))
}

fn reason(world: &World) -> Value {
    world.records_of("decision").pop().unwrap()["event"]["reason"].clone()
}

fn metric(world: &World, name: &str) -> String {
    let metrics = world.metrics();
    let line = metrics.lines().find(|line| line.starts_with(name)).unwrap_or_default();
    line.rsplit(' ').next().unwrap().to_owned()
}

#[tokio::test]
async fn keys_are_where_the_metadata_say() {
    let login = Login::new("l-1");
    let provider = Provider::start(Answer::Keys(login.jwks())).await;
    let world = with(&provider, |text| text).await;
    // The first request may come before the first answer, and waits for it.
    let reply = world.ask(&ask(&provider, &login)).await;
    assert_eq!(reply.status, 200, "{}", reason(&world));
    assert_eq!(provider.connections(), 2, "metadata and keys");
    assert_eq!(metric(&world, "belay_provider_keys{"), "1");
    assert_eq!(metric(&world, "belay_provider_keys_fetched_timestamp_seconds{"), NOW.to_string());
}

#[tokio::test]
async fn keys_may_be_where_the_config_says() {
    let login = Login::new("l-1");
    let provider = Provider::start(Answer::Keys(login.jwks())).await;
    let url = format!("audience: 'api://shop', jwks: '{}/keys', ", provider.issuer);
    let world = with(&provider, |text| text.replace("audience: 'api://shop', ", &url)).await;
    assert_eq!(world.ask(&ask(&provider, &login)).await.status, 200);
    assert_eq!(provider.connections(), 1);
}

#[tokio::test]
async fn a_new_key_is_asked_for_once_in_a_while() {
    let (old, new, forged) = (Login::new("l-1"), Login::new("l-2"), Login::new("l-3"));
    let provider = Provider::start(Answer::Keys(old.jwks())).await;
    let world = with(&provider, |text| text).await;
    assert_eq!(world.ask(&ask(&provider, &old)).await.status, 200);
    provider.answers(Answer::Keys(new.jwks()));
    assert_eq!(world.ask(&ask(&provider, &new)).await.status, 200, "a key that is not known is asked for");
    let before = provider.connections();
    for _ in 0..5 {
        assert_eq!(world.ask(&ask(&provider, &forged)).await.status, 401);
        assert_eq!(reason(&world), "user.user_token_key_unknown");
    }
    assert_eq!(provider.connections(), before, "but not again and again");
    assert_eq!(world.ask(&ask(&provider, &old)).await.status, 401, "what is not published any more does not count");
}

#[tokio::test]
async fn many_who_ask_for_a_key_make_one_fetch() {
    let (old, new) = (Login::new("l-1"), Login::new("l-2"));
    let provider = Provider::start(Answer::Keys(old.jwks())).await;
    let world = with(&provider, |text| text).await;
    assert_eq!(world.ask(&ask(&provider, &old)).await.status, 200);
    provider.answers(Answer::Keys(new.jwks()));
    let asks: Vec<_> = (0..8).map(|_| ask(&provider, &new)).collect();
    let replies = tokio::join!(world.ask(&asks[0]), world.ask(&asks[1]), world.ask(&asks[2]), world.ask(&asks[3]));
    let statuses = [replies.0.status, replies.1.status, replies.2.status, replies.3.status];
    assert_eq!((statuses, provider.connections()), ([200; 4], 4));
}

#[tokio::test]
async fn good_keys_survive_bad_answers_and_reloads() {
    let login = Login::new("l-1");
    let provider = Provider::start(Answer::Keys(login.jwks())).await;
    let world = with(&provider, |text| text).await;
    assert_eq!(world.ask(&ask(&provider, &login)).await.status, 200);
    provider.answers(Answer::Keys("<html>".into()));
    assert_eq!(world.ask(&ask(&provider, &Login::new("l-9"))).await.status, 401);
    settled("a bad answer was seen", || metric(&world, "belay_provider_fetches_total") == "1").await;
    assert_eq!(world.ask(&ask(&provider, &login)).await.status, 200);
    let before = provider.connections();
    world.apply(&world.config_text().replace("path: /status", "path: /state")).unwrap();
    assert_eq!(world.ask(&ask(&provider, &login)).await.status, 200);
    assert_eq!(provider.connections(), before, "they are not asked for again");
}

/// An answer, what is refused of it, and whether a connection is made at all.
#[tokio::test]
async fn bad_providers_let_nobody_in() {
    let ok = |body: String| format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    let redirect = "HTTP/1.1 302 Found\r\nlocation: https://localhost/\r\ncontent-length: 0\r\n\r\n".to_owned();
    let metadata = "openid-configuration";
    let elsewhere =
        |issuer: &str, keys: &str| Answer::At(metadata, ok(json!({ "issuer": issuer, "jwks_uri": keys }).to_string()));
    let secret = json!({ "keys": [{ "kty": "oct", "kid": "l-1", "k": "c2VjcmV0" }] }).to_string();
    let answers = [
        ("redirecting", Answer::At("/keys", redirect.clone())),
        ("redirecting at once", Answer::At(metadata, redirect)),
        ("failing", Answer::At("/keys", "HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n".into())),
        ("no HTTP", Answer::At("/keys", "hello\r\n\r\n".into())),
        ("half an answer", Answer::At("/keys", "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"keys\":[".into())),
        ("an empty answer", Answer::Keys(String::new())),
        ("a page", Answer::Keys("<html>".into())),
        ("no keys", Answer::Keys(r#"{"keys":[]}"#.into())),
        ("a secret as a key", Answer::Keys(secret)),
        ("a hundred megabytes", Answer::At("/keys", "HTTP/1.1 200 OK\r\ncontent-length: 104857600\r\n\r\n".into())),
        ("without an end", Answer::Endless),
        ("silent", Answer::Silence),
        ("another issuer", elsewhere("https://localhost", "https://localhost/keys")),
        ("keys in the clear", elsewhere("ISSUER", "http://localhost/keys")),
        ("keys in a file", elsewhere("ISSUER", "file:///etc/passwd")),
    ];
    let mut tried = tokio::task::JoinSet::new();
    for (what, answer) in answers {
        let login = Login::new("l-1");
        tried.spawn(async move {
            let provider = Provider::start(Answer::Silence).await;
            provider.answers(match answer {
                Answer::At(end, text) => Answer::At(end, text.replace("ISSUER", &provider.issuer)),
                Answer::Keys(_) | Answer::Silence | Answer::Endless => answer,
            });
            let world = with(&provider, |text| text).await;
            let reply = world.ask(&ask(&provider, &login)).await;
            assert_eq!((reply.status, reason(&world)), (503, json!("user.user_keys_missing")), "{what}");
            assert!(reply.header("retry-after").is_some() && reply.header("www-authenticate").is_none(), "{what}");
            assert_eq!(world.ask(&Ask::get("/orders/7")).await.status, 200, "{what}: nobody else is refused");
        });
    }
    while let Some(done) = tried.join_next().await {
        done.unwrap();
    }
}

/// Each is a slip of an operator or a trick of an attacker's DNS.
#[tokio::test]
async fn only_who_may_be_asked_is_asked() {
    let login = Login::new("l-1");
    let networks = ", allow_networks: [127.0.0.0/8, '::1']";
    for (what, from, to, connections) in [
        ("an address of this machine", networks, "", 0),
        ("another private network", "127.0.0.0/8, '::1'", "10.0.0.0/8", 0),
        ("another CA", "login-ca.pem", "other-ca.pem", 1),
    ] {
        let provider = Provider::start(Answer::Keys(login.jwks())).await;
        let world = with(&provider, |text| text.replace(from, to)).await;
        settled("it was tried", || metric(&world, "belay_provider_fetches_total") != "0").await;
        assert_eq!(world.ask(&ask(&provider, &login)).await.status, 503, "{what}");
        assert_eq!(provider.connections().min(1), connections, "{what}");
    }
}

#[tokio::test]
async fn a_real_provider() {
    let now = Clock::now(&System).unix_seconds();
    let site = Site::new(now).await;
    let Some(mut oidc) = Oidc::start(&site) else { return };
    let world = World::before_checks(site, |text| asking(text, &oidc.issuer));
    world.clock.set(now);
    world.is_healthy().await;
    let get = || Ask::get("/admin");
    for alg in ["ES256", "RS256", "EdDSA"] {
        let ada = oidc.token(alg, "ada");
        let echo = world.ask(&get().for_user(&ada)).await.echo();
        assert_eq!(echo["headers"]["belay-user"], format!("{}|ada", oidc.issuer), "{alg}");
        let bob = oidc.token(alg, "bob");
        assert_eq!(world.ask(&get().for_user(&bob)).await.status, 403, "{alg}: {}", reason(&world));
        assert_eq!(world.ask(&get().header("Authorization", format!("Bearer {ada}")).naming(&bob)).await.status, 401);
    }
    // Tokens of ES256 are bound to the certificate of checkout (RFC 8705); who has stolen one has another.
    let bound = oidc.token("ES256", "ada");
    let stolen = Ask { certificate: Some("reports"), signer: Some("reports"), ..get() }.for_user(&bound);
    assert_eq!(world.ask(&stolen).await.status, 401);
    assert_eq!(reason(&world), "user.user_token_certificate");
    let identity = oidc.tokens("RS256", "ada")["id_token"].as_str().unwrap().to_owned();
    assert_eq!(world.ask(&get().for_user(&identity)).await.status, 401, "an ID token is for the client");
    assert_eq!(reason(&world), "user.user_token_audience");
    let before = oidc.token("RS256", "ada");
    oidc.rotate();
    let after = oidc.token("RS256", "ada");
    assert_eq!(world.ask(&get().for_user(&before)).await.status, 200, "it still counts, as far as anybody knows");
    assert_eq!(world.ask(&get().for_user(&after)).await.status, 200, "a key that is not known is asked for");
    assert_eq!(world.ask(&get().for_user(&before)).await.status, 401, "and with it the old one is gone");
}

const ALB: &str = "arn:aws:elasticloadbalancing:eu-west-1:123456789012:loadbalancer/app/web/50dc6c495c0c9188";
const ALB_KEYS: [&str; 2] = ["7e5c1f9a-0d3b-4a52-9f10-2b6d8f1c4e77", "0b1f7c52-8f4f-4d0c-8d55-6f2f1d1c9a01"];

/// Keys of AWS's load balancers are each in a file of its own, which is fetched when a token first names it.
#[tokio::test]
async fn a_load_balancer_of_aws_vouches_for_users() {
    let [first, second] = ALB_KEYS.map(Login::new);
    let answer = |end, login: &Login| {
        let pem = login.public_pem();
        Answer::At(end, format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{pem}", pem.len()))
    };
    let provider = Provider::start(answer(ALB_KEYS[0], &first)).await;
    let issuer = format!("issuer: '{}', audience: 'api://shop',", provider.issuer);
    let alb = format!("issuer: 'https://login.example.com', signer: '{ALB}', jwks: '{}/keys/',", provider.issuer);
    let world = with(&provider, |text| text.replace(&issuer, &alb)).await;
    let ask = |login: &Login, signer: &str| {
        let said = json!({ "iss": "https://login.example.com", "sub": "ada", "exp": NOW + 120, "groups": ["support"] });
        let token = login.sign_as_alb(signer, &said);
        Ask::get("/admin").header("x-amzn-oidc-data", token.clone()).naming(&token)
    };
    assert_eq!(world.ask(&ask(&first, &ALB.replace("50dc", "60dc"))).await.status, 401);
    assert_eq!(
        (reason(&world), provider.connections()),
        (json!("user.user_token_signer"), 0),
        "nothing is fetched for it"
    );
    let reply = world.ask(&ask(&first, ALB)).await;
    assert_eq!(reply.status, 200, "{}", reason(&world));
    assert!(reply.echo()["headers"].get("x-amzn-oidc-data").is_none(), "the token stops here");
    assert_eq!(world.ask(&ask(&first, ALB)).await.status, 200);
    assert_eq!(provider.connections(), 1, "once");
    // A key that is not there is looked for once in a while, and the others count on.
    for _ in 0..3 {
        assert_eq!(world.ask(&ask(&second, ALB)).await.status, 401);
        assert_eq!(reason(&world), "user.user_token_key_unknown");
    }
    assert_eq!(provider.connections(), 2, "just that one, once");
    assert_eq!(world.ask(&ask(&first, ALB)).await.status, 200);
    // A few that nobody has are looked for, and no more.
    for number in 0..8 {
        let kid: &'static str = Box::leak(format!("7e5c1f9a-0d3b-4a52-9f10-{number:012}").into_boxed_str());
        assert_eq!(world.ask(&ask(&Login::new(kid), ALB)).await.status, 401);
    }
    assert_eq!(provider.connections(), 4, "of one workload");
    assert_eq!(world.ask(&ask(&first, ALB)).await.status, 200, "what is known stays");
    // Somebody else's key does not become one of it.
    let forged = Login::new(ALB_KEYS[0]);
    assert_eq!(world.ask(&ask(&forged, ALB)).await.status, 401);
    assert_eq!(reason(&world), "user.user_token_signature");
}
