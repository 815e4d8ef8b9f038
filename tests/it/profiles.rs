//! Proofs without a certificate, what tokens say beyond them, and how keys age.

use crate::support::{Ask, HOST, NOW, SECRET, World};
use belay::identity::BodyDigest;
use belay::runtime::Change;
use serde_json::{Value, json};
use test_case::test_case;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const KEYS: &str = "keys: [{ kid: checkout-1, key: 'file:checkout.pub' }]";
const DAY: i64 = 24 * 60 * 60;

/// The usual config, where orders demand another profile and checkout has these keys.
async fn with_profile(profile: &str, keys: &str) -> World {
    World::with(|text| {
        // Every config's folder has the secret, whether it is used or not.
        text.replace(KEYS, keys).replace(
            "    allow: [checkout]\n    pool: shop\n  - name: reports",
            &format!("    identity: {profile}\n    allow: [checkout]\n    pool: shop\n  - name: reports"),
        )
    })
    .await
}

async fn with_secret(created: &str) -> World {
    let site = crate::support::Site::new(NOW).await;
    site.write("secret", SECRET);
    let keys = format!(
        "keys: [{{ kid: checkout-1, key: 'file:checkout.pub' }}, {{ kid: checkout-s, secret: 'file:secret', created: {created} }}]"
    );
    let world = World::before_checks(site, |text| {
        text.replace(KEYS, &keys).replace(
            "    allow: [checkout]\n    pool: shop\n  - name: reports",
            "    identity: psk\n    allow: [checkout]\n    pool: shop\n  - name: reports",
        )
    });
    world.is_healthy().await;
    world
}

/// A good request without a certificate.
fn uncertified(signer: &'static str) -> Ask {
    Ask { certificate: None, signer: Some(signer), ..Ask::get("/orders/7") }
}

fn last_reason(world: &World) -> Value {
    world.records_of("decision").pop().unwrap()["event"]["reason"].clone()
}

#[tokio::test]
async fn a_token_alone_proves_a_workload_where_that_is_enough() {
    let world = with_profile("jwt", KEYS).await;
    let post = Ask { method: "POST", body: "order", ..uncertified("checkout") };
    for h2 in [false, true] {
        assert_eq!(world.ask(&Ask { h2, ..uncertified("checkout") }).await.status, 200);
        let reply = world.ask(&Ask { h2, ..post.clone() }).await;
        assert_eq!(reply.echo()["headers"]["belay-workload"], "checkout");
        assert_eq!(reply.echo()["body_bytes"], 5, "the body goes on, though it was held: {reply:?}");
    }
    assert_eq!(world.records_of("decision")[0]["belay"]["profile"], "jwt");
    for (ask, reason) in [
        (uncertified("forger"), "identity.token_signature"),
        (uncertified("reports"), "policy.not_allowed"),
        (Ask { signer: None, ..uncertified("checkout") }, "identity.token_missing"),
        (uncertified("checkout").claim("exp", NOW + 61), "identity.token_lifetime"),
        (uncertified("checkout").claim("htm", "POST"), "identity.token_binding"),
        (Ask { certificate: Some("checkout"), ..uncertified("checkout") }, "identity.token_certificate"),
    ] {
        assert!(matches!(world.ask(&ask).await.status, 401 | 403), "{reason}");
        assert_eq!(last_reason(&world), reason);
    }
}

#[tokio::test]
async fn a_token_without_a_certificate_counts_once() {
    let world = with_profile("jwt", KEYS).await;
    let ask = uncertified("checkout");
    let headers = world.headers(&ask);
    assert_eq!(world.send(&ask, &headers).await.status, 200);
    let reply = world.send(&ask, &headers).await;
    assert_eq!(reply.status, 401);
    let challenge = reply.header("www-authenticate").unwrap();
    assert!(challenge.contains("error_description=\"replay\""), "who has signed is told why: {challenge}");
}

#[tokio::test]
async fn a_shared_secret_proves_a_workload_where_it_is_asked_for() {
    let world = with_secret("2026-11-01").await;
    assert_eq!(world.ask(&uncertified("secret")).await.status, 200);
    assert_eq!(world.ask(&uncertified("checkout")).await.status, 401, "a key is no secret");
    let certified = Ask { certificate: Some("checkout"), signer: Some("secret"), ..Ask::get("/reports/daily") };
    assert_eq!(world.ask(&certified).await.status, 401, "and a secret no key");
    assert_eq!(last_reason(&world), "identity.token_key_unknown");
}

