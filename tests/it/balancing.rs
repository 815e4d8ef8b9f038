//! Which server gets a request: weights, ways of balancing, backups, and what is kept over a reload.

use crate::support::pools::{Pools, answers, counts, origin_of, plain};
use crate::support::{Ask, NOW, Site, World, settled};
use test_case::test_case;

const CHECKED: &str = "    health: { http: { path: /healthz }, interval: 100ms }\n";

#[test_case("round_robin"; "in turn")]
#[test_case("least_connections"; "least connections")]
#[tokio::test]
async fn servers_are_asked_as_their_weights_say(balance: &str) {
    let pool = format!(
        "    balance: {balance}\n    servers:\n      - {{ name: a, address: '@a', weight: 30 }}\n      \
         - {{ name: b, address: '@b', weight: 10 }}\n      - {{ name: c, address: '@c', weight: 0 }}\n"
    );
    let world = Pools::new().await.world(&pool, 3).await;
    assert_eq!(answers(&world, 40).await, counts([("a", 30), ("b", 10)]));
}

#[tokio::test]
async fn a_pool_without_weight_is_refused() {
    let world = Pools::new().await.world("    servers: [{ name: a, address: '@a', weight: 0 }]\n", 1).await;
    assert_eq!(world.ask(&plain()).await.status, 503);
    assert_eq!(world.records_of("outcome").pop().unwrap()["event"]["reason"], "upstream.no_server");
}

#[test_case("first", &["a"]; "the first")]
#[test_case("random", &["a", "b"]; "by chance")]
#[test_case("power_of_two", &["a", "b"]; "power of two")]
#[test_case("least_latency", &["a", "b"]; "least latency")]
#[tokio::test]
async fn each_way_of_balancing_asks_who_is_healthy(balance: &str, asked: &[&str]) {
    let servers =
        "    servers: [{ name: z, address: '@nobody' }, { name: a, address: '@a' }, { name: b, address: '@b' }]\n";
    let world = Pools::new().await.world(&format!("    balance: {balance}\n{servers}{CHECKED}"), 2).await;
    let answers = answers(&world, 20).await;
    assert!(answers.keys().eq(asked), "{answers:?}");
}

#[tokio::test]
async fn a_slow_server_is_spared() {
    let servers =
        "    servers: [{ name: a, address: '@a' }, { name: s, address: '@slow' }, { name: b, address: '@b' }]\n";
    let world = Pools::new().await.world(&format!("    balance: least_latency\n{servers}"), 3).await;
    let answers = answers(&world, 60).await;
    assert!((1..=3).contains(&answers["slow"]), "tried, and not much more: {answers:?}");
}

#[tokio::test]
async fn what_was_learned_of_latency_outlives_a_reload() {
    let pools = Pools::new().await;
    let text = |retry: &str| {
        format!(
            "    balance: least_latency\n{retry}    servers: [{{ name: a, address: '@a' }}, {{ name: s, address: '@slow' }}]\n"
        )
    };
    let world = pools.world(&text(""), 2).await;
    let learning = answers(&world, 40).await;
    assert!(learning["slow"] >= 1, "{learning:?}");
    pools.apply(&world, &text("    retry: { attempts: 2 }\n")).await;
    assert_eq!(answers(&world, 20).await, counts([("a", 20)]), "it is not tried anew");
}

#[tokio::test]
async fn who_is_busy_is_spared() {
    let servers = "    servers: [{ name: s, address: '@stuck' }, { name: a, address: '@a' }]\n";
    let world = Pools::new().await.world(&format!("    balance: least_connections\n{servers}"), 2).await;
    let busy = plain();
    let others = async {
        settled("it is asked", || {
            world.metrics().contains("belay_server_active_requests{pool=\"shop\",server=\"s\"} 1")
        })
        .await;
        answers(&world, 5).await
    };
    tokio::select! {
        biased;
        reply = world.ask(&busy) => panic!("{reply:?}"),
        answers = others => assert_eq!(answers, counts([("a", 5)])),
    }
}

