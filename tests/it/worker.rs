//! The Worker kit, and the real Workers runtime in front of the real binary.

use crate::support::Needs;
use std::{path::Path, process::Command};

#[test]
fn the_worker_kit_in_the_workers_runtime() {
    if !Needs::program("node", "apt-get install nodejs") {
        return;
    }
    let kit = Path::new(env!("CARGO_MANIFEST_DIR")).join("plugins/edge-worker");
    if !Needs::met(kit.join("node_modules/workerd").is_dir(), "the Workers runtime", "cd plugins/edge-worker && npm ci")
    {
        return;
    }
    let output = Command::new("node")
        .args(["--test", "--test-reporter=tap", "test/kit.test.js", "test/runtime.test.js"])
        .current_dir(&kit)
        .env("BELAY_BIN", env!("CARGO_BIN_EXE_belay"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    let count = |name: &str| {
        let line = said.lines().find_map(|line| line.strip_prefix(&format!("# {name} "))).unwrap();
        line.parse::<u32>().unwrap()
    };
    assert!(count("pass") > 150 && count("skipped") == 0, "{said}");
}
