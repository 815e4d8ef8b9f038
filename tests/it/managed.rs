//! What a service manager sees, and how the process ends.

use crate::support::operator::{command, with_socket};
use crate::support::{Ask, Belay, Needs, Running, Site, admin, eventually, free};
use belay::clock::{Clock, System};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};
use std::time::Duration;

/// The next words for the service manager.
fn told(socket: &UnixDatagram) -> String {
    let mut words = [0; 4096];
    let length = socket.recv(&mut words).unwrap();
    String::from_utf8(words[..length].to_vec()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_service_manager_is_told_what_happens() {
    let site = Site::new(System.now().unix_seconds()).await;
    let text = with_socket(format!("{}admin: {{ http: '127.0.0.1:0' }}\n", site.config_text()));
    site.write("belay.yaml", &text);
    let place = site.folder.path().join("notify");
    let socket = UnixDatagram::bind(&place).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut program = Belay::roots_program();
    program.args(["run", "--json", "-c", site.config().to_str().unwrap()]).env("NOTIFY_SOCKET", &place);
    program.env("WATCHDOG_USEC", "400000");
    let belay = Belay::spawn(program);
    let next = |wanted: &str| {
        // Heartbeats come between, and when two processes speak, either may be first.
        let mut words = (0..200).map(|_| told(&socket)).skip_while(|words| !words.contains(wanted));
        words.next().unwrap()
    };
    next("READY=1");
    for _ in 0..3 {
        next("WATCHDOG=1");
    }
    belay.signal("HUP");
    assert!(next("RELOADING=1").contains("MONOTONIC_USEC="));
    next("READY=1");
    if Needs::met(rustix::process::geteuid().is_root(), "root", "only root's program is started by an upgrade") {
        assert_eq!(command(&site, &["upgrade"]).code, Some(0));
        let pid = next("MAINPID=").lines().find_map(|line| line.strip_prefix("MAINPID=")?.parse().ok()).unwrap();
        next("WATCHDOG=1");
        rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), rustix::process::Signal::TERM)
            .unwrap();
    } else {
        belay.signal("TERM");
    }
    next("STOPPING=1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lame_duck_accepts_for_a_while() {
    let running = Running::with(|text| format!("stop: {{ lame_duck: 1s }}\n{text}")).await;
    running.belay.signal("TERM");
    eventually("not ready", || (running.admin("/readyz") == (503, "draining\n".into())).then_some(()));
    assert_eq!(running.status(&Ask::get("/orders/7")).await, 200, "it still accepts");
    let (code, said) = running.belay.wait();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("TERM: not ready any more; connections are accepted for 1 s"), "{said}");
    let running = Running::with(|text| format!("stop: {{ lame_duck: 1m }}\n{text}")).await;
    running.belay.signal("QUIT");
    assert_eq!(running.belay.wait().0, Some(0), "at once");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_takes_too_long_is_cut() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = format!("'{}'", silent.local_addr().unwrap());
    let place = free();
    let edit = move |text: String| {
        let listener = format!("  local: {{ bind: ['{place}'], identity: none }}\nedge:\n  issuer");
        let pools = format!("pools:\n  slow: {{ servers: [{{ name: s, address: {server} }}] }}\n");
        let routes = "  - { name: slow, match: { path: /slow }, allow: public, pool: slow }\npools:\n";
        let text = text.replace("edge:\n  issuer", &listener).replace("pools:\n", routes).replace("pools:\n", &pools);
        format!("stop: {{ grace: 100ms }}\n{text}")
    };
    let Running { belay, site } = Running::started(edit).await;
    let local = belay.ready["listeners"][1]["address"].as_str().unwrap().to_owned();
    eventually("a listener", || (admin(&local, "/slower").0 > 0).then_some(()));
    let mut waiting = TcpStream::connect(&local).unwrap();
    waiting.write_all(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let (mut asked, _) = silent.accept().unwrap();
    assert!(asked.read(&mut [0; 1024]).unwrap() > 0);
    let (code, said) = belay.stop();
    assert_eq!(code, Some(0));
    assert!(said.contains("requests still run, and are cut"), "{said}");
    drop(site);
}

#[test]
fn the_units_are_hardened() {
    if !Needs::program("systemd-analyze", "apt install systemd") {
        return;
    }
    let rated = Command::new("systemd-analyze")
        .args(["security", "--offline=yes", "--threshold=20", "conf/systemd/belay.service"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&rated.stdout).into_owned();
    let unit = std::fs::read_to_string("conf/systemd/belay.service").unwrap();
    assert!(unit.contains("\nNotifyAccess=all\n"), "after an upgrade more than one process speaks");
    assert!(rated.status.success(), "an exposure of 2.0 at most: {}", said.lines().last().unwrap_or_default());
}

/// Whoever reads its log may stop to: the log is lost then, and nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_nobody_reads_stops_nobody() {
    let site = Site::new(System.now().unix_seconds()).await;
    site.write("belay.yaml", &format!("{}admin: {{ http: '127.0.0.1:0' }}\n", site.config_text()));
    let (mut unread, mut full) = std::io::pipe().unwrap();
    let capacity = rustix::pipe::fcntl_getpipe_size(&full).unwrap();
    full.write_all(&vec![b'\n'; capacity]).unwrap();
    let mut command = Belay::program();
    command.args(["run", "--json", "-c", site.config().to_str().unwrap()]);
    command.stdout(Stdio::piped()).stderr(full);
    let mut child = command.spawn().unwrap();
    drop(command);
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    let ready: serde_json::Value = serde_json::from_str(&line).unwrap();
    let metrics = || admin(ready["admin"].as_str().unwrap(), "/metrics");
    eventually("both origins are checked", || (metrics().1.matches("belay_server_up{").count() == 2).then_some(()));
    child.kill().unwrap();
    child.wait().unwrap();
    let mut said = String::new();
    unread.read_to_string(&mut said).unwrap();
    assert_eq!(said.trim_start_matches('\n'), "", "not a line had room");
}
