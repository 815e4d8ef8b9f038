//! The old process: starts the new one, hands over, drains, and takes everything back if the new one fails.

use super::Program;
use super::program::{NotStarted, trusted};
use super::wire::{DESCRIPTORS_MAX, End, Message, Wire, pair};
use crate::identity::{Elsewhere, ReplayStore, Spending};
use crate::refusal::Refusal;
use crate::runtime::Live;
use crate::server::sockets::Sockets;
use async_trait::async_trait;
use std::{
    collections::HashMap,
    io,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::{self, Instant};

/// For the new process to be built.
const PREPARED_WITHIN: Duration = Duration::from_secs(30);
/// Without a sign of life for so long it counts as dead.
const SILENT_MAX: Duration = Duration::from_secs(5);
/// For it to enter the use of a token. Nothing is entered while a full store is handed over.
const SPENT_WITHIN: Duration = Duration::from_secs(5);
/// For what it has said meanwhile to be read, before it counts as dead: perhaps this process stood still, and not it.
const LAST_LOOK: Duration = Duration::from_millis(500);
/// Uses of tokens that may wait to be entered.
const SPENDINGS_MAX: usize = 4096;
/// Tokens, or servers, of one packet: each is a few hundred bytes long.
const CHUNK: usize = 100;

/// Why this process was not replaced.
#[derive(Debug, thiserror::Error)]
pub(in crate::server) enum NotReplaced {
    #[error("this process does not know how it was started")]
    Unknown,
    #[error(transparent)]
    Untrusted(#[from] NotStarted),
    #[error("the config is refused: {0}")]
    Config(String),
    #[error("the new process cannot be started")]
    Start(#[source] io::Error),
    #[error("the new process cannot take over: {0}")]
    Failed(String),
    #[error("the new process has died")]
    Died,
    #[error("the new process was not ready within {} s", PREPARED_WITHIN.as_secs())]
    Late,
    #[error("the new process gave no sign of life for {} s", SILENT_MAX.as_secs())]
    Silent,
    #[error("the new process was told to stop")]
    Stopping,
    #[error("the process before this one has not ended yet; it may take as long as its requests do")]
    Attended,
    #[error("the new process cannot be understood")]
    Wire(#[source] io::Error),
}

impl From<io::Error> for NotReplaced {
    /// Who dies with something unread cuts the line instead of ending it.
    fn from(fault: io::Error) -> Self {
        let is_cut = matches!(fault.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe);
        if is_cut { Self::Died } else { Self::Wire(fault) }
    }
}

/// The new process, which accepts connections now.
pub(in crate::server) struct Successor {
    child: Reaped,
    /// Tells of each sign of life.
    lives: Arc<Notify>,
    /// Tells why it failed, should it.
    fails: oneshot::Receiver<NotReplaced>,
}

/// A child that is killed when it is dropped, unless it is let go.
struct Reaped(Option<Child>);

/// Where uses of tokens are entered.
#[derive(Debug)]
struct Heir(mpsc::Sender<Asked>);

/// A use of a token, and who waits for it.
#[derive(Debug)]
struct Asked {
    spending: Spending<'static>,
    answer: oneshot::Sender<Result<(), Refusal>>,
}

#[async_trait]
impl Elsewhere for Heir {
    async fn spend(&self, spending: Spending<'static>) -> Result<(), Refusal> {
        let (answer, answered) = oneshot::channel();
        self.0.try_send(Asked { spending, answer }).map_err(|_full_or_gone| Refusal::ReplayStoreSilent)?;
        let answered = time::timeout(SPENT_WITHIN, answered).await;
        answered.map_err(|_late| Refusal::ReplayStoreSilent)?.map_err(|_gone| Refusal::ReplayStoreSilent)?
    }
}

/// Starts a program and hands everything over to it. When this returns, it accepts connections, and this process still
/// does, too. If it fails, nothing has happened.
pub(in crate::server) async fn replace(
    program: &Program,
    live: &Arc<Live>,
    sockets: &Sockets,
) -> Result<Successor, NotReplaced> {
    let (end, mut child) = start(program)?;
    tell(&end, live, sockets)?;
    let wire = end.wire()?;
    time::timeout(PREPARED_WITHIN, prepared(&wire)).await.map_err(|_late| NotReplaced::Late)??;
    let (asks, asked) = mpsc::channel(SPENDINGS_MAX);
    // From here on each use of a token is either among those that are handed over, or entered by the new process.
    live.state().set_heir(Some(Box::new(Heir(asks))));
    if let Err(fault) = hand_over(&wire, live).await {
        child.kill();
        take_back(live, !matches!(fault, NotReplaced::Failed(_)));
        return Err(fault);
    }
    let (failed, fails) = oneshot::channel();
    let lives = Arc::<Notify>::default();
    let heartbeat = Arc::clone(&lives);
    tokio::spawn(async move {
        let fault = attend(&wire, asked, &heartbeat).await;
        // Nobody may be interested any more.
        failed.send(fault).ok();
    });
    Ok(Successor { child, lives, fails })
}

/// Enters uses of tokens here again. What the new process has entered, if it could, is not known.
pub(in crate::server) fn take_back(live: &Live, it_could: bool) {
    let state = live.state();
    let horizon = it_could.then(|| state.clock.now().plus(ReplayStore::HORIZON_AFTER_START));
    state.replay.take_back(horizon);
    state.set_heir(None);
}

impl Successor {
    /// Its process.
    pub(in crate::server) fn pid(&self) -> Option<u32> {
        self.child.0.as_ref().map(Child::id)
    }

    /// The next sign of life, to be waited for beside [`Successor::fails`].
    pub(in crate::server) fn next_sign(&self) -> Arc<Notify> {
        Arc::clone(&self.lives)
    }

    /// Waits until it fails.
    pub(in crate::server) async fn fails(&mut self) -> NotReplaced {
        (&mut self.fails).await.unwrap_or(NotReplaced::Died)
    }

    /// Lets it live on without us.
    pub(in crate::server) fn let_go(mut self) {
        self.child.0.take();
    }
}

impl Reaped {
    fn kill(&mut self) {
        if let Some(mut child) = self.0.take() {
            // It may have ended already.
            child.kill().ok();
            child.wait().ok();
        }
    }
}

impl Drop for Reaped {
    fn drop(&mut self) {
        self.kill();
    }
}

fn start(program: &Program) -> Result<(End, Reaped), NotReplaced> {
    let path = trusted(&program.path)?;
    let (ours, theirs) = pair()?;
    let mut command = Command::new(path);
    command.args(&program.args).stdin(Stdio::from(theirs));
    // The service manager's watchdog is meant for whoever is the service.
    command.env_remove("WATCHDOG_PID");
    let child = command.spawn().map_err(NotReplaced::Start)?;
    Ok((ours, Reaped(Some(child))))
}

/// Says where the audit records end, and sends the sockets.
fn tell(end: &End, live: &Live, sockets: &Sockets) -> io::Result<()> {
    let position = live.state().journal.position();
    let (boot, chain) = (position.boot.into(), position.chain.map(Into::into));
    end.send(&Message::Predecessor { boot, sequence: position.sequence, chain }, &[])?;
    let all: Vec<_> = sockets.all().collect();
    let mut packets = all.chunks(DESCRIPTORS_MAX).peekable();
    while let Some(packet) = packets.next() {
        let places = packet.iter().map(|(place, _)| place.clone()).collect();
        let descriptors: Vec<_> = packet.iter().map(|(_, descriptor)| *descriptor).collect();
        end.send(&Message::Sockets { places, is_last: packets.peek().is_none() }, &descriptors)?;
    }
    Ok(())
}

async fn prepared(wire: &Wire) -> Result<(), NotReplaced> {
    match wire.receive().await? {
        Some(Message::Prepared) => Ok(()),
        Some(Message::Failed { why }) => Err(NotReplaced::Failed(why)),
        Some(_) => Err(io::Error::from(io::ErrorKind::InvalidData).into()),
        None => Err(NotReplaced::Died),
    }
}

/// Uses of tokens wait meanwhile, so the new process must not stand still for long.
async fn hand_over(wire: &Wire, live: &Live) -> Result<(), NotReplaced> {
    let state = live.state();
    for learned in state.servers.learned().chunks(CHUNK) {
        send(wire, &Message::Learned(learned.to_vec())).await?;
    }
    for used in state.replay.hand_over() {
        for used in used.chunks(CHUNK) {
            send(wire, &Message::Used(used.to_vec())).await?;
        }
    }
    send(wire, &Message::All { horizon: state.replay.horizon() }).await?;
    match time::timeout(SILENT_MAX, wire.receive()).await.map_err(|_late| NotReplaced::Silent)?? {
        Some(Message::Accepting) => Ok(()),
        Some(Message::Failed { why }) => Err(NotReplaced::Failed(why)),
        Some(_) => Err(io::Error::from(io::ErrorKind::InvalidData).into()),
        None => Err(NotReplaced::Died),
    }
}

async fn send(wire: &Wire, message: &Message) -> Result<(), NotReplaced> {
    Ok(time::timeout(SILENT_MAX, wire.send(message)).await.map_err(|_late| NotReplaced::Silent)??)
}

/// Has uses of tokens entered, and listens whether the new process lives; why it does not, in the end.
async fn attend(wire: &Wire, mut asked: mpsc::Receiver<Asked>, lives: &Notify) -> NotReplaced {
    let mut waiting: HashMap<u64, oneshot::Sender<Result<(), Refusal>>> = HashMap::new();
    let (mut number, mut heard) = (0_u64, Instant::now());
    loop {
        let message = tokio::select! {
            biased;
            message = wire.receive() => message,
            Some(Asked { spending, answer }) = asked.recv() => {
                if answer.is_closed() {
                    // Who asked has given up, and may come again with the same token.
                    continue;
                }
                number = number.wrapping_add(1);
                waiting.retain(|_, answer| !answer.is_closed());
                waiting.insert(number, answer);
                match send(wire, &Message::Spend { number, spending }).await {
                    Ok(()) => continue,
                    Err(fault) => return fault,
                }
            }
            () = time::sleep_until(heard + SILENT_MAX) => match time::timeout(LAST_LOOK, wire.receive()).await {
                Ok(message) => message,
                Err(_still_silent) => return NotReplaced::Silent,
            },
        };
        heard = Instant::now();
        match message {
            Ok(Some(Message::Alive)) => lives.notify_waiters(),
            Ok(Some(Message::Stopping)) => return NotReplaced::Stopping,
            Ok(Some(Message::Spent { number, refusal })) => {
                if let Some(answer) = waiting.remove(&number) {
                    // Who asked may have gone.
                    answer.send(refusal.map_or(Ok(()), |name| Err(named(&name)))).ok();
                }
            }
            Ok(Some(_)) => return io::Error::from(io::ErrorKind::InvalidData).into(),
            Ok(None) => return NotReplaced::Died,
            Err(fault) => return fault.into(),
        }
    }
}

/// The refusal of that name; a newer process may have others.
fn named(label: &str) -> Refusal {
    let known = Refusal::ALL.iter().find(|refusal| refusal.facts().label == label);
    known.copied().unwrap_or(Refusal::ReplayStoreSilent)
}

#[cfg(test)]
mod tests {
    use super::*;
    use test_case::test_case;

    #[test_case(io::ErrorKind::ConnectionReset, "the new process has died")]
    #[test_case(io::ErrorKind::BrokenPipe, "the new process has died")]
    #[test_case(io::ErrorKind::InvalidData, "the new process cannot be understood")]
    fn a_line_that_is_cut_is_a_death(kind: io::ErrorKind, expected: &str) {
        assert_eq!(NotReplaced::from(io::Error::from(kind)).to_string(), expected);
    }
}
