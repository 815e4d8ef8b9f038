//! The demo, from its own lines: what it says will happen, happens.

use crate::support::{Belay, Needs, eventually};
use serde_json::Value;
use std::process::Command;

fn statuses(demo: &Belay, command: &str) -> Vec<u16> {
    let output = Command::new("sh")
        .args(["-c", command])
        .current_dir(demo.path("folder"))
        .env("URL", demo.ready["url"].as_str().unwrap())
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let statuses = said.lines().filter_map(|line| line.strip_prefix("-> ")).map(|status| status.parse().unwrap());
    let statuses: Vec<_> = statuses.collect();
    assert!(!statuses.is_empty(), "{command}: {said}{}", String::from_utf8_lossy(&output.stderr));
    statuses
}

#[test]
fn every_line_of_the_demo_does_what_it_says() {
    if !Needs::program("curl", "apt-get install curl") {
        return;
    }
    let demo = Belay::start(&["demo", "--json"]);
    let mut steps = 0;
    for step in ["passing", "refused"].into_iter().flat_map(|kind| demo.ready[kind].as_array().unwrap()) {
        let expected: Vec<_> = step["statuses"]
            .as_array()
            .unwrap()
            .iter()
            .map(|status| u16::try_from(status.as_u64().unwrap()).unwrap())
            .collect();
        let seen = statuses(&demo, step["command"].as_str().unwrap());
        assert_eq!(seen, expected, "{step:#}\n{}", std::fs::read_to_string(demo.path("audit")).unwrap());
        steps += 1;
    }
    assert_eq!(steps, 16);
    eventually("every refusal has its record", || {
        let log = std::fs::read_to_string(demo.path("audit")).unwrap();
        let denied = log.lines().filter(|line| line.contains("\"decision\":\"deny\"")).count();
        (denied == 12).then_some(())
    });
    let folder = demo.path("folder");
    assert!(folder.is_dir());
    let (code, said) = demo.stop();
    assert_eq!(code, Some(0), "{said}");
    assert!(!folder.exists(), "it leaves nothing behind");
}

#[test]
fn the_demos_folder_is_its_own() {
    let taken = tempfile::tempdir().unwrap();
    let output = Belay::output(&["demo", "--dir", taken.path().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(69), "a folder that is there already is not written into");
    let kept = taken.path().join("new");
    let demo = Belay::start(&["demo", "--json", "--dir", kept.to_str().unwrap()]);
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&kept).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o700, "nobody else looks into it");
    assert_eq!(demo.ready["event"], Value::from("ready"));
    demo.stop();
    assert!(kept.join("belay.yaml").is_file(), "a folder that was named is kept");
}

#[test]
fn people_read_the_same_steps() {
    let Ok(mut child) =
        Belay::program().arg("demo").stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::null()).spawn()
    else {
        panic!("the demo does not start");
    };
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap()));
    let mut text = String::new();
    while !text.contains("Ctrl-C stops it") {
        text.push_str(&lines.next().unwrap().unwrap());
        text.push('\n');
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let folder = text.lines().find_map(|line| line.strip_prefix("  cd ")).unwrap().to_owned();
    std::fs::remove_dir_all(&folder).unwrap();
    let mut settings = insta::Settings::clone_current();
    settings.add_filter(r"belay-demo-[0-9a-f]{8}", "belay-demo-NEW");
    settings.add_filter(&regex_of(&std::env::temp_dir()), "/tmp");
    settings.add_filter(r"127\.0\.0\.1:\d+", "127.0.0.1:PORT");
    settings.add_filter(r"kill -HUP \d+", "kill -HUP PID");
    settings.add_filter(r"example\.com:\d+", "example.com:PORT");
    settings.bind(|| insta::assert_snapshot!(text));
}

fn regex_of(path: &std::path::Path) -> String {
    path.to_str().unwrap().trim_end_matches('/').replace('.', r"\.")
}
