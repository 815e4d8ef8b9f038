//! An origin that is a process of its own, so that it can be killed and stopped: this test program, started as one.

use std::{
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    process::{Child, ChildStdout, Command, Stdio},
    thread,
};

/// Says where to listen, to the program that is to be an origin.
const PLACE: &str = "BELAY_TEST_ORIGIN";

/// Not a test: what `Process::start` runs. Does nothing in a usual run.
#[test]
fn an_origin_if_it_is_started_as_one() {
    let Ok(place) = std::env::var(PLACE) else { return };
    let socket = TcpListener::bind(place).unwrap();
    std::io::stdout().write_all(format!("listens at {}\n", socket.local_addr().unwrap()).as_bytes()).unwrap();
    for stream in socket.incoming() {
        thread::spawn(move || converse(stream.unwrap()));
    }
}

/// Answers `/healthz` and most others at once; what begins with `/orders/half` begins to be answered, and never
/// ends.
fn converse(mut stream: TcpStream) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head).unwrap_or(0) == 0 {
                return;
            }
        }
        let path = head.split(' ').nth(1).unwrap_or_default();
        let answer = match path {
            "/orders/half-counted" => "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf",
            "/orders/half-chunked" => "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
            _ => "HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n{\"origin\":\"process\"}",
        };
        if stream.write_all(answer.as_bytes()).is_err() {
            return;
        }
        if path.starts_with("/orders/half") {
            thread::park();
        }
    }
}

/// A running origin, killed when it is dropped.
pub struct Process {
    child: Child,
    pub address: String,
    _said: BufReader<ChildStdout>,
}

impl Process {
    pub fn start() -> Self {
        Self::at("127.0.0.1:0")
    }

    pub fn at(place: &str) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "support::process::an_origin_if_it_is_started_as_one", "--nocapture"]);
        let mut child = command.env(PLACE, place).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut said = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        let address = loop {
            line.clear();
            assert!(said.read_line(&mut line).unwrap() > 0, "it ended");
            if let Some((_, address)) = line.trim().split_once("listens at ") {
                break address.to_owned();
            }
        };
        Self { child, address, _said: said }
    }

    /// It does nothing any more, and its connections stay open.
    pub fn stop(&self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}
