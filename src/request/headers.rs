//! Names of headers that only Belay sets towards the origin. What a client or a filter writes there is not passed on,
//! but for the `traceparent` of a workload that has proved to be it.

use http::HeaderName;

/// Where tokens come.
pub static EDGE_IDENTITY: HeaderName = HeaderName::from_static("edge-identity");
/// The workload.
pub static WORKLOAD: HeaderName = HeaderName::from_static("belay-workload");
/// The user: issuer and subject, with `|` between them.
pub static USER: HeaderName = HeaderName::from_static("belay-user");
/// The roles of both, separated by commas.
pub static ROLES: HeaderName = HeaderName::from_static("belay-roles");
/// The route.
pub static ROUTE: HeaderName = HeaderName::from_static("belay-route");
/// The request's id; the answer carries it too.
pub static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// RFC 7239.
pub static FORWARDED: HeaderName = HeaderName::from_static("forwarded");
/// What `forwarded` says, for older servers.
pub static X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// The authority that was asked for.
pub static X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
/// `https` or `http`.
pub static X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
/// <https://www.w3.org/TR/trace-context/>
pub static TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// Whether only Belay may set it. Servers that make variables of names (CGI, WSGI) turn `-` into `_`, and some do so with
/// every sign that is no letter, so all such spellings are ours.
#[must_use]
pub fn is_ours(name: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
    let dashed;
    let name = if name.chars().all(is_plain) {
        name
    } else {
        dashed = name.replace(|c| !is_plain(c), "-");
        dashed.as_str()
    };
    let starts = |prefix: &str| name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix));
    let is = |own: &str| name.eq_ignore_ascii_case(own);
    starts("belay-")
        || is("belay")
        || starts("x-forwarded")
        || starts("client-cert")
        || is(EDGE_IDENTITY.as_str())
        || is(FORWARDED.as_str())
        || is(REQUEST_ID.as_str())
        || is(TRACEPARENT.as_str())
        || is("tracestate")
}

/// Whether it frames a message or belongs to one connection (RFC 9110 § 7.6.1), so that no filter may touch it; in all
/// spellings, as for [`is_ours`].
#[must_use]
pub fn is_framing(name: &str) -> bool {
    const FRAMING: [&str; 10] = [
        "connection",
        "content-length",
        "host",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "http2-settings",
    ];
    let is_same =
        |(own, other): (u8, u8)| own.eq_ignore_ascii_case(&other) || (own == b'-' && !other.is_ascii_alphanumeric());
    FRAMING.iter().any(|framing| framing.len() == name.len() && framing.bytes().zip(name.bytes()).all(is_same))
}

#[cfg(test)]
mod tests {
    use super::*;
    use test_case::test_case;

    #[test_case("Belay-Workload", true)]
    #[test_case("belay_workload", true; "underscore")]
    #[test_case("BELAY-ANYTHING", true; "not known yet")]
    #[test_case("Edge_Identity", true; "token underscore")]
    #[test_case("x_forwarded-for", true; "mixed")]
    #[test_case("Belay.Workload", true; "a dot")]
    #[test_case("X~Forwarded~For", true; "any sign")]
    #[test_case("X-Forwarded-Client-Cert", true; "envoy's")]
    #[test_case("Client-Cert-Chain", true; "rfc 9440")]
    #[test_case("forwarded", true)]
    #[test_case("x_request_id", true; "request id")]
    #[test_case("traceparent", true)]
    #[test_case("authorization", false)]
    #[test_case("x-tenant", false)]
    #[test_case("my-belay-x", false; "elsewhere in the name")]
    #[test_case("edge-identity-x", false; "longer")]
    #[test_case("b", false; "short")]
    fn ours(name: &str, expected: bool) {
        assert_eq!(is_ours(name), expected);
    }
}
