//! What RFC 5280 says of a certificate's form that the library does not look at. A CA that breaks it breaks more.

use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::{X509Certificate, X509Extension};
use x509_parser::public_key::PublicKey;

/// The most certificates that a peer may show, and the longest of them in bytes: what is judged costs time.
pub(super) const CHAIN_MAX: usize = 6;
pub(super) const LENGTH_MAX: usize = 16 * 1024;

/// Whether a client's own certificate is as it should be.
pub(super) fn is_fit_leaf(leaf: &X509Certificate<'_>) -> bool {
    #[expect(clippy::wildcard_enum_match_arm, reason = "of the others nothing is asked")]
    let is_extension_fit = |extension: &ParsedExtension<'_>| match extension {
        // § 4.2.1.3: it signs handshakes, and never certificates.
        ParsedExtension::KeyUsage(usage) => usage.digital_signature() && !usage.key_cert_sign(),
        // § 4.2.1.12: for clients, and not for whatever anybody likes.
        ParsedExtension::ExtendedKeyUsage(usage) => !usage.any,
        // § 4.2.1.10: only a CA constrains names.
        ParsedExtension::NameConstraints(_) => false,
        _ => true,
    };
    // § 4.1.2.2: a positive number.
    let serial = leaf.raw_serial();
    let is_positive = serial.iter().any(|byte| *byte != 0) && serial.first().is_some_and(|first| first & 0x80 == 0);
    let mut extensions = leaf.iter_extensions();
    is_fit(leaf)
        && names_its_issuers_key(leaf)
        && is_positive
        && signs(leaf)
        && extensions.all(|extension| is_extension_fit(extension.parsed_extension()))
}

/// Whether its key is one that TLS signs with.
fn signs(leaf: &X509Certificate<'_>) -> bool {
    const POINTS: [usize; 3] = [65, 97, 133];
    match leaf.public_key().parsed() {
        Ok(PublicKey::RSA(key)) => key.key_size() >= 2048,
        Ok(PublicKey::EC(point)) => POINTS.contains(&point.data().len()),
        Ok(PublicKey::Unknown(_)) => leaf.public_key().algorithm.algorithm.to_id_string() == "1.3.101.112",
        Ok(_) | Err(_) => false,
    }
}

/// Whether a CA's certificate is as it should be.
pub(super) fn is_fit_ca(ca: &X509Certificate<'_>) -> bool {
    // § 4.2.1.9: that it is a CA must not be overlooked. § 4.2.1.2: others name its key by an identifier.
    let is_plain = |extension: &X509Extension<'_>| {
        extension.critical || !matches!(extension.parsed_extension(), ParsedExtension::BasicConstraints(_))
    };
    let has_identifier = |extension: &X509Extension<'_>| {
        matches!(extension.parsed_extension(), ParsedExtension::SubjectKeyIdentifier(_))
    };
    // § 4.1.2.6: who issues has a name.
    is_fit(ca)
        && ca.subject().iter_rdn().next().is_some()
        && (ca.issuer() == ca.subject() || names_its_issuers_key(ca))
        && ca.iter_extensions().all(is_plain)
        && ca.iter_extensions().any(has_identifier)
}

/// § 4.2.1.1: which of its issuer's keys it was. Only who has signed himself needs not say it.
fn names_its_issuers_key(certificate: &X509Certificate<'_>) -> bool {
    let names_key = |extension: &X509Extension<'_>| {
        matches!(extension.parsed_extension(), ParsedExtension::AuthorityKeyIdentifier(_))
    };
    certificate.iter_extensions().any(names_key)
}

/// § 4.2: extensions that can be read and are as critical as they must be.
fn is_fit(certificate: &X509Certificate<'_>) -> bool {
    let mut extensions = certificate.iter_extensions();
    certificate.raw_serial().len() <= 20
        && extensions.all(|extension| is_as_critical(extension.parsed_extension(), extension.critical))
}

#[expect(clippy::wildcard_enum_match_arm, reason = "of the others nothing is asked")]
fn is_as_critical(extension: &ParsedExtension<'_>, critical: bool) -> bool {
    match extension {
        ParsedExtension::ParseError { .. } => false,
        ParsedExtension::UnsupportedExtension { .. } | ParsedExtension::Unparsed => !critical,
        // § 4.2.1.1, § 4.2.1.2, § 4.2.2.1.
        ParsedExtension::AuthorityKeyIdentifier(_)
        | ParsedExtension::SubjectKeyIdentifier(_)
        | ParsedExtension::AuthorityInfoAccess(_) => !critical,
        // § 4.2.1.10, § 4.2.1.11.
        ParsedExtension::NameConstraints(_) | ParsedExtension::PolicyConstraints(_) => critical,
        _ => true,
    }
}
