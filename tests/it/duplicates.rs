//! A load in which a fifth of all requests is sent twice, before servers that close connections: nothing is done twice that
//! must be done once.

use crate::support::{Ask, NOW, Reply, Site, World};
use parking_lot::Mutex;
use std::collections::{BTreeMap, hash_map::DefaultHasher};
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

const REQUESTS: usize = 400;

/// How often the servers have done each thing, by its method and path, and with which keys.
type Done = Arc<Mutex<BTreeMap<String, Vec<String>>>>;

/// What becomes of a request: by its path, so that a repetition meets the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It is done and answered.
    Done,
    /// The connection is closed before anything is done.
    Unseen,
    /// It is done, and the connection closed instead of an answer.
    Unanswered,
}

fn fate(path: &str) -> Fate {
    let mut hasher = DefaultHasher::new();
    path.hash(&mut hasher);
    match hasher.finish() % 10 {
        0 => Fate::Unseen,
        1 => Fate::Unanswered,
        _ => Fate::Done,
    }
}

/// A server that keeps connections open. What comes is treated badly only the first time, at whichever server.
async fn server(done: Done, treated: Done) -> String {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((stream, _)) = socket.accept().await {
            tokio::spawn(serve(stream, Arc::clone(&done), Arc::clone(&treated)));
        }
    });
    address
}

async fn serve(stream: TcpStream, done: Done, treated: Done) -> Option<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let (mut head, mut length, mut key) = (String::new(), 0, String::new());
        let first = loop {
            let mut line = String::new();
            if stream.read_line(&mut line).await.ok()? == 0 {
                return None;
            }
            let lower = line.to_lowercase();
            if let Some(value) = lower.strip_prefix("content-length: ") {
                length = value.trim().parse().ok()?;
            }
            if let Some(value) = lower.strip_prefix("idempotency-key: ") {
                key = value.trim().to_owned();
            }
            if line == "\r\n" {
                break head;
            }
            if head.is_empty() {
                head = line;
            }
        };
        stream.read_exact(&mut vec![0; length]).await.ok()?;
        let mut words = first.split(' ');
        let (method, path) = (words.next()?, words.next()?);
        let what = format!("{method} {path}");
        let is_first = treated.lock().insert(what.clone(), Vec::new()).is_none();
        let fate = if is_first && path != "/healthz" { fate(path) } else { Fate::Done };
        if fate == Fate::Unseen {
            return None;
        }
        done.lock().entry(what).or_default().push(key);
        if fate == Fate::Unanswered {
            return None;
        }
        stream.get_mut().write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.ok()?;
    }
}

/// The requests: of each kind some, every fifth twice.
fn request(number: usize) -> Ask {
    let target: &'static str = Box::leak(format!("/orders/{number}").into_boxed_str());
    let ask = Ask { h2: number.is_multiple_of(3), ..Ask::get(target) };
    match number % 4 {
        0 => ask,
        1 | 2 => Ask { method: "POST", body: "one", ..ask },
        _ => Ask { method: "POST", body: "one", ..ask }.header("Idempotency-Key", format!("k-{number}")),
    }
}

async fn send(world: &World, number: usize) -> Vec<Reply> {
    let ask = request(number);
    let headers = world.headers(&ask);
    if !number.is_multiple_of(5) {
        return vec![world.send(&ask, &headers).await];
    }
    // The very same bytes, at once.
    let (one, other) = tokio::join!(world.send(&ask, &headers), world.send(&ask, &headers));
    vec![one, other]
}

#[tokio::test]
async fn nothing_is_done_twice() {
    let done = Done::default();
    let treated = Done::default();
    let start = || server(Arc::clone(&done), Arc::clone(&treated));
    let servers = [start().await, start().await];
    let [a, b] = &servers;
    let pool = format!(
        "  shop:\n    retry: {{ attempts: 3, budget: 100%, on: [connect_failure, no_response] }}\n    servers: [{{ name: a, address: '{a}' }}, {{ name: b, address: '{b}' }}]\naudit: {{ file: audit.jsonl }}\n"
    );
    let world = World::before_checks(Site::new(NOW).await, |text| {
        let (before, _) = text.split_once("  shop:\n").unwrap();
        format!("{before}{pool}")
    });
    let world = Arc::new(world);
    let (mut tasks, mut replies) = (JoinSet::new(), BTreeMap::new());
    for number in 0..REQUESTS {
        let world = Arc::clone(&world);
        tasks.spawn(async move { (number, Box::pin(send(&world, number)).await) });
        if tasks.len() == 16 {
            replies.extend(tasks.join_next().await.map(Result::unwrap));
        }
    }
    replies.extend(tasks.join_all().await);
    let done = done.lock();
    let mut kinds = BTreeMap::<_, usize>::new();
    for (number, replies) in &replies {
        let ask = request(*number);
        let keys = done.get(&format!("{} {}", ask.method, ask.target)).map_or(&[][..], Vec::as_slice);
        let good = replies.iter().filter(|reply| reply.status == 200).count();
        let is_marked = ask.headers.iter().any(|(name, _)| *name == "Idempotency-Key");
        *kinds.entry((ask.method, is_marked, fate(ask.target) == Fate::Done, replies.len())).or_default() += 1;
        assert!(good <= keys.len(), "{number}: whoever was told that it is done can rely on it");
        if ask.method == "POST" {
            assert!(good <= 1, "{number}: a token for a POST is good for one: {replies:?}");
        }
        if ask.method == "POST" && !is_marked {
            assert!(keys.len() <= 1, "{number}: done {} times", keys.len());
        }
        if is_marked {
            let only = format!("k-{number}");
            assert!(keys.iter().all(|key| *key == only), "{number}: a repetition is marked as what it repeats");
            assert_eq!(good, 1, "{number}: what may be repeated is: {replies:?}");
        }
        if ask.method == "GET" {
            assert_eq!(good, replies.len(), "{number}: what is safe always is: {replies:?}");
        }
    }
    assert!(kinds.values().all(|count| *count > 1) && kinds.len() >= 10, "each kind of request was there: {kinds:?}");
}
