//! Active checks: what they ask, when, and what passes.

use crate::support::checks::{answering, checked_origin, checked_world, checks, is_up};
use crate::support::pools::{Pools, plain};
use crate::support::{NOW, Site, World, settled};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response};
use parking_lot::Mutex;
use std::sync::Arc;
use test_case::test_case;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

#[tokio::test]
async fn a_check_asks_for_its_path_and_host_and_expects_its_statuses() {
    let asked_well = |head: &str| head.starts_with("GET /well?deep=1 HTTP/1.1\r\n") && head.contains("check.me\r\n");
    let origin = checked_origin(move |head, _| Some(if asked_well(head) { 204 } else { 500 })).await;
    let world = checked_world(&[
        ("good", &origin, "{ http: { path: '/well?deep=1', host: check.me, expect: '204' }, interval: 10ms }"),
        ("path", &origin, "{ http: { path: /ill, host: check.me, expect: '204' }, interval: 10ms }"),
        ("host", &origin, "{ http: { path: '/well?deep=1', expect: '204' }, interval: 10ms }"),
        ("expect", &origin, "{ http: { path: '/well?deep=1', host: check.me, expect: 200-203 }, interval: 10ms }"),
    ])
    .await;
    settled("every pool was checked", || {
        checks(&world, "good", "pass") > 2
            && ["path", "host", "expect"].iter().all(|pool| checks(&world, pool, "fail") > 2)
    })
    .await;
    assert_eq!(["good", "path", "host", "expect"].map(|pool| is_up(&world, pool)), [true, false, false, false]);
}

#[tokio::test]
async fn checks_come_at_their_interval_and_end_by_their_timeout() {
    let well = checked_origin(|_, _| Some(200)).await;
    let silent = checked_origin(|_, _| None).await;
    let world = checked_world(&[
        ("often", &well, "{ http: { path: / }, interval: 10ms }"),
        ("seldom", &well, "{ http: { path: / }, interval: 1h }"),
        ("impatient", &silent, "{ http: { path: / }, interval: 10ms, timeout: 20ms }"),
        ("patient", &silent, "{ http: { path: / }, interval: 10ms, timeout: 60s }"),
    ])
    .await;
    settled("many checks", || checks(&world, "often", "pass") > 20 && checks(&world, "impatient", "fail") > 3).await;
    assert_eq!(checks(&world, "seldom", "pass"), 1);
    assert_eq!(checks(&world, "patient", "fail"), 0, "it still waits");
}

#[tokio::test]
async fn rise_and_fall_count_results_in_a_row() {
    // Up at once, then two failures and a pass, over and over.
    let falls = || checked_origin(|_, count| Some(if count % 3 == 0 { 200 } else { 500 }));
    // Down at once, then two passes and a failure, over and over.
    let rises = || checked_origin(|_, count| Some(if count % 3 == 0 { 500 } else { 200 }));
    let (fall_2, fall_3, rise_2, rise_3) = (falls().await, falls().await, rises().await, rises().await);
    let check = |rise: u32, fall: u32| format!("{{ http: {{ path: / }}, interval: 10ms, rise: {rise}, fall: {fall} }}");
    let world = checked_world(&[
        ("fall2", &fall_2, &check(100, 2)),
        ("fall3", &fall_3, &check(100, 3)),
        ("rise2", &rise_2, &check(2, 100)),
        ("rise3", &rise_3, &check(3, 100)),
    ])
    .await;
    settled("many checks", || {
        ["fall2", "fall3", "rise2", "rise3"]
            .iter()
            .all(|pool| checks(&world, pool, "pass") + checks(&world, pool, "fail") > 9)
    })
    .await;
    assert_eq!(["fall2", "fall3", "rise2", "rise3"].map(|pool| is_up(&world, pool)), [false, true, true, false]);
}

async fn is_checked(world: &World) {
    settled("a check", || checks(world, "p", "pass") + checks(world, "p", "fail") > 0).await;
}

const BODY: &str = "HTTP/1.1 200 OK\r\nContent-Length: 17\r\nConnection: close\r\n\r\n{\"status\":\"well\"}";

#[test_case("path: /, contains: '\"well\"'", true; "it contains the text")]
#[test_case("path: /, contains: ill", false; "it does not")]
#[test_case("path: /, matches: 'w.l+'", true; "it matches")]
#[test_case("path: /, matches: '^well'", false; "it does not match")]
#[test_case("path: /, contains: well, matches: 'no'", false; "both count")]
#[tokio::test]
async fn a_checks_body_is_looked_at(http: &str, passes: bool) {
    let origin = answering("\r\n\r\n", |_| BODY.to_owned()).await;
    let world = checked_world(&[("p", &origin, &format!("{{ http: {{ {http} }}, interval: 10ms }}"))]).await;
    is_checked(&world).await;
    assert_eq!(is_up(&world, "p"), passes);
}

