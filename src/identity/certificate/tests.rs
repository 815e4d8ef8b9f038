//! Which certificates count, and until when.

use super::*;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CustomExtension, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SanType, SerialNumber,
};
use rustls::pki_types::CertificateRevocationListDer;
use test_case::test_case;

const WORKER: &str = "spiffe://example.com/worker/checkout";
const NOW: UnixSeconds = 1_795_000_000;

fn ca() -> (CertificateDer<'static>, Issuer<'static, KeyPair>) {
    let mut params = CertificateParams::default();
    params.use_authority_key_identifier_extension = true;
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
    params.use_authority_key_identifier_extension = true;
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
    assert_eq!(judge(&peer(&leaf, &issuer), &authorities(&[root]), 0), expected);
}

#[test]
fn a_verdict_ends_with_its_authorities_and_its_time() {
    let (root, issuer) = ca();
    let (other_root, _) = ca();
    let peer = peer(&good(), &issuer);
    let ours = authorities(std::slice::from_ref(&root));
    let others = authorities(std::slice::from_ref(&other_root));
    let both = authorities(&[other_root, root]);
    assert_eq!(judge(&peer, &ours, 0), Ok(()));
    assert_eq!(judge(&peer, &others, 0), Err(Refusal::CertificateUntrusted));
    assert_eq!(judge(&peer, &both, 0), Ok(()), "CAs overlap");
    assert_eq!(judge(&peer, &both, 10), Ok(()), "the last second");
    assert_eq!(judge(&peer, &both, 11), Err(Refusal::CertificateExpired));
    assert_eq!(judge(&peer, &both, -11), Err(Refusal::CertificateExpired));
    assert_eq!(judge(&peer, &authorities(&[]), 0), Err(Refusal::CertificateUntrusted));
}

#[test]
fn a_ca_that_has_expired_vouches_for_nobody() {
    let mut params = CertificateParams::default();
    params.use_authority_key_identifier_extension = true;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.not_after = moment(5);
    let key = KeyPair::generate().unwrap();
    let root = params.self_signed(&key).unwrap().der().clone();
    let peer = peer(&good(), &Issuer::new(params, key));
    let authorities = authorities(&[root]);
    assert_eq!(judge(&peer, &authorities, 5), Ok(()));
    assert_eq!(judge(&peer, &authorities, 6), Err(Refusal::CertificateUntrusted));
}

#[test]
fn garbage_is_no_authority_and_no_identity() {
    let garbage = CertificateDer::from(vec![1, 2, 3]);
    assert_eq!(authorities_or_fault(std::slice::from_ref(&garbage)).err(), Some(BadAuthority::NoCa(0)));
    let leaf = rcgen::generate_simple_self_signed(["a".to_owned()]).unwrap().cert.der().clone();
    assert_eq!(authorities_or_fault(&[ca().0, leaf]).err(), Some(BadAuthority::NoCa(1)), "a leaf vouches for nobody");
    let (root, _) = ca();
    let peer = Peer::new(&[garbage]).unwrap();
    assert_eq!(judge(&peer, &authorities(&[root]), 0), Err(Refusal::CertificateMalformed));
    assert!(Peer::new(&[]).is_none());
}

