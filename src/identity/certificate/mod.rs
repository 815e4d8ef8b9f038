//! The client certificate: parsed once per connection, judged anew whenever what it is judged by has changed.
//!
//! A resumed TLS session keeps its certificate without any verifier running again, so a verdict made in the handshake
//! would outlive the CA that it rested on. [`Peer::judge`] therefore runs per request and remembers its last verdict
//! with the CAs' digest and the moment until which it holds.

mod authorities;
mod form;

pub use authorities::{Authorities, BadAuthority, Rules};

use super::thumbprint::Thumbprint;
use crate::clock::{Timestamp, UnixSeconds};
use crate::generation::Digest;
use crate::refusal::Refusal;
use parking_lot::Mutex;
use rustls::pki_types::{CertificateDer, UnixTime};
use std::{ops::Range, time::Duration};
use webpki::{EndEntityCert, KeyUsage, RevocationCheckDepth, RevocationOptionsBuilder, UnknownStatusPolicy};
use x509_parser::asn1_rs::Any;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};
use x509_parser::x509::X509Name;

/// A name as it stands in an anchor: without the outer SEQUENCE.
fn name_of(name: &X509Name<'_>) -> Option<Box<[u8]>> {
    let (_, sequence) = Any::from_der(name.as_raw()).ok()?;
    Some(sequence.data.into())
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
    /// From the leaf's begin to its end.
    lifetime: UnixSeconds,
    /// The last second at which all certificates of the chain are valid.
    ends: UnixSeconds,
    /// Who has signed the certificates of the chain.
    issuers: Box<[Box<[u8]>]>,
    /// Every moment at which a certificate of the chain begins or ends to be valid.
    boundaries: Box<[UnixSeconds]>,
    last: Mutex<Option<Judgement>>,
}

#[derive(Debug, Clone, Copy)]
struct Judgement {
    authorities: Digest,
    holds_from: UnixSeconds,
    holds_until: UnixSeconds,
    /// The place of the CA that vouches for it.
    verdict: Result<usize, Refusal>,
}

impl Peer {
    /// Parses the chain that a peer has shown, leaf first; none if it is empty.
    #[must_use]
    pub fn new(chain: &[CertificateDer<'static>]) -> Option<Self> {
        let leaf = chain.first()?;
        let is_bounded = chain.len() <= form::CHAIN_MAX && chain.iter().all(|der| der.len() <= form::LENGTH_MAX);
        let parsed: Vec<_> = chain.iter().filter_map(|der| X509Certificate::from_der(der).ok()).collect();
        let ends = |(_, certificate): &(&[u8], X509Certificate<'_>)| {
            let valid = validity(certificate);
            [valid.start, valid.end]
        };
        let leaf_validity = parsed.first().map_or(0..0, |(_, leaf)| validity(leaf));
        Some(Self {
            lifetime: leaf_validity.end.saturating_sub(leaf_validity.start),
            ends: parsed.iter().map(|(_, certificate)| certificate.validity().not_after.timestamp()).min().unwrap_or(0),
            issuers: parsed.iter().filter_map(|(_, certificate)| name_of(certificate.issuer())).collect(),
            thumbprint: Thumbprint::of(leaf),
            identity: X509Certificate::from_der(leaf)
                .ok()
                .filter(|_| is_bounded && are_fit_cas(chain))
                .and_then(|(_, leaf)| acceptable_identity(&leaf)),
            boundaries: parsed.iter().flat_map(ends).collect(),
            chain: chain.into(),
            last: Mutex::new(None),
        })
    }

    /// The last second at which the whole chain is valid, whoever vouches for it.
    #[must_use]
    pub const fn ends(&self) -> UnixSeconds {
        self.ends
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
    pub fn judge(&self, authorities: &Authorities, now: Timestamp) -> Result<&str, Refusal> {
        let identity = self.identity.as_deref().ok_or(Refusal::CertificateMalformed)?;
        let seconds = now.unix_seconds();
        let mut last = self.last.lock();
        let judgement = match *last {
            Some(known) if known.covers(authorities, seconds) => known,
            Some(_) | None => self.judge_anew(authorities, seconds),
        };
        *last = Some(judgement);
        let vouches = authorities.anchors.get(judgement.verdict?).ok_or(Refusal::CertificateUntrusted)?;
        vouches.uses.add();
        Ok(identity)
    }

    fn judge_anew(&self, authorities: &Authorities, now: UnixSeconds) -> Judgement {
        let anchors = authorities.anchors.iter().flat_map(|anchor| [anchor.valid.start, anchor.valid.end]);
        let lists = authorities.lists.iter().map(|list| list.next_update);
        let boundaries = || self.boundaries.iter().copied().chain(anchors.clone()).chain(lists.clone());
        let earlier = boundaries().filter(|boundary| *boundary <= now);
        let later = boundaries().filter(|boundary| *boundary > now);
        Judgement {
            authorities: authorities.digest(),
            holds_from: earlier.max().unwrap_or(0),
            holds_until: later.min().unwrap_or(UnixSeconds::MAX),
            verdict: self.verify_chain(authorities, now),
        }
    }

    fn verify_chain(&self, authorities: &Authorities, now: UnixSeconds) -> Result<usize, Refusal> {
        let (leaf, intermediates) = self.chain.split_first().ok_or(Refusal::CertificateMissing)?;
        let leaf = EndEntityCert::try_from(leaf).map_err(|_unusable| Refusal::CertificateMalformed)?;
        let valid = authorities.anchors.iter().enumerate().filter(|(_, anchor)| anchor.valid.contains(&now));
        let (places, anchors): (Vec<_>, Vec<_>) = valid.map(|(place, anchor)| (place, anchor.trusted.clone())).unzip();
        let lists: Vec<_> = authorities.lists.iter().map(|list| &list.list).collect();
        // Every certificate of the chain is looked up, and one that no list covers is refused. Whether a list has
        // expired is judged below, so that it is told apart.
        let revocation = RevocationOptionsBuilder::new(&lists).ok().map(|options| {
            let options = options.with_depth(RevocationCheckDepth::Chain);
            options.with_status_policy(UnknownStatusPolicy::Deny).build()
        });
        let moment = UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(now).unwrap_or(0)));
        let algorithms = webpki::ALL_VERIFICATION_ALGS;
        let usage = KeyUsage::client_auth();
        let verified = leaf.verify_for_usage(algorithms, &anchors, intermediates, moment, usage, revocation, None);
        let concerned = authorities.lists.iter().filter(|list| self.issuers.contains(&list.issuer));
        concerned.for_each(|list| list.uses.add());
        let path = verified.map_err(|fault| refusal_of(&fault))?;
        let vouches = anchors.iter().position(|anchor| std::ptr::eq(anchor, path.anchor()));
        self.obeys(authorities, now)?;
        vouches.and_then(|index| places.get(index).copied()).ok_or(Refusal::CertificateUntrusted)
    }

