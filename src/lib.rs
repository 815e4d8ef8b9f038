//! Belay: a load balancer that knows who is calling.
//!
//! The modules form layers; each knows only those below it. `docs/architecture.md` draws them and `tests/tidy.rs`
//! holds them.

pub mod clock;
pub mod drain;
pub mod generation;
pub mod identity;
pub mod name;
pub mod principal;
pub mod refusal;
pub mod request;
pub mod secret;
pub mod verdict;
pub mod balance;
pub mod metrics;
pub mod policy;
pub mod route;
pub mod audit;
pub mod journal;
pub mod config;
pub mod keys;
pub mod tls;
pub mod upstream;
pub mod filter;
pub mod runtime;
pub mod proxy;
pub mod admin;
pub mod server;
pub mod cli;
pub mod origin;
