//! Who gets in, over both protocols: as many denies as allows.

use crate::support::{Ask, Ca, HOST, NOW, Reply, WORKLOAD_LIFE, World};
use belay::keys::Seen;
use belay::runtime::Change;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};

/// A row: what is asked, the status, the reason in the audit log (the rule, where it is let in), and what the client
/// is told.
struct Row {
    name: &'static str,
    ask: Ask,
    status: u16,
    reason: &'static str,
    told: Option<&'static str>,
}

fn row(name: &'static str, ask: Ask, status: u16, reason: &'static str, told: Option<&'static str>) -> Row {
    Row { name, ask, status, reason, told }
}

fn by(certificate: Option<&'static str>, signer: Option<&'static str>, target: &'static str) -> Ask {
    Ask { certificate, signer, ..Ask::get(target) }
}

fn allowed() -> Vec<Row> {
    let checkout = "routes.orders.allow.checkout";
    vec![
        row("the workload itself", Ask::get("/orders/7"), 200, checkout, None),
        row("with a query", Ask::get("/orders/7?a=%2F&b"), 200, checkout, None),
        row("with a body", Ask { method: "POST", body: "order=1", ..Ask::get("/orders") }, 200, checkout, None),
        row(
            "audience in an array",
            Ask::get("/orders").claim("aud", json!(["x", "https://lb.example.com"])),
            200,
            checkout,
            None,
        ),
        row(
            "by a role",
            by(Some("reports"), Some("reports"), "/reports/daily"),
            200,
            "routes.reports.allow.reader",
            None,
        ),
        row(
            "the certificate alone, where that is enough",
            by(Some("checkout"), None, "/mtls"),
            200,
            "routes.certificate-only.allow.checkout",
            None,
        ),
        row("nobody, on a public route", by(None, None, "/status"), 200, "routes.status.allow.public", None),
        row(
            "a rogue, on a public route",
            by(Some("rogue"), Some("forger"), "/status"),
            200,
            "routes.status.allow.public",
            None,
        ),
    ]
}

#[expect(clippy::too_many_lines, reason = "a table")]
fn denied() -> Vec<Row> {
    let good = || Ask::get("/orders/7");
    vec![
        row("no certificate", by(None, Some("checkout"), "/orders/7"), 401, "identity.certificate_missing", None),
        row(
            "another CA",
            by(Some("rogue"), Some("checkout"), "/orders/7"),
            401,
            "identity.certificate_untrusted",
            None,
        ),
        row(
            "a workload that the config does not know",
            by(Some("unknown"), Some("checkout"), "/orders/7"),
            401,
            "identity.certificate_unknown",
            None,
        ),
        row(
            "a server's certificate",
            by(Some("lb"), Some("checkout"), "/orders/7"),
            401,
            "identity.certificate_malformed",
            None,
        ),
        row("no token", by(Some("checkout"), None, "/orders/7"), 401, "identity.token_missing", Some("missing")),
        row(
            "another key under the same kid",
            by(Some("checkout"), Some("forger"), "/orders/7"),
            401,
            "identity.token_signature",
            Some("signature"),
        ),
        row(
            "another workload's token",
            by(Some("checkout"), Some("reports"), "/orders/7"),
            401,
            "identity.token_subject",
            Some("subject"),
        ),
        row(
            "expired",
            good().claim("iat", 1_794_996_400).claim("exp", 1_794_996_460),
            401,
            "identity.token_expired",
            Some("expired"),
        ),
        row("too long a life", good().claim("exp", 1_795_000_301), 401, "identity.token_lifetime", Some("lifetime")),
        row("another method", good().claim("htm", "POST"), 401, "identity.token_binding", Some("binding")),
        row("another path", good().claim("htt", "/orders/8"), 401, "identity.token_binding", Some("binding")),
        row(
            "another query",
            Ask::get("/orders/7?a").claim("htt", "/orders/7"),
            401,
            "identity.token_binding",
            Some("binding"),
        ),
        row("another host", good().claim("hta", "other.example.com"), 401, "identity.token_binding", Some("binding")),
        row(
            "another certificate",
            good().claim("cnf", json!({ "x5t#S256": "47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU" })),
            401,
            "identity.token_certificate",
            Some("cert_mismatch"),
        ),
        row(
            "known, but not in the list",
            by(Some("reports"), Some("reports"), "/orders/7"),
            403,
            "policy.not_allowed",
            None,
        ),
        row(
            "without the role",
            by(Some("checkout"), Some("checkout"), "/reports/daily"),
            403,
            "policy.not_allowed",
            None,
        ),
        row("no route, but who he says he is", Ask::get("/nothing"), 404, "route.no_route", None),
        row("no route and no certificate", by(None, None, "/nothing"), 401, "identity.certificate_missing", None),
        row("a method that no route lists", Ask { method: "DELETE", ..good() }, 404, "route.no_route", None),
        row("encoded dots", Ask::get("/orders/%2e%2e/x"), 400, "request.ambiguous_path", None),
        row("an encoded slash", Ask::get("/orders/a%2fb"), 400, "request.ambiguous_path", None),
        row("two slashes", Ask::get("/orders//x"), 400, "request.ambiguous_path", None),
        row(
            "a token of 9 KiB",
            by(Some("checkout"), None, "/orders/7").header("Edge-Identity", "x".repeat(9 * 1024)),
            400,
            "identity.token_too_long",
            None,
        ),
        row("two tokens", good().header("Edge-Identity", "x"), 400, "identity.token_repeated", None),
    ]
}