#[test_case("header:x-user", |user| Ask::get("/mtls").header("X-User", user); "a header")]
#[test_case("cookie:user", |user| Ask::get("/mtls").header("Cookie", format!("a=b; user={user}; c=d")); "a cookie")]
#[test_case("query:user", |user| Ask::get(Box::leak(format!("/mtls?a=b&user={user}").into_boxed_str())); "a parameter")]
#[test_case("path", |user| Ask::get(Box::leak(format!("/orders/{user}?{}", fastrand::u64(..)).into_boxed_str())); "the path")]
#[test_case("address", |user| Ask::get("/orders/7").claim("cip", format!("192.0.2.{}", user.as_bytes()[0])); "the client's address")]
#[test_case("claim:tenant", |user| Ask::get("/orders/7").claim("tenant", user); "a fact of the token")]
#[tokio::test]
async fn the_same_key_leads_to_the_same_server(by: &str, ask: fn(&str) -> Ask) {
    let servers = "    servers: [{ name: a, address: '@a' }, { name: b, address: '@b' }, { name: c, address: '@c' }]\n";
    let pools = Pools::new().await;
    let world = World::before_checks(Site::new(NOW).await, |usual| {
        let usual = usual.replacen("keys: [{ kid: checkout-1", "may_assert: [tenant], keys: [{ kid: checkout-1", 1);
        let usual = usual.replacen("edge:\n    bind", "edge:\n    client_address: 'claim:cip'\n    bind", 1);
        pools.text(&usual, &format!("    balance: hash\n    hash: {{ by: '{by}' }}\n{servers}"))
    });
    let mut homes = Vec::new();
    for user in ["ann", "bob", "carol", "dave", "eve", "frank", "grace", "heidi"] {
        let home = origin_of(&world, &ask(user)).await;
        for _ in 0..2 {
            assert_eq!(origin_of(&world, &ask(user)).await, home, "{user}");
        }
        homes.push(home);
    }
    assert!(["a", "b", "c"].iter().all(|server| homes.iter().any(|home| home == server)), "{homes:?}");
}

#[tokio::test]
async fn a_workload_is_a_key_too() {
    let servers = "    servers: [{ name: a, address: '@a' }, { name: b, address: '@b' }, { name: c, address: '@c' }]\n";
    let pool = format!("    balance: hash\n    hash: {{ by: workload }}\n{servers}");
    let world = Pools::new().await.world(&pool, 3).await;
    assert_eq!(answers(&world, 9).await.len(), 1, "one who calls, one server");
}

#[tokio::test]
async fn requests_without_the_key_go_in_turn() {
    let servers = "    servers: [{ name: a, address: '@a' }, { name: b, address: '@b' }]\n";
    let hash = format!("    balance: hash\n    hash: {{ by: 'header:x-user' }}\n{servers}");
    assert_eq!(answers(&Pools::new().await.world(&hash, 2).await, 10).await, counts([("a", 5), ("b", 5)]));
}

#[test_case("", "@nobody", 2, &["c"]; "no primary is left")]
#[test_case("", "@b", 3, &["b"]; "one primary is enough")]
#[test_case("    backups_below: 100%\n", "@b", 3, &["b", "c"]; "unless all are wanted")]
#[tokio::test]
async fn backups_help_when_they_must(keys: &str, second: &str, healthy: usize, asked: &[&str]) {
    let pool = format!(
        "{keys}    servers: [{{ name: a, address: '@nobody' }}, {{ name: b, address: '{second}' }}, \
         {{ name: c, address: '@c', backup: true }}]\n{CHECKED}"
    );
    let world = Pools::new().await.world(&pool, healthy - 1).await;
    let answers = answers(&world, 12).await;
    assert!(answers.keys().eq(asked), "{answers:?}");
}

#[test_case("", 503; "nobody is healthy, and nobody is asked")]
#[test_case("    panic_below: 50%\n", 200; "the checks are not believed")]
#[tokio::test]
async fn a_panic_asks_everybody(keys: &str, status: u16) {
    let unhealthy = "    health: { http: { path: /healthz, expect: '299' }, interval: 100ms }\n";
    let pool = format!("{keys}    servers: [{{ name: a, address: '@a' }}, {{ name: b, address: '@b' }}]\n{unhealthy}");
    let world = Pools::new().await.world(&pool, 0).await;
    assert_eq!(world.ask(&plain()).await.status, status);
}

#[tokio::test]
async fn a_new_server_starts_slowly() {
    let pools = Pools::new().await;
    let world = pools.world("    servers: [{ name: a, address: '@a' }]\n", 1).await;
    let servers = "    servers: [{ name: a, address: '@a' }, { name: b, address: '@b' }]\n";
    pools.apply(&world, &format!("    slow_start: 1h\n{servers}{CHECKED}")).await;
    pools.settle(&world, 2).await;
    assert_eq!(answers(&world, 44).await, counts([("a", 40), ("b", 4)]));
}

#[tokio::test]
async fn a_new_weight_forgets_nothing() {
    let pools = Pools::new().await;
    let text = |weight: u32| {
        format!(
            "    servers: [{{ name: a, address: '@a', weight: {weight} }}, {{ name: b, address: '@b' }}]\n    \
             health: {{ http: {{ path: /healthz }}, interval: 1h }}\n"
        )
    };
    let world = pools.world(&text(100), 2).await;
    assert_eq!(answers(&world, 10).await, counts([("a", 5), ("b", 5)]));
    pools.apply(&world, &text(25)).await;
    assert_eq!(answers(&world, 10).await, counts([("a", 2), ("b", 8)]), "healthy without another check");
}
