//! One process replaces another: nothing is lost, and one of the two always serves.

use crate::support::operator::{acts, command, with_socket};
use crate::support::{Ask, Belay, HOST, Load, Needs, Running, Site, Successor, eventually, free};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use test_case::test_case;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// The site at an address that stays, if the program is root's, as an upgrade demands.
async fn running() -> Option<Running> {
    running_with("").await
}

/// The same with more of a config.
async fn running_with(more: &str) -> Option<Running> {
    if !Needs::met(rustix::process::geteuid().is_root(), "root", "only root's program is started by an upgrade") {
        return None;
    }
    let edit = |text: String| {
        let text = with_socket(text.replace("bind: ['127.0.0.1:0']", &format!("bind: ['{}']", free())));
        format!("{text}{more}")
    };
    Some(Running::upgradable(edit).await)
}

fn upgrade(site: &Site) -> Successor {
    // The process before may not have ended yet.
    let said = eventually("an upgrade", || {
        let said = command(site, &["upgrade", "--json"]);
        (said.code == Some(0) || !said.out.contains("has not ended yet")).then_some(said)
    });
    assert_eq!(said.code, Some(0), "{}{}", said.out, said.err);
    let answer: Value = serde_json::from_str(&said.out).unwrap();
    Successor::of(&answer).unwrap()
}

/// How much of a test is done: more by hand than each time.
fn from_env(name: &str, usually: u64) -> u64 {
    std::env::var(name).map_or(usually, |value| value.parse().unwrap())
}

/// Waits until an administrative act is recorded for the so-manieth time.
fn act(site: &Site, action: &str, number: usize) -> Value {
    eventually(action, || acts(site, action).into_iter().nth(number - 1))
}

#[tokio::test(flavor = "multi_thread")]
async fn upgrades_under_load_lose_nothing() {
    let Some(running) = running().await else { return };
    let (site, mut belay, address) = running.parts();
    assert_eq!(command(&site, &["drain", "shop/a"]).code, Some(0));
    let load = Load::start(&site, &address, (3, 3));
    let (rounds, requests) = (from_env("BELAY_TEST_UPGRADES", 3), from_env("BELAY_TEST_UPGRADE_REQUESTS", 100));
    let mut successors = Vec::new();
    for _ in 0..rounds {
        load.more(requests);
        successors.push(upgrade(&site));
    }
    load.more(requests);
    let (answered, failures) = load.end().await;
    assert_eq!((answered > rounds * requests, failures), (true, Vec::new()), "{answered}");
    assert_eq!(belay.ends(), Some(0));
    let (last, others) = successors.split_last().unwrap();
    eventually("the others have ended", || (!others.iter().any(Successor::is_alive)).then_some(()));
    assert!(last.is_alive());
    assert!(command(&site, &["status"]).out.contains("a       "), "the last one answers");
    let status: Value = serde_json::from_str(&command(&site, &["status", "--json"]).out).unwrap();
    assert_eq!(status["pools"][0]["servers"][0]["state"], "draining", "an operator's word goes along");
    let (first, second) = (act(&site, "start", 1), act(&site, "start", 2));
    assert_eq!(second["belay"]["predecessor"]["boot"], first["belay"]["boot"]);
    assert!(second["belay"]["predecessor"]["sequence"].as_u64().unwrap() > 1);
    assert_eq!(act(&site, "upgrade", 1)["belay"]["cause"], "operator");
    let verified = Belay::output(&["audit", "verify", "-c", site.config().to_str().unwrap()]);
    assert_eq!(verified.status.code(), Some(0), "{}", String::from_utf8_lossy(&verified.stderr));
    assert_eq!(act(&site, "stop", usize::try_from(rounds).unwrap())["event"]["outcome"], "success");
    drop(successors);
    let (_, said) = belay.wait();
    assert!(said.contains("has taken over; waiting for requests in flight"), "{said}");
}

