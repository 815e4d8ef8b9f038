//! The way to servers: pools, who is well, and the one who is asked.
//!
//! [`Pools::pick`] demands a [`Permit`](crate::policy::Permit) and looks nowhere but in the permit's own pool.

mod health;
mod pool;
mod probe;
mod tls;

pub use health::Health;
pub use pool::{Picked, Pool, Pools, ServerState, Servers};
pub use probe::Probes;
pub use tls::{BadOriginTls, OriginTls};
