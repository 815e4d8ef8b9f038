//! What the tests stand on.

mod binary;
mod parts;
mod pki;
mod world;

pub use binary::{Belay, curl_is_there};
pub use parts::{Needs, eventually};
pub use pki::{Ca, WORKLOAD_LIFE};
pub use world::{Ask, HOST, NOW, Reply, World, parse};
