//! Our certificates, chosen by the name that the client asks for.

use rustls::{
    crypto::aws_lc_rs::sign::any_supported_type,
    pki_types::{CertificateDer, PrivateKeyDer},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use std::{collections::HashMap, sync::Arc};
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
    /// There is no certificate at all.
    #[error("there is no certificate")]
    None,
}

/// Certificates by name; the first serves whoever names none of them.
#[derive(Debug)]
pub struct Certificates {
    by_name: HashMap<Box<str>, Arc<CertifiedKey>>,
    default: Arc<CertifiedKey>,
}

impl Certificates {
    /// Takes chains with their keys.
    ///
    /// # Errors
    /// Which of them cannot serve, and why.
    pub fn new(
        pairs: Vec<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
    ) -> Result<Self, (usize, BadCertificate)> {
        let mut by_name = HashMap::new();
        let mut default = None;
        for (index, (chain, key)) in pairs.into_iter().enumerate() {
            let names = chain.first().map(|leaf| dns_names(leaf)).unwrap_or_default();
            let key = any_supported_type(&key).map_err(|_unusable| (index, BadCertificate::Key))?;
            let certified = Arc::new(CertifiedKey::new(chain, key));
            certified.keys_match().map_err(|_differ| (index, BadCertificate::Mismatch))?;
            for name in names {
                by_name.entry(name).or_insert_with(|| Arc::clone(&certified));
            }
            default.get_or_insert(certified);
        }
        Ok(Self { by_name, default: default.ok_or((0, BadCertificate::None))? })
    }

    fn for_name(&self, name: &str) -> Option<&Arc<CertifiedKey>> {
        let name = name.to_ascii_lowercase();
        let wildcard = || name.split_once('.').map(|(_, rest)| format!("*.{rest}"));
        self.by_name.get(&*name).or_else(|| self.by_name.get(&*wildcard()?))
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let named = hello.server_name().and_then(|name| self.for_name(name));
        Some(Arc::clone(named.unwrap_or(&self.default)))
    }
}

fn dns_names(leaf: &CertificateDer<'_>) -> Vec<Box<str>> {
    let Ok((_, leaf)) = X509Certificate::from_der(leaf) else { return Vec::new() };
    let names = leaf.subject_alternative_name().ok().flatten().map(|extension| &extension.value.general_names);
    #[expect(clippy::wildcard_enum_match_arm, reason = "only DNS names are asked for")]
    let dns = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some(name.to_ascii_lowercase().into()),
        _ => None,
    };
    names.into_iter().flatten().filter_map(dns).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::pki_types::PrivatePkcs8KeyDer;
    use test_case::test_case;

    fn pair(name: &str) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
        let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        (vec![made.cert.der().clone()], key.into())
    }

    #[test_case("shop.example.com", Some(0))]
    #[test_case("SHOP.example.com", Some(0); "case")]
    #[test_case("x.api.example.com", Some(1); "wildcard")]
    #[test_case("x.y.api.example.com", None; "a wildcard is one label")]
    #[test_case("api.example.com", None; "a wildcard is not its own domain")]
    #[test_case("other.example.com", None; "nobody's")]
    fn chosen_by_name(name: &str, expected: Option<usize>) {
        let pairs = vec![pair("shop.example.com"), pair("*.api.example.com")];
        let leaves: Vec<_> = pairs.iter().map(|(chain, _)| chain[0].clone()).collect();
        let certificates = Certificates::new(pairs).unwrap();
        let chosen = certificates.for_name(name).map(|chosen| chosen.cert[0].clone());
        assert_eq!(chosen, expected.map(|index| leaves[index].clone()));
        assert_eq!(certificates.default.cert[0], leaves[0]);
    }

    #[test]
    fn a_strangers_key_is_refused() {
        let ((chain, _), (_, key)) = (pair("a"), pair("a"));
        assert_eq!(Certificates::new(vec![pair("b"), (chain, key)]).err(), Some((1, BadCertificate::Mismatch)));
        assert_eq!(Certificates::new(Vec::new()).err(), Some((0, BadCertificate::None)));
    }
}
