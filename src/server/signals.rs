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
use std::{io, sync::Arc, time::Duration};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time;

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
    loop {
        match wishes.next().await {
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
                match upgrade::upgrade(&mut wishes, &post, (binary, &cause), answer).await {
                    Upgraded::No => {}
                    Upgraded::Yes => break,
                    Upgraded::Stopped(name) => return stop(name, &mut wishes, &mut post).await,
                }
            }
            Told::Reopen => post.live.state().journal.reopen(),
            Told::Stop(name) => return stop(name, &mut wishes, &mut post).await,
        }
    }
    // All connections have ended, but perhaps some of listeners that a reload has taken away.
    post.sockets.no_more();
    post.trigger.start();
    let grace = post.grace();
    drop(post.sockets);
    if time::timeout(grace, post.trigger.finished()).await.is_err() {
        log::warn!("connections of listeners that are gone are cut");
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
        let impatient = async { while !matches!(wishes.received.next().await, Told::Stop(_)) {} };
        tokio::select! {
            () = time::sleep(lame_duck) => {}
            () = impatient => {}
        }
    }
    log::info!("{name}: no new connections; waiting for requests in flight");
    if let Some(attended) = post.attended.take() {
        attended.stop().await;
    }
    post.sockets.no_more();
    drain(&mut wishes.received, &post.trigger, post.grace()).await;
}

async fn drain(received: &mut Received, trigger: &Trigger, grace: Duration) {
    trigger.start();
    let impatient = async { while !matches!(received.next().await, Told::Stop(_)) {} };
    tokio::select! {
        () = trigger.finished() => log::info!("all requests have ended"),
        () = time::sleep(grace) => log::warn!("requests still run after {} s, and are cut", grace.as_secs_f64()),
        () = impatient => log::warn!("told twice, so requests in flight are cut"),
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
