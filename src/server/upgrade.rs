//! Has another process take over, and drains; or goes on as before, if that one fails.

use super::handover::{self, NotReplaced, Successor};
use super::signals::{Post, Told, Wishes, reply};
use super::{notify, reload};
use crate::admin::{Answer, Order, Task};
use crate::audit::{Actor, Cause};
use std::{error::Error, io, path::PathBuf, sync::Arc, time::Duration};
use tokio::sync::oneshot;
use tokio::task::spawn_blocking;
use tokio::time::{self, Instant};

/// How long the old process stays at least, to come back if the new one fails.
const PROBATION: Duration = Duration::from_secs(2);

/// What came of an upgrade.
pub(super) enum Upgraded {
    /// This process goes on.
    No,
    /// Another process serves, and this one has until then to end what it works on.
    Yes(Instant),
    /// This process was told to stop meanwhile.
    Stopped(&'static str),
}

/// Starts the new process and leaves the service to it.
pub(super) async fn upgrade(
    wishes: &mut Wishes,
    post: &mut Post,
    (binary, cause): (Option<PathBuf>, &Cause),
    answer: Option<oneshot::Sender<Answer>>,
) -> Upgraded {
    let started = tokio::select! {
        started = begin(post, binary, cause) => started,
        name = told_to_stop(wishes, post) => {
            if post.live.state().heir().is_some() {
                handover::take_back(&post.live, true);
            }
            unfreeze(post).await;
            reply(answer, Answer::Failed(format!("{name}: this process stops")));
            return Upgraded::Stopped(name);
        }
    };
    let successor = match started {
        Ok(successor) => successor,
        Err(fault) => {
            unfreeze(post).await;
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

async fn begin(post: &Post, binary: Option<PathBuf>, cause: &Cause) -> Result<Successor, NotReplaced> {
    if post.attended.is_some() {
        return Err(NotReplaced::Attended);
    }
    let mut program = post.options.program.clone().ok_or(NotReplaced::Unknown)?;
    program.path = binary.unwrap_or(program.path);
    // A start asks nobody, so that what a reload would refuse is asked of this process.
    if let Some(file) = post.options.config_file.clone() {
        reload::rehearse(&post.live, file, cause.clone()).await.map_err(|findings| {
            let told = findings.iter().map(|finding| match &finding.hint {
                Some(hint) => format!("{} ({hint})", finding.message),
                None => finding.message.clone(),
            });
            NotReplaced::Config(told.collect::<Vec<_>>().join("; "))
        })?;
    }
    // The new process makes generations from now on, and two that make them would give one number twice.
    freeze(post, true).await?;
    handover::replace(&program, &post.live, &post.sockets).await
}

/// Waits for the connections to end, unless the new process fails before.
async fn leave(wishes: &mut Wishes, post: &mut Post, cause: &Cause, mut successor: Successor) -> Upgraded {
    let deadline = Instant::now() + post.grace();
    // Who fails, fails early: so long it is watched in any case, and must have given a sign of life after it.
    let sign = successor.next_sign();
    let quiet = async {
        tokio::join!(post.sockets.quiet(), time::sleep(PROBATION));
        sign.notified().await;
    };
    let fault = tokio::select! {
        () = quiet => None,
        () = time::sleep_until(deadline) => None,
        name = told_to_stop(wishes, post) => {
            log::warn!("{name}: requests in flight are cut");
            successor.let_go();
            return Upgraded::Yes(Instant::now());
        }
        fault = successor.fails() => Some(fault),
    };
    match fault {
        None => {}
        Some(NotReplaced::Stopping) => log::info!("{}, so this one ends", NotReplaced::Stopping),
        Some(fault) => {
            come_back(post, cause, successor, &fault).await;
            return Upgraded::No;
        }
    }
    successor.let_go();
    Upgraded::Yes(deadline)
}

/// Serves again, since the new process does not.
async fn come_back(post: &mut Post, cause: &Cause, successor: Successor, fault: &NotReplaced) {
    // Whatever it does, it does no more.
    drop(successor);
    notify::replaced_by(std::process::id());
    handover::take_back(&post.live, true);
    unfreeze(post).await;
    catch_up(post).await;
    post.sockets.come_back();
    failed(post, cause, fault);
}

/// Takes up what the new process has made live, before anybody is served by what was live before it.
async fn catch_up(post: &mut Post) {
    let mut by_itself = Cause::of(Actor::Itself);
    let answer = match post.live.overtaken_by() {
        Some(generation) => {
            by_itself.reason = Some(format!("generation {generation} was live in the process that has failed").into());
            // Whoever wanted it was asked there.
            by_itself.accepted = vec!["all".into()];
            reload::roll_back(&post.live, &mut post.sockets, generation, by_itself).await
        }
        // Keys and lists may have changed.
        None if post.live.has_history() => {
            let live = Arc::clone(&post.live);
            let refreshed = spawn_blocking(move || live.refresh()).await;
            // What came of it is logged and recorded where it is known.
            Answer::Config(refreshed.ok().and_then(Result::ok), Vec::new())
        }
        // The new process was started with the config that is on disk.
        None => {
            let file = post.options.config_file.clone();
            reload::reload(&post.live, &mut post.sockets, (file, false), by_itself).await
        }
    };
    if matches!(answer, Answer::Config(None, _)) {
        log::error!("what was live in the process that has failed is not live here: see above, and reload");
    }
}

/// Waits for the word to stop. Nothing else is done in the middle of an upgrade but that the audit log is opened anew.
async fn told_to_stop(wishes: &mut Wishes, post: &Post) -> &'static str {
    const WHY: &str = "an upgrade is under way";
    loop {
        match wishes.next().await {
            Told::Stop(name) => return name,
            Told::Do(Order { task, cause, answer }) => {
                log::warn!("{} by {} is not done: {WHY}", task.action(), cause.actor.word());
                post.live.record_failure(task.action(), &cause, WHY);
                if matches!(task, Task::Reload { .. }) {
                    // The service manager waits to hear that it is over.
                    notify::reloading();
                    notify::ready();
                }
                reply(answer, Answer::Failed(WHY.into()));
            }
            Told::Reopen => post.live.state().journal.reopen(),
        }
    }
}

/// Says why there is no other process, and goes on; the reason in words.
fn failed(post: &Post, cause: &Cause, fault: &NotReplaced) -> String {
    let fault: &dyn Error = fault;
    let causes = std::iter::successors(fault.source(), |&cause| cause.source());
    let why = causes.fold(fault.to_string(), |text, cause| format!("{text}: {cause}"));
    log::error!("the upgrade has failed, and this process goes on: {why}");
    post.live.record_failure("upgrade", cause, &why);
    why
}

async fn unfreeze(post: &Post) {
    if let Err(fault) = freeze(post, false).await {
        log::error!("the history cannot be read, and no generation is made any more: {fault}");
    }
}

/// Leaves the making of generations to another process, or makes them again. It waits for one that is being made.
async fn freeze(post: &Post, is_frozen: bool) -> io::Result<()> {
    let live = Arc::clone(&post.live);
    spawn_blocking(move || live.freeze(is_frozen)).await.unwrap_or_else(|panic| Err(io::Error::other(panic)))
}
