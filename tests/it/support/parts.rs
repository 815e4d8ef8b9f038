//! Waiting for facts, and parts that a machine may lack.

use std::{
    io::Write,
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

/// An address that nobody listens at, and nobody else takes: a socket holds it to the end of the process, and makes room
/// for one that listens.
pub fn free() -> String {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = socket.local_addr().unwrap().to_string();
    Box::leak(Box::new(socket));
    address
}

/// A program that a test needs and a machine may lack.
pub struct Needs;

impl Needs {
    /// Whether the program runs. Without it the test is skipped, loudly; with `BELAY_TEST_ALL=1` that is a failure.
    pub fn program(name: &str, hint: &str) -> bool {
        // Not every program knows this word, but all of them end.
        let mut run = Command::new(name);
        run.arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Self::met(run.status().is_ok(), name, hint)
    }

    pub fn met(there: bool, what: &str, hint: &str) -> bool {
        let all = std::env::var("BELAY_TEST_ALL").is_ok_and(|value| value == "1");
        assert!(there || !all, "{what} is needed, as BELAY_TEST_ALL=1 says: {hint}");
        if !there {
            // Straight to the descriptor: the test harness keeps what a passing test prints to itself.
            let said = format!("SKIPPED: {what} is not there ({hint})\n");
            std::io::stderr().write_all(said.as_bytes()).unwrap();
        }
        there
    }
}
