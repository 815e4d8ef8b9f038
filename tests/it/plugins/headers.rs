//! Headers, properties, metrics, shared data, and the course of a request.

use super::*;
use crate::support::settled;
use serde_json::json;
use test_case::test_case;

#[tokio::test]
async fn a_request_is_changed() {
    let mut guest = Guest::new();
    let [a, b, c, seen, value] = ["x-a", "x-b", "x-c", "x-seen", "new"].map(|text| guest.text(text));
    let guest = guest.on_request(&format!(
        "(drop (call $set_header (i32.const 0) {a} {value}))
         (drop (call $add_header (i32.const 0) {b} {value}))
         (drop (call $remove_header (i32.const 0) {c}))
         (drop (call $get_header (i32.const 0) {b} (i32.const 0) (i32.const 4)))
         (drop (call $set_header (i32.const 0) {seen} (call $at) (call $length)))
         (i32.const 0)"
    ));
    let world = plugged(&guest, "").await;
    for h2 in [false, true] {
        let ask = Ask { h2, ..orders() }.header("x-a", "old").header("x-b", "old").header("x-c", "old");
        let headers = world.ask(&ask).await.echo()["headers"].clone();
        assert_eq!((&headers["x-a"], &headers["x-b"]), (&json!("new"), &json!("old, new")));
        assert_eq!((&headers["x-c"], &headers["x-seen"]), (&Value::Null, &json!("old, new")));
    }
}

#[tokio::test]
async fn a_response_is_changed() {
    let mut guest = Guest::new();
    let [name, value, status, teapot] = ["x-plugin", "was here", ":status", "418"].map(|text| guest.text(text));
    let guest = guest.on_response(&format!(
        "(drop (call $set_header (i32.const 2) {name} {value}))
         (drop (call $set_header (i32.const 2) {status} {teapot}))
         (i32.const 0)"
    ));
    let reply = plugged(&guest, "").await.ask(&orders()).await;
    assert_eq!((reply.status, reply.header("x-plugin")), (418, Some("was here")));
}

/// All pairs are read and set again: nothing is lost, and nothing that carries identity is written.
#[tokio::test]
async fn a_whole_list_is_read_and_set() {
    let mut guest = Guest::new();
    let set = tells(&mut guest, "x-set", "(local.get $status)");
    let guest = guest.on_request(&format!(
        "(local $status i32)
         (drop (call $get_pairs (i32.const 0) (i32.const 0) (i32.const 4)))
         (drop (call $map_size (i32.const 0) (i32.const 8)))
         (local.set $status (call $set_pairs (i32.const 0) (call $at) (call $length)))
         (if (i32.ne (i32.load (i32.const 8)) (call $length)) (then (local.set $status (i32.const 9))))
         {set} (i32.const 0)"
    ));
    let ask = orders().header("x-a", "1").header("x-a", "2").header("accept", "text/html");
    let headers = plugged(&guest, "").await.ask(&ask).await.echo()["headers"].clone();
    assert_eq!((&headers["x-set"], &headers["x-a"]), (&json!("0"), &json!("1, 2")));
    assert_eq!((&headers["accept"], &headers["belay-workload"]), (&json!("text/html"), &json!("checkout")));
}

/// What is not in a list that is set goes, but for what is not the plugin's to take.
#[tokio::test]
async fn a_list_that_is_set_is_all_there_is() {
    let mut guest = Guest::new();
    let list = guest.pairs(&[("x-only", "1")]);
    let set = tells(&mut guest, "x-set", &format!("(call $set_pairs (i32.const 0) {list})"));
    let guest = guest.on_request(&format!("{set} (i32.const 0)"));
    let ask = Ask { method: "POST", body: "12345", ..orders() }.header("x-a", "1");
    let echo = plugged(&guest, "").await.ask(&ask).await.echo();
    let headers = &echo["headers"];
    assert_eq!((&headers["x-set"], &headers["x-only"], &headers["x-a"]), (&json!("0"), &json!("1"), &Value::Null));
    assert_eq!((&headers["belay-workload"], &echo["body_bytes"]), (&json!("checkout"), &json!(5)));
}

