//! Certificates and keys of the tests, made new for each.

use belay::identity::Thumbprint;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyIdMethod, KeyPair, RevokedCertParams, SanType, SerialNumber,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use std::sync::atomic::{AtomicU64, Ordering};

/// No two certificates of a test have the same number.
static NEXT_SERIAL: AtomicU64 = AtomicU64::new(1);

/// How long a workload's certificate is good, in seconds.
pub const WORKLOAD_LIFE: i64 = 3600;

pub struct Ca {
    pub der: CertificateDer<'static>,
    pub pem: String,
    issuer: Issuer<'static, KeyPair>,
    now: i64,
}

/// A certificate with its key.
pub struct Identity {
    pub der: CertificateDer<'static>,
    pub pem: String,
    pub key_pem: String,
    serial: SerialNumber,
    key_der: Vec<u8>,
}

impl Identity {
    pub fn key(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.key_der.clone()).into()
    }

    pub fn thumbprint(&self) -> String {
        Thumbprint::of(&self.der).to_string()
    }
}

impl Ca {
    pub fn new(now: i64) -> Self {
        let mut params = CertificateParams::default();
        params.use_authority_key_identifier_extension = true;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // A leaf whose issuer had its own name would look as if it had signed itself.
        params.distinguished_name.push(DnType::CommonName, "Test CA");
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Self { der: certificate.der().clone(), pem: certificate.pem(), issuer: Issuer::new(params, key), now }
    }

    pub fn server(&self, host: &str) -> Identity {
        self.issue(vec![SanType::DnsName(host.try_into().unwrap())], ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// One that ends in so many days, by the real clock.
    pub fn server_for_days(&self, host: &str, days: i64) -> Identity {
        let mut params = CertificateParams::new(vec![host.to_owned()]).unwrap();
        params.use_authority_key_identifier_extension = true;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.not_after = (std::time::SystemTime::now() + std::time::Duration::from_secs(1)).into();
        params.not_after += time::Duration::days(days);
        self.sign(params)
    }

    pub fn workload(&self, id: &str) -> Identity {
        self.issue(vec![SanType::URI(id.try_into().unwrap())], ExtendedKeyUsagePurpose::ClientAuth)
    }

    /// A certificate for a client that is no workload, good by the real clock.
    pub fn client(&self, name: &str) -> Identity {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.use_authority_key_identifier_extension = true;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(params)
    }

    /// The CA's revocation list: its number, for how many seconds it is good, and what it revokes.
    pub fn list(&self, number: u64, good_for: i64, revoked: &[&Identity]) -> String {
        let moment = |offset: i64| time::OffsetDateTime::from_unix_timestamp(self.now + offset).unwrap();
        let revoke = |identity: &&Identity| RevokedCertParams {
            serial_number: identity.serial.clone(),
            revocation_time: moment(-1),
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: moment(-1),
            next_update: moment(good_for),
            crl_number: SerialNumber::from(number),
            issuing_distribution_point: None,
            revoked_certs: revoked.iter().map(revoke).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).unwrap().pem().unwrap()
    }

    fn issue(&self, names: Vec<SanType>, usage: ExtendedKeyUsagePurpose) -> Identity {
        let mut params = CertificateParams::default();
        params.use_authority_key_identifier_extension = true;
        params.subject_alt_names = names;
        params.extended_key_usages = vec![usage.clone()];
        if usage == ExtendedKeyUsagePurpose::ClientAuth {
            // By the tests' own clock; our certificate is judged by the client's real one.
            params.not_after = time::OffsetDateTime::from_unix_timestamp(self.now + WORKLOAD_LIFE).unwrap();
        }
        self.sign(params)
    }

    fn sign(&self, mut params: CertificateParams) -> Identity {
        let serial = SerialNumber::from(NEXT_SERIAL.fetch_add(1, Ordering::Relaxed));
        params.serial_number = Some(serial.clone());
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Identity {
            serial,
            der: certificate.der().clone(),
            pem: certificate.pem(),
            key_pem: key.serialize_pem(),
            key_der: key.serialize_der(),
        }
    }
}
