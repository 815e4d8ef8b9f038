//! Bodies: streamed and held, of requests and of responses, as Envoy's own tests of its plugins have them.

use super::*;
use crate::support::checks::answering;
use crate::support::{HOST, Reply};
use serde_json::json;
use test_case::test_case;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// An origin that sends a request's body back.
async fn mirror() -> String {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        loop {
            let (stream, _) = socket.accept().await.unwrap();
            tokio::spawn(reflect(stream));
        }
    });
    address
}

async fn reflect(mut stream: TcpStream) {
    let mut heard = Vec::new();
    while body_of(&String::from_utf8_lossy(&heard)).is_none() {
        // Who has gone has nothing to hear.
        if stream.read_buf(&mut heard).await.unwrap_or_default() == 0 {
            return;
        }
    }
    let body = body_of(&String::from_utf8_lossy(&heard)).unwrap();
    let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len());
    stream.write_all(answer.as_bytes()).await.unwrap_or_default();
}

/// The whole body of a request, once it is there.
fn body_of(text: &str) -> Option<String> {
    let (head, mut rest) = text.split_once("\r\n\r\n")?;
    let head = head.to_ascii_lowercase();
    if !head.contains("transfer-encoding: chunked") {
        let length =
            head.split_once("content-length: ").map_or(0, |(_, rest)| rest.lines().next().unwrap().parse().unwrap());
        return (rest.len() >= length).then(|| rest[..length].to_owned());
    }
    let mut body = String::new();
    loop {
        let (size, after) = rest.split_once("\r\n")?;
        let size = usize::from_str_radix(size, 16).unwrap();
        if size == 0 {
            return Some(body);
        }
        body.push_str(after.get(..size)?);
        rest = after.get(size + 2..)?;
    }
}

async fn mirrored(guest: &Guest, more: &str) -> World {
    let address = mirror().await;
    let pool = format!("  own: {{ servers: [{{ name: o, address: '{address}' }}] }}\n");
    let site = Site::new(NOW).await;
    write(&site, guest);
    World::before_checks(site, |text| edited(text, more, &pool).replacen("    pool: shop\n", "    pool: own\n", 1))
}

fn post(body: &'static str) -> Ask {
    Ask { method: "POST", body, ..orders() }
}

/// Takes the length out of both heads, so that bodies may change theirs.
fn without_length(mut guest: Guest) -> Guest {
    let length = guest.text("content-length");
    guest
        .on_request(&format!("(drop (call $remove_header (i32.const 0) {length})) (i32.const 0)"))
        .on_response(&format!("(drop (call $remove_header (i32.const 2) {length})) (i32.const 0)"))
}

#[test_case("(i32.const 0) (i32.const 0)", "<>", "<>body"; "prepended")]
#[test_case("(i32.const 999) (i32.const 0)", "<>", "body<>"; "appended")]
#[test_case("(i32.const 0) (i32.const -1)", "<>", "<>"; "replaced")]
#[test_case("(i32.const 0) (i32.const -1)", "", ""; "removed")]
#[test_case("(i32.const 1) (i32.const 2)", "<>", "b<>y"; "in the middle")]
#[tokio::test]
async fn a_body_is_changed(stretch: &str, with: &str, expected: &str) {
    for (buffer, is_request) in [(0, true), (1, false)] {
        // Streamed: the one piece that carries the text. Held: all of it, at its end.
        for held in [false, true] {
            let mut guest = without_length(Guest::new());
            let with = guest.text(with);
            let change = format!("(drop (call $set_buffer (i32.const {buffer}) {stretch} {with}))");
            let body = if held {
                format!("(if (i32.eqz (local.get $last)) (then (return (i32.const 1)))) {change} (i32.const 0)")
            } else {
                format!("(if (local.get $size) (then {change})) (i32.const 0)")
            };
            let guest = if is_request { guest.on_request_body(&body) } else { guest.on_response_body(&body) };
            let world = mirrored(&guest, "").await;
            for h2 in [false, true] {
                let reply = world.ask(&Ask { h2, ..post("body") }).await;
                let body = unchunked(&reply);
                assert_eq!(
                    (reply.status, body.as_str()),
                    (200, expected),
                    "request: {is_request}, held: {held}, h2: {h2}"
                );
            }
        }
    }
}

