//! The new process: takes the sockets and what was learned, and enters uses of tokens while the old one drains.

use super::wire::{End, Message, Wire};
use crate::audit::Predecessor;
use crate::identity::NotEntered;
use crate::refusal::Refusal;
use crate::runtime::Live;
use crate::server::bind::Inherited;
use std::{io, os::fd::OwnedFd, sync::Arc, time::Duration};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time;

/// For the old process to hear that this one stops.
const FAREWELL: Duration = Duration::from_secs(1);
/// How often it says that it lives.
const ALIVE_EVERY: Duration = Duration::from_millis(500);

/// The process that this one replaces, at the other end of a pair of sockets.
#[derive(Debug)]
pub struct Replaced {
    end: End,
    /// Its sockets, by the config's words for their places.
    sockets: Vec<(String, Inherited)>,
    /// Where its audit records end.
    predecessor: Option<Predecessor>,
}

/// What became of the old process while this one waited for it.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::server) enum Succession {
    /// It has handed over everything.
    Whole,
    /// It has died: what it knew is lost, and this one goes on.
    Orphaned,
}

impl Replaced {
    /// Meets the process that has started this one, at the descriptor that it has left there. It may die meanwhile;
    /// then this one does without.
    ///
    /// # Errors
    /// If the descriptor is none of a process that wants to be replaced.
    pub fn meet(descriptor: OwnedFd) -> io::Result<Self> {
        let mut met = Self { end: End::new(descriptor), sockets: Vec::new(), predecessor: None };
        let mut is_over = false;
        while !is_over {
            match met.end.receive()? {
                Some((Message::Predecessor { boot, sequence, chain }, _)) => {
                    let chain = chain.map(Into::into);
                    met.predecessor = Some(Predecessor { boot: boot.into(), sequence, chain });
                }
                Some((Message::Sockets { places, is_last }, descriptors)) => {
                    met.take(places, descriptors)?;
                    is_over = is_last;
                }
                Some(_) => return Err(io::ErrorKind::InvalidData.into()),
                None => is_over = true,
            }
        }
        Ok(met)
    }

    fn take(&mut self, places: Vec<String>, descriptors: Vec<OwnedFd>) -> io::Result<()> {
        for (place, descriptor) in places.into_iter().zip(descriptors) {
            self.sockets.push((place, Inherited::of(descriptor)?));
        }
        Ok(())
    }

    /// Where the old process's audit records end.
    #[must_use]
    pub fn predecessor(&self) -> Option<Predecessor> {
        self.predecessor.clone()
    }

    /// Tells the old process that it cannot be replaced.
    pub fn refuse(&self, why: &str) {
        let why = why.chars().take(8 * 1024).collect();
        if let Err(fault) = self.end.send(&Message::Failed { why }, &[]) {
            log::warn!("the process that was to be replaced does not listen: {fault}");
        }
    }

    /// Takes its sockets.
    pub(in crate::server) fn sockets(&mut self) -> Vec<(String, Inherited)> {
        std::mem::take(&mut self.sockets)
    }

    /// Says that everything is built, and takes over what the old process has learned.
    pub(in crate::server) async fn succeed(self, live: &Live) -> io::Result<(Succession, Heritage)> {
        let wire = self.end.wire()?;
        let succession = take_over(&wire, live).await.unwrap_or_else(|fault| {
            log::warn!("the process that is replaced was not heard out: {fault}");
            Succession::Orphaned
        });
        Ok((succession, Heritage(wire)))
    }
}

async fn take_over(wire: &Wire, live: &Live) -> io::Result<Succession> {
    let state = live.state();
    wire.send(&Message::Prepared).await?;
    loop {
        match wire.receive().await? {
            Some(Message::Learned(learned)) => state.servers.relearn(&learned),
            Some(Message::Used(used)) => state.replay.inherit(used),
            Some(Message::All { horizon }) => {
                state.replay.knows_all_since(horizon);
                return Ok(Succession::Whole);
            }
            Some(_) => return Err(io::ErrorKind::InvalidData.into()),
            None => return Ok(Succession::Orphaned),
        }
    }
}

fn spent(number: u64, entered: Result<(), NotEntered>) -> Message {
    let refusal = match entered {
        Ok(()) => None,
        Err(NotEntered::Refused(refusal)) => Some(refusal),
        // Somebody replaces this one in turn.
        Err(NotEntered::HandedOver) => Some(Refusal::ReplayStoreSilent),
    };
    Message::Spent { number, refusal: refusal.map(|refusal| refusal.facts().label.to_owned()) }
}

/// What remains to be done for the old process until it ends.
pub(in crate::server) struct Heritage(Wire);

/// The old process, while it still lives.
pub(in crate::server) struct Attended {
    stopping: Arc<Notify>,
    serving: JoinHandle<()>,
}

impl Heritage {
    /// Says that connections are accepted here, and enters uses of tokens until the old process has ended.
    pub(in crate::server) fn attend(self, live: Arc<Live>) -> Attended {
        let stopping = Arc::<Notify>::default();
        let told = Arc::clone(&stopping);
        let serving = tokio::spawn(async move {
            match self.serve(&live, &told).await {
                Ok(()) => log::info!("the process that was replaced has ended"),
                Err(fault) => log::warn!("the process that was replaced is not heard any more: {fault}"),
            }
        });
        Attended { stopping, serving }
    }

    async fn serve(&self, live: &Live, stopping: &Notify) -> io::Result<()> {
        self.0.send(&Message::Accepting).await?;
        let mut beat = time::interval(ALIVE_EVERY);
        loop {
            let message = tokio::select! {
                message = self.0.receive() => message?,
                _ = beat.tick() => {
                    self.0.send(&Message::Alive).await?;
                    continue;
                }
                () = stopping.notified() => return self.0.send(&Message::Stopping).await,
            };
            match message {
                Some(Message::Spend { number, spending }) => {
                    let state = live.state();
                    let entered = state.replay.spend(&spending, state.clock.now());
                    self.0.send(&spent(number, entered)).await?;
                }
                Some(_) => return Err(io::ErrorKind::InvalidData.into()),
                None => return Ok(()),
            }
        }
    }
}

impl Attended {
    /// Waits until it has ended.
    pub(in crate::server) async fn ended(&mut self) {
        // A fault of the task is its end, too.
        (&mut self.serving).await.ok();
    }

    /// Tells it that this process stops because it was told to.
    pub(in crate::server) async fn stop(self) {
        self.stopping.notify_one();
        // It may have ended, or stand still.
        time::timeout(FAREWELL, self.serving).await.ok();
    }
}
