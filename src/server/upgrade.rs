//! Has another process take over, and drains; or goes on as before, if that one fails.

use super::handover::{self, Attended, NotReplaced, Successor};
use super::notify;
use super::signals::{Post, Told, Wishes, reply};
use crate::admin::{Answer, Order};
use crate::audit::Cause;
use std::{error::Error, path::PathBuf, time::Duration};
use tokio::sync::oneshot;
use tokio::time;

/// How long the old process stays at least, to come back if the new one fails.
const PROBATION: Duration = Duration::from_secs(2);

/// What came of an upgrade.
pub(super) enum Upgraded {
    /// This process goes on.
    No,
    /// Another process serves, and this one has nothing left to do.
    Yes,
    /// This process was told to stop meanwhile.
    Stopped(&'static str),
}

/// Starts the new process and leaves the service to it.
pub(super) async fn upgrade(
    wishes: &mut Wishes,
    post: &Post,
    (binary, cause): (Option<PathBuf>, &Cause),
    answer: Option<oneshot::Sender<Answer>>,
) -> Upgraded {
    let started = tokio::select! {
        started = begin(post, binary) => started,
        name = told_to_stop(wishes) => {
            go_on(post);
            reply(answer, Answer::Failed(format!("{name}: this process stops")));
            return Upgraded::Stopped(name);
        }
    };
    let successor = match started {
        Ok(successor) => successor,
        Err(fault) => {
            let why = failed(post, cause, &fault);
            reply(answer, Answer::Failed(why));
            return Upgraded::No;
        }
    };
    let pid = successor.pid().unwrap_or_default();
    log::info!("process {pid} has taken over; waiting for requests in flight");
    notify::replaced_by(pid);
    post.live.record("upgrade", cause);
    post.sockets.leave();
    reply(answer, Answer::Replaced { pid });
    leave(wishes, post, cause, successor).await
}

async fn begin(post: &Post, binary: Option<PathBuf>) -> Result<Successor, NotReplaced> {
    if post.attended.as_ref().is_some_and(Attended::lives) {
        return Err(NotReplaced::Attended);
    }
    let mut program = post.options.program.clone().ok_or(NotReplaced::Unknown)?;
    program.path = binary.unwrap_or(program.path);
    // The new process makes generations from now on, and two that make them would give one number twice.
    post.live.freeze(true)?;
    handover::replace(&program, &post.live, &post.sockets).await
}

/// Waits for the connections to end, unless the new process fails before.
async fn leave(wishes: &mut Wishes, post: &Post, cause: &Cause, mut successor: Successor) -> Upgraded {
    // Who fails, fails early: so long it is watched in any case, and must have given a sign of life after it.
    let sign = successor.next_sign();
    let quiet = async {
        tokio::join!(post.sockets.quiet(), time::sleep(PROBATION));
        sign.notified().await;
    };
    tokio::select! {
        () = quiet => log::info!("all requests have ended"),
        () = time::sleep(post.grace()) => {
            log::warn!("requests still run after {} s, and are cut", post.grace().as_secs_f64());
        }
        name = told_to_stop(wishes) => log::warn!("{name}: requests in flight are cut"),
        fault = successor.fails() => {
            if !matches!(fault, NotReplaced::Stopping) {
                come_back(post, cause, successor, &fault);
                return Upgraded::No;
            }
            log::info!("{fault}, so this one ends");
        }
    }
    successor.let_go();
    Upgraded::Yes
}

/// Serves again, since the new process does not.
fn come_back(post: &Post, cause: &Cause, successor: Successor, fault: &NotReplaced) {
    // Whatever it does, it does no more.
    drop(successor);
    notify::replaced_by(std::process::id());
    handover::take_back(&post.live, true);
    post.sockets.come_back();
    failed(post, cause, fault);
}

/// Waits for the word to stop. Nothing else is done in the middle of an upgrade.
async fn told_to_stop(wishes: &mut Wishes) -> &'static str {
    loop {
        match wishes.next().await {
            Told::Stop(name) => return name,
            Told::Do(Order { answer, .. }) => reply(answer, Answer::Failed("an upgrade is under way".into())),
            Told::Reopen => {}
        }
    }
}

/// Says why there is no other process, and goes on; the reason in words.
fn failed(post: &Post, cause: &Cause, fault: &NotReplaced) -> String {
    let fault: &dyn Error = fault;
    let causes = std::iter::successors(fault.source(), |&cause| cause.source());
    let why = causes.fold(fault.to_string(), |text, cause| format!("{text}: {cause}"));
    log::error!("the upgrade has failed, and this process goes on: {why}");
    go_on(post);
    post.live.record_failure("upgrade", cause, &why);
    why
}

fn go_on(post: &Post) {
    if let Err(fault) = post.live.freeze(false) {
        log::error!("the history cannot be read: {fault}");
    }
}
