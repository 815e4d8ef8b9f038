//! Belay: a load balancer that knows who is calling.
//!
//! The modules form layers; each knows only those below it. `docs/architecture.md` draws them and `tests/tidy.rs`
//! holds them.

#![cfg_attr(test, expect(clippy::needless_pass_by_value, reason = "the rows of a table are values"))]

pub mod admin;
pub mod audit;
pub mod balance;
pub mod cli;
pub mod clock;
pub mod config;
pub mod drain;
pub mod event_loop;
pub mod filter;
pub mod generation;
pub mod hangup;
pub mod identity;
pub mod insight;
pub mod journal;
pub mod keys;
pub mod limit;
pub mod metrics;
pub mod name;
pub mod network;
pub mod origin;
pub mod pins;
pub mod policy;
pub mod principal;
pub mod provider;
pub mod proxy;
pub mod refusal;
pub mod request;
pub mod resilience;
pub mod room;
pub mod route;
pub mod runtime;
pub mod secret;
pub mod server;
pub mod slots;
pub mod tls;
pub mod upstream;
pub mod uses;
pub mod verdict;
