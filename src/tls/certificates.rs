//! Our certificates, chosen by the name that the client asks for.

use crate::clock::UnixSeconds;
use crate::generation::Digest;
use crate::uses::Uses;
use rustls::{
    crypto::aws_lc_rs::sign::any_supported_type,
    pki_types::{CertificateDer, PrivateKeyDer},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use std::{collections::HashMap, net::IpAddr, ops::Range, sync::Arc};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// Why a certificate cannot serve.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadCertificate {
    /// The key is of a kind that TLS does not use.
    #[error("TLS cannot use this kind of private key")]
    Key,
    /// The key is another's.
    #[error("the private key is not the certificate's")]
    Mismatch,
    /// It names no host, so no request would be for it.
    #[error("the certificate names no host: subjectAltName has neither a DNS name nor an address")]
    Nameless,
    /// There is no certificate at all.
    #[error("there is no certificate")]
    None,
}

/// Certificates by name; the first serves whoever names none of them.
#[derive(Debug)]
pub struct Certificates {
    by_name: HashMap<Box<str>, Arc<Served>>,
    default: Arc<Served>,
    digest: Digest,
    /// The validity of the one that ends first.
    valid: Range<UnixSeconds>,
}

#[derive(Debug)]
struct Served {
    key: Arc<CertifiedKey>,
    names: Arc<Names>,
    uses: Uses,
}

/// A chain, leaf first, with its key, and who counts how often they are shown.
pub type Pair = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>, Uses);

/// The hosts that a certificate is for.
#[derive(Debug, Default)]
pub struct Names {
    dns: Box<[Box<str>]>,
    addresses: Box<[IpAddr]>,
}

impl Names {
    fn of(leaf: &X509Certificate<'_>) -> Self {
        let names = leaf.subject_alternative_name().ok().flatten().map(|extension| &extension.value.general_names);
        let (mut dns, mut addresses) = (Vec::new(), Vec::new());
        for name in names.into_iter().flatten() {
            #[expect(clippy::wildcard_enum_match_arm, reason = "only these name hosts")]
            match name {
                GeneralName::DNSName(name) => dns.push(name.to_ascii_lowercase().into()),
                GeneralName::IPAddress(bytes) => addresses.extend(address(bytes)),
                _ => {}
            }
        }
        Self { dns: dns.into(), addresses: addresses.into() }
    }

    fn is_empty(&self) -> bool {
        self.dns.is_empty() && self.addresses.is_empty()
    }

    /// Whether a host in lower case is among them. `*.example.com` is for one label more (RFC 9525 § 6.3).
    #[must_use]
    pub fn cover(&self, host: &str) -> bool {
        let literal = host.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(host);
        if let Ok(address) = literal.parse::<IpAddr>() {
            return self.addresses.contains(&address);
        }
        let parent = host.split_once('.').map(|(_, parent)| parent);
        let covers = |name: &str| name == host || (name.strip_prefix("*.").is_some_and(|name| Some(name) == parent));
        self.dns.iter().any(|name| covers(name))
    }
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    v4.or_else(|_longer| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}

impl Certificates {
    /// Takes chains with their keys.
    ///
    /// # Errors
    /// Which of them cannot serve, and why.
    pub fn new(pairs: Vec<Pair>) -> Result<Self, (usize, BadCertificate)> {
        let digest = digest(&pairs);
        let (mut by_name, mut default, mut valid) = (HashMap::new(), None, 0..UnixSeconds::MAX);
        for (index, (chain, key, uses)) in pairs.into_iter().enumerate() {
            let key = any_supported_type(&key).map_err(|_unusable| (index, BadCertificate::Key))?;
            let certified = CertifiedKey::new(chain, key);
            certified.keys_match().map_err(|_differ| (index, BadCertificate::Mismatch))?;
            let leaf = certified.cert.first().and_then(|leaf| X509Certificate::from_der(leaf).ok());
            let (_, leaf) = leaf.ok_or((index, BadCertificate::None))?;
            let names = Arc::new(Names::of(&leaf));
            if names.is_empty() {
                return Err((index, BadCertificate::Nameless));
            }
            let own = leaf.validity().not_before.timestamp()..leaf.validity().not_after.timestamp();
            valid = if own.end < valid.end { own } else { valid };
            let served = Arc::new(Served { names: Arc::clone(&names), key: Arc::new(certified), uses });
            for name in &names.dns {
                by_name.entry(name.clone()).or_insert_with(|| Arc::clone(&served));
            }
            default.get_or_insert(served);
        }
        Ok(Self { by_name, default: default.ok_or((0, BadCertificate::None))?, digest, valid })
    }

