//! Sockets to listen on: made at an address, made at a path, or taken over from the service manager.

use crate::config::Bind;
use pingora::protocols::l4::stream::Stream as Raw;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with, sockopt};
use std::{
    collections::HashMap,
    fmt, fs, io,
    net::{SocketAddr, TcpListener as StdTcp},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt},
    os::unix::net::{UnixListener as StdUnix, UnixStream as StdUnixStream},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};
use tokio::net::{TcpListener, UnixListener};

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 4096;
/// Who may connect to a Unix socket: its owner and group.
const SHARED_MODE: u32 = 0o660;
/// Who may connect to the operators' one: its owner only.
pub(super) const PRIVATE_MODE: u32 = 0o600;
/// Everybody, where it is asked who it is.
pub(super) const PUBLIC_MODE: u32 = 0o666;

/// A socket that the service manager has opened.
#[derive(Debug)]
pub enum Inherited {
    /// At an address.
    Tcp(StdTcp),
    /// At a path.
    Unix(StdUnix),
}

impl AsFd for Inherited {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(socket) => socket.as_fd(),
            Self::Unix(socket) => socket.as_fd(),
        }
    }
}

impl Inherited {
    /// What a descriptor is.
    pub(super) fn of(descriptor: OwnedFd) -> io::Result<Self> {
        match sockopt::socket_domain(&descriptor)? {
            AddressFamily::UNIX => Ok(Self::Unix(StdUnix::from(descriptor))),
            _ => Ok(Self::Tcp(StdTcp::from(descriptor))),
        }
    }
}

/// The sockets that the service manager has opened, by name; several may have the same.
pub type InheritedSockets = HashMap<String, Vec<Inherited>>;

/// A socket that listens. A clone is the same socket: who waits to be accepted waits for both.
#[derive(Debug, Clone)]
pub(super) enum Bound {
    Tcp(Arc<StdTcp>, SocketAddr),
    Unix(Arc<StdUnix>, Arc<OwnPath>),
}

/// The same, ready to accept.
pub(super) enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// A connection, as it is accepted.
pub(super) struct Accepted {
    pub(super) stream: Raw,
    /// The address at its other end; none at a path.
    pub(super) peer: Option<SocketAddr>,
    /// The user at its other end; none at an address.
    pub(super) user: Option<u32>,
}

/// A path that is removed when nobody listens at it any more.
#[derive(Debug)]
pub(super) struct OwnPath {
    path: PathBuf,
    /// Device and inode.
    made: Option<(u64, u64)>,
    /// Another process listens there, too.
    is_given_away: AtomicBool,
}

impl OwnPath {
    fn new(path: PathBuf) -> Self {
        let made = identity(&path);
        Self { path, made, is_given_away: AtomicBool::new(false) }
    }
}

impl Drop for OwnPath {
    fn drop(&mut self) {
        // Somebody else may have removed it, or have put his own in its place.
        if self.made.is_some() && !self.is_given_away.load(Ordering::Relaxed) && identity(&self.path) == self.made {
            fs::remove_file(&self.path).ok();
        }
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    fs::symlink_metadata(path).ok().map(|found| (found.dev(), found.ino()))
}

impl Bound {
    /// Binds, so that a taken address shows before anything is served. Several sockets may be inherited by one name, and
    /// stay there to be taken again.
    pub(super) fn all(bind: &Bind, inherited: &InheritedSockets) -> io::Result<Vec<Self>> {
        match bind {
            Bind::Tcp(address) => Self::tcp(*address).map(|bound| vec![bound]),
            Bind::Unix(path) => Self::at(path, SHARED_MODE).map(|bound| vec![bound]),
            Bind::Inherited(name) => {
                let missing =
                    || io::Error::new(io::ErrorKind::NotFound, "the service manager passed no socket of that name");
                inherited.get(name).ok_or_else(missing)?.iter().map(Self::inherited).collect()
            }
        }
    }

    /// Takes over a socket that the process that is replaced has bound. Its path stays that one's to remove, until it is
    /// [taken](Self::give_away).
    pub(super) fn taken_over(socket: &Inherited) -> io::Result<Self> {
        let path = match socket {
            Inherited::Unix(socket) => socket.local_addr()?.as_pathname().map(Path::to_owned),
            Inherited::Tcp(_) => None,
        };
        let bound = match (Self::inherited(socket)?, path) {
            (Self::Unix(socket, _), Some(path)) => Self::Unix(socket, Arc::new(OwnPath::new(path))),
            (bound, _) => bound,
        };
        bound.give_away(true);
        Ok(bound)
    }