#[tokio::test]
async fn a_shared_secret_grows_too_old() {
    let world = with_secret("2026-11-01").await;
    // 2026-11-01 and ninety days.
    let end = 1_793_491_200 + 90 * DAY;
    for (now, expected) in [(end - 1, 200), (end, 401)] {
        world.clock.set(now);
        let ask = uncertified("secret").claim("iat", now).claim("exp", now + 60);
        let reply = world.ask(&ask).await;
        assert_eq!(reply.status, expected);
        let told = reply.header("www-authenticate").is_some_and(|told| told.contains("key_expired"));
        assert!(!told, "who has proved nothing is not told");
    }
    assert_eq!(last_reason(&world), "identity.token_key_expired");
    let younger = world.config_text().replace("created: 2026-11-01", "created: 2027-01-30");
    world.apply(&younger).unwrap();
    let ask = uncertified("secret").claim("iat", end).claim("exp", end + 60);
    assert_eq!(world.ask(&ask).await.status, 200, "first seen on the day of this process's start, which is younger");
    world.apply(&younger.replace("lb.example.com\n", "lb.example.com\n  max_key_age: 30d\n")).unwrap();
    assert_eq!(world.ask(&ask.claim("jti", "another-token-id")).await.status, 401, "and older than thirty days");
}

#[test_case("next", 200)]
#[test_case("active", 200)]
#[test_case("retiring", 200)]
#[test_case("revoked", 401)]
#[tokio::test]
async fn a_key_has_its_state(state: &str, expected: u16) {
    let keys = format!("keys: [{{ kid: checkout-1, key: 'file:checkout.pub', state: {state} }}]");
    let world = with_profile("mtls+jwt", &keys).await;
    assert_eq!(world.ask(&Ask::get("/orders/7")).await.status, expected);
    let used = u64::from(expected == 200);
    assert!(world.metrics().contains(&format!(
        "belay_secret_uses_total{{kind=\"token_key\",name=\"checkout-1\",owner=\"workloads.checkout\"}} {used}"
    )));
}

#[tokio::test]
async fn a_keys_age_is_the_older_of_what_is_said_and_what_was_seen() {
    let keys = |created: &str| format!("keys: [{{ kid: checkout-1, key: 'file:checkout.pub'{created} }}]");
    let made = |world: &World| {
        let line = "belay_secret_created_timestamp_seconds{kind=\"token_key\",name=\"checkout-1\",owner=\"workloads.checkout\"} ";
        let metrics = world.metrics();
        metrics.split_once(line).unwrap().1.lines().next().unwrap().parse::<i64>().unwrap()
    };
    let world = with_profile("mtls+jwt", &keys("")).await;
    assert_eq!(made(&world), NOW, "seen now");
    world.clock.set(NOW + 10 * DAY);
    world
        .apply(&world.config_text().replace(
            "kid: checkout-1, key: 'file:checkout.pub'",
            "kid: checkout-1, key: 'file:checkout.pub', created: 2026-11-27",
        ))
        .unwrap();
    assert_eq!(made(&world), NOW, "a later day does not make it young");
    world.apply(&world.config_text().replace("2026-11-27", "2026-11-01")).unwrap();
    assert_eq!(made(&world), 1_793_491_200, "an earlier one makes it old");
    let refused = world.apply(&world.config_text().replace("2026-11-01", "2027-11-01")).unwrap_err();
    assert!(crate::support::show(&refused).contains("a day that has not come"));
}

#[tokio::test]
async fn the_edges_clock_is_measured() {
    let world = World::new().await;
    world.ask(&Ask::get("/orders/7").claim("iat", NOW - 7)).await;
    let line = "belay_edge_clock_offset_seconds{issuer=\"https://edge.example.com/worker\"} 7";
    assert!(world.metrics().contains(line), "{}", world.metrics());
}

#[tokio::test]
async fn facts_are_asserted_by_who_may() {
    let world = with_profile("mtls+jwt", &format!("{KEYS}, may_assert: [country]")).await;
    assert_eq!(world.ask(&Ask::get("/orders/7").claim("country", "DE")).await.status, 200);
    assert_eq!(world.records_of("decision")[0]["belay"]["asserted"], json!({ "country": "DE" }));
    assert_eq!(world.ask(&Ask::get("/orders/7").claim("role", "admin")).await.status, 401);
    assert_eq!(last_reason(&world), "identity.token_assertion");
}

#[tokio::test]
async fn replay_may_be_off() {
    let token = "audience: https://lb.example.com\n  token: { replay: off }";
    let world = World::with(|text| text.replace("audience: https://lb.example.com", token)).await;
    let post = Ask { method: "POST", body: "x", ..Ask::get("/orders/7") };
    let headers = world.headers(&post);
    for _ in 0..3 {
        assert_eq!(world.send(&post, &headers).await.status, 200);
    }
}

async fn with_listener(keys: &str) -> World {
    World::with(|text| text.replacen("edge:\n    bind", &format!("edge:\n    {keys}\n    bind"), 1)).await
}