/// A plugin may tighten and never widen: it cannot be somebody else, nor send a request elsewhere.
#[test_case("belay-workload", "admin", "2"; "another workload")]
#[test_case("Belay-Roles", "admin", "2"; "another role")]
#[test_case("x-forwarded-for", "127.0.0.1", "2"; "another client")]
#[test_case("edge-identity", "token", "2"; "a token")]
#[test_case(":path", "/admin", "2"; "another path")]
#[test_case(":method", "DELETE", "2"; "another method")]
#[test_case(":authority", "admin.example.com", "2"; "another host")]
#[test_case("host", "admin.example.com", "2"; "another host by its old name")]
#[test_case("Content_Length", "0", "2"; "another length in disguise")]
#[test_case("connection", "close", "2"; "the connection")]
#[test_case("transfer-encoding", "chunked", "0"; "framing")]
#[test_case("content-length", "0", "0"; "another length")]
#[test_case("x y", "1", "2"; "no name")]
#[test_case("x-fine", "a\nb", "2"; "no value")]
#[test_case("x-fine", "1", "0"; "one of its own")]
#[tokio::test]
async fn identity_and_the_request_line_are_not_its_own(name: &str, value: &str, status: &str) {
    let mut guest = Guest::new();
    let [name, value] = [name, value].map(|text| guest.text(text));
    let set = tells(&mut guest, "x-set", &format!("(call $set_header (i32.const 0) {name} {value})"));
    let guest = guest.on_request(&format!("{set} (i32.const 0)"));
    let ask = Ask { method: "POST", body: "12345", ..orders() };
    let echo = plugged(&guest, "").await.ask(&ask).await.echo();
    let headers = &echo["headers"];
    assert_eq!(headers["x-set"], status);
    assert_eq!(
        (&echo["path"], &echo["method"], &echo["body_bytes"]),
        (&json!("/orders/7?full=1"), &json!("POST"), &json!(5))
    );
    assert_eq!((&headers["host"], &headers["belay-workload"]), (&json!("shop.example.com"), &json!("checkout")));
    assert_eq!((&headers["belay-roles"], &headers["edge-identity"]), (&Value::Null, &Value::Null));
    assert!(!headers["x-forwarded-for"].as_str().unwrap_or_default().contains("127.0.0.1"));
}

#[test_case(&["request", "path"], "/orders/7?full=1")]
#[test_case(&["request", "url_path"], "/orders/7")]
#[test_case(&["request", "query"], "full=1")]
#[test_case(&["request", "host"], "shop.example.com")]
#[test_case(&["request", "method"], "GET")]
#[test_case(&["request", "scheme"], "https")]
#[test_case(&["request", "protocol"], "HTTP/2")]
#[test_case(&["request", "headers", "X-In"], "in")]
#[test_case(&["request", "useragent"], "test")]
#[test_case(&["request", "referer"], "https://a.example/")]
#[test_case(&["connection", "tls_version"], "TLSv1.3")]
#[test_case(&["connection", "mtls"], "\u{1}")]
#[test_case(&["route_name"], "orders")]
#[test_case(&["listener_name"], "edge")]
#[test_case(&["plugin_name"], "guest")]
#[test_case(&["plugin_root_id"], "root")]
#[test_case(&["belay", "workload"], "checkout")]
#[test_case(&["belay", "route"], "orders")]
#[test_case(&["belay", "listener"], "edge")]
#[test_case(&["belay", "roles"], ""; "no roles")]
#[test_case(&["belay", "user"], "1"; "no user")]
#[test_case(&["request", "nothing"], "1"; "no such")]
#[test_case(&["own", "note"], "noted"; "its own note")]
#[tokio::test]
async fn a_property(path: &[&str], value: &str) {
    let mut guest = Guest::new();
    let path = guest.text(&path.join("\0"));
    let [own, noted, header] = ["own\0note", "noted", "x-property"].map(|text| guest.text(text));
    // A status that is not 0 stands for what is not there.
    let missing = tells(&mut guest, "x-property", "(local.get $status)");
    let guest = guest.on_request(&format!(
        "(local $status i32)
         (drop (call $set_property {own} {noted}))
         (local.set $status (call $get_property {path} (i32.const 0) (i32.const 4)))
         (if (local.get $status) (then {missing}) (else
           (if (i32.eq (i32.load8_u (call $at)) (i32.const 1)) (then (i32.store8 (call $at) (i32.const 49))))
           (drop (call $set_header (i32.const 0) {header} (call $at) (call $length)))))
         (i32.const 0)"
    ));
    let ask = orders().header("x-in", "in").header("user-agent", "test").header("referer", "https://a.example/");
    let echo = plugged(&guest, ", root_id: root").await.ask(&ask).await.echo();
    let expected = if value == "\u{1}" { "1" } else { value };
    assert_eq!(echo["headers"]["x-property"].as_str().unwrap_or_default(), expected);
}

