//! What the process does when it is told: HUP and `belay reload` read the config again, USR1 opens the audit log anew,
//! USR2 and `belay upgrade` have another process take over, TERM, QUIT and INT drain and stop.

use super::handover::Attended;
use super::notify;
use super::sockets::Sockets;
use super::upgrade::{self, Upgraded};
use super::{Options, reload};
use crate::admin::{Answer, Order, Task};
use crate::audit::{Actor, Cause};
use crate::drain::Trigger;
use crate::runtime::Live;
use async_trait::async_trait;
use pingora::server::{ShutdownSignal, ShutdownSignalWatch};
use std::{future::pending, io, sync::Arc, time::Duration};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::{self, Instant};

/// The signals that are listened to, from the moment it is made.
pub(super) struct Received {
    hup: Signal,
    term: Signal,
    quit: Signal,
    int: Signal,
    usr1: Signal,
    usr2: Signal,
}

/// Everything that tells the process to do something.
pub(super) struct Wishes {
    pub(super) received: Received,
    pub(super) ordered: mpsc::Receiver<Order>,
}

pub(super) enum Told {
    Do(Order),
    /// With `TERM` after a lame duck's time.
    Stop(&'static str),
    Reopen,
}

impl Received {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            hup: signal(SignalKind::hangup())?,
            term: signal(SignalKind::terminate())?,
            quit: signal(SignalKind::quit())?,
            int: signal(SignalKind::interrupt())?,
            usr1: signal(SignalKind::user_defined1())?,
            usr2: signal(SignalKind::user_defined2())?,
        })
    }

    async fn next(&mut self) -> Told {
        tokio::select! {
            _ = self.hup.recv() => {
                let cause = Cause::of(Actor::Signal("HUP"));
                Told::Do(Order { task: Task::Reload { again: false }, cause, answer: None })
            }
            _ = self.term.recv() => Told::Stop("TERM"),
            _ = self.quit.recv() => Told::Stop("QUIT"),
            _ = self.int.recv() => Told::Stop("INT"),
            _ = self.usr1.recv() => Told::Reopen,
            _ = self.usr2.recv() => {
                let cause = Cause::of(Actor::Signal("USR2"));
                Told::Do(Order { task: Task::Upgrade(None), cause, answer: None })
            }
        }
    }
}

impl Wishes {
    pub(super) async fn next(&mut self) -> Told {
        tokio::select! {
            told = self.received.next() => told,
            Some(order) = self.ordered.recv() => Told::Do(order),
        }
    }
}

/// What it works with.
pub(super) struct Post {
    pub(super) live: Arc<Live>,
    pub(super) options: Options,
    pub(super) sockets: Sockets,
    pub(super) trigger: Arc<Trigger>,
    /// The process that this one has replaced.
    pub(super) attended: Option<Attended>,
}

/// Does what it is told until it is told to stop, one thing after the other, and ends when the drain has.
pub(super) async fn obey(mut wishes: Wishes, mut post: Post) {
    let deadline = loop {
        let told = tokio::select! {
            told = wishes.next() => told,
            () = ended(&mut post.attended) => {
                post.attended = None;
                post.sockets.inherit();
                continue;
            }
        };
        match told {
            Told::Do(Order { task: Task::Reload { again }, cause, answer }) => {
                let file = post.options.config_file.clone();
                notify::reloading();
                reply(answer, reload::reload(&post.live, &mut post.sockets, (file, again), cause).await);
                notify::ready();
            }
            Told::Do(Order { task: Task::RollBack(generation), cause, answer }) => {
                reply(answer, reload::roll_back(&post.live, &mut post.sockets, generation, cause).await);
            }
            Told::Do(Order { task: Task::Upgrade(binary), cause, answer }) => {
                match upgrade::upgrade(&mut wishes, &mut post, (binary, &cause), answer).await {
                    Upgraded::No => {}
                    Upgraded::Yes(deadline) => break deadline,
                    Upgraded::Stopped(name) => return stop(name, &mut wishes, &mut post).await,
                }
            }
            Told::Reopen => post.live.state().journal.reopen(),
            Told::Stop(name) => return stop(name, &mut wishes, &mut post).await,
        }
    };
    post.sockets.no_more();
    drain(&mut wishes.received, &post, deadline).await;
}

/// Waits until the process has ended that this one has replaced, if there is one.
async fn ended(attended: &mut Option<Attended>) {
    match attended {
        Some(attended) => attended.ended().await,
        None => pending().await,
    }
}

/// Who asked may have stopped waiting.
pub(super) fn reply(to: Option<oneshot::Sender<Answer>>, answer: Answer) {
    to.map(|to| to.send(answer).ok());
}

impl Post {
    /// How long requests in flight may take to end.
    pub(super) fn grace(&self) -> Duration {
        self.live.snapshot().config.grace
    }
}

/// Says that it stops, waits until those have heard it who balance before this node, and drains.
async fn stop(name: &'static str, wishes: &mut Wishes, post: &mut Post) {
    notify::stopping();
    post.trigger.announce();
    let lame_duck = post.live.snapshot().config.lame_duck;
    if name == "TERM" && lame_duck > Duration::ZERO {
        log::info!("{name}: not ready any more; connections are accepted for {} s", lame_duck.as_secs_f64());
        tokio::select! {
            () = time::sleep(lame_duck) => {}
            () = told_again(&mut wishes.received, post) => {}
        }
    }
    log::info!("{name}: no new connections; waiting for requests in flight");
    if let Some(attended) = post.attended.take() {
        attended.stop().await;
    }
    post.sockets.inherit();
    post.sockets.no_more();
    drain(&mut wishes.received, post, Instant::now() + post.grace()).await;
}

async fn drain(received: &mut Received, post: &Post, deadline: Instant) {
    post.trigger.start();
    tokio::select! {
        biased;
        () = post.trigger.finished() => log::info!("all requests have ended"),
        () = time::sleep_until(deadline) => log::warn!("requests still run, and are cut"),
        () = told_again(received, post) => log::warn!("told twice, so requests in flight are cut"),
    }
}

/// Waits for another word to stop.
async fn told_again(received: &mut Received, post: &Post) {
    loop {
        match received.next().await {
            Told::Stop(_) => return,
            Told::Reopen => post.live.state().journal.reopen(),
            Told::Do(order) => log::warn!("{} is not done: the process stops", order.task.action()),
        }
    }
}

/// Tells Pingora's server to stop, once our own drain is over and nothing is left that its own would wait for.
pub(super) struct Stopped(pub(super) Arc<Notify>);

#[async_trait]
impl ShutdownSignalWatch for Stopped {
    async fn recv(&self) -> ShutdownSignal {
        self.0.notified().await;
        ShutdownSignal::FastShutdown
    }
}
