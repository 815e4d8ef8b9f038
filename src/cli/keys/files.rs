//! New keys, and the files that they and the config stand in.

use crate::cli::token::Identity;
use crate::identity::Algorithm;
use aws_lc_rs::rand;
use base64::{Engine, engine::general_purpose::STANDARD};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519, PKCS_RSA_SHA256, RsaKeySize};
use std::{
    fs::{self, File, Metadata, OpenOptions, Permissions},
    io::{self, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown},
    path::{Path, PathBuf},
};

/// Bytes of a shared secret.
const SECRET: usize = 32;

/// A key that was made just now.
pub(super) struct NewKey {
    /// What the load balancer reads: the public half, or the secret.
    pub(super) ours: String,
    /// What the Worker signs with.
    pub(super) theirs: Identity,
}

impl NewKey {
    /// A key of that kind.
    pub(super) fn make(algorithm: Algorithm, kid: &str) -> io::Result<Self> {
        let failed = |what: &str| io::Error::other(format!("{what} cannot be made"));
        let pair = match algorithm {
            Algorithm::Es256 => KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256),
            Algorithm::EdDsa => KeyPair::generate_for(&PKCS_ED25519),
            Algorithm::Rs256 => KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048),
            Algorithm::Hs256 => {
                let mut bytes = [0; SECRET];
                rand::fill(&mut bytes).map_err(|_no_randomness| failed("a secret"))?;
                let secret = STANDARD.encode(bytes);
                return Ok(Self { ours: format!("{secret}\n"), theirs: worker(kid, algorithm, secret) });
            }
        };
        let pair = pair.map_err(|_unable| failed("a key pair"))?;
        Ok(Self { ours: pair.public_key_pem(), theirs: worker(kid, algorithm, pair.serialize_pem()) })
    }
}

fn worker(kid: &str, algorithm: Algorithm, key: String) -> Identity {
    Identity { kid: kid.to_owned(), alg: algorithm.name().to_owned(), key }
}

/// Whom others may read: what is no secret.
pub(super) const ANYBODY: u32 = 0o777;
/// Its owner and its group.
pub(super) const GROUP: u32 = 0o770;

/// Files that are removed again unless they are to stay.
#[derive(Default)]
pub(super) struct Made(Vec<PathBuf>);

impl Made {
    /// Makes a file that is not there yet, for whom another is: by its owner, its group and its mode, as far as that one
    /// allows.
    pub(super) fn like(&mut self, other: &Metadata, mode_max: u32, path: &Path, content: &str) -> io::Result<()> {
        let file = self.create(path, 0o600)?;
        give(&file, other)?;
        // Not by the way of `open`, whose mode the caller's umask cuts.
        file.set_permissions(Permissions::from_mode(other.permissions().mode() & mode_max))?;
        filled(file, content)
    }

    /// Makes a file that is not there yet, for nobody else.
    pub(super) fn private(&mut self, path: &Path, content: &str) -> io::Result<()> {
        let file = self.create(path, 0o600)?;
        filled(file, content)
    }

    fn create(&mut self, path: &Path, mode: u32) -> io::Result<File> {
        let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
        self.0.push(path.to_owned());
        Ok(file)
    }

    /// They stay.
    pub(super) fn keep(mut self) {
        self.0.clear();
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        // What is gone already is as it should be.
        self.0.iter().for_each(|path| drop(fs::remove_file(path)));
    }
}

fn filled(mut file: File, content: &str) -> io::Result<()> {
    file.write_all(content.as_bytes())?;
    file.sync_all()
}

/// Whose the other one is, that one is, too. Only root can give something away.
fn give(file: &File, other: &Metadata) -> io::Result<()> {
    let own = file.metadata()?;
    if (own.uid(), own.gid()) == (other.uid(), other.gid()) {
        return Ok(());
    }
    fchown(file, Some(other.uid()), Some(other.gid()))
}

