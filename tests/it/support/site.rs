//! What a load balancer needs on disk, and who calls it: certificates, keys, origins and a config.

use super::client::{Ask, Reply, over_h1, over_h2};
use super::pki::{Ca, Identity};
use belay::clock::UnixSeconds;
use belay::identity::{BodyDigest, Claims, Confirmation, Kid, SigningKey};
use belay::origin::Echo;
use belay::request::Id;
use rcgen::KeyPair;
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion, pki_types::ServerName};
use std::{collections::HashMap, fs, path::PathBuf, sync::Arc};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsConnector, client::TlsStream};

pub const HOST: &str = "shop.example.com";
/// What checkout and the load balancer share, where they do.
pub const SECRET: &str = "bG9uZyBlbm91Z2ggYW5kIHJhbmRvbSBlbm91Z2ggdG8gYmUgdGFrZW4gYXMgYSBzZWNyZXQ=";
/// When the tests in process take place.
pub const NOW: UnixSeconds = 1_795_000_000;

pub struct Site {
    pub folder: TempDir,
    pub identities: HashMap<&'static str, Identity>,
    pub token_keys: HashMap<&'static str, KeyPair>,
    pub worker_ca: Ca,
    /// When tokens are signed.
    pub now: UnixSeconds,
    server_ca: Ca,
}

pub fn id(workload: &str) -> String {
    format!("spiffe://example.com/worker/{workload}")
}

impl Site {
    /// The usual site, whose certificates of workloads are good for a while from `now` on.
    pub async fn new(now: UnixSeconds) -> Self {
        let folder = TempDir::new().unwrap();
        let (server_ca, worker_ca, other_ca) = (Ca::new(now), Ca::new(now), Ca::new(now));
        let identities = HashMap::from([
            ("lb", server_ca.server(HOST)),
            ("checkout", worker_ca.workload(&id("checkout"))),
            ("reports", worker_ca.workload(&id("reports"))),
            ("unknown", worker_ca.workload(&id("unknown"))),
            ("rogue", other_ca.workload(&id("checkout"))),
        ]);
        let names = ["checkout", "reports", "spare", "forger"];
        let token_keys = names.into_iter().map(|name| (name, KeyPair::generate().unwrap())).collect();
        let site = Self { folder, identities, token_keys, worker_ca, now, server_ca };
        site.write("workers-ca.pem", &site.worker_ca.pem);
        site.write("lb.pem", &site.identities["lb"].pem);
        site.write("lb.key", &site.identities["lb"].key_pem);
        for name in ["checkout", "reports", "spare"] {
            site.write(&format!("{name}.pub"), &site.token_keys[name].public_key_pem());
        }
        site.write("belay.yaml", &config_text(&[origin("a").await, origin("b").await]));
        site
    }

    pub fn config(&self) -> PathBuf {
        self.folder.path().join("belay.yaml")
    }

    pub fn config_text(&self) -> String {
        fs::read_to_string(self.config()).unwrap()
    }

    pub fn write(&self, name: &str, content: &str) {
        fs::write(self.folder.path().join(name), content).unwrap();
    }

    /// Makes a token for a request, or for what its claims say instead: bound to its certificate, or without one to its
    /// body.
    pub fn token(&self, signer: &str, ask: &Ask) -> String {
        let (named, key, kid) = match signer {
            "forger" => ("checkout", self.signing_key("forger"), "checkout-1".to_owned()),
            "secret" => ("checkout", SigningKey::from_secret(SECRET).unwrap(), "checkout-s".to_owned()),
            named => (named, self.signing_key(named), format!("{named}-1")),
        };
        let thumbprint = ask.certificate.map(|name| self.identities[name].thumbprint());
        let digest = thumbprint.is_none().then(|| BodyDigest::of(ask.body.as_bytes()).to_string().into());
        let claims = Claims {
            iss: "https://edge.example.com/worker".into(),
            aud: vec!["https://lb.example.com".into()],
            sub: id(named).into(),
            iat: self.now,
            exp: self.now + 60,
            jti: Id::random().as_str().to_owned().into(),
            htm: ask.method.into(),
            hta: HOST.into(),
            htt: ask.target.into(),
            cnf: thumbprint.map(|thumbprint| Confirmation { x5t_s256: thumbprint.into() }),
            rid: None,
            cip: None,
            ohost: None,
            cdg: digest,
            ath: None,
        };
        let mut claims = serde_json::to_value(claims).unwrap();
        for (name, value) in &ask.claims {
            claims[*name] = value.clone();
        }
        key.sign(&Kid::parse(&kid).unwrap(), &claims).unwrap()
    }

    fn signing_key(&self, name: &str) -> SigningKey {
        SigningKey::from_pkcs8(&self.token_keys[name].serialize_der()).unwrap()
    }

    /// All headers of a request, its token among them.
    pub fn headers(&self, ask: &Ask) -> Vec<(String, String)> {
        let own = ask.headers.iter().map(|(name, value)| ((*name).to_owned(), value.clone()));
        own.chain(ask.signer.map(|signer| ("Edge-Identity".to_owned(), self.token(signer, ask)))).collect()
    }

    /// Makes a request to a port of this machine.
    pub async fn ask_at(&self, address: &str, ask: &Ask) -> Reply {
        let stream = TcpStream::connect(address).await.unwrap();
        let stream = self.tls(stream, ask.certificate, alpn(ask), rustls::DEFAULT_VERSIONS).await;
        let headers = self.headers(ask);
        if ask.h2 { over_h2(stream, ask, &headers).await } else { over_h1(stream, ask, &headers).await }
    }

    /// Makes the handshake of a client.
    pub async fn tls<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: S,
        certificate: Option<&str>,
        alpn: &[&[u8]],
        versions: &[&'static SupportedProtocolVersion],
    ) -> TlsStream<S> {
        self.try_tls(stream, &self.client(certificate, alpn, versions)).await.unwrap()
    }

    /// The settings of a client, which resumes sessions with them.
    pub fn client(
        &self,
        certificate: Option<&str>,
        alpn: &[&[u8]],
        versions: &[&'static SupportedProtocolVersion],
    ) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.server_ca.der.clone()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()));
        let builder = builder.with_protocol_versions(versions).unwrap().with_root_certificates(roots);
        let mut config = match certificate.map(|name| &self.identities[name]) {
            Some(identity) => builder.with_client_auth_cert(vec![identity.der.clone()], identity.key()).unwrap(),
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        Arc::new(config)
    }

    /// Makes a handshake that may fail.
    pub async fn try_tls<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: S,
        client: &Arc<ClientConfig>,
    ) -> std::io::Result<TlsStream<S>> {
        TlsConnector::from(Arc::clone(client)).connect(ServerName::try_from(HOST).unwrap(), stream).await
    }
}

/// What a client of that kind offers; the Workers runtime offers nothing.
pub fn alpn(ask: &Ask) -> &'static [&'static [u8]] {
    if ask.h2 { &[b"h2"] } else { &[] }
}

/// Starts an origin that says what it was asked.
pub async fn origin(name: &'static str) -> String {
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
    filters: [{{ headers: {{ request: {{ set: {{ x-tenant: shop }} }}, response: {{ set: {{ x-served-by: belay }} }} }} }}]
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
