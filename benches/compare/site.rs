//! What all of them read: certificates, keys and tokens.

use belay::clock::{Clock, System};
use belay::identity::{Algorithm, BodyDigest, Claims, Confirmation, Kid, SigningKey, Thumbprint};
use belay::request::Id;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    PKCS_ED25519, PKCS_RSA_SHA256, SanType,
};
use rustls::client::Resumption;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ClientConfig, RootCertStore};
use std::{fs, sync::Arc};
use tempfile::TempDir;

pub const HOST: &str = "shop.example.com";
const ID: &str = "spiffe://example.com/worker/checkout";
/// The base64 of what signs with HS256.
const SECRET: &str = "bG9uZyBlbm91Z2ggYW5kIHJhbmRvbSBlbm91Z2ggdG8gYmUgdGFrZW4gYXMgYSBzZWNyZXQ=";
/// The same as bytes, as HAProxy reads it.
pub const SECRET_BYTES: &str = "long enough and random enough to be taken as a secret";

/// The id of an algorithm's key, and the last part of the path where it is asked for.
fn kid(algorithm: Algorithm) -> String {
    algorithm.name().to_ascii_lowercase()
}

pub struct Site {
    pub folder: TempDir,
    roots: RootCertStore,
    certificate: CertificateDer<'static>,
    certificate_key: Vec<u8>,
    signers: Vec<(Algorithm, SigningKey)>,
}

impl Site {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca_key = KeyPair::generate().unwrap();
        let ca = params.self_signed(&ca_key).unwrap();
        let issuer = Issuer::new(params, ca_key);
        let issue = |name: SanType, common: &str, usage: ExtendedKeyUsagePurpose| {
            let mut params = CertificateParams::default();
            params.distinguished_name = DistinguishedName::new();
            params.distinguished_name.push(DnType::CommonName, common);
            params.subject_alt_names = vec![name];
            params.use_authority_key_identifier_extension = true;
            params.extended_key_usages = vec![usage];
            let key = KeyPair::generate().unwrap();
            (params.signed_by(&key, &issuer).unwrap(), key)
        };
        let server = SanType::DnsName(HOST.try_into().unwrap());
        let (server, server_key) = issue(server, HOST, ExtendedKeyUsagePurpose::ServerAuth);
        let client = SanType::URI(ID.try_into().unwrap());
        let (client, client_key) = issue(client, "checkout", ExtendedKeyUsagePurpose::ClientAuth);
        write("ca.pem", &ca.pem());
        write("lb.pem", &server.pem());
        write("lb.key", &server_key.serialize_pem());
        write("lb.both.pem", &(server.pem() + &server_key.serialize_pem()));
        write("hs256.secret", SECRET);
        let signer = |algorithm: Algorithm| {
            let pair = match algorithm {
                Algorithm::Es256 => KeyPair::generate(),
                Algorithm::EdDsa => KeyPair::generate_for(&PKCS_ED25519),
                Algorithm::Rs256 => KeyPair::generate_for(&PKCS_RSA_SHA256),
                Algorithm::Hs256 => return SigningKey::from_secret(SECRET).unwrap(),
            };
            let pair = pair.unwrap();
            write(&format!("{}.pub", kid(algorithm)), &pair.public_key_pem());
            SigningKey::from_pkcs8(&pair.serialize_der()).unwrap()
        };
        let signers = [Algorithm::Es256, Algorithm::EdDsa, Algorithm::Rs256, Algorithm::Hs256]
            .into_iter()
            .map(|algorithm| (algorithm, signer(algorithm)))
            .collect();
        let mut roots = RootCertStore::empty();
        roots.add(ca.der().clone()).unwrap();
        let certificate = client.der().clone();
        Self { folder, roots, certificate, certificate_key: client_key.serialize_der(), signers }
    }

    /// A client with the workload's certificate, which resumes sessions where it can, or never.
    pub fn client(&self, protocol: &[u8], resumes: bool) -> Arc<ClientConfig> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(self.certificate_key.clone()));
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let config = config.with_root_certificates(self.roots.clone());
        let mut config = config.with_client_auth_cert(vec![self.certificate.clone()], key).unwrap();
        config.alpn_protocols = vec![protocol.to_vec()];
        if !resumes {
            config.resumption = Resumption::disabled();
        }
        Arc::new(config)
    }

    /// A token for one GET of that path.
    pub fn token(&self, algorithm: Algorithm, path: &str) -> String {
        let now = System.now().unix_seconds();
        // What a shared secret signs is bound to the body instead of a certificate.
        let is_shared = algorithm == Algorithm::Hs256;
        let digest = is_shared.then(|| BodyDigest::of(b"").to_string().into());
        let certificate = Confirmation { x5t_s256: Thumbprint::of(&self.certificate).to_string().into() };
        let claims = Claims {
            iss: "https://edge.example.com".into(),
            aud: vec!["https://lb.example.com".into()],
            sub: ID.into(),
            iat: now,
            exp: now + 60,
            jti: Id::random().as_str().to_owned().into(),
            htm: "GET".into(),
            hta: HOST.into(),
            htt: path.into(),
            cnf: (!is_shared).then_some(certificate),
            rid: Some(Id::random().as_str().to_owned().into()),
            cip: None,
            ohost: None,
            cdg: digest,
            ath: None,
        };
        let (_, signer) = self.signers.iter().find(|(known, _)| *known == algorithm).unwrap();
        signer.sign(&Kid::parse(&kid(algorithm)).unwrap(), &claims).unwrap()
    }
}
