//! Connections to servers: how they begin, how long they live, how many there are, and what records say of them.

use crate::support::pools::{Pools, counts, plain};
use crate::support::recorder::{Begins, at_unix_socket, recorder};
use crate::support::{Ask, NOW, Site, World, settled};
use serde_json::Value;
use std::sync::Arc;
use test_case::test_case;

async fn world(pool: &str) -> World {
    let pools = Pools::new().await;
    World::before_checks(Site::new(NOW).await, |usual| {
        let usual = usual.replacen("edge:\n    bind", "edge:\n    client_address: 'claim:cip'\n    bind", 1);
        pools.text(&usual, pool)
    })
}

fn of_client(address: &str) -> Ask {
    Ask::get("/orders/7").claim("cip", address)
}

async fn echo(world: &World, ask: &Ask) -> Value {
    let reply = world.ask(ask).await;
    assert_eq!(reply.status, 200, "{}", reply.body);
    reply.echo()
}

#[test_case("v1"; "version 1")]
#[test_case("v2"; "version 2")]
#[tokio::test]
async fn a_connection_begins_with_the_clients_address(version: &str) {
    let address = recorder(Begins::Introduced).await;
    let check = "    health: { http: { path: /healthz }, interval: 10s }\n";
    let pool = format!("    proxy_protocol: {version}\n{check}    servers: [{{ name: a, address: '{address}' }}]\n");
    let world = world(&pool).await;
    settled("the check, which speaks for itself", || {
        world.metrics().contains("belay_server_up{pool=\"shop\",server=\"a\"} 1")
    })
    .await;
    let ann = echo(&world, &of_client("192.0.2.1")).await;
    assert_eq!(ann["client"], "192.0.2.1:0");
    assert_eq!(echo(&world, &of_client("2001:db8::1")).await["client"], "[2001:db8::1]:0");
    let again = echo(&world, &of_client("192.0.2.1")).await;
    assert_eq!(again["connection"], ann["connection"], "the same client's is used again, and nobody else's is");
    assert_eq!(again["request"], 2);
}

#[tokio::test]
async fn a_connection_has_its_lifetime() {
    let address = recorder(Begins::Plainly).await;
    let servers = format!("    servers: [{{ name: a, address: '{address}' }}]\n");
    let lasting = world(&servers).await;
    let first = echo(&lasting, &plain()).await["connection"].clone();
    assert_eq!(echo(&lasting, &plain()).await["connection"], first);
    let fleeting = world(&format!("    timeouts: {{ lifetime: 1s }}\n{servers}")).await;
    let first = echo(&fleeting, &plain()).await["connection"].clone();
    let started = tokio::time::Instant::now();
    while echo(&fleeting, &plain()).await["connection"] == first {
        assert!(started.elapsed().as_secs() < 20, "it is used for ever");
    }
    assert!(started.elapsed().as_millis() <= 1100, "at most its lifetime: {:?}", started.elapsed());
}

#[tokio::test]
async fn a_server_may_be_at_a_unix_socket() {
    let site = Site::new(NOW).await;
    let path = site.folder.path().join("orders.sock");
    at_unix_socket(&path);
    let check = "    health: { http: { path: /healthz }, interval: 10ms }\n";
    let pool = format!("{check}    servers: [{{ name: a, address: 'unix:{}' }}]\n", path.display());
    let pools = Pools::new().await;
    let world = World::before_checks(site, |usual| pools.text(&usual, &pool));
    pools.settle(&world, 1).await;
    assert_eq!(echo(&world, &plain()).await["path"], "/mtls");
    let outcome = world.records_of("outcome").pop().unwrap();
    assert_eq!(outcome["server"]["address"], format!("unix:{}", path.display()));
}

#[test_case("max_connections"; "each")]
#[test_case("max_connections_in_all"; "all")]
#[tokio::test]
async fn a_server_has_only_so_many_connections(key: &str) {
    let pools = Pools::new().await;
    let pool = format!("    {key}: 2\n    servers: [{{ name: z, address: '@slow' }}]\n");
    let world = Arc::new(pools.world(&pool, 1).await);
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let world = Arc::clone(&world);
        tasks.spawn(async move { world.ask(&plain()).await.status });
    }
    assert_eq!(tasks.join_all().await, [200; 8]);
    assert_eq!(pools.peak.most.load(std::sync::atomic::Ordering::SeqCst), 2);
    settled("they are closed", || world.metrics().contains("belay_server_connections{pool=\"shop\",server=\"z\"} 0"))
        .await;
}

/// Checks have connections of their own, which clients cannot take from them.
#[tokio::test]
async fn a_busy_server_is_still_checked() {
    let check = "    health: { http: { path: /healthz }, interval: 10ms, fall: 1 }\n";
    let address = recorder(Begins::Plainly).await;
    let world =
        world(&format!("    max_connections: 1\n{check}    servers: [{{ name: a, address: '{address}' }}]\n")).await;
    let passed = || {
        let text = world.metrics();
        let line = "belay_health_checks_total{pool=\"shop\",result=\"pass\",server=\"a\"} ";
        text.lines().find_map(|text| text.strip_prefix(line)).map_or(0, |count| count.parse::<u32>().unwrap())
    };
    settled("it is checked", || passed() > 0).await;
    echo(&world, &plain()).await;
    let before = passed();
    settled("and again, beside the one that is kept", || passed() > before + 3).await;
    assert!(world.metrics().contains("result=\"fail\",server=\"a\"} 0"), "{}", world.metrics());
}