#[tokio::test]
async fn the_token_says_which_host_was_asked_for() {
    let world = with_listener("host_from: token").await;
    world
        .apply(
            &world
                .config_text()
                .replace("host: shop.example.com, path: /orders", "host: www.example.org, path: /orders"),
        )
        .unwrap();
    let asked = Ask::get("/orders/7").claim("ohost", "www.example.org");
    let reply = world.ask(&asked).await;
    let headers = &reply.echo()["headers"];
    assert_eq!(
        (&headers["host"], &headers["x-forwarded-host"]),
        (&json!("www.example.org"), &json!("www.example.org"))
    );
    assert_eq!(world.records_of("decision")[0]["url"]["domain"], "www.example.org");
    assert_eq!(world.ask(&Ask::get("/orders/7")).await.status, 404, "without it the wire's host counts");
    let forged = Ask { signer: Some("forger"), ..asked.clone() };
    assert_eq!(world.ask(&forged).await.status, 401);
    assert_eq!(world.ask(&Ask { signer: None, ..Ask::get("/mtls") }).await.status, 200, "a route by the wire's host");

    let world = World::new().await;
    let reply = world.ask(&asked.claim("ohost", "www.example.org")).await;
    assert_eq!(reply.echo()["headers"]["host"], HOST, "unless the listener says so, it is only a claim");
}

/// A route that asks nobody who he is knows nobody, whatever a token says.
#[tokio::test]
async fn a_public_route_believes_no_token() {
    let world = with_listener("host_from: token").await;
    let told = Ask::get("/status").claim("cip", "192.0.2.7").claim("rid", "chosen-by-a-thief");
    let reply = world.ask(&told).await;
    assert_eq!((reply.status, reply.echo()["headers"]["belay-workload"].clone()), (200, Value::Null));
    let record = &world.records_of("decision")[0];
    assert_eq!((&record["belay"]["workload"], &record["belay"]["jti_sha256"]), (&Value::Null, &Value::Null));
    assert_ne!(record["http"]["request"]["id"], "chosen-by-a-thief");
    let elsewhere = Ask::get("/orders/7").claim("ohost", "shop.example.com:1");
    assert_eq!(world.ask(&elsewhere).await.status, 400, "a port that nobody has declared");
}

#[test_case("claim:cip", Some("2001:db8::7"); "from the token")]
#[test_case("header:cf-connecting-ip", Some("192.0.2.9"); "from the header")]
#[test_case("peer", None; "from the connection")]
#[tokio::test]
async fn the_clients_address_is_the_one_that_the_config_believes(from: &str, expected: Option<&str>) {
    let world = with_listener(&format!("client_address: '{from}'")).await;
    let told = |ask: Ask| ask.header("CF-Connecting-IP", "192.0.2.9");
    let reply = world.ask(&told(Ask::get("/orders/7")).claim("cip", "2001:db8::7")).await;
    assert_eq!(reply.echo()["headers"]["x-forwarded-for"].as_str(), expected);
    assert_eq!(world.records_of("decision")[0]["client"]["ip"].as_str(), expected);
    let stranger = told(Ask { certificate: None, signer: None, ..Ask::get("/status") });
    assert_eq!(
        world.ask(&stranger).await.echo()["headers"]["x-forwarded-for"],
        Value::Null,
        "a stranger is not believed"
    );
}

fn signed_body(body: &'static str, signed: &str) -> Ask {
    let digest = BodyDigest::of(signed.as_bytes()).to_string();
    Ask { method: "POST", body, ..Ask::get("/orders/7") }.claim("cdg", digest)
}

#[tokio::test]
async fn a_body_is_the_one_that_was_signed() {
    let world = World::new().await;
    for h2 in [false, true] {
        assert_eq!(world.ask(&Ask { h2, ..signed_body("order", "order") }).await.echo()["body_bytes"], 5);
        let before = world.forwarded();
        assert_eq!(world.ask(&Ask { h2, ..signed_body("order", "another") }).await.status, 401);
        assert_eq!(world.records_of("outcome").pop().unwrap()["event"]["reason"], "identity.token_body");
        let header = ("Content-Digest", BodyDigest::of(b"another").to_string());
        assert_eq!(
            world.ask(&Ask { h2, ..signed_body("order", "order").header(header.0, header.1) }).await.status,
            401
        );
        assert_eq!(world.forwarded(), before, "nothing of it is forwarded");
    }
    let nothing = Ask::get("/orders/7").claim("cdg", BodyDigest::of(b"").to_string());
    assert_eq!(world.ask(&nothing).await.status, 200, "no body is the digest of nothing");
}

#[tokio::test]
async fn a_route_may_demand_a_digest() {
    let world = World::with(|text| {
        text.replacen("    allow: [checkout]\n", "    body_digest: required\n    allow: [checkout]\n", 1)
    })
    .await;
    assert_eq!(world.ask(&signed_body("order", "order")).await.status, 200);
    let unsigned = Ask { method: "POST", body: "order", ..Ask::get("/orders/7") };
    assert_eq!(world.ask(&unsigned).await.status, 401);
    assert_eq!(last_reason(&world), "identity.token_body_missing");
}

