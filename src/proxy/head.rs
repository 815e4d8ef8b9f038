//! The head of a request: read into facts, and cleaned of what is not the client's to say.

use crate::refusal::Refusal;
use crate::request::headers::{EDGE_IDENTITY, is_ours};
use crate::request::{Facts, Head, Malformed, Protocol};
use crate::tls::Client;
use http::header::{CONNECTION, HOST};
use http::{HeaderMap, HeaderName, Version};
use pingora_proxy::Session;

/// Reads the facts.
///
/// # Errors
/// What is malformed.
pub(super) fn read(session: &Session) -> Result<Facts, Refusal> {
    let request = session.req_header();
    let is_h2 = request.version == Version::HTTP_2;
    let head = Head {
        method: &request.method,
        target: request.raw_path(),
        authority: request.uri.authority().filter(|_| is_h2).map(http::uri::Authority::as_str),
        hosts: first_two(&request.headers, &HOST),
        protocol: if is_h2 { Protocol::Http2 } else { Protocol::Http1 },
    };
    Facts::read(&head).map_err(|malformed| match malformed {
        Malformed::Authority => Refusal::MalformedAuthority,
        Malformed::AuthorityMismatch => Refusal::AuthorityMismatch,
        Malformed::Target => Refusal::MalformedTarget,
        Malformed::AmbiguousPath => Refusal::AmbiguousPath,
    })
}

/// The first two tokens; two are one too many.
pub(super) fn tokens(session: &Session) -> [Option<&[u8]>; 2] {
    first_two(&session.req_header().headers, &HeaderName::from_static(EDGE_IDENTITY))
}

/// What the handshake told, if there was one.
pub(super) fn client(session: &Session) -> Option<&Client> {
    session.digest()?.ssl_digest.as_ref()?.extension.get()
}

fn first_two<'a>(headers: &'a HeaderMap, name: &HeaderName) -> [Option<&'a [u8]>; 2] {
    let mut values = headers.get_all(name).iter().map(http::HeaderValue::as_bytes);
    [values.next(), values.next()]
}

/// Takes out the headers that only we set and those that `Connection` names, and leaves in `Connection` only what is
/// about the connection, so that it cannot take out what filters set later.
///
/// # Errors
/// [`Refusal::MalformedRequest`] if `Connection` is no list of names.
pub(super) fn clean(session: &mut Session) -> Result<(), Refusal> {
    let request = session.req_header_mut();
    let mut connection = Vec::new();
    let mut named = Vec::new();
    for value in request.headers.get_all(CONNECTION) {
        let value = value.to_str().map_err(|_not_text| Refusal::MalformedRequest)?;
        for option in value.split(',').map(str::trim).filter(|option| !option.is_empty()) {
            let about_it = ["close", "keep-alive", "upgrade"].iter().any(|known| option.eq_ignore_ascii_case(known));
            if about_it { &mut connection } else { &mut named }.push(option.to_ascii_lowercase());
        }
    }
    if named.iter().any(|name| name == HOST.as_str()) {
        return Err(Refusal::MalformedRequest);
    }
    let ours = request.headers.keys().filter(|name| is_ours(name.as_str())).map(|name| name.as_str().to_owned());
    let unwanted: Vec<_> = ours.chain(named.iter().cloned()).collect();
    for name in &unwanted {
        request.remove_header(name.as_str());
    }
    if !named.is_empty() {
        request.remove_header(&CONNECTION);
        if !connection.is_empty() {
            request.insert_header(CONNECTION, connection.join(", ")).map_err(|_unfit| Refusal::MalformedRequest)?;
        }
    }
    Ok(())
}
