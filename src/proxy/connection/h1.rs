//! HTTP/1.1: one message after the other.

use super::Front;
use super::brake::{Brake, PAUSE};
use super::link::Link;
use super::message::{Head, Message};
use crate::config::Limits;
use crate::drain::Watch;
use crate::proxy::respond;
use crate::refusal::Refusal;
use pingora::protocols::http::ServerSession;
use pingora::protocols::{Shutdown, Stream};
use std::{sync::Arc, time::Duration};
use tokio::io::AsyncWriteExt;
use tokio::time;

/// What `Keep-Alive` would say, in seconds; the connection is ours to keep, so it only says that it is kept.
const KEPT: u64 = 60;

/// How long a connection may bring a last request after the drain has begun. It is answered with `Connection: close`:
/// a client that keeps a connection busy is told so before it ends, and does not lose what it sends in that moment.
const FAREWELL: Duration = Duration::from_secs(1);

/// Serves a connection to its end.
pub(super) async fn serve(front: &Front, stream: Stream, mut drain: Watch) {
    let mut message = Box::new(Message::new(stream));
    let (mut is_first, brake) = (true, Arc::<Brake>::default());
    loop {
        let Some(limits) = front.limits() else { return };
        let head = match next_head(&mut message, &limits, is_first, &mut drain).await {
            Ok(head) => head,
            Err(Some(refusal)) => return refuse(front, &mut message, refusal).await,
            Err(None) => return,
        };
        is_first = false;
        let link = Arc::new(Link::new(limits.body_rate_min, Arc::clone(&brake)));
        link.may_send(!head.expects);
        let source = message.source();
        message.serve(head.framing, Arc::clone(&link));
        let mut session = ServerSession::new_http1(message);
        session.set_pipelined_prefix(head.bytes);
        session.set_keepalive(if *drain.receiver().borrow() { None } else { Some(KEPT) });
        let reused = front.request(session, &link, &drain).await;
        if !link.was_judged() {
            // What Pingora itself could not read in spite of us.
            front.refused(&source, Refusal::MalformedRequest).answered_by_library();
        }
        let Some(reused) = reused else { return };
        if brake.answered(link.was_unproven()) {
            time::sleep(PAUSE).await;
        }
        let (stream, _settings) = reused.consume();
        match stream.into_any().downcast::<Message>() {
            Ok(served) if served.is_over() => message = served,
            // What is left of a message must never be read as the next one.
            Ok(_) | Err(_) => return,
        }
    }
}

/// The next head; nothing if the connection ends before it begins.
async fn next_head(
    message: &mut Message,
    limits: &Limits,
    is_first: bool,
    drain: &mut Watch,
) -> Result<Head, Option<Refusal>> {
    let patience = if is_first { limits.head_timeout } else { limits.idle_timeout };
    let began = async { matches!(time::timeout(patience, message.begins()).await, Ok(Ok(true))) };
    let farewell = async {
        drain.wait().await;
        time::sleep(FAREWELL).await;
    };
    let began = tokio::select! {
        biased;
        began = began => began,
        () = farewell => false,
    };
    if !began {
        return Err(None);
    }
    let head = message.head((limits.head, limits.headers));
    time::timeout(limits.head_timeout, head).await.unwrap_or(Err(Some(Refusal::HeadTooSlow)))
}

/// Answers what cannot be read, and ends the connection.
async fn refuse(front: &Front, message: &mut Message, refusal: Refusal) {
    let mut exchange = front.refused(&message.source(), refusal);
    let answer = respond::Answer::new(&exchange, refusal);
    let connection = message.connection();
    let written = async {
        connection.write_all(&answer.to_wire()).await?;
        connection.flush().await
    };
    if written.await.is_ok() {
        exchange.answered_unread(&answer);
        // Who waits for the end of the connection has it now, and who still sends is heard out a little.
        Shutdown::shutdown(&mut **connection).await;
        respond::discard(connection).await;
    }
}
