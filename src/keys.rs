//! Reads keys and certificates from files, and says which file and line is broken.

use crate::clock::UnixSeconds;
use crate::config::document::MappingFile;
use crate::config::{Finding, Server, read_mapping, read_revoked, read_servers};
use crate::generation::Digest;
use crate::identity::{BadKey, KeySet, Revoked, VerifyingKey, read_secret};
use crate::name::RoleName;
use crate::pins::Pins;
use crate::secret::Secret;
use rustls::pki_types::{
    CertificateDer, CertificateRevocationListDer, PrivateKeyDer, SubjectPublicKeyInfoDer,
    pem::{self, PemObject},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{
    borrow::Cow,
    collections::BTreeSet,
    fs::{self, File},
    io::Read as _,
    ops::Range,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
};
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::revocation_list::CertificateRevocationList;

/// The largest file that is read, in bytes.
const FILE_MAX: u64 = 1024 * 1024;
/// So many files may fit one pattern.
const MATCHING_MAX: usize = 1024;

/// Reads files and remembers which, and what stood in them.
#[derive(Debug)]
pub struct Files {
    folder: PathBuf,
    pins: Arc<Pins>,
    read: Vec<Read>,
    seen: Vec<Seen>,
}

/// What a rollback does with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// It is part of the policy, and comes back.
    Decides,
    /// It says what holds now, and stays: certificates of our own.
    Current,
    /// It says what counts no more, and stays.
    Revokes,
    /// It holds a secret that decides, for example that of a token's key; secrets are never kept.
    Secret,
    /// It holds a secret of our own, for example a certificate's key.
    OwnSecret,
}

impl Kind {
    /// Whether its content must never be kept or shown.
    #[must_use]
    pub const fn is_secret(self) -> bool {
        matches!(self, Self::Secret | Self::OwnSecret)
    }

    /// Whether it decides requests, on every node alike.
    #[must_use]
    pub const fn decides(self) -> bool {
        matches!(self, Self::Decides | Self::Secret | Self::Revokes)
    }

    /// Whether a change of it is one of policy; certificates, their keys and revocation lists are renewed by machines.
    #[must_use]
    pub const fn must_be_approved(self) -> bool {
        matches!(self, Self::Decides | Self::Secret)
    }
}

/// A file that was read.
#[derive(Debug, Clone)]
pub struct Read {
    /// Which.
    pub path: PathBuf,
    /// What it is.
    pub kind: Kind,
    content: Secret,
}

impl Read {
    /// The config's text.
    #[must_use]
    pub fn config(path: &Path, text: &str) -> Self {
        Self { path: path.to_owned(), kind: Kind::Decides, content: Secret::new(text.as_bytes().to_vec()) }
    }

    /// What stood in it; nothing, if that is a secret.
    #[must_use]
    pub fn content(&self) -> &[u8] {
        if self.kind.is_secret() { &[] } else { self.content.expose() }
    }

    /// SHA-256 of what stood in it.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of_content(self.content.expose())
    }
}

/// A file as it was when it was looked at: device, inode, size, and the time of its last change. What is compared
/// later must have been taken before the content was read, or a change in between would never be seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    path: PathBuf,
    stamp: Option<(u64, u64, u64, i64, i64)>,
}

impl Seen {
    /// Looks at a file.
    #[must_use]
    pub fn look(path: &Path) -> Self {
        let stamp = |found: fs::Metadata| (found.dev(), found.ino(), found.size(), found.mtime(), found.mtime_nsec());
        Self { path: path.to_owned(), stamp: fs::metadata(path).ok().map(stamp) }
    }

    /// Which file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Looks at the same file again.
    #[must_use]
    pub fn again(&self) -> Self {
        Self::look(&self.path)
    }

    /// Whether the file is different now.
    #[must_use]
    pub fn has_changed(&self) -> bool {
        self.again() != *self
    }
}