#[tokio::test]
async fn its_own_answer() {
    let mut guest = Guest::new();
    let headers = guest.pairs(&[("x-why", "because"), ("belay-user", "root"), ("content-length", "1")]);
    let [body, details] = ["Not today.", "details"].map(|text| guest.text(text));
    let guest = guest.on_request(&format!(
        "(drop (call $respond (i32.const 403) {details} {body} {headers} (i32.const -1)))
         (i32.const 1)"
    ));
    let world = plugged(&guest, ", name: bouncer").await;
    for h2 in [false, true] {
        let reply = world.ask(&Ask { h2, ..orders() }).await;
        assert_eq!((reply.status, reply.body.as_str(), reply.header("x-why")), (403, "Not today.", Some("because")));
        assert_eq!((reply.header("belay-user"), reply.header("content-length")), (None, Some("10")));
    }
    assert_eq!((world.forwarded(), outcome(&world)["belay"]["filter"].clone()), (0, json!("bouncer")));
}

#[tokio::test]
async fn an_answer_instead_of_the_origins() {
    let mut guest = Guest::new();
    let [body, none] = ["Hidden.", ""].map(|text| guest.text(text));
    let guest = guest.on_response(&format!(
        "(drop (call $respond (i32.const 451) {none} {body} {none} (i32.const -1))) (i32.const 1)"
    ));
    let world = plugged(&guest, "").await;
    for h2 in [false, true] {
        let reply = world.ask(&Ask { h2, ..orders() }).await;
        assert_eq!((reply.status, reply.body.as_str()), (451, "Hidden."));
    }
    assert_eq!(world.forwarded(), 2);
}

#[tokio::test]
async fn a_request_that_it_closes_is_refused() {
    let guest = Guest::new().on_request("(drop (call $close (i32.const 0))) (i32.const 1)");
    let world = plugged(&guest, "").await;
    assert_eq!((world.ask(&orders()).await.status, world.forwarded()), (500, 0));
    assert_eq!(outcome(&world)["event"]["reason"], "filter.filter_failed");
}

/// What one has set is there for all, and who comes too late is told.
#[tokio::test]
async fn shared_data_are_compared_and_swapped() {
    let mut guest = Guest::new();
    let [key, one, two] = ["key", "1", "2"].map(|text| guest.text(text));
    let first =
        tells(&mut guest, "x-first", &format!("(call $get_shared {key} (i32.const 0) (i32.const 4) (i32.const 8))"));
    let stale = tells(
        &mut guest,
        "x-stale",
        &format!("(call $set_shared {key} {one} (i32.add (i32.load (i32.const 8)) (i32.const 7)))"),
    );
    let good = tells(&mut guest, "x-good", &format!("(call $set_shared {key} {two} (i32.load (i32.const 8)))"));
    let value = guest.text("x-value");
    let guest = guest.on_request(&format!(
        "{first}
         (drop (call $set_shared {key} {one} (i32.const 0)))
         (drop (call $get_shared {key} (i32.const 0) (i32.const 4) (i32.const 8)))
         {stale} {good}
         (drop (call $get_shared {key} (i32.const 0) (i32.const 4) (i32.const 8)))
         (drop (call $set_header (i32.const 0) {value} (call $at) (call $length)))
         (i32.const 0)"
    ));
    let world = plugged(&guest, "").await;
    for first in ["1", "0"] {
        let headers = world.ask(&orders()).await.echo()["headers"].clone();
        assert_eq!(headers["x-first"], first, "they outlive a request");
        assert_eq!(
            (&headers["x-stale"], &headers["x-good"], &headers["x-value"]),
            (&json!("8"), &json!("0"), &json!("2"))
        );
    }
}

#[tokio::test]
async fn metrics_of_its_own() {
    let mut guest = Guest::new();
    let [counter, gauge, histogram] = ["seen", "depth", "took"].map(|text| guest.text(text));
    let wrong = tells(&mut guest, "x-wrong", "(call $record (i32.load (i32.const 32)) (i64.const 1))");
    let unknown = tells(&mut guest, "x-unknown", "(call $increment (i32.const 99) (i64.const 1))");
    let value = tells(&mut guest, "x-value", "(i32.load (i32.const 48))");
    let guest = guest.on_request(&format!(
        "(drop (call $define_metric (i32.const 0) {counter} (i32.const 32)))
         (drop (call $define_metric (i32.const 1) {gauge} (i32.const 36)))
         (drop (call $define_metric (i32.const 2) {histogram} (i32.const 40)))
         (drop (call $increment (i32.load (i32.const 32)) (i64.const 3)))
         (drop (call $record (i32.load (i32.const 36)) (i64.const 7)))
         (drop (call $record (i32.load (i32.const 40)) (i64.const 20)))
         (drop (call $get_metric (i32.load (i32.const 32)) (i32.const 48)))
         {wrong} {unknown} {value} (i32.const 0)"
    ));
    let world = plugged(&guest, "").await;
    let headers = world.ask(&orders()).await.echo()["headers"].clone();
    assert_eq!(
        (&headers["x-wrong"], &headers["x-unknown"], &headers["x-value"]),
        (&json!("2"), &json!("1"), &json!("3"))
    );
    let metrics = world.metrics();
    for line in [
        "belay_plugin_counter_total{name=\"seen\",plugin=\"guest\"} 3",
        "belay_plugin_gauge{name=\"depth\",plugin=\"guest\"} 7",
        "belay_plugin_histogram_count{name=\"took\",plugin=\"guest\"} 1",
        "belay_plugin_instances{plugin=\"guest\"} 1",
    ] {
        assert!(metrics.contains(line), "{line}");
    }
}

