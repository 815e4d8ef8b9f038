//! `belay plugin check`.

use super::*;
use crate::support::Belay;
use serde_json::json;
use std::{fs, path::Path};
use tempfile::TempDir;

fn check(args: &[&str]) -> (i32, String) {
    let output = Belay::output(&[&["plugin", "check"], args].concat());
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap_or_default(), text(&output.stdout) + &text(&output.stderr))
}

fn example(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("plugins").join(name);
    folder.join(format!("{}.wasm", name.replace('-', "_"))).to_string_lossy().into_owned()
}

#[test]
fn it_says_what_a_plugin_needs_and_does() {
    let config = r#"{"require": ["x-tenant"], "response": {"remove": ["server"]}}"#;
    let policy = example("header-policy");
    let (code, said) = check(&[&policy, "--config", config]);
    assert_eq!(code, 0, "{said}");
    for part in
        ["env.proxy_log", "answer that they are not there:\n  env.proxy_", "is answered 400", "the middle of 1000 more"]
    {
        assert!(said.contains(part), "{part}: {said}");
    }
    let (code, said) =
        check(&[&policy, "--config", config, "-H", "X-Tenant: shop", "--json", "GET", "https://shop.example.com/a"]);
    let told = serde_json::Deserializer::from_str(&said).into_iter::<Value>().next().unwrap().unwrap();
    assert_eq!((code, &told["ok"], &told["request"]["goes"]), (0, &json!(true), &json!(true)));
    assert_eq!(told["request"]["headers"], json!([["x-tenant", "shop"]]));
    assert!(told["median_ns"].as_u64().unwrap() > 0);
}

#[test]
fn it_says_what_is_wrong() {
    let folder = TempDir::new().unwrap();
    let file = |name: &str, content: &[u8]| {
        let path = folder.path().join(name);
        fs::write(&path, content).unwrap();
        path.to_string_lossy().into_owned()
    };
    let marker = "(memory (export \"memory\") 1) (func (export \"proxy_abi_version_0_2_1\"))";
    let needs = wat::parse_str(format!("(module (import \"env\" \"open_door\" (func)) {marker})")).unwrap();
    let crashes = Guest::new().on_request("(unreachable)").module();
    let cases = [
        (vec![file("needs.wasm", &needs)], 65, "open_door"),
        (vec![file("text.wasm", b"text")], 65, "is no WebAssembly"),
        (vec![folder.path().join("gone.wasm").to_string_lossy().into_owned()], 65, "cannot be read"),
        (vec![file("crashes.wasm", &crashes)], 1, "is refused"),
        (vec![file("fine.wasm", &Guest::new().module()), "GET".into(), "/nowhere".into()], 64, "no URL with a host"),
        (vec![example("quota"), "--config".into(), "{}".into()], 65, "refuses its `config`"),
    ];
    for (args, expected, message) in cases {
        let args: Vec<_> = args.iter().map(String::as_str).collect();
        let (code, said) = check(&args);
        assert_eq!(code, expected, "{args:?}: {said}");
        assert!(said.contains(message), "{args:?}: {said}");
    }
}
