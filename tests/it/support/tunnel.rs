//! Tunnels: what grants one, and what goes through.

use super::site::HOST;
use super::world::World;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::client::TlsStream;

/// What grants the upgrade.
pub const SWITCHED: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";

/// An origin that answers an upgrade, and then says what it hears.
pub async fn origin(answer: &'static str) -> String {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((stream, _)) = socket.accept().await {
            tokio::spawn(echo_after(answer, stream));
        }
    });
    address
}

async fn echo_after(answer: &'static str, mut stream: TcpStream) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(byte) = stream.read_u8().await else { return };
        head.push(byte);
    }
    stream.write_all(answer.as_bytes()).await.unwrap();
    let (mut from, mut to) = stream.split();
    tokio::io::copy(&mut from, &mut to).await.unwrap_or_default();
}

/// A request for an upgrade.
pub fn asking() -> String {
    asking_at("/mtls")
}

fn asking_at(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: {HOST}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
}

/// A tunnel that was granted.
pub async fn open(world: &World) -> TlsStream<DuplexStream> {
    open_at(world, "/mtls").await
}

/// The same at another path.
pub async fn open_at(world: &World, path: &str) -> TlsStream<DuplexStream> {
    let mut stream = world.connect(Some("checkout"), &[]).await;
    stream.write_all(asking_at(path).as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(stream.read_u8().await.unwrap());
    }
    assert!(answer.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&answer));
    stream
}
