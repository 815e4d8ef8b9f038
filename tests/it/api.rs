//! The admin API: what its description says is what it answers, and the address is for nobody's browser.

use crate::support::operator::with_socket;
use crate::support::{Ask, Running, Successor, World, admin_as};
use belay::admin::{self, Admin, Visitor};
use belay::drain;
use serde_json::{Value, json};
use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
    path::Path,
    sync::Arc,
};
use test_case::test_case;

/// Asks at the socket: the status, the type of the answer, and the answer.
fn ask(socket: &Path, method: &str, target: &str, body: &str) -> (u16, String, String) {
    let mut stream = UnixStream::connect(socket).unwrap();
    let length = body.len();
    let head =
        format!("{method} {target} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}");
    stream.write_all(head.as_bytes()).unwrap();
    let mut raw = String::new();
    stream.read_to_string(&mut raw).unwrap();
    let (head, body) = raw.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let lines = head.lines().map(str::to_ascii_lowercase);
    let kind = lines.filter_map(|line| line.strip_prefix("content-type: ").map(str::to_owned)).next();
    (status, kind.unwrap_or_default(), body.to_owned())
}

async fn running() -> Running {
    let running = Running::started_at(|site| {
        std::fs::create_dir(site.folder.path().join("history")).unwrap();
        let text = with_socket(format!("{}admin: {{ http: '127.0.0.1:0' }}\n", site.config_text()));
        site.write("belay.yaml", &format!("{text}history: {{ dir: history }}\n"));
    });
    let Running { site, belay } = running.await;
    Running::healthy(site, belay).await
}

/// Whether an answer is one that the document describes.
fn is_described(document: &Value, operation: &Value, (status, kind, body): &(u16, String, String)) {
    let described = &operation["responses"][status.to_string()]["content"][kind]["schema"];
    assert!(described.is_object(), "{status} {kind}: {body}\nis not in {operation}");
    if kind == "application/json" {
        let mut schema = described.clone();
        schema["components"] = document["components"].clone();
        let answer: Value = serde_json::from_str(body).unwrap();
        let validator = jsonschema::draft202012::new(&schema).unwrap();
        let errors: Vec<_> = validator.iter_errors(&answer).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{errors:?} in {answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_answers_as_its_description_says() {
    let running = running().await;
    assert_eq!(running.status(&Ask::get("/orders/7")).await, 200);
    let socket = running.site.folder.path().join("admin.sock");
    let (status, _, text) = ask(&socket, "GET", "/openapi.json", "");
    let document: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((status, &document["openapi"]), (200, &json!("3.1.1")));
    let put_in = [("{pool}", "shop"), ("{server}", "a"), ("{act}", "drain"), ("{generation}", "1")];
    let mut asked = 0;
    for (path, operations) in document["paths"].as_object().unwrap() {
        let target = put_in.iter().fold(path.clone(), |target, (name, word)| target.replace(name, word));
        for (method, operation) in operations.as_object().unwrap() {
            asked += ask_both_ways(&document, operation, |body| ask(&socket, &method.to_uppercase(), &target, body));
        }
        let (status, ..) = ask(&socket, "PUT", &target, "");
        assert_eq!(status, 405, "{path}");
    }
    assert_eq!(asked, 21, "an endpoint more or less");
}

/// Asks as the document says, and with a body of another form where it may have one; how often.
fn ask_both_ways(document: &Value, operation: &Value, ask: impl Fn(&str) -> (u16, String, String)) -> usize {
    let bodies: &[&str] =
        if operation["requestBody"].is_object() { &["{\"reason\":\"a test\"}", "{\"nonsense\":1}"] } else { &[""] };
    for body in bodies {
        let answer = ask(body);
        // Where the program is root's, another process has taken over. It goes with the first.
        drop(serde_json::from_str(&answer.2).ok().as_ref().and_then(Successor::of));
        is_described(document, operation, &answer);
        assert_eq!(answer.0 == 400, body.contains("nonsense"), "{answer:?}");
    }
    bodies.len()
}

#[test_case("GET", "/history/2", 404, "is not remembered"; "no such generation")]
#[test_case("GET", "/history/x", 400, "a generation is a number"; "no generation")]
#[test_case("POST", "/rollback/-1", 400, "a generation is a number"; "to none")]
#[test_case("POST", "/servers/shop/a/stop", 400, "`stop` is nothing that can be done"; "no act")]
#[test_case("POST", "/servers/shop/z/drain", 404, "there is no server shop/z"; "no server")]
#[test_case("GET", "/nothing", 404, "see /openapi.json"; "nothing there")]
#[test_case("POST", "/status", 405, "/status is not asked with POST"; "another method")]
#[tokio::test(flavor = "multi_thread")]
async fn what_it_cannot_do_it_says(method: &str, target: &str, status: u16, said: &str) {
    let running = running().await;
    let answer = ask(&running.site.folder.path().join("admin.sock"), method, target, "");
    assert!(answer.0 == status && answer.2.contains(said), "{answer:?}");
}

#[test_case("localhost", "/metrics", 200; "by the name that is nobody else's")]
#[test_case("127.0.0.1", "/readyz", 200; "by the address")]
#[test_case("evil.example", "/metrics", 421; "by a name that was made to point here")]
#[test_case("localhost", "/status", 404; "what is for operators")]
#[test_case("localhost", "/openapi.json", 404; "what describes it")]
#[test_case("localhost", "/config", 404; "the config")]
#[tokio::test(flavor = "multi_thread")]
async fn the_address_is_for_nobodys_browser(host: &str, path: &str, status: u16) {
    let running = running().await;
    assert_eq!(admin_as(running.belay.ready["admin"].as_str().unwrap(), host, path).0, status);
}

#[tokio::test(flavor = "multi_thread")]
async fn readiness_can_be_looked_into() {
    let running = running().await;
    let (status, said) = running.admin("/readyz?verbose");
    assert_eq!(status, 200, "{said}");
    assert!(said.contains("[+] the audit log is written\n"), "{said}");
    assert!(said.contains("[+] pool shop: a server takes requests (does not count)\n"), "{said}");
    let socket = running.site.folder.path().join("admin.sock");
    for server in ["a", "b"] {
        assert_eq!(ask(&socket, "POST", &format!("/servers/shop/{server}/maint"), "").0, 200);
    }
    let (status, said) = running.admin("/readyz?verbose");
    assert_eq!(status, 200, "all nodes share it");
    assert!(said.contains("[-] pool shop: a server takes requests (does not count)\n"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_without_a_right_keeps_operators_away() {
    let world = World::new().await;
    let (orders, _ordered) = admin::channel();
    let (trigger, _watch) = drain::channel();
    let admin = Arc::new(Admin::new(Arc::clone(&world.live), Arc::new(trigger), orders));
    let stranger = || admin.visited_by(Visitor::User(4_000_000_001));
    let visits: Vec<_> = (0..100).filter_map(|_| stranger()).collect();
    assert_eq!(visits.len(), 16);
    assert!([Visitor::User(0), Visitor::Anybody, Visitor::Workload].iter().all(|it| admin.visited_by(*it).is_some()));
    drop(visits);
    assert!(stranger().is_some());
}