    /// What is asked of a chain that somebody vouches for.
    fn obeys(&self, authorities: &Authorities, now: UnixSeconds) -> Result<(), Refusal> {
        let lifetime_max = authorities.rules.lifetime_max.map_or(u64::MAX, |max| max.as_secs());
        // A certificate's last second counts: one from 0:00:00 to 0:00:59 is one of a minute.
        if u64::try_from(self.lifetime).unwrap_or(0) > lifetime_max.saturating_add(1) {
            return Err(Refusal::CertificateLifetime);
        }
        let mut concerned = authorities.lists.iter().filter(|list| self.issuers.contains(&list.issuer));
        if concerned.all(|list| authorities.is_believed(list, now)) {
            Ok(())
        } else {
            Err(Refusal::RevocationListExpired)
        }
    }
}

impl Judgement {
    fn covers(&self, authorities: &Authorities, now: UnixSeconds) -> bool {
        self.authorities == authorities.digest() && (self.holds_from..self.holds_until).contains(&now)
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "every other fault of a chain means that nobody vouches for it")]
fn refusal_of(fault: &webpki::Error) -> Refusal {
    match fault {
        webpki::Error::CertExpired { .. } | webpki::Error::CertNotValidYet { .. } => Refusal::CertificateExpired,
        webpki::Error::RequiredEkuNotFoundContext(_) => Refusal::CertificateMalformed,
        webpki::Error::CertRevoked => Refusal::CertificateRevoked,
        webpki::Error::UnknownRevocationStatus => Refusal::CertificateUnchecked,
        _ => Refusal::CertificateUntrusted,
    }
}

/// Whether all that follow the leaf are as CAs should be.
fn are_fit_cas(chain: &[CertificateDer<'static>]) -> bool {
    chain.iter().skip(1).all(|der| X509Certificate::from_der(der).is_ok_and(|(_, ca)| form::is_fit_ca(&ca)))
}

/// The one URI SAN of a leaf that says it is for client authentication. The subject's common name never counts.
fn acceptable_identity(leaf: &X509Certificate<'_>) -> Option<Box<str>> {
    if !form::is_fit_leaf(leaf) {
        return None;
    }
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
mod tests;
