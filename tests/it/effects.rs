//! Every key of the config does what it says. `keys.rs` holds which test shows it for which key.

use crate::support::checks::{checked_origin, read_head};
use crate::support::{Ask, NOW, Site, World, settled, show};
use belay::clock::{System, Timestamp};
use belay::config;
use belay::filter;
use belay::runtime::{self, Beginning, Change};
use serde_json::json;
use std::{path::Path, sync::Arc};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

async fn edited(from: &str, to: &str) -> World {
    World::with(|text| {
        assert!(text.contains(from), "{from} is not in the usual config");
        text.replacen(from, to, 1)
    })
    .await
}

fn post() -> Ask {
    Ask { method: "POST", body: "x", ..Ask::get("/orders/7") }
}

#[tokio::test]
async fn node_names_itself_in_records_and_metrics() {
    let world = edited("node: test", "node: lb-7").await;
    assert_eq!(world.records()[0]["belay"]["node"], "lb-7");
    assert!(world.metrics().contains("belay_build_info{node=\"lb-7\""));
}

#[tokio::test]
async fn a_certificate_is_chosen_by_name_and_the_first_is_for_the_rest() {
    // Another CA's certificate comes first; the client still gets the one of the name that it asks for.
    let site = Site::new(NOW).await;
    let other = rcgen::generate_simple_self_signed(["other.example.com".to_owned()]).unwrap();
    site.write("other.pem", &other.cert.pem());
    site.write("other.key", &other.signing_key.serialize_pem());
    let first = "certificates: [{ cert: other.pem, key: 'file:other.key' }, { cert: lb.pem, key: 'file:lb.key' }]";
    let world =
        World::before_checks(site, |text| text.replace("certificates: [{ cert: lb.pem, key: 'file:lb.key' }]", first));
    assert_eq!(world.connect(None, &[]).await.get_ref().1.peer_certificates().unwrap()[0], world.identities["lb"].der);
}

#[tokio::test]
async fn a_listener_demands_its_profile() {
    let token = || Ask { signer: None, ..Ask::get("/orders/7") };
    let world = World::new().await;
    assert_eq!(world.ask(&token()).await.status, 401, "mtls+jwt unless said otherwise");
    let world = edited(
        "      client_auth: { ca: [workers-ca.pem] }\n",
        "      client_auth: { ca: [workers-ca.pem] }\n    identity: mtls\n",
    )
    .await;
    assert_eq!(world.ask(&token()).await.status, 200);
    assert_eq!(world.ask(&Ask { certificate: None, ..token() }).await.status, 401);
}

