//! The demo's certificates and keys: what a company would make once for itself and its Workers.

use crate::identity::Thumbprint;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType,
};
use time::{Duration, OffsetDateTime};

/// A CA of the demo.
pub(super) struct Ca {
    pub(super) pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key, in PEM.
pub(super) struct Issued {
    pub(super) cert: String,
    pub(super) key: String,
    pub(super) thumbprint: String,
}

impl Ca {
    pub(super) fn new(name: &str) -> Result<Self, rcgen::Error> {
        let mut params = named(name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate()?;
        let pem = params.self_signed(&key)?.pem();
        Ok(Self { pem, issuer: Issuer::new(params, key) })
    }

    /// A server's certificate for a host name and for loopback.
    pub(super) fn server(&self, host: &str) -> Result<Issued, rcgen::Error> {
        let names = vec![SanType::DnsName(host.try_into()?), SanType::IpAddress(std::net::Ipv4Addr::LOCALHOST.into())];
        self.issue(host, names, ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// A workload's certificate.
    pub(super) fn workload(&self, name: &str, id: &str) -> Result<Issued, rcgen::Error> {
        self.issue(name, vec![SanType::URI(id.try_into()?)], ExtendedKeyUsagePurpose::ClientAuth)
    }

    fn issue(&self, name: &str, names: Vec<SanType>, usage: ExtendedKeyUsagePurpose) -> Result<Issued, rcgen::Error> {
        let mut params = named(name);
        params.subject_alt_names = names;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![usage];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        let thumbprint = Thumbprint::of(certificate.der()).to_string();
        Ok(Issued { cert: certificate.pem(), key: key.serialize_pem(), thumbprint })
    }
}

/// Good for a day, and from an hour ago for clocks that are behind.
fn named(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.use_authority_key_identifier_extension = true;
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = OffsetDateTime::now_utc() - Duration::hours(1);
    params.not_after = OffsetDateTime::now_utc() + Duration::days(1);
    params
}