#[tokio::test]
async fn a_check_sends_what_it_is_told() {
    let origin = answering("ping", |heard| {
        let is_good =
            heard.starts_with("POST /well HTTP/1.1\r\n") && heard.to_lowercase().contains("x-key: secret\r\n");
        format!("HTTP/1.1 {} X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", if is_good { 200 } else { 400 })
    })
    .await;
    let check = "{ http: { method: POST, path: /well, headers: { X-Key: secret }, body: ping }, interval: 10ms }";
    let world = checked_world(&[("p", &origin, check)]).await;
    is_checked(&world).await;
    assert!(is_up(&world, "p"));
}

/// A body without end does not keep a check, nor fill the memory.
#[tokio::test]
async fn an_endless_body_is_read_to_its_bound() {
    let endless = format!("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{}well", "x".repeat(64 * 1024));
    let origin = answering("\r\n\r\n", move |_| endless.clone()).await;
    let world = checked_world(&[("p", &origin, "{ http: { path: /, contains: well }, interval: 10ms }")]).await;
    is_checked(&world).await;
    assert!(!is_up(&world, "p"), "what it looks for stands too late");
}

#[test_case("{}", true; "a connection is enough")]
#[test_case("{ send: \"PING\\r\\n\", expect: +PONG }", true; "the answer")]
#[test_case("{ send: \"PING\\r\\n\", expect: +PUNG }", false; "another answer")]
#[tokio::test]
async fn a_tcp_check(tcp: &str, passes: bool) {
    let origin = answering("\r\n", |heard| if heard == "PING\r\n" { "+PONG\r\n".into() } else { String::new() }).await;
    let world = checked_world(&[("p", &origin, &format!("{{ tcp: {tcp}, interval: 10ms }}"))]).await;
    is_checked(&world).await;
    assert_eq!(is_up(&world, "p"), passes);
}

#[tokio::test]
async fn where_nobody_listens_nothing_passes() {
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string();
    let world = checked_world(&[("p", &nobody, "{ tcp: {}, interval: 10ms }")]).await;
    is_checked(&world).await;
    assert!(!is_up(&world, "p"));
}

/// A server of gRPC that gives every call that message.
async fn grpc(message: &'static [u8]) -> String {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((stream, _)) = socket.accept().await {
            tokio::spawn(call(stream, message));
        }
    });
    address
}

async fn call(stream: TcpStream, message: &'static [u8]) {
    let mut connection = h2::server::handshake(stream).await.unwrap();
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        assert_eq!(request.uri().path(), "/grpc.health.v1.Health/Check");
        let response = Response::builder().header("content-type", "application/grpc").body(()).unwrap();
        let mut body = respond.send_response(response, false).unwrap();
        body.send_data(Bytes::from_static(message), false).unwrap();
        let trailers = [("grpc-status".parse().unwrap(), HeaderValue::from_static("0"))];
        body.send_trailers(HeaderMap::from_iter(trailers)).unwrap();
    }
}

#[test_case(&[0, 0, 0, 0, 2, 8, 1], true; "serving")]
#[test_case(&[0, 0, 0, 0, 2, 8, 2], false; "not serving")]
#[test_case(b"hello", false; "something else")]
#[tokio::test]
async fn a_grpc_check(message: &'static [u8], passes: bool) {
    let health = "{ grpc: { service: shop.Orders }, interval: 10ms }, http: 2";
    let world = checked_world(&[("p", &grpc(message).await, health)]).await;
    is_checked(&world).await;
    assert_eq!(is_up(&world, "p"), passes);
}

#[tokio::test]
async fn a_server_may_start_healthy() {
    let silent = checked_origin(|_, _| None).await;
    let check = |more: &str| format!("{{ http: {{ path: / }}, interval: 1h, timeout: 60s{more} }}");
    let (usual, trusting) = (check(""), check(", starts_healthy: true"));
    let world = checked_world(&[("usual", &silent, &usual), ("trusting", &silent, &trusting)]).await;
    settled("it is trusted", || is_up(&world, "trusting")).await;
    assert!(!is_up(&world, "usual"));
}

