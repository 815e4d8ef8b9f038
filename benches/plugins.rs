#![expect(clippy::unwrap_used, reason = "a bench that cannot set up has nothing to measure")]
//! What a plugin costs a request, with all its limits on. `cargo bench --bench plugins`.

use belay::filter::trial::{Made, Sample, Trial};
use bytes::Bytes;
use criterion::{Criterion, criterion_group, criterion_main};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use std::{fs, hint::black_box, path::Path};

/// Reads a header and writes one, on a request; that is all that it exports.
const SMALL: &str = r#"(module
  (import "env" "proxy_get_header_map_value" (func $get (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_replace_header_map_value" (func $set (param i32 i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 2)
  (data (i32.const 1024) "acceptx-plugin")
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "proxy_on_memory_allocate") (param i32) (result i32) (i32.const 65536))
  (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
    (drop (call $get (i32.const 0) (i32.const 1024) (i32.const 6) (i32.const 0) (i32.const 4)))
    (drop (call $set (i32.const 0) (i32.const 1030) (i32.const 8) (i32.load (i32.const 0)) (i32.load (i32.const 4))))
    (i32.const 0)))"#;

/// Exports nothing that a request would call.
const IDLE: &str = r#"(module
  (memory (export "memory") 1)
  (func (export "proxy_abi_version_0_2_1")))"#;

/// A request as a Worker sends it on.
fn sample() -> Sample {
    let names = [
        "accept",
        "accept-encoding",
        "accept-language",
        "cf-connecting-ip",
        "cf-ipcountry",
        "cf-ray",
        "cf-visitor",
        "cookie",
        "referer",
        "sec-fetch-mode",
        "sec-fetch-site",
        "user-agent",
        "x-tenant",
    ];
    let value = HeaderValue::from_static("text/html,application/xhtml+xml;q=0.9,*/*;q=0.8");
    let headers: HeaderMap = names.into_iter().map(|name| (HeaderName::from_static(name), value.clone())).collect();
    Sample { method: Method::GET, host: "shop.example.com".into(), target: "/orders/7".into(), headers, body: None }
}

fn trial(module: Vec<u8>, config: &str) -> Trial {
    let trial = Trial::new(module.into(), "bench", Bytes::from(config.to_owned()), sample()).unwrap();
    assert!(matches!(trial.run().0, Made::Goes(_)));
    trial
}

fn plugins(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("plugin");
    let example = |name: &str, file: &str| fs::read(Path::new("plugins").join(name).join(file)).unwrap();
    let cases = [
        ("idle", trial(wat::parse_str(IDLE).unwrap(), "")),
        ("header filter, by hand", trial(wat::parse_str(SMALL).unwrap(), "")),
        ("quota, in C", trial(example("quota", "quota.wasm"), r#"{"requests": 1000000000, "seconds": 31622400}"#)),
        (
            "header policy, in Rust",
            trial(example("header-policy", "header_policy.wasm"), r#"{"require": ["x-tenant"]}"#),
        ),
    ];
    for (name, trial) in &cases {
        // From the plugin's first look at the request to its end; the copy of the head that it works on does not count.
        let runs = |count: u64| (0..count).map(|_| black_box(trial.run()).1).sum();
        group.bench_function(*name, |bencher| bencher.iter_custom(runs));
    }
    group.finish();
}

criterion_group!(benches, plugins);
criterion_main!(benches);
