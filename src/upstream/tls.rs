//! TLS to servers: who vouches for them, and who we are.

use crate::generation::Digest;
use crate::uses::Uses;
use pingora::upstreams::peer::HttpPeer;
use pingora::utils::tls::{CertKey, WrappedX509, parse_x509};
use rustls::ClientConfig;
use rustls::RootCertStore;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::{fmt, sync::Arc};
use x509_parser::prelude::{FromDer, X509Certificate};

/// The TLS of a pool.
#[derive(Clone)]
pub struct OriginTls {
    ca: Arc<[WrappedX509]>,
    client: Option<Arc<CertKey>>,
    config: Arc<ClientConfig>,
    sni: String,
    profile: Digest,
    /// Who counts connections: for each CA, and for our certificate.
    uses: Arc<[Uses]>,
}

/// Why certificates cannot be used towards servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadOriginTls {
    /// One of the CAs is none.
    #[error("holds a certificate that cannot vouch for servers")]
    Ca,
    /// Our certificate and its key do not go together.
    #[error("the client certificate and its key do not go together")]
    Client,
}

impl fmt::Debug for OriginTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OriginTls({})", self.sni)
    }
}

impl PartialEq for OriginTls {
    fn eq(&self, other: &Self) -> bool {
        self.profile == other.profile
    }
}

/// A chain, leaf first, and its key.
pub(super) type Chain = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

impl OriginTls {
    /// Takes the CAs, the name that servers must have, and our own certificate. What Pingora would panic or fail at with
    /// each connection is tried here.
    ///
    /// # Errors
    /// [`BadOriginTls`].
    pub fn new(ca: &[CertificateDer<'static>], sni: &str, client: Option<Chain>) -> Result<Self, BadOriginTls> {
        let mut roots = RootCertStore::empty();
        ca.iter().try_for_each(|der| roots.add(der.clone())).map_err(|_unusable| BadOriginTls::Ca)?;
        if ca.iter().any(|der| X509Certificate::from_der(der).is_err()) {
            return Err(BadOriginTls::Ca);
        }
        let mut parts: Vec<(&str, Vec<u8>)> = vec![("sni", sni.into())];
        parts.extend(ca.iter().map(|der| ("ca", der.to_vec())));
        let mut own = None;
        let client = match client {
            Some((chain, key)) => {
                parts.extend(chain.iter().map(|der| ("client", der.to_vec())));
                parts.push(("key", key.secret_der().to_vec()));
                let ders = chain.iter().map(|der| der.to_vec()).collect();
                let secret = key.secret_der().to_vec();
                own = Some((chain, key));
                Some(Arc::new(CertKey::new(ders, secret)))
            }
            None => None,
        };
        let config = Arc::new(configure(roots, own)?);
        let parts: Vec<_> = parts.iter().map(|(name, bytes)| (*name, bytes.as_slice())).collect();
        let profile = Digest::of(&parts);
        let ca = ca.iter().map(|der| WrappedX509::new(der.to_vec(), parse_x509)).collect();
        Ok(Self { ca, client, config, sni: sni.to_owned(), profile, uses: Arc::default() })
    }

    /// Its connections are counted there.
    #[must_use]
    pub fn counted(self, uses: Vec<Uses>) -> Self {
        Self { uses: uses.into(), ..self }
    }

    /// Who counts new connections.
    pub(super) const fn uses(&self) -> &Arc<[Uses]> {
        &self.uses
    }

    /// What tells it from others. Connections are kept apart by all of it: Pingora's own key leaves out the CA, and knows
    /// a certificate by its serial number only.
    pub(super) const fn profile(&self) -> Digest {
        self.profile
    }

    /// The name that servers must have.
    pub(super) fn sni(&self) -> &str {
        &self.sni
    }

    /// What we speak TLS with where the library does not.
    pub(super) fn client(&self, speaks_h2: bool) -> Arc<ClientConfig> {
        let protocol: &[u8] = if speaks_h2 { b"h2" } else { b"http/1.1" };
        let mut config = (*self.config).clone();
        config.alpn_protocols = vec![protocol.to_vec()];
        Arc::new(config)
    }

    /// Has a peer use it.
    pub(super) fn apply(&self, peer: &mut HttpPeer) {
        peer.sni.clone_from(&self.sni);
        peer.options.ca = Some(Arc::clone(&self.ca));
        peer.client_cert_key.clone_from(&self.client);
    }
}

/// What we speak TLS with where the library does not.
fn configure(roots: RootCertStore, client: Option<Chain>) -> Result<ClientConfig, BadOriginTls> {
    let unusable = |_: rustls::Error| BadOriginTls::Client;
    let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()));
    let builder = builder.with_safe_default_protocol_versions().map_err(unusable)?.with_root_certificates(roots);
    match client {
        Some((chain, key)) => builder.with_client_auth_cert(chain, key).map_err(unusable),
        None => Ok(builder.with_no_client_auth()),
    }
}