    /// Leaves the path to another process, or takes it.
    pub(super) fn give_away(&self, is_given_away: bool) {
        if let Self::Unix(_, path) = self {
            path.is_given_away.store(is_given_away, Ordering::Relaxed);
        }
    }

    fn inherited(socket: &Inherited) -> io::Result<Self> {
        match socket {
            Inherited::Tcp(socket) => {
                socket.set_nonblocking(true)?;
                let address = socket.local_addr()?;
                Ok(Self::Tcp(Arc::new(socket.try_clone()?), address))
            }
            Inherited::Unix(socket) => {
                socket.set_nonblocking(true)?;
                // Its path is the service manager's to remove.
                Ok(Self::Unix(Arc::new(socket.try_clone()?), Arc::new(OwnPath::new(PathBuf::new()))))
            }
        }
    }

    fn tcp(address: SocketAddr) -> io::Result<Self> {
        let socket = at_address(address)?;
        let address = socket.local_addr()?;
        Ok(Self::Tcp(Arc::new(socket), address))
    }

    /// Binds a path that only its owner can open.
    pub(super) fn private(path: &Path) -> io::Result<Self> {
        Self::at(path, PRIVATE_MODE)
    }

    fn at(path: &Path, mode: u32) -> io::Result<Self> {
        let socket = at_path(path, mode)?;
        Ok(Self::Unix(Arc::new(socket), Arc::new(OwnPath::new(path.to_owned()))))
    }

    /// The address, if it is one.
    pub(super) const fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(_, address) => Some(*address),
            Self::Unix(..) => None,
        }
    }

    pub(super) fn listen(&self) -> io::Result<Socket> {
        match self {
            Self::Tcp(socket, _) => TcpListener::from_std(socket.try_clone()?).map(Socket::Tcp),
            Self::Unix(socket, _) => UnixListener::from_std(socket.try_clone()?).map(Socket::Unix),
        }
    }
}

impl AsFd for Bound {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(socket, _) => socket.as_fd(),
            Self::Unix(socket, _) => socket.as_fd(),
        }
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(_, address) => address.fmt(f),
            Self::Unix(_, own) => write!(f, "unix:{}", own.path.display()),
        }
    }
}

impl Socket {
    /// The next connection.
    pub(super) async fn accept(&self) -> io::Result<Accepted> {
        match self {
            Self::Tcp(socket) => {
                let (stream, peer) = socket.accept().await?;
                if let Err(fault) = stream.set_nodelay(true) {
                    log::debug!("{peer}: {fault}");
                }
                // On a socket for both families an IPv4 client comes in IPv6's clothes.
                let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
                Ok(Accepted { stream: stream.into(), peer: Some(peer), user: None })
            }
            Self::Unix(socket) => {
                let (stream, _unnamed) = socket.accept().await?;
                let user = stream.peer_cred()?.uid();
                Ok(Accepted { stream: stream.into(), peer: None, user: Some(user) })
            }
        }
    }
}

fn at_address(address: SocketAddr) -> io::Result<StdTcp> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(family, SocketType::STREAM, flags, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if address.is_ipv6() {
        // `[::]` and `0.0.0.0` are written one by one, so neither takes the other's place.
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    bind(&socket, &address)?;
    listen(&socket, BACKLOG)?;
    Ok(StdTcp::from(socket))
}

/// Listens at a path. A socket that a process left there and nobody serves any more makes room; anything else does not.
fn at_path(path: &Path, mode: u32) -> io::Result<StdUnix> {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket());
    if is_socket && StdUnixStream::connect(path).is_err_and(|fault| fault.kind() == io::ErrorKind::ConnectionRefused) {
        fs::remove_file(path)?;
    }
    let socket =
        socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)?;
    bind(&socket, &SocketAddrUnix::new(path)?)?;
    // Before it listens nobody can connect, whatever its first mode.
    fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    listen(&socket, BACKLOG)?;
    Ok(StdUnix::from(socket))
}
