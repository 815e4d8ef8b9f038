//! What a bad plugin can do: nothing to anybody else.

use super::*;
use crate::support::settled;
use serde_json::json;
use std::os::unix::fs::PermissionsExt;
use std::time::Instant;
use test_case::test_case;

/// Does something bad to requests that say so, and nothing to others.
fn bad(what: &str) -> Guest {
    let mut guest = Guest::new();
    let name = guest.text("x-bad");
    guest.on_request(&format!(
        "(if (i32.eqz (call $get_header (i32.const 0) {name} (i32.const 0) (i32.const 4))) (then {what})) (i32.const 0)"
    ))
}

const EATS: &str = "(loop $more (br_if $more (i32.ne (memory.grow (i32.const 1)) (i32.const -1)))) (unreachable)";
const RECURSES: &str = "(call $deeper (i64.const 1) (i64.const 2))";

#[test_case("(loop $for_ever (br $for_ever))", ", limits: { fuel: 10000000000 }", "time"; "a loop without an end")]
#[test_case("(loop $for_ever (br $for_ever))", ", limits: { time: 1s, fuel: 1000000 }", "fuel"; "a loop that costs")]
#[test_case("(unreachable)", "", "crash"; "a crash")]
#[test_case(EATS, "", "crash"; "all memory")]
#[test_case(RECURSES, "", "crash"; "all stack")]
#[test_case("(drop (i32.load (i32.const -1)))", "", "crash"; "a pointer to nowhere of its own")]
#[tokio::test]
async fn a_bad_one_hurts_nobody_else(what: &str, limits: &str, cause: &str) {
    let deeper = "(func $deeper (param i64 i64) (call $deeper (local.get 1) (local.get 0)) (call $deeper (local.get 0) (local.get 1)))";
    let world = plugged(&bad(what).part(deeper), limits).await;
    let good = orders();
    let ask = orders().header("x-bad", "1");
    let (one, two, three) = tokio::join!(world.ask(&good), world.ask(&ask), world.ask(&good));
    assert_eq!((one.status, two.status, three.status), (200, 500, 200));
    let outcomes = world.records_of("outcome");
    let failed: Vec<_> =
        outcomes.iter().filter(|outcome| outcome["event"]["reason"] == "filter.plugin_failed").collect();
    assert_eq!((failed.len(), &failed[0]["belay"]["filter"]), (1, &json!("guest")));
    let line = format!("belay_plugin_failures_total{{cause=\"{cause}\",plugin=\"guest\"}} 1");
    assert!(world.metrics().contains(&line), "{line}");
    assert_eq!(world.ask(&good).await.status, 200, "another instance takes its place");
    // One that may be left out is left out.
    let optional = format!("{limits}, optional: true");
    let world = plugged(&bad(what).part(deeper), &optional).await;
    assert_eq!(world.ask(&ask).await.status, 200);
    assert_eq!(outcome(&world)["belay"]["left_out"], json!(["guest"]), "and it is written down");
    assert_eq!(world.ask(&good).await.status, 200);
    assert_eq!(outcome(&world)["belay"]["left_out"], Value::Null);
}

/// Pointers that lead out of its memory are told so, and touch nothing.
#[test_case("(call $get_header (i32.const 0) (i32.const -8) (i32.const 100) (i32.const 0) (i32.const 4))"; "a name")]
#[test_case("(call $set_header (i32.const 0) (i32.const 1024) (i32.const -1) (i32.const 0) (i32.const 4))"; "a length")]
#[test_case("(call $log (i32.const 2) (i32.const 262140) (i32.const 5))"; "one byte too far")]
#[test_case("(call $time (i32.const 262141))"; "a place for a result")]
#[test_case("(call $set_pairs (i32.const 0) (i32.const -1) (i32.const -1))"; "a list")]
#[test_case("(call $get_property (i32.const 262144) (i32.const 1) (i32.const 0) (i32.const 4))"; "just behind the end")]
#[test_case("(call $set_shared (i32.const 0) (i32.const 4) (i32.const 0) (i32.const -2) (i32.const 0))"; "data")]
#[test_case("(call $respond (i32.const 200) (i32.const 0) (i32.const 0) (i32.const -9) (i32.const 9) (i32.const 0) (i32.const 0) (i32.const 0))"; "a body")]
#[test_case("(call $call (i32.const -1) (i32.const 4) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 0))"; "a call")]
#[tokio::test]
async fn a_garbage_pointer(call: &str) {
    let mut guest = Guest::new();
    let status = tells(&mut guest, "x-status", call);
    let world = plugged(&guest.on_request(&format!("{status} (i32.const 0)")), "").await;
    assert_eq!(told(&world, "x-status").await, "6");
}

