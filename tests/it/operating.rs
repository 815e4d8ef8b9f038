//! What operators read: the process log, and the last decisions.

use crate::support::{Ask, Belay, Running, Site};
use belay::clock::{Clock, System};
use serde_json::Value;
use std::os::unix::fs::PermissionsExt;
use test_case::test_case;

fn with_socket(text: String) -> String {
    text.replace("admin: { http: '127.0.0.1:0' }", "admin: { http: '127.0.0.1:0', socket: admin.sock }")
}

fn recent(running: &Running, more: &[&str]) -> (Option<i32>, String, String) {
    let config = running.site.config();
    let output = Belay::output(&[&["recent", "-c", config.to_str().unwrap()], more].concat());
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
