//! The real binary.

use super::parts::eventually;
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde_json::Value;
use std::{
    fs,
    io::{BufRead, BufReader, Read},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::OnceLock,
    thread::{self, JoinHandle},
};

/// A running `belay`, stopped when it is dropped.
pub struct Belay {
    child: Child,
    /// What it has said on standard error, and those who have it, too.
    said: Option<JoinHandle<String>>,
    /// The first line that it printed.
    pub ready: Value,
}

/// A process that has replaced another; killed when it is dropped.
pub struct Successor(pub Pid);

impl Successor {
    /// The one that an upgrade's answer names.
    pub fn of(answer: &Value) -> Option<Self> {
        let pid = answer["pid"].as_i64().filter(|_| answer["result"] == "replaced")?;
        Pid::from_raw(i32::try_from(pid).ok()?).map(Self)
    }

    pub fn kill(&self) {
        // It may have ended.
        kill_process(self.0, Signal::KILL).ok();
    }

    pub fn is_alive(&self) -> bool {
        test_kill_process(self.0).is_ok()
    }
}

impl Drop for Successor {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Belay {
    pub fn program() -> Command {
        Command::new(env!("CARGO_BIN_EXE_belay"))
    }

    /// The same in a place that only root can change, as an upgrade demands; wherever it was built.
    pub fn roots_program() -> Command {
        static COPY: OnceLock<PathBuf> = OnceLock::new();
        Command::new(COPY.get_or_init(copied))
    }

    /// Runs a command to its end.
    pub fn output(args: &[&str]) -> Output {
        Self::program().args(args).stdin(Stdio::null()).output().unwrap()
    }

    /// Starts a command that prints a line of JSON when it is ready, and goes on.
    pub fn start(args: &[&str]) -> Self {
        let mut command = Self::program();
        command.args(args);
        Self::spawn(command)
    }

    /// The same, by a command that becomes `belay`.
    pub fn spawn(mut command: Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let ready = serde_json::from_str(&line).unwrap_or_else(|error| {
            child.kill().unwrap();
            let mut said = String::new();
            child.stderr.as_mut().unwrap().read_to_string(&mut said).unwrap();
            panic!("not ready: {error}: {line:?}\n{said}")
        });
        // Read on, or nobody would take what it says.
        let mut stderr = child.stderr.take().unwrap();
        let said = thread::spawn(move || {
            let mut said = String::new();
            stderr.read_to_string(&mut said).unwrap();
            said
        });
        Self { child, said: Some(said), ready }
    }

    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Asks it to do something.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// Stops it; its exit code and what it said.
    pub fn stop(self) -> (Option<i32>, String) {
        self.signal("TERM");
        self.wait()
    }

    /// Waits for its end; its exit code.
    pub fn ends(&mut self) -> Option<i32> {
        eventually("the process ends", || self.child.try_wait().unwrap()).code()
    }

    /// Waits for its end; its exit code and what it said, and those who have its standard error, too.
    pub fn wait(mut self) -> (Option<i32>, String) {
        let code = self.ends();
        (code, self.said.take().unwrap().join().unwrap())
    }

    pub fn path(&self, key: &str) -> PathBuf {
        self.ready[key].as_str().unwrap().into()
    }
}

/// Copies the program to a folder of this process, and removes those of processes that are gone.
fn copied() -> PathBuf {
    let prefix = "belay-tests-program-";
    for entry in fs::read_dir(std::env::temp_dir()).unwrap().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let of_nobody = |pid: &str| !Path::new("/proc").join(pid).exists();
        if name.strip_prefix(prefix).is_some_and(of_nobody) {
            // Another test may do the same.
            fs::remove_dir_all(entry.path()).unwrap_or_default();
        }
    }
    let folder = std::env::temp_dir().join(format!("{prefix}{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
    let copy = folder.join("belay");
    fs::copy(env!("CARGO_BIN_EXE_belay"), &copy).unwrap();
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).unwrap();
    copy
}

impl Drop for Belay {
    fn drop(&mut self) {
        // It may have ended already.
        self.child.kill().unwrap_or_default();
        self.child.wait().unwrap();
    }
}
