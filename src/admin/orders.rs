//! What operators want of the process as a whole, on its way to whoever runs it.

use crate::audit::Cause;
use crate::config::Finding;
use crate::runtime::Change;
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