/// However many it names, there is a bounded number of them.
#[tokio::test]
async fn its_metrics_are_bounded() {
    let mut guest = Guest::new();
    let name = guest.text("metric-0000");
    let at = name.split(' ').nth(1).unwrap().trim_end_matches(')').parse::<usize>().unwrap() + 7;
    let last = tells(&mut guest, "x-last", "(local.get $status)");
    let guest = guest.on_request(&format!(
        "(local $status i32) (local $n i32)
         (loop $more
           (i32.store8 (i32.const {at}) (i32.add (i32.const 48) (i32.and (local.get $n) (i32.const 15))))
           (i32.store8 (i32.const {}) (i32.add (i32.const 48) (i32.shr_u (local.get $n) (i32.const 4))))
           (local.set $status (call $define_metric (i32.const 0) {name} (i32.const 32)))
           (local.set $n (i32.add (local.get $n) (i32.const 1)))
           (br_if $more (i32.lt_u (local.get $n) (i32.const 200))))
         {last} (i32.const 0)",
        at + 1
    ));
    let world = plugged(&guest, "").await;
    assert_eq!(told(&world, "x-last").await, "2");
    let metrics = world.metrics();
    assert_eq!(metrics.lines().filter(|line| line.starts_with("belay_plugin_counter_total{")).count(), 64);
}

#[tokio::test]
async fn time_passes_and_ticks() {
    let mut guest = Guest::new();
    let ticks = guest.text("ticks");
    let time = tells(&mut guest, "x-time", "(i64.gt_u (i64.load (i32.const 32)) (i64.const 1600000000000000000))");
    let guest = guest
        .on(
            "proxy_on_vm_start",
            "(param i32 i32) (result i32)",
            &format!(
                "(drop (call $tick_period (i32.const 10)))
             (drop (call $define_metric (i32.const 0) {ticks} (i32.const 40))) (i32.const 1)"
            ),
        )
        .on("proxy_on_tick", "(param i32)", "(drop (call $increment (i32.load (i32.const 40)) (i64.const 1)))")
        .on_request(&format!("(drop (call $time (i32.const 32))) {time} (i32.const 0)"));
    let world = plugged(&guest, "").await;
    assert_eq!(told(&world, "x-time").await, "1");
    let ticks = || {
        let metrics = world.metrics();
        let line = metrics
            .lines()
            .find_map(|line| line.strip_prefix("belay_plugin_counter_total{name=\"ticks\",plugin=\"guest\"} "));
        line.and_then(|count| count.parse::<u64>().ok()).unwrap_or_default()
    };
    settled("three ticks", || ticks() >= 3).await;
}

/// What is not there is said not to be, and nothing is a silent yes.
#[tokio::test]
async fn what_is_not_there_is_said_so() {
    let mut guest = Guest::new();
    let queue = guest.text("queue");
    let queue = tells(&mut guest, "x-queue", &format!("(call $register_queue {queue} (i32.const 32))"));
    let files = tells(&mut guest, "x-files", "(call $prestat (i32.const 3) (i32.const 32))");
    let random = tells(&mut guest, "x-random", "(call $random (i32.const 32) (i32.const 16))");
    let context = tells(&mut guest, "x-context", "(call $effective (i32.const 77))");
    let buffer = tells(
        &mut guest,
        "x-buffer",
        "(call $get_buffer (i32.const 5) (i32.const 0) (i32.const 9) (i32.const 0) (i32.const 4))",
    );
    let map = tells(&mut guest, "x-map", "(call $map_size (i32.const 44) (i32.const 32))");
    let guest = guest.on_request(&format!("{queue} {files} {random} {context} {buffer} {map} (i32.const 0)"));
    let headers = plugged(&guest, "").await.ask(&orders()).await.echo()["headers"].clone();
    assert_eq!(headers["x-queue"], "<", "12: unimplemented");
    assert_eq!(
        (&headers["x-files"], &headers["x-random"]),
        (&json!("8"), &json!("0")),
        "EBADF ends a guest's search for files"
    );
    for name in ["x-context", "x-buffer", "x-map"] {
        assert_eq!(headers[name], "2", "{name}");
    }
}