#[tokio::test]
async fn let_in() {
    let world = World::new().await;
    for row in allowed() {
        for h2 in [false, true] {
            let reply = world.ask(&Ask { h2, ..row.ask.clone() }).await;
            assert_eq!(reply.status, row.status, "{} (h2: {h2}): {reply:?}", row.name);
            let record = world.records_of("decision").pop().unwrap();
            assert_eq!(record["belay"]["rule"], row.reason, "{}", row.name);
            assert_eq!(record["event"]["type"], json!(["access", "allowed"]), "{}", row.name);
            assert_eq!(reply.echo()["path"], row.ask.target, "{}: the target as it was", row.name);
        }
    }
}

#[tokio::test]
async fn kept_out() {
    let world = World::new().await;
    for row in denied() {
        for h2 in [false, true] {
            let reply = world.ask(&Ask { h2, ..row.ask.clone() }).await;
            assert_eq!(reply.status, row.status, "{} (h2: {h2}): {reply:?}", row.name);
            let record = world.records_of("decision").pop().unwrap();
            assert_eq!(record["event"]["reason"], row.reason, "{}", row.name);
            assert_eq!(record["event"]["type"], json!(["access", "denied"]), "{}", row.name);
            assert_challenge(&row, &reply);
        }
    }
    assert_eq!(world.forwarded(), 0, "nobody who was kept out has reached an origin");
    assert_eq!(world.live.state().replay.len(), 0, "and none of their tokens was used up");
}

fn assert_challenge(row: &Row, reply: &Reply) {
    let challenge = reply.header("www-authenticate");
    assert_eq!(challenge.is_some(), row.status == 401, "{}: {reply:?}", row.name);
    let expected = match row.told {
        Some(told) => format!("EdgeIdentity realm=\"belay\", error=\"invalid_token\", error_description=\"{told}\""),
        None => "EdgeIdentity realm=\"belay\"".to_owned(),
    };
    assert_eq!(challenge.unwrap_or(&expected), expected, "{}", row.name);
}

#[tokio::test]
async fn a_token_counts_once_for_a_post_and_thrice_for_a_get() {
    let world = World::new().await;
    for (method, uses) in [("POST", 1), ("PUT", 1), ("GET", 3), ("HEAD", 3)] {
        let ask = Ask { method, ..Ask::get("/orders/7") };
        let headers = [("Edge-Identity".to_owned(), world.token("checkout", &ask))];
        for _ in 0..uses {
            assert_eq!(world.send(&ask, &headers).await.status, 200, "{method}");
        }
        let reply = world.send(&ask, &headers).await;
        assert_eq!(reply.status, 401, "{method}");
        assert!(reply.header("www-authenticate").unwrap().contains("\"replay\""));
    }
}

#[tokio::test]
async fn a_refusal_does_not_use_the_token_up() {
    let world = World::new().await;
    let ask = Ask { method: "POST", certificate: Some("checkout"), ..Ask::get("/orders/7") };
    let headers = [("Edge-Identity".to_owned(), world.token("checkout", &ask))];
    let elsewhere = Ask { target: "/orders/8", ..ask.clone() };
    assert_eq!(world.send(&elsewhere, &headers).await.status, 401);
    let stolen = Ask { certificate: Some("reports"), ..ask.clone() };
    assert_eq!(world.send(&stolen, &headers).await.status, 401);
    assert_eq!(world.send(&ask, &headers).await.status, 200, "its owner still can");
}

