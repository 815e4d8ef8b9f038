//! TLS at our listeners: rustls, through Pingora's stream so that its HTTP code can serve it.
//!
//! Every client is asked for a certificate and must prove that it holds the key; whether the chain is good is judged
//! per request, also on a resumed session, where a refusal can be explained and recorded (`identity`).

mod certificates;
mod clients;
mod tickets;

pub use certificates::{BadCertificate, Certificates, Names, Pair};

use crate::clock::UnixSeconds;
use crate::generation::Digest;
use crate::hangup::Hangup;
use crate::identity::{Authorities, Peer};
use crate::uses::Uses;
use async_trait::async_trait;
use clients::Clients;
use pingora::listeners::TlsAccept;
use pingora::listeners::tls::Acceptor;
use pingora::protocols::IO;
use pingora::protocols::tls::{TlsRef, TlsStream, server::handshake_with_callback};
use rustls::crypto::CryptoProvider;
use rustls::server::{NoServerSessionStorage, ResolvesServerCert};
use rustls::{ServerConfig, version};
use std::{any::Any, fmt, ops::Range, sync::Arc};
use tickets::Tickets;

/// What a handshake told about the other end.
#[derive(Debug)]
pub struct Client {
    /// The certificate that it showed.
    pub peer: Option<Peer>,
    /// The version, for example `1.3`.
    pub version: &'static str,
    /// The hosts of the certificate that it was shown.
    pub names: Arc<Names>,
}

/// Ends TLS connections.
pub struct Terminator {
    acceptor: Acceptor,
    certificates: Arc<Certificates>,
    trust: Digest,
}

impl fmt::Debug for Terminator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Terminator")
    }
}

impl Terminator {
    /// TLS 1.2 and 1.3 with these certificates, for h2, http/1.1 and clients that negotiate neither. With `strict`
    /// authorities the handshake itself demands a certificate that they vouch for.
    ///
    /// Sessions are resumed by tickets, whose key is this terminator's own: with another one they end. How many are is
    /// counted. There is no early data, which could be replayed.
    ///
    /// # Errors
    /// If the cryptography offers no such versions.
    pub fn new(
        certificates: Certificates,
        strict: Option<Arc<Authorities>>,
        trust: Digest,
        resumptions: Uses,
    ) -> Result<Self, rustls::Error> {
        let certificates = Arc::new(certificates);
        let provider: Arc<CryptoProvider> = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let clients = Arc::new(Clients::new(provider.signature_verification_algorithms, strict));
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&version::TLS13, &version::TLS12])?
            .with_client_cert_verifier(clients)
            .with_cert_resolver(Arc::clone(&certificates) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        config.ticketer = Arc::new(Tickets::new(resumptions)?);
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.max_early_data_size = 0;
        Ok(Self { acceptor: Acceptor::from_server_config(Arc::new(config)), certificates, trust })
    }

    /// The digest of all that its sessions rest on: certificates, keys, CAs, revocation lists and rules.
    #[must_use]
    pub const fn trust(&self) -> Digest {
        self.trust
    }

    /// The validity of the one of its certificates that ends first.
    #[must_use]
    pub fn valid(&self) -> Range<UnixSeconds> {
        self.certificates.valid().clone()
    }

    /// Makes the handshake.
    ///
    /// # Errors
    /// Why it failed.
    pub async fn accept<S: IO>(&self, stream: S) -> Result<TlsStream<S>, Hangup> {
        let remember = Remember(&self.certificates);
        handshake_with_callback(&self.acceptor, stream, &remember).await.map_err(|fault| hangup_of(&fault.to_string()))
    }
}

/// Pingora keeps of rustls' error only its text.
fn hangup_of(fault: &str) -> Hangup {
    const WORDS: [(&str, Hangup); 9] = [
        ("received fatal alert", Hangup::HandshakeAlert),
        ("corrupt message", Hangup::HandshakeNotTls),
        ("peer sent no certificates", Hangup::HandshakeCertificate),
        ("invalid peer certificate", Hangup::HandshakeCertificate),
        ("peer is incompatible", Hangup::HandshakeIncompatible),
        ("known protocols", Hangup::HandshakeIncompatible),
        ("eof", Hangup::HandshakeClosed),
        ("Connection reset", Hangup::HandshakeClosed),
        ("Broken pipe", Hangup::HandshakeClosed),
    ];
    let found = WORDS.into_iter().find(|(words, _)| fault.contains(words));
    found.map_or(Hangup::HandshakeFailed, |(_, hangup)| hangup)
}

/// Keeps what the handshake told for the requests of the connection.
struct Remember<'a>(&'a Certificates);

#[async_trait]
impl TlsAccept for Remember<'_> {
    async fn handshake_complete_callback(&self, tls: &TlsRef) -> Option<Arc<dyn Any + Send + Sync>> {
        let peer = tls.peer_cert_chain_der().and_then(Peer::new);
        let names = Arc::clone(self.0.names(tls.server_name()));
        Some(Arc::new(Client { peer, version: version_number(tls.version().unwrap_or_default()), names }))
    }
}

/// rustls calls them `TLSv1_2` and `TLSv1_3`; nothing else is negotiated.
fn version_number(name: &str) -> &'static str {
    if name.ends_with('3') { "1.3" } else { "1.2" }
}
