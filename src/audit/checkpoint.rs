//! Checkpoints: signed marks of how far a process's records go. Who keeps one elsewhere can prove that none of them was
//! altered or cut off, even if somebody could write the log.
//!
//! One is a line of JSON; its last member, `signature`, is Ed25519 (RFC 8032) over a label and all of the line before that
//! member.

use super::chain::{Chain, DIGITS};
use crate::clock::Timestamp;
use crate::name::NodeName;
use crate::request::Id;
use crate::uses::Uses;
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, ParsedPublicKey};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use std::fmt;

/// So that what is signed here is taken for nothing else.
const LABEL: &[u8] = b"belay checkpoint 1\n";
const BEFORE: &[u8] = b",\"signature\":\"";
const BEHIND: &[u8] = b"\"}";

/// Why bytes are no key for checkpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an Ed25519 key (make one: openssl genpkey -algorithm ed25519 -out audit.key)")]
pub struct NotEd25519;

/// The key that signs.
pub struct CheckpointKey {
    pair: Ed25519KeyPair,
    id: Box<str>,
    uses: Uses,
}

impl fmt::Debug for CheckpointKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CheckpointKey({})", self.id)
    }
}

impl CheckpointKey {
    /// Reads the DER of a PKCS#8 key (RFC 8410).
    ///
    /// # Errors
    /// [`NotEd25519`].
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, NotEd25519> {
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der).map_err(|_rejected| NotEd25519)?;
        let id = id_of(pair.public_key().as_ref());
        Ok(Self { pair, id, uses: Uses::default() })
    }

    /// Its checkpoints are counted there.
    #[must_use]
    pub fn counted(self, uses: Uses) -> Self {
        Self { uses, ..self }
    }

    /// What its checkpoints call it: the first 16 hexadecimal digits of SHA-256 of the public key.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Its public half.
    ///
    /// # Errors
    /// [`NotEd25519`], which cannot happen.
    pub fn public(&self) -> Result<PublicKey, NotEd25519> {
        PublicKey::from_bytes(self.pair.public_key().as_ref())
    }
}

/// The key that verifies.
#[derive(Debug)]
pub struct PublicKey {
    key: ParsedPublicKey,
    id: Box<str>,
}

/// What stands before the 32 bytes of an Ed25519 key in DER (RFC 8410 § 4).
const SPKI: &[u8] = &[0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

impl PublicKey {
    /// Reads the DER of a public key (RFC 8410).
    ///
    /// # Errors
    /// [`NotEd25519`].
    pub fn from_spki(der: &[u8]) -> Result<Self, NotEd25519> {
        Self::from_bytes(der.strip_prefix(SPKI).ok_or(NotEd25519)?)
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self, NotEd25519> {
        let key = ParsedPublicKey::new(&ED25519, bytes).map_err(|_rejected| NotEd25519)?;
        Ok(Self { key, id: id_of(bytes) })
    }

    /// What its checkpoints call it.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }
}

fn id_of(public: &[u8]) -> Box<str> {
    let hash = digest(&SHA256, public);
    hash.as_ref().iter().take(8).map(|byte| format!("{byte:02x}")).collect::<String>().into()
}

#[derive(Serialize)]
struct Line<'a> {
    #[serde(rename = "@timestamp")]
    time: Timestamp,
    node: &'a NodeName,
    boot: &'a Id,
    number: u64,
    sequence: u64,
    chain: &'a str,
    key: &'a str,
}

/// How far records go.
pub(super) struct Reached<'a> {
    pub(super) time: Timestamp,
    pub(super) node: &'a NodeName,
    pub(super) boot: &'a Id,
    /// Of the checkpoint.
    pub(super) number: u64,
    /// Of the last record.
    pub(super) sequence: u64,
    pub(super) chain: &'a Chain,
}

/// Writes a signed line.
pub(super) fn sign(reached: &Reached<'_>, key: &CheckpointKey, lines: &mut Vec<u8>) -> serde_json::Result<()> {
    let Reached { time, node, boot, number, sequence, chain } = *reached;
    let chain = &chain.to_string();
    let mut line = serde_json::to_vec(&Line { time, node, boot, number, sequence, chain, key: key.id() })?;
    // The brace that ends it.
    line.pop();
    key.uses.add();
    let signature = key.pair.sign(&[LABEL, &line].concat());
    lines.extend_from_slice(&line);
    lines.extend_from_slice(BEFORE);
    lines.extend_from_slice(URL_SAFE_NO_PAD.encode(signature.as_ref()).as_bytes());
    lines.extend_from_slice(BEHIND);
    lines.push(b'\n');
    Ok(())
}

