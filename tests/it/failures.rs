//! When servers fail: what is tried again, who is spared, and when a pool is left alone.

use crate::support::pools::{Pools, answers, counts, origin_of, plain};
use crate::support::{Ask, World};
use serde_json::json;
use test_case::test_case;

fn post() -> Ask {
    Ask { method: "POST", body: "x", ..Ask::get("/orders/7") }
}

/// Two servers in turn, the first of such a kind.
fn two(kind: &str, keys: &str) -> String {
    format!("{keys}    servers: [{{ name: z, address: '{kind}' }}, {{ name: a, address: '@a' }}]\n")
}

async fn world(kind: &str, keys: &str) -> World {
    Pools::new().await.world(&two(kind, keys), 2).await
}

fn has(world: &World, sample: &str) -> bool {
    world.metrics().contains(sample)
}

const ON_ALL: &str =
    "    retry: { on: [connect_failure, no_response, timeout, 503] }\n    timeouts: { between_bytes: 100ms }\n";
const BY_ALL: &str = "    retry: { on: [503, no_response], methods: all }\n";
const IDEMPOTENT: &str = "    retry: { on: [503], methods: idempotent }\n";

#[test_case("@nobody", "", plain(), true; "no connection")]
#[test_case("@nobody", "", post(), true; "no connection for a POST, which nobody has seen")]
#[test_case("@nobody", "    retry: { attempts: 1 }\n", plain(), false; "unless it is off")]
#[test_case("@nobody", "    retry: { on: [503] }\n", plain(), false; "or not listed")]
#[test_case("@busy", "", plain(), false; "a status that is not listed")]
#[test_case("@busy", ON_ALL, plain(), true; "a status")]
#[test_case("@busy", ON_ALL, post(), false; "a status for a POST")]
#[test_case("@busy", ON_ALL, post().header("Idempotency-Key", "7"), true; "a status for a POST that is marked")]
#[test_case("@busy", BY_ALL, post(), true; "a status for a POST, if all may")]
#[test_case("@busy", IDEMPOTENT, Ask { method: "PUT", ..post() }, true; "a status for a PUT")]
#[test_case("@busy", IDEMPOTENT, post(), false; "which a POST is not")]
#[test_case("@closing", "", plain(), false; "no response")]
#[test_case("@closing", ON_ALL, plain(), true; "no response, if it is listed")]
#[test_case("@closing", BY_ALL, post(), true; "a body goes twice")]
#[test_case("@stuck", ON_ALL, plain(), true; "a timeout")]
#[tokio::test]
async fn what_fails_is_tried_again(kind: &str, keys: &str, ask: Ask, is_retried: bool) {
    let world = world(kind, keys).await;
    let reply = world.ask(&ask).await;
    assert_eq!(reply.status == 200, is_retried, "{}", reply.status);
    let outcome = world.records_of("outcome").pop().unwrap();
    let (server, attempts) = if is_retried { ("a", 2) } else { ("z", 1) };
    assert_eq!((&outcome["belay"]["server"], &outcome["belay"]["attempts"]), (&json!(server), &json!(attempts)));
    assert_eq!(has(&world, "belay_retries_total{pool=\"shop\",result=\"made\"} 1"), is_retried);
    if is_retried && ask.method != "GET" {
        assert_eq!(reply.echo()["body_bytes"], 1);
    }
}

#[tokio::test]
async fn a_response_that_has_begun_is_never_tried_again() {
    let world = world("@dying", BY_ALL).await;
    let reply = world.ask(&plain()).await;
    assert_eq!((reply.status, reply.body.as_str()), (200, "{\"origin\":\"slow\"}"), "cut off");
    assert_eq!(world.records_of("outcome").pop().unwrap()["belay"]["complete"], false);
    assert!(has(&world, "belay_retries_total{pool=\"shop\",result=\"made\"} 0"));
}

/// That a kept connection was closed says nothing about the server: it is asked again, as the same attempt and with the
/// same room.
#[tokio::test]
async fn a_stale_connection_is_no_failure() {
    let keys =
        format!("{ONCE}    max_requests: 1\n    queue: {{ length: 0 }}\n    outliers: {{ consecutive_failures: 1 }}\n");
    let world = Pools::new().await.world(&format!("{keys}    servers: [{{ name: z, address: '@stale' }}]\n"), 1).await;
    assert_eq!(answers(&world, 4).await, counts([("slow", 4)]));
    assert!(world.records_of("outcome").iter().all(|outcome| outcome["belay"]["attempts"] == 1));
    assert_eq!(world.ask(&post()).await.status, 502, "a POST is not sent twice");
}

#[tokio::test]
async fn each_attempt_is_at_another_server() {
    let three = "    servers:\n      - { name: x, address: '@nobody' }\n      - { name: y, address: '@nobody' }\n      \
                 - { name: a, address: '@a' }\n";
    let world = Pools::new().await.world(three, 3).await;
    assert_eq!(answers(&world, 4).await, counts([("a", 4)]));
    let two = "    servers: [{ name: x, address: '@nobody' }, { name: y, address: '@nobody' }]\n";
    let world = Pools::new().await.world(two, 2).await;
    assert_eq!(world.ask(&plain()).await.status, 502, "nobody is left");
    assert_eq!(world.records_of("outcome").pop().unwrap()["belay"]["attempts"], 2);
}