/// A certificate or a revocation list, as far as it ages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dated {
    /// From its first second to the one after its last.
    pub valid: Range<UnixSeconds>,
    /// What it is: of a certificate its public key, which a renewal may keep.
    pub fingerprint: Digest,
}

impl Dated {
    /// A certificate's; none if it cannot be read.
    #[must_use]
    pub fn of_certificate(der: &CertificateDer<'_>) -> Option<Self> {
        let (_, read) = X509Certificate::from_der(der).ok()?;
        let validity = read.validity();
        let valid = validity.not_before.timestamp()..validity.not_after.timestamp().saturating_add(1);
        Some(Self { valid, fingerprint: Digest::of_content(read.public_key().raw) })
    }

    /// A list's; none if it cannot be read. Without a next one it never expires.
    #[must_use]
    pub fn of_list(der: &CertificateRevocationListDer<'_>) -> Option<Self> {
        let (_, read) = CertificateRevocationList::from_der(der).ok()?;
        let end = read.next_update().map_or(UnixSeconds::MAX, |time| time.timestamp());
        Some(Self { valid: read.last_update().timestamp()..end, fingerprint: Digest::of_content(der) })
    }
}

impl Files {
    /// None read yet. The digest names files by their way from this folder, so that it is the same on every node.
    #[must_use]
    pub fn new(folder: &Path) -> Self {
        Self::with_pins(folder, Arc::default())
    }

    /// The same, where some files were rolled back.
    #[must_use]
    pub fn with_pins(folder: &Path, pins: Arc<Pins>) -> Self {
        Self { folder: folder.to_owned(), pins, read: Vec::new(), seen: Vec::new() }
    }

    /// The files that were read so far.
    #[must_use]
    pub fn read(&self) -> &[Read] {
        &self.read
    }

    /// The files that were asked for so far, as they were before they were read.
    #[must_use]
    pub fn seen(&self) -> &[Seen] {
        &self.seen
    }

    /// The digest of a config and of all files read so far.
    #[must_use]
    pub fn digest(&self, config: Digest) -> Digest {
        let config = config.to_string();
        let name = |path: &'_ PathBuf| path.strip_prefix(&self.folder).unwrap_or(path).to_string_lossy().into_owned();
        let names: Vec<_> = self.read.iter().map(|read| name(&read.path)).collect();
        let files = names.iter().map(String::as_str).zip(self.read.iter().map(|read| read.content.expose()));
        Digest::of(&std::iter::once(("config", config.as_bytes())).chain(files).collect::<Vec<_>>())
    }