/// The body of a reply, of which over HTTP/1.1 the pieces are known.
fn unchunked(reply: &Reply) -> String {
    match reply.header("transfer-encoding") {
        Some(_) => body_of(&format!("transfer-encoding: chunked\r\n\r\n{}", reply.body)).unwrap(),
        None => reply.body.clone(),
    }
}

/// The whole of a body can be read at its end, in however many pieces it came.
#[tokio::test]
async fn a_held_body_is_whole() {
    let mut guest = Guest::new();
    let [bad, none] = ["bad", ""].map(|text| guest.text(text));
    let bad_body = guest.text("It is bad.");
    let guest = guest.on_request_body(&format!(
        "(if (i32.eqz (local.get $last)) (then (return (i32.const 1))))
         (drop (call $buffer_status (i32.const 0) (i32.const 32) (i32.const 36)))
         (drop (call $get_buffer (i32.const 0) (i32.const 0) (i32.const -1) (i32.const 0) (i32.const 4)))
         (if (i32.and (i32.eq (i32.load (i32.const 32)) (i32.const 6))
                      (i32.eq (i32.load16_u (i32.add (call $at) (i32.const 3))) (i32.const 0x6162)))
           (then (drop (call $respond (i32.const 400) {none} {bad_body} {none} (i32.const -1))) (return (i32.const 1))))
         (drop {bad}) (i32.const 0)",
        bad = bad.split(") ").next().unwrap().to_owned() + ")"
    ));
    let world = mirrored(&guest, "").await;
    for (pieces, expected) in [(["so b", "ad"], (400, "It is bad.")), (["all ", "ok"], (200, "all ok"))] {
        let stream = world.connect(Some("checkout"), &[b"h2"]).await;
        let (sender, connection) = h2::client::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        let mut sender = sender.ready().await.unwrap();
        let ask = Ask { method: "POST", ..orders() };
        let mut request = http::Request::post(format!("https://{HOST}{}", ask.target));
        for (name, value) in world.headers(&ask) {
            request = request.header(name, value);
        }
        let (response, mut body) = sender.send_request(request.body(()).unwrap(), false).unwrap();
        body.send_data(pieces[0].into(), false).unwrap();
        tokio::task::yield_now().await;
        body.send_data(pieces[1].into(), true).unwrap();
        let (head, mut body) = response.await.unwrap().into_parts();
        let mut text = Vec::new();
        while let Some(piece) = body.data().await {
            text.extend_from_slice(&piece.unwrap());
        }
        assert_eq!((head.status.as_u16(), std::str::from_utf8(&text).unwrap()), expected);
    }
}

/// A plugin that wants to see the body before it lets the head go: it may still change the head by it.
#[tokio::test]
async fn a_head_is_held_for_its_body() {
    let mut guest = Guest::new();
    let [header, value, longer] = ["x-body", "seen", "longer than it was"].map(|text| guest.text(text));
    let guest = guest.on_request("(i32.const 1)").on_request_body(&format!(
        "(if (i32.eqz (local.get $last)) (then (return (i32.const 1))))
             (drop (call $set_header (i32.const 0) {header} {value}))
             (drop (call $set_buffer (i32.const 0) (i32.const 0) (i32.const -1) {longer}))
             (i32.const 0)"
    ));
    let world = plugged(&guest, "").await;
    for h2 in [false, true] {
        let echo = world.ask(&Ask { h2, ..post("short") }).await.echo();
        assert_eq!((&echo["headers"]["x-body"], &echo["body_bytes"]), (&json!("seen"), &json!(18)), "h2: {h2}");
    }
    // Without a body there is nothing to wait for, so that its patience ends.
    let world = plugged(&guest, ", limits: { wait: 20ms }").await;
    assert_eq!(world.ask(&orders()).await.status, 500);
}

