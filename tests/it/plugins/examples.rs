//! The plugins of the folder `plugins`, as they stand there.

use super::*;
use crate::support::checks::answering;
use serde_json::json;
use std::path::Path;
use test_case::test_case;

/// A world with an example, configured so, before an origin that answers so.
async fn example(name: &str, config: &str, more: &str, answer: Option<&'static str>) -> World {
    let file = format!("{}.wasm", name.replace('-', "_"));
    let module = Path::new(env!("CARGO_MANIFEST_DIR")).join("plugins").join(name).join(file);
    let mut pool = String::new();
    if let Some(answer) = answer {
        let address = answering("\r\n\r\n", move |_| answer.into()).await;
        pool = format!("  own: {{ servers: [{{ name: o, address: '{address}' }}] }}\n");
    }
    let world = World::before_checks(Site::new(NOW).await, |text| {
        let route = "    allow: [checkout]\n    pool: shop\n";
        let to = if answer.is_some() { "own" } else { "shop" };
        let filters = format!("[{{ plugin: {{ wasm: {}, config: {config}{more} }} }}]", module.display());
        let with = format!("    allow: [checkout]\n    filters: {filters}\n    pool: {to}\n");
        text.replacen(route, &with, 1).replacen("audit: {", &format!("{pool}audit: {{"), 1)
    });
    world.is_healthy().await;
    world
}

#[test_case(&[], 400; "without what is required")]
#[test_case(&[("x-tenant", "shop")], 200; "with it")]
#[test_case(&[("x-tenant", "shop"), ("x-debug", "TRUE")], 403; "with what is denied")]
#[test_case(&[("x-tenant", "shop"), ("x-debug", "no")], 200; "with another value of it")]
#[tokio::test]
async fn a_policy_of_headers(headers: &[(&'static str, &str)], status: u16) {
    let config = "{ require: [x-tenant], deny: { x-debug: ['1', 'true'] }, \
                  response: { set: { x-content-type-options: nosniff }, remove: [server] } }";
    let answer = "HTTP/1.1 200 OK\r\nserver: x\r\ncontent-length: 2\r\n\r\nok";
    let world = example("header-policy", config, "", Some(answer)).await;
    for h2 in [false, true] {
        let ask = headers.iter().fold(Ask { h2, ..orders() }, |ask, (name, value)| ask.header(name, *value));
        let reply = world.ask(&ask).await;
        assert_eq!(reply.status, status, "{reply:?}");
        if status == 200 {
            assert_eq!((reply.header("x-content-type-options"), reply.header("server")), (Some("nosniff"), None));
            assert_eq!((reply.body.as_str(), reply.header("content-length")), ("ok", Some("2")));
        } else {
            assert_eq!(reply.header("content-type"), Some("application/problem+json"));
        }
    }
}

#[tokio::test]
async fn a_quota_for_each_workload() {
    let world = example("quota", "{ requests: 3, seconds: 3600 }", "", None).await;
    let mut statuses = Vec::new();
    for _ in 0..5 {
        statuses.push(world.ask(&orders()).await.status);
    }
    assert_eq!(statuses, [200, 200, 200, 429, 429]);
    assert!(world.metrics().contains("belay_plugin_counter_total{name=\"quota_refused\",plugin=\"quota\"} 2"));
    assert_eq!(world.forwarded(), 3);
    assert_eq!(outcome(&world)["belay"]["filter"], json!("quota"));
}

#[test_case("all is well", 200; "fine")]
#[test_case("a <ScRiPt> of mine", 403; "what is denied")]
#[test_case("0123456789012345678901234567890123456789", 413; "too long")]
#[tokio::test]
async fn a_body_is_inspected(body: &'static str, status: u16) {
    let config = "{ max_bytes: 32, deny: ['<script'] }";
    let world = example("body-inspector", config, "", None).await;
    for h2 in [false, true] {
        let reply = world.ask(&Ask { method: "POST", body, h2, ..orders() }).await;
        assert_eq!(reply.status, status, "h2: {h2}: {reply:?}");
    }
}

#[tokio::test]
async fn digits_are_hidden() {
    let config = "{ max_bytes: 32, deny: [], redact_response_digits: 13 }";
    let answer = "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 26\r\n\r\ncard 4111111111111111, 1234";
    let world = example("body-inspector", config, "", Some(answer)).await;
    for h2 in [false, true] {
        let reply = world.ask(&Ask { h2, ..orders() }).await;
        assert!(reply.body.contains("card ****************, 123"), "{reply:?}");
    }
}

#[test_case("header-policy", "{ requre: [x] }"; "a slip")]
#[test_case("quota", "{ requests: 0, seconds: 1 }"; "no requests")]
#[test_case("body-inspector", "{ max_bytes: 0 }"; "no bytes")]
#[tokio::test]
async fn a_configuration_that_an_example_refuses(name: &str, config: &str) {
    let file = format!("{}.wasm", name.replace('-', "_"));
    let module = Path::new(env!("CARGO_MANIFEST_DIR")).join("plugins").join(name).join(file);
    let world = World::new().await;
    let text = edited(world.config_text(), &format!(", config: {config}"), "");
    let text = text.replace("guest.wasm", &module.display().to_string());
    let said = show(&world.apply(&text).unwrap_err());
    assert!(said.contains("refuses its `config`"), "{said}");
}
