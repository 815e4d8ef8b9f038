//! Pools with servers of all kinds.

use super::client::Ask;
use super::parts::free;
use super::site::{NOW, Site, origin};
use super::world::{World, settled, show};
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time;

/// What servers do beside answering well.
const KINDS: [(&str, Kind); 7] = [
    ("@slow", Kind::Slow),
    ("@stuck", Kind::Answers("200 OK", Duration::MAX)),
    ("@busy", Kind::Answers("503 Service Unavailable", Duration::ZERO)),
    ("@broken", Kind::Answers("500 Internal Server Error", Duration::ZERO)),
    ("@closing", Kind::Closes),
    ("@dying", Kind::Dies),
    ("@stale", Kind::Stale),
];

#[derive(Clone, Copy)]
enum Kind {
    /// Such a status, after such a time.
    Answers(&'static str, Duration),
    /// `200 OK` after a tenth of a second, and remembers how many it works on at once.
    Slow,
    /// Nothing.
    Closes,
    /// The half of a body.
    Dies,
    /// `200 OK`, and closes the kept connection when the next request comes.
    Stale,
}

/// The usual config with another pool. In it `@a`, `@b` and `@c` stand for the addresses of servers that are well,
/// `@nobody` for one where nobody listens, and others for those of [`KINDS`].
pub struct Pools {
    addresses: Vec<(&'static str, String)>,
    /// The most requests that `@slow` has worked on at once.
    pub peak: Arc<Peak>,
}

/// How many at once.
#[derive(Default)]
pub struct Peak {
    active: AtomicUsize,
    pub most: AtomicUsize,
}

impl Pools {
    pub async fn new() -> Self {
        let (mut addresses, peak) = (vec![("@nobody", free())], Arc::default());
        for (mark, kind) in KINDS {
            addresses.push((mark, server(kind, &peak).await));
        }
        for (mark, name) in [("@a", "a"), ("@b", "b"), ("@c", "c")] {
            addresses.push((mark, origin(name).await));
        }
        // `@a` would be found in no other, but in no order either.
        addresses.sort_by_key(|(mark, _)| std::cmp::Reverse(mark.len()));
        Self { addresses, peak }
    }

    pub fn text(&self, usual: &str, pool: &str) -> String {
        let (before, _) = usual.split_once("pools:\n").unwrap();
        let pool = self.addressed(pool);
        format!("{before}pools:\n  shop:\n{pool}audit: {{ file: audit.jsonl }}\n")
    }

    /// A text with addresses for their marks.
    pub fn addressed(&self, text: &str) -> String {
        self.addresses.iter().fold(text.to_owned(), |text, (mark, address)| text.replace(mark, address))
    }

    /// Serves as soon as so many servers are healthy.
    pub async fn world(&self, pool: &str, healthy: usize) -> World {
        let world = World::before_checks(Site::new(NOW).await, |usual| self.text(&usual, pool));
        self.settle(&world, healthy).await;
        world
    }

    pub async fn settle(&self, world: &World, healthy: usize) {
        let snapshot = world.live.snapshot();
        let pool = snapshot.pools.iter().next().unwrap();
        settled("the checks", || pool.servers.iter().filter(|server| server.state.health.is_up()).count() == healthy)
            .await;
    }

    pub async fn apply(&self, world: &World, pool: &str) {
        let applied = world.apply(&self.text(&world.site.config_text(), pool));
        assert!(applied.is_ok(), "{}", show(&applied.unwrap_err()));
    }
}

async fn server(kind: Kind, peak: &Arc<Peak>) -> String {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap().to_string();
    let peak = Arc::clone(peak);
    tokio::spawn(async move {
        while let Ok((stream, _)) = socket.accept().await {
            tokio::spawn(answer(kind, stream, Arc::clone(&peak)));
        }
    });
    address
}

async fn answer(kind: Kind, mut stream: TcpStream, peak: Arc<Peak>) {
    if !has_head(&mut stream).await {
        return;
    }
    let (status, length) = match kind {
        Kind::Answers(status, after) => {
            time::sleep(after).await;
            (status, 17)
        }
        Kind::Slow => {
            let active = peak.active.fetch_add(1, Ordering::SeqCst) + 1;
            peak.most.fetch_max(active, Ordering::SeqCst);
            time::sleep(Duration::from_millis(100)).await;
            peak.active.fetch_sub(1, Ordering::SeqCst);
            ("200 OK", 17)
        }
        Kind::Stale => {
            let kept = b"HTTP/1.1 200 OK\r\nContent-Length: 17\r\n\r\n{\"origin\":\"slow\"}";
            stream.write_all(kept).await.unwrap();
            has_head(&mut stream).await;
            return;
        }
        Kind::Closes => return,
        Kind::Dies => ("200 OK", 34),
    };
    let head = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
    // Who has gone is not answered.
    stream.write_all(format!("{head}{{\"origin\":\"slow\"}}").as_bytes()).await.unwrap_or_default();
}

/// Whether a head comes, whole.
async fn has_head(stream: &mut TcpStream) -> bool {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(byte) = stream.read_u8().await else { return false };
        head.push(byte);
    }
    true
}

/// A request that the pool's route allows.
pub fn plain() -> Ask {
    Ask { signer: None, ..Ask::get("/mtls") }
}

/// Who has answered.
pub async fn origin_of(world: &World, ask: &Ask) -> String {
    let reply = world.ask(ask).await;
    assert_eq!(reply.status, 200, "{}", reply.body);
    reply.echo()["origin"].as_str().unwrap().to_owned()
}

/// How often whom.
pub async fn answers(world: &World, asks: usize) -> BTreeMap<String, usize> {
    let mut answers = BTreeMap::new();
    for _ in 0..asks {
        *answers.entry(origin_of(world, &plain()).await).or_default() += 1;
    }
    answers
}

pub fn counts<const N: usize>(counts: [(&str, usize); N]) -> BTreeMap<String, usize> {
    counts.into_iter().map(|(name, count)| (name.to_owned(), count)).collect()
}
