//! The way to servers: pools, who is well, and the one who is asked.
//!
//! [`Pools::pick`] demands a [`Permit`](crate::policy::Permit) and looks nowhere but in the permit's own pool.

mod dial;
mod discovery;
mod errand;
mod health;
mod learned;
mod mode;
mod patient;
mod picked;
mod pool;
mod probe;
mod queue;
mod server;
mod sticky;
mod tls;
mod way;

pub use dial::FULL;
pub use discovery::Lookups;
pub use errand::{Call, Errand, NoReply, Reply};
pub use health::Health;
pub use learned::Learned;
pub use mode::Mode;
pub use picked::{Failure, Picked};
pub use pool::{Choice, Member, Plan, Pool, Pools, Wish};
pub use probe::Probes;
pub use queue::Place;
pub use server::{ServerState, Servers};
pub use sticky::{Sticky, Ticket};
pub use tls::{BadOriginTls, OriginTls};
pub use way::Purpose;
