//! Checks below HTTP: a connection, a handshake, a word and its answer.

use super::Target;
use super::http::said;
use crate::config::TcpCheck;
use pingora::connectors::TransportConnector;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// The most of an answer that is read.
const ANSWER_MAX: usize = 16 * 1024;

/// Connects, over TLS where the pool has it, and compares the answer if one is expected.
pub(super) async fn look(target: &Target<'_>, check: &TcpCheck, connector: &TransportConnector) -> Result<(), String> {
    let mut stream = Box::pin(connector.new_stream(&target.peer()?)).await.map_err(said)?;
    let broken = |error: std::io::Error| error.kind().to_string();
    if !check.send.is_empty() {
        stream.write_all(check.send.as_bytes()).await.map_err(broken)?;
        stream.flush().await.map_err(broken)?;
    }
    let expected = check.expect.as_bytes();
    if expected.is_empty() {
        return Ok(());
    }
    let mut answer = Vec::new();
    while answer.len() < ANSWER_MAX {
        if stream.read_buf(&mut answer).await.map_err(broken)? == 0 {
            break;
        }
        if answer.windows(expected.len()).any(|part| part == expected) {
            return Ok(());
        }
    }
    Err("its answer is not what the check expects".into())
}