/// Sends a request on a connection, and reads the head of the answer.
async fn post<S: AsyncReadExt + AsyncWriteExt + Unpin>(stream: &mut S, headers: &[(String, String)]) -> String {
    let mut head = format!("POST /orders HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 0\r\n");
    headers.iter().for_each(|(name, value)| head.push_str(&format!("{name}: {value}\r\n")));
    stream.write_all(format!("{head}\r\n").as_bytes()).await.unwrap();
    let mut raw = Vec::new();
    let mut byte = [0];
    while !raw.ends_with(b"\r\n\r\n") && stream.read(&mut byte).await.unwrap() > 0 {
        raw.push(byte[0]);
    }
    let head = String::from_utf8(raw).unwrap();
    let length = head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
    stream.read_exact(&mut vec![0; length.unwrap_or(0)]).await.unwrap();
    head
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_counts_once_in_both_processes() {
    let Some(running) = running().await else { return };
    let (site, _belay, address) = running.parts();
    let ask = || Ask { method: "POST", ..Ask::get("/orders") };
    // Signed as late as it takes to be after all that an earlier process may have seen.
    let signed = || {
        let iat = site.now + 7;
        site.headers(&ask().claim("iat", iat).claim("exp", iat + 60))
    };
    let sent = |headers: Vec<(String, String)>| {
        let (site, address) = (Arc::clone(&site), address.clone());
        async move {
            let stream = tokio::net::TcpStream::connect(&address).await.unwrap();
            let mut stream = site.tls(stream, Some("checkout"), &[], rustls::DEFAULT_VERSIONS).await;
            let head = post(&mut stream, &headers).await;
            (head, stream)
        }
    };
    let status = |head: &str| head.get(9..12).unwrap_or(head).to_owned();
    let before = signed();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(15);
    // Too early for the clock of the process, which moves on.
    let (mut kept, used) = loop {
        let headers = signed();
        let (head, stream) = sent(headers.clone()).await;
        if status(&head) == "200" {
            break (stream, headers);
        }
        assert!(std::time::Instant::now() < deadline, "{head}");
    };
    let _successor = upgrade(&site);
    assert_eq!(status(&sent(used.clone()).await.0), "401", "used with the old one");
    let during = signed();
    let head = post(&mut kept, &during).await;
    assert_eq!(status(&head), "200", "a last request on an old connection: {head}");
    assert!(head.to_ascii_lowercase().contains("connection: close"), "{head}");
    assert_eq!(status(&sent(during).await.0), "401", "used with the old one while it drained");
    assert_eq!(status(&sent(before).await.0), "200", "not stale: the new one knows what was used");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_process_that_fails_changes_nothing() {
    let Some(running) = running().await else { return };
    let (site, good) = (&running.site, running.site.config_text());
    site.write("belay.yaml", &good.replace("allow: [checkout]", "allow: [nobody]"));
    let said = command(site, &["upgrade"]);
    assert_eq!(said.code, Some(69));
    assert!(said.err.contains("the config is refused: there is no workload or role `nobody`"), "{}", said.err);
    // What a reload asks for, an upgrade does, too.
    site.write("belay.yaml", &good.replacen("allow: [checkout]", "allow: public", 1));
    let said = command(site, &["upgrade"]);
    assert!(said.err.contains("lets everybody in, without an identity (if it is meant: --accept "), "{}", said.err);
    // And what only the new process finds out.
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let extra = format!("listeners:\n  more: {{ bind: ['{}'], identity: none }}\n", taken.local_addr().unwrap());
    site.write("belay.yaml", &good.replace("listeners:\n", &extra));
    let said = command(site, &["upgrade"]);
    assert!(said.err.contains("the new process cannot take over: listener more cannot listen on"), "{}", said.err);
    site.write("belay.yaml", &good);
    let foreign = site.folder.path().join("belay");
    std::fs::copy(Belay::program().get_program(), &foreign).unwrap();
    std::fs::set_permissions(&foreign, std::fs::Permissions::from_mode(0o775)).unwrap();
    let with = |path: &str| command(site, &["upgrade", "--binary", path]).err;
    let said = with(foreign.to_str().unwrap());
    assert!(said.contains("can be written by others"), "{said}");
    assert!(with("/nowhere/belay").contains("/nowhere/belay cannot be looked at"));
    let said = with("/bin/false");
    assert!(said.contains("the new process has died"), "{said}");
    assert_eq!(running.status(&Ask::get("/orders/7")).await, 200);
    assert_eq!(act(site, "upgrade", 6)["event"]["outcome"], "failure");
    site.write("belay.yaml", &good.replace("x-tenant: shop", "x-tenant: other"));
    assert_eq!(command(site, &["reload"]).code, Some(0), "it makes generations again");
}

/// A server that answers when it is told to.
struct Slow {
    address: String,
    began: std::sync::mpsc::Receiver<()>,
    finish: std::sync::mpsc::Sender<()>,
}

impl Slow {
    fn start() -> Self {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap().to_string();
        let (begin, began) = std::sync::mpsc::channel();
        let (finish, told) = std::sync::mpsc::channel::<()>();
        std::thread::spawn(move || {
            let (mut stream, _) = socket.accept().unwrap();
            assert!(stream.read(&mut [0; 1024]).unwrap() > 0);
            begin.send(()).unwrap();
            // The test may have failed.
            told.recv().ok();
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ndone").ok();
        });
        Self { address, began, finish }
    }

    /// A config with a route to it.
    fn route(&self, text: &str) -> String {
        let route = "  - { name: slow, match: { path: /slow }, allow: public, pool: slow }\n";
        let pool = format!("pools:\n  slow: {{ servers: [{{ name: s, address: '{}' }}] }}\n", self.address);
        text.replace("pools:\n", &format!("{route}{pool}"))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_old_process_accepts_again_if_the_new_one_dies() {
    let Some(running) = running().await else { return };
    let slow = Slow::start();
    crate::support::operator::apply(&running.site, &slow.route(&running.site.config_text()));
    let (site, mut belay, address) = running.parts();
    let asking = {
        let (site, address) = (Arc::clone(&site), address.clone());
        let ask = Ask { certificate: None, signer: None, ..Ask::get("/slow") };
        tokio::spawn(async move { site.ask_at(&address, &ask).await })
    };
    let Slow { began, finish, .. } = slow;
    tokio::task::spawn_blocking(move || began.recv().unwrap()).await.unwrap();
    let successor = upgrade(&site);
    assert_eq!(site.ask_at(&address, &Ask::get("/orders/7")).await.status, 200, "by the new one");
    successor.kill();
    assert_eq!(site.ask_at(&address, &Ask::get("/orders/7")).await.status, 200, "whoever it is");
    let failure = act(&site, "upgrade", 2);
    assert!(failure["event"]["reason"].as_str().unwrap().contains("has died"), "{failure}");
    finish.send(()).unwrap();
    let reply = asking.await.unwrap();
    assert_eq!((reply.status, reply.body.as_str()), (200, "done"), "its request was never in danger");
    // And once more, for good.
    let successor = upgrade(&site);
    assert_eq!(belay.ends(), Some(0));
    assert_eq!(site.ask_at(&address, &Ask::get("/orders/7")).await.status, 200);
    drop(successor);
    let (_, said) = belay.wait();
    assert!(said.contains("the upgrade has failed, and this process goes on: the new process has died"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_stays_when_an_upgrade_fails_and_goes_with_the_last_process() {
    let Some(running) = running().await else { return };
    let (site, good) = (&running.site, running.site.config_text());
    let path = site.folder.path().join("local.sock");
    let listener = format!("listeners:\n  local: {{ bind: ['unix:{}'], identity: none }}\n", path.display());
    let good = good.replace("listeners:\n", &listener);
    crate::support::operator::apply(site, &good);
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let more = format!("  more: {{ bind: ['{}'], identity: none }}\n  local:", taken.local_addr().unwrap());
    site.write("belay.yaml", &good.replace("  local:", &more));
    assert_eq!(command(site, &["upgrade"]).code, Some(69), "the address is taken");
    assert!(std::os::unix::net::UnixStream::connect(&path).is_ok(), "the old process listens there");
    site.write("belay.yaml", &good);
    let successor = upgrade(site);
    let mut belay = running.belay;
    assert_eq!(belay.ends(), Some(0));
    assert!(std::os::unix::net::UnixStream::connect(&path).is_ok(), "the new one does");
    kill_process(successor.0, Signal::TERM).unwrap();
    eventually("nobody", || (!path.exists()).then_some(()));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_back_takes_up_what_was_live_meanwhile() {
    let Some(running) = running_with("history: { dir: history }\n").await else { return };
    let slow = Slow::start();
    let text = slow.route(&running.site.config_text());
    crate::support::operator::apply(&running.site, &text);
    let (site, belay, address) = running.parts();
    let asking = {
        let (site, address) = (Arc::clone(&site), address.clone());
        let ask = Ask { certificate: None, signer: None, ..Ask::get("/slow") };
        tokio::spawn(async move { site.ask_at(&address, &ask).await })
    };
    let Slow { began, finish, .. } = slow;
    tokio::task::spawn_blocking(move || began.recv().unwrap()).await.unwrap();
    let successor = upgrade(&site);
    let closed = text.replace("allow: [checkout]", "allow: [reports]");
    crate::support::operator::apply(&site, &closed);
    assert_eq!(site.ask_at(&address, &Ask::get("/orders/7")).await.status, 403);
    successor.kill();
    let failure = act(&site, "upgrade", 2);
    assert!(failure["event"]["reason"].as_str().unwrap().contains("has died"), "{failure}");
    assert_eq!(site.ask_at(&address, &Ask::get("/orders/7")).await.status, 403, "what was closed is closed");
    finish.send(()).unwrap();
    assert_eq!(asking.await.unwrap().status, 200);
    drop(belay);
}

/// The process that another has started.
fn child_of(parent: Pid) -> Option<Successor> {
    let children = format!("/proc/{0}/task", parent.as_raw_pid());
    let tasks = std::fs::read_dir(children).ok()?;
    let texts = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("children")).ok());
    let pids: Vec<_> =
        texts.flat_map(|text| text.split(' ').filter_map(|pid| pid.parse().ok()).collect::<Vec<i32>>()).collect();
    pids.first().and_then(|pid| Pid::from_raw(*pid)).map(Successor)
}

/// What happens to one of both processes at some moment.
#[test_case(false, Signal::KILL; "the new one is killed")]
#[test_case(true, Signal::KILL; "the old one is killed")]
#[test_case(false, Signal::STOP; "the new one stands still")]
#[tokio::test(flavor = "multi_thread")]
async fn whatever_happens_one_of_both_accepts(to_the_old: bool, signal: Signal) {
    let rounds = from_env("BELAY_TEST_UPGRADE_FAULTS", if signal == Signal::STOP { 1 } else { 2 });
    for _ in 0..rounds {
        let Some(running) = running().await else { return };
        let (site, belay, address) = running.parts();
        let old = belay.pid();
        let upgrading = {
            let site = Arc::clone(&site);
            std::thread::spawn(move || command(&site, &["upgrade"]).code)
        };
        let new = eventually("a new process, or none any more", || match child_of(old) {
            Some(new) => Some(Some(new)),
            None => upgrading.is_finished().then_some(None),
        });
        // Some moment of the quarter of a second that an upgrade takes here.
        std::thread::park_timeout(std::time::Duration::from_millis(fastrand::u64(0..250)));
        let victim = if to_the_old { Some(old) } else { new.as_ref().map(|new| new.0) };
        if let Some(victim) = victim {
            // It may have ended already.
            kill_process(victim, signal).ok();
        }
        // For two seconds both live.
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        let asked = || async {
            let stream = tokio::net::TcpStream::connect(&address).await.ok()?;
            let client = site.client(Some("checkout"), &[], rustls::DEFAULT_VERSIONS);
            let trying = tokio::time::timeout(std::time::Duration::from_secs(1), site.try_tls(stream, &client)).await;
            trying.ok()?.ok()
        };
        while asked().await.is_none() {
            assert!(std::time::Instant::now() < deadline, "nobody accepts after {signal:?}, the old one: {to_the_old}");
        }
        // One that stands still while it takes over the used tokens is waited for, for 5 s.
        while site.ask_at(&address, &Ask::get("/orders/7")).await.status == 503 {
            assert!(std::time::Instant::now() < deadline, "no token counts after {signal:?}");
        }
        drop(new);
        upgrading.join().unwrap();
    }
}
