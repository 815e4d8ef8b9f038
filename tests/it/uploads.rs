//! Bodies on their way to servers of HTTP/2: none is cut short, and none is blamed on the wrong one.

use crate::support::{HOST, NOW, Site, World};
use bytes::Bytes;
use h2::client::SendRequest;
use http::{Request, Response};
use parking_lot::Mutex;
use std::{sync::Arc, time::Duration};
use test_case::test_case;
use tokio::net::{TcpListener, TcpStream};
use tokio::time;

/// What a server does with a body.
#[derive(Clone, Copy)]
enum Kind {
    /// Reads it and answers 200.
    Reads,
    /// Says after so many bytes that it has processed nothing.
    Refuses(usize),
}

type Seen = Arc<Mutex<Vec<String>>>;

async fn server(kind: Kind) -> (String, Seen) {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, seen) = (socket.local_addr().unwrap().to_string(), Seen::default());
    let log = Arc::clone(&seen);
    tokio::spawn(async move {
        while let Ok((stream, _)) = socket.accept().await {
            tokio::spawn(serve(stream, kind, Arc::clone(&log)));
        }
    });
    (address, seen)
}

async fn serve(stream: TcpStream, kind: Kind, log: Seen) {
    let mut builder = h2::server::Builder::new();
    builder.initial_window_size(1 << 20).initial_connection_window_size(1 << 20);
    let Ok(mut connection) = builder.handshake::<_, Bytes>(stream).await else { return };
    while let Some(Ok((request, respond))) = connection.accept().await {
        tokio::spawn(answer(request.into_body(), respond, kind, Arc::clone(&log)));
    }
}

async fn answer(mut body: h2::RecvStream, mut respond: h2::server::SendResponse<Bytes>, kind: Kind, log: Seen) {
    let mut read = 0;
    loop {
        if let Kind::Refuses(after) = kind
            && read >= after
        {
            log.lock().push("refused".into());
            return respond.send_reset(h2::Reason::REFUSED_STREAM);
        }
        let Some(Ok(piece)) = body.data().await else { break };
        read += piece.len();
        body.flow_control().release_capacity(piece.len()).unwrap();
    }
    log.lock().push(format!("{read} bytes"));
    // Who has gone is not answered.
    respond.send_response(Response::new(()), true).map(drop).unwrap_or_default();
}

async fn world(address: &str, pool: &str) -> World {
    World::before_checks(Site::new(NOW).await, |text| {
        let (front, _) = text.split_once("    servers: [").unwrap();
        format!(
            "{front}    http: 2\n    servers: [{{ name: a, address: '{address}' }}]\n{pool}audit: {{ file: audit.jsonl }}\n"
        )
    })
}

async fn client(world: &World) -> SendRequest<Bytes> {
    let stream = world.connect(Some("checkout"), &[b"h2"]).await;
    let (sender, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    sender.ready().await.unwrap()
}

fn post() -> Request<()> {
    Request::builder().method("POST").uri(format!("https://{HOST}/mtls")).body(()).unwrap()
}

/// Twenty pieces of 10,000 bytes; the status.
async fn upload(world: &World, pause: Duration) -> u16 {
    let (response, mut body) = client(world).await.send_request(post(), false).unwrap();
    for piece in 1..=20 {
        // Who was refused already does not send on.
        body.send_data(Bytes::from(vec![b'x'; 10_000]), piece == 20).unwrap_or_default();
        time::sleep(pause).await;
    }
    time::timeout(Duration::from_secs(10), response).await.unwrap().unwrap().status().as_u16()
}

/// The library would send the rest of the body as if it were all.
#[test_case(100_000, &["refused"]; "the start of the body is gone")]
#[tokio::test]
async fn a_body_is_sent_whole_or_not_again(after: usize, expected: &[&str]) {
    let (address, seen) = server(Kind::Refuses(after)).await;
    let world = world(&address, "    retry: { methods: all, on: [connect_failure, no_response] }\n").await;
    assert_eq!(upload(&world, Duration::from_millis(5)).await, 502);
    assert_eq!(*seen.lock(), expected);
}

/// The library would ask sixteen times.
#[tokio::test]
async fn what_is_refused_is_tried_as_often_as_the_config_says() {
    let (address, seen) = server(Kind::Refuses(0)).await;
    let world = world(&address, "    retry: { attempts: 1 }\n").await;
    let (response, _) = client(&world).await.send_request(post(), true).unwrap();
    assert_eq!(response.await.unwrap().status(), 502);
    assert_eq!(*seen.lock(), ["refused"]);
}

#[tokio::test]
async fn a_steady_upload_may_take_longer_than_a_pause() {
    let (address, seen) = server(Kind::Reads).await;
    let world = world(&address, "    timeouts: { between_bytes: 200ms }\n").await;
    assert_eq!(upload(&world, Duration::from_millis(20)).await, 200);
    assert_eq!(*seen.lock(), ["200000 bytes"]);
}

/// A client that does not send its body is not the server's fault.
#[tokio::test]
async fn who_sends_no_body_does_not_open_the_circuit() {
    let (address, _seen) = server(Kind::Reads).await;
    let rules = "    outliers: { consecutive_failures: 1 }\n    breaker: { requests_min: 2 }\n";
    let world = world(&address, &format!("    timeouts: {{ tunnel: 1s }}\n{rules}")).await;
    let mut sender = client(&world).await;
    let mut open = Vec::new();
    for _ in 0..3 {
        open.push(sender.send_request(post(), false).unwrap());
        sender = sender.ready().await.unwrap();
    }
    for (response, _body) in open {
        assert!(response.await.is_ok_and(|response| response.status() == 504));
    }
    let (response, _) = sender.send_request(post(), true).unwrap();
    assert_eq!(response.await.unwrap().status(), 200);
}
