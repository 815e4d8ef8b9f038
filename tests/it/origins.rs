//! The way to origins: TLS with real verification, HTTP/2, gRPC with its trailers, tunnels that are quiet.

use crate::support::{Ask, Ca, HOST, Identity, NOW, Site, World, settled, show, tunnel};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use std::{sync::Arc, time::Duration};
use test_case::test_case;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// What an origin speaks.
#[derive(Clone)]
struct Speaks {
    tls: Option<Arc<ServerConfig>>,
    h2: bool,
    kind: &'static str,
}

/// An origin that answers `ok`, with trailers where it speaks HTTP/2.
async fn origin(speaks: Speaks) -> String {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((stream, _)) = socket.accept().await {
            tokio::spawn(serve(stream, speaks.clone()));
        }
    });
    address
}

async fn serve(stream: TcpStream, speaks: Speaks) {
    match speaks.tls.clone() {
        Some(tls) => {
            // Who does not trust us goes away.
            if let Ok(stream) = TlsAcceptor::from(tls).accept(stream).await {
                speak(stream, speaks).await;
            }
        }
        None => speak(stream, speaks).await,
    }
}

async fn speak<S: AsyncRead + AsyncWrite + Unpin>(stream: S, speaks: Speaks) {
    if speaks.h2 { speak_h2(stream, speaks.kind).await } else { speak_h1(stream).await }
}

async fn speak_h1<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(byte) = stream.read_u8().await else { return };
        head.push(byte);
    }
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";
    // Who has gone is not answered.
    stream.write_all(answer).await.unwrap_or_default();
    stream.shutdown().await.unwrap_or_default();
}

async fn speak_h2<S: AsyncRead + AsyncWrite + Unpin>(stream: S, kind: &'static str) {
    let Ok(mut connection) = h2::server::handshake(stream).await else { return };
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        let te = request.headers().get("te").cloned();
        let response = Response::builder()
            .header("content-type", kind)
            .header("x-te", te.unwrap_or(HeaderValue::from_static("-")));
        let mut body = respond.send_response(response.body(()).unwrap(), false).unwrap();
        body.send_data(Bytes::from_static(b"ok"), false).unwrap();
        let trailers =
            [("grpc-status", "0"), ("grpc-message", "fine"), ("x-checksum", "7"), ("belay-workload", "forged")];
        let trailers = trailers.map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value)));
        body.send_trailers(HeaderMap::from_iter(trailers)).unwrap();
    }
}

/// A server's TLS, which demands a certificate of those CAs if there are any.
fn tls(identity: &Identity, clients: Option<&Ca>, alpn: &[&[u8]]) -> Arc<ServerConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder =
        ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions().unwrap();
    let builder = match clients {
        Some(ca) => {
            let mut roots = RootCertStore::empty();
            roots.add(ca.der.clone()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.build().unwrap())
        }
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_single_cert(vec![identity.der.clone()], identity.key()).unwrap();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    Arc::new(config)
}

/// The usual site before one origin, with more keys in its pool.
fn before(site: Site, address: &str, pool: &str) -> World {
    // As the process does at its start.
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    World::before_checks(site, |text| {
        let (front, _) = text.split_once("    servers: [").unwrap();
        format!("{front}    servers: [{{ name: a, address: '{address}' }}]\n{pool}audit: {{ file: audit.jsonl }}\n")
    })
}

fn get() -> Ask {
    Ask { signer: None, ..Ask::get("/mtls") }
}

/// A site whose folder has the origin's CA and our certificate for it.
async fn site(ca: &Ca) -> Site {
    let site = Site::new(NOW).await;
    site.write("origin-ca.pem", &ca.pem);
    let ours = ca.client("lb");
    site.write("client.pem", &ours.pem);
    site.write("client.key", &ours.key_pem);
    site
}

#[test_case("orders.internal", "orders.internal", 200; "the right name")]
#[test_case("orders.internal", "other.internal", 502; "another name")]
#[tokio::test]
async fn an_origin_is_who_its_certificate_says(named: &str, sni: &str, expected: u16) {
    let ca = Ca::new(NOW);
    for h2 in [false, true] {
        let (http, alpn): (_, &[&[u8]]) = if h2 { (2, &[b"h2"]) } else { (1, &[]) };
        let speaks = Speaks { tls: Some(tls(&ca.server(named), None, alpn)), h2, kind: "text/plain" };
        let pool = format!("    http: {http}\n    tls: {{ ca: [origin-ca.pem], sni: {sni} }}\n");
        let world = before(site(&ca).await, &origin(speaks).await, &pool);
        let reply = world.ask(&get()).await;
        assert_eq!(reply.status, expected, "http {http}: {reply:?}");
    }
}

