//! Limits of servers, the queue before them, and clients that go away.

use crate::support::pools::{Pools, plain};
use crate::support::{Ask, HOST, World, settled};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use test_case::test_case;
use tokio::io::AsyncWriteExt;
use tokio::task::JoinSet;

fn limited(keys: &str, server: &str) -> String {
    format!("{keys}    servers: [{{ name: z, address: '{server}' }}]\n")
}

/// Asks so often at once; the statuses.
async fn at_once(world: &Arc<World>, asks: usize, ask: fn() -> Ask) -> Vec<u16> {
    let mut tasks = JoinSet::new();
    for _ in 0..asks {
        let world = Arc::clone(world);
        tasks.spawn(async move { world.ask(&ask()).await.status });
    }
    let mut statuses = tasks.join_all().await;
    statuses.sort_unstable();
    statuses
}

#[test_case("    max_requests: 2\n"; "for the server")]
#[test_case("    max_requests_in_all: 2\n"; "for the pool")]
#[tokio::test]
async fn a_limit_holds_and_the_others_wait(keys: &str) {
    let pools = Pools::new().await;
    let world = Arc::new(pools.world(&limited(keys, "@slow"), 1).await);
    assert_eq!(at_once(&world, 8, plain).await, [200; 8]);
    assert_eq!(pools.peak.most.load(Ordering::SeqCst), 2);
    assert!(world.metrics().contains("belay_pool_queued_requests{pool=\"shop\"} 0"));
}

#[test_case("queue: { timeout: 100ms }", "upstream.queue_timeout"; "too long")]
#[test_case("queue: { length: 0 }", "upstream.queue_full"; "nobody may wait")]
#[tokio::test]
async fn who_waits_in_vain_is_told(queue: &str, reason: &str) {
    let keys = format!("    max_requests: 1\n    {queue}\n");
    let world = Arc::new(Pools::new().await.world(&limited(&keys, "@stuck"), 1).await);
    let held = tokio::spawn({
        let world = Arc::clone(&world);
        async move { world.ask(&plain()).await.status }
    });
    is_active(&world, 1).await;
    assert_eq!(world.ask(&plain()).await.status, 503);
    assert_eq!(world.records_of("outcome").pop().unwrap()["event"]["reason"], reason);
    held.abort();
}

#[tokio::test]
async fn a_workload_waits_for_itself() {
    let keys = "    max_requests: 1\n    queue: { per_workload: 1, timeout: 300ms }\n";
    let world = Arc::new(Pools::new().await.world(&limited(keys, "@stuck"), 1).await);
    let first = tokio::spawn({
        let world = Arc::clone(&world);
        async move { world.ask(&plain()).await.status }
    });
    is_active(&world, 1).await;
    let reports = Ask { certificate: Some("reports"), signer: Some("reports"), ..Ask::get("/reports/1") };
    let (mut own, other) = tokio::join!(at_once(&world, 2, plain), world.ask(&reports));
    own.push(other.status);
    assert_eq!(own, [503; 3]);
    let reasons: Vec<_> =
        world.records_of("outcome").iter().map(|outcome| outcome["event"]["reason"].clone()).collect();
    assert_eq!(reasons, ["upstream.queue_full", "upstream.queue_timeout", "upstream.queue_timeout"]);
    first.abort();
}

