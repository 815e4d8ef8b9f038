//! The door: which handshakes, heads and bodies get in, and that what does not is recorded.

use crate::support::{Ask, HOST, NOW, Site, World, flood, settled, show, tunnel};
use belay::runtime::Change;
use rustls::HandshakeKind;
use serde_json::json;
use std::time::{Duration, Instant};
use test_case::test_case;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio_rustls::client::TlsStream;

const CLIENT_AUTH: &str = "client_auth: { ca: [workers-ca.pem] }";

/// The usual config with other keys under the listener.
async fn with_listener(keys: &str) -> World {
    World::with(|text| text.replacen("edge:\n    bind", &format!("edge:\n    {keys}\n    bind"), 1)).await
}

async fn with_client_auth(keys: &str, files: &[(&str, String)]) -> World {
    let site = Site::new(NOW).await;
    let world = world_of(site, keys, files);
    settled("a healthy server", || {
        world.live.snapshot().pools.iter().all(|pool| pool.servers.iter().any(|server| server.state.health.is_up()))
    })
    .await;
    world
}

fn world_of(site: Site, keys: &str, files: &[(&str, String)]) -> World {
    files.iter().for_each(|(name, content)| site.write(name, content));
    World::before_checks(site, |text| text.replace(CLIENT_AUTH, &format!("client_auth: {{ {keys} }}")))
}

/// Sends bytes over a connection of checkout's and reads to its end.
async fn exchange(world: &World, bytes: &[u8]) -> String {
    let mut stream = world.connect(Some("checkout"), &[]).await;
    stream.write_all(bytes).await.unwrap();
    read_to_end(&mut stream).await
}

async fn read_to_end(stream: &mut TlsStream<DuplexStream>) -> String {
    let mut raw = Vec::new();
    // A connection that ends without close_notify has ended all the same.
    stream.read_to_end(&mut raw).await.unwrap_or_default();
    String::from_utf8_lossy(&raw).into_owned()
}

fn status_of(raw: &str) -> u16 {
    raw.split(' ').nth(1).unwrap_or_else(|| panic!("no response: {raw:?}")).parse().unwrap()
}

