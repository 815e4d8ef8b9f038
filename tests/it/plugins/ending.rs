//! Trailers, and the end of a request.

use super::*;
use crate::support::{HOST, settled};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response};
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

/// An origin that answers in gRPC, over HTTP/2 without TLS.
async fn caller() -> String {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((stream, _)) = socket.accept().await {
            tokio::spawn(call(stream));
        }
    });
    address
}

async fn call(stream: TcpStream) {
    let Ok(mut connection) = h2::server::handshake(stream).await else { return };
    while let Some(Ok((_, mut respond))) = connection.accept().await {
        let response = Response::builder().header("content-type", "application/grpc").body(()).unwrap();
        let mut body = respond.send_response(response, false).unwrap();
        body.send_data(Bytes::from_static(b"ok"), false).unwrap();
        let trailers = [("grpc-status", "0"), ("grpc-message", "fine")];
        let trailers = trailers.map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value)));
        body.send_trailers(HeaderMap::from_iter(trailers)).unwrap();
    }
}

/// What a gRPC call has got: its body, and its trailers if it has ended well.
async fn called(guest: &Guest) -> (String, Option<HeaderMap>) {
    let site = Site::new(NOW).await;
    write(&site, guest);
    let pool = format!("  own: {{ http: 2, servers: [{{ name: o, address: '{}' }}] }}\n", caller().await);
    let world =
        World::before_checks(site, |text| edited(text, "", &pool).replacen("    pool: shop\n", "    pool: own\n", 1));
    let stream = world.connect(Some("checkout"), &[b"h2"]).await;
    let (sender, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let ask = Ask { method: "POST", ..orders() };
    let mut request = http::Request::post(format!("https://{HOST}{}", ask.target));
    for (name, value) in world.headers(&ask) {
        request = request.header(name, value);
    }
    let request = request.header("content-type", "application/grpc").header("te", "trailers").body(()).unwrap();
    let (response, mut body) = sender.ready().await.unwrap().send_request(request, false).unwrap();
    body.send_data(Bytes::from_static(b"\0\0\0\0\x02hi"), true).unwrap();
    // What is broken off may take its head with it.
    let Ok(response) = response.await else { return (String::new(), None) };
    let mut body = response.into_body();
    let mut text = Vec::new();
    while let Some(Ok(piece)) = body.data().await {
        body.flow_control().release_capacity(piece.len()).unwrap();
        text.extend_from_slice(&piece);
    }
    (String::from_utf8(text).unwrap(), body.trailers().await.ok().flatten())
}

#[tokio::test]
async fn trailers_are_changed() {
    let mut guest = Guest::new();
    let [message, note, yes] = ["grpc-message", "x-plugin", "yes"].map(|text| guest.text(text));
    let guest = guest.on(
        "proxy_on_response_trailers",
        "(param $id i32) (param $count i32) (result i32)",
        &format!(
            "(drop (call $remove_header (i32.const 3) {message}))
             (drop (call $add_header (i32.const 3) {note} {yes}))
             (i32.const 0)"
        ),
    );
    let (body, trailers) = called(&guest).await;
    let trailers = trailers.unwrap();
    assert_eq!((body.as_str(), trailers["grpc-status"].to_str().unwrap()), ("ok", "0"));
    assert_eq!((trailers.get("grpc-message"), trailers["x-plugin"].to_str().unwrap()), (None, "yes"));
}

/// Whoever does not let trailers go on has the response broken off: it must not look whole.
#[tokio::test]
async fn trailers_that_do_not_go_on_are_no_end() {
    for bad in ["(i32.const 1)", "(unreachable)"] {
        let signature = "(param $id i32) (param $count i32) (result i32)";
        let (_, trailers) = called(&Guest::new().on("proxy_on_response_trailers", signature, bad)).await;
        assert_eq!(trailers, None, "{bad}");
    }
}

/// A service that answers when it is told to.
async fn patient(go: Arc<Notify>) -> String {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        let (mut stream, _) = socket.accept().await.unwrap();
        let mut heard = Vec::new();
        while !heard.ends_with(b"\r\n\r\n") {
            stream.read_buf(&mut heard).await.unwrap();
        }
        go.notified().await;
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
    });
    address
}

/// A plugin that still waits for an answer may put off the end of its request, which the client does not notice.
#[tokio::test]
async fn an_end_is_put_off() {
    let mut guest = Guest::new();
    let headers = guest.pairs(&[(":method", "GET"), (":path", "/"), (":authority", "judge.example.com")]);
    let [pool, none, logged] = ["judge", "", "logged"].map(|text| guest.text(text));
    let guest = guest
        .on(
            "proxy_on_vm_start",
            "(param i32 i32) (result i32)",
            &format!("(drop (call $define_metric (i32.const 0) {logged} (i32.const 40))) (i32.const 1)"),
        )
        .on_request(&format!(
            "(drop (call $call {pool} {headers} {none} {none} (i32.const 10000) (i32.const 32))) (i32.const 0)"
        ))
        .on("proxy_on_done", "(param i32) (result i32)", "(i32.const 0)")
        .on_answer("(drop (call $done))")
        .on("proxy_on_log", "(param i32)", "(drop (call $increment (i32.load (i32.const 40)) (i64.const 1)))");
    let go = Arc::new(Notify::new());
    let pool = format!("  judge: {{ servers: [{{ name: j, address: '{}' }}] }}\n", patient(Arc::clone(&go)).await);
    let world = with_pools(&guest, ", pools: [judge]", &pool).await;
    assert_eq!(world.ask(&orders()).await.status, 200);
    let line = "belay_plugin_counter_total{name=\"logged\",plugin=\"guest\"} 1";
    assert!(!world.metrics().contains(line), "it waits for its answer");
    go.notify_one();
    settled("the plugin has logged the request", || world.metrics().contains(line)).await;
}
