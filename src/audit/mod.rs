//! Evidence: what was decided and what came of it, one JSON line each.
//!
//! Two records a request, a `decision` before it is forwarded and an `outcome` after; one per administrative act; one per
//! connection that ended without a request. Strangers are recorded singly up to a rate, and beyond it by a `summary`.
//! [`Sealer`] is the one place where records become lines, in order, without gaps, and each chained to the one before it;
//! [`Verifier`] proves that they are what it has written.

mod chain;
mod line;
mod record;

pub use chain::{Broken, Last, Verifier};
pub use line::Sealer;
pub use record::{
    Act, Actor, Asked, Cause, Decision, HungUp, Judged, Outcome, Predecessor, Record, Source, Subject, Summary, Times,
};