#[tokio::test]
async fn retries_have_a_budget() {
    let world = world("@busy", "    retry: { on: [503], budget: 0% }\n").await;
    let mut statuses = Vec::new();
    for _ in 0..24 {
        statuses.push(world.ask(&plain()).await.status);
    }
    let refused = statuses.iter().filter(|status| **status == 503).count();
    assert!(statuses[..10].iter().all(|status| *status == 200) && refused > 3, "ten are always fine: {statuses:?}");
    assert!(has(&world, &format!("belay_retries_total{{pool=\"shop\",result=\"over_budget\"}} {refused}")));
}

const ONCE: &str = "    retry: { attempts: 1 }\n";

#[test_case("@broken", "consecutive_failures"; "failures in a row")]
#[test_case("@nobody", "consecutive_failures"; "no connections")]
#[test_case("@dying", "consecutive_failures"; "responses that end early")]
#[test_case("@closing", "error_rate"; "a share of failures")]
#[tokio::test]
async fn a_server_that_fails_is_ejected(kind: &str, cause: &str) {
    let rules = match cause {
        "error_rate" => "{ consecutive_failures: 0, requests_min: 3 }",
        _ => "{ consecutive_failures: 3 }",
    };
    let world = world(kind, &format!("{ONCE}    outliers: {rules}\n")).await;
    for _ in 0..6 {
        world.ask(&plain()).await;
    }
    assert_eq!(answers(&world, 6).await, counts([("a", 6)]));
    assert!(has(&world, &format!("belay_server_ejections_total{{cause=\"{cause}\",pool=\"shop\",server=\"z\"}} 1")));
    assert!(has(&world, "belay_server_ejected{pool=\"shop\",server=\"z\"} 1"));
}

#[tokio::test]
async fn a_slow_server_is_ejected() {
    let world = world("@slow", "    outliers: { slower_than: 300%, requests_min: 3 }\n").await;
    assert_eq!(answers(&world, 6).await["slow"], 3);
    assert_eq!(answers(&world, 6).await, counts([("a", 6)]));
    assert!(has(&world, "belay_server_ejections_total{cause=\"latency\",pool=\"shop\",server=\"z\"} 1"));
}

#[tokio::test]
async fn the_last_server_is_never_ejected() {
    let one = format!(
        "{ONCE}    outliers: {{ consecutive_failures: 1 }}\n    servers: [{{ name: z, address: '@broken' }}]\n"
    );
    let world = Pools::new().await.world(&one, 1).await;
    for _ in 0..3 {
        assert_eq!(world.ask(&plain()).await.status, 500);
    }
    let two = format!(
        "{ONCE}    outliers: {{ consecutive_failures: 1 }}\n    \
         servers: [{{ name: y, address: '@broken' }}, {{ name: z, address: '@broken' }}]\n"
    );
    let world = Pools::new().await.world(&two, 2).await;
    for _ in 0..4 {
        assert_eq!(world.ask(&plain()).await.status, 500, "half of them");
    }
}

#[tokio::test]
async fn an_ejection_ends() {
    let world = world("@broken", &format!("{ONCE}    outliers: {{ consecutive_failures: 1, eject: 1s }}\n")).await;
    let mut statuses = Vec::new();
    for _ in 0..4 {
        statuses.push(world.ask(&plain()).await.status);
    }
    assert_eq!(statuses.iter().filter(|status| **status == 500).count(), 1, "{statuses:?}");
    crate::support::settled("its end", || {
        world.live.tick();
        has(&world, "belay_server_ejected{pool=\"shop\",server=\"z\"} 0")
    })
    .await;
    let again = [world.ask(&plain()).await.status, world.ask(&plain()).await.status];
    assert!(again.contains(&500), "{again:?}");
}

#[tokio::test]
async fn a_pool_that_fails_is_left_alone() {
    let pools = Pools::new().await;
    let breaker = "    breaker: { requests_min: 4, pause: 100ms }\n";
    let text = |kind: &str| format!("{ONCE}{breaker}    servers: [{{ name: z, address: '{kind}' }}]\n");
    let world = pools.world(&text("@broken"), 1).await;
    for _ in 0..4 {
        assert_eq!(world.ask(&plain()).await.status, 500);
    }
    assert_eq!(world.ask(&plain()).await.status, 503);
    assert_eq!(world.records_of("outcome").pop().unwrap()["event"]["reason"], "upstream.circuit_open");
    assert!(has(&world, "belay_pool_circuit_open{pool=\"shop\"} 1"));
    pools.apply(&world, &text("@a")).await;
    let trial = async { while world.ask(&plain()).await.status != 200 {} };
    tokio::time::timeout(std::time::Duration::from_secs(10), trial).await.unwrap();
    assert_eq!(origin_of(&world, &plain()).await, "a", "all are let through again");
    assert!(has(&world, "belay_pool_circuit_open{pool=\"shop\"} 0"));
    assert!(has(&world, "belay_pool_circuit_openings_total{pool=\"shop\"} 1"));
}