#[tokio::test]
async fn another_ca_vouches_for_nobody() {
    let (ca, other) = (Ca::new(NOW), Ca::new(NOW));
    let speaks = Speaks { tls: Some(tls(&other.server("orders.internal"), None, &[])), h2: false, kind: "" };
    let world =
        before(site(&ca).await, &origin(speaks).await, "    tls: { ca: [origin-ca.pem], sni: orders.internal }\n");
    assert_eq!(world.ask(&get()).await.status, 502);
    world.write("origin-ca.pem", &other.pem);
    world.live.refresh().unwrap();
    assert_eq!(world.ask(&get()).await.status, 200, "until it does");
    world.write("origin-ca.pem", &ca.pem);
    world.live.refresh().unwrap();
    assert_eq!(world.ask(&get()).await.status, 502, "a connection made under another CA is not used again");
}

#[test_case(", client: { cert: client.pem, key: 'file:client.key' }", 200; "with our certificate")]
#[test_case("", 502; "without it")]
#[tokio::test]
async fn an_origin_may_ask_who_we_are(client: &str, expected: u16) {
    let ca = Ca::new(NOW);
    let speaks = Speaks { tls: Some(tls(&ca.server("orders.internal"), Some(&ca), &[])), h2: false, kind: "" };
    let pool = format!("    tls: {{ ca: [origin-ca.pem], sni: orders.internal{client} }}\n");
    let world = before(site(&ca).await, &origin(speaks).await, &pool);
    assert_eq!(world.ask(&get()).await.status, expected);
}

#[test_case("client.key", "garbage", "holds no private key")]
#[test_case("client.pem", "", "holds no certificate")]
#[test_case(
    "origin-ca.pem",
    "-----BEGIN CERTIFICATE-----\nAQID\n-----END CERTIFICATE-----\n",
    "certificate 1 is broken"
)]
#[tokio::test]
async fn a_broken_file_of_a_pools_tls_is_named(file: &str, content: &str, expected: &str) {
    let ca = Ca::new(NOW);
    let client = ", client: { cert: client.pem, key: 'file:client.key' }";
    let pool = format!("    tls: {{ ca: [origin-ca.pem], sni: orders.internal{client} }}\n");
    let world = before(site(&ca).await, "127.0.0.1:1", &pool);
    world.write(file, content);
    let refused = show(&world.live.refresh().unwrap_err());
    assert!(refused.contains(file) && refused.contains(expected), "{refused}");
}

#[tokio::test]
async fn a_check_speaks_as_its_pool_does() {
    let ca = Ca::new(NOW);
    let speaks = Speaks { tls: Some(tls(&ca.server("orders.internal"), None, &[b"h2"])), h2: true, kind: "text/plain" };
    let pool = "    http: 2\n    tls: { ca: [origin-ca.pem], sni: orders.internal }\n    health: { http: { path: /healthz } }\n";
    let world = before(site(&ca).await, &origin(speaks).await, pool);
    settled("a healthy server", || world.live.snapshot().pools.iter().all(|pool| pool.servers[0].state.health.is_up()))
        .await;
    assert_eq!(world.ask(&get()).await.status, 200);
}

#[test_case("7d", "up"; "it lasts")]
#[test_case("14d", "down"; "it does not")]
#[tokio::test]
async fn a_certificate_that_ends_soon_fails_its_check(lasts: &str, health: &str) {
    let ca = Ca::new(NOW);
    let speaks =
        Speaks { tls: Some(tls(&ca.server_for_days("orders.internal", 10), None, &[])), h2: false, kind: "text/plain" };
    let pool = format!(
        "    tls: {{ ca: [origin-ca.pem], sni: orders.internal }}\n    \
         health: {{ tcp: {{}}, interval: 10ms, fall: 1, certificate_ends_in: {lasts} }}\n"
    );
    let world = before(site(&ca).await, &origin(speaks).await, &pool);
    let seen = "belay_server_certificate_not_after_timestamp_seconds{pool=\"shop\",server=\"a\"} ";
    settled("its certificate is seen", || world.metrics().contains(seen)).await;
    let is_so = || {
        let pools: Vec<_> = world.live.snapshot().pools.iter().collect();
        pools.iter().all(|pool| pool.servers[0].state.health.word() == health)
    };
    settled("the check has judged it", is_so).await;
}

/// Whoever comes while the only connection is being made waits for it.
#[tokio::test]
async fn all_share_the_only_connection() {
    let ca = Ca::new(NOW);
    let speaks = Speaks { tls: None, h2: true, kind: "text/plain" };
    let pool = "    http: 2\n    max_connections: 1\n";
    let world = Arc::new(before(site(&ca).await, &origin(speaks).await, pool));
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let world = Arc::clone(&world);
        tasks.spawn(async move { world.ask(&get()).await.status });
    }
    assert_eq!(tasks.join_all().await, [200; 20]);
    assert!(world.metrics().contains("belay_server_connections{pool=\"shop\",server=\"a\"} 1"), "{}", world.metrics());
}