#[tokio::test]
async fn a_listener_without_tls_serves_public_routes_only() {
    let site = Site::new(NOW).await;
    let world = World::before_checks(site, |text| {
        let (before, rest) = text.split_once("    tls:\n").unwrap();
        let rest = rest.split_once("edge:\n").unwrap().1;
        let routes = rest
            .replace("    allow: [checkout]", "    identity: none\n    allow: public")
            .replace("    identity: mtls\n", "");
        let routes = routes.replace("    allow: [reader]", "    allow: public");
        format!("{before}    identity: none\nedge:\n{routes}")
    });
    settled("a healthy server", || world.live.snapshot().pools.iter().all(|pool| pool.servers[0].state.health.is_up()))
        .await;
    let mut plain = world.plain();
    plain.write_all(b"GET /status HTTP/1.1\r\nHost: shop.example.com\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut raw = String::new();
    plain.read_to_string(&mut raw).await.unwrap();
    assert!(raw.starts_with("HTTP/1.1 200") && raw.contains("\"x-forwarded-proto\":\"http\""), "{raw}");
}

#[tokio::test]
async fn the_edge_says_issuer_audience_and_lifetime() {
    for (from, to, expected) in [
        ("issuer: https://edge.example.com/worker", "issuer: https://other", "identity.token_issuer"),
        ("audience: https://lb.example.com", "audience: https://other", "identity.token_audience"),
        (
            "audience: https://lb.example.com",
            "audience: https://lb.example.com\n  token: { max_lifetime: 59s }",
            "identity.token_lifetime",
        ),
    ] {
        let world = edited(from, to).await;
        assert_eq!(world.ask(&Ask::get("/orders/7")).await.status, 401, "{to}");
        assert_eq!(world.records_of("decision").pop().unwrap()["event"]["reason"], expected);
    }
    let longest =
        edited("audience: https://lb.example.com", "audience: https://lb.example.com\n  token: { max_lifetime: 1h }")
            .await;
    assert_eq!(longest.ask(&Ask::get("/orders/7").claim("exp", NOW + 3600)).await.status, 200);
}

#[tokio::test]
async fn strict_replay_takes_a_get_once() {
    let world =
        edited("audience: https://lb.example.com", "audience: https://lb.example.com\n  token: { replay: strict }")
            .await;
    let ask = Ask::get("/orders/7");
    let headers = world.headers(&ask);
    assert_eq!(world.send(&ask, &headers).await.status, 200);
    assert_eq!(world.send(&ask, &headers).await.status, 401);
}

#[tokio::test]
async fn a_workload_is_its_id_and_its_keys() {
    let world = edited("spiffe://example.com/worker/checkout", "spiffe://example.com/worker/till").await;
    assert_eq!(world.ask(&Ask::get("/orders/7")).await.status, 401, "another id");
    let world = edited("kid: checkout-1", "kid: checkout-2").await;
    assert_eq!(world.ask(&Ask::get("/orders/7")).await.status, 401, "another kid");
    let overlap = "keys: [{ kid: checkout-2, key: 'file:spare.pub' }, { kid: checkout-1, key: 'file:checkout.pub' }]";
    let world = edited("keys: [{ kid: checkout-1, key: 'file:checkout.pub' }]", overlap).await;
    assert_eq!(world.ask(&Ask::get("/orders/7")).await.status, 200, "keys overlap");
    world.write("checkout.pub", &world.token_keys["forger"].public_key_pem());
    assert!(matches!(world.live.refresh(), Ok(Change::Applied(_))));
    assert_eq!(world.ask(&Ask::get("/orders/7")).await.status, 401, "another key in the file");
    assert_eq!(world.ask(&Ask { signer: Some("forger"), ..Ask::get("/orders/7") }).await.status, 200);
}

#[tokio::test]
async fn a_role_is_its_workloads() {
    let reports = Ask { certificate: Some("reports"), signer: Some("reports"), ..Ask::get("/reports/daily") };
    let world = edited("reader: { workloads: [reports] }", "reader: { workloads: [checkout] }").await;
    assert_eq!(world.ask(&reports).await.status, 403);
    let reply = world.ask(&Ask::get("/reports/daily")).await;
    assert_eq!(reply.echo()["headers"]["belay-roles"], "reader");
}

#[tokio::test]
async fn a_route_matches_host_path_and_method() {
    let world = World::new().await;
    let matched = |ask: Ask| {
        let world = &world;
        async move {
            world.ask(&ask).await;
            world.records_of("decision").pop().unwrap()["belay"]["route"].clone()
        }
    };
    assert_eq!(matched(Ask::get("/orders/7")).await, "orders");
    assert_eq!(matched(Ask::get("/ordersx")).await, json!(null));
    assert_eq!(matched(Ask { method: "PATCH", ..Ask::get("/orders/7") }).await, json!(null));
    world
        .apply(
            &world
                .config_text()
                .replace("host: shop.example.com, path: /orders", "host: '*.example.org', path: /orders"),
        )
        .unwrap();
    assert_eq!(matched(Ask::get("/orders/7")).await, json!(null), "another host");
}

#[tokio::test]
async fn a_route_may_demand_more_or_less_than_its_listener() {
    let world = edited("    identity: mtls\n", "    identity: mtls+jwt\n").await;
    let ask = Ask { signer: None, ..Ask::get("/mtls") };
    assert_eq!(world.ask(&ask).await.status, 401);
    world.apply(&world.config_text().replace("    identity: mtls+jwt\n", "    identity: mtls\n")).unwrap();
    assert_eq!(world.ask(&ask).await.status, 200);
}

#[tokio::test]
async fn a_route_leads_to_its_pool() {
    let other = crate::support::origin("other").await;
    let world = World::with(|text| {
        let pool =
            format!("pools:\n  elsewhere: {{ balance: round_robin, servers: [{{ name: o, address: '{other}' }}] }}\n");
        text.replacen("    pool: shop", "    pool: elsewhere", 1).replace("pools:\n", &pool)
    })
    .await;
    assert_eq!(world.ask(&Ask::get("/orders/7")).await.echo()["origin"], "other");
    assert_ne!(world.ask(&Ask { signer: None, ..Ask::get("/mtls") }).await.echo()["origin"], "other");
    let outcome = &world.records_of("outcome")[0];
    assert_eq!((&outcome["belay"]["pool"], &outcome["belay"]["server"]), (&json!("elsewhere"), &json!("o")));
}

async fn with_timeouts(address: &str, timeouts: &str) -> World {
    World::with(|text| {
        let (before, rest) = text.split_once("pools:\n").unwrap();
        let rest = rest.split_once("audit:").unwrap().1;
        format!("{before}pools:\n  shop: {{ servers: [{{ name: a, address: '{address}' }}], timeouts: {timeouts} }}\naudit:{rest}")
    })
    .await
}

#[tokio::test]
async fn connect_has_its_timeout() {
    // A socket whose backlog is full leaves further connections without an answer.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let full = socket.listen(1).unwrap();
    let address = full.local_addr().unwrap();
    #[expect(clippy::collection_is_never_read, reason = "what is held stays open")]
    let mut waiting = Vec::new();
    for _ in 0..4 {
        let connect = TcpStream::connect(address);
        waiting.push(tokio::time::timeout(std::time::Duration::from_millis(100), connect).await);
    }
    let world = with_timeouts(&address.to_string(), "{ connect: 100ms }").await;
    assert_eq!(world.ask(&Ask::get("/orders/7")).await.status, 504);
    assert_eq!(world.records_of("outcome").pop().unwrap()["event"]["reason"], "upstream.connect_timeout");
}

#[tokio::test]
async fn an_idle_connection_to_a_server_ends() {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap().to_string();
    let ended = tokio::spawn(async move {
        let (mut stream, _) = socket.accept().await.unwrap();
        read_head(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        stream.read(&mut [0]).await.unwrap()
    });
    let world = with_timeouts(&address, "{ idle: 1s }").await;
    assert_eq!(world.ask(&Ask::get("/orders/7")).await.status, 200);
    assert!(!ended.is_finished(), "it is kept for the next request");
    assert_eq!(ended.await.unwrap(), 0, "and then it ends");
}

#[tokio::test]
async fn between_bytes_ends_a_response_that_stands_still() {
    let origin = checked_origin(|_, _| None).await;
    let world = with_timeouts(&origin, "{ between_bytes: 50ms }").await;
    assert_eq!(world.ask(&post()).await.status, 504);
}

fn start_from(config: config::Config) -> Result<runtime::Live, Vec<config::Finding>> {
    runtime::start(config, Beginning::new(Arc::new(System), Timestamp::from_unix_seconds(0)))
}

#[tokio::test]
async fn a_history_goes_on_counting() {
    let site = Site::new(NOW).await;
    std::fs::create_dir(site.folder.path().join("history")).unwrap();
    let start = |text: &str| {
        site.write("belay.yaml", text);
        let config = config::read_file(&site.config(), filter::KINDS).config.unwrap();
        let live = start_from(config).unwrap();
        live.snapshot().generation.number()
    };
    let without = site.config_text();
    let with = format!("{without}history: {{ dir: history }}\n");
    assert_eq!([start(&without), start(&without)], [1, 1], "nobody remembers");
    assert_eq!([start(&with), start(&with), start(&with)], [1, 2, 3]);
    site.write("history/generation", "garbage");
    let config = config::read_file(&site.config(), filter::KINDS).config.unwrap();
    let refused = start_from(config).unwrap_err();
    assert!(show(&refused).contains("the history cannot be read"), "{}", show(&refused));
}

#[tokio::test]
async fn the_audit_log_is_the_named_file() {
    let world = edited("audit: { file: audit.jsonl }", "audit: { file: named.jsonl }").await;
    world.live.state().journal.flush();
    assert!(std::fs::read_to_string(world.folder.path().join("named.jsonl")).unwrap().contains("\"start\""));
    assert!(!Path::new(&world.folder.path().join("audit.jsonl")).exists());
}

#[tokio::test]
async fn learned_state_outlives_a_generation() {
    let world = World::new().await;
    let (ask, before) = (post(), world.live.snapshot());
    let headers = world.headers(&ask);
    assert_eq!(world.send(&ask, &headers).await.status, 200);
    world.apply(&world.config_text().replace("path: /status", "path: /state")).unwrap();
    let after = world.live.snapshot();
    assert_eq!(after.generation, before.generation.next());
    assert_eq!(world.send(&ask, &headers).await.status, 401, "the replay store");
    assert_eq!(world.ask(&post()).await.status, 200, "the servers' health: no check was waited for");
    assert_eq!(world.records_of("reload").len(), 1);
    assert!(world.metrics().contains("belay_reloads_total{result=\"applied\"} 1"));
}

#[tokio::test]
async fn a_bad_change_leaves_the_old_generation() {
    let world = World::new().await;
    let text = world.config_text();
    let before = world.live.snapshot().digest;
    for (from, to, expected) in [
        ("kid: checkout-1, key: 'file:checkout.pub'", "kid: checkout-1, key: 'file:missing.pub'", "missing.pub"),
        ("ca: [workers-ca.pem]", "ca: [lb.key]", "holds no certificate"),
        ("cert: lb.pem", "cert: workers-ca.pem", "not the certificate's"),
        ("node: test", "node: other", "cannot change node"),
        ("audit: { file: audit.jsonl }", "audit: { file: other.jsonl }", "cannot change audit.file"),
    ] {
        let findings = world.apply(&text.replacen(from, to, 1)).unwrap_err();
        assert!(show(&findings).contains(expected), "{to}: {}", show(&findings));
        assert_eq!(world.live.snapshot().digest, before);
        assert_eq!(world.ask(&Ask::get("/orders/7")).await.status, 200, "{to}");
    }
    assert_eq!(world.records_of("reload").iter().filter(|record| record["event"]["outcome"] == "failure").count(), 5);
}
