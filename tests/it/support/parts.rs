//! Waiting for facts, and parts that a machine may lack.

use std::{
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// Waits until a fact is there, 20 s at most.
pub fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "never seen: {what}");
        thread::park_timeout(Duration::from_millis(5));
    }
}

/// A program that a test needs and a machine may lack.
pub struct Needs;

impl Needs {
    /// Whether the program runs. Without it the test is skipped, loudly; with `BELAY_TEST_ALL=1` that is a failure.
    pub fn program(name: &str, hint: &str) -> bool {
        let run = Command::new(name).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        Self::met(run.is_ok_and(|status| status.success()), name, hint)
    }

    pub fn met(there: bool, what: &str, hint: &str) -> bool {
        let all = std::env::var("BELAY_TEST_ALL").is_ok_and(|value| value == "1");
        assert!(there || !all, "{what} is needed, as BELAY_TEST_ALL=1 says: {hint}");
        if !there {
            eprintln!("SKIPPED: {what} is not there ({hint})");
        }
        there
    }
}
