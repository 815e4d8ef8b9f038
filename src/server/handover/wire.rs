//! What the old and the new process say to each other: packets on a pair of sockets that nobody else has, some of them
//! with descriptors.

use crate::identity::{Spending, Used};
use crate::upstream::Learned;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use serde::{Deserialize, Serialize};
use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    os::unix::net::UnixStream as StdUnixStream,
};
use tokio::io::Interest;
use tokio::net::UnixStream;

/// The longest packet, in bytes; the system takes about three of these at once.
const PACKET_MAX: usize = 64 * 1024;
/// Descriptors that go along with one packet.
pub(super) const DESCRIPTORS_MAX: usize = 16;

/// What is said.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Message {
    /// Sockets, each by the config's word for its place, with their descriptors. The last packet of them says so.
    Sockets { places: Vec<String>, is_last: bool },
    /// Whose audit records go before.
    Predecessor {
        boot: String,
        sequence: u64,
        /// Earlier versions do not say it.
        #[serde(default)]
        chain: Option<String>,
    },
    /// The new process is built, and could take over.
    Prepared,
    /// It cannot, and ends.
    Failed { why: String },
    /// What was learned of servers.
    Learned(Vec<Learned>),
    /// Tokens that were used.
    Used(Vec<Used>),
    /// That was all; what was used up to that time was not known to the old process either.
    All { horizon: i64 },
    /// The new process accepts connections.
    Accepting,
    /// It lives.
    Alive,
    /// It was told to stop, and the old process is not to come back.
    Stopping,
    /// The old process wants the use of a token to be entered.
    Spend { number: u64, spending: Spending<'static> },
    /// It was, or was refused with the reason of that name.
    Spent { number: u64, refusal: Option<String> },
}

/// One end.
#[derive(Debug)]
pub(super) struct End(OwnedFd);

/// One end, to wait at.
#[derive(Debug)]
pub(super) struct Wire(UnixStream);

/// Both ends; the second is the child's.
pub(super) fn pair() -> io::Result<(End, OwnedFd)> {
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    Ok((End(ours), theirs))
}

impl End {
    pub(super) const fn new(descriptor: OwnedFd) -> Self {
        Self(descriptor)
    }

    /// Waits for the next message; none if the other process is gone.
    pub(super) fn receive(&self) -> io::Result<Option<(Message, Vec<OwnedFd>)>> {
        receive(self.0.as_fd())
    }

    /// Waits until a message can be sent.
    pub(super) fn send(&self, message: &Message, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        send(self.0.as_fd(), &packet(message)?, descriptors)
    }

    /// The same end within a runtime.
    pub(super) fn wire(self) -> io::Result<Wire> {
        // To the runtime it is a socket like others; what goes over it is packets.
        let socket = StdUnixStream::from(self.0);
        socket.set_nonblocking(true)?;
        UnixStream::from_std(socket).map(Wire)
    }
}

impl Wire {
    /// The next message; none if the other process is gone.
    pub(super) async fn receive(&self) -> io::Result<Option<Message>> {
        let received = self.0.async_io(Interest::READABLE, || receive(self.0.as_fd())).await?;
        Ok(received.map(|(message, _)| message))
    }

    pub(super) async fn send(&self, message: &Message) -> io::Result<()> {
        let packet = packet(message)?;
        self.0.async_io(Interest::WRITABLE, || send(self.0.as_fd(), &packet, &[])).await
    }
}

fn packet(message: &Message) -> io::Result<Vec<u8>> {
    let packet = serde_json::to_vec(message)?;
    if packet.len() <= PACKET_MAX { Ok(packet) } else { Err(io::ErrorKind::InvalidInput.into()) }
}

fn send(to: BorrowedFd<'_>, packet: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut along = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !along.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // Whoever is gone is told of by the error, and not by a signal.
    sendmsg(to, &[IoSlice::new(packet)], &mut along, SendFlags::NOSIGNAL)?;
    Ok(())
}

fn receive(from: BorrowedFd<'_>) -> io::Result<Option<(Message, Vec<OwnedFd>)>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut along = RecvAncillaryBuffer::new(&mut space);
    let mut packet = vec![0; PACKET_MAX];
    let received = match recvmsg(from, &mut [IoSliceMut::new(&mut packet)], &mut along, RecvFlags::CMSG_CLOEXEC) {
        Ok(received) => received,
        // Whoever was killed with something unread has gone, too.
        Err(rustix::io::Errno::CONNRESET) => return Ok(None),
        Err(fault) => return Err(fault.into()),
    };
    let mut descriptors = Vec::new();
    for message in along.drain() {
        if let RecvAncillaryMessage::ScmRights(sent) = message {
            descriptors.extend(sent);
        }
    }
    if received.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
        return Err(io::ErrorKind::InvalidData.into());
    }
    match packet.get(..received.bytes).filter(|packet| !packet.is_empty()) {
        Some(packet) => Ok(Some((serde_json::from_slice(packet)?, descriptors))),
        None => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[tokio::test]
    async fn sockets_and_words_arrive_whole_and_in_order() {
        let (ours, theirs) = pair().unwrap();
        let theirs = End::new(theirs);
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let places = vec!["127.0.0.1:0".to_owned()];
        ours.send(&Message::Sockets { places: places.clone(), is_last: true }, &[socket.as_fd()]).unwrap();
        ours.send(&Message::All { horizon: 7 }, &[]).unwrap();
        let Some((Message::Sockets { places: told, is_last: true }, mut descriptors)) = theirs.receive().unwrap()
        else {
            panic!("another message")
        };
        let arrived = TcpListener::from(descriptors.remove(0));
        assert_eq!((told, arrived.local_addr().unwrap()), (places, socket.local_addr().unwrap()));
        let wire = theirs.wire().unwrap();
        assert!(matches!(wire.receive().await.unwrap(), Some(Message::All { horizon: 7 })));
        drop(ours);
        assert!(wire.receive().await.unwrap().is_none(), "it is gone");
        assert!(wire.send(&Message::Alive).await.is_err());
    }

    #[test]
    fn too_long_is_refused_and_not_cut() {
        let (ours, _theirs) = pair().unwrap();
        let why = "x".repeat(PACKET_MAX);
        assert_eq!(ours.send(&Message::Failed { why }, &[]).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
}