/// A connection that is kept, and a session that is resumed, keep their certificate; its judgement is new each time.
#[tokio::test]
async fn a_kept_connection_does_not_outlive_its_certificate() {
    let world = World::new().await;
    let ask = Ask { target: "/mtls", signer: None, ..Ask::get("/mtls") };
    let mut stream = world.connect(Some("checkout"), &[]).await;
    let request = format!("GET {} HTTP/1.1\r\nHost: {HOST}\r\n\r\n", ask.target);
    for (seconds, expected) in [(NOW, "200"), (NOW + WORKLOAD_LIFE, "200"), (NOW + WORKLOAD_LIFE + 1, "401")] {
        world.clock.set(seconds);
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut head = [0; 12];
        stream.read_exact(&mut head).await.unwrap();
        assert_eq!(std::str::from_utf8(&head).unwrap(), format!("HTTP/1.1 {expected}"));
        let reason = world.records_of("decision").pop().unwrap();
        assert_eq!(reason["event"]["reason"] == "identity.certificate_expired", expected == "401");
        drain_response(&mut stream).await;
    }
}

/// Reads the rest of a response whose length is said.
async fn drain_response(stream: &mut (impl AsyncRead + Unpin)) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap().to_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
    stream.read_exact(&mut vec![0; length.parse().unwrap()]).await.unwrap();
}

/// What an `if` in the code would get wrong first: another CA comes, the old one goes, while connections stay.
#[tokio::test]
async fn another_ca_is_a_generation_and_counts_at_once() {
    let world = World::new().await;
    let ask = Ask { signer: None, ..Ask::get("/mtls") };
    assert_eq!(world.ask(&ask).await.status, 200);
    world.write("workers-ca.pem", &Ca::new(NOW).pem);
    let before = world.live.snapshot().generation;
    assert_eq!(world.live.refresh().unwrap(), Change::Applied(before.next()));
    assert_eq!(world.ask(&ask).await.status, 401);
    assert_eq!(world.records_of("decision").pop().unwrap()["belay"]["generation"], before.next().number());
    assert_eq!(world.live.refresh().unwrap(), Change::Nothing, "nothing has changed since");
}

/// What the watcher compares with was looked at before the files were read, so no change falls between.
#[tokio::test]
async fn a_generation_knows_the_files_as_they_were_when_it_read_them() {
    let world = World::new().await;
    let has_changed = || world.live.snapshot().files.iter().any(Seen::has_changed);
    assert!(!has_changed());
    for pem in [Ca::new(NOW).pem, world.worker_ca.pem.clone()] {
        world.write("workers-ca.pem", &pem);
        assert!(has_changed(), "seen without anybody having looked in between");
        world.live.refresh().unwrap();
        assert!(!has_changed(), "and known after it");
    }
    world.write("workers-ca.pem", &world.worker_ca.pem);
    assert_eq!(world.live.refresh().unwrap(), Change::Nothing);
    assert!(!has_changed(), "the same content anew is not looked at for ever");
}

#[tokio::test]
async fn the_edges_request_id_is_taken_from_a_verified_token_only() {
    let world = World::new().await;
    let rid = "11111111-2222-3333-4444-555555555555";
    let asks = [
        (Ask::get("/orders/7").claim("rid", rid), true),
        (Ask { signer: Some("forger"), ..Ask::get("/orders/7").claim("rid", rid) }, false),
        (
            Ask { certificate: Some("reports"), signer: Some("reports"), ..Ask::get("/orders/7").claim("rid", rid) },
            true,
        ),
    ];
    for (ask, taken) in asks {
        let reply = world.ask(&ask.header("X-Request-Id", "client-chosen-id")).await;
        assert_eq!(reply.header("x-request-id") == Some(rid), taken, "{reply:?}");
        assert_ne!(reply.header("x-request-id"), Some("client-chosen-id"));
        let records = world.records();
        let ids: Vec<_> = records.iter().rev().take(2).map(|record| &record["http"]["request"]["id"]).collect();
        assert_eq!(ids, [reply.header("x-request-id").unwrap(); 2], "both records carry it");
    }
}
