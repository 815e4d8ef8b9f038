//! The README's own commands, run as they stand there.

use crate::support::Needs;
use std::{
    fs,
    net::TcpListener,
    path::Path,
    process::{Command, Stdio},
};

/// The shell blocks of a chapter, in order.
fn blocks<'a>(text: &'a str, from: &str, to: &str) -> Vec<&'a str> {
    let chapter = text.split_once(from).unwrap().1.split_once(to).unwrap().0;
    chapter.split("```sh\n").skip(1).map(|block| block.split_once("```").unwrap().0).collect()
}

#[test]
fn the_first_protected_route_works_as_written() {
    let needed = ["bash", "openssl", "python3", "curl"];
    if !needed.iter().all(|name| Needs::program(name, "apt-get install openssl python3 curl")) {
        return;
    }
    let text = fs::read_to_string("README.md").unwrap();
    let blocks = blocks(&text, "## Your first protected route", "## Operating it");
    let [prepare, rest @ ..] = blocks.as_slice() else { panic!("no commands") };
    assert!(prepare.contains("cp conf/minimal.yaml ../first-route/belay.yaml"), "{prepare}");
    // What the first block does, beside this checkout's own build.
    let folder = tempfile::tempdir().unwrap();
    fs::copy("conf/minimal.yaml", folder.path().join("belay.yaml")).unwrap();
    let program = Path::new(env!("CARGO_BIN_EXE_belay")).parent().unwrap();
    let script = format!(
        "set -e\ntrap 'kill $(jobs -p) 2>/dev/null' EXIT\nexport PATH=\"{}:$PATH\"\nbelay schema > belay.schema.json\nmkdir certs keys\n{}\nkill %1 %2\n",
        program.display(),
        rest.join("\n").replace("belay run &\n", "belay run &\nfor port in 8080 8443; do until (exec 3<>/dev/tcp/127.0.0.1/$port) 2>/dev/null; do sleep 0.05; done; done\n")
    );
    let (script, config) = on_free_ports(&script, &fs::read_to_string(folder.path().join("belay.yaml")).unwrap());
    fs::write(folder.path().join("belay.yaml"), config).unwrap();
    let output = Command::new("timeout")
        .args(["60", "bash", "-c", &script])
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}\n{errors}");
    for part in ["belay.yaml is good: 1 listener, 1 route", "order 7", "401", "error_description=\"binding\""] {
        assert!(said.contains(part), "{part} is not in\n{said}\n{errors}");
    }
}

/// The same text for ports that nobody uses. They lie below those that the system gives to whoever asks for any, so
/// that none is taken between here and there.
fn on_free_ports(script: &str, config: &str) -> (String, String) {
    let first = 20_000 + u16::try_from(std::process::id() % 5_000).unwrap() * 2;
    let is_free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    let ports: Vec<_> = (first..32_000).filter(is_free).take(2).map(|port| port.to_string()).collect();
    let change = |text: &str| text.replace("8443", &ports[0]).replace("8080", &ports[1]);
    (change(script), change(config))
}

#[test]
fn the_readmes_config_is_the_example() {
    let text = fs::read_to_string("README.md").unwrap();
    let example = fs::read_to_string("conf/minimal.yaml").unwrap();
    let shown = text.split_once("```yaml\n").unwrap().1.split_once("```").unwrap().0;
    assert_eq!(shown.trim(), example.trim());
}