#[test_case("GET /mtls HTTP/1.1\nHost: shop.example.com\n\n", 400, "malformed_head"; "bare lf")]
#[test_case("GET /mtls HTTP/1.1\r\n\r\n", 400, "malformed_authority"; "no host")]
#[test_case("GET /mtls HTTP/1.1\r\nHost: shop.example.com\r\nHost: shop.example.com\r\n\r\n", 400, "malformed_authority"; "two hosts")]
#[test_case("GET /mtls HTTP/1.1\r\nHost: shop.example.com\r\n X: folded\r\n\r\n", 400, "malformed_head"; "folded")]
#[test_case("GET /mtls HTTP/1.1\r\nHost: shop.example.com\r\n: empty\r\n\r\n", 400, "malformed_head"; "empty name")]
#[test_case("GET /mtls HTTP/1.1\r\nHost: shop.example.com\r\nX : a\r\n\r\n", 400, "malformed_head"; "space before the colon")]
#[test_case("GET /mtls#a HTTP/1.1\r\nHost: shop.example.com\r\n\r\n", 400, "malformed_target"; "fragment")]
#[test_case("GET /mtls HTTP/1.2\r\nHost: shop.example.com\r\n\r\n", 505, "unsupported_version"; "version")]
#[test_case("CONNECT shop.example.com:443 HTTP/1.1\r\nHost: shop.example.com\r\n\r\n", 405, "connect_refused"; "connect")]
#[test_case("POST /mtls HTTP/1.1\r\nHost: shop.example.com\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n", 400, "malformed_request"; "both framings")]
#[test_case("POST /mtls HTTP/1.0\r\nHost: shop.example.com\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, "malformed_request"; "chunks in 1.0")]
#[test_case("POST /mtls HTTP/1.1\r\nHost: shop.example.com\r\nTransfer-Encoding: chunked\r\n\r\nz\r\n", 400, "malformed_request"; "bad chunk")]
#[test_case("POST /mtls HTTP/1.1\r\nHost: shop.example.com\r\nExpect: more\r\n\r\n", 417, "expectation_refused"; "expectation")]
#[test_case("GET /mtls HTTP/1.1\r\nHost: shop.example.com:9\r\n\r\n", 400, "malformed_authority"; "undeclared port")]
#[test_case("GET /mtls HTTP/1.1\r\nHost: other.example.com\r\n\r\n", 421, "wrong_authority"; "another host")]
#[test_case("GET /mtls HTTP/1.1\r\nHost: //admin\r\n\r\n", 400, "malformed_authority"; "a path as authority")]
#[tokio::test]
async fn a_head_that_breaks_a_rule_goes_nowhere_and_is_recorded(head: &str, status: u16, reason: &str) {
    let world = World::new().await;
    let raw = exchange(&world, head.replacen("\r\nHost", "\r\nConnection: close\r\nHost", 1).as_bytes()).await;
    assert_eq!(status_of(&raw), status, "{raw}");
    assert!(raw.contains("application/problem+json") && raw.to_lowercase().contains("connection: close"), "{raw}");
    let (decision, outcome) = (&world.records_of("decision")[0], &world.records_of("outcome")[0]);
    assert_eq!(decision["event"]["reason"], format!("request.{reason}"));
    assert_eq!(decision["http"]["request"]["id"], outcome["http"]["request"]["id"]);
    assert_eq!(outcome["http"]["response"]["status_code"], status);
    assert!(world.metrics().contains(&format!("belay_refusals_total{{listener=\"edge\",reason=\"{reason}\"}} 1")));
    assert_eq!(world.forwarded(), 0);
}

/// `HAProxy`'s CVE-2021-40346 was a length that did not fit into a byte.
#[tokio::test]
async fn header_lengths_at_the_edges_of_integers_are_read_as_they_are() {
    let world = World::new().await;
    for length in [254, 255, 256, 257, 511, 512, 16_383, 16_384] {
        let value = "v".repeat(length);
        let reply = world.ask(&Ask { signer: None, ..Ask::get("/mtls").header("x-long", value.clone()) }).await;
        assert_eq!(reply.echo()["headers"]["x-long"], value);
        let name: &'static str = Box::leak(format!("x-{}", "n".repeat(length - 2)).into_boxed_str());
        let reply = world.ask(&Ask { signer: None, ..Ask::get("/mtls").header(name, "v") }).await;
        assert_eq!(reply.echo()["headers"][name], "v");
    }
    let request = format!("GET /mtls HTTP/1.1\r\nHost: {HOST}\r\nX: {}\r\n\r\n", "v".repeat(65_537));
    assert_eq!(status_of(&exchange(&world, request.as_bytes()).await), 431);
}

#[tokio::test]
async fn a_head_has_its_limits() {
    let world = with_listener("limits: { head: 1KiB, headers: 5 }").await;
    let get = || Ask { signer: None, ..Ask::get("/mtls") };
    let many = |count: usize| (0..count).fold(get(), |ask, _| ask.header("x-many", "v"));
    assert_eq!(world.ask(&many(3)).await.status, 200, "with Host and Connection");
    assert_eq!(world.ask(&many(4)).await.status, 431);
    assert_eq!(world.ask(&Ask { h2: true, ..many(6) }).await.status, 431);
    assert_eq!(world.ask(&get().header("x-long", "v".repeat(800))).await.status, 200);
    assert_eq!(world.ask(&get().header("x-long", "v".repeat(1000))).await.status, 431);
    assert_eq!(world.ask(&Ask { h2: true, ..get().header("x-long", "v".repeat(1100)) }).await.status, 431);
}

