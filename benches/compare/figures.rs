//! What was measured, as it is kept.

use serde::{Deserialize, Serialize};
use std::time::Duration;

/// A run.
#[derive(Debug, Serialize, Deserialize)]
pub struct Run {
    pub date: String,
    pub machine: Machine,
    pub rounds: usize,
    /// Who took part, and how.
    pub contenders: Vec<Participant>,
    pub rows: Vec<Row>,
    pub idle: Vec<Idle>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Machine {
    pub processor: String,
    pub cores: u32,
    pub kernel: String,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Participant {
    pub name: String,
    pub version: String,
    pub cryptography: String,
    /// How it was built, as far as its name or the caller tells.
    pub build: Option<String>,
    /// Its config before it is filled in.
    pub config: String,
}

/// One job of one of them.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Row {
    pub job: String,
    /// What the job is, in a line.
    pub about: String,
    pub contender: String,
    /// Why it does not count, or cannot be.
    pub void: Option<String>,
    pub figures: Option<Figures>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Figures {
    /// Microseconds of CPU a request.
    pub cpu: Spread,
    /// The same as a share of HAProxy's in the same round; none if it took no part.
    pub ratio: Option<Spread>,
    /// Requests a second, as fast as it can.
    pub rate: Spread,
    /// At a steady pace, in microseconds.
    pub p50: Spread,
    pub p99: Spread,
    pub p999: Spread,
    /// That pace, in requests a second.
    pub pace: u32,
}

/// Connections that do nothing, while others ask.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Idle {
    pub contender: String,
    pub void: Option<String>,
    pub connections: usize,
    /// Bytes of memory for each.
    pub bytes: u64,
    /// Those that did not live on.
    pub dead: usize,
    /// The 99th percentile of plain requests at a steady pace without and with them, in microseconds.
    pub p99: [f64; 2],
    /// CPU a request at that pace, without and with them, in microseconds.
    pub cpu: [f64; 2],
}

/// Of all rounds.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Spread {
    pub min: f64,
    pub median: f64,
    pub max: f64,
}

impl Spread {
    /// None without any.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<_> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let rounded = |value: f64| (value * 1_000.0).round() / 1_000.0;
        let median = *values.get(values.len() / 2)?;
        Some(Self { min: rounded(values[0]), median: rounded(median), max: rounded(values[values.len() - 1]) })
    }
}

pub fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// The day in UTC.
pub fn today() -> String {
    time::OffsetDateTime::now_utc().date().to_string()
}