#[tokio::test]
async fn a_digest_may_be_left_out_where_the_config_says_so() {
    let world = with_profile("jwt", KEYS).await;
    let unsigned = || uncertified("checkout").claim("cdg", Value::Null);
    assert_eq!(world.ask(&unsigned()).await.status, 401);
    let optional = "audience: https://lb.example.com\n  token: { body_digest: optional }";
    world.apply(&world.config_text().replace("audience: https://lb.example.com", optional)).unwrap();
    assert_eq!(world.ask(&unsigned()).await.status, 200);
}

#[test_case(64 * 1024, "64KiB", 200; "as long as may be")]
#[test_case(64 * 1024 + 1, "64KiB", 413; "a byte longer")]
#[test_case(200_000, "1MiB", 200; "a long one that is withheld")]
#[tokio::test]
async fn a_signed_body_is_held_up_to_a_limit(length: usize, max: &str, expected: u16) {
    let token = format!("audience: https://lb.example.com\n  token: {{ digest_body_max: {max} }}");
    let world = World::with(|text| text.replace("audience: https://lb.example.com", &token)).await;
    let body: &'static str = Box::leak("x".repeat(length).into_boxed_str());
    for h2 in [false, true] {
        let reply = world.ask(&Ask { h2, ..signed_body(body, body) }).await;
        assert_eq!(reply.status, expected);
        assert!(expected != 200 || reply.echo()["body_bytes"] == length, "{reply:?}");
    }
}

#[tokio::test]
async fn of_a_long_forged_body_the_origin_sees_no_byte() {
    let token = "audience: https://lb.example.com\n  token: { digest_body_max: 1MiB }";
    let world = World::with(|text| text.replace("audience: https://lb.example.com", token)).await;
    let body: &'static str = Box::leak("x".repeat(200_000).into_boxed_str());
    assert_eq!(world.ask(&signed_body(body, "another")).await.status, 401);
    assert_eq!(world.records_of("outcome").pop().unwrap()["event"]["reason"], "identity.token_body");
}

/// One workload cannot hold all that may be held.
#[tokio::test]
async fn half_of_the_room_is_the_others() {
    let token = "audience: https://lb.example.com\n  token: { digest_body_max: 1MiB }";
    let world = World::with(|text| text.replace("audience: https://lb.example.com", token)).await;
    let mut greedy = world.live.state().held.room(belay::name::WorkloadName::parse("checkout").unwrap());
    assert!(greedy.grow(32 * 1024 * 1024));
    assert_eq!(world.ask(&signed_body("order", "order")).await.status, 503);
    let reports = Ask { certificate: Some("reports"), signer: Some("reports"), ..Ask::get("/reports/daily") };
    let digest = BodyDigest::of(b"").to_string();
    assert_eq!(world.ask(&reports.claim("cdg", digest)).await.status, 200);
    drop(greedy);
    assert_eq!(world.ask(&signed_body("order", "order")).await.status, 200);
}

#[tokio::test]
async fn one_key_is_of_one_workload() {
    let world = World::new().await;
    world.write("reports.pub", &world.token_keys["checkout"].public_key_pem());
    let refused = crate::support::show(&world.live.refresh().unwrap_err());
    assert!(refused.contains("reports.pub") && refused.contains("is the key of checkout too"), "{refused}");
}

/// A signed body that is expected to be asked for is asked for.
#[tokio::test]
async fn who_waits_to_go_on_is_told_to() {
    let world = World::new().await;
    let ask = signed_body("order", "order");
    let mut stream = world.connect(Some("checkout"), &[]).await;
    let head = format!(
        "POST /orders/7 HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\nEdge-Identity: {}\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n",
        world.token("checkout", &ask)
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut told = [0; 12];
    stream.read_exact(&mut told).await.unwrap();
    assert_eq!(&told, b"HTTP/1.1 100");
    stream.write_all(b"order").await.unwrap();
    let mut raw = String::new();
    stream.read_to_string(&mut raw).await.unwrap_or_default();
    assert!(raw.contains("HTTP/1.1 200"), "{raw}");
}

#[tokio::test]
async fn another_key_in_the_file_counts_at_once() {
    let world = with_profile("jwt", KEYS).await;
    world.write("checkout.pub", &world.token_keys["forger"].public_key_pem());
    assert!(matches!(world.live.refresh(), Ok(Change::Applied(_))));
    assert_eq!(world.ask(&uncertified("checkout")).await.status, 401);
    assert_eq!(world.ask(&uncertified("forger")).await.status, 200);
}
