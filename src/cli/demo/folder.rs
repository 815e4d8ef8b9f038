//! The demo's folder: certificates, keys, Workers' environments and the config, made new each time.

use super::Error;
use super::people;
use super::pki::{Ca, Issued};
use crate::cli::token::{Environment, Identity};
use crate::config;
use crate::config::document::{
    Admin, Allow, Audit, Balance, Certificate, ClientAddress, ClientAuth, CrlExpired, Dns, Document, DurationText,
    Edge, Handshake, Health, History, HostFrom, HttpCheck, Keep, Key, KeyState, Limits, Listener, Match, OnFailure,
    Pool, ProcessLog, Queue, Reload, Retry, Role, Rotate, Route, Server, ShareText, Stop, Timeouts, Tls, Token,
    Workload,
};
use crate::identity::Profile;
use crate::request::Id;
use rcgen::KeyPair;
use serde_json::json;
use std::{
    collections::BTreeMap,
    env, fs, io,
    net::SocketAddr,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, symlink},
    path::{Path, PathBuf},
};

pub(super) const HOST: &str = "shop.example.com";
const ISSUER: &str = "https://edge.example.com/worker";
const AUDIENCE: &str = "https://lb.example.com";

/// Who calls in the demo. The last two are what they seem to be only at first sight.
pub(super) const CALLERS: [&str; 4] = ["checkout", "reports", "forger", "rogue"];

/// A folder of our own; a temporary one goes with its owner.
pub(super) struct Folder {
    path: PathBuf,
    temporary: bool,
}

impl Drop for Folder {
    fn drop(&mut self) {
        if self.temporary
            && let Err(fault) = fs::remove_dir_all(&self.path)
        {
            log::warn!("{} could not be removed: {fault}", self.path.display());
        }
    }
}

impl Folder {
    /// Makes the folder, which must be new; nobody else may look into it.
    pub(super) fn new(wanted: Option<&Path>) -> Result<Self, Error> {
        let made =
            || env::temp_dir().join(format!("belay-demo-{}", Id::random().as_str().get(..8).unwrap_or_default()));
        let path = wanted.map_or_else(made, Path::to_owned);
        let make = |path: &Path| fs::DirBuilder::new().mode(0o700).create(path);
        let fault = |error| Error::Folder(path.clone(), error);
        make(&path).map_err(fault)?;
        let path = path.canonicalize().map_err(fault)?;
        for inner in ["certs", "keys", "people", "history"] {
            make(&path.join(inner)).map_err(|error| Error::Folder(path.join(inner), error))?;
        }
        Ok(Self { path, temporary: wanted.is_none() })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn config(&self) -> PathBuf {
        self.path.join("belay.yaml")
    }

    /// Writes everything that does not depend on the port that is bound.
    pub(super) fn fill(&self, port: u16, origins: [SocketAddr; 2]) -> Result<(), Error> {
        let (servers, workers, others) =
            (Ca::new("Demo Servers")?, Ca::new("Demo Workers")?, Ca::new("Somebody Else")?);
        self.write("certs/ca.pem", &servers.pem)?;
        self.write("certs/workers-ca.pem", &workers.pem)?;
        self.write_issued("lb", &servers.server(HOST)?)?;
        let checkout = workers.workload("checkout", &id("checkout"))?;
        let keys = [self.token_key("checkout")?, self.token_key("reports")?];
        let [checkout_key, reports_key] = &keys;
        self.write_issued("reports", &workers.workload("reports", &id("reports"))?)
            .and_then(|thumbprint| self.environment("reports", ("reports", reports_key), &thumbprint))?;
        // The forger has the certificate but not the key; the rogue has the key, and a certificate of another CA.
        let forged = KeyPair::generate()?.serialize_pem();
        let thumbprint = self.write_issued("forger", &checkout)?;
        self.environment("forger", ("checkout", &forged), &thumbprint)?;
        self.environment("checkout", ("checkout", checkout_key), &self.write_issued("checkout", &checkout)?)?;
        let thumbprint = self.write_issued("rogue", &others.workload("checkout", &id("checkout"))?)?;
        self.environment("rogue", ("checkout", checkout_key), &thumbprint)?;
        people::write(self)?;
        self.write_config(port, origins)?;
        let program = env::current_exe().map_err(|error| Error::Write(self.path.join("belay"), error))?;
        symlink(program, self.path.join("belay")).map_err(|error| Error::Write(self.path.join("belay"), error))
    }

    fn write_config(&self, port: u16, origins: [SocketAddr; 2]) -> Result<(), Error> {
        let schema = serde_json::to_string_pretty(&config::schema(crate::filter::KINDS)).unwrap_or_default();
        self.write("belay.schema.json", &schema)?;
        let yaml = config::write(&document(port, origins))?;
        self.write("belay.yaml", &format!("# yaml-language-server: $schema=belay.schema.json\n{yaml}"))
    }

    fn token_key(&self, name: &str) -> Result<String, Error> {
        let key = KeyPair::generate()?;
        self.write(&format!("keys/{name}.pub.pem"), &key.public_key_pem())?;
        Ok(key.serialize_pem())
    }

    fn write_issued(&self, name: &str, issued: &Issued) -> Result<String, Error> {
        self.write(&format!("certs/{name}.pem"), &issued.cert)?;
        self.write(&format!("keys/{name}.tls.pem"), &issued.key)?;
        Ok(issued.thumbprint.clone())
    }

    /// The environment of the Worker `file`, which says that it is `name`.
    fn environment(&self, file: &str, (name, key): (&str, &str), thumbprint: &str) -> Result<(), Error> {
        let environment = Environment {
            identity: Identity { kid: format!("{name}-1"), alg: "ES256".into(), key: key.into() },
            issuer: ISSUER.into(),
            audience: AUDIENCE.into(),
            subject: id(name),
            thumbprint: Some(thumbprint.into()),
        };
        self.write(&format!("{file}.env.json"), &serde_json::to_string_pretty(&environment).unwrap_or_default())
    }

    pub(super) fn write(&self, name: &str, content: &str) -> Result<(), Error> {
        write(&self.path.join(name), content)
    }
}

/// Writes a file that only its owner can read.
pub(super) fn write(path: &Path, content: &str) -> Result<(), Error> {
    let options = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).to_owned();
    let written = options.open(path).and_then(|mut file| io::Write::write_all(&mut file, content.as_bytes()));
    written.map_err(|error| Error::Write(path.to_owned(), error))
}