    /// Reads a file of certificates.
    ///
    /// # Errors
    /// If it cannot be read, holds no certificate, or one that cannot be parsed.
    pub fn certificates(&mut self, path: &Path, kind: Kind) -> Result<Vec<CertificateDer<'static>>, Finding> {
        let text = self.text(path, kind)?;
        let certificates: Vec<_> = CertificateDer::pem_slice_iter(text.expose()).collect();
        let mut read = Vec::with_capacity(certificates.len());
        for (number, certificate) in certificates.into_iter().enumerate() {
            let broken =
                |why: String| broken(path, &text, number, &format!("certificate {} is broken: {why}", number + 1));
            let certificate = certificate.map_err(|error| broken(error.to_string()))?;
            X509Certificate::from_der(&certificate).map_err(|_unparsed| broken("what it holds is no X.509".into()))?;
            read.push(certificate);
        }
        if read.is_empty() { Err(missing(path, "certificate", "CERTIFICATE")) } else { Ok(read) }
    }

    /// Reads a file of revocation lists.
    ///
    /// # Errors
    /// If it cannot be read, holds no list, or one that cannot be parsed.
    pub fn revocation_lists(&mut self, path: &Path) -> Result<Vec<CertificateRevocationListDer<'static>>, Finding> {
        let text = self.text(path, Kind::Revokes)?;
        let mut read = Vec::new();
        for (number, list) in CertificateRevocationListDer::pem_slice_iter(text.expose()).enumerate() {
            let broken =
                |why: String| broken(path, &text, number, &format!("revocation list {} is broken: {why}", number + 1));
            let list = list.map_err(|error| broken(error.to_string()))?;
            CertificateRevocationList::from_der(&list)
                .map_err(|_unparsed| broken("what it holds is no list".into()))?;
            read.push(list);
        }
        if read.is_empty() { Err(missing(path, "revocation list", "X509 CRL")) } else { Ok(read) }
    }

    /// The certificates of a folder, each `NAME.pem` with its `NAME.key`, in the order of their names.
    ///
    /// # Errors
    /// If the folder cannot be read or holds none.
    pub fn pairs(&mut self, folder: &Path) -> Result<Vec<(PathBuf, PathBuf)>, Finding> {
        self.seen.push(Seen::look(folder));
        let unreadable = |error| Finding::of_file(folder, format!("the folder cannot be read: {error}"), None);
        let mut chains = Vec::new();
        for entry in fs::read_dir(folder).map_err(unreadable)? {
            let path = entry.map_err(unreadable)?.path();
            chains.extend((path.extension().is_some_and(|extension| extension == "pem")).then_some(path));
        }
        chains.sort();
        let none = || {
            let hint = "each NAME.pem with its NAME.key is a certificate".to_owned();
            Finding::of_file(folder, "the folder holds no certificate", Some(hint))
        };
        let pair = |chain: PathBuf| {
            let key = chain.with_extension("key");
            (chain, key)
        };
        if chains.is_empty() { Err(none()) } else { Ok(chains.into_iter().map(pair).collect()) }
    }

    /// Reads a private key.
    ///
    /// # Errors
    /// If the file cannot be read or holds no private key.
    pub fn private_key(&mut self, path: &Path) -> Result<PrivateKeyDer<'static>, Finding> {
        let text = self.text(path, Kind::OwnSecret)?;
        PrivateKeyDer::from_pem_slice(text.expose()).map_err(|error| no_key(path, &text, &error, "private key"))
    }

    /// Reads a public key for tokens.
    ///
    /// # Errors
    /// If the file cannot be read or holds no key of a kind that tokens are signed with.
    pub fn public_key(&mut self, path: &Path) -> Result<VerifyingKey, Finding> {
        let text = self.text(path, Kind::Decides)?;
        if PrivateKeyDer::from_pem_slice(text.expose()).is_ok() {
            let hint = "openssl pkey -in THIS_FILE -pubout > PUBLIC_FILE, and keep this one at the edge";
            let message = "this is a private key, and only its public half belongs here";
            return Err(Finding::of_file(path, message, Some(hint.into())));
        }
        let key = SubjectPublicKeyInfoDer::from_pem_slice(text.expose());
        let key = key.map_err(|error| no_key(path, &text, &error, "public key"))?;
        VerifyingKey::from_spki(&key).map_err(|error| broken(path, &text, 0, &error.to_string()))
    }

    /// Reads a shared secret for tokens.
    ///
    /// # Errors
    /// If the file cannot be read or holds none that is good enough.
    pub fn shared_secret(&mut self, path: &Path) -> Result<VerifyingKey, Finding> {
        let text = self.text(path, Kind::Secret)?;
        let text = std::str::from_utf8(text.expose()).map_err(|_no_text| BadKey::Secret);
        let key = text.and_then(VerifyingKey::from_secret);
        key.map_err(|error| Finding::of_file(path, error.to_string(), None))
    }

    /// Reads the keys of an identity provider.
    ///
    /// # Errors
    /// If the file cannot be read, is no JWK set, or holds no key that can be used.
    pub fn key_set(&mut self, path: &Path) -> Result<KeySet, Finding> {
        let text = self.text(path, Kind::Decides)?;
        KeySet::read(text.expose()).map_err(|fault| {
            let hint = "what the provider shows at its `jwks_uri`, for example {\"keys\": [{\"kty\": \"EC\", …}]}";
            Finding::of_file(path, fault.to_string(), Some(hint.into()))
        })
    }

    /// Reads a secret that signs what only we read.
    ///
    /// # Errors
    /// If the file cannot be read or holds none that is good enough.
    pub fn own_secret(&mut self, path: &Path) -> Result<Secret, Finding> {
        let text = self.text(path, Kind::OwnSecret)?;
        let text = std::str::from_utf8(text.expose()).map_err(|_no_text| BadKey::Secret);
        text.and_then(read_secret).map_err(|error| Finding::of_file(path, error.to_string(), None))
    }

    /// Reads a file that says who has which of those roles.
    ///
    /// # Errors
    /// If it cannot be read, and what is wrong with it.
    pub fn mapping(&mut self, path: &Path, roles: &[&RoleName]) -> Result<MappingFile, Vec<Finding>> {
        let content = self.text(path, Kind::Decides).map_err(|finding| vec![finding])?;
        read_mapping(path, utf8(path, &content)?, roles)
    }

    /// Reads a file of what counts no more. No rollback brings an older one back.
    ///
    /// # Errors
    /// If it cannot be read, and what is wrong with it.
    pub fn revoked(&mut self, path: &Path) -> Result<Revoked, Vec<Finding>> {
        let content = self.text(path, Kind::Revokes).map_err(|finding| vec![finding])?;
        read_revoked(path, utf8(path, &content)?)
    }

    /// Reads a file of servers.
    ///
    /// # Errors
    /// If it cannot be read, and what is wrong with it.
    pub fn servers(&mut self, path: &Path) -> Result<Vec<Server>, Vec<Finding>> {
        let content = self.text(path, Kind::Decides).map_err(|finding| vec![finding])?;
        read_servers(path, utf8(path, &content)?)
    }

    /// Reads a file of the policy as text.
    ///
    /// # Errors
    /// If it cannot be read, or is no text.
    pub fn policy(&mut self, path: &Path) -> Result<String, Finding> {
        let content = self.text(path, Kind::Decides)?;
        let text = std::str::from_utf8(content.expose());
        text.map(str::to_owned).map_err(|_no_text| Finding::of_file(path, "is no text in UTF-8", None))
    }

    /// Reads a file that a filter shows or goes by, up to so many bytes.
    ///
    /// # Errors
    /// If it cannot be read, or is longer.
    pub fn page(&mut self, path: &Path, max: usize) -> Result<Vec<u8>, Finding> {
        let content = self.content(path, Kind::Decides, max as u64)?;
        Ok(content.expose().to_vec())
    }

    /// The files of a pattern, in the order of their names: one, or those whose name fits where a `*` is in it. Those
    /// that were rolled back are among them, even if they are gone.
    ///
    /// # Errors
    /// If the folder cannot be read, or none fits, or too many do.
    pub fn matching(&mut self, pattern: &Path) -> Result<Vec<PathBuf>, Finding> {
        if !pattern.file_name().is_some_and(|name| name.to_string_lossy().contains('*')) {
            return Ok(vec![pattern.to_owned()]);
        }
        let folder = pattern.parent().unwrap_or_else(|| Path::new(""));
        self.seen.push(Seen::look(folder));
        let unreadable = |error| Finding::of_file(folder, format!("the folder cannot be read: {error}"), None);
        let mut files: BTreeSet<PathBuf> =
            self.pins.iter().map(|(path, _)| path.to_owned()).filter(|path| fits(pattern, path)).collect();
        for entry in fs::read_dir(folder).map_err(unreadable)? {
            let path = folder.join(entry.map_err(unreadable)?.file_name());
            files.extend(Some(path).filter(|path| fits(pattern, path)));
        }
        match files.len() {
            0 => Err(Finding::of_file(pattern, "no file is called so", None)),
            count if count > MATCHING_MAX => {
                Err(Finding::of_file(pattern, format!("{count} files are called so, and {MATCHING_MAX} may be"), None))
            }
            _ => Ok(files.into_iter().collect()),
        }
    }

    fn text(&mut self, path: &Path, kind: Kind) -> Result<Secret, Finding> {
        self.content(path, kind, FILE_MAX)
    }

    fn content(&mut self, path: &Path, kind: Kind, max: u64) -> Result<Secret, Finding> {
        self.seen.push(Seen::look(path));
        let found = if kind == Kind::Decides && self.pins.has(path) {
            let found = content(path, max);
            let fault = found.as_ref().err().cloned();
            let counts = self.pins.correct(path, found.ok().map(Cow::Owned)).map(Cow::into_owned);
            counts.ok_or_else(|| fault.unwrap_or_default())
        } else {
            content(path, max)
        };
        let content = Secret::new(found.map_err(|fault| Finding::of_file(path, fault, None))?);
        self.read.push(Read { path: path.to_owned(), kind, content: content.clone() });
        Ok(content)
    }
}

