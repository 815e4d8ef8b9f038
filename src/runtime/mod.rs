//! The live config: a [`Snapshot`] that requests hold to their end, what outlives it ([`State`]), and the swap.
//!
//! Building reads files and may fail, and touches nothing that is live. Swapping cannot fail. Every change makes a
//! generation, be it of the config's text or of a key file that it names.

mod aging;
mod approval;
mod build;
mod consent;
mod files;
mod history;
mod live;
mod operators;
mod revocations;
pub mod rules;
mod secrets;
mod sights;
mod snapshot;
mod state;

pub use aging::Aging;
pub use approval::{Approval, Approved, NAMESPACE, memory_in, remembered, signatures_of, statement};
pub use build::{Beside, build};
pub use consent::for_a_shell;
pub use files::{Untrusted, only_roots};
pub use history::{Entry, History, News, Stored};
pub use live::{Change, Consented, Live};
pub use operators::{Operators, Right, UnknownUser};
pub use revocations::Revocations;
pub use secrets::{Held, Secrets};
pub use sights::Sights;
pub use snapshot::{Entrance, Limit, Route, Snapshot};
pub use state::{Beginning, State, start};
