//! Every record is what its published schema says, and holds nothing that nobody should read.

use crate::support::operator::{apply, command, with_socket};
use crate::support::{Ask, NOW, Running, World, eventually, record};
use belay::audit::{Left, Record, Sealer, Upkeep};
use belay::clock::Timestamp;
use belay::name::NodeName;
use belay::request::Id;
use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;

/// The actions of a log, each of whose lines is as the schema says.
fn actions(text: &str) -> BTreeSet<String> {
    text.lines().map(|line| record(line)["event"]["action"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_days_records_are_as_their_schema_says() {
    let running = Running::with(with_socket).await;
    let secrets = ["hunter2-query", "hunter2-cookie", "hunter2-body", "hunter2-bearer"];
    let ask = Ask { method: "POST", body: "hunter2-body", ..Ask::get("/orders/7?q=hunter2-query") };
    let ask = ask.header("Cookie", "a=hunter2-cookie").header("Authorization", "Bearer hunter2-bearer");
    // A load balancer that has just started takes no POST for some seconds, which is a record, too.
    running.status(&ask).await;
    running.status(&Ask { h2: true, ..Ask::get("/orders/7?q=hunter2-query") }).await;
    running.status(&Ask { signer: Some("forger"), ..Ask::get("/orders/8") }.header("CF-Ray", "8c1f-FRA")).await;
    let stranger = Ask { certificate: None, signer: None, ..Ask::get("/nowhere") };
    running.status(&stranger).await;
    // No TLS at all, and more often than is written singly.
    let hang_up = || {
        let mut stream = TcpStream::connect(running.address()).unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        stream
    };
    for mut stream in (0..300).map(|_| hang_up()).collect::<Vec<_>>() {
        stream.read_to_end(&mut Vec::new()).unwrap_or_default();
    }
    assert_eq!(command(&running.site, &["recent"]).code, Some(0));
    assert_eq!(command(&running.site, &["drain", "shop/a"]).code, Some(0));
    let key = "checkout-1, key: 'file:checkout.pub'";
    apply(&running.site, &running.site.config_text().replace(key, &format!("{key}, state: retiring")));
    let log = running.site.folder.path().join("audit.jsonl");
    eventually("a summary", || fs::read_to_string(&log).unwrap().contains("\"summary\"").then_some(()));
    let moved = running.site.folder.path().join("moved.jsonl");
    fs::rename(&log, &moved).unwrap();
    running.status(&stranger).await;
    let Running { site, belay } = running;
    belay.stop();
    let text = [&moved, &site.folder.path().join("audit.jsonl")].map(|file| fs::read_to_string(file).unwrap()).concat();
    let expected = [
        "audit.file",
        "audit.read",
        "connection",
        "decision",
        "drain",
        "key",
        "outcome",
        "reload",
        "start",
        "stop",
        "summary",
    ];
    assert_eq!(actions(&text), expected.map(str::to_owned).into());
    secrets.iter().for_each(|secret| assert!(!text.contains(secret), "{secret} is in the log"));
    let tokens = text.matches("eyJ").count();
    assert_eq!(tokens, 0, "no token is in the log");
}

#[tokio::test]
async fn records_of_the_log_itself_are_as_the_schema_says() {
    let time = Timestamp::from_unix_seconds(NOW);
    let left = Left { boot: "b".into(), sequence: 7, chain: Some("a".repeat(64).into()), torn_bytes: 3, missing: 1 };
    let all = [
        Upkeep::File { before: None },
        Upkeep::File { before: Some("audit.jsonl.1".into()) },
        Upkeep::Recovered(left),
        Upkeep::Gap { count: 7, since: time },
        Upkeep::Clock { expected: time },
        Upkeep::Removed { file: "audit.jsonl.1".into(), is_for_age: true },
    ];
    let mut sealer = Sealer::new(NodeName::parse("lb").unwrap(), Id::random());
    let mut lines = Vec::new();
    for upkeep in all {
        sealer.seal(&Record::Upkeep { time, upkeep, judged: None }, &mut lines).unwrap();
    }
    assert_eq!(actions(&String::from_utf8(lines).unwrap()).len(), 5);
    let world = World::new().await;
    world.live.state().journal.flush();
    let text = fs::read_to_string(world.site.folder.path().join("audit.jsonl")).unwrap();
    for (from, to) in [
        ("\"belay\":{", "\"belay\":{\"more\":1,"),
        ("\"event\":{", "\"more\":1,\"event\":{"),
        ("[\"configuration\"]", "[\"file\",\"web\"]"),
        ("\"sequence\":1", "\"sequence\":\"1\""),
    ] {
        let strange = text.replacen(from, to, 1);
        assert_ne!(strange, text, "{from}");
        assert!(std::panic::catch_unwind(|| actions(&strange)).is_err(), "the schema takes {to}");
    }
}