/// A config's text, which nobody else changes who does it in this way, too.
pub(super) struct Locked {
    /// Without links.
    file: PathBuf,
    found: Metadata,
    _folder: File,
}

impl Locked {
    /// Waits until nobody else changes it.
    pub(super) fn new(file: &Path) -> io::Result<Self> {
        let file = file.canonicalize()?;
        let folder = File::open(file.parent().unwrap_or_else(|| Path::new("/")))?;
        folder.lock()?;
        Ok(Self { found: fs::metadata(&file)?, file, _folder: folder })
    }

    /// Puts another text in the place of one, with the same owner and mode: at any moment one of the two is there, whole.
    ///
    /// # Errors
    /// If there is another text than that one, or if it cannot be written.
    pub(super) fn replace(&self, expected: &str, content: &str) -> io::Result<()> {
        if fs::read_to_string(&self.file)? != expected {
            return Err(io::Error::other("somebody else has changed it meanwhile"));
        }
        let name = self.file.file_name().unwrap_or_default().to_string_lossy();
        let new = self.file.with_file_name(format!(".{name}.{}", std::process::id()));
        let mut made = Made::default();
        made.like(&self.found, ANYBODY, &new, content)?;
        fs::rename(&new, &self.file)?;
        made.keep();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::{SigningKey, VerifyingKey};
    use rustls::pki_types::{PrivatePkcs8KeyDer, SubjectPublicKeyInfoDer, pem::PemObject};
    use test_case::test_case;

    #[test_case(Algorithm::Es256)]
    #[test_case(Algorithm::EdDsa)]
    #[test_case(Algorithm::Rs256)]
    #[test_case(Algorithm::Hs256)]
    fn both_halves_go_together(algorithm: Algorithm) {
        let NewKey { ours, theirs } = NewKey::make(algorithm, "c-2").unwrap();
        let (known, signs) = match algorithm {
            Algorithm::Hs256 => {
                (VerifyingKey::from_secret(&ours).unwrap(), SigningKey::from_secret(&theirs.key).unwrap())
            }
            Algorithm::Es256 | Algorithm::EdDsa | Algorithm::Rs256 => {
                let public = SubjectPublicKeyInfoDer::from_pem_slice(ours.as_bytes()).unwrap();
                let private = PrivatePkcs8KeyDer::from_pem_slice(theirs.key.as_bytes()).unwrap();
                let signs = SigningKey::from_pkcs8(private.secret_pkcs8_der()).unwrap();
                (VerifyingKey::from_spki(&public).unwrap(), signs)
            }
        };
        assert_eq!(signs.public().fingerprint(), known.fingerprint());
        assert_eq!((theirs.kid.as_str(), theirs.alg.as_str()), ("c-2", algorithm.name()));
    }

    #[test]
    fn what_was_made_in_vain_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let [old, new, secret] = ["old", "new", "secret"].map(|name| folder.path().join(name));
        fs::write(&old, "old").unwrap();
        fs::set_permissions(&old, Permissions::from_mode(0o640)).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let found = fs::metadata(&old).unwrap();
        let mut made = Made::default();
        made.like(&found, ANYBODY, &new, "new").unwrap();
        made.private(&secret, "secret").unwrap();
        assert_eq!((mode(&new), mode(&secret)), (0o640, 0o600));
        assert!(made.private(&old, "").is_err(), "never over another");
        drop(made);
        assert!(old.exists() && !new.exists() && !secret.exists());
        fs::set_permissions(&old, Permissions::from_mode(0o644)).unwrap();
        Made::default().like(&fs::metadata(&old).unwrap(), GROUP, &new, "a secret").unwrap();
        let locked = Locked::new(&old).unwrap();
        locked.replace("old", "other").unwrap();
        assert_eq!((fs::read_to_string(&old).unwrap().as_str(), mode(&old)), ("other", 0o644));
        let refused = locked.replace("old", "third").unwrap_err();
        assert!(refused.to_string().contains("somebody else") && fs::read_to_string(&old).unwrap() == "other");
    }
}
