//! The real binary: listening, changing, stopping.

use crate::support::{Ask, Belay, Running, Site, admin, eventually};
use belay::clock::{Clock, System};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

fn public() -> Ask {
    Ask { certificate: None, signer: None, ..Ask::get("/status") }
}

/// GET, which needs no wait after a start: a POST's token might have been used with the process before.
#[tokio::test(flavor = "multi_thread")]
async fn it_listens_where_it_is_told() {
    let running = Running::new().await;
    assert_eq!(running.status(&Ask::get("/orders/7")).await, 200);
    assert_eq!(running.status(&Ask { h2: true, ..Ask::get("/orders/7") }).await, 200);
    assert_eq!(running.status(&Ask { certificate: None, ..Ask::get("/orders/7") }).await, 401);
    assert_eq!(running.admin("/livez"), (200, "ok\n".into()));
    assert_eq!(running.admin("/readyz"), (200, "ok\n".into()));
    assert_eq!(running.admin("/").0, 404);
    assert!(running.admin("/metrics").1.contains("belay_connections_total{listener=\"edge\"} 3"));
    let (code, said) = running.belay.stop();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("TERM: no new connections"), "{said}");
    let log = std::fs::read_to_string(running.site.folder.path().join("audit.jsonl")).unwrap();
    assert!(
        log.lines().next().unwrap().contains("\"action\":\"start\"")
            && log.lines().last().unwrap().contains("\"action\":\"stop\"")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_the_process_before_may_have_seen_is_stale_for_a_post() {
    let running = Running::new().await;
    let reply = running.site.ask_at(running.address(), &Ask { method: "POST", body: "x", ..Ask::get("/orders") }).await;
    assert_eq!(reply.status, 401);
    assert!(reply.header("www-authenticate").unwrap().contains("\"stale_token\""), "{reply:?}");
    assert_eq!(reply.header("retry-after"), Some("6"));
}

#[tokio::test(flavor = "multi_thread")]
async fn hup_applies_a_good_change_and_refuses_a_bad_one() {
    let running = Running::new().await;
    let good = running.site.config_text();
    running.site.write("belay.yaml", &good.replace("allow: public", "allow: [checkout]"));
    running.belay.signal("HUP");
    running.eventually("generation 2", |metrics| metrics.contains("belay_config_generation 2")).await;
    assert_eq!(running.status(&public()).await, 401, "public no more");
    running.site.write("belay.yaml", "version: 1\nroutes: nonsense\n");
    running.belay.signal("HUP");
    running.eventually("a refusal", |metrics| metrics.contains("belay_reloads_total{result=\"refused\"} 1")).await;
    assert_eq!(running.status(&Ask::get("/orders/7")).await, 200, "the old config stays");
    let (code, said) = running.belay.stop();
    assert_eq!(code, Some(0));
    assert!(
        said.contains("the change is refused and the old config stays") && said.contains("belay.yaml:2:9"),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn usr1_opens_the_audit_log_anew() {
    let running = Running::new().await;
    let folder = running.site.folder.path();
    let (log, old) = (folder.join("audit.jsonl"), folder.join("audit.jsonl.1"));
    std::fs::rename(&log, &old).unwrap();
    running.belay.signal("USR1");
    eventually("a new file", || log.exists().then_some(()));
    // The next record finds out by itself, too.
    std::fs::rename(&log, folder.join("audit.jsonl.2")).unwrap();
    assert_eq!(running.status(&Ask::get("/orders/8")).await, 200);
    let has = |path: &std::path::Path, what: &str| std::fs::read_to_string(path).unwrap().contains(what);
    eventually("the record in it", || (log.exists() && has(&log, "/orders/8")).then_some(()));
    assert!(!has(&old, "/orders/8"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_key_is_taken_without_a_signal_and_a_broken_one_is_not() {
    let running = Running::new().await;
    running.site.write("checkout.pub", "garbage");
    running.eventually("a refusal", |metrics| metrics.contains("belay_reloads_total{result=\"refused\"} 1")).await;
    assert_eq!(running.status(&Ask::get("/orders/7")).await, 200, "the old key stays");
    running.site.write("checkout.pub", &running.site.token_keys["forger"].public_key_pem());
    running.eventually("generation 2", |metrics| metrics.contains("belay_config_generation 2")).await;
    assert_eq!(running.status(&Ask::get("/orders/7")).await, 401);
    assert_eq!(running.status(&Ask { signer: Some("forger"), ..Ask::get("/orders/7") }).await, 200);
    let (_, said) = running.belay.stop();
    assert!(said.contains("checkout.pub") && said.contains("holds no public key"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_in_flight_ends_before_the_process() {
    let running = Running::new().await;
    let text = running.site.config_text();
    let slow = TcpListener::bind("127.0.0.1:0").unwrap();
    let route = "  - { name: slow, match: { path: /slow }, allow: [checkout], pool: slow }\n";
    let pool = format!("pools:\n  slow: {{ servers: [{{ name: s, address: '{}' }}] }}\n", slow.local_addr().unwrap());
    running.site.write("belay.yaml", &text.replace("pools:\n", &format!("{route}{pool}")));
    running.belay.signal("HUP");
    running.eventually("generation 2", |metrics| metrics.contains("belay_config_generation 2")).await;
    let (begin, began) = std::sync::mpsc::channel();
    let (finish, told) = std::sync::mpsc::channel::<()>();
    std::thread::spawn(move || {
        let (mut stream, _) = slow.accept().unwrap();
        assert!(stream.read(&mut [0; 1024]).unwrap() > 0);
        begin.send(()).unwrap();
        told.recv().unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ndone").unwrap();
    });
    let Running { site, belay } = running;
    let address = belay.ready["listeners"][0]["address"].as_str().unwrap().to_owned();
    let admin_address = belay.ready["admin"].as_str().unwrap().to_owned();
    let asking = tokio::spawn(async move { site.ask_at(&address, &Ask::get("/slow")).await });
    tokio::task::spawn_blocking(move || began.recv().unwrap()).await.unwrap();
    belay.signal("TERM");
    let drains = move || {
        eventually("it says that it drains", || {
            (admin(&admin_address, "/readyz") == (503, "draining\n".into())).then_some(())
        })
    };
    tokio::task::spawn_blocking(drains).await.unwrap();
    finish.send(()).unwrap();
    let reply = asking.await.unwrap();
    assert_eq!((reply.status, reply.body.as_str()), (200, "done"));
    let (code, said) = tokio::task::spawn_blocking(|| belay.wait()).await.unwrap();
    assert_eq!(code, Some(0));
    assert!(said.contains("all requests have ended"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_taken_address_is_named_and_nothing_is_served() {
    let site = Site::new(System.now().unix_seconds()).await;
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    site.write("belay.yaml", &site.config_text().replace("127.0.0.1:0", &address));
    let output = Belay::output(&["run", "-c", site.config().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(69));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains(&format!("listener edge cannot listen on {address}")) && said.contains("in use"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_who_speaks_no_tls_is_counted() {
    let running = Running::new().await;
    let mut stream = TcpStream::connect(running.address()).unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    running
        .eventually("a failed handshake", |metrics| {
            metrics.contains("belay_connections_refused_total{listener=\"edge\",reason=\"handshake_not_tls\"} 1")
        })
        .await;
    assert_eq!(running.status(&Ask::get("/orders/7")).await, 200);
}
