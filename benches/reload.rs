#![expect(clippy::unwrap_used, reason = "a bench that cannot set up has nothing to measure")]
#![expect(clippy::indexing_slicing, reason = "a bench that reads too far has failed")]
#![expect(clippy::print_stdout, reason = "its figures are its output")]
//! How long a reload takes with 1,000 routes, and what requests feel of it. `cargo bench --bench reload [-- ROUNDS]`.
//!
//! Rounds alternate while clients ask at a steady pace over connections that stay open: nothing beside them, reloads,
//! and a process that computes as long as a reload takes, which tells what is the reload's and what is the machine's.
//! Each reload changes whom one route allows, each second one has a route more or less, too: a plan is made, a
//! generation is built, remembered and swapped in.

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use std::{
    fmt::Write as _,
    fs,
    io::{BufRead, BufReader, Read, Write},
    os::unix::net::UnixStream,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinSet, spawn_blocking};

const ROUTES: usize = 1_000;
const WORKLOADS: usize = 20;
const CONNECTIONS: usize = 16;
const PACE: Duration = Duration::from_millis(10);
const ROUND: Duration = Duration::from_secs(3);
/// In a round: one a second.
const RELOADS: u32 = 3;
const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

fn main() {
    let rounds = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(10);
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap()
        .block_on(measure(rounds));
}

async fn measure(rounds: usize) {
    let origin = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = origin.local_addr().unwrap().to_string();
    tokio::spawn(serve(origin));
    let folder = tempfile::tempdir().unwrap();
    certificates(folder.path());
    fs::create_dir(folder.path().join("history")).unwrap();
    write(folder.path(), &server, 0);
    let (mut belay, address) = start(folder.path());
    let (mut took, mut quiet, mut reloading, mut computing) =
        (Vec::new(), Felt::default(), Felt::default(), Felt::default());
    let mut number = 0;
    for _ in 0..rounds {
        quiet.add(clients(&address, spawn_blocking(|| std::thread::sleep(ROUND))).await.0);
        let (path, server) = (folder.path().to_owned(), server.clone());
        let reloads = spawn_blocking(move || {
            (0..RELOADS).map(|index| reload(&path, &server, number + index)).collect::<Vec<_>>()
        });
        let (felt, times) = clients(&address, reloads).await;
        reloading.add(felt);
        let times = times.unwrap();
        let busy = times.iter().sum::<Duration>() / RELOADS;
        took.extend(times);
        number += RELOADS;
        computing.add(clients(&address, spawn_blocking(move || (0..RELOADS).for_each(|_| compute(busy)))).await.0);
    }
    belay.kill().unwrap();
    belay.wait().unwrap();
    took.sort();
    println!("{ROUTES} routes, {WORKLOADS} workloads, {} reloads; times in ms", took.len());
    println!("  reload     median {}  p99 {}  longest {}", at(&took, 50), at(&took, 99), at(&took, 100));
    quiet.show("without");
    computing.show("computing");
    reloading.show("reloads");
    println!("  p99 with reloads / without: {:.2}", reloading.p99() / quiet.p99());
    println!("  p99 with reloads / with a process that computes: {:.2}", reloading.p99() / computing.p99());
}

/// What clients felt.
#[derive(Default)]
struct Felt {
    times: Vec<Duration>,
    failed: usize,
}

impl Felt {
    fn add(&mut self, other: Self) {
        self.times.extend(other.times);
        self.failed += other.failed;
        self.times.sort();
    }

    fn p99(&self) -> f64 {
        self.times[self.times.len() * 99 / 100].as_secs_f64()
    }

    fn show(&self, name: &str) {
        let (count, times) = (self.times.len(), &self.times);
        println!("  {name:9}  {count} requests, {} failed, p50 {}  p99 {}", self.failed, at(times, 50), at(times, 99));
    }
}

fn at(sorted: &[Duration], percent: usize) -> String {
    let index = (sorted.len() * percent / 100).min(sorted.len() - 1);
    format!("{:.2}", sorted[index].as_secs_f64() * 1_000.0)
}

/// Asks as long as something else is done.
async fn clients<T>(address: &str, during: impl Future<Output = T>) -> (Felt, T) {
    let over = Arc::new(AtomicBool::new(false));
    let mut all = JoinSet::new();
    for _ in 0..CONNECTIONS {
        all.spawn(client(address.to_owned(), Arc::clone(&over)));
    }
    let done = during.await;
    over.store(true, Ordering::Relaxed);
    let mut felt = Felt::default();
    while let Some(one) = all.join_next().await {
        felt.add(one.unwrap());
    }
    (felt, done)
}

