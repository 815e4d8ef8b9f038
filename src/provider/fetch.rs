//! One fetch: a GET over TLS that follows nothing, reads not too much, and connects only where it may.

use super::Source;
use super::timing::{FRESH_MAX, fresh_for};
use crate::config::KeysPlace;
use crate::generation::Digest;
use crate::identity::{BadKeySet, KeySet};
use crate::network::{Networks, is_public};
use crate::uses::Uses;
use http::header::{ACCEPT, HOST, USER_AGENT};
use http::{HeaderMap, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde::Deserialize;
use std::{
    error::Error as _,
    fmt,
    hash::{Hash, Hasher},
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};
use tokio::net::{TcpStream, lookup_host};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// For one answer, from the name to its last byte.
const TIME_MAX: Duration = Duration::from_secs(5);
/// The longest answer, in bytes.
const LENGTH_MAX: usize = 1024 * 1024;
/// So many addresses of a name are tried.
const ADDRESSES_MAX: usize = 4;

/// CAs that vouch for a provider's server.
#[derive(Clone)]
pub struct Roots {
    client: Arc<ClientConfig>,
    digest: Digest,
    /// Who counts fetches.
    uses: Arc<[Uses]>,
}

/// Certificates cannot vouch for servers.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("holds a certificate that cannot vouch for servers")]
pub struct BadRoots;

impl Roots {
    /// Takes CAs.
    ///
    /// # Errors
    /// [`BadRoots`] if one of them is none.
    pub fn new(ca: &[CertificateDer<'static>]) -> Result<Self, BadRoots> {
        let mut roots = RootCertStore::empty();
        ca.iter().try_for_each(|der| roots.add(der.clone())).map_err(|_unusable| BadRoots)?;
        let parts: Vec<_> = ca.iter().map(|der| ("ca", &**der)).collect();
        Self::of(roots, Digest::of(&parts))
    }

    /// The CAs of this system, as far as they can be used.
    ///
    /// # Errors
    /// [`BadRoots`] if there are none.
    pub fn of_system() -> Result<Self, BadRoots> {
        let found = rustls_native_certs::load_native_certs();
        let mut roots = RootCertStore::empty();
        let (used, _) = roots.add_parsable_certificates(found.certs);
        if used == 0 { Err(BadRoots) } else { Self::of(roots, Digest::of(&[("system", &[])])) }
    }

    fn of(roots: RootCertStore, digest: Digest) -> Result<Self, BadRoots> {
        let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()));
        let builder = builder.with_safe_default_protocol_versions().map_err(|_impossible| BadRoots)?;
        let client = builder.with_root_certificates(roots).with_no_client_auth();
        Ok(Self { client: Arc::new(client), digest, uses: Arc::default() })
    }

    /// Fetches by them are counted there.
    #[must_use]
    pub fn counted(self, uses: Vec<Uses>) -> Self {
        Self { uses: uses.into(), ..self }
    }
}

impl fmt::Debug for Roots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Roots({})", self.digest)
    }
}

impl PartialEq for Roots {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest
    }
}

impl Eq for Roots {}

impl Hash for Roots {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.digest.hash(state);
    }
}

