//! What who may pass may use: requests in a time and at once, bytes each second, and what the edge says of it.

use crate::support::checks::{answering, checked_world, is_up};
use crate::support::login::{Login, claims};
use crate::support::pools::{Pools, plain};
use crate::support::{Ask, NOW, Reply, Site, World, settled};
use serde_json::{Value, json};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use test_case::test_case;

const ORDERS: &str = "    allow: [checkout]\n    pool: shop\n  - name: reports";

/// The usual config with limits of orders.
async fn with(limits: &str) -> World {
    World::with(|text| {
        let limited = ORDERS.replacen("    pool", &format!("    limits: [{limits}]\n    pool"), 1);
        text.replace(ORDERS, &limited).replace("allow: [checkout]", "allow: [checkout, reader]")
    })
    .await
}

fn of_reports(target: &'static str) -> Ask {
    Ask { certificate: Some("reports"), signer: Some("reports"), ..Ask::get(target) }
}

fn last(world: &World) -> Value {
    world.records_of("decision").pop().unwrap()
}

fn told(reply: &Reply) -> [&str; 3] {
    ["ratelimit-policy", "ratelimit", "retry-after"].map(|name| reply.header(name).unwrap_or(""))
}

#[tokio::test]
async fn a_rate_is_kept_for_each() {
    let world = with("{ rate: 1/h, burst: 2 }").await;
    for h2 in [false, true] {
        // What HTTP/1.1 has used is used for HTTP/2, too.
        let expected: &[u16] = if h2 { &[429] } else { &[200, 200, 429] };
        for (index, status) in expected.iter().enumerate() {
            let reply = world.ask(&Ask { h2, ..Ask::get("/orders/7") }).await;
            assert_eq!(reply.status, *status, "{index}");
            assert_eq!(reply.header("ratelimit-policy"), Some("\"workload\";q=2;w=7200"));
        }
    }
    let reply = world.ask(&Ask::get("/orders/7")).await;
    assert_eq!(told(&reply), ["\"workload\";q=2;w=7200", "\"workload\";r=0;t=3600", "3600"]);
    assert!(reply.body.contains("Too many requests.") && !reply.body.contains("workload"), "{}", reply.body);
    let record = last(&world);
    assert_eq!(record["event"]["reason"], "limit.rate_exceeded");
    assert_eq!(record["belay"]["rule"], "routes.orders.limits.workload", "the record says which");
    assert_eq!((&record["belay"]["decision"], &record["belay"]["workload"]), (&json!("deny"), &json!("checkout")));
    assert_eq!(world.ask(&of_reports("/orders/7")).await.status, 200, "another is counted for himself");
    assert_eq!(world.ask(&Ask::get("/mtls")).await.status, 200, "and another route");
    assert!(world.metrics().contains("belay_limit_exceeded_total{limit=\"routes.orders.limits.workload\"} 3"));
}

#[tokio::test]
async fn a_request_over_a_limit_uses_up_nothing_else() {
    let world = with("{ rate: 1/h, burst: 9, by: all }, { rate: 1/h, burst: 1 }").await;
    let post = Ask { method: "POST", body: "x", ..Ask::get("/orders/7") };
    assert_eq!(world.ask(&post).await.status, 200);
    let headers = world.headers(&post);
    for _ in 0..20 {
        assert_eq!(world.send(&post, &headers).await.status, 429);
    }
    // What one limit has refused is not counted by the other, and its token was not used.
    assert_eq!(world.ask(&of_reports("/orders/7")).await.status, 200);
    let limits = "[{ rate: 1/h, burst: 9, by: all }, { rate: 1/h, burst: 1 }]";
    world.apply(&world.config_text().replace(limits, "[{ concurrency: 9 }]")).unwrap();
    assert_eq!(world.send(&post, &headers).await.status, 200);
    assert_eq!(world.send(&post, &headers).await.status, 401, "now it is");
}

#[tokio::test]
async fn a_role_is_one_on_every_route() {
    let limits = "limits: [{ rate: 1/h, burst: 1, by: role }]";
    let world = World::with(|text| {
        let text = text.replace("  shop:\n", &format!("  shop:\n    {limits}\n"));
        text.replace("    identity: mtls\n    allow: [checkout]", "    identity: mtls\n    allow: [checkout, reader]")
    })
    .await;
    assert_eq!(world.ask(&of_reports("/reports/daily")).await.status, 200);
    assert_eq!(world.ask(&of_reports("/mtls")).await.status, 429, "by whatever route it comes");
    assert_eq!(world.ask(&Ask::get("/mtls")).await.status, 200, "checkout is let in by another rule");
}

