//! Who reads metrics and health from elsewhere: a workload that the config allows, judged with every request.

use super::reply::Reply;
use crate::config::AdminHttps;
use crate::identity;
use crate::principal::Workload;
use crate::refusal::Refusal;
use crate::runtime::{Live, Snapshot};
use crate::tls::Client;
use http::header::HOST;
use http::{StatusCode, uri::Authority};
use pingora::protocols::http::ServerSession;
use std::sync::Arc;

/// Whether a request is for us, and from a workload that may read. Who may not is in the process log.
///
/// # Errors
/// The refusal.
pub(super) fn may_read(live: &Live, session: &ServerSession) -> Result<(), Reply> {
    let tls = session.digest().and_then(|digest| digest.ssl_digest.as_ref());
    let refused = |told: String| {
        log::warn!(
            "metrics and health are not shown to {}: {told}",
            session.client_addr().map_or_else(String::new, ToString::to_string)
        );
        Reply::text(StatusCode::FORBIDDEN, told)
    };
    let client = tls.and_then(|tls| tls.extension.get::<Client>()).ok_or_else(|| refused("no TLS".into()))?;
    if !asks_for(client, session) {
        return Err(Reply::text(StatusCode::MISDIRECTED_REQUEST, "ask for a name of the certificate that was shown"));
    }
    let snapshot = live.snapshot();
    let workload = workload(live, &snapshot, client).map_err(|refusal| refused(refusal.facts().explain.to_owned()))?;
    let https = snapshot.config.admin_https.as_ref();
    match https.and_then(|https| https.allow.rule_for(&workload.name, workload.roles.iter())) {
        Some(_rule) => Ok(()),
        None => Err(refused(format!("{} may not read here: see admin.https.allow", workload.name))),
    }
}

/// Whose certificate it is, by the CAs and revocation lists that count now.
fn workload<'a>(live: &Live, snapshot: &'a Snapshot, client: &Client) -> Result<&'a Arc<Workload>, Refusal> {
    let entrance = snapshot.entrances.get(AdminHttps::NAME);
    let authorities = entrance.and_then(|entrance| entrance.authorities.as_ref());
    let authorities = authorities.ok_or(Refusal::CertificateUntrusted)?;
    let peer = client.peer.as_ref().ok_or(Refusal::CertificateMissing)?;
    identity::recognise(peer, authorities, &snapshot.trust, live.state().clock.now())
}

/// RFC 9110 § 7.4: the certificate said for which hosts this connection is. Pingora has refused several Hosts, and an
/// authority that is another than Host.
fn asks_for(client: &Client, session: &ServerSession) -> bool {
    let head = session.req_header();
    let host = head.headers.get(HOST).and_then(|host| host.to_str().ok());
    let authority = host.map_or_else(|| head.uri.authority().cloned(), |host| host.parse::<Authority>().ok());
    authority.is_some_and(|authority| client.names.cover(&authority.host().to_ascii_lowercase()))
}
