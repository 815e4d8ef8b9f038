//! The CAs of a listener, what they have revoked, and what is asked of certificates beyond their word.

use super::form::is_fit_ca;
use super::{name_of, validity};
use crate::clock::UnixSeconds;
use crate::generation::Digest;
use crate::uses::Uses;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, TrustAnchor};
use std::{ops::Range, time::Duration};
use webpki::{CertRevocationList, OwnedCertRevocationList};
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::revocation_list::CertificateRevocationList;
use x509_parser::x509::AttributeTypeAndValue;

/// The CAs that vouch for workloads at one listener, what they have revoked, and what is asked of certificates.
#[derive(Debug)]
pub struct Authorities {
    pub(super) anchors: Box<[Anchor]>,
    pub(super) lists: Box<[RevocationList]>,
    pub(super) rules: Rules,
    digest: Digest,
}

/// What is asked of client certificates beyond a CA's word.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rules {
    /// Whether a revocation list counts after its time.
    pub expired_list_counts: bool,
    /// The longest validity, begin to end.
    pub lifetime_max: Option<Duration>,
    /// Whether the CA that signs for all of Cloudflare's customers is meant.
    pub trusts_origin_pull: bool,
}

/// Why a certificate or a list cannot be taken, and which of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadAuthority {
    /// It is no certificate of a CA.
    NoCa(usize),
    /// It signs for all of Cloudflare's customers.
    OriginPull(usize),
    /// It is no revocation list.
    NoList(usize),
    /// The CA has no list, although others do.
    Uncovered(usize),
}

#[derive(Debug)]
pub(super) struct Anchor {
    pub(super) trusted: TrustAnchor<'static>,
    /// Whether it may sign revocation lists (RFC 5280 § 4.2.1.3).
    signs_lists: bool,
    pub(super) valid: Range<UnixSeconds>,
    /// Certificates for which it has vouched, each time that one was asked for.
    pub(super) uses: Uses,
}

/// A CA's revocation list (RFC 5280 § 5).
#[derive(Debug)]
pub(super) struct RevocationList {
    pub(super) list: CertRevocationList<'static>,
    pub(super) issuer: Box<[u8]>,
    /// Which others it follows.
    series: Digest,
    number: Box<[u8]>,
    this_update: UnixSeconds,
    /// When the next one is due; without that it never expires, and never ends to be believed.
    pub(super) next_update: UnixSeconds,
    /// Chains that were looked up in it.
    pub(super) uses: Uses,
}

