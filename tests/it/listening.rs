//! Before HTTP: who may connect, how often, and by what kind of socket.

use crate::support::{Ask, Belay, HOST, Needs, Running, Site, flood};
use belay::clock::{Clock, System};
use std::process::{Command, Stdio};
use test_case::test_case;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

fn public() -> Ask {
    Ask { certificate: None, signer: None, ..Ask::get("/status") }
}

async fn with_listener(keys: &str) -> Running {
    Running::with(|text| text.replacen("edge:\n    bind", &format!("edge:\n    {keys}\n    bind"), 1)).await
}

/// Whether the other end hangs up without a word.
async fn is_hung_up(stream: &mut TcpStream) -> bool {
    matches!(stream.read(&mut [0; 1]).await, Ok(0) | Err(_))
}

fn refused(reason: &str) -> String {
    format!("belay_connections_refused_total{{listener=\"edge\",reason=\"{reason}\"}} 1")
}

fn recorded(running: &Running, reason: &str) -> serde_json::Value {
    let path = running.site.folder.path().join("audit.jsonl");
    let find = || {
        let log = std::fs::read_to_string(&path).unwrap();
        let found = log.lines().find(|line| line.contains(&format!("\"connection.{reason}\"")))?.to_owned();
        Some(serde_json::from_str(&found).unwrap())
    };
    crate::support::eventually("the record", find)
}

#[test_case("sources: [127.0.0.0/8]", true; "from a source")]
#[test_case("sources: [192.0.2.0/24, 2001:db8::/32]", false; "from elsewhere")]
#[tokio::test(flavor = "multi_thread")]
async fn sources_say_who_may_connect(keys: &str, may: bool) {
    let running = with_listener(keys).await;
    if may {
        assert_eq!(running.status(&public()).await, 200);
        return;
    }
    let mut stream = TcpStream::connect(running.address()).await.unwrap();
    assert!(is_hung_up(&mut stream).await);
    running.eventually("a refusal", |metrics| metrics.contains(&refused("source"))).await;
    assert_eq!(recorded(&running, "source")["source"]["ip"], "127.0.0.1");
}

