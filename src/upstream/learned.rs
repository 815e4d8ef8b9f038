//! What is known of a server and worth telling the process that replaces this one.

use super::mode::Mode;
use crate::name::{PoolName, ServerName};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// What is known of a server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Learned {
    /// Its pool.
    pub pool: PoolName,
    /// Its name.
    pub name: ServerName,
    /// Its address, as it is written.
    pub address: String,
    /// What its checks say; none before the first.
    pub is_up: Option<bool>,
    /// What an operator has said.
    pub mode: Mode,
    /// The weight that an operator has said.
    pub weight: Option<u32>,
    /// How long its answers take, on average.
    pub latency: Option<Duration>,
}
