//! Sockets that the service manager opens and passes on: `LISTEN_FDS` and `LISTEN_FDNAMES` of systemd.

use crate::server::{Inherited, InheritedSockets};
use listenfd::ListenFd;

/// The sockets that were passed to this process, by name; one without a name is called by its number, from 0.
pub(super) fn sockets() -> InheritedSockets {
    let mut passed = ListenFd::from_env();
    #[expect(clippy::disallowed_methods, reason = "this is how the service manager passes the names")]
    let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = names.split(':');
    let mut sockets = InheritedSockets::new();
    for index in 0..passed.len() {
        let name = names.next().filter(|name| !name.is_empty());
        let name = name.map_or_else(|| index.to_string(), str::to_owned);
        let tcp = passed.take_tcp_listener(index).ok().flatten().map(Inherited::Tcp);
        let unix = || passed.take_unix_listener(index).ok().flatten().map(Inherited::Unix);
        match tcp.or_else(unix) {
            Some(socket) => sockets.entry(name).or_default().push(socket),
            None => ::log::warn!("the service manager passed `{name}`, which is no socket that listens"),
        }
    }
    sockets
}
