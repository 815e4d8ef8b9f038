//! Servers that are killed, stopped, and come and go: real processes.

use crate::support::pools::{Pools, plain};
use crate::support::process::Process;
use crate::support::{Ask, HOST, NOW, Site, World, settled};
use serde_json::json;
use test_case::test_case;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

async fn world(pool: &str) -> World {
    let pools = Pools::new().await;
    World::before_checks(Site::new(NOW).await, |usual| pools.text(&usual, pool))
}

/// The last outcome: whether it is complete, and what it says of itself.
fn last_outcome(world: &World) -> (serde_json::Value, serde_json::Value) {
    let outcome = world.records_of("outcome").pop().unwrap();
    (outcome["belay"]["complete"].clone(), outcome["event"]["outcome"].clone())
}

#[test_case("/orders/half-counted", "\r\n\r\nhalf"; "a counted body")]
#[test_case("/orders/half-chunked", "4\r\nhalf\r\n"; "a chunked body")]
#[tokio::test]
async fn a_killed_response_is_never_whole(path: &'static str, so_far: &str) {
    let origin = Process::start();
    let world = world(&format!("    servers: [{{ name: a, address: '{}' }}]\n", origin.address)).await;
    let ask = Ask::get(path);
    let token: String = world.headers(&ask).iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let mut stream = world.connect(ask.certificate, &[b"http/1.1"]).await;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: {HOST}\r\n{token}\r\n").as_bytes()).await.unwrap();
    let mut received = Vec::new();
    while !String::from_utf8_lossy(&received).ends_with(so_far) {
        assert!(stream.read_buf(&mut received).await.unwrap() > 0, "the answer begins");
    }
    drop(origin);
    let mut rest = Vec::new();
    // With close_notify or without, the connection ends, and not another byte comes.
    stream.read_to_end(&mut rest).await.unwrap_or_default();
    assert_eq!(String::from_utf8_lossy(&rest), "", "least of all the last chunk");
    settled("the outcome", || !world.records_of("outcome").is_empty()).await;
    assert_eq!(last_outcome(&world), (json!(false), json!("failure")));
}

#[test_case("/orders/half-counted"; "a counted body")]
#[test_case("/orders/half-chunked"; "a chunked body")]
#[tokio::test]
async fn a_killed_response_is_reset_over_http_2(path: &'static str) {
    let origin = Process::start();
    let world = world(&format!("    servers: [{{ name: a, address: '{}' }}]\n", origin.address)).await;
    let ask = Ask { h2: true, ..Ask::get(path) };
    let stream = world.connect(ask.certificate, &[b"h2"]).await;
    let (sender, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let mut request = http::Request::builder().uri(format!("https://{HOST}{path}"));
    for (name, value) in world.headers(&ask) {
        request = request.header(name, value);
    }
    let (response, _) = sender.ready().await.unwrap().send_request(request.body(()).unwrap(), true).unwrap();
    let mut body = response.await.unwrap().into_body();
    assert_eq!(body.data().await.unwrap().unwrap(), "half");
    drop(origin);
    let end = body.data().await;
    assert!(matches!(&end, Some(Err(fault)) if fault.is_reset()), "{end:?}");
    settled("the outcome", || !world.records_of("outcome").is_empty()).await;
    assert_eq!(last_outcome(&world), (json!(false), json!("failure")));
}

const CHECKED: &str = "    health: { http: { path: /healthz }, interval: 50ms, timeout: 50ms, rise: 1, fall: 2 }\n";

#[tokio::test]
async fn no_request_is_lost_to_a_server_that_stops() {
    let origins = [Process::start(), Process::start(), Process::start()];
    let servers: Vec<_> = origins
        .iter()
        .zip(["a", "b", "c"])
        .map(|(it, name)| format!("{{ name: {name}, address: '{}' }}", it.address))
        .collect();
    let keys = "    timeouts: { between_bytes: 200ms }\n    retry: { on: [connect_failure, no_response, timeout] }\n";
    let world = world(&format!("{CHECKED}{keys}    servers: [{}]\n", servers.join(", "))).await;
    let is_up = |name: &str| world.metrics().contains(&format!("belay_server_up{{pool=\"shop\",server=\"{name}\"}} 1"));
    settled("all are healthy", || ["a", "b", "c"].iter().all(|name| is_up(name))).await;
    origins[0].stop();
    for _ in 0..12 {
        assert_eq!(world.ask(&plain()).await.status, 200);
    }
    settled("it is noticed", || !is_up("a")).await;
    let asked = world.metrics();
    for _ in 0..4 {
        assert_eq!(world.ask(&plain()).await.status, 200);
    }
    let asked_of_a = |metrics: &str| {
        metrics
            .lines()
            .find(|line| line.starts_with("belay_server_requests_total{pool=\"shop\",server=\"a\"}"))
            .unwrap()
            .to_owned()
    };
    assert_eq!(asked_of_a(&world.metrics()), asked_of_a(&asked), "nobody is sent there any more");
}

#[tokio::test]
async fn no_request_is_lost_to_a_server_that_comes_and_goes() {
    let steady = Process::start();
    let mut flapping = Some(Process::start());
    let address = flapping.as_ref().unwrap().address.clone();
    let keys = "    retry: { on: [connect_failure, no_response], budget: 100% }\n";
    let servers =
        format!("    servers: [{{ name: a, address: '{}' }}, {{ name: b, address: '{address}' }}]\n", steady.address);
    let world = world(&format!("{CHECKED}{keys}{servers}")).await;
    settled("both are healthy", || world.metrics().matches("belay_server_up{pool=\"shop\",server=\"").count() == 2)
        .await;
    settled("both are up", || {
        ["a", "b"]
            .iter()
            .all(|name| world.metrics().contains(&format!("server_up{{pool=\"shop\",server=\"{name}\"}} 1")))
    })
    .await;
    for turn in 0..6 {
        flapping = match flapping {
            Some(running) => {
                drop(running);
                None
            }
            None => Some(Process::at(&address)),
        };
        for _ in 0..10 {
            assert_eq!(world.ask(&plain()).await.status, 200, "turn {turn}");
        }
    }
}
