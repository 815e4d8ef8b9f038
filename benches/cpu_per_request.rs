#![expect(clippy::unwrap_used, reason = "a bench that cannot set up has nothing to measure")]
#![expect(clippy::indexing_slicing, reason = "a bench that reads too far has failed")]
#![expect(clippy::cast_precision_loss, reason = "figures are rounded anyway")]
#![expect(clippy::print_stdout, reason = "its figures are its output")]
//! CPU per request of the release binary: plain, with mutual TLS, and with a token on every request, one after the
//! other in one run. `cargo bench --bench cpu_per_request [-- ROUNDS]`.
//!
//! The figure is the time that the kernel has charged to the load balancer's process (user and system), so what the
//! load generator and the origin use beside it does not count. Only ratios of one run are worth quoting.

use belay::clock::{Clock, System, UnixSeconds};
use belay::identity::{Claims, Confirmation, Kid, SigningKey, Thumbprint};
use belay::request::Id;
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Instant,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

const HOST: &str = "shop.example.com";
const ID: &str = "spiffe://example.com/worker/checkout";
const CONNECTIONS: usize = 16;
const REQUESTS: usize = 1_000;
const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// What a client of a listener does.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    Plain,
    Mtls,
    Token,
}

const WAYS: [(Way, &str); 3] =
    [(Way::Plain, "plain HTTP"), (Way::Mtls, "mutual TLS"), (Way::Token, "mutual TLS and a token")];

struct Keys {
    roots: RootCertStore,
    client: CertificateDer<'static>,
    client_key: Vec<u8>,
    token_key: SigningKey,
}

fn main() {
    let rounds = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(3usize);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let origin = start_origin();
    let keys = Arc::new(write_site(folder.path(), &origin));
    let (belay, addresses) = start_belay(folder.path());
    println!(
        "{CONNECTIONS} kept connections, {REQUESTS} GETs each, {rounds} rounds; CPU of the load balancer per request"
    );
    let mut figures = vec![Vec::new(); WAYS.len()];
    for _ in 0..rounds {
        for (index, (way, _)) in WAYS.iter().enumerate() {
            figures[index].push(runtime.block_on(measure(*way, &addresses, &keys, belay.0.id())));
        }
    }
    let median = |figures: &mut Vec<(f64, f64)>| {
        figures.sort_by(|a, b| a.0.total_cmp(&b.0));
        figures[figures.len() / 2]
    };
    let medians: Vec<_> = figures.iter_mut().map(median).collect();
    println!("{:24} {:>12} {:>8} {:>12}", "", "CPU µs", "ratio", "requests/s");
    for ((_, name), (cpu, rate)) in WAYS.iter().zip(&medians) {
        println!("{name:24} {cpu:>12.1} {:>8.2} {rate:>12.0}", cpu / medians[0].0);
    }
}

/// CPU microseconds a request, and requests a second.
async fn measure(way: Way, addresses: &[String; 2], keys: &Arc<Keys>, pid: u32) -> (f64, f64) {
    let mut clients = JoinSet::new();
    let mut ready = Vec::new();
    for _ in 0..CONNECTIONS {
        ready.push(Client::new(way, addresses, keys).await);
    }
    let (before, started) = (cpu_seconds(pid), Instant::now());
    for client in ready {
        clients.spawn(client.run());
    }
    clients.join_all().await;
    let requests = (CONNECTIONS * REQUESTS) as f64;
    ((cpu_seconds(pid) - before) * 1e6 / requests, requests / started.elapsed().as_secs_f64())
}

/// A connection and everything that it will send, made before the clock runs.
struct Client {
    stream: Box<dyn Stream>,
    requests: Vec<String>,
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

impl Client {
    async fn new(way: Way, [plain, tls]: &[String; 2], keys: &Keys) -> Self {
        let path = match way {
            Way::Plain => "/plain",
            Way::Mtls => "/mtls",
            Way::Token => "/token",
        };
        let now = System.now().unix_seconds();
        let request = |_| {
            let token = if way == Way::Token {
                format!("edge-identity: {}\r\n", token(keys, path, now))
            } else {
                String::new()
            };
            format!("GET {path} HTTP/1.1\r\nhost: {HOST}\r\n{token}\r\n")
        };
        let requests = (0..REQUESTS).map(request).collect();
        let stream = TcpStream::connect(if way == Way::Plain { plain } else { tls }).await.unwrap();
        stream.set_nodelay(true).unwrap();
        if way == Way::Plain {
            return Self { stream: Box::new(stream), requests };
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let key = PrivatePkcs8KeyDer::from(keys.client_key.clone()).into();
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let config =
            config.with_root_certificates(keys.roots.clone()).with_client_auth_cert(vec![keys.client.clone()], key);
        let connector = TlsConnector::from(Arc::new(config.unwrap()));
        let stream = connector.connect(ServerName::try_from(HOST).unwrap(), stream).await.unwrap();
        Self { stream: Box::new(stream), requests }
    }

    async fn run(mut self) {
        let mut buffer = vec![0; 4096];
        for request in &self.requests {
            self.stream.write_all(request.as_bytes()).await.unwrap();
            let mut got = 0;
            while !buffer[..got].ends_with(b"\r\n\r\nok") {
                let read = self.stream.read(&mut buffer[got..]).await.unwrap();
                assert!(read > 0, "{}", String::from_utf8_lossy(&buffer[..got]));
                got += read;
            }
            assert!(buffer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&buffer[..got]));
        }
    }
}

fn token(keys: &Keys, path: &str, now: UnixSeconds) -> String {
    let claims = Claims {
        iss: "https://edge".into(),
        aud: vec!["https://lb".into()],
        sub: ID.into(),
        iat: now,
        exp: now + 300,
        jti: Id::random().as_str().to_owned().into(),
        htm: "GET".into(),
        hta: HOST.into(),
        htt: path.into(),
        cnf: Some(Confirmation { x5t_s256: Thumbprint::of(&keys.client).to_string().into() }),
        rid: Some(Id::random().as_str().to_owned().into()),
        cip: None,
        ohost: None,
        cdg: None,
        ath: None,
    };
    keys.token_key.sign(&Kid::parse("w-1").unwrap(), &claims).unwrap()
}

/// An origin in a thread of its own that answers every request with the same two bytes.
fn start_origin() -> String {
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
            tell.send(socket.local_addr().unwrap().to_string()).unwrap();
            loop {
                let (stream, _) = socket.accept().await.unwrap();
                tokio::spawn(answer_all(stream));
            }
        });
    });
    told.recv().unwrap()
}