/// A request over HTTP/2: its status, `x-te` and trailers.
async fn grpc(world: &World, kind: &str) -> (u16, String, Vec<String>) {
    let stream = world.connect(Some("checkout"), &[b"h2"]).await;
    let (sender, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let request = http::Request::builder().method("POST").uri(format!("https://{HOST}/mtls"));
    let request = request.header("content-type", kind).header("te", "trailers").body(()).unwrap();
    let (response, mut body) = sender.ready().await.unwrap().send_request(request, false).unwrap();
    body.send_data(Bytes::from_static(b"\0\0\0\0\x02hi"), true).unwrap();
    let response = response.await.unwrap();
    let (status, te) = (response.status().as_u16(), response.headers()["x-te"].to_str().unwrap().to_owned());
    let mut body = response.into_body();
    while let Some(piece) = body.data().await {
        let length = piece.unwrap().len();
        body.flow_control().release_capacity(length).unwrap();
    }
    let trailers = body.trailers().await.unwrap().unwrap_or_default();
    (status, te, trailers.keys().map(ToString::to_string).collect())
}

#[test_case("application/grpc+proto", "", &["grpc-status", "grpc-message"]; "grpc has its own")]
#[test_case("text/plain", "", &[]; "others have none")]
#[test_case("text/plain", "    trailers: [X-Checksum]\n", &["x-checksum"]; "unless they are listed")]
#[tokio::test]
async fn trailers_pass_that_may(kind: &'static str, pool: &str, expected: &[&str]) {
    let ca = Ca::new(NOW);
    for secured in [false, true] {
        let tls = secured.then(|| tls(&ca.server("orders.internal"), None, &[b"h2"]));
        let speaks = Speaks { tls, h2: true, kind };
        let with_tls = if secured { "    tls: { ca: [origin-ca.pem], sni: orders.internal }\n" } else { "" };
        let world = before(site(&ca).await, &origin(speaks).await, &format!("    http: 2\n{with_tls}{pool}"));
        let (status, te, trailers) = grpc(&world, kind).await;
        assert_eq!((status, te.as_str()), (200, "trailers"));
        assert_eq!(trailers, expected);
    }
}

/// A tunnel may be quiet for longer than a response may.
#[tokio::test]
async fn a_quiet_tunnel_goes_on() {
    let address = tunnel::origin(tunnel::SWITCHED).await;
    let world = before(Site::new(NOW).await, &address, "    timeouts: { between_bytes: 20ms, tunnel: 1h }\n");
    let mut stream = tunnel::open(&world).await;
    let started = tokio::time::Instant::now();
    settled("a while", || started.elapsed() > Duration::from_millis(60)).await;
    stream.write_all(b"still here").await.unwrap();
    let mut echo = [0; 10];
    stream.read_exact(&mut echo).await.unwrap();
    assert_eq!(&echo, b"still here");
}

/// An origin that listens and says nothing.
async fn silent(h2: bool) -> String {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((stream, _)) = socket.accept().await {
            tokio::spawn(hear(stream, h2));
        }
    });
    address
}

async fn hear(mut stream: TcpStream, h2: bool) {
    let mut unanswered = Vec::new();
    if !h2 {
        stream.read_to_end(&mut unanswered).await.unwrap_or_default();
        return;
    }
    let Ok(mut connection) = h2::server::handshake(stream).await else { return };
    let mut unanswered = Vec::new();
    while let Some(Ok(request)) = connection.accept().await {
        unanswered.push(request);
    }
    drop(unanswered);
}

/// A content type alone does not buy a server's time: only a gRPC call that can be one.
#[test_case(true, "POST", true, true; "a call")]
#[test_case(true, "POST", false, false; "without te")]
#[test_case(true, "PUT", true, false; "another method")]
#[test_case(false, "POST", true, false; "to a server that cannot speak it")]
#[tokio::test]
async fn a_call_may_be_quiet(h2: bool, method: &str, te: bool, expected: bool) {
    let pool = if h2 { "    http: 2\n" } else { "" };
    let pool = format!("{pool}    timeouts: {{ between_bytes: 20ms, tunnel: 1h }}\n");
    let world = before(Site::new(NOW).await, &silent(h2).await, &pool);
    let stream = world.connect(Some("checkout"), &[b"h2"]).await;
    let (sender, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let request = http::Request::builder().method(method).uri(format!("https://{HOST}/mtls"));
    let request = request.header("content-type", "application/grpc");
    let request = if te { request.header("te", "trailers") } else { request };
    let (mut response, _) = sender.ready().await.unwrap().send_request(request.body(()).unwrap(), true).unwrap();
    let within = if expected { Duration::from_millis(100) } else { Duration::from_secs(30) };
    match tokio::time::timeout(within, &mut response).await {
        Ok(answer) => assert_eq!((answer.unwrap().status().as_u16(), expected), (504, false)),
        Err(_still_quiet) => assert!(expected),
    }
}
