//! What the tests stand on.

mod binary;
pub mod checks;
mod client;
pub mod dns;
pub mod flood;
mod load;
pub mod login;
pub mod oidc;
pub mod operator;
mod parts;
mod pki;
pub mod pools;
pub mod process;
pub mod provider;
pub mod recorder;
mod records;
mod running;
mod site;
pub mod tunnel;
mod world;

pub use binary::{Belay, Successor};
pub use client::{Ask, Reply};
pub use load::Load;
pub use parts::{Needs, eventually, free};
pub use pki::{Ca, Identity, WORKLOAD_LIFE};
pub use records::record;
pub use running::{Running, admin, admin_as};
pub use site::{HOST, NOW, SECRET, Site, origin};
pub use world::{World, settled, show};
