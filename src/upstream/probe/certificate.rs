//! When servers' certificates expire: seen in a handshake of our own, now and then.

use super::http::said;
use super::jittered;
use crate::clock::{Clock, System, UnixSeconds};
use crate::upstream::server::ServerState;
use crate::upstream::way::{Purpose, Way};
use pingora::upstreams::peer::Peer;
use rustls::pki_types::ServerName;
use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};
use tokio::time;
use tokio_rustls::TlsConnector;
use x509_parser::prelude::{FromDer, X509Certificate};

const LOOK_EVERY: Duration = Duration::from_secs(60);
const LOOK_WITHIN: Duration = Duration::from_secs(10);

/// Looks again and again. That a server cannot be reached, or has a certificate that is not good, is for its check to say.
pub(super) async fn follow(server: Arc<ServerState>, way: Arc<Way>) {
    loop {
        match time::timeout(LOOK_WITHIN, Box::pin(look(&server, &way))).await {
            Ok(Ok(Some(ends))) => {
                server.certificate_ends.store(ends, Ordering::Relaxed);
                server.metrics.certificate_ends(ends);
            }
            Ok(Ok(None)) => {}
            Ok(Err(fault)) => {
                log::debug!("pool {} server {}: its certificate is not seen: {fault}", server.pool, server.name)
            }
            Err(_) => log::debug!("pool {} server {}: its certificate is not seen in time", server.pool, server.name),
        }
        time::sleep(jittered(LOOK_EVERY)).await;
    }
}

/// When the certificate ends that the server shows.
async fn look(server: &Arc<ServerState>, way: &Way) -> Result<Option<UnixSeconds>, String> {
    let Some(tls) = &way.tls else { return Ok(None) };
    let peer = way.to(server, Purpose { is_look: true, ..Purpose::default() }).map_err(said)?;
    let dial = peer.options.custom_l4.as_ref().ok_or("there is no way to it")?;
    let stream = dial.connect(peer.address()).await.map_err(said)?;
    let name = ServerName::try_from(tls.sni().to_owned()).map_err(|fault| fault.to_string())?;
    let stream =
        TlsConnector::from(tls.client(way.speaks_h2)).connect(name, stream).await.map_err(|fault| fault.to_string())?;
    let (_, session) = stream.get_ref();
    let leaf = session.peer_certificates().and_then(|chain| chain.first()).ok_or("it shows no certificate")?;
    let (_, leaf) = X509Certificate::from_der(leaf).map_err(|fault| fault.to_string())?;
    Ok(Some(leaf.validity().not_after.timestamp()))
}

/// What is wrong with a certificate that has to last for so long.
pub(super) fn fault(server: &ServerState, lasts: Duration) -> Option<String> {
    let ends = server.certificate_ends.load(Ordering::Relaxed);
    if lasts.is_zero() || ends == UnixSeconds::MAX {
        return None;
    }
    let left = ends.saturating_sub(System.now().unix_seconds());
    let needed = UnixSeconds::try_from(lasts.as_secs()).unwrap_or(UnixSeconds::MAX);
    let days = |seconds: UnixSeconds| seconds.max(0) / (24 * 60 * 60);
    (left < needed)
        .then(|| format!("its certificate ends in {} days, and it is to last for {}", days(left), days(needed)))
}