/// A checkpoint whose signature counts.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Checkpoint {
    /// When it was made (RFC 3339 in UTC).
    #[serde(rename = "@timestamp")]
    pub time: Box<str>,
    /// Of which process.
    pub boot: Box<str>,
    /// Which of the process's, from 1.
    pub number: u64,
    /// The last record that it covers; 0 if there was none.
    pub sequence: u64,
    /// The chain there, in hexadecimal digits.
    pub chain: Box<str>,
    /// What has signed it.
    pub key: Box<str>,
}

/// Why a line is no checkpoint that counts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadCheckpoint {
    /// It is none.
    #[error("this is no checkpoint")]
    None,
    /// Its key is not known.
    #[error("this checkpoint is signed by the key {0}, which is not given")]
    Key(Box<str>),
    /// It is forged, or altered.
    #[error("the signature of this checkpoint does not hold: it was altered, or another has made it")]
    Signature,
}

/// Reads a line.
///
/// # Errors
/// [`BadCheckpoint`].
pub fn read_checkpoint(line: &[u8], keys: &[PublicKey]) -> Result<Checkpoint, BadCheckpoint> {
    let checkpoint: Checkpoint = serde_json::from_slice(line).map_err(|_none| BadCheckpoint::None)?;
    let rest = line.strip_suffix(BEHIND).ok_or(BadCheckpoint::None)?;
    // 64 bytes are 86 digits of base64url.
    let (start, signature) = rest.split_at_checked(rest.len().saturating_sub(86)).ok_or(BadCheckpoint::None)?;
    let signed = start.strip_suffix(BEFORE).ok_or(BadCheckpoint::None)?;
    let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_none| BadCheckpoint::Signature)?;
    let known = keys.iter().find(|known| known.id == checkpoint.key);
    let known = known.ok_or_else(|| BadCheckpoint::Key(checkpoint.key.clone()))?;
    let holds = known.key.verify_sig(&[LABEL, signed].concat(), &signature).is_ok();
    if holds && checkpoint.chain.len() == DIGITS { Ok(checkpoint) } else { Err(BadCheckpoint::Signature) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::PublicKeyData;

    fn keys() -> (CheckpointKey, PublicKey) {
        let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        let spki = pair.subject_public_key_info();
        (CheckpointKey::from_pkcs8(pair.serialized_der()).unwrap(), PublicKey::from_spki(&spki).unwrap())
    }

    fn line(key: &CheckpointKey, sequence: u64) -> Vec<u8> {
        let (node, boot) = (NodeName::parse("lb").unwrap(), Id::parse("boot-of-a-test").unwrap());
        let chain = Chain::of(boot.as_str());
        let time = Timestamp::from_unix_seconds(1_795_352_400);
        let mut lines = Vec::new();
        let reached = Reached { time, node: &node, boot: &boot, number: 3, sequence, chain: &chain };
        sign(&reached, key, &mut lines).unwrap();
        lines.pop();
        lines
    }

    #[test]
    fn what_was_signed_counts() {
        let (key, public) = keys();
        assert_eq!(key.id(), public.id());
        let read = read_checkpoint(&line(&key, 7), &[keys().1, public]).unwrap();
        assert_eq!((read.number, read.sequence, &*read.boot), (3, 7, "boot-of-a-test"));
        assert_eq!(&*read.time, "2026-11-22T13:00:00.000000000Z");
    }

    #[test]
    fn nothing_else_does() {
        let ((key, public), stranger) = (keys(), keys().1);
        let good = line(&key, 7);
        let strange = read_checkpoint(&good, &[stranger]);
        assert_eq!(strange, Err(BadCheckpoint::Key(key.id().into())));
        let keys = [public];
        for index in 0..good.len() {
            let mut bad = good.clone();
            bad[index] ^= 1;
            assert!(read_checkpoint(&bad, &keys).is_err(), "{}", String::from_utf8_lossy(&bad));
        }
        let twice = String::from_utf8(good.clone()).unwrap().replace("\"sequence\":7", "\"sequence\":7,\"sequence\":9");
        for bad in [&b""[..], b"{}", b"\n", &good[1..], &good[..good.len() - 1], twice.as_bytes()] {
            assert!(read_checkpoint(bad, &keys).is_err(), "{}", String::from_utf8_lossy(bad));
        }
        let other = rcgen::KeyPair::generate().unwrap();
        assert_eq!(CheckpointKey::from_pkcs8(other.serialized_der()).unwrap_err(), NotEd25519);
        assert_eq!(PublicKey::from_spki(&other.subject_public_key_info()).unwrap_err(), NotEd25519);
    }
}
