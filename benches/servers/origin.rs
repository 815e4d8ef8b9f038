//! A small server, in a process of its own.

use std::{
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    process::{Child, ChildStdout, Command, Stdio},
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::Duration,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Makes this program a server of the name that follows.
pub const FLAG: &str = "--origin";
/// How long an answer takes.
pub const USUAL_DELAY: Duration = Duration::from_millis(2);

static DELAY_MILLIS: AtomicU64 = AtomicU64::new(2);

/// Serves until it is killed; its first line says where.
pub fn serve(name: &str) {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    println!("{}", socket.local_addr().unwrap());
    let name = name.to_owned();
    for stream in socket.incoming() {
        let (stream, name) = (stream.unwrap(), name.clone());
        thread::spawn(move || converse(stream, &name));
    }
}

fn converse(stream: TcpStream, name: &str) {
    stream.set_nodelay(true).unwrap();
    let (mut reader, mut writer) = (BufReader::new(stream.try_clone().unwrap()), stream);
    loop {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            match reader.read_line(&mut line) {
                Ok(0) | Err(_) => return,
                Ok(_) if line == "\r\n" => break,
                Ok(_) => lines.push(line),
            }
        }
        let path = lines[0].split(' ').nth(1).unwrap_or("/");
        match path.strip_prefix("/delay/") {
            Some(millis) => DELAY_MILLIS.store(millis.parse().unwrap(), Ordering::Relaxed),
            None if path == "/healthz" => {}
            None => thread::sleep(Duration::from_millis(DELAY_MILLIS.load(Ordering::Relaxed))),
        }
        let answer = format!("HTTP/1.1 200 OK\r\nx-server: {name}\r\ncontent-length: 2\r\n\r\nok");
        if writer.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

/// A running server; it is killed when this is dropped.
pub struct Origin {
    process: Child,
    pub name: &'static str,
    pub address: String,
    /// Held open, so that it never writes into nothing.
    _said: BufReader<ChildStdout>,
}

impl Origin {
    pub fn start(name: &'static str) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        let mut process = command.args([FLAG, name]).stdout(Stdio::piped()).spawn().unwrap();
        let mut said = BufReader::new(process.stdout.take().unwrap());
        let mut address = String::new();
        said.read_line(&mut address).unwrap();
        Self { process, name, address: address.trim().to_owned(), _said: said }
    }

    /// From now on an answer takes that long.
    pub async fn delay(&self, delay: Duration) {
        let mut stream = tokio::net::TcpStream::connect(&self.address).await.unwrap();
        let request = format!("GET /delay/{} HTTP/1.1\r\nhost: a\r\n\r\n", delay.as_millis());
        stream.write_all(request.as_bytes()).await.unwrap();
        stream.read_u8().await.unwrap();
    }

    /// It does nothing any more, and its connections stay open.
    pub fn stop(&self) {
        let pid = rustix::process::Pid::from_child(&self.process);
        rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}
