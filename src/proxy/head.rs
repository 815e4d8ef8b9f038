//! The head of a request: read into facts, and cleaned of what is not the client's to say.

use super::heads;
use crate::refusal::Refusal;
use crate::request::headers::{EDGE_IDENTITY, is_framing, is_ours};
use crate::request::{Facts, Head, Protocol};
use crate::runtime::Entrance;
use crate::tls::Client;
use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, EXPECT, HOST, TE, TRAILER, UPGRADE};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Version};
use pingora_proxy::Session;
use std::sync::Arc;

/// A head that has one reading.
pub(super) struct Clear {
    /// What decisions read.
    pub(super) facts: Arc<Facts>,
    connection: Connection,
}

/// What `Connection` says, sorted.
#[derive(Default)]
struct Connection {
    /// What is about the connection itself: `close`, `keep-alive`, `upgrade`.
    options: Vec<String>,
    /// Headers that end here.
    named: Vec<String>,
}

/// Reads a head. Nothing of it is changed, and everything that could be refused later is refused here, before the
/// decision is recorded.
///
/// # Errors
/// What is malformed.
pub(super) fn read(session: &Session) -> Result<Clear, Refusal> {
    let request = session.req_header();
    let is_h2 = request.version == Version::HTTP_2;
    // RFC 9113 § 8.3.1: HTTP/2 comes over TLS only here, so no other scheme can be meant.
    if request.method == Method::CONNECT {
        return Err(Refusal::ConnectRefused);
    }
    if is_h2 && request.uri.scheme_str().is_some_and(|scheme| scheme != "https") {
        return Err(Refusal::MalformedTarget);
    }
    let head = Head {
        method: &request.method,
        target: request.raw_path(),
        authority: request.uri.authority().filter(|_| is_h2).map(http::uri::Authority::as_str),
        hosts: first_two(&request.headers, &HOST),
        protocol: if is_h2 { Protocol::Http2 } else { Protocol::Http1 },
    };
    let facts = Arc::new(Facts::read(&head)?);
    if first_two(&request.headers, &EXPECT)
        .into_iter()
        .flatten()
        .any(|value| !value.eq_ignore_ascii_case(b"100-continue"))
    {
        return Err(Refusal::ExpectationRefused);
    }
    if !is_framed_once(&request.headers) {
        return Err(Refusal::MalformedRequest);
    }
    Ok(Clear { facts, connection: connection(&request.headers)? })
}

/// Whether a head with one reading is for this listener, by this connection, and not too much.
///
/// # Errors
/// What it is not.
pub(super) fn fits(session: &Session, facts: &Facts, entrance: &Entrance) -> Result<(), Refusal> {
    let request = session.req_header();
    // RFC 9110 § 7.4: the certificate said for which hosts this connection is.
    if client(session).is_some_and(|client| !client.names.cover(&facts.host)) {
        return Err(Refusal::WrongAuthority);
    }
    let came_to = session.server_addr().and_then(|address| address.as_inet()).map(std::net::SocketAddr::port);
    let is_ours = |port: u16| entrance.ports.contains(&port) || came_to == Some(port);
    if facts.port().is_some_and(|port| !is_ours(port)) {
        return Err(Refusal::MalformedAuthority);
    }
    if request.headers.len() > entrance.limits.headers {
        return Err(Refusal::HeadTooLarge);
    }
    let length = request.headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|length| length > entrance.limits.body) { Err(Refusal::BodyTooLarge) } else { Ok(()) }
}

/// RFC 9112 § 6.3: one length, once. `Content_Length` and its like are read as framing by servers that turn `_` to `-`.
fn is_framed_once(headers: &HeaderMap) -> bool {
    let lengths = first_two(headers, &CONTENT_LENGTH);
    let one_length = match lengths {
        [None, _] => true,
        [Some(length), None] => !length.is_empty() && length.iter().all(u8::is_ascii_digit),
        [Some(_), Some(_)] => false,
    };
    let in_disguise = |name: &HeaderName| name.as_str().contains('_') && is_framing(&name.as_str().replace('_', "-"));
    one_length && !headers.keys().any(in_disguise)
}

/// RFC 9110 § 7.6.1: `Connection` names headers of this connection. One that frames the message or names the host
/// cannot end here, and must not: Pingora reads the framing from the head only when it comes to the body.
fn connection(headers: &HeaderMap) -> Result<Connection, Refusal> {
    let mut connection = Connection::default();
    for value in headers.get_all(CONNECTION) {
        let value = value.to_str().map_err(|_not_text| Refusal::MalformedRequest)?;
        for option in value.split(',').map(|option| option.trim().to_ascii_lowercase()) {
            match option.as_str() {
                "" => {}
                "close" | "keep-alive" | "upgrade" | "te" | "http2-settings" => connection.options.push(option),
                name if is_framing(name) => return Err(Refusal::MalformedRequest),
                _ => connection.named.push(option),
            }
        }
    }
    Ok(connection)
}

/// The first two tokens; two are one too many.
pub(super) fn tokens(session: &Session) -> [Option<&[u8]>; 2] {
    first_two(&session.req_header().headers, &EDGE_IDENTITY)
}

