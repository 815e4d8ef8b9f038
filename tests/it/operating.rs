//! What operators read: the process log, and the last decisions.

use crate::support::{Ask, Belay, Running, Site};
use belay::clock::{Clock, System};
use serde_json::Value;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use test_case::test_case;

fn with_socket(text: String) -> String {
    text.replace("admin: { http: '127.0.0.1:0' }", "admin: { http: '127.0.0.1:0', socket: admin.sock }")
}

fn recent(running: &Running, more: &[&str]) -> (Option<i32>, String, String) {
    said(running, &[&["recent"], more].concat())
}

/// A command that asks the running process.
fn said(running: &Running, command: &[&str]) -> (Option<i32>, String, String) {
    let config = running.site.config();
    let output = Belay::output(&[command, &["-c", config.to_str().unwrap()]].concat());
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[tokio::test(flavor = "multi_thread")]
async fn recent_tells_the_last_decisions() {
    let running = Running::with(with_socket).await;
    assert_eq!(recent(&running, &[]), (Some(0), String::new(), "nothing yet\n".into()));
    let socket = running.site.folder.path().join("admin.sock");
    assert_eq!(std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600, "its owner's only");
    assert_eq!(running.status(&Ask::get("/orders/7")).await, 200);
    assert_eq!(running.status(&Ask { signer: None, ..Ask::get("/orders/8") }).await, 401);
    // Records are made as the writer takes them, about a millisecond later.
    let seen = crate::support::eventually("both decisions", || {
        let (_, said, _) = recent(&running, &[]);
        (said.lines().count() == 3).then_some(said)
    });
    assert!(
        seen.contains("allow") && seen.contains("routes.orders.allow.checkout") && seen.contains("/orders/7"),
        "{seen}"
    );
    let (_, denied, _) = recent(&running, &["--denied"]);
    assert!(!denied.contains("/orders/7") && denied.contains("identity.token_missing"), "{denied}");
    let (_, json, _) = recent(&running, &["--json", "-n", "1"]);
    let record: Value = serde_json::from_str(json.trim()).unwrap();
    assert_eq!(record["url"]["path"], "/orders/8");
    assert_eq!(running.admin("/recent").0, 404, "not on the address that anybody can read");
}

#[tokio::test(flavor = "multi_thread")]
async fn recent_says_why_it_cannot() {
    let running = Running::new().await;
    let (code, _, said) = recent(&running, &[]);
    assert_eq!((code, said.contains("names no `admin.socket`")), (Some(69), true), "{said}");
    let (code, _, said) = recent(&running, &["--socket", "/nowhere/admin.sock"]);
    assert_eq!((code, said.contains("no process answers at /nowhere/admin.sock")), (Some(69), true), "{said}");
}

/// Who of both has answered, in so many requests.
async fn answers(running: &Running, asks: usize) -> [usize; 2] {
    let mut answers = [0, 0];
    for _ in 0..asks {
        let reply = running.site.ask_at(running.address(), &Ask::get("/orders/7")).await;
        answers[usize::from(reply.echo()["origin"] == "b")] += 1;
    }
    answers
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_are_drained_and_weighed_while_it_runs() {
    let running = Running::with(with_socket).await;
    let done = |command: &[&str]| {
        let (code, out, err) = said(&running, command);
        assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");
        out
    };
    let (_, table, _) = said(&running, &["status"]);
    assert_eq!(table.lines().count(), 3, "{table}");
    assert!(table.contains("POOL  SERVER") && table.matches("ready  up      100").count() == 2, "{table}");
    assert_eq!(done(&["drain", "shop/a"]), "shop/a is draining\n");
    assert_eq!(answers(&running, 6).await, [0, 6]);
    assert_eq!(done(&["ready", "shop/a"]), "shop/a is ready\n");
    assert_eq!(done(&["weight", "shop/a", "50"]), "shop/a has the weight 50\n");
    assert_eq!(answers(&running, 6).await, [2, 4]);
    let status: Value = serde_json::from_str(&done(&["status", "--json"])).unwrap();
    let server = &status["pools"][0]["servers"][0];
    assert_eq!((&server["state"], &server["health"], &server["weight"]), (&"ready".into(), &"up".into(), &50.into()));
    assert!(server["latency_seconds"].as_f64().unwrap() > 0.0);
    assert_eq!(done(&["weight", "shop/a", "default"]), "shop/a has the weight 100\n");
    assert_eq!(done(&["maint", "shop/b"]), "shop/b is in maintenance\n");
    running.eventually("no check", |metrics| metrics.contains("belay_server_up{pool=\"shop\",server=\"b\"} 0")).await;
    assert!(done(&["status"]).contains("maintenance  unknown"));
    assert_eq!(answers(&running, 4).await, [4, 0]);
    done(&["ready", "shop/b"]);
    running.eventually("a check", |metrics| metrics.contains("belay_server_up{pool=\"shop\",server=\"b\"} 1")).await;
    let path = running.site.folder.path().join("audit.jsonl");
    let log = crate::support::eventually("six records", || {
        let log = std::fs::read_to_string(&path).unwrap();
        (log.matches("\"server\":\"b\"").count() >= 2).then_some(log)
    });
    let acts = log.lines().filter(|line| line.contains("\"configuration\"")).map(|line| {
        let record: Value = serde_json::from_str(line).unwrap();
        format!("{} {}", record["event"]["action"].as_str().unwrap(), record["belay"]["server"].as_str().unwrap_or("-"))
    });
    let acts: Vec<_> = acts.collect();
    assert_eq!(acts, ["start -", "drain a", "ready a", "weight a", "weight a", "maint b", "ready b"]);
}

#[test_case(&["drain", "shop/nobody"], 69, "there is no server shop/nobody"; "no such server")]
#[test_case(&["drain", "store/a"], 69, "there is no server store/a"; "no such pool")]
#[test_case(&["drain", "a"], 64, "`a` is no server: say POOL/SERVER"; "no pool")]
#[test_case(&["ready", "shop/../a"], 64, "`shop/../a` is no server"; "a path")]
#[test_case(&["weight", "shop/a", "257"], 64, "a weight is 0 to 256, or `default`"; "too heavy")]
#[test_case(&["weight", "shop/a", "-1"], 64, "unexpected argument '-1'"; "too light")]
#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_done_is_said(command: &[&str], code: i32, expected: &str) {
    let running = Running::with(with_socket).await;
    let (ended, out, err) = said(&running, command);
    assert_eq!((ended, out.as_str(), err.contains(expected)), (Some(code), "", true), "{err}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_read_metrics_may_not_change_servers() {
    let running = Running::new().await;
    assert_eq!(running.admin("/status").0, 404);
    let mut stream = std::net::TcpStream::connect(running.belay.ready["admin"].as_str().unwrap()).unwrap();
    let request =
        "POST /servers/shop/a/drain HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 405"), "{answer}");
}