#[tokio::test]
async fn a_head_has_its_time() {
    let world = with_listener("limits: { head_timeout: 50ms }").await;
    let raw = exchange(&world, b"GET /mtls HTTP/1.1\r\nHost: shop").await;
    assert_eq!(status_of(&raw), 408, "{raw}");
    assert_eq!(world.records_of("decision")[0]["event"]["reason"], "request.head_too_slow");
    assert_eq!(exchange(&world, b"").await, "", "who says nothing is not answered");
}

#[tokio::test]
async fn an_idle_connection_ends() {
    let world = with_listener("limits: { idle_timeout: 50ms }").await;
    let request = "GET /mtls HTTP/1.1\r\nHost: shop.example.com\r\n\r\n";
    let raw = exchange(&world, request.repeat(2).as_bytes()).await;
    assert_eq!(raw.matches("HTTP/1.1 200").count(), 2, "two in a row, then the end: {raw}");
}

#[test_case("Content-Length: 2000\r\n\r\n", 413; "a long body by its length")]
#[test_case("Transfer-Encoding: chunked\r\n\r\n7d0\r\n", 413; "a long body by its chunks")]
#[test_case("Content-Length: 3\r\n\r\nabc", 200; "a short one")]
#[tokio::test]
async fn a_body_has_its_limit(head: &str, expected: u16) {
    let world = with_listener("limits: { body: 1KiB }").await;
    let body = if expected == 413 { "x".repeat(2000) + "\r\n0\r\n\r\n" } else { String::new() };
    let request = format!("POST /mtls HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n{head}{body}");
    let raw = exchange(&world, request.as_bytes()).await;
    assert_eq!(status_of(&raw), expected, "{raw}");
    assert_eq!(world.records_of("outcome")[0]["event"]["reason"] == "request.body_too_large", expected == 413);
}

#[tokio::test]
async fn an_h2_body_has_its_limit() {
    let world = with_listener("limits: { body: 1KiB }").await;
    let body: &'static str = Box::leak("x".repeat(2000).into_boxed_str());
    let ask = Ask { signer: None, method: "POST", h2: true, ..Ask::get("/mtls") };
    assert_eq!(world.ask(&Ask { body: "abc", ..ask.clone() }).await.status, 200);
    assert_eq!(world.ask(&Ask { body, ..ask }).await.status, 413);
}

#[tokio::test]
async fn a_port_may_be_declared() {
    let world = with_listener("ports: [9443]").await;
    for (host, expected) in
        [("shop.example.com:9443", 200), ("shop.example.com:443", 200), ("shop.example.com:9444", 400)]
    {
        let raw =
            exchange(&world, format!("GET /mtls HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").as_bytes())
                .await;
        assert_eq!(status_of(&raw), expected, "{host}");
    }
}

