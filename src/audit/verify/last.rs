//! What is proven of a process.

use serde::Serialize;
use std::fmt;

/// How the records of a process end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// It has stopped.
    Stopped,
    /// It ended without a word, as a later process has found.
    Crashed,
    /// It runs, or nobody says what became of it.
    Open,
}

/// What is proven of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Last<'a> {
    /// Its boot.
    pub boot: &'a str,
    /// The first record that is there; what is before it stands in older files.
    pub first: u64,
    /// The last one.
    pub sequence: u64,
    /// The last one's time.
    pub time: &'a str,
    /// How it ends.
    pub end: End,
    /// How many of the last ones no checkpoint covers.
    pub unsigned: u64,
    /// It has not stopped, and others have signed for long after its last checkpoint: somebody has cut off its end, or it
    /// was killed and nobody has said so.
    pub is_silent: bool,
    /// Whether that is no more than a process leaves that may still run.
    pub may_be_unsigned: bool,
}

impl fmt::Display for Last<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { boot, first, sequence, time, end, .. } = self;
        write!(f, "boot {boot}, records {first} to {sequence}, the last of {time}")?;
        match end {
            End::Stopped => f.write_str(", where it stopped"),
            End::Crashed => f.write_str(", where it crashed"),
            End::Open if self.is_silent => f.write_str(", and nothing says what became of it"),
            End::Open => Ok(()),
        }
    }
}