/// Where the queue is full, who may wait is a question of roles.
#[test_case("high", "low", true; "first and last")]
#[test_case("normal", "low", true; "others and last")]
#[test_case("low", "low", false; "both last")]
#[test_case("low", "high", false; "the other way round")]
#[tokio::test]
async fn who_comes_last_makes_room(of_reports: &str, of_checkout: &str, makes_room: bool) {
    let keys = "    max_requests: 1\n    queue: { length: 1, timeout: 1m }\n";
    let world = Arc::new(Pools::new().await.world(&limited(keys, "@stuck"), 1).await);
    let roles = format!(
        "reader: {{ workloads: [reports], priority: {of_reports} }}\n  bulk: {{ workloads: [checkout], priority: {of_checkout} }}"
    );
    let text = world.site.config_text().replace("reader: { workloads: [reports] }", &roles);
    world.apply(&text).unwrap();
    let first = asking(&world, false).await;
    is_active(&world, 1).await;
    let ask = |ask: Ask| {
        let world = Arc::clone(&world);
        tokio::spawn(async move { world.ask(&ask).await.status })
    };
    let second = ask(plain());
    is_queued(&world, 1).await;
    let reports = ask(Ask { certificate: Some("reports"), signer: Some("reports"), ..Ask::get("/reports/1") });
    let (sent_away, waits) = if makes_room { (second, reports) } else { (reports, second) };
    assert_eq!(sent_away.await.unwrap(), 503);
    let reason = if makes_room { "upstream.queue_shed" } else { "upstream.queue_full" };
    assert_eq!(world.records_of("outcome").pop().unwrap()["event"]["reason"], reason);
    is_queued(&world, 1).await;
    drop(first);
    is_queued(&world, 0).await;
    waits.abort();
}

async fn is_active(world: &World, requests: u32) {
    let sample = format!("belay_server_active_requests{{pool=\"shop\",server=\"z\"}} {requests}\n");
    settled("the server's work", || world.metrics().contains(&sample)).await;
}

async fn is_queued(world: &World, requests: u32) {
    let sample = format!("belay_pool_queued_requests{{pool=\"shop\"}} {requests}\n");
    settled("the queue", || world.metrics().contains(&sample)).await;
}

#[tokio::test]
async fn who_waits_goes_on_waiting_over_a_reload() {
    let pools = Pools::new().await;
    let text =
        |timeout: &str| limited(&format!("    max_requests: 1\n    queue: {{ timeout: {timeout} }}\n"), "@stuck");
    let world = pools.world(&text("1m"), 1).await;
    let first = asking(&world, false).await;
    is_active(&world, 1).await;
    let second = asking(&world, false).await;
    is_queued(&world, 1).await;
    pools.apply(&world, &text("50s")).await;
    is_queued(&world, 1).await;
    drop(first);
    is_queued(&world, 0).await;
    is_active(&world, 1).await;
    drop(second);
}

/// A client that is gone frees its place, and the server that works for it.
#[test_case(false; "HTTP/1.1")]
#[test_case(true; "HTTP/2")]
#[tokio::test]
async fn nothing_is_done_for_who_has_gone(h2: bool) {
    let world =
        Pools::new().await.world(&limited("    max_requests: 1\n    queue: { timeout: 1m }\n", "@stuck"), 1).await;
    let mut clients = Vec::new();
    for _ in 0..2 {
        clients.push(asking(&world, h2).await);
    }
    is_active(&world, 1).await;
    is_queued(&world, 1).await;
    drop(clients.pop());
    is_queued(&world, 0).await;
    assert_eq!(world.records_of("outcome").pop().unwrap()["belay"]["complete"], false);
    drop(clients);
    is_active(&world, 0).await;
}

/// A client that has asked; it goes away when this is dropped.
async fn asking(world: &World, h2: bool) -> Box<dyn std::any::Any> {
    if h2 {
        let (sender, connection) =
            h2::client::handshake(world.connect(Some("checkout"), &[b"h2"]).await).await.unwrap();
        tokio::spawn(connection);
        let request = http::Request::builder().uri(format!("https://{HOST}/mtls")).body(()).unwrap();
        let (response, _) = sender.ready().await.unwrap().send_request(request, true).unwrap();
        return Box::new(response);
    }
    let mut stream = world.connect(Some("checkout"), &[]).await;
    stream.write_all(format!("GET /mtls HTTP/1.1\r\nHost: {HOST}\r\n\r\n").as_bytes()).await.unwrap();
    Box::new(stream)
}