#[tokio::test]
async fn an_h2_authority_is_one_of_the_certificates() {
    let world = World::new().await;
    let stream = world.connect(Some("checkout"), &[b"h2"]).await;
    let (sender, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    for (uri, expected) in [("https://shop.example.com/mtls", 200), ("https://other.example.com/mtls", 421)] {
        let request = http::Request::builder().uri(uri).body(()).unwrap();
        let (response, _) = sender.clone().ready().await.unwrap().send_request(request, true).unwrap();
        assert_eq!(response.await.unwrap().status(), expected, "{uri}");
    }
}

#[tokio::test]
async fn a_revoked_certificate_is_refused_at_once() {
    let site = Site::new(NOW).await;
    let list = |number: u64, revoked: &[&str]| {
        let revoked: Vec<_> = revoked.iter().map(|name| &site.identities[name]).collect();
        site.worker_ca.list(number, 100, &revoked)
    };
    let (first, second, older) = (list(5, &[]), list(6, &["checkout"]), list(4, &[]));
    let world = world_of(site, "ca: [workers-ca.pem], crl: [workers.crl]", &[("workers.crl", first)]);
    settled("a healthy server", || world.live.snapshot().pools.iter().all(|pool| pool.servers[0].state.health.is_up()))
        .await;
    let ask = Ask { signer: None, ..Ask::get("/mtls") };
    let request = format!("GET /mtls HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
    let mut kept = world.connect(Some("checkout"), &[]).await;
    kept.write_all(request.as_bytes()).await.unwrap();
    assert_eq!(world.ask(&ask).await.status, 200);

    world.write("workers.crl", &second);
    assert!(matches!(world.live.refresh(), Ok(Change::Applied(_))));
    assert_eq!(world.ask(&ask).await.status, 401);
    kept.write_all(request.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n").as_bytes()).await.unwrap();
    let raw = read_to_end(&mut kept).await;
    assert!(raw.contains("HTTP/1.1 200") && raw.contains("HTTP/1.1 401"), "a kept connection, too: {raw}");
    assert_eq!(world.records_of("decision").pop().unwrap()["event"]["reason"], "identity.certificate_revoked");

    world.write("workers.crl", &older);
    let refused = show(&world.live.refresh().unwrap_err());
    assert!(refused.contains("workers.crl") && refused.contains("older revocation list"), "{refused}");
    assert_eq!(world.ask(&ask).await.status, 401, "the newer list stays");
}

#[test_case("", 503; "refused unless said otherwise")]
#[test_case(", crl_expired: warn", 200; "or taken as it is")]
#[tokio::test]
async fn a_list_that_has_expired_counts_as_the_config_says(keys: &str, expected: u16) {
    let site = Site::new(NOW).await;
    let list = site.worker_ca.list(1, 100, &[]);
    let world = world_of(site, &format!("ca: [workers-ca.pem], crl: [workers.crl]{keys}"), &[("workers.crl", list)]);
    settled("a healthy server", || world.live.snapshot().pools.iter().all(|pool| pool.servers[0].state.health.is_up()))
        .await;
    let ask = Ask { signer: None, ..Ask::get("/mtls") };
    assert_eq!(world.ask(&ask).await.status, 200);
    assert!(
        world
            .metrics()
            .contains(&format!("belay_crl_next_update_timestamp_seconds{{listener=\"edge\"}} {}", NOW + 100))
    );
    world.clock.set(NOW + 100);
    let reply = world.ask(&ask).await;
    assert_eq!((reply.status, reply.header("retry-after").is_some()), (expected, expected == 503));
}

#[tokio::test]
async fn a_certificate_may_not_live_too_long() {
    let world = with_client_auth("ca: [workers-ca.pem], max_certificate_lifetime: 30d", &[]).await;
    assert_eq!(world.ask(&Ask { signer: None, ..Ask::get("/mtls") }).await.status, 401);
    assert_eq!(world.records_of("decision")[0]["event"]["reason"], "identity.certificate_lifetime");
}

/// A session that was resumed keeps its certificate, and is judged all the same; one whose trust has changed is not
/// resumed at all (nginx CVE-2025-23419).
#[tokio::test]
async fn tickets_end_with_the_trust_that_they_were_given_in() {
    let world = World::new().await;
    let client = world.client(Some("checkout"), &[], rustls::DEFAULT_VERSIONS);
    let visit = async |expected: HandshakeKind, status: u16, what: &str| {
        let mut stream = world.try_tls(world.plain(), &client).await.unwrap();
        let request = format!("GET /mtls HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let raw = read_to_end(&mut stream).await;
        assert_eq!((stream.get_ref().1.handshake_kind(), status_of(&raw)), (Some(expected), status), "{what}");
    };
    visit(HandshakeKind::Full, 200, "the first").await;
    visit(HandshakeKind::Resumed, 200, "resumed").await;
    world.apply(&world.config_text().replace("path: /status", "path: /state")).unwrap();
    visit(HandshakeKind::Resumed, 200, "a change that concerns no trust").await;
    world.write("more.pem", &crate::support::Ca::new(NOW).pem);
    world.apply(&world.config_text().replace("[workers-ca.pem]", "[workers-ca.pem, more.pem]")).unwrap();
    visit(HandshakeKind::Full, 200, "one more CA").await;
    world.clock.set(NOW + crate::support::WORKLOAD_LIFE + 1);
    visit(HandshakeKind::Resumed, 401, "resumed, and judged by its time").await;
}

#[tokio::test]
async fn certificates_come_from_a_folder_too() {
    let site = Site::new(NOW).await;
    let folder = site.folder.path().join("served");
    std::fs::create_dir(&folder).unwrap();
    let other = rcgen::generate_simple_self_signed(["a.example.com".to_owned()]).unwrap();
    site.write("served/a.pem", &other.cert.pem());
    site.write("served/a.key", &other.signing_key.serialize_pem());
    site.write("served/shop.pem", &site.identities["lb"].pem);
    site.write("served/shop.key", &site.identities["lb"].key_pem);
    let listed = "certificates: [{ cert: lb.pem, key: 'file:lb.key' }]";
    let world = World::before_checks(site, |text| text.replace(listed, "certificates: [{ folder: served }]"));
    drop(world.connect(None, &[]).await);
    world.write("served/new.pem", "garbage");
    let refused = show(&world.live.refresh().unwrap_err());
    assert!(refused.contains("new.pem") && refused.contains("new.key"), "{refused}");
    std::fs::remove_file(folder.join("new.pem")).unwrap();
    std::fs::remove_file(folder.join("shop.pem")).unwrap();
    assert!(matches!(world.live.refresh(), Ok(Change::Applied(_))));
    let client = world.client(None, &[], rustls::DEFAULT_VERSIONS);
    assert!(world.try_tls(world.plain(), &client).await.is_err(), "only the other one is left");
}

/// Two of a kind are recorded; of hundreds, a hundred, and how many more there were. And they are heard more slowly.
#[tokio::test]
async fn strangers_do_not_fill_the_log() {
    let world = World::new().await;
    let request = format!("GET /orders HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
    let mut stream = world.connect(None, &[]).await;
    let begun = Instant::now();
    for _ in 0..150 {
        stream.write_all(request.as_bytes()).await.unwrap();
    }
    stream.write_all(request.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n").as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    assert_eq!(read_to_end(&mut stream).await.matches("HTTP/1.1 401").count(), 151);
    assert!(begun.elapsed() >= Duration::from_millis(500), "fifty pauses");
    assert_eq!((world.records_of("decision").len(), world.records_of("outcome").len()), (100, 100));
    world.live.tick();
    let summary = &world.records_of("summary")[0];
    assert_eq!(
        (&summary["event"]["reason"], &summary["belay"]["count"]),
        (&json!("identity.certificate_missing"), &json!(51))
    );
    assert_eq!(world.ask(&Ask { signer: None, ..Ask::get("/mtls") }).await.status, 200);
    assert_eq!(world.records_of("outcome").len(), 101, "who is known is recorded");
}

/// Many streams at once, each a good request: one connection serves them all.
#[tokio::test]
async fn many_streams_share_a_connection() {
    let world = with_listener("limits: { streams: 20 }").await;
    let stream = world.connect(Some("checkout"), &[b"h2"]).await;
    let (sender, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let mut sender = sender.clone().ready().await.unwrap();
        let request = http::Request::builder().uri(format!("https://{HOST}/mtls")).body(()).unwrap();
        let (response, _) = sender.send_request(request, true).unwrap();
        tasks.spawn(async move { response.await.unwrap().status() });
    }
    assert!(tasks.join_all().await.iter().all(|status| *status == 200));
    assert_eq!(sender.current_max_send_streams(), 20);
}

/// A client that pings without end is cut off; its neighbour is not.
#[tokio::test]
async fn a_flood_of_frames_ends_its_connection() {
    let world = World::new().await;
    flood::until_cut(world.connect(Some("checkout"), &[b"h2"]).await).await;
    assert_eq!(world.ask(&Ask { signer: None, h2: true, ..Ask::get("/mtls") }).await.status, 200);
}

async fn with_origin(answer: &'static str) -> World {
    let address = tunnel::origin(answer).await;
    World::before_checks(Site::new(NOW).await, |text| {
        let (before, _) = text.split_once("    servers: [").unwrap();
        format!("{before}    servers: [{{ name: a, address: '{address}' }}]\naudit: {{ file: audit.jsonl }}\n")
    })
}

#[tokio::test]
async fn a_websocket_is_a_tunnel_after_the_101_and_not_before() {
    let world = with_origin(tunnel::SWITCHED).await;
    let mut stream = tunnel::open(&world).await;
    for message in ["one", "another"] {
        stream.write_all(message.as_bytes()).await.unwrap();
        let mut echo = vec![0; message.len()];
        stream.read_exact(&mut echo).await.unwrap();
        assert_eq!(echo, message.as_bytes());
    }
}

/// Pingora's CVE-2026-2833: what follows an upgrade that the origin has not granted is no tunnel but a request.
#[tokio::test]
async fn without_a_101_there_is_no_tunnel() {
    let world = with_origin("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    let head = tunnel::asking();
    let next = format!("GET /orders HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n");
    let raw = exchange(&world, (head + &next).as_bytes()).await;
    assert!(raw.starts_with("HTTP/1.1 200") && raw.contains("HTTP/1.1 401"), "the second was judged: {raw}");
    assert_eq!(world.forwarded(), 1);
}

#[tokio::test]
async fn a_101_that_nobody_asked_for_is_no_answer() {
    let world = with_origin(tunnel::SWITCHED).await;
    let raw = exchange(&world, format!("GET /mtls HTTP/1.1\r\nHost: {HOST}\r\n\r\n").as_bytes()).await;
    assert_eq!(status_of(&raw), 502, "{raw}");
    let h2c = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n";
    let raw = exchange(&world, format!("GET /mtls HTTP/1.1\r\nHost: {HOST}\r\n{h2c}\r\n").as_bytes()).await;
    assert_eq!(status_of(&raw), 502, "no other protocol is asked for: {raw}");
}

/// A client that asks for much and reads nothing: its stream ends, and with it the work at the origin.
#[tokio::test]
async fn who_does_not_read_is_not_served() {
    let answer: &'static str = Box::leak(
        format!("HTTP/1.1 200 OK\r\nContent-Length: 9000000\r\n\r\n{}", "x".repeat(9_000_000)).into_boxed_str(),
    );
    let address = tunnel::origin(answer).await;
    let world = World::before_checks(Site::new(NOW).await, |text| {
        let (before, _) = text.split_once("    servers: [").unwrap();
        let before = before.replacen("edge:\n    bind", "edge:\n    limits: { write_timeout: 50ms }\n    bind", 1);
        format!("{before}    servers: [{{ name: a, address: '{address}' }}]\naudit: {{ file: audit.jsonl }}\n")
    });
    let mut h1 = world.connect(Some("checkout"), &[]).await;
    h1.write_all(format!("GET /mtls HTTP/1.1\r\nHost: {HOST}\r\n\r\n").as_bytes()).await.unwrap();
    settled("its end", || !world.records_of("outcome").is_empty()).await;
    let stream = world.connect(Some("checkout"), &[b"h2"]).await;
    let (sender, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let request = http::Request::builder().uri(format!("https://{HOST}/mtls")).body(()).unwrap();
    let (response, _) = sender.ready().await.unwrap().send_request(request, true).unwrap();
    let unread = response.await.unwrap();
    settled("the other's end", || world.records_of("outcome").len() == 2).await;
    for outcome in world.records_of("outcome") {
        assert_eq!(outcome["belay"]["complete"], false);
        assert_eq!(outcome["event"]["reason"], "request.response_not_taken");
    }
    drop((h1, unread));
}

/// The answer to a refusal waits for nobody either.
#[tokio::test]
async fn who_does_not_read_his_refusal_is_let_go() {
    let world = with_listener("limits: { write_timeout: 50ms }").await;
    let stream = world.connect(None, &[b"h2"]).await;
    let (sender, connection) =
        h2::client::Builder::new().initial_window_size(0).handshake::<_, bytes::Bytes>(stream).await.unwrap();
    tokio::spawn(connection);
    let request = http::Request::builder().uri(format!("https://{HOST}/orders")).body(()).unwrap();
    let (response, _) = sender.ready().await.unwrap().send_request(request, true).unwrap();
    let unread = response.await.unwrap();
    settled("its end", || !world.records_of("outcome").is_empty()).await;
    assert_eq!(unread.status(), 401);
}

/// Every visible byte in a target is either forwarded as it is or refused with a record.
#[tokio::test]
async fn no_byte_of_a_target_is_refused_without_a_record() {
    let world = World::new().await;
    for byte in 0x21_u8..0x7f {
        // Of one second not all of a stranger's refusals are recorded.
        world.clock.set(NOW + i64::from(byte));
        for target in [format!("/orders{}x", char::from(byte)), format!("/orders?{}", char::from(byte))] {
            let before = world.records_of("decision").len();
            let request = format!("GET {target} HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n");
            let raw = exchange(&world, request.as_bytes()).await;
            assert!(matches!(status_of(&raw), 400 | 401 | 404), "{target}: {raw}");
            assert_eq!(world.records_of("decision").len(), before + 1, "{target}");
        }
    }
}

/// Frames that two kinds of clients cut a cookie into are one again.
#[tokio::test]
async fn a_cookie_in_pieces_is_one_again() {
    let world = World::new().await;
    let ask = Ask { signer: None, h2: true, ..Ask::get("/mtls") }.header("cookie", "a=1").header("cookie", "b=2");
    assert_eq!(world.ask(&ask).await.echo()["headers"]["cookie"], "a=1; b=2");
}

#[tokio::test]
async fn an_expectation_of_h2_is_refused_alike() {
    let world = World::new().await;
    let ask = Ask { signer: None, h2: true, ..Ask::get("/mtls") };
    assert_eq!(world.ask(&ask.clone().header("expect", "more")).await.status, 417);
    assert_eq!(world.ask(&ask).await.status, 200);
}

/// A tunnel's bytes are no body: they have no limit and no pace.
#[tokio::test]
async fn a_tunnel_carries_more_than_a_body_may() {
    let address = tunnel::origin(tunnel::SWITCHED).await;
    let world = World::before_checks(Site::new(NOW).await, |text| {
        let (before, _) = text.split_once("    servers: [").unwrap();
        let before = before.replacen("edge:\n    bind", "edge:\n    limits: { body: 1KiB }\n    bind", 1);
        format!("{before}    servers: [{{ name: a, address: '{address}' }}]\naudit: {{ file: audit.jsonl }}\n")
    });
    let mut stream = tunnel::open(&world).await;
    for _ in 0..10 {
        stream.write_all(&[7; 1000]).await.unwrap();
        stream.flush().await.unwrap();
        let mut echo = [0; 1000];
        stream.read_exact(&mut echo).await.unwrap();
    }
}

/// Caddy's CVE-2026-27588: with more than a hundred hosts another way of looking them up told upper case from lower.
#[tokio::test]
async fn a_host_is_found_in_any_case_among_many() {
    let world = World::with(|text| {
        let route = |number: usize| {
            format!(
                "  - {{ name: h{number}, match: {{ host: h{number}.example.com }}, allow: [reader], pool: shop }}\n"
            )
        };
        let many: String = (0..150).map(route).collect();
        text.replace("routes:\n", &format!("routes:\n{many}"))
    })
    .await;
    let ask = Ask { signer: None, ..Ask::get("/mtls") };
    let raw = exchange(&world, b"GET /mtls HTTP/1.1\r\nHost: SHOP.Example.COM\r\nConnection: close\r\n\r\n").await;
    assert_eq!((status_of(&raw), world.ask(&ask).await.status), (200, 200));
    assert_eq!(world.records_of("decision")[0]["url"]["domain"], HOST);
}

/// oauth2-proxy's CVE-2026-34457: whoever calls himself a health check is let in.
#[tokio::test]
async fn a_health_check_is_nobody_special() {
    let world = World::new().await;
    let ask = Ask { certificate: None, signer: None, ..Ask::get("/orders/7") };
    assert_eq!(world.ask(&ask.header("user-agent", "belay-health-check")).await.status, 401);
    let check = Ask { certificate: None, signer: None, ..Ask::get("/healthz") };
    assert_eq!(world.ask(&check.header("user-agent", "belay-health-check")).await.status, 401);
}

/// Rapid reset (CVE-2023-44487) and made-you-reset (CVE-2025-8671): what nobody waits for is not worked on.
#[tokio::test]
async fn a_stream_that_was_reset_is_not_worked_on() {
    let world = with_origin("").await;
    let stream = world.connect(Some("checkout"), &[b"h2"]).await;
    let (sender, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let mut streams = Vec::new();
    for _ in 0..10 {
        let request = http::Request::builder().uri(format!("https://{HOST}/mtls")).body(()).unwrap();
        streams.push(sender.clone().ready().await.unwrap().send_request(request, true).unwrap());
    }
    let active = |count: &str| {
        world.metrics().contains(&format!("belay_server_active_requests{{pool=\"shop\",server=\"a\"}} {count}"))
    };
    settled("all are worked on", || active("10")).await;
    streams.iter_mut().for_each(|(_, stream)| stream.send_reset(h2::Reason::CANCEL));
    settled("none is", || active("0")).await;
    assert!(!world.metrics().contains("belay_refusals_total{listener=\"edge\",reason=\"malformed_request\"} 1"));
}

#[test_case("workers-ca.pem", "", "holds no certificate"; "an empty ca")]
#[test_case("workers-ca.pem", "garbage", "holds no certificate"; "a garbled ca")]
#[test_case("workers.crl", "", "holds no revocation list"; "an empty list")]
#[test_case("workers.crl", "-----BEGIN X509 CRL-----\nAQID\n-----END X509 CRL-----\n", "revocation list 1 is broken"; "a garbled list")]
#[test_case("lb.pem", "", "holds no certificate"; "no certificate")]
#[test_case("lb.key", "-----BEGIN PRIVATE KEY-----\n!\n-----END PRIVATE KEY-----\n", "the private key is broken"; "a garbled key")]
#[test_case("checkout.pub", "", "holds no public key"; "no token key")]
#[tokio::test]
async fn a_broken_file_is_named_and_the_old_one_stays(file: &str, content: &str, expected: &str) {
    let site = Site::new(NOW).await;
    let list = site.worker_ca.list(1, 100, &[]);
    let world = world_of(site, "ca: [workers-ca.pem], crl: [workers.crl]", &[("workers.crl", list)]);
    settled("a healthy server", || world.live.snapshot().pools.iter().all(|pool| pool.servers[0].state.health.is_up()))
        .await;
    world.write(file, content);
    let refused = show(&world.live.refresh().unwrap_err());
    assert!(refused.contains(file) && refused.contains(expected), "{refused}");
    assert_eq!(world.ask(&Ask { signer: None, ..Ask::get("/mtls") }).await.status, 200);
    std::fs::remove_file(world.folder.path().join(file)).unwrap();
    let refused = show(&world.live.refresh().unwrap_err());
    assert!(refused.contains(file) && refused.contains("cannot be opened"), "{refused}");
}
