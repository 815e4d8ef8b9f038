//! Who reads metrics and health from elsewhere: a workload that the config allows, judged with every request.

use super::reply::Reply;
use crate::config::AdminHttps;
use crate::identity;
use crate::policy::AllowList;
use crate::principal::Workload;
use crate::runtime::{Live, Snapshot};
use crate::tls::Client;
use http::header::HOST;
use http::{StatusCode, uri::Authority};
use pingora::protocols::http::ServerSession;
use std::sync::Arc;

/// Whether a request is for us, and from a workload that may read.
///
/// # Errors
/// The refusal.
pub(super) fn may_read(live: &Live, session: &ServerSession) -> Result<(), Reply> {
    let snapshot = live.snapshot();
    let refused = |told: &str| Reply::text(StatusCode::FORBIDDEN, told.to_owned());
    let tls = session.digest().and_then(|digest| digest.ssl_digest.as_ref());
    let client = tls.and_then(|tls| tls.extension.get::<Client>()).ok_or_else(|| refused("no TLS"))?;
    if !asks_for(client, session) {
        return Err(Reply::text(StatusCode::MISDIRECTED_REQUEST, "ask for a name of the certificate that was shown"));
    }
    let workload = workload(live, &snapshot, client).ok_or_else(|| refused("the certificate is no workload's now"))?;
    let https = snapshot.config.admin_https.as_ref();
    let rule = https.and_then(|https| AllowList::rule_for(&https.allow, workload));
    rule.map(|_rule| ()).ok_or_else(|| refused(&format!("{} may not read here: see admin.https.allow", workload.name)))
}

/// Whose certificate it is, by the CAs and revocation lists that count now.
fn workload<'a>(live: &Live, snapshot: &'a Snapshot, client: &Client) -> Option<&'a Arc<Workload>> {
    let authorities = snapshot.entrances.get(AdminHttps::NAME)?.authorities.as_ref()?;
    identity::recognise(client.peer.as_ref()?, authorities, &snapshot.trust, live.state().clock.now()).ok()
}

/// RFC 9110 § 7.4: the certificate said for which hosts this connection is.
fn asks_for(client: &Client, session: &ServerSession) -> bool {
    let head = session.req_header();
    let host = head.headers.get(HOST).and_then(|host| host.to_str().ok());
    let authority = host.map_or_else(|| head.uri.authority().cloned(), |host| host.parse::<Authority>().ok());
    authority.is_some_and(|authority| client.names.cover(&authority.host().to_ascii_lowercase()))
}
