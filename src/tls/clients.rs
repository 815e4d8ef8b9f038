//! Client certificates in the handshake: taken from anybody who holds the key, or judged there and then.

use crate::clock::Timestamp;
use crate::identity::{Authorities, Peer};
use crate::refusal::Refusal;
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, UnixTime},
    server::danger::{ClientCertVerified, ClientCertVerifier},
};
use std::sync::Arc;

/// Asks for a certificate, and leaves the chain to whoever judges the request, unless it is strict. The possession of
/// the private key is proved here, and only here: both signature checks are rustls' own.
#[derive(Debug)]
pub(super) struct Clients {
    algorithms: WebPkiSupportedAlgorithms,
    /// Whose certificates the handshake itself demands; everybody's will do without.
    strict: Option<Arc<Authorities>>,
}

impl Clients {
    pub(super) const fn new(algorithms: WebPkiSupportedAlgorithms, strict: Option<Arc<Authorities>>) -> Self {
        Self { algorithms, strict }
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "TLS has no words for the others")]
const fn certificate_error(refusal: Refusal) -> CertificateError {
    match refusal {
        Refusal::CertificateExpired => CertificateError::Expired,
        Refusal::CertificateRevoked => CertificateError::Revoked,
        Refusal::CertificateUntrusted => CertificateError::UnknownIssuer,
        Refusal::CertificateUnchecked | Refusal::RevocationListExpired => CertificateError::UnknownRevocationStatus,
        _ => CertificateError::ApplicationVerificationFailure,
    }
}

impl ClientCertVerifier for Clients {
    fn client_auth_mandatory(&self) -> bool {
        self.strict.is_some()
    }

    /// No names: a client then sends the certificate that it has, whoever signed it, and the refusal can name it.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let Some(authorities) = &self.strict else { return Ok(ClientCertVerified::assertion()) };
        let chain: Vec<_> = std::iter::once(leaf).chain(intermediates).map(|der| der.clone().into_owned()).collect();
        let now = Timestamp::from_unix_seconds(i64::try_from(now.as_secs()).unwrap_or(i64::MAX));
        let judged = match Peer::new(&chain) {
            Some(peer) => peer.judge(authorities, now).map(drop),
            None => Err(Refusal::CertificateMissing),
        };
        let refused = |refusal| Error::InvalidCertificate(certificate_error(refusal));
        judged.map(|()| ClientCertVerified::assertion()).map_err(refused)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
