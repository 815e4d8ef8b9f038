//! A whole load balancer in process: TLS and HTTP over a duplex, a real origin, a clock of its own.

use super::pki::{Ca, Identity};
use belay::clock::{Clock, Timestamp, UnixSeconds};
use belay::config::{self, Finding};
use belay::filter;
use belay::identity::{Claims, Confirmation, Kid, SigningKey};
use belay::name::ListenerName;
use belay::origin::Echo;
use belay::proxy::Gate;
use belay::request::Id;
use belay::runtime::{self, Live};
use belay::upstream::Probes;
use bytes::Bytes;
use pingora::apps::ServerApp;
use pingora::protocols::Stream;
use pingora::server::configuration::ServerConf;
use pingora_proxy::{HttpProxy, http_proxy};
use rcgen::KeyPair;
use rustls::{ClientConfig, RootCertStore, pki_types::ServerName};
use serde_json::Value;
use std::{
    collections::HashMap,
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_rustls::{TlsConnector, client::TlsStream};

pub const HOST: &str = "shop.example.com";
pub const NOW: UnixSeconds = 1_795_000_000;

/// A clock that stands still until it is moved.
#[derive(Debug)]
pub struct TestClock(AtomicI64);

impl TestClock {
    pub fn set(&self, seconds: UnixSeconds) {
        self.0.store(seconds, Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_unix_seconds(self.0.load(Ordering::SeqCst))
    }
}

/// A request to make.
#[derive(Clone)]
pub struct Ask {
    /// Whose certificate: a name of `World::identities`.
    pub certificate: Option<&'static str>,
    /// Whose token key signs; none sends no token.
    pub signer: Option<&'static str>,
    pub method: &'static str,
    pub target: &'static str,
    /// Headers beside Host and the token.
    pub headers: Vec<(&'static str, String)>,
    pub body: &'static str,
    pub h2: bool,
    /// What the token says, where it differs.
    pub claims: Vec<(&'static str, Value)>,
}

impl Ask {
    /// A good GET of checkout's.
    pub fn get(target: &'static str) -> Self {
        Self {
            certificate: Some("checkout"),
            signer: Some("checkout"),
            method: "GET",
            target,
            headers: Vec::new(),
            body: "",
            h2: false,
            claims: Vec::new(),
        }
    }

    pub fn claim(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.claims.push((name, value.into()));
        self
    }

    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

/// What came back.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Reply {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// What the origin says that it was asked.
    pub fn echo(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("no echo: {error}: {self:?}"))
    }
}

pub struct World {
    pub folder: TempDir,
    pub live: Arc<Live>,
    pub clock: Arc<TestClock>,
    pub identities: HashMap<&'static str, Identity>,
    pub token_keys: HashMap<&'static str, KeyPair>,
    server_ca: Ca,
    probes: Probes,
    app: Arc<HttpProxy<Gate>>,
}

pub fn id(workload: &str) -> String {
    format!("spiffe://example.com/worker/{workload}")
}

impl World {
    /// The usual config.
    pub async fn new() -> Self {
        Self::with(|text| text).await
    }

    /// The usual config, edited.
    pub async fn with(edit: impl FnOnce(String) -> String) -> Self {
        let folder = TempDir::new().unwrap();
        let (server_ca, worker_ca, other_ca) = (Ca::new(), Ca::new(), Ca::new());
        let identities = HashMap::from([
            ("lb", server_ca.server(HOST)),
            ("checkout", worker_ca.workload(&id("checkout"))),
            ("reports", worker_ca.workload(&id("reports"))),
            ("unknown", worker_ca.workload(&id("unknown"))),
            ("rogue", other_ca.workload(&id("checkout"))),
        ]);
        let token_keys: HashMap<_, _> =
            ["checkout", "reports", "forger"].into_iter().map(|name| (name, KeyPair::generate().unwrap())).collect();
        write(&folder, "workers-ca.pem", &worker_ca.pem);
        write(&folder, "lb.pem", &identities["lb"].pem);
        write(&folder, "lb.key", &identities["lb"].key_pem);
        for name in ["checkout", "reports"] {
            write(&folder, &format!("{name}.pub"), &token_keys[name].public_key_pem());
        }
        let text = edit(config_text(&[origin("a").await, origin("b").await]));
        let clock = Arc::new(TestClock(AtomicI64::new(NOW)));
        let config = load(folder.path(), &text).unwrap_or_else(|findings| panic!("{}", show(&findings)));
        let started = runtime::start(config, Arc::clone(&clock) as Arc<dyn Clock>, Timestamp::from_unix_seconds(0));
        let live = Arc::new(started.unwrap_or_else(|findings| panic!("{}", show(&findings))));
        let probes = Probes::new(tokio::runtime::Handle::current());
        probes.follow(&live.snapshot().pools);
        let gate = Gate::new(ListenerName::parse("edge").unwrap(), Arc::clone(&live));
        let app = Arc::new(http_proxy(&Arc::new(ServerConf::default()), gate));
        let world = Self { folder, live, clock, identities, token_keys, server_ca, probes, app };
        world.healthy().await;
        world
    }

    /// Applies another text of the config.
    pub fn apply(&self, text: &str) -> Result<runtime::Change, Vec<Finding>> {
        let change = self.live.apply(load(self.folder.path(), text)?);
        self.probes.follow(&self.live.snapshot().pools);
        change
    }

    pub fn config_text(&self) -> String {
        fs::read_to_string(self.folder.path().join("belay.yaml")).unwrap()
    }

    pub fn write(&self, name: &str, content: &str) {
        write(&self.folder, name, content);
    }

    /// Waits until every server that can be healthy is.
    async fn healthy(&self) {
        let snapshot = self.live.snapshot();
        let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(5);
        while snapshot.pools.iter().any(|pool| pool.servers.iter().all(|server| !server.health.is_up())) {
            assert!(tokio::time::Instant::now() < deadline, "no server is healthy");
            tokio::task::yield_now().await;
        }
    }

    /// Makes a token for a request, or for what its claims say instead.
    pub fn token(&self, signer: &str, ask: &Ask) -> String {
        let named = if signer == "forger" { "checkout" } else { signer };
        let key = SigningKey::from_pkcs8(&self.token_keys[signer].serialize_der()).unwrap();
        let thumbprint = ask.certificate.map_or_else(String::new, |name| self.identities[name].thumbprint());
        let claims = Claims {
            iss: "https://edge.example.com/worker".into(),
            aud: vec!["https://lb.example.com".into()],
            sub: id(named).into(),
            iat: NOW,
            exp: NOW + 60,
            jti: Id::random().as_str().to_owned().into(),
            htm: ask.method.into(),
            hta: HOST.into(),
            htt: ask.target.into(),
            cnf: Confirmation { x5t_s256: thumbprint.into() },
            rid: None,
            cip: None,
            ohost: None,
        };
        let mut claims = serde_json::to_value(claims).unwrap();
        for (name, value) in &ask.claims {
            claims[*name] = value.clone();
        }
        key.sign(&Kid::parse(&format!("{named}-1")).unwrap(), &claims).unwrap()
    }

    /// Makes a request on a connection of its own.
    pub async fn ask(&self, ask: &Ask) -> Reply {
        let mut headers: Vec<_> = ask.headers.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        headers.extend(ask.signer.map(|signer| ("Edge-Identity".to_owned(), self.token(signer, ask))));
        self.send(ask, &headers).await
    }

    /// Makes a request with just these headers.
    pub async fn send(&self, ask: &Ask, headers: &[(String, String)]) -> Reply {
        let alpn: &[&[u8]] = if ask.h2 { &[b"h2"] } else { &[] };
        let stream = self.connect(ask.certificate, alpn).await;
        if ask.h2 { over_h2(stream, ask, headers).await } else { over_h1(stream, ask, headers).await }
    }

    /// A TLS connection to the load balancer.
    pub async fn connect(&self, certificate: Option<&str>, alpn: &[&[u8]]) -> TlsStream<DuplexStream> {
        self.connect_with(certificate, alpn, rustls::DEFAULT_VERSIONS).await
    }

    pub async fn connect_with(
        &self,
        certificate: Option<&str>,
        alpn: &[&[u8]],
        versions: &[&'static rustls::SupportedProtocolVersion],
    ) -> TlsStream<DuplexStream> {
        let (near, far) = tokio::io::duplex(256 * 1024);
        self.serve(far);
        let mut roots = RootCertStore::empty();
        roots.add(self.server_ca.der.clone()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()));
        let builder = builder.with_protocol_versions(versions).unwrap().with_root_certificates(roots);
        let mut config = match certificate.map(|name| &self.identities[name]) {
            Some(identity) => builder.with_client_auth_cert(vec![identity.der.clone()], identity.key()).unwrap(),
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        let name = ServerName::try_from(HOST).unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, near).await.unwrap()
    }

    fn serve(&self, far: DuplexStream) {
        let (app, live) = (Arc::clone(&self.app), Arc::clone(&self.live));
        tokio::spawn(async move {
            let (_never, going_on) = watch::channel(false);
            let snapshot = live.snapshot();
            let entrance = snapshot.entrances.values().next().unwrap();
            let stream: Stream = match &entrance.tls {
                // Who fails the handshake has shown it to the client already.
                Some(tls) => match tls.accept(far).await {
                    Ok(stream) => Box::new(stream),
                    Err(_) => return,
                },
                None => Box::new(far),
            };
            app.process_new(stream, &going_on).await;
        });
    }

    /// The audit log so far.
    pub fn records(&self) -> Vec<Value> {
        self.live.state().journal.flush();
        let text = fs::read_to_string(self.folder.path().join("audit.jsonl")).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The records of an action, in order.
    pub fn records_of(&self, action: &str) -> Vec<Value> {
        self.records().into_iter().filter(|record| record["event"]["action"] == action).collect()
    }

    pub fn metrics(&self) -> String {
        let state = self.live.state();
        String::from_utf8(state.metrics.render(state.replay.len()).unwrap()).unwrap()
    }

    /// How many requests have reached an origin.
    pub fn forwarded(&self) -> u64 {
        let lines = self.metrics();
        let counts = lines.lines().filter(|line| line.starts_with("belay_server_requests_total"));
        counts.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
    }
}

async fn over_h1(mut stream: TlsStream<DuplexStream>, ask: &Ask, headers: &[(String, String)]) -> Reply {
    let mut head = format!("{} {} HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n", ask.method, ask.target);
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if !ask.body.is_empty() {
        head.push_str(&format!("Content-Length: {}\r\n", ask.body.len()));
    }
    stream.write_all(format!("{head}\r\n{}", ask.body).as_bytes()).await.unwrap();
    let mut raw = Vec::new();
    // A connection that ends without close_notify has ended all the same.
    stream.read_to_end(&mut raw).await.unwrap_or_default();
    parse(&String::from_utf8(raw).unwrap())
}

/// Reads a response whose body ends with the connection.
pub fn parse(raw: &str) -> Reply {
    let (head, body) = raw.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no response: {raw:?}"));
    let mut lines = head.lines();
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let split = |line: &str| line.split_once(": ").map(|(name, value)| (name.to_owned(), value.to_owned()));
    Reply { status, headers: lines.filter_map(split).collect(), body: body.to_owned() }
}

async fn over_h2(stream: TlsStream<DuplexStream>, ask: &Ask, headers: &[(String, String)]) -> Reply {
    let (sender, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let mut sender = sender.ready().await.unwrap();
    let mut request = http::Request::builder().method(ask.method).uri(format!("https://{HOST}{}", ask.target));
    for (name, value) in headers {
        request = request.header(name, value);
    }
    let (response, mut body) = sender.send_request(request.body(()).unwrap(), ask.body.is_empty()).unwrap();
    if !ask.body.is_empty() {
        body.send_data(Bytes::from_static(ask.body.as_bytes()), true).unwrap();
    }
    let (head, mut body) = response.await.unwrap().into_parts();
    let mut text = Vec::new();
    while let Some(piece) = body.data().await {
        text.extend_from_slice(&piece.unwrap());
    }
    let pair = |(name, value): (&http::HeaderName, &http::HeaderValue)| (name.to_string(), value.to_str().unwrap().to_owned());
    let headers = head.headers.iter().map(pair).collect();
    Reply { status: head.status.as_u16(), headers, body: String::from_utf8(text).unwrap() }
}

fn write(folder: &TempDir, name: &str, content: &str) {
    fs::write(folder.path().join(name), content).unwrap();
}

fn load(folder: &Path, text: &str) -> Result<config::Config, Vec<Finding>> {
    let file = folder.join("belay.yaml");
    fs::write(&file, text).unwrap();
    let checked = config::read_file(&file, &filter::KINDS);
    checked.config.ok_or(checked.findings)
}

fn show(findings: &[Finding]) -> String {
    findings.iter().map(|finding| format!("{finding}\n")).collect()
}

async fn origin(name: &'static str) -> String {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap().to_string();
    tokio::spawn(Echo::new(name).serve(socket));
    address
}

fn config_text([a, b]: &[String; 2]) -> String {
    format!(
        "\
version: 1
node: test
listeners:
  edge:
    bind: ['127.0.0.1:0']
    tls:
      certificates: [{{ cert: lb.pem, key: 'file:lb.key' }}]
      client_auth: {{ ca: [workers-ca.pem] }}
edge:
  issuer: https://edge.example.com/worker
  audience: https://lb.example.com
workloads:
  checkout: {{ id: {}, keys: [{{ kid: checkout-1, key: 'file:checkout.pub' }}] }}
  reports: {{ id: {}, keys: [{{ kid: reports-1, key: 'file:reports.pub' }}] }}
roles:
  reader: {{ workloads: [reports] }}
routes:
  - name: orders
    match: {{ host: shop.example.com, path: /orders/**, methods: [GET, HEAD, POST, PUT] }}
    allow: [checkout]
    pool: shop
  - name: reports
    match: {{ host: shop.example.com, path: /reports/* }}
    allow: [reader]
    filters: [{{ set_headers: {{ request: {{ x-tenant: shop }}, response: {{ x-served-by: belay }} }} }}]
    pool: shop
  - name: certificate-only
    match: {{ host: shop.example.com, path: /mtls }}
    identity: mtls
    allow: [checkout]
    pool: shop
  - name: status
    match: {{ host: shop.example.com, path: /status }}
    allow: public
    pool: shop
pools:
  shop:
    servers: [{{ name: a, address: '{a}' }}, {{ name: b, address: '{b}' }}]
    health: {{ http: {{ path: /healthz }}, interval: 1s }}
audit: {{ file: audit.jsonl }}
",
        id("checkout"),
        id("reports")
    )
}