#[tokio::test]
async fn intervals_depend_on_how_things_are() {
    // Well once, and then never again.
    let falling = || checked_origin(|_, count| Some(if count == 0 { 200 } else { 500 }));
    let ill = || checked_origin(|_, _| Some(500));
    let (fast, down, slow) = (falling().await, ill().await, ill().await);
    let world = checked_world(&[
        ("fast", &fast, "{ http: { path: / }, interval: 100ms, fast_interval: 10ms, fall: 100 }"),
        ("down", &down, "{ http: { path: / }, interval: 1h, down_interval: 10ms }"),
        ("slow", &slow, "{ http: { path: / }, interval: 10ms, down_interval: 1h }"),
    ])
    .await;
    settled("many checks", || checks(&world, "fast", "fail") > 20 && checks(&world, "down", "fail") > 20).await;
    assert_eq!(checks(&world, "slow", "fail"), 1);
}

/// An agent beside the servers, which says what it is told to when it is asked.
async fn agent(says: Arc<Mutex<&'static str>>) -> u16 {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = socket.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = socket.accept().await {
            let mut question = [0; 5];
            if stream.read_exact(&mut question).await.is_err() || question != *b"how?\n" {
                continue;
            }
            let line = format!("{}\n", *says.lock());
            // Who has gone is not told.
            stream.write_all(line.as_bytes()).await.unwrap_or_default();
        }
    });
    port
}

#[test_case("down # tired", 503; "down")]
#[test_case("drain", 503; "drained")]
#[test_case("maint", 503; "in maintenance")]
#[test_case("0% up", 503; "without weight")]
#[test_case("50% up", 200; "with less weight")]
#[tokio::test]
async fn an_agent_says_how_servers_are(line: &'static str, status: u16) {
    let says = Arc::new(Mutex::new("up ready 100%"));
    let (port, pools) = (agent(Arc::clone(&says)).await, Pools::new().await);
    let servers = "    servers: [{ name: z, address: '@a' }]\n";
    let world =
        pools.world(&format!("    agent: {{ port: {port}, send: \"how?\\n\", interval: 10ms }}\n{servers}"), 1).await;
    assert_eq!(world.ask(&plain()).await.status, 200);
    *says.lock() = line;
    while world.ask(&plain()).await.status != status {}
    *says.lock() = "up ready 100%";
    while world.ask(&plain()).await.status != 200 {}
    *says.lock() = line;
    while world.ask(&plain()).await.status != status {}
    pools.apply(&world, servers).await;
    assert_eq!(world.ask(&plain()).await.status, 200, "who is not asked has no say");
}

#[tokio::test]
async fn an_agent_that_is_silent_changes_nothing() {
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let pool = format!(
        "    agent: {{ port: {nobody}, interval: 10ms, timeout: 20ms }}\n    servers: [{{ name: z, address: '@a' }}]\n"
    );
    assert_eq!(Pools::new().await.world(&pool, 1).await.ask(&plain()).await.status, 200);
}

/// Another pool's server is checked, and the health counts for both.
#[test_case("@a", 200; "who follows one that is well")]
#[test_case("@nobody", 503; "who follows one that is not")]
#[tokio::test]
async fn a_server_follows_anothers_health(followed: &str, status: u16) {
    let pool = format!(
        "    servers: [{{ name: z, address: '@b', follows: other/x }}]\n    health: {{ tcp: {{}}, interval: 1h }}\n  other:\n    \
         servers: [{{ name: x, address: '{followed}' }}]\n    health: {{ tcp: {{}}, interval: 10ms, fall: 1 }}\n"
    );
    let pools = Pools::new().await;
    let world = World::before_checks(Site::new(NOW).await, |usual| pools.text(&usual, &pool));
    let count = |pool: &str, server: &str, result: &str| {
        let metrics = world.metrics();
        let name = format!("belay_health_checks_total{{pool=\"{pool}\",result=\"{result}\",server=\"{server}\"}} ");
        metrics.lines().find_map(|line| line.strip_prefix(&name)?.parse::<u64>().ok()).unwrap()
    };
    settled("a check", || count("other", "x", "pass") + count("other", "x", "fail") > 0).await;
    assert_eq!(world.ask(&plain()).await.status, status);
    world.live.tick();
    let up = u8::from(status == 200);
    assert!(world.metrics().contains(&format!("belay_server_up{{pool=\"shop\",server=\"z\"}} {up}")));
    assert_eq!(count("shop", "z", "pass") + count("shop", "z", "fail"), 0, "it is not checked itself");
}