fn id(workload: &str) -> String {
    format!("spiffe://example.com/worker/{workload}")
}

fn document(port: u16, [a, b]: [SocketAddr; 2]) -> Document {
    Document {
        version: 1,
        node: "demo".into(),
        log: ProcessLog::default(),
        listeners: named([("edge", listener(port))]),
        edge: Some(Edge {
            issuer: ISSUER.into(),
            audience: AUDIENCE.into(),
            facts: BTreeMap::new(),
            token: Token { max_lifetime: time("300s"), ..Token::default() },
            max_key_age: time("90d"),
        }),
        workloads: named([("checkout", workload("checkout")), ("reports", workload("reports"))]),
        people: named([("staff", people::staff())]),
        roles: named([
            ("reader", Role { workloads: vec!["reports".into()], ..Role::default() }),
            ("support", people::support()),
        ]),
        access: None,
        external_secrets: Vec::new(),
        routes: vec![
            route(("orders", "/orders/**"), Some(&["GET", "POST"]), Allow::Names(vec!["checkout".into()])),
            route(("reports", "/reports/**"), Some(&["GET"]), Allow::Names(vec!["reader".into()])),
            Route {
                identity: Some(Profile::MtlsJwtUser),
                ..route(("admin", "/admin/**"), Some(&["GET"]), Allow::Names(vec!["support".into()]))
            },
            route(("status", "/status"), None, Allow::Word("public".into())),
        ],
        plugins: None,
        pools: named([("shop", pool([("a", a), ("b", b)]))]),
        revoked: None,
        checks: BTreeMap::new(),
        dns: Dns::default(),
        audit: Audit {
            file: "audit.jsonl".into(),
            on_failure: OnFailure::default(),
            durability: None,
            rotate: Rotate::default(),
            keep: Keep::default(),
            checkpoints: None,
            pseudonyms: None,
        },
        admin: Some(Admin {
            https: None,
            http: Some("127.0.0.1:0".into()),
            socket: Some("admin.sock".into()),
            read: Vec::new(),
            change: Vec::new(),
        }),
        reload: Reload::default(),
        // Whoever presses Ctrl-C does not want to wait.
        stop: Stop { grace: DurationText("2s".into()), ..Stop::default() },
        history: Some(History { dir: "history".into(), keep: 100 }),
    }
}