/// No connection of a span that is over keeps the place from one of the next.
#[tokio::test]
async fn a_lifetime_that_ends_leaves_room() {
    let address = recorder(Begins::Plainly).await;
    let pool = format!(
        "    max_connections: 1\n    timeouts: {{ lifetime: 1s, idle: 1h }}\n    servers: [{{ name: a, address: '{address}' }}]\n"
    );
    let world = world(&pool).await;
    let (started, mut connections) = (tokio::time::Instant::now(), std::collections::BTreeSet::new());
    while connections.len() < 3 {
        assert!(started.elapsed().as_secs() < 20, "{connections:?}");
        connections.insert(echo(&world, &plain()).await["connection"].as_u64().unwrap());
    }
}

/// Idle connections of other clients take the place: there is another server, or a refusal that says so.
#[tokio::test]
async fn a_server_that_is_full_of_idle_connections_is_not_blamed() {
    let (one, two) = (recorder(Begins::Introduced).await, recorder(Begins::Introduced).await);
    let keys = "    proxy_protocol: v2\n    max_connections: 1\n    outliers: { consecutive_failures: 1 }\n";
    let pool = format!(
        "{keys}    balance: first\n    servers: [{{ name: a, address: '{one}' }}, {{ name: b, address: '{two}' }}]\n"
    );
    let world = world(&pool).await;
    let first = echo(&world, &of_client("192.0.2.1")).await;
    assert_eq!(first["connection"], 1);
    echo(&world, &of_client("192.0.2.2")).await;
    let outcome = world.records_of("outcome").pop().unwrap();
    assert_eq!((&outcome["belay"]["server"], &outcome["belay"]["attempts"]), (&"b".into(), &2.into()));
    assert_eq!(outcome["event"]["outcome"], "success");
    let reply = world.ask(&of_client("192.0.2.3")).await;
    assert_eq!(reply.status, 503);
    assert_eq!(world.records_of("outcome").pop().unwrap()["event"]["reason"], "upstream.connections_full");
    assert_eq!(echo(&world, &of_client("192.0.2.1")).await["connection"], 1, "its own is still there");
    assert!(!world.metrics().contains("belay_server_ejected{pool=\"shop\",server=\"a\"} 1"), "{}", world.metrics());
}

#[tokio::test]
async fn a_server_may_take_less_than_the_others() {
    let pools = Pools::new().await;
    let pool = "    max_requests: 5\n    queue: { timeout: 10s }\n    servers: [{ name: z, address: '@slow', max_requests: 1 }]\n";
    let world = Arc::new(pools.world(pool, 1).await);
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..3 {
        let world = Arc::clone(&world);
        tasks.spawn(async move { world.ask(&plain()).await.status });
    }
    assert_eq!(tasks.join_all().await, [200; 3]);
    assert_eq!(pools.peak.most.load(std::sync::atomic::Ordering::SeqCst), 1);
    let waited = |record: &Value| record["belay"]["times"]["queue"].as_u64().is_some_and(|nanos| nanos > 0);
    assert_eq!(world.records_of("outcome").iter().filter(|record| waited(record)).count(), 2);
}

#[tokio::test]
async fn records_say_how_long_it_took() {
    let address = recorder(Begins::Plainly).await;
    let world = world(&format!("    servers: [{{ name: a, address: '{address}' }}]\n")).await;
    echo(&world, &plain()).await;
    echo(&world, &plain()).await;
    let outcomes = world.records_of("outcome");
    let times = |index: usize| outcomes[index]["belay"]["times"].as_object().unwrap().clone();
    let first = times(0);
    assert!(first["connect"].as_u64().unwrap() > 0 && first["first_byte"].as_u64().unwrap() > 0);
    assert!(!times(1).contains_key("connect"), "the connection was there already");
    assert!(outcomes.iter().all(|outcome| outcome["server"]["address"] == address.as_str()));
}

#[tokio::test]
async fn a_check_may_be_shared() {
    let pools = Pools::new().await;
    let world = World::before_checks(Site::new(NOW).await, |usual| {
        let checks = "checks:\n  web: { http: { path: /healthz }, interval: 10ms }\n  bad: { http: { path: /, expect: '299' }, interval: 10ms }\n";
        let text = pools.text(&usual, "    check: web\n    servers: [{ name: a, address: '@a' }]\n");
        let other = pools.addressed("  spare: { check: bad, servers: [{ name: b, address: '@b' }] }\n");
        format!("{checks}{}", text.replace("audit:", &format!("{other}audit:")))
    });
    let passed = |pool: &str, result: &str| {
        let name = format!("belay_health_checks_total{{pool=\"{pool}\",result=\"{result}\",server=");
        world.metrics().lines().any(|line| line.starts_with(&name) && !line.ends_with(" 0"))
    };
    settled("both are checked", || passed("shop", "pass") && passed("spare", "fail")).await;
    assert_eq!(crate::support::pools::answers(&world, 2).await, counts([("a", 2)]));
}
