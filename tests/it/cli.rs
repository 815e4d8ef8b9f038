//! The command line, as people and scripts see it.

use crate::support::{Belay, Site};
use belay::clock::{Clock, System};
use serde_json::Value;
use std::process::Output;

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

async fn site() -> Site {
    Site::new(System.now().unix_seconds()).await
}

#[test]
fn help_teaches() {
    for command in
        [&["--help"][..], &["run", "--help"], &["check", "--help"], &["token", "--help"], &["demo", "--help"]]
    {
        let output = Belay::output(command);
        assert_eq!(code(&output), 0, "{command:?}");
        let help = text(&output.stdout);
        assert!(help.contains("Example") || help.contains("Start here"), "{help}");
    }
}

#[test]
fn a_wrong_command_line_is_64() {
    for args in [
        &["chekc"][..],
        &["run", "--port", "1"],
        &["token", "GET"],
        &[],
        &["demo", "--port", "70000"],
        &["check", "-c"],
    ] {
        let output = Belay::output(args);
        assert_eq!(code(&output), 64, "{args:?}: {}", text(&output.stderr));
        assert!(!text(&output.stderr).is_empty() || !text(&output.stdout).is_empty());
    }
    assert!(text(&Belay::output(&["chekc"]).stderr).contains("'check'"), "it says what was probably meant");
}

#[tokio::test]
async fn check_says_what_is_good_and_what_is_not() {
    let site = site().await;
    let file = site.config();
    let file = file.to_str().unwrap();
    let good = Belay::output(&["check", "-c", file]);
    assert_eq!(code(&good), 0, "{}", text(&good.stderr));
    let said = text(&good.stdout);
    assert!(said.contains("is good: 1 listener, 4 routes, 1 pool, 2 workloads, 5 files; public: status"), "{said}");
    assert_eq!(text(&Belay::output(&["-t", "-c", file]).stdout), said, "-t is the same");

    site.write("belay.yaml", &site.config_text().replace("allow: [checkout]", "allow: [chekcout]"));
    let bad = Belay::output(&["check", "-c", file]);
    assert_eq!(code(&bad), 78);
    let said = text(&bad.stderr);
    assert!(
        said.contains("did you mean `checkout`?") && said.contains("2 errors") && said.contains("belay.yaml:20:13"),
        "{said}"
    );
    assert!(!said.contains('\u{1b}'), "no colours where nobody sees them");
    let json: Value = serde_json::from_slice(&Belay::output(&["check", "--json", "-c", file]).stdout).unwrap();
    assert_eq!((&json["ok"], &json["findings"][0]["line"]), (&Value::Bool(false), &Value::from(20)));
}

#[tokio::test]
async fn check_names_every_broken_file() {
    let site = site().await;
    site.write("lb.key", "");
    site.write("workers-ca.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    std::fs::remove_file(site.folder.path().join("checkout.pub")).unwrap();
    let output = Belay::output(&["check", "-c", site.config().to_str().unwrap()]);
    assert_eq!(code(&output), 78);
    let said = text(&output.stderr);
    for part in [
        "lb.key",
        "holds no private key",
        "workers-ca.pem:1",
        "certificate 1 is broken",
        "checkout.pub",
        "cannot be opened",
        "3 errors",
    ] {
        assert!(said.contains(part), "{part} is not in\n{said}");
    }
}

#[test]
fn a_config_that_is_not_there_is_said_with_a_hint() {
    for command in ["run", "check", "routes"] {
        let output = Belay::output(&[command, "-c", "/nowhere/belay.yaml"]);
        assert_eq!(code(&output), 78);
        let said = text(&output.stderr);
        assert!(said.contains("/nowhere/belay.yaml") && said.contains("belay demo"), "{said}");
    }
}

#[tokio::test]
async fn routes_are_shown_in_order() {
    let site = site().await;
    let output = Belay::output(&["routes", "-c", site.config().to_str().unwrap()]);
    insta::assert_snapshot!(text(&output.stdout));
    let json = Belay::output(&["routes", "--json", "-c", site.config().to_str().unwrap()]);
    let json: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(json[3]["allow"], serde_json::json!(["public"]));
}

#[test]
fn the_schema_is_a_schema() {
    let schema: Value = serde_json::from_slice(&Belay::output(&["schema"]).stdout).unwrap();
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    assert!(schema["$defs"]["Filter"]["properties"]["headers"].is_object());
}

#[tokio::test]
async fn a_token_needs_the_right_key() {
    let site = site().await;
    site.write("token.key", &site.token_keys["checkout"].serialize_pem());
    site.write("forged.key", &site.token_keys["forger"].serialize_pem());
    site.write("checkout.pem", &site.identities["checkout"].pem);
    let path = |name: &str| site.folder.path().join(name).to_str().unwrap().to_owned();
    let (config, cert) = (path("belay.yaml"), path("checkout.pem"));
    let mint = |key: &str, workload: &str, url: &str| {
        Belay::output(&[
            "token",
            "--json",
            "-c",
            &config,
            "--as",
            workload,
            "--key",
            &path(key),
            "--cert",
            &cert,
            "GET",
            url,
        ])
    };
    let good = mint("token.key", "checkout", "https://shop.example.com/orders/7");
    assert_eq!(code(&good), 0, "{}", text(&good.stderr));
    let minted: Value = serde_json::from_slice(&good.stdout).unwrap();
    assert_eq!((&minted["header"], &minted["kid"]), (&Value::from("Edge-Identity"), &Value::from("checkout-1")));
    assert_eq!(minted["token"].as_str().unwrap().split('.').count(), 3);
    for (key, workload, url, expected) in [
        ("forged.key", "checkout", "https://shop.example.com/", "not a key of workload `checkout`"),
        ("token.key", "chekcout", "https://shop.example.com/", "names no workload `chekcout`"),
        ("token.key", "checkout", "http://shop.example.com/", "no https URL"),
        ("checkout.pub", "checkout", "https://shop.example.com/", "holds no key that tokens are signed with"),
        ("none.key", "checkout", "https://shop.example.com/", "cannot be read"),
    ] {
        let bad = mint(key, workload, url);
        assert_eq!(code(&bad), 65, "{expected}");
        assert!(text(&bad.stderr).contains(expected), "{expected}: {}", text(&bad.stderr));
        assert!(bad.stdout.is_empty());
    }
}