fn named<T, const N: usize>(entries: [(&str, T); N]) -> BTreeMap<String, T> {
    entries.into_iter().map(|(name, entry)| (name.to_owned(), entry)).collect()
}

fn time(text: &str) -> DurationText {
    DurationText(text.into())
}

fn listener(port: u16) -> Listener {
    let certificate =
        Certificate { cert: Some("certs/lb.pem".into()), key: Some("file:keys/lb.tls.pem".into()), folder: None };
    let client_auth = ClientAuth {
        ca: vec!["certs/workers-ca.pem".into()],
        crl: Vec::new(),
        crl_expired: CrlExpired::default(),
        handshake: Handshake::default(),
        max_certificate_lifetime: None,
        trust_shared_ca: None,
    };
    Listener {
        bind: vec![format!("127.0.0.1:{port}")],
        tls: Some(Tls { certificates: vec![certificate], client_auth: Some(client_auth) }),
        identity: Profile::MtlsJwt,
        sources: Vec::new(),
        proxy_protocol: None,
        ports: Vec::new(),
        client_address: ClientAddress::default(),
        filters: Vec::new(),
        host_from: HostFrom::default(),
        limits: Limits::default(),
    }
}

fn workload(name: &str) -> Workload {
    let key = Key {
        kid: format!("{name}-1"),
        key: Some(format!("file:keys/{name}.pub.pem")),
        secret: None,
        created: None,
        state: KeyState::default(),
    };
    Workload { id: id(name), keys: vec![key], may_assert: Vec::new() }
}

fn route((name, path): (&str, &str), methods: Option<&[&str]>, allow: Allow) -> Route {
    let methods = methods.map(|methods| methods.iter().map(|method| (*method).to_owned()).collect());
    Route {
        name: name.into(),
        matches: Match { host: HOST.into(), path: path.into(), methods },
        identity: None,
        allow,
        groups: Vec::new(),
        hide: false,
        body_digest: None,
        filters: vec![BTreeMap::from([("headers".into(), json!({ "request": { "set": { "x-tenant": "shop" } } }))])],
        limits: Vec::new(),
        max_age: None,
        outlives_token: false,
        pool: "shop".into(),
    }
}

fn pool(servers: [(&str, SocketAddr); 2]) -> Pool {
    let server = |(name, address): (&str, SocketAddr)| Server {
        name: name.into(),
        address: Some(address.to_string()),
        srv: None,
        max: None,
        max_requests: None,
        weight: 100,
        follows: None,
        backup: false,
    };
    let servers = servers.map(server);
    let http = HttpCheck {
        path: "/healthz".into(),
        method: "GET".into(),
        host: None,
        headers: BTreeMap::new(),
        body: String::new(),
        expect: "200-299".into(),
        contains: None,
        matches: None,
    };
    Pool {
        limits: Vec::new(),
        balance: Balance::RoundRobin,
        hash: None,
        backups_below: ShareText("1%".into()),
        panic_below: ShareText("0%".into()),
        slow_start: time("0s"),
        check: None,
        agent: None,
        max_connections: None,
        max_connections_in_all: None,
        max_requests: None,
        max_requests_in_all: None,
        queue: Queue::default(),
        retry: Retry::default(),
        outliers: None,
        breaker: None,
        servers: servers.into(),
        servers_file: None,
        sticky: None,
        proxy_protocol: None,
        http: 1,
        tls: None,
        trailers: Vec::new(),
        timeouts: Timeouts::default(),
        health: Some(Health {
            http: Some(http),
            tcp: None,
            grpc: None,
            interval: time("2s"),
            fast_interval: None,
            down_interval: None,
            starts_healthy: false,
            certificate_ends_in: None,
            timeout: time("2s"),
            rise: 1,
            fall: 3,
        }),
    }
}
