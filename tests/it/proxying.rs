//! What the origin sees, what the client gets, and what is written down.

use crate::support::{Ask, NOW, Site, World, eventually, settled};
use parking_lot::Mutex;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A port that only root could listen on, and nobody does.
const NOBODY: &str = "127.0.0.1:1";

#[tokio::test]
async fn the_origin_is_told_who_asks() {
    let world = World::new().await;
    let ask = Ask { certificate: Some("reports"), signer: Some("reports"), ..Ask::get("/reports/daily") };
    for h2 in [false, true] {
        let reply = world.ask(&Ask { h2, ..ask.clone() }).await;
        let headers = reply.echo()["headers"].clone();
        assert_eq!(headers["belay-workload"], "reports");
        assert_eq!(headers["belay-roles"], "reader");
        assert_eq!(headers["belay-route"], "reports");
        assert_eq!(headers["x-request-id"], reply.header("x-request-id").unwrap());
        assert_eq!(headers["x-forwarded-proto"], "https");
        assert_eq!(headers["x-forwarded-host"], "shop.example.com");
        assert_eq!(headers["forwarded"], "for=\"unknown\";host=\"shop.example.com\";proto=https");
        assert_eq!(headers["host"], "shop.example.com");
        assert_eq!(headers["x-tenant"], "shop", "a filter's header");
        assert_eq!(headers["edge-identity"], Value::Null, "the token stays here");
        assert_eq!(reply.header("x-served-by"), Some("belay"), "a filter's header on the way back");
    }
}

#[tokio::test]
async fn nobody_else_can_say_who_asks() {
    let world = World::new().await;
    let names = [
        "Belay-Workload",
        "belay_workload",
        "BELAY-ROLES",
        "belay_roles",
        "Belay_User",
        "belay-user",
        "Forwarded",
        "X-Forwarded-For",
        "x_forwarded_for",
        "X-Forwarded-Host",
        "X_Forwarded_Proto",
        "X-Forwarded-User",
        "Client-Cert",
        "client_cert_chain",
        "X-Request-Id",
        "x_request_id",
        "Edge_Identity",
        "traceparent",
    ];
    let public = Ask { certificate: None, signer: None, ..Ask::get("/status") };
    for ask in [public, Ask::get("/orders/7")] {
        for h2 in [false, true] {
            let forged = names.iter().fold(Ask { h2, ..ask.clone() }, |ask, name| ask.header(name, "forged"));
            let reply = world.ask(&forged).await;
            assert_eq!(reply.status, 200, "{reply:?}");
            assert!(!reply.body.contains("forged"), "{}", reply.body);
        }
    }
}

/// Every way to write a name with dashes as underscores or not.
fn spellings(name: &str) -> Vec<String> {
    let parts: Vec<_> = name.split('-').collect();
    let ways = 1_usize << (parts.len() - 1);
    let spell = |way: usize| {
        let join = |(index, part): (usize, &&str)| match (index, way >> index.saturating_sub(1) & 1) {
            (0, _) => (*part).to_owned(),
            (_, 0) => format!("-{part}"),
            (_, _) => format!("_{part}"),
        };
        parts.iter().enumerate().map(join).collect::<String>()
    };
    (0..ways).map(spell).collect()
}

