//! Evidence: what was decided and what came of it, one JSON line each.
//!
//! Two records a request, a `decision` before it is forwarded and an `outcome` after; one per administrative act; one per
//! connection that ended without a request. Strangers are recorded singly up to a rate, and beyond it by a `summary`.
//! [`Sealer`] is the one place where records become lines, in order, without gaps, and each chained to the one before it;
//! [`Verifier`] proves that they are what it has written.

mod chain;
mod checkpoint;
mod line;
mod pseudonym;
mod record;
mod sealer;
mod verify;

pub use checkpoint::{BadCheckpoint, Checkpoint, CheckpointKey, NotEd25519, PublicKey, read_checkpoint};
pub use pseudonym::Pseudonyms;
pub use record::{
    Act, Actor, Asked, Cause, Decision, Filtered, HungUp, Judged, KeyChange, Left, Outcome, Predecessor, READ_OF_LOG,
    Record, Sent, Source, Subject, Summary, Times, Upkeep,
};
pub use sealer::Sealer;
pub use verify::{Broken, End, Last, Lost, Place, STOP, Taken, Verifier, Witness, place_of};