/// In the first version a function had no word for the end, and others had other names.
#[test_case("proxy_abi_version_0_1_0", "(param $id i32) (param $count i32) (result i32)"; "the first")]
#[test_case("proxy_abi_version_0_2_0", "(param $id i32) (param $count i32) (param $all i32) (result i32)"; "the second")]
#[test_case("proxy_abi_version_0_2_1", "(param $id i32) (param $count i32) (param $all i32) (result i32)"; "the third")]
#[tokio::test]
async fn older_versions_are_spoken(abi: &'static str, signature: &str) {
    let mut guest = Guest::new();
    let [name, value] = ["x-spoken", "yes"].map(|text| guest.text(text));
    let body = format!("(drop (call $set_header (i32.const 0) {name} {value})) (i32.const 0)");
    let guest = guest.speaking(abi).on("proxy_on_request_headers", signature, &body);
    assert_eq!(told(&plugged(&guest, "").await, "x-spoken").await, "yes");
}

#[tokio::test]
async fn it_is_configured() {
    let mut guest = Guest::new();
    let name = guest.text("x-config");
    let length = "(param $root i32) (param $size i32) (result i32)";
    let guest =
        guest.on("proxy_on_configure", length, "(i32.gt_u (local.get $size) (i32.const 0))").on_request(&format!(
            "(drop (call $get_buffer (i32.const 7) (i32.const 0) (i32.const -1) (i32.const 0) (i32.const 4)))
             (drop (call $set_header (i32.const 0) {name} (call $at) (call $length)))
             (i32.const 0)"
        ));
    let shown = [
        ("{ a: [1, two] }", r#"{"a":[1,"two"]}"#),
        ("plain text", "plain text"),
        ("'file:plugin.json'", "from a file"),
    ];
    for (config, expected) in shown {
        let site = Site::new(NOW).await;
        write(&site, &guest);
        site.write("plugin.json", "from a file");
        let world = World::before_checks(site, |text| edited(text, &format!(", config: {config}"), ""));
        world.is_healthy().await;
        assert_eq!(told(&world, "x-config").await, expected);
    }
}

#[tokio::test]
async fn a_configuration_that_it_refuses_is_a_fault() {
    let guest = Guest::new().on("proxy_on_configure", "(param i32 i32) (result i32)", "(i32.const 0)");
    let said = refused(&guest, "").await;
    assert!(said.contains("guest.wasm") && said.contains("it refuses its `config`"), "{said}");
}

#[tokio::test]
async fn its_machine_is_configured_too() {
    let mut guest = Guest::new();
    let name = guest.text("x-machine");
    let guest = guest
        .on("proxy_on_vm_start", "(param i32 i32) (result i32)", "(i32.eq (local.get 1) (i32.const 7))")
        .on_request(&format!(
            "(drop (call $get_buffer (i32.const 6) (i32.const 0) (i32.const -1) (i32.const 0) (i32.const 4)))
             (drop (call $set_header (i32.const 0) {name} (call $at) (call $length)))
             (i32.const 0)"
        ));
    assert_eq!(told(&plugged(&guest, ", vm_config: machine").await, "x-machine").await, "machine");
    let said = refused(&guest, ", vm_config: other").await;
    assert!(said.contains("it refuses its `vm_config`"), "{said}");
}

/// A plugin may mean itself for a while, and its request again; and it can ask what would be logged.
#[tokio::test]
async fn contexts_and_the_level_of_the_log() {
    let mut guest = Guest::new();
    let own = tells(&mut guest, "x-own", "(i32.add (local.get $root) (local.get $back))");
    let level = tells(
        &mut guest,
        "x-level",
        "(i32.add (call $log_level (i32.const 32)) (i32.gt_u (i32.load (i32.const 32)) (i32.const 5)))",
    );
    let guest = guest.on_request(&format!(
        "(local $root i32) (local $back i32)
         (local.set $root (call $effective (i32.const 1)))
         (local.set $back (call $effective (local.get $id)))
         {own} {level} (i32.const 0)"
    ));
    let headers = plugged(&guest, "").await.ask(&orders()).await.echo()["headers"].clone();
    assert_eq!((&headers["x-own"], &headers["x-level"]), (&json!("0"), &json!("0")));
}