/// Names that are ours × spelling × case × protocol × who asks, and each of them also named in `Connection`.
#[tokio::test]
async fn no_identity_header_leaks() {
    let world = World::with(|text| {
        text.replacen("edge:\n    bind", "edge:\n    limits: { headers: 250, head: 64KiB }\n    bind", 1)
    })
    .await;
    let names = [
        "belay",
        "belay-workload",
        "belay-user",
        "belay-roles",
        "belay-route",
        "belay-tenant-id",
        "belay-a-b-c",
        "edge-identity",
        "forwarded",
        "x-forwarded",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-proto",
        "x-forwarded-port",
        "x-forwarded-server",
        "x-forwarded-by",
        "x-forwarded-user",
        "x-forwarded-email",
        "x-forwarded-groups",
        "x-forwarded-prefix",
        "x-forwarded-scheme",
        "x-forwarded-method",
        "x-forwarded-access-token",
        "x-forwarded-tls-client-cert",
        "x-forwarded-a-b-c",
        "x-forwarded-client-cert",
        "x-forwarded-preferred-username",
        "client-cert",
        "client-cert-chain",
        "client-cert-x-y-z",
        "x-request-id",
        "traceparent",
        "tracestate",
    ];
    let spelled: Vec<_> = names.into_iter().flat_map(spellings).collect();
    let title =
        |name: &String| name.split_inclusive(['-', '_']).map(|part| part[..1].to_uppercase() + &part[1..]).collect();
    let cases: [Vec<String>; 3] = [
        spelled.clone(),
        spelled.iter().map(|name| name.to_uppercase()).collect(),
        spelled.iter().map(title).collect(),
    ];
    let public = Ask { certificate: None, signer: None, ..Ask::get("/status") };
    let mut tried = 0;
    for ask in [public, Ask { signer: None, ..Ask::get("/mtls") }] {
        for names in &cases {
            tried += leaks_none(&world, &ask, names, true).await + leaks_none(&world, &ask, names, false).await;
        }
        tried += leaks_none(&world, &Ask { h2: true, ..ask }, &cases[0], false).await;
    }
    assert!(tried >= 2_000, "{tried}");
}

/// Sends them all, perhaps named in `Connection`, too; how many it were.
async fn leaks_none(world: &World, ask: &Ask, names: &[String], nominated: bool) -> usize {
    // A token's own name would be a token that is no good, and an id that `Connection` names is one that we set.
    let other = |name: &&String| !["edge-identity", "x-request-id"].contains(&name.to_lowercase().as_str());
    let names: Vec<_> = names.iter().filter(other).cloned().collect();
    for names in names.chunks(90) {
        let mut headers: Vec<_> = names.iter().map(|name| (name.clone(), "forged".to_owned())).collect();
        headers.extend(nominated.then(|| ("Connection".to_owned(), names.join(", "))));
        let echo = world.send(ask, &headers).await.echo();
        let leaked = echo["headers"].as_object().unwrap().iter().filter(|(_, value)| *value == "forged");
        assert_eq!(leaked.map(|(name, _)| name).collect::<Vec<_>>(), Vec::<&String>::new());
    }
    names.len()
}

#[tokio::test]
async fn connection_cannot_take_out_what_we_set() {
    let world = World::new().await;
    let reply = world
        .ask(&Ask {
            certificate: Some("reports"),
            signer: Some("reports"),
            ..Ask::get("/reports/daily").header("Connection", "belay-workload, X-Tenant, x-mine").header("X-Mine", "1")
        })
        .await;
    let headers = reply.echo()["headers"].clone();
    assert_eq!(headers["belay-workload"], "reports");
    assert_eq!(headers["x-tenant"], "shop");
    assert_eq!(headers["x-mine"], Value::Null, "what the client names is taken out");
    let forwarded = world.forwarded();
    for framing in ["host", "content-length", "Transfer-Encoding", "close, trailer"] {
        let reply =
            world.ask(&Ask { method: "POST", body: "x", ..Ask::get("/orders/7").header("Connection", framing) }).await;
        assert_eq!(reply.status, 400, "{framing}");
        let decision = world.records_of("decision").pop().unwrap();
        assert_eq!(decision["belay"]["decision"], "deny", "refused before it is allowed, not after");
    }
    assert_eq!(world.forwarded(), forwarded);
}

#[tokio::test]
async fn a_trace_of_a_verified_peer_goes_on_and_a_strangers_does_not() {
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let world = World::new().await;
    let known = world.ask(&Ask::get("/orders/7").header("traceparent", trace)).await;
    assert_eq!(known.echo()["headers"]["traceparent"], trace);
    let stranger = Ask { certificate: None, signer: None, ..Ask::get("/status") };
    let reply = world.ask(&stranger.header("traceparent", trace)).await;
    let own = reply.echo()["headers"]["traceparent"].as_str().unwrap().to_owned();
    assert!(own.starts_with("00-") && own.ends_with("-00") && own.len() == 55 && own != trace, "{own}");
}

