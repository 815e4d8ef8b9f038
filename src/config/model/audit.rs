//! The audit log, in domain types.

use crate::clock::UnixSeconds;
use std::{path::PathBuf, time::Duration};

pub use super::super::document::{Durability, OnFailure};

/// The audit log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audit {
    /// Where records are appended.
    pub file: PathBuf,
    /// What becomes of requests while they cannot be.
    pub on_failure: OnFailure,
    /// How safe the record of a decision is before its request is forwarded.
    pub durability: Durability,
    /// When a new file is begun.
    pub rotate: Span,
    /// How much of the old ones stays.
    pub keep: Span,
    /// Signed marks of how far the log goes.
    pub checkpoints: Option<Checkpoints>,
    /// The key for hashes instead of personal data.
    pub pseudonyms: Option<KeyFile>,
}

/// How much, and how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// In bytes.
    pub size: u64,
    /// How long.
    pub age: Duration,
}

/// Signed marks of how far the log goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoints {
    /// Where they are appended.
    pub file: PathBuf,
    /// The private key.
    pub key: KeyFile,
}

/// A key's file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyFile {
    /// Where it is.
    pub path: PathBuf,
    /// When it was made, as the config says.
    pub created: Option<UnixSeconds>,
}