/// Whether a file is one of a pattern's.
#[must_use]
pub fn fits(pattern: &Path, path: &Path) -> bool {
    let name = |path: &'_ Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let (wanted, is) = (name(pattern), name(path));
    let inner = match wanted.split_once('*') {
        // What an editor hides is not meant.
        Some((before, after)) => {
            is.strip_prefix(before).is_some_and(|rest| rest.ends_with(after)) && !is.starts_with('.')
        }
        None => wanted == is,
    };
    inner && path.parent() == pattern.parent()
}

fn utf8<'a>(path: &Path, content: &'a Secret) -> Result<&'a str, Vec<Finding>> {
    let text = std::str::from_utf8(content.expose());
    text.map_err(|_no_text| vec![Finding::of_file(path, "is no text in UTF-8", None)])
}

fn content(path: &Path, max: u64) -> Result<Vec<u8>, String> {
    content_up_to(path, max)?.ok_or_else(|| format!("is over {} MiB, which no such file may be", max / 1024 / 1024))
}

/// What stands in a file, unless that is longer than so many bytes.
///
/// # Errors
/// Why it cannot be read.
pub fn content_up_to(path: &Path, max: u64) -> Result<Option<Vec<u8>>, String> {
    // A pipe or a device could keep us waiting for ever.
    if fs::metadata(path).is_ok_and(|found| !found.is_file()) {
        return Err("is no file".into());
    }
    let file = File::open(path).map_err(|error| format!("cannot be opened: {error}"))?;
    let mut content = Vec::new();
    let length = file.take(max.saturating_add(1)).read_to_end(&mut content);
    let length = length.map_err(|error| format!("cannot be read: {error}"))?;
    Ok((length as u64 <= max).then_some(content))
}

