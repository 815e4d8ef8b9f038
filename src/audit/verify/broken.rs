//! Why lines are no proof.

use std::fmt;

/// Who says how a chain goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Witness {
    /// A checkpoint of that number.
    Checkpoint(u64),
    /// The process that came after it, when it started.
    Successor,
}

impl fmt::Display for Witness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Checkpoint(number) => write!(f, "its checkpoint {number}"),
            Self::Successor => f.write_str("the process that came after it"),
        }
    }
}

/// Why lines are no proof.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// It is no record.
    #[error("this is no record of an audit log")]
    NoRecord,
    /// It has no chain.
    #[error("record {sequence} of boot {boot} has no chain: another has written it, or a version before there was one")]
    Unchained {
        /// Whose it says that it is.
        boot: Box<str>,
        /// Which.
        sequence: u64,
    },
    /// It is not what was written, or follows on another than it did.
    #[error("record {sequence} of boot {boot} was altered, or the one before it")]
    Altered {
        /// Whose it says that it is.
        boot: Box<str>,
        /// Which.
        sequence: u64,
    },
    /// Up to here all fits together, and is not what was there once.
    #[error("up to record {sequence} boot {boot} was written anew: {witness} has seen others")]
    Forged {
        /// Whose.
        boot: Box<str>,
        /// Up to which.
        sequence: u64,
        /// Who knows it.
        witness: Witness,
    },
    /// Others are missing before it, or it stands elsewhere than it did.
    #[error("record {wanted} of boot {boot} is expected here, and this is {found}")]
    Missing {
        /// Whose.
        boot: Box<str>,
        /// The next one.
        wanted: u64,
        /// The one that is there.
        found: u64,
    },
    /// The end is missing.
    #[error("boot {boot} ends with record {last}, and {witness} has seen record {wanted}")]
    CutOff {
        /// Whose.
        boot: Box<str>,
        /// The last one that is there; 0 if there is none.
        last: u64,
        /// One that was there.
        wanted: u64,
        /// Who knows it.
        witness: Witness,
    },
    /// The beginning is missing, and nobody has said that it was removed.
    #[error(
        "the log begins with record {first} of boot {boot}; {before} came before it, and no record says that it was removed"
    )]
    Beheaded {
        /// Whose.
        boot: Box<str>,
        /// The first one that is there.
        first: u64,
        /// The file before.
        before: Box<str>,
    },
    /// There is nothing.
    #[error("there is no record")]
    Empty,
    /// A mark is missing.
    #[error("checkpoint {wanted} of boot {boot} is expected here, and this is {found}")]
    MissingCheckpoint {
        /// Whose.
        boot: Box<str>,
        /// The next one.
        wanted: u64,
        /// The one that is there.
        found: u64,
    },
}

impl Broken {
    /// Whether records are missing, and none is wrong.
    #[must_use]
    pub const fn is_gap(&self) -> bool {
        match self {
            Self::Missing { .. }
            | Self::CutOff { .. }
            | Self::Beheaded { .. }
            | Self::Empty
            | Self::MissingCheckpoint { .. } => true,
            Self::NoRecord | Self::Unchained { .. } | Self::Altered { .. } | Self::Forged { .. } => false,
        }
    }
}
