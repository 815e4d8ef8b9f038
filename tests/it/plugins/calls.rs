//! Calls of a plugin's own, and what waits for them.

use super::*;
use crate::support::checks::answering;
use crate::support::settled;
use serde_json::json;
use std::time::Duration;
use tokio::net::TcpListener;

/// A guest that asks a pool, and goes on with the answer's status and body.
fn asking(pool: &str) -> Guest {
    let mut guest = Guest::new();
    let headers = guest.pairs(&[
        (":method", "POST"),
        (":path", "/ask"),
        (":authority", "judge.example.com"),
        ("x-key", "k"),
        ("belay-workload", "admin"),
    ]);
    let [pool, body, none, status, answer, said] =
        [pool, "question", "", ":status", "x-answer", "x-status"].map(|text| guest.text(text));
    let failed = tells(&mut guest, "x-failed", "(i32.const 1)");
    let refused = tells(&mut guest, "x-refused", "(local.get $status)");
    let logged = guest.text("logged");
    guest
        .on(
            "proxy_on_vm_start",
            "(param i32 i32) (result i32)",
            &format!("(drop (call $define_metric (i32.const 0) {logged} (i32.const 40))) (i32.const 1)"),
        )
        .on_request(&format!(
            "(local $status i32)
             (local.set $status (call $call {pool} {headers} {body} {none} (i32.const 500) (i32.const 32)))
             (if (local.get $status) (then {refused} (return (i32.const 0))))
             (i32.const 1)"
        ))
        .on_answer(&format!(
            "(if (i32.eqz (local.get $headers))
               (then {failed})
               (else
                 (drop (call $get_header (i32.const 6) {status} (i32.const 0) (i32.const 4)))
                 (drop (call $set_header (i32.const 0) {said} (call $at) (call $length)))
                 (drop (call $get_buffer (i32.const 4) (i32.const 0) (i32.const -1) (i32.const 0) (i32.const 4)))
                 (drop (call $set_header (i32.const 0) {answer} (call $at) (call $length)))))
             (drop (call $continue (i32.const 0)))"
        ))
        .on("proxy_on_log", "(param i32)", "(drop (call $increment (i32.load (i32.const 40)) (i64.const 1)))")
}

fn pool(address: &str) -> String {
    format!("  judge: {{ servers: [{{ name: j, address: '{address}' }}] }}\n")
}

#[tokio::test]
async fn a_request_waits_for_an_answer() {
    let heard = std::sync::Arc::new(parking_lot::Mutex::new(String::new()));
    let hears = std::sync::Arc::clone(&heard);
    let address = answering("question", move |head| {
        *hears.lock() = head.to_ascii_lowercase();
        "HTTP/1.1 202 Accepted\r\ncontent-length: 4\r\n\r\nyes!".into()
    })
    .await;
    let world = with_pools(&asking("judge"), ", pools: [judge]", &pool(&address)).await;
    for h2 in [false, true] {
        let ask = Ask { h2, method: "POST", body: "its body", ..orders() };
        let echo = world.ask(&ask).await.echo();
        let headers = &echo["headers"];
        assert_eq!((&headers["x-status"], &headers["x-answer"]), (&json!("202"), &json!("yes!")));
        assert_eq!((&echo["body_bytes"], &echo["path"]), (&json!(8), &json!("/orders/7?full=1")));
    }
    let heard = heard.lock().clone();
    assert!(heard.starts_with("post /ask http/1.1\r\n") && heard.contains("host: judge.example.com\r\n"), "{heard}");
    assert!(heard.contains("x-key: k\r\n") && !heard.contains("belay-workload"), "{heard}");
}

/// Only pools that the config names for it are within its reach.
#[tokio::test]
async fn it_calls_nobody_else() {
    let address = answering("\r\n\r\n", |_| "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".into()).await;
    let world = with_pools(&asking("shop"), ", pools: [judge]", &pool(&address)).await;
    assert_eq!(told(&world, "x-refused").await, "2");
    assert_eq!(world.forwarded(), 1, "nothing but the request itself was sent");
}

#[tokio::test]
async fn a_call_that_fails_is_told() {
    let world = with_pools(&asking("judge"), ", pools: [judge]", &pool("127.0.0.1:1")).await;
    assert_eq!(told(&world, "x-failed").await, "1");
}

/// Who lets a request wait for longer than he may has stopped.
#[tokio::test]
async fn patience_ends() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let pools = pool(&silent.local_addr().unwrap().to_string());
    let wait = ", pools: [judge], limits: { wait: 20ms }";
    let world = with_pools(&asking("judge"), wait, &pools).await;
    assert_eq!(world.ask(&orders()).await.status, 500);
    assert!(world.metrics().contains("belay_plugin_failures_total{cause=\"wait\",plugin=\"guest\"} 1"));
    let world = with_pools(&asking("judge"), &format!("{wait}, optional: true"), &pools).await;
    assert_eq!(world.ask(&orders()).await.status, 200, "one that may be left out is left out");
}

fn logged(world: &World) -> u64 {
    let metrics = world.metrics();
    let line = metrics
        .lines()
        .find_map(|line| line.strip_prefix("belay_plugin_counter_total{name=\"logged\",plugin=\"guest\"} "));
    line.and_then(|count| count.parse().ok()).unwrap_or_default()
}

/// A client that goes away while his request waits leaves nothing behind, and the plugin hears of it.
#[tokio::test]
async fn a_client_may_go_while_it_waits() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let world =
        with_pools(&asking("judge"), ", pools: [judge]", &pool(&silent.local_addr().unwrap().to_string())).await;
    let asking = tokio::time::timeout(Duration::from_millis(100), world.ask(&orders())).await;
    assert!(asking.is_err(), "it waits");
    settled("the plugin has logged the request", || logged(&world) == 1).await;
    settled("its instance is free", || world.metrics().contains("belay_plugin_instances{plugin=\"guest\"} 1")).await;
    let outcome = outcome(&world);
    assert_eq!(outcome["event"]["outcome"], "failure");
}

#[tokio::test]
async fn it_logs_what_has_ended() {
    let address = answering("question", |_| "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".into()).await;
    let world = with_pools(&asking("judge"), ", pools: [judge]", &pool(&address)).await;
    for count in 1..=3 {
        assert_eq!(world.ask(&orders()).await.status, 200);
        settled("the plugin has logged the request", || logged(&world) == count).await;
    }
}