#[tokio::test]
async fn what_was_used_is_used_after_a_reload() {
    let world = with("{ rate: 1/h, burst: 1 }").await;
    assert_eq!(world.ask(&Ask::get("/orders/7")).await.status, 200);
    world.apply(&world.config_text().replace("path: /status", "path: /state")).unwrap();
    assert_eq!(world.ask(&Ask::get("/orders/7")).await.status, 429);
    world.apply(&world.config_text().replace("burst: 1", "burst: 5")).unwrap();
    assert_eq!(world.ask(&Ask::get("/orders/7")).await.status, 200, "and what is allowed now is allowed now");
}

/// By what callers are told apart, and requests that are one caller's or two callers'.
#[test_case("all", |ask| ask, false; "not at all")]
#[test_case("workload", |_| of_reports("/orders/7"), true; "by the workload")]
#[test_case("role", |_| of_reports("/orders/7"), true; "by the rule")]
#[test_case("path", |ask| Ask { target: "/orders/8", ..ask }, true; "by the path")]
#[test_case("path", |ask| Ask { target: "/orders/7?x", ..ask }, false; "by the path without the query")]
#[test_case("'query:q'", |ask| Ask { target: "/orders/7?q=1", ..ask }, true; "by a parameter")]
#[test_case("'header:x-tenant'", |ask| ask.header("X-Tenant", "b"), true; "by a header")]
#[test_case("'header:x-tenant'", |ask| ask.header("X-Other", "b"), false; "by a header that neither has")]
#[test_case("'cookie:session'", |ask| ask.header("Cookie", "session=b"), true; "by a cookie")]
#[test_case("address", |ask| ask, false; "by the address")]
#[tokio::test]
async fn callers_are_told_apart(by: &str, other: fn(Ask) -> Ask, are_two: bool) {
    let world = with(&format!("{{ rate: 1/h, burst: 1, by: {by} }}")).await;
    assert_eq!(world.ask(&Ask::get("/orders/7")).await.status, 200);
    assert_eq!(world.ask(&Ask::get("/orders/7")).await.status, 429);
    assert_eq!(world.ask(&other(Ask::get("/orders/7"))).await.status, if are_two { 200 } else { 429 });
}

#[tokio::test]
async fn users_are_told_apart() {
    let login = Login::new("l-1");
    let site = Site::new(NOW).await;
    site.write("jwks.json", &login.jwks());
    let people = "people:\n  staff: { issuer: 'https://login.example.com', audience: 'api://shop', jwks: 'file:jwks.json' }\nroles:\n  support: { people: staff, claim: groups, has: support, through: [checkout] }\n  guest: { people: staff, through: [checkout] }\n";
    let route = "routes:\n  - { name: admin, match: { path: /admin }, identity: mtls+jwt+user, allow: [support, guest], limits: [{ rate: 1/h, burst: 1, by: user, for: [guest] }], pool: shop }\n";
    let world = World::before_checks(site, |text| text.replace("roles:\n", people).replace("routes:\n", route));
    world.is_healthy().await;
    let ask = |subject: &str| Ask::get("/admin").for_user(&login.sign(&claims(subject, &[])));
    for (subject, status) in [("ada", 200), ("ada", 429), ("bob", 200), ("bob", 429)] {
        assert_eq!(world.ask(&ask(subject)).await.status, status, "{subject}");
    }
}

#[tokio::test]
async fn a_limit_may_be_for_some() {
    let world = with("{ rate: 1/h, burst: 1, for: [reader] }, { rate: 1/h, burst: 3, by: all }").await;
    let statuses = [
        (of_reports("/orders/7"), 200),
        (of_reports("/orders/7"), 429),
        (Ask::get("/orders/7"), 200),
        (Ask::get("/orders/7"), 200),
        (Ask::get("/orders/7"), 429),
    ];
    for (index, (ask, status)) in statuses.into_iter().enumerate() {
        let reply = world.ask(&ask).await;
        assert_eq!(reply.status, status, "{index}: {:?}", told(&reply));
    }
    assert_eq!(last(&world)["belay"]["rule"], "routes.orders.limits.all");
}

