//! TLS at our listeners: rustls, through Pingora's stream so that its HTTP code can serve it.
//!
//! Every client is asked for a certificate and must prove that it holds the key; whether the chain is good is judged
//! later, per request, where a refusal can be explained and recorded (`identity`).

mod certificates;
mod clients;

pub use certificates::{BadCertificate, Certificates};

use crate::identity::Peer;
use async_trait::async_trait;
use clients::AnyClient;
use pingora::listeners::TlsAccept;
use pingora::listeners::tls::Acceptor;
use pingora::protocols::IO;
use pingora::protocols::tls::{TlsRef, TlsStream, server::handshake_with_callback};
use rustls::{ServerConfig, crypto::CryptoProvider, version};
use std::{any::Any, fmt, sync::Arc};

/// What a handshake told about the other end.
#[derive(Debug)]
pub struct Client {
    /// The certificate that it showed.
    pub peer: Option<Peer>,
    /// The version, for example `1.3`.
    pub version: &'static str,
}

/// Ends TLS connections.
pub struct Terminator {
    acceptor: Acceptor,
}

impl fmt::Debug for Terminator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Terminator")
    }
}

impl Terminator {
    /// TLS 1.2 and 1.3 with these certificates, for h2, http/1.1 and clients that negotiate neither.
    ///
    /// # Errors
    /// If the cryptography offers no such versions.
    pub fn new(certificates: Certificates) -> Result<Self, rustls::Error> {
        let provider: Arc<CryptoProvider> = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let clients = Arc::new(AnyClient::new(provider.signature_verification_algorithms));
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&version::TLS13, &version::TLS12])?
            .with_client_cert_verifier(clients)
            .with_cert_resolver(Arc::new(certificates));
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self { acceptor: Acceptor::from_server_config(Arc::new(config)) })
    }

    /// Makes the handshake.
    ///
    /// # Errors
    /// If it fails.
    pub async fn accept<S: IO>(&self, stream: S) -> pingora::Result<TlsStream<S>> {
        handshake_with_callback(&self.acceptor, stream, &Remember).await
    }
}

/// Keeps what the handshake told for the requests of the connection.
struct Remember;

#[async_trait]
impl TlsAccept for Remember {
    async fn handshake_complete_callback(&self, tls: &TlsRef) -> Option<Arc<dyn Any + Send + Sync>> {
        let peer = tls.peer_cert_chain_der().and_then(Peer::new);
        Some(Arc::new(Client { peer, version: version_number(tls.version().unwrap_or_default()) }))
    }
}

/// rustls calls them `TLSv1_2` and `TLSv1_3`; nothing else is negotiated.
fn version_number(name: &str) -> &'static str {
    if name.ends_with('3') { "1.3" } else { "1.2" }
}