#[tokio::test]
async fn servers_take_turns() {
    let world = World::new().await;
    let mut answered = Vec::new();
    for _ in 0..6 {
        answered.push(world.ask(&Ask::get("/orders/7")).await.echo()["origin"].as_str().unwrap().to_owned());
    }
    let count = |name: &str| answered.iter().filter(|origin| *origin == name).count();
    assert_eq!((count("a"), count("b")), (3, 3), "{answered:?}");
}

#[tokio::test]
async fn two_records_a_request_and_no_secret_in_them() {
    let world = World::new().await;
    let ask = Ask { method: "POST", body: "card=4111", ..Ask::get("/orders/7?secret=1") };
    let token = world.token("checkout", &ask);
    let headers = [
        ("Edge-Identity".to_owned(), token.clone()),
        ("Cookie".to_owned(), "session=abc".to_owned()),
        ("CF-Ray".to_owned(), "8e5f\u{7f}".replace('\u{7f}', "a1")),
    ];
    let reply = world.send(&ask, &headers).await;
    assert_eq!(reply.status, 200);
    let records = world.records();
    let [start, decision, outcome] = records.as_slice() else { panic!("{records:#?}") };
    assert_eq!(start["event"]["action"], "start");
    assert_eq!(decision["belay"]["workload"], "checkout");
    assert_eq!(decision["belay"]["profile"], "mtls+jwt");
    assert_eq!(decision["belay"]["kid"], "checkout-1");
    assert_eq!(decision["belay"]["certificate"], world.identities["checkout"].thumbprint());
    assert_eq!(decision["belay"]["cf_ray"], "8e5fa1");
    assert_eq!(decision["tls"]["version"], "1.3");
    assert_eq!(decision["url"], json!({ "domain": "shop.example.com", "path": "/orders/7" }));
    assert_eq!(outcome["http"]["response"]["status_code"], 200);
    assert_eq!(outcome["http"]["request"]["body"]["bytes"], 9);
    assert_eq!(outcome["belay"]["pool"], "shop");
    assert!(outcome["belay"]["server"] == "a" || outcome["belay"]["server"] == "b");
    let sequence: Vec<_> = records.iter().map(|record| record["event"]["sequence"].as_u64().unwrap()).collect();
    assert_eq!(sequence, [1, 2, 3]);
    let text = records.iter().map(ToString::to_string).collect::<String>();
    let signature = token.rsplit('.').next().unwrap();
    for secret in ["4111", "session", "secret", signature] {
        assert!(!text.contains(secret), "{secret} stands in {text}");
    }
}

#[tokio::test]
async fn control_bytes_cannot_break_a_record() {
    let world = World::new().await;
    let ask = Ask::get("/orders/a%22b%C3%A9").header("CF-Ray", "a\tb\"c");
    assert_eq!(world.ask(&ask).await.status, 200);
    let record = world.records_of("decision").pop().unwrap();
    assert_eq!(record["url"]["path"], "/orders/a\"bé");
}

#[tokio::test]
async fn while_the_log_cannot_be_written_nothing_is_served() {
    let world = World::with(|text| text.replace("audit.jsonl", "/dev/full")).await;
    eventually_failing(&world);
    let reply = world.ask(&Ask::get("/orders/7")).await;
    assert_eq!(reply.status, 503);
    assert_eq!(reply.header("retry-after"), Some("1"));
    assert_eq!(world.forwarded(), 0);
    assert!(world.metrics().contains("belay_refusals_total{listener=\"edge\",reason=\"audit_unavailable\"} 1"));
}

/// The record of the start cannot be written, which the writer notices.
fn eventually_failing(world: &World) {
    eventually("the writer fails", || (!world.live.state().journal.is_writing()).then_some(()));
}

