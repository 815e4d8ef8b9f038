//! Other nodes, asked what is live there.

use super::Exit;
use super::status::Args;
use super::terminal::{Terminal, table};
use crate::config::Finding;
use crate::keys::{Files, Kind};
use http::Uri;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde::Deserialize;
use serde_json::{Value, json};
use std::{
    io::{self, Read, Write},
    net::{TcpStream, ToSocketAddrs},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

/// For each step of asking one.
const PATIENCE: Duration = Duration::from_secs(5);
/// The longest answer, in bytes.
const ANSWER_MAX: usize = 64 * 1024;

/// How nodes are asked that ask for a certificate (`admin.https`).
#[derive(Debug, clap::Args)]
pub(super) struct Credentials {
    /// The CA of the other nodes' certificates, in PEM.
    #[arg(long, value_name = "FILE", requires = "against")]
    ca: Option<PathBuf>,
    /// The client certificate for them, in PEM.
    #[arg(long, value_name = "FILE", requires_all = ["against", "key"])]
    cert: Option<PathBuf>,
    /// Its private key.
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
}

/// What a node says of itself.
#[derive(Debug, Deserialize)]
struct Version {
    node: String,
    version: String,
    generation: u64,
    digest: String,
    policy: String,
}

/// Why a node says nothing.
#[derive(Debug, thiserror::Error)]
enum Silent {
    #[error("no URL: write https://HOST:PORT, http://HOST:PORT or unix:PATH")]
    Url,
    #[error("to ask by https, name the CA: --ca FILE")]
    NoCa,
    #[error("{0}")]
    Unreachable(#[from] io::Error),
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
    #[error("it answers with {0}")]
    Refused(String),
    #[error("it takes too long")]
    Slow,
    #[error("it answers only to localhost or an IP address: write the address, or ask its admin.https")]
    Misdirected,
    #[error("what answers is no Belay, or an older one")]
    Strange,
}

/// Compares the process with others.
pub(super) fn main(args: &Args, terminal: &Terminal) -> Exit {
    let own = match args.socket.ask_json("/version", terminal) {
        Ok(own) => own,
        Err(exit) => return exit,
    };
    let Ok(own) = serde_json::from_value::<Version>(own) else {
        terminal.fail(&Silent::Strange);
        return Exit::Unavailable;
    };
    let tls = match client(&args.credentials) {
        Ok(tls) => tls,
        Err(finding) => {
            terminal.show(&[finding]);
            return Exit::Config;
        }
    };
    let asked: Vec<_> = args.against.iter().map(|url| (url.as_str(), ask(url, tls.as_ref()))).collect();
    if args.json {
        let others: Vec<Value> = asked.iter().map(|(url, answer)| as_json(url, answer, &own)).collect();
        let Version { node, version, generation, digest, policy } = &own;
        terminal.say_json(&json!({ "node": node, "version": version, "generation": generation, "digest": digest,
            "policy": policy, "others": others }));
    } else {
        terminal.say(&show(&own, &asked, terminal));
    }
    let differs =
        |(_, answer): &(&str, Result<Version, Silent>)| answer.as_ref().is_ok_and(|other| other.policy != own.policy);
    match (asked.iter().any(|(_, answer)| answer.is_err()), asked.iter().any(differs)) {
        (_, true) => Exit::Changes,
        (true, false) => Exit::Unavailable,
        (false, false) => Exit::Ok,
    }
}

fn show(own: &Version, asked: &[(&str, Result<Version, Silent>)], terminal: &Terminal) -> String {
    let short = |digest: &str| digest.get(..12).unwrap_or(digest).to_owned();
    let row = |node: &str, at: &str, version: &Version, verdict: &str| {
        let (generation, number) = (version.generation.to_string(), version.version.clone());
        // Who answers may be anybody.
        let node: String = node.chars().filter(|c| !c.is_control()).take(64).collect();
        let number = number.chars().filter(|c| !c.is_control()).take(32).collect();
        vec![node, at.into(), number, generation, short(&version.policy), short(&version.digest), verdict.into()]
    };
    let head = ["NODE", "AT", "VERSION", "GENERATION", "POLICY", "CONFIG", ""].map(str::to_owned).to_vec();
    let mut rows = vec![head, row(&own.node, "here", own, "")];
    for (url, answer) in asked {
        rows.push(match answer {
            Ok(other) => row(&other.node, url, other, verdict(own, other)),
            Err(silent) => ["-", url, "-", "-", "-", "-", &silent.to_string()].map(str::to_owned).to_vec(),
        });
    }
    let text = table(&rows);
    let (head, rest) = text.split_once('\n').unwrap_or((&text, ""));
    format!("{}\n{rest}", terminal.dim(head))
}

/// Certificates, names and addresses may well be each node's own.
fn verdict(own: &Version, other: &Version) -> &'static str {
    match (own.policy == other.policy, own.digest == other.digest) {
        (true, true) => "same",
        (true, false) => "same policy",
        (false, _) => "DIFFERS",
    }
}

fn as_json(url: &str, answer: &Result<Version, Silent>, own: &Version) -> Value {
    match answer {
        Ok(other) => json!({ "url": url, "node": other.node, "version": other.version, "generation": other.generation,
            "digest": other.digest, "policy": other.policy, "same_policy": other.policy == own.policy }),
        Err(silent) => json!({ "url": url, "error": silent.to_string() }),
    }
}

/// What speaks TLS, if a CA was named.
fn client(credentials: &Credentials) -> Result<Option<Arc<ClientConfig>>, Finding> {
    let Credentials { ca: Some(ca), cert, key } = credentials else { return Ok(None) };
    let mut files = Files::new(Path::new(""));
    let unusable = |file: &PathBuf, error: rustls::Error| Finding::of_file(file, error.to_string(), None);
    let mut roots = RootCertStore::empty();
    for der in files.certificates(ca, Kind::Current)? {
        roots.add(der).map_err(|error| unusable(ca, error))?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| unusable(ca, error))?.with_root_certificates(roots);
    let config = match cert.as_ref().zip(key.as_ref()) {
        Some((cert, key)) => {
            let chain = files.certificates(cert, Kind::Current)?;
            let key_file = files.private_key(key)?;
            builder.with_client_auth_cert(chain, key_file).map_err(|error| unusable(key, error))?
        }
        None => builder.with_no_client_auth(),
    };
    Ok(Some(Arc::new(config)))
}

fn ask(url: &str, tls: Option<&Arc<ClientConfig>>) -> Result<Version, Silent> {
    if let Some(path) = url.strip_prefix("unix:") {
        let stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        return converse(stream, "localhost");
    }
    let uri: Uri = url.parse().map_err(|_no_url| Silent::Url)?;
    let (Some(scheme), Some(host)) = (uri.scheme_str(), uri.host()) else { return Err(Silent::Url) };
    let port = uri.port_u16().unwrap_or(if scheme == "https" { 443 } else { 80 });
    let authority = uri.authority().ok_or(Silent::Url)?.as_str();
    let host = host.trim_matches(['[', ']']);
    match scheme {
        "http" => converse(connect(host, port)?, authority),
        "https" => {
            let tls = tls.ok_or(Silent::NoCa)?;
            let name = ServerName::try_from(host.to_owned()).map_err(|_no_name| Silent::Url)?;
            let connection = ClientConnection::new(Arc::clone(tls), name)?;
            converse(StreamOwned::new(connection, connect(host, port)?), authority)
        }
        _ => Err(Silent::Url),
    }
}

fn connect(host: &str, port: u16) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in (host, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, PATIENCE) {
            Ok(stream) => {
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_write_timeout(Some(PATIENCE))?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn converse(mut stream: impl Read + Write, host: &str) -> Result<Version, Silent> {
    write!(stream, "GET /version HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")?;
    stream.flush()?;
    let mut raw = Vec::new();
    let (began, mut piece) = (Instant::now(), [0; 4096]);
    loop {
        match stream.read(&mut piece) {
            Ok(0) => break,
            Ok(count) => raw.extend_from_slice(piece.get(..count).unwrap_or_default()),
            // A connection that ends without a goodbye has ended all the same.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => break,
            Err(error) => return Err(error.into()),
        }
        if raw.len() > ANSWER_MAX || began.elapsed() > PATIENCE {
            return Err(Silent::Slow);
        }
    }
    let raw = String::from_utf8_lossy(&raw);
    let (head, body) = raw.split_once("\r\n\r\n").ok_or(Silent::Strange)?;
    let status = head.split(' ').nth(1).unwrap_or_default();
    match status {
        "200" => serde_json::from_str(body).map_err(|_no_version| Silent::Strange),
        "404" => Err(Silent::Strange),
        "421" => Err(Silent::Misdirected),
        status => Err(Silent::Refused(status.to_owned())),
    }
}
