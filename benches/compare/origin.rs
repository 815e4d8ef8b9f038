//! The origin: small or large answers, always the same.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Bytes of the body of a small answer.
pub const SMALL: usize = 128;
/// Bytes of the body of a large one; its path ends in `large`.
pub const LARGE: usize = 10 * 1024;

fn answer(size: usize) -> Vec<u8> {
    let head = format!("HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {size}\r\n\r\n");
    [head.as_bytes(), &vec![b'x'; size]].concat()
}

/// Starts it in this runtime; its address.
pub async fn start() -> String {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((stream, _)) = socket.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    address
}

async fn serve(mut stream: TcpStream) {
    stream.set_nodelay(true).unwrap();
    let (small, large) = (answer(SMALL), answer(LARGE));
    let (mut buffer, mut got) = (vec![0; 16 * 1024], 0);
    while let Ok(read @ 1..) = stream.read(&mut buffer[got..]).await {
        got += read;
        if !buffer[..got].ends_with(b"\r\n\r\n") {
            continue;
        }
        let line = buffer[..got].split(|byte| *byte == b'\r').next().unwrap();
        let answer = if line.ends_with(b"large HTTP/1.1") { &large } else { &small };
        got = 0;
        if stream.write_all(answer).await.is_err() {
            return;
        }
    }
}
