//! `audit`, word for word.

use super::{DurationText, SizeText};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The audit log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Audit {
    /// The file that records are appended to, one JSON object a line. `belay audit verify` proves it.
    pub file: String,
    /// What becomes of requests while records cannot be written.
    #[serde(default)]
    pub on_failure: OnFailure,
    /// How safe the record of a decision is before its request is forwarded: `written` where requests are refused without
    /// a record, otherwise `queued`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub durability: Option<Durability>,
    /// When a new file is begun.
    #[serde(default)]
    pub rotate: Rotate,
    /// How much of the old files stays.
    #[serde(default)]
    pub keep: Keep,
    /// Signed marks of how far the log goes. Without them, whoever can write the log can make another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoints: Option<Checkpoints>,
    /// Hashes instead of personal data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pseudonyms: Option<Pseudonyms>,
}

/// What becomes of requests while records cannot be written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// They are refused with 503: nothing is served unrecorded.
    #[default]
    Refuse,
    /// They are served. What was not recorded is counted, and the log says how much it is once it can be written.
    Continue,
}

/// How safe a record is before its request is forwarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Durability {
    /// It waits in memory, and is written right after: the end of the process by `kill -9` loses the last ones.
    Queued,
    /// The system has it: a power cut loses the last ones.
    Written,
    /// The disk has it.
    Synced,
}

/// When a new file is begun. The old one takes the time into its name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Rotate {
    /// Before the file becomes larger: 1MiB to 1TiB.
    pub size: SizeText,
    /// When the file becomes older: 1m to 366d.
    pub age: DurationText,
}

impl Default for Rotate {
    fn default() -> Self {
        Self { size: SizeText("256MiB".into()), age: DurationText("1d".into()) }
    }
}

/// How much of the old files stays. What is more is removed when a file is rotated, and the log says so.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Keep {
    /// How long: 1h to 3660d.
    pub age: DurationText,
    /// How much together with the file that is written now: at least twice `rotate.size`. From 80 % on there is a warning,
    /// since what is younger than `age` goes then, too.
    pub size: SizeText,
}

impl Default for Keep {
    fn default() -> Self {
        Self { age: DurationText("90d".into()), size: SizeText("10GiB".into()) }
    }
}

/// Signed marks: every 1,000 records and every 10 s, also while nothing happens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Checkpoints {
    /// The file that they are appended to. Copy it to where those who can write the log may not. It is rotated and kept as
    /// the log is.
    pub file: String,
    /// PEM file with a private Ed25519 key, as `file:PATH`. Who verifies needs the public one only.
    pub key: String,
    /// The day on which the key was made. Without it its age counts from when Belay saw it first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
}

/// Hashes instead of personal data: of users, of the addresses of clients, and of what rules read of users' claims.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Pseudonyms {
    /// File with a secret of at least 32 bytes, as `file:PATH`. The same user has the same hash as long as it stays.
    pub key: String,
    /// The day on which it was made. Without it its age counts from when Belay saw it first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
}