/// A server that the connection to was stale, or another one, gets the same.
#[tokio::test]
async fn a_held_body_can_be_sent_again() {
    let mut guest = Guest::new();
    let longer = guest.text("what is sent");
    let guest = guest.on_request("(i32.const 1)").on_request_body(&format!(
        "(drop (call $set_buffer (i32.const 0) (i32.const 0) (i32.const -1) {longer})) (i32.const 0)"
    ));
    let site = Site::new(NOW).await;
    write(&site, &guest);
    let world =
        World::before_checks(site, |text| {
            let text = edited(text, "", "").replacen(
                "    health: {",
                "    retry: { attempts: 2, methods: all }\n    health: {",
                1,
            );
            text.replacen("servers: [{ name: a", "servers: [{ name: dead, address: '127.0.0.1:1' }, { name: a", 1)
                .replacen("    health: { http: { path: /healthz }, interval: 1s }\n", "", 1)
        });
    for _ in 0..6 {
        let reply = world.ask(&post("x")).await;
        assert_eq!((reply.status, reply.echo()["body_bytes"].clone()), (200, json!(12)));
    }
}

/// A body whose length was told and is another would be read as the next message.
#[tokio::test]
async fn a_length_that_was_told_is_kept() {
    for body in ["longer than it was", "short"] {
        let mut guest = Guest::new();
        let with = guest.text(body);
        let guest = guest.on_request_body(&format!(
            "(if (local.get $size) (then (drop (call $set_buffer (i32.const 0) (i32.const 0) (i32.const -1) {with})))) (i32.const 0)"
        ));
        let world = mirrored(&guest, "").await;
        assert_eq!(world.ask(&Ask { h2: false, ..post("as it was") }).await.status, 500, "{body}");
        let outcome = outcome(&world);
        assert_eq!(
            (&outcome["event"]["reason"], &outcome["belay"]["filter"]),
            (&json!("filter.plugin_failed"), &json!("guest"))
        );
        assert!(world.metrics().contains("belay_plugin_failures_total{cause=\"length\",plugin=\"guest\"} 1"));
    }
}

#[tokio::test]
async fn what_is_held_has_its_limit() {
    let guest = || without_length(Guest::new());
    let request = guest().on_request_body("(i32.eqz (local.get $last))");
    let world = mirrored(&request, ", limits: { body: 8B }").await;
    assert_eq!(world.ask(&post("12345678")).await.status, 200);
    assert_eq!(world.ask(&post("123456789")).await.status, 413);
    assert_eq!(outcome(&world)["event"]["reason"], "filter.body_too_large_to_filter");
    let response = guest().on_response_body("(i32.eqz (local.get $last))");
    let address = answering("\r\n\r\n", |_| "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n123456789".into()).await;
    let pool = format!("  own: {{ servers: [{{ name: o, address: '{address}' }}] }}\n");
    let site = Site::new(NOW).await;
    write(&site, &response);
    let world = World::before_checks(site, |text| {
        edited(text, ", limits: { body: 8B }", &pool).replacen("    pool: shop\n", "    pool: own\n", 1)
    });
    let reply = world.ask(&Ask { h2: false, ..orders() }).await;
    assert!(!reply.body.contains("123456789"), "what could not be looked at is not shown: {reply:?}");
    assert_eq!(outcome(&world)["event"]["reason"], "filter.response_too_large");
}

