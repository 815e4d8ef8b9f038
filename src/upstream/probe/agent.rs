//! Agents: programs beside the servers that say how they are, in HAProxy's text protocol.
//!
//! They are asked at a port of their own and answer a line such as `75% up` or `drain # backup runs`.
//! <https://docs.haproxy.org/3.2/configuration.html#5.2-agent-check>

use super::Target;
use super::http::said;
use crate::config::AgentCheck;
use crate::upstream::mode::{Mode, Said};
use pingora::connectors::TransportConnector;
use pingora::upstreams::peer::HttpPeer;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// The longest line.
const LINE_MAX: usize = 1024;

/// Asks the agent; its line.
pub(super) async fn ask(
    target: &Target<'_>,
    agent: &AgentCheck,
    connector: &TransportConnector,
) -> Result<String, String> {
    let host = target.server.address.ip().ok_or("a Unix socket has no agent beside it")?;
    let address = SocketAddr::new(host, agent.port);
    let mut peer = HttpPeer::new(address, false, String::new());
    peer.options.connection_timeout = Some(agent.timeout);
    let mut stream = Box::pin(connector.new_stream(&peer)).await.map_err(said)?;
    let broken = |error: std::io::Error| error.kind().to_string();
    if !agent.send.is_empty() {
        stream.write_all(agent.send.as_bytes()).await.map_err(broken)?;
        stream.flush().await.map_err(broken)?;
    }
    let mut line = Vec::new();
    while !line.contains(&b'\n') && line.len() < LINE_MAX {
        if stream.read_buf(&mut line).await.map_err(broken)? == 0 {
            break;
        }
    }
    Ok(String::from_utf8_lossy(&line).lines().next().unwrap_or_default().to_owned())
}

/// Takes a line at its words; what it does not say stays as it was. Words that are not known are ignored, as HAProxy
/// does.
pub(super) fn take(line: &str, told: &Said) {
    let words = line.split('#').next().unwrap_or_default();
    for word in words.split([' ', '\t', ',']) {
        match (word, word.strip_suffix('%').map(str::parse::<u32>)) {
            ("up", _) => told.set_down(false),
            ("down" | "failed" | "stopped", _) => told.set_down(true),
            ("ready", _) => told.set_mode(Mode::Ready),
            ("drain", _) => told.set_mode(Mode::Draining),
            ("maint", _) => told.set_mode(Mode::Maintenance),
            (_, Some(Ok(percent))) if percent <= 256 => told.set_weight(Some(percent)),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use test_case::test_case;

    #[test_case("up", (false, Mode::Ready, None); "up")]
    #[test_case("75% ready up", (false, Mode::Ready, Some(75)); "a share")]
    #[test_case("down # the disk is full, up to 100%", (true, Mode::Ready, None); "down, with its reason")]
    #[test_case("drain,50%", (false, Mode::Draining, Some(50)); "with a comma")]
    #[test_case("maint\t0%", (false, Mode::Maintenance, Some(0)); "with a tab")]
    #[test_case("stopped", (true, Mode::Ready, None); "stopped")]
    #[test_case("maxconn:30 999% UP", (false, Mode::Ready, None); "nothing that is known")]
    #[test_case("", (false, Mode::Ready, None); "nothing")]
    fn a_line(line: &str, expected: (bool, Mode, Option<u32>)) {
        let told = Said::default();
        take(line, &told);
        assert_eq!((told.is_down(), told.mode(), told.weight()), expected);
    }

    #[test]
    fn what_is_not_said_stays() {
        let told = Said::default();
        ["down 30%", "drain"].iter().for_each(|line| take(line, &told));
        assert_eq!((told.is_down(), told.mode(), told.weight()), (true, Mode::Draining, Some(30)));
        take("up ready 100%", &told);
        assert_eq!((told.is_down(), told.mode(), told.weight()), (false, Mode::Ready, Some(100)));
    }
}
