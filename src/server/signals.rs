//! What the process does when it is told: HUP reads the config again, TERM, QUIT and INT drain and stop.

use super::Options;
use crate::config;
use crate::drain::Trigger;
use crate::filter;
use crate::runtime::Live;
use async_trait::async_trait;
use pingora::server::{ShutdownSignal, ShutdownSignalWatch};
use std::{io, path::PathBuf, sync::Arc, time::Duration};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;
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

enum Told {
    Reload,
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
            _ = self.hup.recv() => Told::Reload,
            _ = self.term.recv() => Told::Stop("TERM"),
            _ = self.quit.recv() => Told::Stop("QUIT"),
            _ = self.int.recv() => Told::Stop("INT"),
            _ = self.usr1.recv() => Told::Unknown("USR1"),
            _ = self.usr2.recv() => Told::Unknown("USR2"),
        }
    }
}

/// Does what it is told until it is told to stop, and ends when the drain has.
pub(super) async fn obey(mut received: Received, live: Arc<Live>, options: Options, trigger: &Trigger) {
    loop {
        match received.next().await {
            Told::Reload => reload(&live, options.config_file.clone()).await,
            Told::Unknown(name) => log::warn!("{name} does nothing yet"),
            Told::Stop(name) => {
                log::info!("{name}: no new connections; waiting for requests in flight");
                return drain(&mut received, trigger, options.grace).await;
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

/// Reads the config again; a bad one is refused and the old one stays. Files are read off the event loop.
async fn reload(live: &Arc<Live>, file: Option<PathBuf>) {
    let Some(file) = file else { return log::warn!("there is no config file to read again") };
    let live = Arc::clone(live);
    let reading = tokio::task::spawn_blocking(move || {
        let checked = config::read_file(&file, &filter::KINDS);
        match checked.config {
            // The outcome is logged and recorded where it is known.
            Some(config) => drop(live.apply(config)),
            None => live.refused(&checked.findings),
        }
    });
    if reading.await.is_err() {
        log::error!("the reload ended by a fault; the old config stays");
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
