//! Metrics and health for those who come from elsewhere: over TLS, and only for workloads that may.

use crate::support::operator::{acts, apply, with_socket};
use crate::support::{Ask, HOST, Running, Site, admin, eventually, free};
use test_case::test_case;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

const CERTIFICATE: &str = "certificates: [{ cert: lb.pem, key: 'file:lb.key' }]";

/// Runs with an address for workloads.
async fn running(https: &str, prepare: impl FnOnce(&Site)) -> (Running, String) {
    let admin = format!("admin: {{ https: {{ bind: '127.0.0.1:0', {https} }} }}\n");
    let running = Running::started_at(|site| {
        prepare(site);
        site.write("belay.yaml", &(site.config_text() + &admin));
    });
    let running = running.await;
    let address = running.belay.ready["admin_https"].as_str().unwrap().to_owned();
    (running, address)
}

fn asks(certificate: &'static str, target: &'static str) -> Ask {
    Ask { certificate: Some(certificate), signer: None, ..Ask::get(target) }
}

/// The next answer of a connection that stays open.
async fn next(stream: &mut TlsStream<TcpStream>, host: &str) -> String {
    stream.write_all(format!("GET /livez HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes()).await.unwrap();
    let mut answer = String::new();
    // All bodies are a line.
    while !answer.split_once("\r\n\r\n").is_some_and(|(_, body)| body.ends_with('\n')) {
        let mut piece = [0; 4096];
        let length = stream.read(&mut piece).await.unwrap();
        assert!(length > 0, "no whole answer: {answer:?}");
        answer.push_str(std::str::from_utf8(&piece[..length]).unwrap());
    }
    answer
}

async fn connected(site: &Site, address: &str, certificate: Option<&str>) -> TlsStream<TcpStream> {
    site.tls(TcpStream::connect(address).await.unwrap(), certificate, &[], rustls::DEFAULT_VERSIONS).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workload_that_may_reads_metrics_and_health_and_nothing_else() {
    let (running, address) = running(&format!("{CERTIFICATE}, ca: [workers-ca.pem], allow: [reader]"), |_| ()).await;
    let site = &running.site;
    for h2 in [false, true] {
        let metrics = site.ask_at(&address, &Ask { h2, ..asks("reports", "/metrics") }).await;
        assert_eq!(metrics.status, 200, "{metrics:?}");
        assert!(metrics.body.contains("belay_build_info"), "{metrics:?}");
        assert!(metrics.body.contains("belay_connections{listener=\"admin\"}"), "{metrics:?}");
    }
    for (target, status) in [("/livez", 200), ("/status", 404), ("/config", 404), ("/recent", 404), ("/history", 404)] {
        assert_eq!(site.ask_at(&address, &asks("reports", target)).await.status, status, "{target}");
    }
    let change = Ask { method: "POST", ..asks("reports", "/reload") };
    assert_eq!(site.ask_at(&address, &change).await.status, 405);
    let other = site.ask_at(&address, &asks("checkout", "/metrics")).await;
    assert_eq!((other.status, other.body.as_str()), (403, "checkout may not read here: see admin.https.allow\n"));
    assert_eq!(site.ask_at(&address, &asks("unknown", "/metrics")).await.status, 403);
    let mut stream = connected(site, &address, Some("reports")).await;
    assert!(next(&mut stream, "rebound.example").await.starts_with("HTTP/1.1 421"));
    let client = site.client(Some("reports"), &[b"h2"], rustls::DEFAULT_VERSIONS);
    let stream = site.try_tls(TcpStream::connect(&address).await.unwrap(), &client).await.unwrap();
    let (mut sender, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let request = http::Request::builder().uri("https://rebound.example/metrics").body(()).unwrap();
    let (response, _) = sender.send_request(request, true).unwrap();
    assert_eq!(response.await.unwrap().status(), 421);
}

#[test_case(None; "without a certificate")]
#[test_case(Some("rogue"); "with another CA's")]
#[tokio::test(flavor = "multi_thread")]
async fn nobody_else_hears_a_word(certificate: Option<&str>) {
    let (running, address) = running(&format!("{CERTIFICATE}, ca: [workers-ca.pem], allow: [reports]"), |_| ()).await;
    let mut stream = connected(&running.site, &address, certificate).await;
    // In TLS 1.3 a client learns only afterwards that his certificate was refused.
    let asked = stream.write_all(format!("GET /livez HTTP/1.1\r\nHost: {HOST}\r\n\r\n").as_bytes()).await;
    let mut answer = Vec::new();
    assert!(asked.is_err() || stream.read_to_end(&mut answer).await.is_err(), "{answer:?}");
    assert_eq!(answer, b"");
    let mut plain = TcpStream::connect(&address).await.unwrap();
    plain.write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    plain.read_to_end(&mut answer).await.unwrap_or_default();
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scraper_that_was_revoked_reads_no_more_on_an_open_connection() {
    let https = "certificates: [{ folder: served }], ca: [workers-ca.pem], crl: [workers.crl], allow: [reports]";
    let (running, address) = running(https, |site| {
        std::fs::create_dir(site.folder.path().join("served")).unwrap();
        site.write("served/lb.pem", &site.identities["lb"].pem);
        site.write("served/lb.key", &site.identities["lb"].key_pem);
        site.write("workers.crl", &site.worker_ca.list(1, 3600, &[]));
    })
    .await;
    let site = &running.site;
    let mut stream = connected(site, &address, Some("reports")).await;
    assert!(next(&mut stream, HOST).await.starts_with("HTTP/1.1 200"));
    site.write("workers.crl", &site.worker_ca.list(2, 3600, &[&site.identities["reports"]]));
    eventually("a generation", || (acts(site, "reload").len() == 1).then_some(()));
    assert!(next(&mut stream, HOST).await.starts_with("HTTP/1.1 403"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scraper_whom_a_file_revokes_reads_no_more() {
    let (running, address) = running(&format!("{CERTIFICATE}, ca: [workers-ca.pem], allow: [reports]"), |site| {
        site.write("revoked.yaml", "workloads: [checkout]");
        site.write("belay.yaml", &(site.config_text() + "revoked: revoked.yaml\n"));
    })
    .await;
    let site = &running.site;
    let mut stream = connected(site, &address, Some("reports")).await;
    assert!(next(&mut stream, HOST).await.starts_with("HTTP/1.1 200"));
    site.write("revoked.yaml", "workloads: [checkout, reports]");
    eventually("a generation", || (acts(site, "reload").len() == 1).then_some(()));
    assert!(next(&mut stream, HOST).await.starts_with("HTTP/1.1 403"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_door_opens_moves_and_closes_with_a_reload() {
    let site = "certificates: [{ cert: lb.pem, key: 'file:lb.key' }], ca: [workers-ca.pem]";
    let near = free();
    let running =
        Running::started(|text| with_socket(text).replace("http: '127.0.0.1:0'", &format!("http: '{near}'"))).await;
    let (https, text) = (site, running.site.config_text());
    let site = &running.site;
    assert_eq!(admin(&near, "/livez").0, 200);
    let moved = |allow: &str| {
        text.replace(&format!("http: '{near}'"), &format!("https: {{ bind: '{near}', {https}, allow: [{allow}] }}"))
    };
    apply(site, &moved("reports"));
    let mut stream = connected(site, &near, Some("reports")).await;
    assert!(next(&mut stream, HOST).await.starts_with("HTTP/1.1 200"), "where plain HTTP was spoken");
    apply(site, &moved("checkout"));
    assert!(next(&mut stream, HOST).await.starts_with("HTTP/1.1 403"), "on an open connection, too");
    apply(site, &text);
    assert_eq!(admin(&near, "/livez").0, 200, "and back");
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.unwrap_or_default();
    assert_eq!(rest, b"", "the connection has ended");
}
