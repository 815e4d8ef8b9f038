//! Who asks the audit log what has happened.

use crate::support::{Ask, Belay, Running, World};
use serde_json::{Value, json};
use std::{
    fs,
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
};
use test_case::test_case;

/// A child that does not outlive its test.
struct Follower(Child);

impl Drop for Follower {
    fn drop(&mut self) {
        // It may have ended already.
        self.0.kill().unwrap_or_default();
        self.0.wait().unwrap();
    }
}

fn query(world: &World, arguments: &[&str]) -> (Vec<String>, String) {
    let config = world.site.config();
    let output = Belay::output(&[&["audit", "query", "-c", config.to_str().unwrap()], arguments].concat());
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{said}");
    (String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect(), said)
}

/// Requests of every kind, each with an id of its own.
async fn asked() -> World {
    let world = World::new().await;
    let asks = [
        ("r-order-1", Ask::get("/orders/1").header("CF-Ray", "8c1f0a9e4d5b4c1b-FRA")),
        ("r-order-2", Ask { method: "POST", ..Ask::get("/orders/2") }),
        ("r-report1", Ask { certificate: Some("reports"), signer: Some("reports"), ..Ask::get("/orders/3") }),
        ("r-nowhere", Ask::get("/nowhere")),
    ];
    for (id, ask) in asks {
        world.ask(&ask.claim("rid", id)).await;
    }
    // What cannot be read of a stranger has an id of ours.
    world.ask(&Ask { certificate: None, signer: None, ..Ask::get("/orders/5") }).await;
    world.live.state().journal.flush();
    world
}

#[test_case("--request r-order-1", &["r-order-1"]; "by its id")]
#[test_case("--ray 8c1f0a9e4d5b4c1b-FRA", &["r-order-1"]; "by the ray")]
#[test_case("--workload reports", &["r-report1"]; "by who asked")]
#[test_case("--decision allow", &["r-order-1", "r-order-2"]; "what was let in")]
#[test_case("--decision deny --workload checkout", &["r-nowhere"]; "what was not")]
#[test_case("--route orders --status 4xx --workload reports", &["r-report1"]; "by route and status")]
#[test_case("--reason policy.not_allowed", &["r-report1"]; "by reason")]
#[test_case("--rule routes.orders.allow.checkout", &["r-order-1", "r-order-2"]; "by rule")]
#[test_case("--action request --workload checkout -n 1", &["r-nowhere"]; "the last one")]
#[test_case("--since 2020-01-01 --decision allow", &["r-order-1", "r-order-2"]; "since then")]
#[test_case("--until 2020-01-01", &[]; "before then")]
#[test_case("--request r-order", &[]; "half an id")]
#[test_case("--user ada", &[]; "nobody")]
#[tokio::test]
async fn a_log_tells_what_it_is_asked(arguments: &str, expected: &[&str]) {
    let world = asked().await;
    let arguments: Vec<_> = arguments.split(' ').collect();
    let (lines, said) = query(&world, &[&arguments[..], &["--json"]].concat());
    let records: Vec<Value> = lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let decided = records.iter().filter(|record| record["event"]["action"] == "decision");
    let ids: Vec<_> = decided.map(|record| record["http"]["request"]["id"].as_str().unwrap()).collect();
    assert_eq!(ids, expected);
    assert_eq!(said.contains("nothing of that"), expected.is_empty(), "{said}");
    // Each with its outcome, and in a table one line for both.
    assert_eq!(records.len(), 2 * expected.len());
    let (rows, _) = query(&world, &arguments);
    assert_eq!(rows.len(), if expected.is_empty() { 0 } else { expected.len() + 1 }, "{rows:?}");
    let each = rows.iter().skip(1).zip(expected);
    each.for_each(|(row, id)| assert!(row.contains(id) && row.contains("shop.example.com/"), "{row}"));
}

#[test]
fn what_cannot_be_asked_is_told() {
    for (arguments, code, told) in [
        (&["nowhere.jsonl"][..], 69, "nowhere.jsonl"),
        (&["-c", "nowhere.yaml"], 78, "nowhere.yaml"),
        (&["--status", "teapot"], 64, "for example 503 or 5xx"),
        (&["--since", "yesterday"], 64, "15m"),
        (&["-n", "0"], 64, "non-zero"),
        (&["--pseudonyms", "nowhere", "log"], 69, "nowhere"),
    ] {
        let output = Belay::output(&[&["audit", "query"], arguments].concat());
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(code) && said.contains(told), "{:?} {said}", output.status);
    }
}

#[tokio::test]
async fn both_logs_together_lose_no_row() {
    let world = asked().await;
    let wrapped = json!({ "outcome": "ok", "logs": [{ "message": [json!({ "rid": "r-order-2" }).to_string()] }] });
    let lost = json!({ "rid": "r-never-came", "status": null });
    let own = json!({ "rid": "r-order-1", "status": 200 });
    // The last line has no end.
    world.write("worker.jsonl", &format!("{own}\n{wrapped}\nno JSON\n\n{lost}\n{own}"));
    let worker = world.site.folder.path().join("worker.jsonl");
    let (lines, said) = query(&world, &["--action", "request", "--join", worker.to_str().unwrap()]);
    let rows: Vec<Value> = lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let count = |rid: Value, edge: usize, belay: usize| {
        let of = |row: &&Value| {
            row["rid"] == rid
                && row["edge"].as_array().unwrap().len() == edge
                && row["belay"].as_array().unwrap().len() == belay
        };
        rows.iter().filter(of).count()
    };
    assert_eq!(count("r-order-1".into(), 2, 2), 1, "{rows:#?}");
    assert_eq!(count("r-order-2".into(), 1, 2), 1);
    assert_eq!(count("r-never-came".into(), 1, 0), 1);
    assert_eq!(count(Value::Null, 1, 0), 1, "what names no request");
    assert_eq!(count("r-report1".into(), 0, 2), 1);
    let ours = fs::read_to_string(world.site.folder.path().join("audit.jsonl")).unwrap();
    let ours = ours.lines().filter(|line| line.contains("\"http\":{")).count();
    let joined: usize = rows.iter().map(|row| row["belay"].as_array().unwrap().len()).sum();
    assert_eq!(joined, ours);
    assert!(said.contains("2 requests are in both logs, 1 only in the Worker's, 3 only in ours"), "{said}");
    assert!(said.contains("1 lines of the Worker's log name no request"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_is_followed_over_its_files() {
    let running = Running::new().await;
    let log = running.site.folder.path().join("audit.jsonl");
    let mut follow = Command::new(env!("CARGO_BIN_EXE_belay"));
    follow.args(["audit", "follow", "--workload", "checkout"]).arg(&log);
    let mut child = follow.stdout(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(child.stdout.take().unwrap());
    let _follower = Follower(child);
    let mut next = || {
        let mut line = String::new();
        said.read_line(&mut line).unwrap();
        line
    };
    assert!(next().starts_with("TIME "));
    running.status(&Ask::get("/orders/1")).await;
    assert!(next().contains("/orders/1"));
    // Moved away, as a script might do it. What comes next is in a new file.
    fs::rename(&log, running.site.folder.path().join("moved")).unwrap();
    running.status(&Ask { certificate: None, signer: None, ..Ask::get("/orders/2") }).await;
    running.status(&Ask::get("/orders/3")).await;
    assert!(next().contains("/orders/3"));
}