/// A body that the token names was read before the plugin is asked, and is shown to it all the same.
#[tokio::test]
async fn a_signed_body_is_seen_too() {
    for holds in [false, true] {
        let mut guest = Guest::new();
        let [none, bad] = ["", "It is bad."].map(|text| guest.text(text));
        let guest = guest
            .on_request(if holds { "(i32.const 1)" } else { "(i32.const 0)" })
            .on_request_body(&format!(
                "(if (i32.eqz (local.get $last)) (then (return (i32.const 1))))
                 (drop (call $get_buffer (i32.const 0) (i32.const 0) (i32.const -1) (i32.const 0) (i32.const 4)))
                 (if (i32.eq (i32.load16_u (call $at)) (i32.const 0x6162))
                   (then (drop (call $respond (i32.const 400) {none} {bad} {none} (i32.const -1))) (return (i32.const 1))))
                 (i32.const 0)"
            ));
        let world = plugged(&guest, "").await;
        for (body, status, h2) in [("bad", 400, false), ("good", 200, false), ("bad", 400, true), ("good", 200, true)] {
            let digest = belay::identity::BodyDigest::of(body.as_bytes()).to_string();
            let reply = world.ask(&Ask { method: "POST", body, h2, ..orders() }.claim("cdg", digest)).await;
            assert_eq!(reply.status, status, "{body}, holds: {holds}, h2: {h2}");
            assert!(status != 200 || reply.echo()["body_bytes"] == 4);
        }
    }
}

/// What all of them hold has its limit, of which one workload may have half.
#[tokio::test]
async fn what_all_hold_has_its_limit() {
    let guest = without_length(Guest::new()).on_request_body("(i32.eqz (local.get $last))");
    let site = Site::new(NOW).await;
    write(&site, &guest);
    let world = World::before_checks(site, |text| {
        let text = text.replacen("    tls:\n", "    limits: { body: 64MiB }\n    tls:\n", 1);
        edited(text, ", limits: { body: 64MiB }", "")
    });
    world.is_healthy().await;
    for (mebibytes, status) in [(33, 413), (1, 200)] {
        let body: &'static str = "x".repeat(mebibytes * 1024 * 1024).leak();
        let ask = Ask { method: "POST", body, ..orders() };
        assert_eq!(world.ask(&ask).await.status, status, "{mebibytes} MiB");
    }
}

/// A plugin that only looks stands before a filter that changes the length, on the way back.
#[tokio::test]
async fn others_may_change_what_it_looks_at() {
    let guest = Guest::new().on_response_body("(i32.const 0)");
    let answer = "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 20\r\n\r\naaaaaaaaaaaaaaaaaaaa";
    let address = answering("\r\n\r\n", move |_| answer.into()).await;
    let pool = format!("  own: {{ servers: [{{ name: o, address: '{address}' }}] }}\n");
    let site = Site::new(NOW).await;
    write(&site, &guest);
    let world = World::before_checks(site, |text| {
        let text = edited(text, "", &pool).replacen("    pool: shop\n", "    pool: own\n", 1);
        text.replacen("guest.wasm } }]", "guest.wasm } }, { compression: { min: 0B, algorithms: [gzip] } }]", 1)
    });
    let reply = world.ask(&orders().header("accept-encoding", "gzip")).await;
    assert_eq!((reply.status, reply.header("content-encoding")), (200, Some("gzip")));
    assert!(!world.metrics().contains("cause=\"length\""));
}

/// An answer of a plugin's own is not taken for the response that another filter had begun with.
#[tokio::test]
async fn an_own_answer_is_nobody_elses_response() {
    let mut guest = Guest::new();
    let [none, body] = ["", "Hidden."].map(|text| guest.text(text));
    let guest = guest.on_response(&format!(
        "(drop (call $respond (i32.const 403) {none} {body} {none} (i32.const -1))) (i32.const 1)"
    ));
    let site = Site::new(NOW).await;
    write(&site, &guest);
    let world = World::before_checks(site, |text| {
        let text = edited(text, "", "");
        text.replacen(
            "[{ plugin: { wasm: guest.wasm } }]",
            "[{ headers: { response: { set: { x-first: seen } } } }, \
            { plugin: { wasm: guest.wasm } }, { compression: { min: 0B } }]",
            1,
        )
    });
    world.is_healthy().await;
    let reply = world.ask(&orders().header("accept-encoding", "gzip")).await;
    assert_eq!((reply.status, reply.body.as_str(), reply.header("content-encoding")), (403, "Hidden.", None));
    assert_eq!(reply.header("x-first"), Some("seen"), "the filters before it dress it");
    assert_eq!(outcome(&world)["belay"]["filter"], "guest");
}