/// What the handshake told, if there was one.
pub(super) fn client(session: &Session) -> Option<&Client> {
    session.digest()?.ssl_digest.as_ref()?.extension.get()
}

fn first_two<'a>(headers: &'a HeaderMap, name: &HeaderName) -> [Option<&'a [u8]>; 2] {
    let mut values = headers.get_all(name).iter().map(HeaderValue::as_bytes);
    [values.next(), values.next()]
}

/// Takes out the headers that only we set, the user's token, and those that `Connection` names, leaves in `Connection`
/// only what is about the connection, so that it cannot take out what filters set later, and leaves of the target what was
/// judged.
///
/// # Errors
/// [`Refusal::Internal`] if a header that was there cannot be set again.
pub(super) fn clean(session: &mut Session, clear: &Clear, users: Option<&HeaderName>) -> Result<(), Refusal> {
    let request = session.req_header_mut();
    heads::change_request(request, |parts| clean_headers(parts, clear, users))?;
    if request.raw_path() == clear.facts.target.as_bytes() {
        return Ok(());
    }
    // An absolute target was judged by its path, and goes on as that.
    request.set_raw_path(clear.facts.target.as_bytes()).map_err(|_unfit| Refusal::Internal)
}

fn clean_headers(parts: &mut Parts, clear: &Clear, users: Option<&HeaderName>) -> Result<(), Refusal> {
    let headers = &mut parts.headers;
    if let Some(name) = users {
        headers.remove(name);
    }
    let unwanted: Vec<_> = headers.keys().filter(|name| is_ours(name.as_str())).cloned().collect();
    for name in &unwanted {
        headers.remove(name);
    }
    for name in &clear.connection.named {
        headers.remove(name.as_str());
    }
    let tunnels = is_websocket(headers);
    if !tunnels {
        // No other protocol is changed to, so nobody is asked to.
        headers.remove(UPGRADE);
    }
    headers.remove("http2-settings");
    // What it announces is dropped.
    headers.remove(TRAILER);
    if parts.version == Version::HTTP_2 {
        one_cookie(headers)?;
    }
    only_trailers(headers);
    if headers.remove(CONNECTION).is_some() {
        let kept = |option: &&String| tunnels || (*option != "upgrade" && *option != "http2-settings");
        let options: Vec<_> = clear.connection.options.iter().filter(kept).map(String::as_str).collect();
        if !options.is_empty() {
            headers.insert(CONNECTION, value(options.join(", "))?);
        }
    }
    Ok(())
}

fn value(text: impl Into<Bytes>) -> Result<HeaderValue, Refusal> {
    HeaderValue::from_maybe_shared(text.into()).map_err(|_unfit| Refusal::Internal)
}

/// Whether it asks for a tunnel, in which nothing may come for long.
pub(super) fn asks_for_tunnel(session: &Session) -> bool {
    is_websocket(&session.req_header().headers)
}

/// Whether it is a gRPC call, in which both sides may be silent for long. A content type alone is not enough to be
/// spared the pace of a body.
pub(super) fn calls_grpc(session: &Session) -> bool {
    let head = session.req_header();
    let trailers = head.headers.get(TE).is_some_and(|te| te.as_bytes().eq_ignore_ascii_case(b"trailers"));
    session.is_http2() && head.method == Method::POST && trailers && is_grpc(&head.headers)
}

/// <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>
pub(super) fn is_grpc(headers: &HeaderMap) -> bool {
    let rest = headers.get(CONTENT_TYPE).and_then(|kind| kind.as_bytes().strip_prefix(b"application/grpc"));
    rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

/// Whether the content has no end of its own: gRPC, and events (HTML § 9.2).
pub(super) fn is_stream(headers: &HeaderMap) -> bool {
    let is_event = |kind: &HeaderValue| kind.as_bytes().to_ascii_lowercase().starts_with(b"text/event-stream");
    is_grpc(headers) || headers.get(CONTENT_TYPE).is_some_and(is_event)
}

/// RFC 6455 § 4.1, the one protocol that a connection may change to.
fn is_websocket(headers: &HeaderMap) -> bool {
    matches!(first_two(headers, &UPGRADE), [Some(protocol), None] if protocol.eq_ignore_ascii_case(b"websocket"))
}

/// RFC 9113 § 8.2.3: the pieces into which HTTP/2 may cut a cookie are one again.
fn one_cookie(headers: &mut HeaderMap) -> Result<(), Refusal> {
    let pieces: Vec<_> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if pieces.len() > 1 {
        let whole = value(pieces.join(&b"; "[..]))?;
        headers.insert(COOKIE, whole);
    }
    Ok(())
}

/// RFC 9110 § 10.1.4: of what a client takes, only trailers are of any use to an origin behind us.
fn only_trailers(headers: &mut HeaderMap) {
    let mut values = headers.get_all(TE).iter().filter_map(|value| value.to_str().ok());
    let takes_trailers = values.any(|value| value.split(',').any(|part| part.trim().eq_ignore_ascii_case("trailers")));
    if takes_trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    } else {
        headers.remove(TE);
    }
}
