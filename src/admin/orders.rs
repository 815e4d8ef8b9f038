//! What operators want of the process as a whole, on its way to whoever runs it.

use super::reply::Reply;
use crate::audit::Cause;
use crate::config::Finding;
use crate::generation::{Digest, Generation};
use crate::runtime::Change;
use crate::runtime::Live;
use http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use tokio::sync::{mpsc, oneshot};

/// Orders that may wait.
const WAITING_MAX: usize = 16;

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Task {
    /// Read the config again; and as it is, if it was rolled back.
    Reload {
        /// Whether a rollback counts no more.
        again: bool,
    },
    /// Make an earlier generation live.
    RollBack(u64),
    /// Have another process take over: of the same program, or of that one.
    Upgrade(Option<PathBuf>),
}

impl Task {
    /// What it is called in records.
    #[must_use]
    pub const fn action(&self) -> &'static str {
        match self {
            Self::Reload { .. } => "reload",
            Self::RollBack(_) => "rollback",
            Self::Upgrade(_) => "upgrade",
        }
    }
}

/// What came of it.
#[derive(Debug)]
pub enum Answer {
    /// Of a change of the config, and what is to be said of it; without a change it was refused.
    Config(Option<Change>, Vec<Finding>),
    /// That process has taken over.
    Replaced {
        /// Its number.
        pid: u32,
    },
    /// It was not done.
    Failed(String),
}

/// What a reload is told.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Reloading {
    /// Why, for the audit log and the history.
    pub(super) reason: Option<Box<str>>,
    /// What is meant although it is dangerous, by the names that a plan says; `all` for all.
    pub(super) accept: Vec<String>,
    /// Whether a rollback counts no more.
    pub(super) again: bool,
}

/// What a rollback is told.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RollingBack {
    /// Why, for the audit log and the history.
    pub(super) reason: Option<Box<str>>,
    /// What is meant although it is dangerous, by the names that a plan says; `all` for all.
    pub(super) accept: Vec<String>,
}

/// What an upgrade is told.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Replacing {
    /// Why, for the audit log.
    pub(super) reason: Option<Box<str>>,
    /// The program of the new process; that of the running one, if none is named.
    pub(super) binary: Option<PathBuf>,
    /// What is meant although it is dangerous, by the names that a plan says; `all` for all.
    pub(super) accept: Vec<String>,
}

/// What the change of a server is told.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ServerChange {
    /// Why, for the audit log.
    pub(super) reason: Option<Box<str>>,
}

/// What is told of an order.
#[derive(Serialize, JsonSchema)]
#[serde(tag = "result", rename_all = "snake_case")]
pub(super) enum Told {
    /// Another generation is live.
    Applied(Judgement),
    /// Nothing that decides is different.
    Unchanged(Judgement),
    /// The old one stays.
    Refused(Judgement),
    /// Another process has taken over.
    Replaced {
        /// Its number.
        pid: u32,
    },
    /// It was not done.
    Failed {
        /// Why.
        reason: String,
    },
}

/// What is live after it.
#[derive(Serialize, JsonSchema)]
pub(super) struct Judgement {
    #[schemars(with = "u64")]
    generation: Generation,
    #[schemars(with = "String")]
    digest: Digest,
    /// What is wrong with the config, or probably not meant.
    #[schemars(with = "Vec<serde_json::Map<String, serde_json::Value>>")]
    findings: Vec<Finding>,
}

impl Told {
    fn of(answer: Answer, live: &Live) -> Self {
        match answer {
            Answer::Config(change, findings) => {
                let judged = live.snapshot().judged();
                let judgement = Judgement { generation: judged.generation, digest: judged.digest, findings };
                match change {
                    Some(Change::Applied(_)) => Self::Applied(judgement),
                    Some(Change::Nothing) => Self::Unchanged(judgement),
                    None => Self::Refused(judgement),
                }
            }
            Answer::Replaced { pid } => Self::Replaced { pid },
            Answer::Failed(reason) => Self::Failed { reason },
        }
    }

    const fn status(&self) -> StatusCode {
        match self {
            Self::Applied(_) | Self::Unchanged(_) | Self::Replaced { .. } => StatusCode::OK,
            Self::Refused(_) | Self::Failed { .. } => StatusCode::UNPROCESSABLE_ENTITY,
        }
    }
}

/// Has something done, and tells what came of it.
pub(super) async fn answer(orders: &Orders, task: Task, cause: Cause, live: &Live) -> Reply {
    match orders.give(task, cause).await {
        Ok(answer) => {
            let told = Told::of(answer, live);
            Reply::json(&told).with(told.status())
        }
        Err(fault) => Reply::text(StatusCode::SERVICE_UNAVAILABLE, fault.to_string()),
    }
}

/// An order.
#[derive(Debug)]
pub struct Order {
    /// What is to be done.
    pub task: Task,
    /// Who wants it, and why.
    pub cause: Cause,
    /// Who waits for it; none if nobody does.
    pub answer: Option<oneshot::Sender<Answer>>,
}

/// Gives orders. A clone gives them to the same.
#[derive(Debug, Clone)]
pub struct Orders(mpsc::Sender<Order>);

/// Nobody takes orders any more, or too many wait.
#[derive(Debug, thiserror::Error)]
#[error("the process ends, or has too many changes to make")]
pub struct NotTaken;

/// Orders, and their receiver.
#[must_use]
pub fn channel() -> (Orders, mpsc::Receiver<Order>) {
    let (sender, receiver) = mpsc::channel(WAITING_MAX);
    (Orders(sender), receiver)
}

impl Orders {
    /// Has something done, and waits for what comes of it.
    ///
    /// # Errors
    /// [`NotTaken`].
    pub async fn give(&self, task: Task, cause: Cause) -> Result<Answer, NotTaken> {
        let (answer, answered) = oneshot::channel();
        self.0.try_send(Order { task, cause, answer: Some(answer) }).map_err(|_full_or_over| NotTaken)?;
        answered.await.map_err(|_over| NotTaken)
    }

    /// Has something done, and waits for nothing.
    ///
    /// # Errors
    /// [`NotTaken`].
    pub fn leave(&self, task: Task, cause: Cause) -> Result<(), NotTaken> {
        self.0.try_send(Order { task, cause, answer: None }).map_err(|_full_or_over| NotTaken)
    }
}