#[tokio::test]
async fn the_metrics_move() {
    let world = World::new().await;
    assert_eq!(world.ask(&Ask::get("/orders/7")).await.status, 200);
    assert_eq!(world.ask(&Ask { signer: None, ..Ask::get("/orders/7") }).await.status, 401);
    let text = world.metrics();
    for line in [
        "belay_requests_total{decision=\"allow\",route=\"orders\"} 1",
        "belay_requests_total{decision=\"deny\",route=\"orders\"} 1",
        "belay_responses_total{class=\"2xx\",route=\"orders\"} 1",
        "belay_responses_total{class=\"4xx\",route=\"orders\"} 1",
        "belay_refusals_total{listener=\"edge\",reason=\"token_missing\"} 1",
        "belay_request_duration_seconds_count{route=\"orders\"} 2",
        "belay_server_up{pool=\"shop\",server=\"a\"} 1",
        "belay_replay_entries 1",
        "belay_config_generation 1",
    ] {
        assert!(text.lines().any(|known| known == line), "{line} is not in\n{text}");
    }
}

/// An origin that behaves badly, one way a connection, and what the client is told.
async fn bad_origin(answer: &'static [u8], hold: bool) -> String {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        #[expect(clippy::collection_is_never_read, reason = "what is held stays open")]
        let mut held = Vec::new();
        loop {
            let (mut stream, _) = socket.accept().await.unwrap();
            let mut request = [0; 4096];
            assert!(stream.read(&mut request).await.unwrap() > 0);
            stream.write_all(answer).await.unwrap();
            if hold {
                held.push(stream);
            }
        }
    });
    address
}

async fn with_origin(address: &str) -> World {
    let pool = format!(
        "pools:\n  shop:\n    servers: [{{ name: a, address: '{address}' }}]\n    timeouts: {{ connect: 200ms, between_bytes: 200ms }}\n"
    );
    World::with(|text| {
        let (before, rest) = text.split_once("pools:\n").unwrap();
        format!("{before}{pool}audit:{}", rest.split_once("audit:").unwrap().1)
    })
    .await
}

#[tokio::test]
async fn a_bad_origin_has_its_reason() {
    let cases = [
        (NOBODY.to_owned(), 502, "upstream.connect_failed"),
        (bad_origin(b"", true).await, 504, "upstream.response_timeout"),
        (bad_origin(b"", false).await, 502, "upstream.response_broken"),
        (bad_origin(b"SSH-2.0-OpenSSH\r\n\r\n", false).await, 502, "upstream.response_broken"),
    ];
    for (address, status, reason) in cases {
        let world = with_origin(&address).await;
        let reply = world.ask(&Ask::get("/orders/7")).await;
        assert_eq!(reply.status, status, "{reason}: {reply:?}");
        let outcome = world.records_of("outcome").pop().unwrap();
        assert_eq!(outcome["event"]["reason"], reason);
        assert_eq!(outcome["belay"]["server"], "a");
        assert_eq!(outcome["belay"]["complete"], true, "our answer was sent whole");
        assert!(
            world.metrics().contains("belay_server_active_requests{pool=\"shop\",server=\"a\"} 0"),
            "nothing is kept"
        );
    }
}