fn authorities_or_fault(certificates: &[CertificateDer<'static>]) -> Result<Authorities, BadAuthority> {
    Authorities::new(certificates, &[], Rules::default())
}

fn authorities(certificates: &[CertificateDer<'static>]) -> Authorities {
    authorities_or_fault(certificates).unwrap()
}

/// A CA's list, which is good until `until` and revokes those serial numbers.
fn list(
    issuer: &Issuer<'static, KeyPair>,
    number: u64,
    until: i64,
    revoked: &[u64],
) -> CertificateRevocationListDer<'static> {
    let revoked = revoked.iter().map(|serial| RevokedCertParams {
        serial_number: SerialNumber::from(*serial),
        revocation_time: moment(-5),
        reason_code: None,
        invalidity_date: None,
    });
    let params = CertificateRevocationListParams {
        this_update: moment(-10),
        next_update: moment(until),
        crl_number: SerialNumber::from(number),
        issuing_distribution_point: None,
        revoked_certs: revoked.collect(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    params.signed_by(issuer).unwrap().into()
}

fn numbered(serial: u64, issuer: &Issuer<'static, KeyPair>) -> Peer {
    let mut params = CertificateParams::default();
    params.use_authority_key_identifier_extension = true;
    params.serial_number = Some(SerialNumber::from(serial));
    params.subject_alt_names = vec![SanType::URI(WORKER.try_into().unwrap())];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.not_before = moment(-100);
    params.not_after = moment(100);
    Peer::new(&[params.signed_by(&KeyPair::generate().unwrap(), issuer).unwrap().der().clone()]).unwrap()
}

#[test_case(7, Rules::default(), 0, Ok(()); "not revoked")]
#[test_case(8, Rules::default(), 0, Err(Refusal::CertificateRevoked); "revoked")]
#[test_case(7, Rules::default(), 50, Err(Refusal::RevocationListExpired); "the list has expired")]
#[test_case(8, Rules::default(), 50, Err(Refusal::CertificateRevoked); "revoked by a list that has expired")]
#[test_case(7, Rules { expired_list_counts: true, ..Rules::default() }, 50, Ok(()); "an expired list may count")]
#[test_case(8, Rules { expired_list_counts: true, ..Rules::default() }, 50, Err(Refusal::CertificateRevoked); "and then it does")]
fn revocation(serial: u64, rules: Rules, at: i64, expected: Result<(), Refusal>) {
    let (root, issuer) = ca();
    let authorities = Authorities::new(&[root], &[list(&issuer, 1, 49, &[8])], rules).unwrap();
    assert_eq!(judge(&numbered(serial, &issuer), &authorities, at), expected);
}

#[test]
fn a_list_bites_at_once_and_only_its_own_ca() {
    let ((root, issuer), (other_root, other)) = (named_ca("one"), named_ca("other"));
    let (peer, others) = (numbered(8, &issuer), numbered(8, &other));
    let roots = [root, other_root];
    let with = |first: &[u64], until: i64| {
        Authorities::new(&roots, &[list(&issuer, 1, until, first), list(&other, 1, 90, &[])], Rules::default()).unwrap()
    };
    assert_eq!(judge(&peer, &with(&[], 90), 0), Ok(()));
    assert_eq!(judge(&peer, &with(&[8], 90), 0), Err(Refusal::CertificateRevoked), "the same peer, judged anew");
    assert_eq!(judge(&others, &with(&[8], 90), 0), Ok(()));
    assert_eq!(judge(&others, &with(&[], 10), 50), Ok(()), "another CA's list has expired");
}

#[test]
fn a_forged_list_is_not_believed() {
    let ((root, issuer), (_, forger)) = (named_ca("one"), named_ca("one"));
    let forged = Authorities::new(&[root], &[list(&forger, 1, 90, &[])], Rules::default()).unwrap();
    assert!(judge(&numbered(8, &issuer), &forged, 0).is_err());
}

#[test]
fn every_ca_has_a_list_or_none_has() {
    let ((root, issuer), (other_root, _)) = (named_ca("one"), named_ca("other"));
    let fault = Authorities::new(&[root.clone(), other_root], &[list(&issuer, 1, 90, &[])], Rules::default()).err();
    assert_eq!(fault, Some(BadAuthority::Uncovered(1)));
    let garbage = CertificateRevocationListDer::from(vec![1, 2, 3]);
    assert_eq!(Authorities::new(&[root], &[garbage], Rules::default()).err(), Some(BadAuthority::NoList(0)));
}

#[test]
fn lists_of_one_ca_are_a_series() {
    let ((root, issuer), (other_root, other_issuer)) = (named_ca("one"), named_ca("other"));
    let lists = [list(&issuer, 256, 90, &[]), list(&other_issuer, 2, 90, &[]), list(&issuer, 255, 90, &[])];
    let authorities = Authorities::new(&[root, other_root], &lists, Rules::default()).unwrap();
    let all: Vec<_> = authorities.lists().collect();
    assert_eq!(all.iter().map(|(_, number)| *number).collect::<Vec<_>>(), [&[1, 0][..], &[2], &[255]]);
    assert_eq!((all[0].0 == all[2].0, all[0].0 == all[1].0), (true, false));
}

#[test_case(200, Ok(()); "as long as it may be")]
#[test_case(199, Err(Refusal::CertificateLifetime); "a second longer")]
fn a_lifetime_has_its_limit(lifetime_max: u64, expected: Result<(), Refusal>) {
    let (root, issuer) = ca();
    let rules = Rules { lifetime_max: Some(Duration::from_secs(lifetime_max)), ..Rules::default() };
    assert_eq!(judge(&numbered(7, &issuer), &Authorities::new(&[root], &[], rules).unwrap(), 0), expected);
}

fn named_ca(name: &str) -> (CertificateDer<'static>, Issuer<'static, KeyPair>) {
    let mut params = CertificateParams::default();
    params.use_authority_key_identifier_extension = true;
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    (params.self_signed(&key).unwrap().der().clone(), Issuer::new(params, key))
}

#[test_case(rcgen::DnType::CommonName, "origin-pull.cloudflare.net")]
#[test_case(rcgen::DnType::OrganizationalUnitName, "Origin Pull")]
fn the_shared_ca_is_refused_unless_it_is_meant(kind: rcgen::DnType, name: &str) {
    let mut params = CertificateParams::default();
    params.use_authority_key_identifier_extension = true;
    params.distinguished_name.push(kind, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let shared = params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone();
    let taken = |rules| Authorities::new(&[ca().0, shared.clone()], &[], rules).map(drop);
    assert_eq!(taken(Rules::default()), Err(BadAuthority::OriginPull(1)));
    assert_eq!(taken(Rules { trusts_origin_pull: true, ..Rules::default() }), Ok(()));
}

fn extension(id: &[u64], content: Vec<u8>, critical: bool) -> CustomExtension {
    let mut extension = CustomExtension::from_oid_content(id, content);
    extension.set_criticality(critical);
    extension
}

/// A good leaf, changed.
fn changed(issuer: &Issuer<'static, KeyPair>, key: &KeyPair, change: impl FnOnce(&mut CertificateParams)) -> Peer {
    let mut params = CertificateParams::default();
    params.use_authority_key_identifier_extension = true;
    params.subject_alt_names = vec![SanType::URI(WORKER.try_into().unwrap())];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    change(&mut params);
    Peer::new(&[params.signed_by(key, issuer).unwrap().der().clone()]).unwrap()
}

#[test_case(|_| {}, true; "as it should be")]
#[test_case(|params| params.key_usages = vec![KeyUsagePurpose::DigitalSignature], true; "it signs")]
#[test_case(|params| params.custom_extensions = vec![extension(&[1, 2, 3], vec![5, 0], false)], true; "an unknown extension")]
#[test_case(|params| params.key_usages = vec![KeyUsagePurpose::KeyEncipherment], false; "it does not sign")]
#[test_case(|params| params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyCertSign], false; "it signs certificates")]
#[test_case(|params| params.extended_key_usages.push(ExtendedKeyUsagePurpose::Any), false; "for anything")]
#[test_case(|params| params.serial_number = Some(SerialNumber::from(vec![0])), false; "number zero")]
#[test_case(|params| params.use_authority_key_identifier_extension = false, false; "it does not name its issuer's key")]
#[test_case(|params| params.custom_extensions = vec![extension(&[1, 2, 3], vec![5, 0], true)], false; "an unknown critical extension")]
#[test_case(|params| params.custom_extensions = vec![extension(&[2, 5, 29, 14], vec![4, 1, 7], true)], false; "a critical key identifier")]
#[test_case(|params| params.custom_extensions = vec![extension(&[2, 5, 29, 35], vec![1, 2, 3], false)], false; "an extension that cannot be read")]
fn the_form_of_a_leaf(change: fn(&mut CertificateParams), expected: bool) {
    let (root, issuer) = ca();
    let peer = changed(&issuer, &KeyPair::generate().unwrap(), change);
    assert_eq!(judge(&peer, &authorities(&[root]), 0).is_ok(), expected);
}

#[test_case(&rcgen::PKCS_ED25519)]
#[test_case(&rcgen::PKCS_ECDSA_P384_SHA384)]
#[test_case(&rcgen::PKCS_RSA_SHA256)]
fn every_kind_of_key_that_tls_knows(kind: &'static rcgen::SignatureAlgorithm) {
    let (root, issuer) = ca();
    let peer = changed(&issuer, &KeyPair::generate_for(kind).unwrap(), |_| {});
    assert_eq!(judge(&peer, &authorities(&[root]), 0), Ok(()));
}

#[test]
fn a_chain_is_bounded() {
    let (root, issuer) = ca();
    let leaf = changed(&issuer, &KeyPair::generate().unwrap(), |_| {}).chain[0].clone();
    let chain = |count: usize| Peer::new(&[vec![leaf.clone()], vec![root.clone(); count]].concat()).unwrap();
    let authorities = authorities(std::slice::from_ref(&root));
    assert_eq!(judge(&chain(form::CHAIN_MAX - 1), &authorities, 0), Ok(()));
    assert_eq!(judge(&chain(form::CHAIN_MAX), &authorities, 0), Err(Refusal::CertificateMalformed));
}

#[test]
fn a_ca_without_a_name_or_without_the_right_to_lists_is_none() {
    let make = |change: fn(&mut CertificateParams)| {
        let mut params = CertificateParams::default();
        params.use_authority_key_identifier_extension = true;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        (params.self_signed(&key).unwrap().der().clone(), Issuer::new(params, key))
    };
    let (nameless, _) = make(|params| params.distinguished_name = rcgen::DistinguishedName::new());
    assert_eq!(authorities_or_fault(&[nameless]).err(), Some(BadAuthority::NoCa(0)));
    let identifier = || extension(&[2, 5, 29, 14], vec![4, 1, 7], false);
    let constraints = |critical: bool| extension(&[2, 5, 29, 19], vec![0x30, 3, 1, 1, 0xff], critical);
    for (extensions, is_fit) in [
        (vec![identifier(), constraints(true)], true),
        (vec![identifier(), constraints(false)], false),
        (vec![constraints(true)], false),
    ] {
        let mut params = CertificateParams::default();
        params.custom_extensions = extensions;
        let root = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        assert_eq!(authorities_or_fault(&[root.der().clone()]).is_ok(), is_fit);
    }
    // rcgen itself refuses to sign a list with it, so another key's list stands for it.
    let (silent, _) = make(|params| params.key_usages = vec![KeyUsagePurpose::KeyCertSign]);
    let (_, issuer) = ca();
    let refused = Authorities::new(&[silent], &[list(&issuer, 1, 90, &[])], Rules::default()).err();
    assert_eq!(refused, Some(BadAuthority::Uncovered(0)));
}
