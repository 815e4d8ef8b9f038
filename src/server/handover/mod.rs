//! One process replaces another without losing a connection.
//!
//! The old process starts the new one, which is the only one that holds the other end of a pair of sockets. Over it go
//! the listening sockets and what was learned; then the new process accepts, and the old one drains. The old one keeps
//! its sockets until it ends: if the new one fails, it accepts again. If the old one dies, the new one goes on.

mod program;
mod replacing;
mod successor;
mod wire;

pub use program::Program;
pub(super) use replacing::{NotReplaced, Successor, replace, take_back};
pub use successor::Replaced;
pub(super) use successor::{Attended, Heritage, Succession};
