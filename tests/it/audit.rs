//! The audit log proves that nobody has changed it.

use crate::support::{Ask, Belay, Running};
use serde_json::Value;
use std::path::Path;

fn verify(file: &Path) -> (Option<i32>, String) {
    let output = Belay::output(&["audit", "verify", file.to_str().unwrap()]);
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code(), text(&output.stdout) + &text(&output.stderr))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_recorded_is_proven_and_what_was_changed_is_told() {
    let running = Running::new().await;
    for target in ["/orders/1", "/orders/2", "/nowhere", "/orders/3"] {
        running.status(&Ask::get(target)).await;
    }
    let Running { site, belay } = running;
    belay.stop();
    // A second process goes on in the same file.
    let belay = Belay::start(&["run", "--json", "-c", site.config().to_str().unwrap()]);
    let again = Running::healthy(site, belay).await;
    assert_eq!(again.status(&Ask { certificate: None, signer: None, ..Ask::get("/status") }).await, 200);
    let Running { site, belay } = again;
    belay.stop();
    let log = site.folder.path().join("audit.jsonl");
    let text = std::fs::read_to_string(&log).unwrap();
    let lines: Vec<_> = text.lines().collect();
    let (code, said) = verify(&log);
    assert!(code == Some(0) && said.starts_with(&format!("{} records are proven\n", lines.len())), "{said}");
    assert_eq!(said.matches("  boot ").count(), 2, "{said}");
    let told = |edited: &str| {
        site.write("edited.jsonl", edited);
        verify(&site.folder.path().join("edited.jsonl"))
    };
    // Somebody would rather have been allowed.
    let at = lines.iter().position(|line| line.contains("/nowhere")).unwrap();
    let (code, said) = told(&text.replacen("\"decision\":\"deny\"", "\"decision\":\"allow\"", 1));
    assert!(
        code == Some(1) && said.contains("was altered") && said.contains(&format!("edited.jsonl:{}", at + 1)),
        "{said}"
    );
    // Or never have been there.
    let without = lines.iter().enumerate().filter(|(index, _)| *index != at).map(|(_, line)| format!("{line}\n"));
    let (code, said) = told(&without.collect::<String>());
    let sequence = serde_json::from_str::<Value>(lines[at]).unwrap()["event"]["sequence"].as_u64().unwrap();
    assert!(code == Some(2) && said.contains(&format!("record {sequence} of boot")), "{said}");
    let (code, said) = told(&format!("{text}hello\n"));
    assert!(code == Some(1) && said.contains("this is no record of an audit log"), "{said}");
    // In the middle of being written.
    assert_eq!(told(&text[..text.len() - 20]).0, Some(0));
    let (code, said) = verify(&site.folder.path().join("gone.jsonl"));
    assert!(code == Some(69) && said.contains("gone.jsonl"), "{said}");
}