/// Whoever stops again and again is left alone for a while, so that not every request pays for it.
#[tokio::test]
async fn one_that_stops_too_often_is_left_alone() {
    let world = plugged(&bad("(unreachable)"), "").await;
    let ask = orders().header("x-bad", "1");
    for _ in 0..20 {
        assert_eq!(world.ask(&ask).await.status, 500);
    }
    assert_eq!(world.ask(&orders()).await.status, 503, "the good ones, too: nobody could look at them");
    assert_eq!(outcome(&world)["event"]["reason"], "filter.plugins_busy");
    assert_eq!(outcome(&world)["belay"]["filter"], "guest");
}

/// There are so many instances, and whoever comes then is told.
#[tokio::test]
async fn instances_are_counted() {
    let guest = Guest::new().on_request("(i32.const 1)");
    let world = plugged(&guest, ", limits: { instances: 1, wait: 300ms }").await;
    let ask = orders();
    let began = Instant::now();
    let (one, two) = tokio::join!(world.ask(&ask), world.ask(&ask));
    let mut statuses = [one.status, two.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [500, 503], "one waits until its patience ends, and the other is told at once");
    assert!(began.elapsed().as_secs() < 5);
    settled("nothing is left behind", || world.metrics().contains("belay_plugin_instances{plugin=\"guest\"} 0")).await;
}

/// Those that may be left out are, too, when all their instances are at work.
#[tokio::test]
async fn one_that_is_busy_may_be_left_out() {
    let guest = Guest::new().on_request("(i32.const 1)");
    let world = plugged(&guest, ", optional: true, limits: { instances: 1, wait: 300ms }").await;
    let ask = orders();
    let (one, two) = tokio::join!(world.ask(&ask), world.ask(&ask));
    assert_eq!((one.status, two.status), (200, 200));
    let outcomes = world.records_of("outcome");
    assert!(outcomes.iter().all(|outcome| outcome["belay"]["left_out"] == json!(["guest"])), "{outcomes:?}");
}

/// A flood of lines is cut, and costs nobody his answer.
#[tokio::test]
async fn a_flood_of_lines_is_cut() {
    let mut guest = Guest::new();
    let line = guest.text(&"x".repeat(3000));
    let what = format!(
        "(local $n i32)
         (loop $more (drop (call $log (i32.const 4) {line}))
           (local.set $n (i32.add (local.get $n) (i32.const 1)))
           (br_if $more (i32.lt_u (local.get $n) (i32.const 2000))))
         (i32.const 0)"
    );
    let world = plugged(&guest.on_request(&what), ", limits: { time: 1s }").await;
    assert_eq!(world.ask(&orders()).await.status, 200);
    // How many are let through is counted in `shared::tests::lines_are_few`.
}

/// What is no plugin leaves the old generation, with a word that helps.
#[test_case(b"not at all", "is no WebAssembly"; "something else")]
#[test_case(b"", "is no WebAssembly"; "nothing")]
#[test_case(b"(module (memory (export \"memory\") 1))", "no word for the version"; "no version")]
#[test_case(b"(module (func (export \"proxy_abi_version_0_2_1\")))", "exports no `memory`"; "no memory")]
#[test_case(b"(module (import \"env\" \"open_door\" (func)) (memory (export \"memory\") 1) (func (export \"proxy_abi_version_0_2_1\")))", "imports what nobody provides: env.open_door"; "an import of its own")]
#[test_case(b"(module (import \"env\" \"proxy_log\" (func (param i32))) (memory (export \"memory\") 1) (func (export \"proxy_abi_version_0_2_1\")))", "proxy_log"; "an import of another type")]
#[test_case(b"(module (memory (export \"memory\") 1000) (func (export \"proxy_abi_version_0_2_1\")))", "memory"; "more memory than it may have")]
#[test_case(b"(module (memory (export \"memory\") 1) (func (export \"proxy_abi_version_0_2_1\")) (func (export \"_initialize\") (loop $l (br $l))))", "it has used up"; "a start without an end")]
#[tokio::test]
async fn is_no_plugin(text: &[u8], message: &str) {
    let world = World::new().await;
    let module = wat::parse_bytes(text).map_or_else(|_| text.to_vec(), |module| module.into_owned());
    std::fs::write(world.site.folder.path().join("guest.wasm"), module).unwrap();
    let findings = world.apply(&edited(world.config_text(), "", "")).unwrap_err();
    let said = show(&findings);
    assert!(said.contains("guest.wasm") && said.contains(message), "{said}");
    assert_eq!(world.ask(&orders()).await.status, 200, "the old generation goes on");
}

#[test_case(", name: 'a b'", "no name"; "a name with a space")]
#[test_case(", limits: { memory: 1KiB }", "out of range"; "too little memory")]
#[test_case(", limits: { time: 1m }", "out of range"; "too much time")]
#[test_case(", pools: [shopp]", "no pool `shopp`"; "a pool that is not there")]
#[test_case(", config: 'file:gone.json'", "gone.json"; "a configuration that is not there")]
#[tokio::test]
async fn are_no_settings(more: &str, message: &str) {
    let said = refused(&Guest::new(), more).await;
    assert!(said.contains(message), "{said}");
}