#[tokio::test]
async fn limits_of_a_pool_and_a_listener_count_on_every_route() {
    let limits = "limits: [{ rate: 1/h, burst: 2, by: all }]";
    let world = World::with(|text| text.replace("  shop:\n", &format!("  shop:\n    {limits}\n"))).await;
    let statuses = |world: World| async move {
        let mut statuses = Vec::new();
        for target in ["/orders/7", "/status", "/mtls"] {
            statuses.push(world.ask(&Ask::get(target)).await.status);
        }
        (statuses, last(&world)["belay"]["rule"].clone())
    };
    assert_eq!(statuses(world).await, (vec![200, 200, 429], json!("pools.shop.limits.all")));
    let of_listener = "    limits: { requests: [{ rate: 1/h, burst: 2, by: address }] }\n    tls:\n";
    let world = World::with(|text| text.replacen("    tls:\n", of_listener, 1)).await;
    assert_eq!(statuses(world).await, (vec![200, 200, 429], json!("listeners.edge.limits.address")));
}

#[tokio::test]
async fn so_many_in_flight_and_no_more() {
    let pool = "    limits: [{ concurrency: 1 }]\n    servers: [{ name: z, address: '@stuck' }]\n";
    let world = Arc::new(Pools::new().await.world(pool, 1).await);
    let hold = || {
        let world = Arc::clone(&world);
        tokio::spawn(async move { world.ask(&plain()).await.status })
    };
    for _ in 0..2 {
        let held = hold();
        is_active(&world, 1).await;
        let reply = world.ask(&plain()).await;
        assert_eq!((reply.status, reply.header("retry-after")), (429, Some("1")));
        assert_eq!(last(&world)["event"]["reason"], "limit.concurrency_exceeded");
        // Whose client has gone makes room.
        held.abort();
        is_active(&world, 0).await;
    }
}

async fn is_active(world: &World, requests: usize) {
    let line = format!("belay_server_active_requests{{pool=\"shop\",server=\"z\"}} {requests}");
    settled(&line, || world.metrics().contains(&line)).await;
}

#[tokio::test]
async fn a_response_goes_at_its_pace() {
    let body = "x".repeat(128 * 1024);
    let reply = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len());
    let origin = answering("\r\n\r\n", move |_| reply.clone()).await;
    let health = "{ tcp: {} }, limits: [{ bandwidth: 128KiB/s, by: all }]";
    let world = checked_world(&[("shop", &origin, health)]).await;
    settled("the server is up", || is_up(&world, "shop")).await;
    for h2 in [false, true] {
        let begun = Instant::now();
        let reply = world.ask(&Ask { h2, ..Ask::get("/orders/7") }).await;
        assert_eq!((reply.status, reply.body.len()), (200, 128 * 1024));
        // 64 KiB go at once after a pause, and what is left takes half a second.
        assert!(begun.elapsed() >= Duration::from_millis(400), "{:?}", begun.elapsed());
    }
}

#[tokio::test]
async fn a_limit_has_a_body_of_its_own() {
    let world = with("{ body: 4B, for: [checkout] }").await;
    let post = |body| Ask { method: "POST", body, ..Ask::get("/orders/7") };
    assert_eq!(world.ask(&post("1234")).await.status, 200);
    assert_eq!(world.ask(&post("12345")).await.status, 413);
    let record = last(&world);
    assert_eq!(
        (&record["event"]["reason"], &record["belay"]["rule"]),
        (&json!("request.body_too_large"), &json!("routes.orders.limits.workload"))
    );
    assert_eq!(world.ask(&Ask { method: "POST", body: "12345", ..of_reports("/orders/7") }).await.status, 200);
}

#[tokio::test]
async fn the_edge_may_say_that_it_is_too_much() {
    let world = World::with(|text| {
        let limited = ORDERS.replacen(
            "    pool",
            "    limits: [{ edge: { claim: limit, has: [exceeded, 'true'] } }]\n    pool",
            1,
        );
        text.replace(ORDERS, &limited)
            .replace("key: 'file:checkout.pub' }]", "key: 'file:checkout.pub' }], may_assert: [limit]")
    })
    .await;
    for (said, status) in [
        (json!("exceeded"), 429),
        (json!(true), 429),
        (json!(["other", "exceeded"]), 429),
        (json!("within"), 200),
        (json!("Exceeded"), 200),
        (json!([]), 200),
        (json!(false), 200),
    ] {
        assert_eq!(world.ask(&Ask::get("/orders/7").claim("limit", said.clone())).await.status, status, "{said}");
    }
    assert_eq!(world.ask(&Ask::get("/orders/7")).await.status, 200, "it may say nothing");
}