#[test_case("", "info listener edge on", true; "text unless said otherwise")]
#[test_case("log: { format: json }\n", "\"message\":\"listener edge on", true; "json")]
#[test_case("log: { level: warning }\n", "listener edge on", false; "a level above")]
#[tokio::test(flavor = "multi_thread")]
async fn the_process_log_is_text_or_json(log: &str, expected: &str, there: bool) {
    let running = Running::with(|text| format!("{log}{text}")).await;
    let Running { site, belay } = running;
    let (_, said) = belay.stop();
    drop(site);
    assert_eq!(said.contains(expected), there, "{said}");
    if log.contains("json") {
        for line in said.lines() {
            let record: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
            assert_eq!(record["log"]["logger"].as_str().unwrap().split(':').next(), Some("belay"));
        }
    }
}

/// A port in use, a path that is no socket: it ends, and says which.
#[tokio::test]
async fn a_path_that_is_taken_is_named() {
    let site = Site::new(System.now().unix_seconds()).await;
    site.write("edge.sock", "somebody's file");
    site.write("belay.yaml", &site.config_text().replacen("['127.0.0.1:0']", "['unix:edge.sock']", 1));
    let output = Belay::output(&["run", "-c", site.config().to_str().unwrap()]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(69), "{said}");
    assert!(said.contains("edge.sock"), "{said}");
    assert_eq!(std::fs::read_to_string(site.folder.path().join("edge.sock")).unwrap(), "somebody's file");
}