    /// Changes with every chain and key.
    #[must_use]
    pub const fn digest(&self) -> Digest {
        self.digest
    }

    /// The validity of the one that ends first.
    #[must_use]
    pub const fn valid(&self) -> &Range<UnixSeconds> {
        &self.valid
    }

    /// The hosts of the certificate that is served to whoever asks for that name.
    #[must_use]
    pub fn names(&self, asked: Option<&str>) -> &Arc<Names> {
        &self.serving(asked).names
    }

    fn serving(&self, asked: Option<&str>) -> &Served {
        asked.and_then(|name| self.for_name(name)).unwrap_or(&self.default)
    }

    fn for_name(&self, name: &str) -> Option<&Arc<Served>> {
        let name = name.to_ascii_lowercase();
        let wildcard = || name.split_once('.').map(|(_, rest)| format!("*.{rest}"));
        self.by_name.get(&*name).or_else(|| self.by_name.get(&*wildcard()?))
    }
}

fn digest(pairs: &[Pair]) -> Digest {
    let parts = pairs.iter().flat_map(|(chain, key, _)| {
        let chain = chain.iter().map(|der| ("certificate", der.as_ref()));
        chain.chain(std::iter::once(("key", key.secret_der())))
    });
    Digest::of(&parts.collect::<Vec<_>>())
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let serving = self.serving(hello.server_name());
        serving.uses.add();
        Some(Arc::clone(&serving.key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::pki_types::PrivatePkcs8KeyDer;
    use test_case::test_case;

    fn pair(name: &str) -> Pair {
        let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
        let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        (vec![made.cert.der().clone()], key.into(), Uses::default())
    }

    #[test_case("shop.example.com", Some(0))]
    #[test_case("SHOP.example.com", Some(0); "case")]
    #[test_case("x.api.example.com", Some(1); "wildcard")]
    #[test_case("x.y.api.example.com", None; "a wildcard is one label")]
    #[test_case("api.example.com", None; "a wildcard is not its own domain")]
    #[test_case("other.example.com", None; "nobody's")]
    fn chosen_by_name(name: &str, expected: Option<usize>) {
        let pairs = vec![pair("shop.example.com"), pair("*.api.example.com")];
        let leaves: Vec<_> = pairs.iter().map(|(chain, ..)| chain[0].clone()).collect();
        let certificates = Certificates::new(pairs).unwrap();
        let chosen = certificates.for_name(name).map(|chosen| chosen.key.cert[0].clone());
        assert_eq!(chosen, expected.map(|index| leaves[index].clone()));
        assert_eq!(certificates.default.key.cert[0], leaves[0]);
    }

    #[test_case("shop.example.com", true)]
    #[test_case("a.api.example.com", true; "one label more")]
    #[test_case("192.0.2.1", true; "address")]
    #[test_case("[2001:db8::1]", true; "address in brackets")]
    #[test_case("api.example.com", false; "the domain of a wildcard")]
    #[test_case("a.b.api.example.com", false; "two labels more")]
    #[test_case("example.com", false; "the domain above")]
    #[test_case("192.0.2.2", false; "another address")]
    #[test_case("", false; "nothing")]
    fn names_cover(host: &str, expected: bool) {
        let names = ["Shop.example.com", "*.api.example.com", "192.0.2.1", "2001:db8::1"].map(str::to_owned);
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        let (_, leaf) = X509Certificate::from_der(made.cert.der()).unwrap();
        assert_eq!(Names::of(&leaf).cover(host), expected);
    }

    #[test]
    fn a_certificate_without_names_is_refused() {
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::default().self_signed(&key).unwrap();
        let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
        let pair = (vec![certificate.der().clone()], key, Uses::default());
        assert_eq!(Certificates::new(vec![pair]).err(), Some((0, BadCertificate::Nameless)));
    }

    #[test]
    fn a_strangers_key_is_refused() {
        let ((chain, ..), (_, key, uses)) = (pair("a"), pair("a"));
        assert_eq!(Certificates::new(vec![pair("b"), (chain, key, uses)]).err(), Some((1, BadCertificate::Mismatch)));
        assert_eq!(Certificates::new(Vec::new()).err(), Some((0, BadCertificate::None)));
    }
}
