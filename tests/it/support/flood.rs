//! A client that pings without end.

use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time;

const BEGIN: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
const PING: [u8; 17] = *b"\0\0\x08\x06\0\0\0\0\0pingpong";

/// Floods until the connection ends.
pub async fn until_cut<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S) {
    let flood = async {
        stream.write_all(BEGIN).await.unwrap();
        let mut answer = [0; 4096];
        while stream.write_all(&PING.repeat(10)).await.is_ok()
            && stream.read(&mut answer).await.is_ok_and(|read| read > 0)
        {}
    };
    time::timeout(Duration::from_secs(10), flood).await.unwrap();
}
