//! HTTP/2: many streams at once, each a request.

use super::brake::Brake;
use super::frames::{Backlog, Frames};
use super::link::Link;
use super::{Front, Source};
use crate::config::Limits;
use crate::drain::Watch;
use crate::hangup::Hangup;
use crate::refusal::Refusal;
use http::{HeaderName, HeaderValue};
use pingora::http::RequestHeader;
use pingora::protocols::http::ServerSession;
use pingora::protocols::http::v2::server::{H2Accept, H2Options, HttpSession, default_h2_options, handshake};
use pingora::protocols::{Digest, Stream};
use std::{future::poll_fn, pin::pin, sync::Arc, time::Duration};
use tokio::time;

/// Streams of a connection that may be malformed before it ends.
const MALFORMED_MAX: usize = 32;
/// Streams that were reset and are still remembered.
const RESET_MAX: usize = 20;
/// How long a client that was told to go may take to.
const FAREWELL: Duration = Duration::from_secs(1);

/// Serves a connection to its end.
pub(super) async fn serve(front: &Front, stream: Stream, drain: Watch) -> Result<(), Hangup> {
    let Some(limits) = front.limits() else { return Ok(()) };
    let digest = Arc::new(Digest {
        ssl_digest: stream.get_ssl_digest(),
        timing_digest: stream.get_timing_digest(),
        proxy_digest: stream.get_proxy_digest(),
        socket_digest: stream.get_socket_digest(),
    });
    let served = serve_streams(front, stream, &digest, &limits, drain).await;
    served.inspect_err(|hangup| front.hung_up(*hangup, &digest))
}

async fn serve_streams(
    front: &Front,
    stream: Stream,
    digest: &Arc<Digest>,
    limits: &Limits,
    mut drain: Watch,
) -> Result<(), Hangup> {
    let backlog = Backlog::default();
    let shaking = handshake(Box::new(Frames::new(stream, backlog.clone())), Some(options(limits)));
    let Ok(Ok(mut connection)) = time::timeout(limits.head_timeout, shaking).await else { return Ok(()) };
    // Each stream holds one.
    let open = Arc::new(());
    let (mut malformed, mut is_draining, mut idle) = (0_usize, false, limits.head_timeout);
    loop {
        let accepted = tokio::select! {
            biased;
            () = drain.wait(), if !is_draining => {
                connection.graceful_shutdown();
                is_draining = true;
                continue;
            }
            accepted = taking(&backlog, HttpSession::from_h2_conn(&mut connection, Arc::clone(digest))) => accepted,
            () = time::sleep(idle) => {
                match (Arc::strong_count(&open) == 1, is_draining) {
                    (true, true) => return Ok(()),
                    (true, false) => {
                        connection.graceful_shutdown();
                        (is_draining, idle) = (true, FAREWELL);
                    }
                    (false, _) => {}
                }
                continue;
            }
        };
        match accepted {
            Ok(Some(H2Accept::Session(session))) => {
                (idle, malformed) = (limits.idle_timeout, malformed.saturating_sub(1));
                let (session, link) = lightened(session, limits, backlog.brake());
                if link.had_too_large_a_head() {
                    backlog.pause_for(1);
                }
                let (backlog, open) = (backlog.clone(), Arc::clone(&open));
                tokio::spawn(request(front.clone(), session, link, drain.clone(), backlog, open));
            }
            Ok(Some(H2Accept::Rejected)) => {
                let source = Source { tls: digest.ssl_digest.clone(), socket: digest.socket_digest.clone() };
                front.refused(&source, Refusal::MalformedRequest).answered_by_library();
                malformed += 1;
                if malformed >= MALFORMED_MAX {
                    return Err(Hangup::Http2Broken);
                }
            }
            Ok(None) => return Ok(()),
            Err(fault) => {
                let broken = fault.to_string().contains("connection error detected").then_some(Hangup::Http2Broken);
                let hangup = backlog.was_flooded().then_some(Hangup::Http2Flood).or(broken);
                return hangup.map_or(Ok(()), Err);
            }
        }
    }
}

/// Tells the backlog what becomes of it.
async fn taking<T>(backlog: &Backlog, accepting: impl Future<Output = T>) -> T {
    let mut accepting = pin!(accepting);
    let accepted = poll_fn(|cx| {
        let polled = accepting.as_mut().poll(cx);
        if polled.is_pending() {
            backlog.clear();
        }
        polled
    });
    let accepted = accepted.await;
    backlog.taken();
    accepted
}

/// A request without its head, if that has too many fields: it will be refused, and a hundred such heads that wait for
/// their refusals would fill the memory.
fn lightened(mut session: HttpSession, limits: &Limits, brake: Arc<Brake>) -> (HttpSession, Arc<Link>) {
    let link = Arc::new(Link::new(limits.body_rate_min, brake));
    let head = session.req_header();
    let length =
        |(name, value): (&HeaderName, &HeaderValue)| name.as_str().len().saturating_add(value.len()).saturating_add(4);
    let bytes: usize = head.headers.iter().map(length).sum::<usize>().saturating_add(head.raw_path().len());
    if head.headers.len() > limits.headers || bytes > limits.head {
        link.head_is_too_large();
        if let Ok(mut light) = RequestHeader::build(head.method.clone(), head.raw_path(), None) {
            light.set_uri(head.uri.clone());
            light.set_version(head.version);
            *session.req_header_mut() = light;
        }
    }
    (session, link)
}

async fn request(front: Front, session: HttpSession, link: Arc<Link>, drain: Watch, backlog: Backlog, _open: Arc<()>) {
    let session = ServerSession::new_http2(session);
    // There is nothing to be used again: the connection is the loop's.
    drop(front.request(session, &link, &drain).await);
    backlog.answered(link.was_unproven());
}

/// From the library's bounds, with ours: the most that a connection's heads can hold is streams times head.
fn options(limits: &Limits) -> H2Options {
    let mut options = default_h2_options();
    // What the library refuses has no record, so it refuses only what is far beyond; each field counts 32 bytes more there.
    let list = limits.head.saturating_mul(2).saturating_add(limits.headers.saturating_mul(32));
    options.max_header_list_size(u32::try_from(list).unwrap_or(u32::MAX));
    options.max_concurrent_streams(limits.streams);
    options.max_concurrent_reset_streams(RESET_MAX);
    options.max_pending_accept_reset_streams(RESET_MAX);
    // Faults that make us reset a stream are cheap to make: few of them end the connection (CVE-2025-8671).
    options.max_local_error_reset_streams(Some(RESET_MAX));
    options
}
