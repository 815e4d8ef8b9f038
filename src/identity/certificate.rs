//! The client certificate: parsed once per connection, judged anew whenever what it is judged by has changed.
//!
//! A resumed TLS session keeps its certificate without any verifier running again, so a verdict made in the handshake
//! would outlive the CA that it rested on. [`Peer::judge`] therefore runs per request and remembers its last verdict
//! with the CAs' digest and the moment until which it holds.

use super::thumbprint::{Thumbprint, sha256};
use crate::clock::{Timestamp, UnixSeconds};
use crate::refusal::Refusal;
use parking_lot::Mutex;
use rustls::pki_types::{CertificateDer, TrustAnchor, UnixTime};
use std::{ops::Range, time::Duration};
use webpki::{EndEntityCert, KeyUsage};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// The CAs that vouch for workloads at one listener.
#[derive(Debug)]
pub struct Authorities {
    anchors: Box<[Anchor]>,
    digest: [u8; 32],
}

#[derive(Debug)]
struct Anchor {
    trusted: TrustAnchor<'static>,
    valid: Range<UnixSeconds>,
}

impl Authorities {
    /// Takes CA certificates.
    ///
    /// # Errors
    /// The index of the first one that is no certificate of a CA.
    pub fn new(certificates: &[CertificateDer<'static>]) -> Result<Self, usize> {
        let anchor = |(index, der)| Anchor::new(der).ok_or(index);
        let anchors = certificates.iter().enumerate().map(anchor).collect::<Result<_, _>>()?;
        let digest = sha256(&certificates.iter().flat_map(|der| sha256(der)).collect::<Vec<_>>());
        Ok(Self { anchors, digest })
    }
}

impl Anchor {
    /// RFC 5280 § 4.2.1.9 and § 4.2.1.3: who signs certificates says so. A root is otherwise taken at its word, so
    /// somebody's leaf among the CAs would vouch for whomever it likes.
    fn new(der: &CertificateDer<'static>) -> Option<Self> {
        let (_, parsed) = X509Certificate::from_der(der).ok()?;
        let is_ca = parsed.basic_constraints().ok()?.is_some_and(|constraints| constraints.value.ca);
        let may_sign = parsed.key_usage().ok()?.is_none_or(|usage| usage.value.key_cert_sign());
        let trusted = webpki::anchor_from_trusted_cert(der).ok()?.to_owned();
        (is_ca && may_sign).then(|| Self { trusted, valid: validity(&parsed) })
    }
}

/// From the first second of a certificate to the one after its last.
fn validity(certificate: &X509Certificate<'_>) -> Range<UnixSeconds> {
    let validity = certificate.validity();
    validity.not_before.timestamp()..validity.not_after.timestamp().saturating_add(1)
}

/// The other end of a TLS connection that showed a certificate.
#[derive(Debug)]
pub struct Peer {
    chain: Box<[CertificateDer<'static>]>,
    thumbprint: Thumbprint,
    /// The URI SAN; none if the leaf is not acceptable whoever signed it.
    identity: Option<Box<str>>,
    /// Every moment at which a certificate of the chain begins or ends to be valid.
    boundaries: Box<[UnixSeconds]>,
    last: Mutex<Option<Judgement>>,
}

#[derive(Debug, Clone, Copy)]
struct Judgement {
    authorities: [u8; 32],
    holds_from: UnixSeconds,
    holds_until: UnixSeconds,
    verdict: Result<(), Refusal>,
}

impl Peer {
    /// Parses the chain that a peer has shown, leaf first; none if it is empty.
    #[must_use]
    pub fn new(chain: &[CertificateDer<'static>]) -> Option<Self> {
        let leaf = chain.first()?;
        let parsed: Vec<_> = chain.iter().filter_map(|der| X509Certificate::from_der(der).ok()).collect();
        let ends = |(_, certificate): &(&[u8], X509Certificate<'_>)| {
            let valid = validity(certificate);
            [valid.start, valid.end]
        };
        Some(Self {
            thumbprint: Thumbprint::of(leaf),
            identity: X509Certificate::from_der(leaf).ok().and_then(|(_, leaf)| acceptable_identity(&leaf)),
            boundaries: parsed.iter().flat_map(ends).collect(),
            chain: chain.into(),
            last: Mutex::new(None),
        })
    }

    /// The leaf's thumbprint.
    #[must_use]
    pub const fn thumbprint(&self) -> Thumbprint {
        self.thumbprint
    }

    /// The leaf's one URI SAN, if it is for clients. It claims that; whether anybody vouches for it is another question.
    #[must_use]
    pub fn claims(&self) -> Option<&str> {
        self.identity.as_deref()
    }

    /// The leaf's URI SAN, if the whole chain is good now.
    ///
    /// # Errors
    /// Which fault the chain has.
    pub(super) fn judge(&self, authorities: &Authorities, now: Timestamp) -> Result<&str, Refusal> {
        let identity = self.identity.as_deref().ok_or(Refusal::CertificateMalformed)?;
        let seconds = now.unix_seconds();
        let mut last = self.last.lock();
        let judgement = match *last {
            Some(known) if known.covers(authorities, seconds) => known,
            Some(_) | None => self.judge_anew(authorities, seconds),
        };
        *last = Some(judgement);
        judgement.verdict.map(|()| identity)
    }

    fn judge_anew(&self, authorities: &Authorities, now: UnixSeconds) -> Judgement {
        let anchors = authorities.anchors.iter().flat_map(|anchor| [anchor.valid.start, anchor.valid.end]);
        let boundaries = || self.boundaries.iter().copied().chain(anchors.clone());
        let earlier = boundaries().filter(|boundary| *boundary <= now);
        let later = boundaries().filter(|boundary| *boundary > now);
        Judgement {
            authorities: authorities.digest,
            holds_from: earlier.max().unwrap_or(0),
            holds_until: later.min().unwrap_or(UnixSeconds::MAX),
            verdict: self.verify_chain(authorities, now),
        }
    }

    fn verify_chain(&self, authorities: &Authorities, now: UnixSeconds) -> Result<(), Refusal> {
        let (leaf, intermediates) = self.chain.split_first().ok_or(Refusal::CertificateMissing)?;
        let leaf = EndEntityCert::try_from(leaf).map_err(|_unusable| Refusal::CertificateMalformed)?;
        let valid = authorities.anchors.iter().filter(|anchor| anchor.valid.contains(&now));
        let anchors: Vec<_> = valid.map(|anchor| anchor.trusted.clone()).collect();
        let now = UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(now).unwrap_or(0)));
        let algorithms = webpki::ALL_VERIFICATION_ALGS;
        let usage = KeyUsage::client_auth();
        leaf.verify_for_usage(algorithms, &anchors, intermediates, now, usage, None, None)
            .map(drop)
            .map_err(|fault| refusal_of(&fault))
    }
}

impl Judgement {
    fn covers(&self, authorities: &Authorities, now: UnixSeconds) -> bool {
        self.authorities == authorities.digest && (self.holds_from..self.holds_until).contains(&now)
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "every other fault of a chain means that nobody vouches for it")]
fn refusal_of(fault: &webpki::Error) -> Refusal {
    match fault {
        webpki::Error::CertExpired { .. } | webpki::Error::CertNotValidYet { .. } => Refusal::CertificateExpired,
        webpki::Error::RequiredEkuNotFoundContext(_) => Refusal::CertificateMalformed,
        _ => Refusal::CertificateUntrusted,
    }
}

/// The one URI SAN of a leaf that says it is for client authentication. The subject's common name never counts.
fn acceptable_identity(leaf: &X509Certificate<'_>) -> Option<Box<str>> {
    let for_clients = leaf.extended_key_usage().ok()??.value.client_auth;
    let names = &leaf.subject_alternative_name().ok()??.value.general_names;
    #[expect(clippy::wildcard_enum_match_arm, reason = "only URIs are identities")]
    let mut uris = names.iter().filter_map(|name| match name {
        GeneralName::URI(uri) => Some(*uri),
        _ => None,
    });
    match (uris.next(), uris.next(), for_clients) {
        (Some(only), None, true) => Some(only.into()),
        (Some(_) | None, _, _) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType};
    use test_case::test_case;

    const WORKER: &str = "spiffe://example.com/worker/checkout";
    const NOW: UnixSeconds = 1_795_000_000;

    fn ca() -> (CertificateDer<'static>, Issuer<'static, KeyPair>) {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        (params.self_signed(&key).unwrap().der().clone(), Issuer::new(params, key))
    }

    fn moment(offset: i64) -> ::time::OffsetDateTime {
        ::time::OffsetDateTime::from_unix_timestamp(NOW + offset).unwrap()
    }

    struct Leaf {
        uris: Vec<&'static str>,
        usage: Option<ExtendedKeyUsagePurpose>,
        from: i64,
        until: i64,
    }

    fn good() -> Leaf {
        Leaf { uris: vec![WORKER], usage: Some(ExtendedKeyUsagePurpose::ClientAuth), from: -10, until: 10 }
    }

    fn peer(leaf: &Leaf, issuer: &Issuer<'static, KeyPair>) -> Peer {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(rcgen::DnType::CommonName, WORKER);
        params.subject_alt_names = leaf.uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap())).collect();
        params.extended_key_usages = leaf.usage.iter().cloned().collect();
        params.not_before = moment(leaf.from);
        params.not_after = moment(leaf.until);
        let der = params.signed_by(&KeyPair::generate().unwrap(), issuer).unwrap().der().clone();
        Peer::new(&[der]).unwrap()
    }

    fn judge(peer: &Peer, authorities: &Authorities, offset: i64) -> Result<(), Refusal> {
        peer.judge(authorities, Timestamp::from_unix_seconds(NOW + offset)).map(|id| assert_eq!(id, WORKER))
    }

    #[test_case(good(), Ok(()); "good")]
    #[test_case(Leaf { until: 0, ..good() }, Ok(()); "in its last second")]
    #[test_case(Leaf { from: 0, ..good() }, Ok(()); "in its first second")]
    #[test_case(Leaf { until: -1, ..good() }, Err(Refusal::CertificateExpired); "expired")]
    #[test_case(Leaf { from: 1, ..good() }, Err(Refusal::CertificateExpired); "not valid yet")]
    #[test_case(Leaf { uris: vec![], ..good() }, Err(Refusal::CertificateMalformed); "common name alone")]
    #[test_case(Leaf { uris: vec![WORKER, "spiffe://a/b"], ..good() }, Err(Refusal::CertificateMalformed); "two uris")]
    #[test_case(Leaf { uris: vec![WORKER, WORKER], ..good() }, Err(Refusal::CertificateMalformed); "one uri twice")]
    #[test_case(Leaf { usage: None, ..good() }, Err(Refusal::CertificateMalformed); "no usage")]
    #[test_case(Leaf { usage: Some(ExtendedKeyUsagePurpose::ServerAuth), ..good() },
        Err(Refusal::CertificateMalformed); "usage of a server")]
    fn leaf(leaf: Leaf, expected: Result<(), Refusal>) {
        let (root, issuer) = ca();
        assert_eq!(judge(&peer(&leaf, &issuer), &Authorities::new(&[root]).unwrap(), 0), expected);
    }

    #[test]
    fn a_verdict_ends_with_its_authorities_and_its_time() {
        let (root, issuer) = ca();
        let (other_root, _) = ca();
        let peer = peer(&good(), &issuer);
        let ours = Authorities::new(std::slice::from_ref(&root)).unwrap();
        let others = Authorities::new(std::slice::from_ref(&other_root)).unwrap();
        let both = Authorities::new(&[other_root, root]).unwrap();
        assert_eq!(judge(&peer, &ours, 0), Ok(()));
        assert_eq!(judge(&peer, &others, 0), Err(Refusal::CertificateUntrusted));
        assert_eq!(judge(&peer, &both, 0), Ok(()), "CAs overlap");
        assert_eq!(judge(&peer, &both, 10), Ok(()), "the last second");
        assert_eq!(judge(&peer, &both, 11), Err(Refusal::CertificateExpired));
        assert_eq!(judge(&peer, &both, -11), Err(Refusal::CertificateExpired));
        assert_eq!(judge(&peer, &Authorities::new(&[]).unwrap(), 0), Err(Refusal::CertificateUntrusted));
    }

    #[test]
    fn a_ca_that_has_expired_vouches_for_nobody() {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.not_after = moment(5);
        let key = KeyPair::generate().unwrap();
        let root = params.self_signed(&key).unwrap().der().clone();
        let peer = peer(&good(), &Issuer::new(params, key));
        let authorities = Authorities::new(&[root]).unwrap();
        assert_eq!(judge(&peer, &authorities, 5), Ok(()));
        assert_eq!(judge(&peer, &authorities, 6), Err(Refusal::CertificateUntrusted));
    }

    #[test]
    fn garbage_is_no_authority_and_no_identity() {
        let garbage = CertificateDer::from(vec![1, 2, 3]);
        assert_eq!(Authorities::new(std::slice::from_ref(&garbage)).err(), Some(0));
        let leaf = rcgen::generate_simple_self_signed(["a".to_owned()]).unwrap().cert.der().clone();
        assert_eq!(Authorities::new(&[ca().0, leaf]).err(), Some(1), "a leaf vouches for nobody");
        let (root, _) = ca();
        let peer = Peer::new(&[garbage]).unwrap();
        assert_eq!(judge(&peer, &Authorities::new(&[root]).unwrap(), 0), Err(Refusal::CertificateMalformed));
        assert!(Peer::new(&[]).is_none());
    }
}