impl Authorities {
    /// Takes CA certificates and their revocation lists. Lists for some CAs and not for others are refused: what cannot
    /// be checked would pass.
    ///
    /// # Errors
    /// [`BadAuthority`].
    pub fn new(
        certificates: &[CertificateDer<'static>],
        lists: &[CertificateRevocationListDer<'static>],
        rules: Rules,
    ) -> Result<Self, BadAuthority> {
        let anchor = |(index, der)| Anchor::new(der, rules.trusts_origin_pull).map_err(|bad| bad(index));
        let anchors: Box<[_]> = certificates.iter().enumerate().map(anchor).collect::<Result<_, _>>()?;
        let parsed =
            lists.iter().enumerate().map(|(index, der)| RevocationList::new(der).ok_or(BadAuthority::NoList(index)));
        let parsed: Box<[_]> = parsed.collect::<Result<_, _>>()?;
        let covers =
            |anchor: &Anchor| anchor.signs_lists && parsed.iter().any(|list| *list.issuer == *anchor.trusted.subject);
        if let Some(bare) = anchors.iter().position(|anchor| !parsed.is_empty() && !covers(anchor)) {
            return Err(BadAuthority::Uncovered(bare));
        }
        let rules_text = format!("{rules:?}");
        let ders =
            certificates.iter().map(|der| ("ca", der.as_ref())).chain(lists.iter().map(|der| ("crl", der.as_ref())));
        let digest = Digest::of(&ders.chain(std::iter::once(("rules", rules_text.as_bytes()))).collect::<Vec<_>>());
        Ok(Self { anchors, lists: parsed, rules, digest })
    }

    /// Counted there, in the order in which they were taken.
    #[must_use]
    pub fn counted(mut self, certificates: Vec<Uses>, lists: Vec<Uses>) -> Self {
        self.anchors.iter_mut().zip(certificates).for_each(|(anchor, uses)| anchor.uses = uses);
        self.lists.iter_mut().zip(lists).for_each(|(list, uses)| list.uses = uses);
        self
    }

    /// Changes with everything that a certificate is judged by.
    #[must_use]
    pub const fn digest(&self) -> Digest {
        self.digest
    }

    /// From when to when the revocation list is good that expires first; none if there is no list.
    #[must_use]
    pub fn lists_valid(&self) -> Option<Range<UnixSeconds>> {
        let valid = |list: &RevocationList| list.this_update..list.next_update;
        self.lists.iter().map(valid).min_by_key(|valid| valid.end)
    }

    /// The validity of the CA that ends first.
    #[must_use]
    pub fn valid(&self) -> Option<Range<UnixSeconds>> {
        self.anchors.iter().map(|anchor| anchor.valid.clone()).min_by_key(|valid| valid.end)
    }

    /// The revocation lists in their order: the series (RFC 5280 § 5.2.3: lists of one CA and one scope), and the number
    /// in it, in network order.
    pub fn lists(&self) -> impl Iterator<Item = (Digest, &[u8])> {
        self.lists.iter().map(|list| (list.series, &*list.number))
    }

    /// The CAs, by digests of their names and keys.
    pub fn vouching(&self) -> impl Iterator<Item = Digest> {
        self.anchors.iter().map(|anchor| {
            let trusted = &anchor.trusted;
            Digest::of(&[("name", &trusted.subject), ("key", &trusted.subject_public_key_info)])
        })
    }

    pub(super) fn is_believed(&self, list: &RevocationList, now: UnixSeconds) -> bool {
        self.rules.expired_list_counts || now < list.next_update
    }
}

impl RevocationList {
    fn new(der: &CertificateRevocationListDer<'_>) -> Option<Self> {
        let (rest, parsed) = CertificateRevocationList::from_der(der).ok()?;
        let this_update = parsed.last_update().timestamp();
        let next_update = parsed.next_update().map_or(UnixSeconds::MAX, |time| time.timestamp());
        // § 5.2.3: a list has a number, which is not critical; without one nobody could tell which is newer.
        let number = parsed.crl_number()?.to_bytes_be().into();
        let is_critical = parsed.extensions().iter().any(|extension| {
            extension.critical && matches!(extension.parsed_extension(), ParsedExtension::CRLNumber(_))
        });
        let list = OwnedCertRevocationList::from_der(der).ok()?.into();
        let issuer = name_of(parsed.issuer()).filter(|_| rest.is_empty() && !is_critical)?;
        let of = |wanted: fn(&ParsedExtension<'_>) -> bool| {
            let found = parsed.extensions().iter().find(|extension| wanted(extension.parsed_extension()));
            found.map_or(&[][..], |extension| extension.value)
        };
        let key = of(|it| matches!(it, ParsedExtension::AuthorityKeyIdentifier(_)));
        let scope = of(|it| matches!(it, ParsedExtension::IssuingDistributionPoint(_)));
        let series = Digest::of(&[("issuer", &issuer), ("key", key), ("scope", scope)]);
        Some(Self { list, issuer, series, number, this_update, next_update, uses: Uses::default() })
    }
}

impl Anchor {
    /// RFC 5280 § 4.2.1.9 and § 4.2.1.3: who signs certificates says so. A root is otherwise taken at its word, so
    /// somebody's leaf among the CAs would vouch for whomever it likes.
    fn new(der: &CertificateDer<'static>, trusts_origin_pull: bool) -> Result<Self, fn(usize) -> BadAuthority> {
        let no_ca: fn(usize) -> BadAuthority = BadAuthority::NoCa;
        let (_, parsed) = X509Certificate::from_der(der).map_err(|_unparsed| no_ca)?;
        let constraints = parsed.basic_constraints().map_err(|_broken| no_ca)?;
        let usage = parsed.key_usage().map_err(|_broken| no_ca)?;
        let is_fit = is_fit_ca(&parsed);
        let is_ca = is_fit && constraints.is_some_and(|constraints| constraints.value.ca);
        let may_sign = usage.as_ref().is_none_or(|usage| usage.value.key_cert_sign());
        let signs_lists = usage.as_ref().is_none_or(|usage| usage.value.crl_sign());
        let trusted = webpki::anchor_from_trusted_cert(der).map_err(|_unusable| no_ca)?.to_owned();
        match (is_ca && may_sign, trusts_origin_pull || !is_origin_pull(&parsed)) {
            (true, true) => Ok(Self { trusted, signs_lists, valid: validity(&parsed), uses: Uses::default() }),
            (true, false) => Err(BadAuthority::OriginPull),
            (false, _) => Err(no_ca),
        }
    }
}

/// Cloudflare's CA for Authenticated Origin Pulls in its shared form: every Cloudflare account can send its certificate.
fn is_origin_pull(certificate: &X509Certificate<'_>) -> bool {
    let subject = certificate.subject();
    let is = |name: &AttributeTypeAndValue<'_>, wanted: &str| {
        name.as_str().is_ok_and(|value| value.eq_ignore_ascii_case(wanted))
    };
    subject.iter_common_name().any(|name| is(name, "origin-pull.cloudflare.net"))
        || subject.iter_organizational_unit().any(|name| is(name, "Origin Pull"))
}