async fn answer_all(mut stream: TcpStream) {
    stream.set_nodelay(true).unwrap();
    let (mut buffer, mut got) = (vec![0; 16 * 1024], 0);
    while let Ok(read @ 1..) = stream.read(&mut buffer[got..]).await {
        got += read;
        if buffer[..got].ends_with(b"\r\n\r\n") {
            got = 0;
            stream.write_all(RESPONSE).await.unwrap();
        }
    }
}

/// The load balancer's process, which ends with the bench.
struct Belay(Child);

impl Drop for Belay {
    fn drop(&mut self) {
        // It may have ended already.
        self.0.kill().unwrap_or_default();
        self.0.wait().unwrap();
    }
}

fn start_belay(folder: &Path) -> (Belay, [String; 2]) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_belay"));
    command.args(["run", "--json", "-c"]).arg(folder.join("belay.yaml")).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut belay = Belay(command.spawn().unwrap());
    let mut line = String::new();
    BufReader::new(belay.0.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    let ready: serde_json::Value = serde_json::from_str(&line).unwrap();
    let address = |name: &str| {
        let listeners = ready["listeners"].as_array().unwrap();
        let listener = listeners.iter().find(|listener| listener["name"] == name).unwrap();
        listener["address"].as_str().unwrap().to_owned()
    };
    let addresses = [address("plain"), address("tls")];
    (belay, addresses)
}

/// User and system time of a process so far, from `/proc` (in ticks of 10 ms).
fn cpu_seconds(pid: u32) -> f64 {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<_> = text.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks = |index: usize| fields[index].parse::<f64>().unwrap();
    (ticks(11) + ticks(12)) / 100.0
}

fn write_site(folder: &Path, origin: &str) -> Keys {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_key = KeyPair::generate().unwrap();
    let ca = params.self_signed(&ca_key).unwrap();
    let issuer = Issuer::new(params, ca_key);
    let issue = |name: SanType, usage: ExtendedKeyUsagePurpose| {
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![name];
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &issuer).unwrap(), key)
    };
    let (server, server_key) = issue(SanType::DnsName(HOST.try_into().unwrap()), ExtendedKeyUsagePurpose::ServerAuth);
    let (client, client_key) = issue(SanType::URI(ID.try_into().unwrap()), ExtendedKeyUsagePurpose::ClientAuth);
    let token_key = KeyPair::generate().unwrap();
    let write = |name: &str, text: &str| fs::write(folder.join(name), text).unwrap();
    write("ca.pem", &ca.pem());
    write("lb.pem", &server.pem());
    write("lb.key", &server_key.serialize_pem());
    write("token.pub", &token_key.public_key_pem());
    write("belay.yaml", &CONFIG.replace("ORIGIN", origin));
    let mut roots = RootCertStore::empty();
    roots.add(ca.der().clone()).unwrap();
    Keys {
        roots,
        client: client.der().clone(),
        client_key: client_key.serialize_der(),
        token_key: SigningKey::from_pkcs8(&token_key.serialize_der()).unwrap(),
    }
}

const CONFIG: &str = "\
version: 1
listeners:
  plain: { bind: ['127.0.0.1:0'], identity: none }
  tls:
    bind: ['127.0.0.1:0']
    tls: { certificates: [{ cert: lb.pem, key: 'file:lb.key' }], client_auth: { ca: [ca.pem] } }
edge: { issuer: 'https://edge', audience: 'https://lb' }
workloads:
  checkout: { id: 'spiffe://example.com/worker/checkout', keys: [{ kid: w-1, key: 'file:token.pub' }] }
routes:
  - { name: plain, match: { path: /plain }, allow: public, pool: origin }
  - { name: mtls, match: { path: /mtls }, identity: mtls, allow: [checkout], pool: origin }
  - { name: token, match: { path: /token }, identity: mtls+jwt, allow: [checkout], pool: origin }
pools:
  origin: { servers: [{ name: a, address: 'ORIGIN' }] }
audit: { file: audit.jsonl }
";
