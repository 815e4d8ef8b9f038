//! The real binary, changed while it serves.

use crate::support::operator::{acts, apply, command, with_socket};
use crate::support::{Ask, Belay, Load, Needs, Running, admin, eventually, free};
use serde_json::Value;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use test_case::test_case;

#[tokio::test(flavor = "multi_thread")]
async fn reload_says_what_came_of_it() {
    let running = Running::with(with_socket).await;
    let site = &running.site;
    let good = site.config_text();
    assert_eq!(command(site, &["reload"]).out, "nothing has changed: generation 1 is live\n");
    site.write("belay.yaml", &good.replace("allow: public", "allow: [checkout]"));
    let said = command(site, &["reload", "--reason", "OPS-712"]);
    assert_eq!(said.code, Some(0), "{}", said.err);
    assert!(said.out.starts_with("generation 2 is live\ndigest "), "{}", said.out);
    site.write("belay.yaml", &good.replace("allow: [checkout]", "allow: [checkuot]"));
    let said = command(site, &["reload", "--json"]);
    let answer: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!((said.code, &answer["result"], &answer["generation"]), (Some(78), &"refused".into(), &2.into()));
    let said = command(site, &["reload"]);
    assert!(said.err.contains("did you mean `checkout`?") && said.err.contains("allow: [checkuot]"), "{}", said.err);
    assert!(said.err.ends_with("refused: generation 2 is still live\n"), "{}", said.err);
    let own = rustix::process::geteuid().as_raw().to_string();
    let done = eventually("three records", || Some(acts(site, "reload")).filter(|acts| acts.len() == 3));
    assert_eq!((&done[0]["user"]["id"], &done[0]["belay"]["reason"]), (&own.into(), &"OPS-712".into()));
    assert_eq!((&done[0]["belay"]["cause"], &done[0]["belay"]["generation"]), (&"operator".into(), &2.into()));
    assert!(done[1]["event"]["reason"].as_str().unwrap().contains("checkuot"), "{done:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn listeners_come_and_go() {
    let running = Running::with(with_socket).await;
    let (site, first, second) = (&running.site, running.site.config_text(), free());
    let plain = format!("  plain: {{ bind: ['{second}'], identity: none }}\n");
    let both = first.replace("edge:\n  issuer", &format!("{plain}edge:\n  issuer"));
    apply(site, &both);
    assert_eq!(admin(&second, "/status").0, 404, "a plain listener knows no such host");
    // It speaks TLS from now on, at the same address.
    let tls = "{ certificates: [{ cert: lb.pem, key: 'file:lb.key' }], client_auth: { ca: [workers-ca.pem] } }";
    apply(site, &both.replace("identity: none }", &format!("tls: {tls} }}")));
    assert_eq!(site.ask_at(&second, &Ask::get("/orders/7")).await.status, 200);
    assert_eq!(running.status(&Ask::get("/orders/7")).await, 200);
    apply(site, &first);
    assert!(std::net::TcpStream::connect(&second).is_err(), "nobody listens there any more");
    assert_eq!(running.status(&Ask::get("/orders/7")).await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_is_taken_refuses_the_change() {
    let running = Running::with(with_socket).await;
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let text = running.site.config_text();
    let moved = text.replace("bind: ['127.0.0.1:0']", &format!("bind: ['{address}']"));
    running.site.write("belay.yaml", &moved.replace("path: /status", "path: /state"));
    let said = command(&running.site, &["reload"]);
    assert_eq!(said.code, Some(78));
    assert!(said.err.contains(&format!("listener edge cannot listen on {address}")), "{}", said.err);
    let public = Ask { certificate: None, signer: None, ..Ask::get("/status") };
    assert_eq!(running.status(&public).await, 200, "where it listened, as it judged");
}

/// The addresses of metrics and of operators, too.
#[tokio::test(flavor = "multi_thread")]
async fn the_admins_addresses_change() {
    let running = Running::with(with_socket).await;
    let (site, address) = (&running.site, free());
    let text = site.config_text();
    let moved =
        text.replace("http: '127.0.0.1:0', socket: admin.sock", &format!("http: '{address}', socket: ops.sock"));
    site.write("belay.yaml", &moved);
    let old = site.folder.path().join("admin.sock");
    let said = command(site, &["reload", "--socket", old.to_str().unwrap()]);
    assert_eq!(said.code, Some(0), "{}", said.err);
    assert_eq!(admin(&address, "/readyz"), (200, "ok\n".into()));
    assert_eq!(command(site, &["reload"]).code, Some(0), "at the new socket");
    eventually("the old path is gone", || (!old.exists()).then_some(()));
}

/// The same socket serves another listener, and who is connected is told so politely.
#[tokio::test(flavor = "multi_thread")]
async fn a_listener_is_renamed_under_load() {
    let running =
        Running::with(|text| with_socket(text.replace("bind: ['127.0.0.1:0']", &format!("bind: ['{}']", free()))))
            .await;
    let (site, _belay, address) = running.parts();
    let text = site.config_text();
    let load = Load::start(&site, &address, (2, 2));
    for name in ["front", "edge"] {
        load.more(50);
        apply(&site, &text.replace("listeners:\n  edge:", &format!("listeners:\n  {name}:")));
    }
    load.more(50);
    let (answered, failures) = load.end().await;
    assert_eq!((answered > 150, failures), (true, Vec::new()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_reloads_under_load_lose_nothing() {
    let (site, belay, address) = Running::with(with_socket).await.parts();
    let text = site.config_text();
    let load = Load::start(&site, &address, (2, 2));
    for round in 2..102 {
        let changed = text.replace("x-tenant: shop", &format!("x-tenant: shop-{round}"));
        apply(&site, &changed.replace("path: /status", if round % 2 == 0 { "path: /state" } else { "path: /status" }));
    }
    load.more(10);
    let connections = load.tally.connections.load(std::sync::atomic::Ordering::Relaxed);
    let (answered, failures) = load.end().await;
    assert_eq!(failures, Vec::<String>::new(), "{answered} were answered");
    assert_eq!(connections, 4, "a reload ends no connection");
    let metrics = admin(belay.ready["admin"].as_str().unwrap(), "/metrics").1;
    assert!(metrics.contains("belay_config_generation 101"), "{metrics}");
    let log = std::fs::read_to_string(site.folder.path().join("audit.jsonl")).unwrap();
    let generations: std::collections::HashSet<_> = log
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .filter(|record| record["event"]["action"] == "decision")
        .map(|record| record["belay"]["generation"].as_u64().unwrap())
        .collect();
    assert!(generations.len() > 50, "records name who judged: {generations:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watched_config_is_read_when_it_changes() {
    let running = Running::with(|text| format!("reload: {{ watch: true }}\n{text}")).await;
    let text = running.site.config_text();
    running.site.write("belay.yaml", "routes: nonsense\n");
    running.eventually("a refusal", |metrics| metrics.contains("belay_reloads_total{result=\"refused\"} 1")).await;
    running.site.write("belay.yaml", &text.replace("allow: public", "allow: [checkout]"));
    running.eventually("generation 2", |metrics| metrics.contains("belay_config_generation 2")).await;
    let done = eventually("its record", || acts(&running.site, "reload").into_iter().nth(1));
    assert_eq!(done["belay"]["cause"], "files");
    running.site.write(
        "belay.yaml",
        &text.replace("allow: public", "allow: [checkout]").replace("watch: true", "watch: false"),
    );
    running.eventually("generation 3", |metrics| metrics.contains("belay_config_generation 3")).await;
    assert!(running.admin("/metrics").1.contains("belay_reloads_total{result=\"refused\"} 1"), "tried once");
}

#[test_case("", 77, 77; "nobody else")]
#[test_case(", read: [nobody]", 0, 77; "who may read")]
#[test_case(", change: ['65534']", 0, 0; "who may change")]
#[tokio::test(flavor = "multi_thread")]
async fn operators_have_the_rights_that_the_config_gives_them(named: &str, reads: i32, changes: i32) {
    if !Needs::met(rustix::process::geteuid().is_root(), "root", "only root can be somebody else") {
        return;
    }
    let named = format!("socket: admin.sock{named} }}");
    let running = Running::with(|text| with_socket(text).replace("socket: admin.sock }", &named)).await;
    let folder = running.site.folder.path();
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755)).unwrap();
    let socket = folder.join("admin.sock");
    // Where nobody is named the system itself lets nobody else in; where somebody is, we tell them apart.
    let is_open = std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777 == 0o666;
    assert_eq!(is_open, reads == 0);
    let as_nobody = |command: &str| {
        let mut asked = Belay::program();
        asked.args([command, "--socket", socket.to_str().unwrap()]).uid(65534).gid(65534);
        let output = asked.output().unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let expected = |code: i32| if is_open || code == 0 { code } else { 69 };
    let (code, said) = as_nobody("status");
    assert_eq!(code, expected(reads), "{said}");
    let (code, said) = as_nobody("reload");
    assert_eq!(code, expected(changes), "{said}");
    assert!(changes == 0 || !is_open || said.contains("user 65534 may only read"), "{said}");
}