fn no_key(path: &Path, text: &Secret, error: &pem::Error, what: &str) -> Finding {
    if matches!(error, pem::Error::NoItemsFound) {
        missing(path, what, &what.to_uppercase())
    } else {
        broken(path, text, 0, &format!("the {what} is broken: {error}"))
    }
}

fn missing(path: &Path, what: &str, label: &str) -> Finding {
    let hint = format!("a PEM file with -----BEGIN {label}----- is expected");
    Finding::of_file(path, format!("holds no {what}"), Some(hint))
}

/// A fault in the section of that number, at the line where it begins. The text itself is never shown: it may be a key.
fn broken(path: &Path, text: &Secret, number: usize, message: &str) -> Finding {
    let text = String::from_utf8_lossy(text.expose());
    let mut begins = text.lines().enumerate().filter(|(_, line)| line.starts_with("-----BEGIN"));
    let line = begins.nth(number).map_or(1, |(index, _)| index.saturating_add(1));
    Finding::at(path, (line, 1), "", message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use test_case::test_case;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("belay-keys-{}-{name}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        fn file(&self, content: &[u8]) -> PathBuf {
            let path = self.0.join("file.pem");
            fs::write(&path, content).unwrap();
            path
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    fn certificate() -> String {
        rcgen::generate_simple_self_signed(["a".to_owned()]).unwrap().cert.pem()
    }

    fn message(finding: &Finding) -> String {
        format!("{}:{}", finding.line, finding.message)
    }

    #[test]
    fn certificates_in_order() {
        let folder = Folder::new("good");
        let path = folder.file(format!("# two\n{}{}", certificate(), certificate()).as_bytes());
        let mut files = Files::new(&folder.0);
        assert_eq!(files.certificates(&path, Kind::Current).unwrap().len(), 2);
        let [seen] = files.seen() else { panic!("one file was read") };
        assert!(!seen.has_changed());
        fs::write(&path, "").unwrap();
        assert!(seen.has_changed());
    }

    #[test_case("", "0:holds no certificate"; "empty")]
    #[test_case("garbage\n", "0:holds no certificate"; "garbage")]
    #[test_case("-----BEGIN CERTIFICATE-----\nAQID\n-----END CERTIFICATE-----\n", "1:certificate 1 is broken"; "no der")]
    #[test_case("-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n", "1:certificate 1 is broken"; "no base64")]
    fn bad_certificates(content: &str, expected: &str) {
        let folder = Folder::new("bad");
        let finding = Files::new(&folder.0).certificates(&folder.file(content.as_bytes()), Kind::Current).unwrap_err();
        assert!(message(&finding).starts_with(expected), "{finding}");
    }

    #[test]
    fn the_second_certificate_is_named_with_its_line() {
        let folder = Folder::new("second");
        let good = certificate();
        let bad = "-----BEGIN CERTIFICATE-----\nAQID\n-----END CERTIFICATE-----\n";
        let finding = Files::new(&folder.0)
            .certificates(&folder.file(format!("{good}{bad}").as_bytes()), Kind::Current)
            .unwrap_err();
        assert_eq!(finding.line, good.lines().count() + 1);
        assert!(finding.message.starts_with("certificate 2"), "{finding}");
    }

    #[test]
    fn a_key_of_another_kind_is_refused_and_never_shown() {
        let folder = Folder::new("kind");
        let p256 = rcgen::KeyPair::generate().unwrap();
        let p384 = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
        let ed = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        let read = |pem: String| Files::new(&folder.0).public_key(&folder.file(pem.as_bytes()));
        assert!(read(p256.public_key_pem()).is_ok());
        assert!(read(ed.public_key_pem()).is_ok());
        assert!(read(p384.public_key_pem()).unwrap_err().message.contains("P-256"));
        let private = read(p256.serialize_pem()).unwrap_err();
        assert!(private.message.contains("private key") && private.hint.is_some());
        let broken = read("-----BEGIN PUBLIC KEY-----\nSECRET!\n-----END PUBLIC KEY-----".into()).unwrap_err();
        assert!(!broken.to_string().contains("SECRET"), "{broken}");
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let folder = Folder::new("unread");
        let finding = Files::new(&folder.0).private_key(&folder.0.join("none.pem")).unwrap_err();
        assert!(finding.to_string().contains("none.pem") && finding.message.starts_with("cannot be opened"));
        assert_eq!(Files::new(&folder.0).private_key(&folder.0).unwrap_err().message, "is no file");
        assert_eq!(Files::new(&folder.0).private_key(Path::new("/dev/zero")).unwrap_err().message, "is no file");
        let large = folder.file(&vec![b'a'; 1024 * 1024 + 1]);
        assert!(Files::new(&folder.0).private_key(&large).unwrap_err().message.starts_with("is over 1 MiB"));
    }

    #[test]
    fn the_digest_moves_with_every_file() {
        let folder = Folder::new("digest");
        let digest = |content: &str, config: Digest| {
            let mut files = Files::new(&folder.0);
            files.certificates(&folder.file(content.as_bytes()), Kind::Current).unwrap();
            files.digest(config)
        };
        let (one, two) = (certificate(), certificate());
        let (config, other) = (Digest::of(&[("config", b"a")]), Digest::of(&[("config", b"b")]));
        assert_eq!(digest(&one, config), digest(&one, config));
        assert_ne!(digest(&one, config), digest(&two, config));
        assert_ne!(digest(&one, config), digest(&one, other));
    }
}