/// Another module takes the place of one while requests come: each is served by the one or the other.
#[tokio::test]
async fn a_reload_loses_nothing() {
    let says = |text: &str| {
        let mut guest = Guest::new();
        let [name, value] = ["x-version", text].map(|text| guest.text(text));
        guest.on_request(&format!("(drop (call $set_header (i32.const 0) {name} {value})) (i32.const 0)"))
    };
    let world = std::sync::Arc::new(plugged(&says("1"), "").await);
    let text = world.config_text();
    let asking = |world: std::sync::Arc<World>| async move {
        let mut seen = Vec::new();
        for _ in 0..40 {
            let reply = world.ask(&orders()).await;
            assert_eq!(reply.status, 200);
            seen.push(reply.echo()["headers"]["x-version"].as_str().unwrap().to_owned());
        }
        seen
    };
    let reloading = async {
        for version in ["2", "3", "4"] {
            write(&world.site, &says(version));
            world.apply(&format!("{text}# {version}\n")).unwrap_or_else(|findings| panic!("{}", show(&findings)));
            let before = world.forwarded();
            settled("some more requests have come", || world.forwarded() > before + 3).await;
        }
    };
    let (seen, _) = tokio::join!(asking(std::sync::Arc::clone(&world)), reloading);
    assert_eq!(seen.last().map(String::as_str), Some("4"));
    settled("the instances of the former ones go", || {
        // The live one's, and that of the generation before it.
        world.metrics().contains("belay_plugin_instances{plugin=\"guest\"} 2")
    })
    .await;
}

/// Whoever asks for more than he may have gets nothing, and can go on.
#[tokio::test]
async fn memory_has_its_limit() {
    let mut guest = Guest::new();
    let more = tells(&mut guest, "x-more", "(i32.eq (memory.grow (i32.const 1)) (i32.const 4))");
    let too_much = tells(&mut guest, "x-too-much", "(i32.eq (memory.grow (i32.const 100)) (i32.const -1))");
    let world =
        plugged(&guest.on_request(&format!("{more} {too_much} (i32.const 0)")), ", limits: { memory: 1MiB }").await;
    let headers = world.ask(&orders()).await.echo()["headers"].clone();
    assert_eq!((&headers["x-more"], &headers["x-too-much"]), (&json!("1"), &json!("1")));
}

/// Compiled modules are kept where the config says it, if nobody else may write there.
#[tokio::test]
async fn what_is_compiled_is_kept() {
    let site = Site::new(NOW).await;
    write(&site, &Guest::new());
    let folder = site.folder.path().join("compiled");
    let world = World::before_checks(site, |text| edited(text, "", "plugins: { cache: compiled }\n"));
    settled("something is kept", || files(&folder) > 0).await;
    // Another folder needs a restart.
    let text = world.config_text().replacen("cache: compiled", "cache: elsewhere", 1);
    assert!(show(&world.apply(&text).unwrap_err()).contains("plugins.cache"));
    let mode = std::fs::metadata(&folder).unwrap().permissions().mode();
    assert_eq!(mode & 0o077, 0, "it is nobody else's");
    let open = Site::new(NOW).await;
    write(&open, &Guest::new());
    let folder = open.folder.path().join("compiled");
    std::fs::create_dir(&folder).unwrap();
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o777)).unwrap();
    open.write("belay.yaml", &edited(open.config_text(), "", "plugins: { cache: compiled }\n"));
    let output = crate::support::Belay::output(&["check", "-c", &open.config().to_string_lossy()]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("others may write into the folder of compiled plugins"), "{said}");
}

fn files(folder: &std::path::Path) -> usize {
    let entries = std::fs::read_dir(folder).map(|entries| entries.flatten().collect::<Vec<_>>()).unwrap_or_default();
    let count = |entry: &std::fs::DirEntry| if entry.path().is_dir() { files(&entry.path()) } else { 1 };
    entries.iter().map(count).sum()
}

/// One that has stopped while nobody asked lets nobody pass unseen.
#[tokio::test]
async fn one_that_has_stopped_by_itself_lets_nobody_pass() {
    let mut guest = Guest::new();
    let [name, value] = ["x-seen", "yes"].map(|text| guest.text(text));
    let starts = "(drop (call $tick_period (i32.const 10))) (i32.const 1)";
    let guest = guest
        .on("proxy_on_vm_start", "(param i32 i32) (result i32)", starts)
        .on("proxy_on_tick", "(param i32)", "(unreachable)")
        .on_request(&format!("(drop (call $set_header (i32.const 0) {name} {value})) (i32.const 0)"));
    let world = plugged(&guest, "").await;
    let line = "belay_plugin_failures_total{cause=\"crash\",plugin=\"guest\"}";
    settled("it has stopped", || world.metrics().contains(line)).await;
    for _ in 0..10 {
        let reply = world.ask(&orders()).await;
        // Another instance has looked at it, or it is refused.
        match reply.status {
            200 => assert_eq!(reply.echo()["headers"]["x-seen"], "yes"),
            status => assert!([500, 503].contains(&status), "{status}"),
        }
    }
}