#[tokio::test]
async fn a_response_that_breaks_off_never_looks_whole() {
    let world = with_origin(&bad_origin(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf", false).await).await;
    let reply = world.ask(&Ask::get("/orders/7")).await;
    assert_eq!((reply.status, reply.body.as_str()), (200, "half"));
    assert_eq!(reply.header("content-length"), Some("10"), "the client can count");
    let outcome = world.records_of("outcome").pop().unwrap();
    assert_eq!(outcome["belay"]["complete"], false);
    assert_eq!(outcome["event"]["outcome"], "failure");
}

#[tokio::test]
async fn a_pool_without_a_healthy_server_is_refused() {
    let world = World::new().await;
    let text = world.config_text();
    let (before, rest) = text.split_once("    servers:").unwrap();
    let rest = rest.split_once('\n').unwrap().1;
    world.apply(&format!("{before}    servers: [{{ name: c, address: '{NOBODY}' }}]\n{rest}")).unwrap();
    let reply = world.ask(&Ask::get("/orders/7")).await;
    assert_eq!(reply.status, 503, "a new server is not healthy before its first check");
    assert_eq!(world.records_of("outcome").pop().unwrap()["event"]["reason"], "upstream.no_server");
}

#[tokio::test]
async fn an_origin_cannot_make_our_challenge() {
    let answer =
        b"HTTP/1.1 401 Unauthorized\r\nwww-authenticate: Bearer x, edgeidentity error_description=\"stale_token\"\r\n\
        www-authenticate: Basic realm=\"shop\"\r\ncontent-length: 0\r\n\r\n";
    let world = with_origin(&bad_origin(answer, false).await).await;
    let reply = world.ask(&Ask::get("/orders/7")).await;
    let challenges: Vec<_> =
        reply.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("www-authenticate")).collect();
    assert_eq!(challenges.len(), 1, "{reply:?}");
    assert_eq!(challenges[0].1, "Basic realm=\"shop\"");
}

#[tokio::test]
async fn a_client_that_goes_leaves_an_outcome() {
    let world = with_origin(&bad_origin(b"", true).await).await;
    let ask = Ask { signer: None, ..Ask::get("/mtls") };
    let mut stream = world.connect(ask.certificate, &[]).await;
    stream.write_all(b"GET /mtls HTTP/1.1\r\nHost: shop.example.com\r\n\r\n").await.unwrap();
    settled("a decision", || !world.records_of("decision").is_empty()).await;
    drop(stream);
    settled("an outcome", || !world.records_of("outcome").is_empty()).await;
    assert_eq!(world.records_of("outcome").len(), 1);
}

#[tokio::test]
async fn a_refused_body_is_not_read_as_the_next_request() {
    let world = World::new().await;
    let mut stream = world.connect(None, &[]).await;
    let smuggled = "GET /status HTTP/1.1\r\nHost: shop.example.com\r\n\r\n";
    let request =
        format!("POST /orders HTTP/1.1\r\nHost: shop.example.com\r\nContent-Length: {}\r\n\r\n", smuggled.len());
    stream.write_all(request.as_bytes()).await.unwrap();
    stream.write_all(smuggled.as_bytes()).await.unwrap();
    let mut raw = Vec::new();
    stream.read_to_end(&mut raw).await.unwrap_or_default();
    let raw = String::from_utf8(raw).unwrap();
    assert!(raw.starts_with("HTTP/1.1 401"), "{raw}");
    assert_eq!(raw.matches("HTTP/1.1").count(), 1, "{raw}");
    assert_eq!(world.forwarded(), 0);
}

/// The answer must not be lost because the stream ends while the client still sends.
#[tokio::test]
async fn a_refused_client_may_finish_its_body() {
    let world = World::new().await;
    let stream = world.connect(None, &[b"h2"]).await;
    let (sender, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let request = http::Request::builder().method("POST").uri("https://shop.example.com/orders").body(()).unwrap();
    let (response, mut body) = sender.ready().await.unwrap().send_request(request, false).unwrap();
    let mut response = response.await.unwrap();
    assert_eq!(response.status(), 401);
    while let Some(piece) = response.body_mut().data().await {
        assert!(!piece.unwrap().is_empty());
    }
    body.send_data("late".into(), true).unwrap();
    let reset = std::future::poll_fn(|context| body.poll_reset(context));
    let reset = tokio::time::timeout(std::time::Duration::from_millis(100), reset).await;
    assert!(!matches!(reset, Ok(Ok(_))), "{reset:?}");
}

/// A body that `Connection` makes us forget would be the next request on the connection.
#[tokio::test]
async fn a_body_cannot_be_disowned() {
    let world = World::new().await;
    let smuggled = "GET /mtls HTTP/1.1\r\nHost: shop.example.com\r\n\r\n";
    let ask = Ask { method: "POST", ..Ask::get("/orders") };
    for name in ["content-length", "Content-Length, close"] {
        let mut stream = world.connect(ask.certificate, &[]).await;
        let token = world.token("checkout", &ask);
        let head = format!(
            "POST /orders HTTP/1.1\r\nHost: shop.example.com\r\nEdge-Identity: {token}\r\nConnection: {name}\r\nContent-Length: {}\r\n\r\n",
            smuggled.len()
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(smuggled.as_bytes()).await.unwrap();
        let mut raw = String::new();
        stream.read_to_string(&mut raw).await.unwrap_or_default();
        assert!(raw.starts_with("HTTP/1.1 400") && raw.matches("HTTP/1.1").count() == 1, "{raw}");
    }
    assert_eq!(world.forwarded(), 0);
}

#[tokio::test]
async fn framing_that_two_servers_could_read_in_two_ways_is_refused() {
    let world = World::new().await;
    for (name, value) in [
        ("Content-Length", "1, 1"),
        ("Content-Length", "+1"),
        ("Content_Length", "1"),
        ("Transfer_Encoding", "chunked"),
    ] {
        let ask = Ask { signer: None, ..Ask::get("/mtls").header(name, value) };
        assert_eq!(world.ask(&ask).await.status, 400, "{name}: {value}");
    }
    assert_eq!(world.forwarded(), 0);
}

#[tokio::test]
async fn an_absolute_target_goes_on_as_the_path_that_was_judged() {
    let world = World::new().await;
    for (target, expected) in [
        ("https://shop.example.com/mtls?a", Ok("/mtls?a")),
        ("https://other.example.com/mtls", Err(400)),
        ("http://shop.example.com/mtls", Err(400)),
    ] {
        let reply = world.ask(&Ask { signer: None, ..Ask::get(target) }).await;
        match expected {
            Ok(path) => assert_eq!(reply.echo()["path"], path),
            Err(status) => assert_eq!(reply.status, status, "{target}"),
        }
    }
}

#[tokio::test]
async fn a_long_path_is_recorded_in_short() {
    let world = World::new().await;
    let path: &'static str = Box::leak(format!("/orders/{}", "x".repeat(30_000)).into_boxed_str());
    assert_eq!(world.ask(&Ask { certificate: None, signer: None, ..Ask::get(path) }).await.status, 401);
    let record = world.records_of("decision").pop().unwrap();
    let recorded = record["url"]["path"].as_str().unwrap();
    assert!(recorded.len() < 2_100 && recorded.ends_with("?[30008 bytes]"), "{recorded}");
}

#[tokio::test]
async fn alpn_http_1_1_is_http_1_1() {
    let world = World::new().await;
    let mut stream = world.connect(Some("checkout"), &[b"http/1.1"]).await;
    stream.write_all(b"GET /mtls HTTP/1.1\r\nHost: shop.example.com\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut raw = Vec::new();
    stream.read_to_end(&mut raw).await.unwrap_or_default();
    assert!(raw.starts_with(b"HTTP/1.1 200"));
}

#[tokio::test]
async fn over_tls_1_2_it_is_the_same() {
    let world = World::new().await;
    let mut stream = world.site.tls(world.plain(), Some("checkout"), &[], &[&rustls::version::TLS12]).await;
    stream.write_all(b"GET /mtls HTTP/1.1\r\nHost: shop.example.com\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut raw = Vec::new();
    stream.read_to_end(&mut raw).await.unwrap_or_default();
    assert!(raw.starts_with(b"HTTP/1.1 200"));
    assert_eq!(world.records_of("decision").pop().unwrap()["tls"]["version"], "1.2");
}

#[test]
fn stripping_leaves_none_of_ours_inbound() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let world = runtime.block_on(World::new());
    let name = "(belay|edge.identity|x.forwarded|client.cert|forwarded|x.request.id)[-_a-z]{0,6}";
    let strategy = proptest::collection::vec(name.prop_map(|name| name.replace('.', "-")), 1..6);
    proptest!(ProptestConfig::with_cases(64), |(names in strategy, underscores in any::<bool>())| {
        let headers: Vec<_> = names.iter().map(|name| {
            let name = if underscores { name.replace('-', "_") } else { name.clone() };
            (name, "forged".to_owned())
        }).collect();
        let ask = Ask { certificate: None, signer: None, ..Ask::get("/status") };
        let reply = runtime.block_on(world.send(&ask, &headers));
        if reply.status == 200 {
            let echo = reply.echo();
            let forged = echo["headers"].as_object().unwrap().iter().filter(|(_, value)| *value == "forged");
            let leaked: Vec<_> = forged.filter(|(name, _)| belay::request::headers::is_ours(name)).collect();
            prop_assert!(leaked.is_empty(), "{:?}", leaked);
        }
    });
}

/// An origin that reads strictly, keeps its connections, and remembers where each request began.
async fn strict_origin(begins: Arc<Mutex<Vec<String>>>) -> String {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((stream, _)) = socket.accept().await {
            tokio::spawn(read_strictly(stream, Arc::clone(&begins)));
        }
    });
    address
}

async fn read_strictly(mut stream: TcpStream, begins: Arc<Mutex<Vec<String>>>) {
    loop {
        let mut request = Vec::new();
        let is_whole = |request: &[u8]| {
            let text = String::from_utf8_lossy(request);
            text.contains("\r\n\r\n") && (!text.to_lowercase().contains("chunked") || text.ends_with("0\r\n\r\n"))
        };
        while !is_whole(&request) {
            let Ok(byte) = stream.read_u8().await else { return };
            request.push(byte);
        }
        let first = String::from_utf8_lossy(&request).lines().next().unwrap_or_default().to_owned();
        begins.lock().push(first);
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.unwrap_or_default();
    }
}

/// Sends a body in just those frames, and says how it was answered.
async fn upload(world: &World, pieces: &[&'static str], signed: bool) -> u16 {
    let digest = belay::identity::BodyDigest::of(pieces.concat().as_bytes()).to_string();
    let ask = Ask { method: "POST", ..Ask::get("/orders/7") };
    let ask = if signed { ask.claim("cdg", digest) } else { ask };
    let stream = world.connect(Some("checkout"), &[b"h2"]).await;
    let (sender, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let request = http::Request::builder().method("POST").uri("https://shop.example.com/orders/7");
    let request = request.header("edge-identity", world.token("checkout", &ask)).body(()).unwrap();
    let (response, mut body) = sender.ready().await.unwrap().send_request(request, false).unwrap();
    for (index, piece) in pieces.iter().enumerate() {
        body.send_data(bytes::Bytes::from_static(piece.as_bytes()), index + 1 == pieces.len()).unwrap();
    }
    response.await.unwrap().status().as_u16()
}

/// A body of HTTP/2 that ends in an empty frame ends once, and the connection to the origin is at the next request then.
#[tokio::test]
async fn a_body_ends_once() {
    let begins = Arc::<Mutex<Vec<String>>>::default();
    let address = strict_origin(Arc::clone(&begins)).await;
    let token = "audience: https://lb.example.com\n  token: { digest_body_max: 1MiB }";
    let world = World::before_checks(Site::new(NOW).await, |text| {
        let (before, _) = text.split_once("    servers: [").unwrap();
        let before = before.replace("audience: https://lb.example.com", token);
        format!("{before}    servers: [{{ name: a, address: '{address}' }}]\naudit: {{ file: audit.jsonl }}\n")
    });
    for pieces in [&[""][..], &["abc", ""], &["abc"], &["", "abc", ""]] {
        for signed in [false, true] {
            assert_eq!(upload(&world, pieces, signed).await, 200, "{pieces:?} signed {signed}");
            assert_eq!(world.ask(&Ask { signer: None, ..Ask::get("/mtls") }).await.status, 200, "{pieces:?} {signed}");
        }
    }
    let begins = begins.lock();
    assert!(begins.iter().all(|first| first.ends_with("HTTP/1.1")), "{begins:?}");
    assert_eq!(begins.len(), 16);
}
