//! An origin that tells which of its connections a request came by, and how that began.

use belay::network::proxy_protocol::{self, Header};
use serde_json::json;
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, UnixListener};

/// What an origin does with each connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begins {
    /// With a request.
    Plainly,
    /// With a header of the PROXY protocol; what has none is closed.
    Introduced,
}

/// An origin at a port of its own.
pub async fn recorder(begins: Begins) -> String {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        for number in 1.. {
            let (stream, _) = socket.accept().await.unwrap();
            tokio::spawn(converse(stream, begins, number, Arc::default()));
        }
    });
    address
}

/// An origin at a Unix socket.
pub fn at_unix_socket(path: &std::path::Path) {
    let socket = UnixListener::bind(path).unwrap();
    tokio::spawn(async move {
        for number in 1.. {
            let (stream, _) = socket.accept().await.unwrap();
            tokio::spawn(converse(stream, Begins::Plainly, number, Arc::default()));
        }
    });
}

async fn converse(
    mut stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    begins: Begins,
    connection: usize,
    requests: Arc<AtomicUsize>,
) {
    let client = match begins {
        Begins::Plainly => None,
        Begins::Introduced => match introduction(&mut stream).await {
            Some(client) => client,
            None => return,
        },
    };
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let Ok(byte) = stream.read_u8().await else { return };
            head.push(byte);
        }
        let head = String::from_utf8(head).unwrap();
        let cookies =
            head.lines().find_map(|line| line.strip_prefix("Cookie: ").or_else(|| line.strip_prefix("cookie: ")));
        let request = requests.fetch_add(1, Ordering::Relaxed) + 1;
        let body = json!({ "origin": "recorder", "connection": connection, "request": request, "client": client,
            "path": head.split(' ').nth(1), "cookies": cookies })
        .to_string();
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// Whom the header of the PROXY protocol names; none if there is no such header.
async fn introduction(stream: &mut (impl AsyncRead + Unpin)) -> Option<Option<String>> {
    let mut bytes = Vec::new();
    loop {
        match proxy_protocol::read(&bytes).ok()? {
            Header::Whole { client } => return Some(client.map(|client| client.to_string())),
            Header::Needs(more) => {
                let mut piece = vec![0; more];
                stream.read_exact(&mut piece).await.ok()?;
                bytes.extend(piece);
            }
        }
    }
}