async fn client(address: String, over: Arc<AtomicBool>) -> Felt {
    let mut felt = Felt::default();
    let mut stream = TcpStream::connect(&address).await.unwrap();
    let mut answer = [0; 4096];
    while !over.load(Ordering::Relaxed) {
        let began = Instant::now();
        stream.write_all(b"GET /r7/x HTTP/1.1\r\nHost: shop.example\r\n\r\n").await.unwrap();
        let mut length = 0;
        while !answer[..length].ends_with(b"\r\n\r\nok") {
            match stream.read(&mut answer[length..]).await.unwrap() {
                0 => break,
                more => length += more,
            }
        }
        felt.times.push(began.elapsed());
        felt.failed += usize::from(!answer[..length].starts_with(b"HTTP/1.1 200"));
        tokio::time::sleep(PACE).await;
    }
    felt
}

async fn serve(origin: TcpListener) {
    loop {
        let (mut stream, _) = origin.accept().await.unwrap();
        tokio::spawn(async move {
            let mut head = [0; 4096];
            while stream.read(&mut head).await.is_ok_and(|length| length > 0) {
                stream.write_all(RESPONSE).await.unwrap();
            }
        });
    }
}

/// Changes whom a route allows and has it reloaded; how long that takes.
fn reload(folder: &Path, server: &str, number: u32) -> Duration {
    write(folder, server, number + 1);
    let began = Instant::now();
    let mut stream = UnixStream::connect(folder.join("admin.sock")).unwrap();
    stream.write_all(b"POST /reload HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.contains("\"result\":\"applied\""), "{answer}");
    let took = began.elapsed();
    std::thread::sleep(ROUND / RELOADS);
    took
}

/// Keeps a core busy as long as a reload does, as another process would.
fn compute(busy: Duration) {
    let mut child = Command::new("sh").args(["-c", "while :; do :; done"]).spawn().unwrap();
    std::thread::sleep(busy);
    child.kill().unwrap();
    child.wait().unwrap();
    std::thread::sleep(ROUND / RELOADS);
}

fn write(folder: &Path, server: &str, number: u32) {
    let mut text = "version: 1\nlisteners:\n  edge:\n    bind: ['127.0.0.1:0']\n    identity: mtls\n    tls:\n      \
        certificates: [{ cert: lb.pem, key: 'file:lb.key' }]\n      client_auth: { ca: [ca.pem] }\n  \
        local: { bind: ['127.0.0.1:0'], identity: none }\nworkloads:\n"
        .to_owned();
    for workload in 0..WORKLOADS {
        writeln!(text, "  w{workload}: {{ id: spiffe://example.com/w{workload} }}").unwrap();
    }
    text.push_str("routes:\n");
    for route in 0..ROUTES {
        let changed = if route == ROUTES / 2 { number as usize } else { 0 };
        let allow = if route < 10 { "public".into() } else { format!("[w{}]", (route + changed) % WORKLOADS) };
        let matches = format!("{{ host: shop.example, path: /r{route}/** }}");
        writeln!(text, "  - {{ name: r{route}, match: {matches}, allow: {allow}, pool: shop }}").unwrap();
        if route == ROUTES / 2 && number % 2 == 1 {
            text.push_str("  - { name: new, match: { host: shop.example, path: /new/** }, allow: [w1], pool: shop }\n");
        }
    }
    write!(
        text,
        "pools:\n  shop: {{ servers: [{{ name: a, address: '{server}' }}] }}\naudit: {{ file: audit.jsonl }}\n"
    )
    .unwrap();
    text.push_str("admin: { socket: admin.sock }\nhistory: { dir: history }\n");
    fs::write(folder.join("belay.yaml"), text).unwrap();
}

fn certificates(folder: &Path) {
    let key = KeyPair::generate().unwrap();
    let mut ca = CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.use_authority_key_identifier_extension = true;
    fs::write(folder.join("ca.pem"), ca.self_signed(&key).unwrap().pem()).unwrap();
    let issuer = Issuer::new(ca, key);
    let key = KeyPair::generate().unwrap();
    let own = CertificateParams::new(vec!["shop.example".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
    fs::write(folder.join("lb.pem"), own.pem()).unwrap();
    fs::write(folder.join("lb.key"), key.serialize_pem()).unwrap();
}

fn start(folder: &Path) -> (Child, String) {
    let mut belay = Command::new(env!("CARGO_BIN_EXE_belay"))
        .args(["run", "--json", "-c"])
        .arg(folder.join("belay.yaml"))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(belay.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    let ready: serde_json::Value = serde_json::from_str(&line).unwrap();
    let address = ready["listeners"][1]["address"].as_str().unwrap().to_owned();
    (belay, address)
}
