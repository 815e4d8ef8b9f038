//! Requests at a steady pace, and what became of them.

use super::proxies::Proxy;
use parking_lot::Mutex;
use std::{
    rc::Rc,
    time::{Duration, Instant},
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::LocalSet;
use tokio::time;

/// For an answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// What became of a request.
#[derive(Debug, Clone)]
pub struct Answer {
    /// When it was due, from the beginning.
    pub due: Duration,
    /// From then to its answer.
    pub took: Duration,
    /// Who has answered; nobody if it failed.
    pub server: Option<String>,
}

/// Clients of a proxy that keep their connections.
pub struct Load {
    address: String,
    rate: u32,
    idle: Rc<Mutex<Vec<TcpStream>>>,
}

impl Load {
    pub fn new(proxy: &Proxy, rate: u32) -> Self {
        Self { address: proxy.address.clone(), rate, idle: Rc::default() }
    }

    /// Asks for so long, and gives the answers in the order in which they were due.
    pub async fn run(&self, length: Duration) -> Vec<Answer> {
        let start = Instant::now();
        let local = LocalSet::new();
        let asks = (0..u32::try_from(length.as_micros() * u128::from(self.rate) / 1_000_000).unwrap()).map(|number| {
            let due = Duration::from_secs(1) * number / self.rate;
            local.spawn_local(ask_when_due(due, start, self.address.clone(), Rc::clone(&self.idle)))
        });
        let asks: Vec<_> = asks.collect();
        let answers = async {
            let mut answers = Vec::new();
            for ask in asks {
                answers.push(ask.await.unwrap());
            }
            answers
        };
        local.run_until(answers).await
    }
}

async fn ask_when_due(due: Duration, start: Instant, address: String, idle: Rc<Mutex<Vec<TcpStream>>>) -> Answer {
    time::sleep_until((start + due).into()).await;
    let server = time::timeout(ANSWER_WITHIN, ask(&address, &idle)).await.ok().flatten();
    Answer { due, took: start.elapsed() - due, server }
}

/// Who answers; nobody if it is no good answer.
async fn ask(address: &str, idle: &Mutex<Vec<TcpStream>>) -> Option<String> {
    let kept = idle.lock().pop();
    let mut stream = match kept {
        Some(stream) => stream,
        None => TcpStream::connect(address).await.ok()?,
    };
    stream.set_nodelay(true).ok()?;
    stream.write_all(b"GET /work HTTP/1.1\r\nhost: shop.example.com\r\n\r\n").await.ok()?;
    let mut received = Vec::new();
    while !received.ends_with(b"\r\n\r\nok") {
        let mut buffer = [0; 4096];
        let length = stream.read(&mut buffer).await.ok().filter(|length| *length > 0)?;
        received.extend(&buffer[..length]);
        if !received.starts_with(b"HTTP/1.1 200") {
            return None;
        }
    }
    idle.lock().push(stream);
    let text = String::from_utf8(received).ok()?;
    text.lines().find_map(|line| line.strip_prefix("x-server: ")).map(str::to_owned)
}

/// The time within which so many percent were answered; none at all if nobody was.
pub fn percentile<'a>(answers: impl Iterator<Item = &'a Answer>, percent: usize) -> Duration {
    let mut times: Vec<_> = answers.map(|answer| answer.took).collect();
    times.sort_unstable();
    let index = (times.len() * percent).div_ceil(100);
    times.get(index.saturating_sub(1)).copied().unwrap_or_default()
}
