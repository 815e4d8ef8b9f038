//! What the process does when it is told: HUP and `belay reload` read the config again, TERM, QUIT and INT drain and
//! stop.

use super::sockets::Sockets;
use super::{Options, reload};
use crate::admin::{Order, Task};
use crate::audit::{Actor, Cause};
use crate::drain::Trigger;
use crate::runtime::Live;
use async_trait::async_trait;
use pingora::server::{ShutdownSignal, ShutdownSignalWatch};
use std::{io, sync::Arc, time::Duration};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Notify, mpsc};
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

enum Told {
    Do(Order),
    Stop(&'static str),
    /// What other servers do something at, and what would end this process if nobody listened.
    Unknown(&'static str),
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
                let cause = Cause { actor: Actor::Signal("HUP"), reason: None };
                Told::Do(Order { task: Task::Reload, cause, answer: None })
            }
            _ = self.term.recv() => Told::Stop("TERM"),
            _ = self.quit.recv() => Told::Stop("QUIT"),
            _ = self.int.recv() => Told::Stop("INT"),
            _ = self.usr1.recv() => Told::Unknown("USR1"),
            _ = self.usr2.recv() => Told::Unknown("USR2"),
        }
    }
}

impl Wishes {
    async fn next(&mut self) -> Told {
        tokio::select! {
            told = self.received.next() => told,
            Some(order) = self.ordered.recv() => Told::Do(order),
        }
    }
}

/// Does what it is told until it is told to stop, one thing after the other, and ends when the drain has.
pub(super) async fn obey(
    mut wishes: Wishes,
    live: Arc<Live>,
    (options, mut sockets): (Options, Sockets),
    trigger: &Trigger,
) {
    loop {
        match wishes.next().await {
            Told::Do(Order { task: Task::Reload, cause, answer }) => {
                let answered = reload::reload(&live, &mut sockets, options.config_file.clone(), cause).await;
                // Who asked may have stopped waiting.
                answer.map(|answer| answer.send(answered).ok());
            }
            Told::Unknown(name) => log::warn!("{name} does nothing yet"),
            Told::Stop(name) => {
                log::info!("{name}: no new connections; waiting for requests in flight");
                sockets.no_more();
                return drain(&mut wishes.received, trigger, options.grace).await;
            }
        }
    }
}

async fn drain(received: &mut Received, trigger: &Trigger, grace: Duration) {
    trigger.start();
    let impatient = async { while !matches!(received.next().await, Told::Stop(_)) {} };
    tokio::select! {
        () = trigger.finished() => log::info!("all requests have ended"),
        () = time::sleep(grace) => log::warn!("requests still run after {} s, and are cut", grace.as_secs()),
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