#[test_case("connections: 1", "too_many"; "of the listener")]
#[test_case("connections_per_address: 1", "too_many_of_address"; "of the address")]
#[tokio::test(flavor = "multi_thread")]
async fn connections_are_counted(limit: &str, reason: &'static str) {
    let running = with_listener(&format!("limits: {{ {limit} }}")).await;
    let held = TcpStream::connect(running.address()).await.unwrap();
    running.eventually("it is held", |metrics| metrics.contains("belay_connections{listener=\"edge\"} 1")).await;
    let mut second = TcpStream::connect(running.address()).await.unwrap();
    assert!(is_hung_up(&mut second).await);
    running.eventually("a refusal", move |metrics| metrics.contains(&refused(reason))).await;
    drop((held, second));
    running.eventually("it has gone", |metrics| metrics.contains("belay_connections{listener=\"edge\"} 0")).await;
    assert_eq!(running.status(&public()).await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_of_a_workload_are_counted() {
    let running = with_listener("limits: { connections_per_workload: 1 }").await;
    let client = running.site.client(Some("checkout"), &[], rustls::DEFAULT_VERSIONS);
    let connect = async || running.site.try_tls(TcpStream::connect(running.address()).await.unwrap(), &client).await;
    let mut held = connect().await.unwrap();
    held.write_all(format!("GET /mtls HTTP/1.1\r\nHost: {HOST}\r\n\r\n").as_bytes()).await.unwrap();
    assert_eq!(held.read_u8().await.unwrap(), b'H');
    let mut second = connect().await.unwrap();
    assert!(second.read_u8().await.is_err());
    running.eventually("a refusal", |metrics| metrics.contains(&refused("too_many_of_workload"))).await;
    assert_eq!(running.status(&public()).await, 200, "a stranger is not checkout");
    assert_eq!(running.status(&Ask { certificate: Some("reports"), ..public() }).await, 200, "nor is another workload");
}

/// Who comes back at once after a flood waits for his turn, and those behind him in vain; his neighbour does neither.
#[tokio::test(flavor = "multi_thread")]
async fn who_floods_waits_and_nobody_else() {
    let running = Running::new().await;
    let client = running.site.client(Some("reports"), &[b"h2"], rustls::DEFAULT_VERSIONS);
    let connect = async || running.site.try_tls(TcpStream::connect(running.address()).await.unwrap(), &client).await;
    flood::until_cut(connect().await.unwrap()).await;
    let asks = |certificate| Ask { certificate: Some(certificate), h2: true, ..public() };
    let (flooder, neighbour) = (asks("reports"), asks("checkout"));
    tokio::select! {
        biased;
        status = running.status(&flooder) => panic!("{status} without a wait"),
        status = running.status(&neighbour) => assert_eq!(status, 200),
    }
    assert_eq!(running.status(&flooder).await, 200, "his turn comes");
    let mut waiting = Vec::new();
    for _ in 0..60 {
        waiting.push(connect().await);
    }
    let refused = "belay_connections_refused_total{listener=\"edge\",reason=\"too_many_waiting\"}";
    running.eventually("a refusal", move |metrics| metrics.contains(refused)).await;
    assert_eq!(recorded(&running, "too_many_waiting")["event"]["action"], "connection");
    assert_eq!(running.status(&neighbour).await, 200);
    drop(waiting);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handshake_has_its_time() {
    let running = with_listener("limits: { handshake_timeout: 100ms }").await;
    let mut stream = TcpStream::connect(running.address()).await.unwrap();
    assert!(is_hung_up(&mut stream).await);
    running.eventually("a timeout", |metrics| metrics.contains(&refused("handshake_timeout"))).await;
    assert_eq!(recorded(&running, "handshake_timeout")["event"]["action"], "connection");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_strict_handshake_demands_a_good_certificate() {
    let lenient = "client_auth: { ca: [workers-ca.pem] }";
    let strict = "client_auth: { ca: [workers-ca.pem], handshake: strict }";
    let running = Running::with(|text| text.replace(lenient, strict)).await;
    assert_eq!(running.status(&Ask { signer: None, ..Ask::get("/mtls") }).await, 200);
    for certificate in [None, Some("rogue")] {
        for versions in [rustls::DEFAULT_VERSIONS, &[&rustls::version::TLS12]] {
            let stream = TcpStream::connect(running.address()).await.unwrap();
            let shaken = running.site.try_tls(stream, &running.site.client(certificate, &[], versions)).await;
            // In TLS 1.3 the client is done before the server has judged it.
            let refused = match shaken {
                Ok(mut stream) => stream.read_u8().await.is_err(),
                Err(_) => true,
            };
            assert!(refused, "{certificate:?}");
        }
    }
    let four = "belay_connections_refused_total{listener=\"edge\",reason=\"handshake_certificate\"} 4";
    running.eventually("four refusals", move |metrics| metrics.contains(four)).await;
    assert_eq!(running.status(&Ask { signer: None, ..Ask::get("/mtls") }).await, 200);
}

#[test_case(b"PROXY TCP4 192.0.2.7 192.0.2.1 4321 443\r\n"; "version 1")]
#[test_case(b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x07\xc0\0\x02\x01\x10\xe1\x01\xbb"; "version 2")]
#[tokio::test(flavor = "multi_thread")]
async fn a_load_balancer_tells_the_clients_address(header: &[u8]) {
    let running = with_listener("proxy_protocol: { from: [127.0.0.1] }\n    sources: [192.0.2.0/24]").await;
    let mut stream = TcpStream::connect(running.address()).await.unwrap();
    stream.write_all(header).await.unwrap();
    let mut stream = running.site.tls(stream, None, &[], rustls::DEFAULT_VERSIONS).await;
    let request = format!("GET /status HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut raw = String::new();
    stream.read_to_string(&mut raw).await.unwrap_or_default();
    assert!(raw.starts_with("HTTP/1.1 200") && raw.contains("\"x-forwarded-for\":\"192.0.2.7\""), "{raw}");
}

#[test_case("proxy_protocol: { from: [127.0.0.1] }", b"GET / HTTP/1.1\r\n\r\n", "proxy_header"; "no header")]
#[test_case("proxy_protocol: { from: [127.0.0.1] }", b"PROXY TCP4 nonsense\r\n", "proxy_header"; "a broken one")]
#[test_case("proxy_protocol: { from: [192.0.2.1] }", b"PROXY TCP4 192.0.2.7 192.0.2.1 4321 443\r\n", "handshake_not_tls"; "from anybody else")]
#[test_case("proxy_protocol: { from: [127.0.0.1] }\n    sources: [127.0.0.1]", b"PROXY TCP4 192.0.2.7 192.0.2.1 4321 443\r\n", "source"; "for who may not connect")]
#[tokio::test(flavor = "multi_thread")]
async fn nobody_else_tells_an_address(keys: &str, sent: &[u8], reason: &'static str) {
    let running = with_listener(keys).await;
    let mut stream = TcpStream::connect(running.address()).await.unwrap();
    stream.write_all(sent).await.unwrap();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.unwrap_or_default();
    running.eventually("a refusal", move |metrics| metrics.contains(&refused(reason))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_unix_socket_is_listened_on() {
    let running = Running::with(|text| text.replacen("['127.0.0.1:0']", "['127.0.0.1:0', 'unix:edge.sock']", 1)).await;
    let path = running.site.folder.path().join("edge.sock");
    assert_eq!(running.belay.ready["listeners"][1]["address"], format!("unix:{}", path.display()));
    let stream = UnixStream::connect(&path).await.unwrap();
    let mut stream = running.site.tls(stream, Some("checkout"), &[], rustls::DEFAULT_VERSIONS).await;
    stream
        .write_all(format!("GET /mtls HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n").as_bytes())
        .await
        .unwrap();
    let mut raw = String::new();
    stream.read_to_string(&mut raw).await.unwrap_or_default();
    assert!(raw.starts_with("HTTP/1.1 200"), "{raw}");
    let Running { site, belay } = running;
    assert_eq!(belay.stop().0, Some(0));
    assert!(!path.exists(), "it is removed at the end");
    drop(site);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_is_taken_over_from_the_service_manager() {
    if !Needs::program("python3", "it plays the service manager: apt install python3") {
        return;
    }
    let manager = "\
import os, socket, sys
listening = socket.socket()
listening.bind(('127.0.0.1', 0))
listening.listen(16)
os.dup2(listening.fileno(), 3)
os.set_inheritable(3, True)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='1', LISTEN_FDNAMES='door')
os.execv(sys.argv[1], sys.argv[1:])
";
    let site = Site::new(System.now().unix_seconds()).await;
    let text = site.config_text().replacen("['127.0.0.1:0']", "['fd:door']", 1);
    site.write("belay.yaml", &format!("{text}admin: {{ http: '127.0.0.1:0' }}\n"));
    let config = site.config();
    let mut command = Command::new("python3");
    command.args(["-c", manager, env!("CARGO_BIN_EXE_belay"), "run", "--json", "-c", config.to_str().unwrap()]);
    let running = Running::healthy(site, Belay::spawn(command)).await;
    assert_eq!(running.status(&public()).await, 200);

    let output = Belay::program().args(["run", "-c", config.to_str().unwrap()]).stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(69), "{said}");
    assert!(said.contains("fd:door") && said.contains("passed no socket of that name"), "{said}");
}