/// Why there are no keys.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    #[error("`{0}` is no https URL")]
    Url(Box<str>),
    #[error("{0} is not found: {1}")]
    Unknown(Box<str>, io::Error),
    #[error("{0} is at {1}, which is no public address: if it is meant, name its network in `allow_networks`")]
    Private(Box<str>, IpAddr),
    #[error("{0} cannot be reached: {1}")]
    Unreachable(Box<str>, io::Error),
    #[error("{0}")]
    Http(Box<str>),
    #[error("{0} answers {1}, and no redirect is followed")]
    Redirected(Box<str>, StatusCode),
    #[error("{0} answers {1}")]
    Status(Box<str>, StatusCode),
    #[error("its answer is over {LENGTH_MAX} bytes")]
    TooLong,
    #[error("it has not answered within {} s", TIME_MAX.as_secs())]
    Slow,
    #[error("its metadata are not what OpenID Connect Discovery says: {0}")]
    Metadata(#[from] serde_json::Error),
    #[error("its metadata say that it is `{0}`")]
    Impostor(Box<str>),
    #[error(transparent)]
    Keys(#[from] BadKeySet),
    #[error("nobody has named a key of it yet")]
    Unnamed,
}

/// Keys, and for how long they are fresh.
#[derive(Debug)]
pub(super) struct Fetched {
    pub(super) keys: KeySet,
    pub(super) fresh_for: Duration,
}

/// How one provider is asked.
#[derive(Debug)]
pub(super) struct Fetch {
    issuer: Box<str>,
    place: KeysPlace,
    roots: Roots,
    allowed: Networks,
}

/// What is read of a provider's metadata (OpenID Connect Discovery 1.0 § 3).
#[derive(Deserialize)]
struct Metadata {
    issuer: Box<str>,
    jwks_uri: Box<str>,
}

impl Fetch {
    pub(super) fn new(source: &Source) -> Self {
        Self {
            issuer: source.issuer.clone(),
            place: source.place.clone(),
            roots: source.roots.clone(),
            allowed: source.allowed.clone(),
        }
    }

    /// Fetches the keys, and before them where they are, if that is not known. Where each is by itself, those that are
    /// named.
    ///
    /// # Errors
    /// [`Fault`].
    pub(super) async fn keys(&self, named: &[Box<str>], known: Option<&KeySet>) -> Result<Fetched, Fault> {
        let jwks = match &self.place {
            KeysPlace::Metadata => self.discover().await?,
            KeysPlace::Set(url) => url.clone(),
            KeysPlace::Below(url) => return self.each(url, named, known).await,
        };
        let (headers, text) = self.get(&jwks).await?;
        Ok(Fetched { keys: KeySet::read(&text)?, fresh_for: fresh_for(&headers) })
    }

    /// Fetches keys one by one, beside those that are known. One that is there no more is none.
    async fn each(&self, below: &str, named: &[Box<str>], known: Option<&KeySet>) -> Result<Fetched, Fault> {
        let (mut files, mut fresh, mut last) = (Vec::new(), FRESH_MAX, Fault::Unnamed);
        for kid in named {
            match self.get(&format!("{}/{kid}", below.trim_end_matches('/'))).await {
                Ok((headers, text)) => {
                    fresh = fresh.min(fresh_for(&headers));
                    files.push((kid, Some(text)));
                }
                Err(fault @ Fault::Status(_, StatusCode::FORBIDDEN | StatusCode::NOT_FOUND | StatusCode::GONE)) => {
                    last = fault;
                    files.push((kid, None));
                }
                Err(fault) => return Err(fault),
            }
        }
        let keys = KeySet::with_files(known, files.iter().map(|(kid, text)| (&***kid, text.as_deref())));
        if keys.is_empty() { Err(last) } else { Ok(Fetched { keys, fresh_for: fresh }) }
    }

    async fn discover(&self) -> Result<Box<str>, Fault> {
        // OpenID Connect Discovery 1.0 § 4.1: a slash at the end is taken away first.
        let base = self.issuer.strip_suffix('/').unwrap_or(&self.issuer);
        let (_, text) = self.get(&format!("{base}/.well-known/openid-configuration")).await?;
        let metadata: Metadata = serde_json::from_slice(&text)?;
        // § 4.3: else another could speak for it.
        if metadata.issuer == self.issuer { Ok(metadata.jwks_uri) } else { Err(Fault::Impostor(metadata.issuer)) }
    }

    async fn get(&self, url: &str) -> Result<(HeaderMap, Bytes), Fault> {
        timeout(TIME_MAX, self.answer(url)).await.unwrap_or(Err(Fault::Slow))
    }

    async fn answer(&self, url: &str) -> Result<(HeaderMap, Bytes), Fault> {
        let place = Place::read(url).ok_or_else(|| Fault::Url(url.into()))?;
        let stream = self.connect(&place).await?;
        let name = ServerName::try_from(place.host.to_string()).map_err(|_no_name| Fault::Url(url.into()))?;
        let unreachable = |fault| Fault::Unreachable(place.host.clone(), fault);
        let tls = TlsConnector::from(Arc::clone(&self.roots.client));
        let stream = tls.connect(name, stream).await.map_err(unreachable)?;
        self.roots.uses.iter().for_each(Uses::add);
        let broken = |fault: hyper::Error| Fault::Http(told(&fault).into());
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        // It ends with this set, at the latest.
        let mut driving = JoinSet::new();
        driving.spawn(connection);
        let request = Request::get(place.target)
            .header(HOST, place.authority)
            .header(ACCEPT, "application/json")
            .header(USER_AGENT, concat!("belay/", env!("CARGO_PKG_VERSION")))
            .body(Empty::<Bytes>::new())
            .map_err(|_unfit| Fault::Url(url.into()))?;
        let response = sender.send_request(request).await.map_err(broken)?;
        match response.status() {
            StatusCode::OK => {}
            status if status.is_redirection() => return Err(Fault::Redirected(url.into(), status)),
            status => return Err(Fault::Status(url.into(), status)),
        }
        let (head, body) = response.into_parts();
        let body = Limited::new(body, LENGTH_MAX).collect().await.map_err(|fault| {
            let is_too_long = fault.is::<http_body_util::LengthLimitError>();
            if is_too_long { Fault::TooLong } else { Fault::Http(fault.to_string().into()) }
        })?;
        Ok((head.headers, body.to_bytes()))
    }

    /// Connects to one of the addresses of the name. What is judged is what is dialled, so that no second answer of DNS
    /// leads elsewhere.
    async fn connect(&self, place: &Place) -> Result<TcpStream, Fault> {
        let unknown = |fault| Fault::Unknown(place.host.clone(), fault);
        let found: Vec<SocketAddr> = lookup_host((&*place.host, place.port)).await.map_err(unknown)?.collect();
        let may = |address: &&SocketAddr| is_public(address.ip()) || self.allowed.contain(address.ip());
        let mut last = match found.iter().find(|address| !may(address)) {
            Some(private) => Fault::Private(place.host.clone(), private.ip()),
            None => Fault::Unknown(place.host.clone(), io::ErrorKind::NotFound.into()),
        };
        for address in found.iter().filter(may).take(ADDRESSES_MAX) {
            match TcpStream::connect(address).await {
                Ok(stream) => return Ok(stream),
                Err(fault) => last = Fault::Unreachable(place.host.clone(), fault),
            }
        }
        Err(last)
    }
}

/// A fault and what is behind it.
fn told(fault: &hyper::Error) -> String {
    fault.source().map_or_else(|| fault.to_string(), |source| format!("{fault}: {source}"))
}

/// A URL, apart.
struct Place {
    authority: String,
    host: Box<str>,
    port: u16,
    target: String,
}

impl Place {
    fn read(url: &str) -> Option<Self> {
        let uri: Uri = url.parse().ok().filter(|uri: &Uri| uri.scheme_str() == Some("https"))?;
        let authority = uri.authority().filter(|authority| !authority.as_str().contains('@'))?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        let target = uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
        Some(Self {
            authority: authority.to_string(),
            host: host.into(),
            port: authority.port_u16().unwrap_or(443),
            target: target.to_owned(),
        })
    }
}
