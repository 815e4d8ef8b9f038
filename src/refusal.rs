//! Every way in which a request is refused: one closed list, one table.
//!
//! The client reads [`Facts::text`], the operator [`Facts::explain`]. The same short name is the metric's label and,
//! after its family, the audit code.

use serde::{Serialize, Serializer};

macro_rules! refusals {
    ($($variant:ident = $status:literal $family:literal $label:literal, $challenge:expr,
        $text:literal, $explain:literal;)*) => {
        /// Why a request was refused.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Refusal {
            $(#[doc = $explain] $variant,)*
        }

        impl Refusal {
            /// All of them, in the table's order; `refusal as usize` is the index.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// What there is to say of it.
            #[must_use]
            pub const fn facts(self) -> &'static Facts {
                match self {
                    $(Self::$variant => &Facts {
                        status: $status,
                        label: $label,
                        family: $family,
                        code: concat!($family, ".", $label),
                        challenge: $challenge,
                        text: $text,
                        explain: $explain,
                    },)*
                }
            }
        }
    };
}

/// What a refusal means to each of its readers.
#[derive(Debug)]
pub struct Facts {
    /// The HTTP status.
    pub status: u16,
    /// The label `reason` of metrics.
    pub label: &'static str,
    /// What it is about.
    pub family: &'static str,
    /// `event.reason` of the audit record: family and label.
    pub code: &'static str,
    /// `error_description` of the challenge; only a peer who has proved something reads it.
    pub challenge: Option<&'static str>,
    /// What the client reads.
    pub text: &'static str,
    /// What the operator reads.
    pub explain: &'static str,
}

refusals! {
    MalformedAuthority = 400 "request" "malformed_authority", None,
        "The request must name exactly one host.", "Host or :authority is missing, repeated or no host name.";
    AuthorityMismatch = 400 "request" "authority_mismatch", None,
        "The request names two hosts.", "Host, :authority and the target do not name the same host.";
    MalformedTarget = 400 "request" "malformed_target", None,
        "The request target is malformed.", "The target is no path with an optional query.";
    AmbiguousPath = 400 "request" "ambiguous_path", None,
        "The path is ambiguous.", "Servers could read the path in different ways, so it is not forwarded.";
    MalformedRequest = 400 "request" "malformed_request", None,
        "The request is malformed.", "The request's framing or body has no reading, or more than one.";
    MalformedHead = 400 "request" "malformed_head", None,
        "The request's head is malformed.", "A line of the head is not what RFC 9112 says, or ends in a bare CR or LF.";
    UnsupportedVersion = 505 "request" "unsupported_version", None,
        "HTTP/1.1 and HTTP/2 are spoken here.", "The request line names another version than HTTP/1.0 and HTTP/1.1.";
    ConnectRefused = 405 "request" "connect_refused", None,
        "No tunnels are made here.", "The method is CONNECT.";
    ExpectationRefused = 417 "request" "expectation_refused", None,
        "This expectation cannot be met.", "Expect is something else than 100-continue.";
    HeadTooLarge = 431 "request" "head_too_large", None,
        "The request's head is too large.", "The head is over `limits.head` bytes or `limits.headers` fields.";
    HeadTooSlow = 408 "request" "head_too_slow", None,
        "The request's head came too slowly.", "The whole head did not come within `limits.head_timeout`.";
    BodyTooLarge = 413 "request" "body_too_large", None,
        "The request's body is too large.", "The body is over `limits.body`.";
    BodyTooSlow = 408 "request" "body_too_slow", None,
        "The request's body came too slowly.", "The body came slower than `limits.body_min_rate`.";
    ResponseNotTaken = 408 "request" "response_not_taken", None,
        "The response was not read.", "The client took nothing of the response for `limits.write_timeout`.";
    MaxAge = 408 "request" "max_age", None,
        "The request took too long.", "The request was served for longer than the route's `max_age`.";
    WrongAuthority = 421 "request" "wrong_authority", None,
        "This connection is not for that host.", "The certificate of the connection does not name the request's host.";
    NoRoute = 404 "route" "no_route", None,
        "There is nothing here.", "No route matches host, path and method.";
    CertificateMissing = 401 "identity" "certificate_missing", Some("certificate"),
        "A client certificate is required.", "The connection carries no client certificate.";
    CertificateMalformed = 401 "identity" "certificate_malformed", Some("certificate"),
        "The client certificate is not accepted.",
        "The certificate cannot be parsed, is not for client authentication, has not exactly one URI SAN, or breaks RFC 5280 in another way, for example without an authorityKeyIdentifier.";
    CertificateUntrusted = 401 "identity" "certificate_untrusted", Some("certificate"),
        "The client certificate is not accepted.", "The chain does not end at a CA of this listener's `client_auth`.";
    CertificateExpired = 401 "identity" "certificate_expired", Some("certificate"),
        "The client certificate is not accepted.", "A certificate of the chain is expired or not valid yet.";
    CertificateRevoked = 401 "identity" "certificate_revoked", Some("certificate"),
        "The client certificate is not accepted.", "A revocation list names a certificate of the chain, or `revoked` names the client's.";
    WorkloadRevoked = 403 "identity" "workload_revoked", None,
        "Not allowed.", "`revoked` names the workload, or the config has it no more.";
    CertificateUnchecked = 401 "identity" "certificate_unchecked", Some("certificate"),
        "The client certificate is not accepted.", "No revocation list covers a certificate of the chain.";
    CertificateLifetime = 401 "identity" "certificate_lifetime", Some("certificate"),
        "The client certificate is not accepted.", "The certificate is valid for longer than `max_certificate_lifetime`.";
    RevocationListExpired = 503 "identity" "crl_expired", None,
        "The service is not available.", "A revocation list has expired, so nobody knows what was revoked since.";
    CertificateUnknown = 401 "identity" "certificate_unknown", Some("certificate"),
        "The client certificate is not accepted.", "No workload of the config has the certificate's URI SAN as its id.";
    TlsRequired = 401 "identity" "tls_required", Some("tls"),
        "This needs TLS.", "The route demands a token, and the listener has no TLS, so that anybody could read it.";
    TokenMissing = 401 "identity" "token_missing", Some("missing"),
        "An Edge-Identity token is required.", "The route demands a token and the request carries none.";
    TokenRepeated = 400 "identity" "token_repeated", None,
        "There must be one Edge-Identity token.", "The Edge-Identity header is there more than once.";
    TokenTooLong = 400 "identity" "token_too_long", None,
        "The Edge-Identity token is too long.", "The Edge-Identity header is over 8 KiB.";
    TokenMalformed = 401 "identity" "token_malformed", Some("malformed"),
        "The Edge-Identity token is not accepted.",
        "No compact JWS of type edge-identity+jwt with just typ, alg and kid, or a claim is missing or of another type.";
    TokenKeyUnknown = 401 "identity" "token_key_unknown", Some("unknown_key"),
        "The Edge-Identity token is not accepted.", "No workload has a key with the token's kid and algorithm.";
    TokenKeyRevoked = 401 "identity" "token_key_revoked", Some("unknown_key"),
        "The Edge-Identity token is not accepted.", "The token's key has the state `revoked`, or `revoked` names it.";
    TokenKeyExpired = 401 "identity" "token_key_expired", Some("key_expired"),
        "The Edge-Identity token is not accepted.", "The shared secret is older than `edge.max_key_age`.";
    TokenRevoked = 401 "identity" "token_revoked", Some("revoked"),
        "The Edge-Identity token is not accepted.", "`revoked` names the token's jti.";
    TokenAssertion = 401 "identity" "token_assertion", Some("assertion"),
        "The Edge-Identity token is not accepted.", "The token says more than its workload `may_assert`, or too much of it.";
    TokenBodyMissing = 401 "identity" "token_body_missing", Some("body_digest"),
        "The token must carry the body's digest.", "The token has no cdg, and the profile or the route demands one.";
    TokenBody = 401 "identity" "token_body", Some("binding"),
        "The token is for another body.", "The body's digest is not the token's cdg, or not that of Content-Digest.";
    BodyTooLargeToHold = 413 "identity" "body_too_large_to_hold", None,
        "The request's body is too large.", "The body's digest is to be checked, and it is over `edge.token.digest_body_max`.";
    HeldBodiesFull = 503 "identity" "held_bodies_full", None,
        "The service is overloaded.", "The bodies that are held until their digest is checked fill their 64 MiB.";
    TokenSignature = 401 "identity" "token_signature", Some("signature"),
        "The Edge-Identity token is not accepted.", "The signature does not fit the key.";
    TokenIssuer = 401 "identity" "token_issuer", Some("issuer"),
        "The Edge-Identity token is not accepted.", "iss is not the config's `edge.issuer`.";
    TokenAudience = 401 "identity" "token_audience", Some("audience"),
        "The Edge-Identity token is not accepted.", "aud does not name the config's `edge.audience`.";
    TokenSubject = 401 "identity" "token_subject", Some("subject"),
        "The Edge-Identity token is not accepted.", "sub is not the workload of the certificate and of the key.";
    TokenLifetime = 401 "identity" "token_lifetime", Some("lifetime"),
        "The Edge-Identity token is not accepted.", "exp - iat is not positive or over `edge.token.max_lifetime`.";
    TokenExpired = 401 "identity" "token_expired", Some("expired"),
        "The Edge-Identity token has expired.", "exp has passed, with 30 s for clocks that are behind.";
    TokenNotYet = 401 "identity" "token_not_yet", Some("not_yet"),
        "The Edge-Identity token is not valid yet.", "iat is more than 5 s ahead of this clock.";
    TokenBinding = 401 "identity" "token_binding", Some("binding"),
        "The Edge-Identity token is for another request.", "htm, hta or htt is not this method, authority or raw target.";
    TokenCertificate = 401 "identity" "token_certificate", Some("cert_mismatch"),
        "The Edge-Identity token is for another certificate.", "`cnf.x5t#S256` is not this connection's certificate.";
    TokenReplayed = 401 "identity" "token_replayed", Some("replay"),
        "The Edge-Identity token was used before.", "The same jti was used as often as `edge.token.replay` allows.";
    TokenStale = 401 "identity" "token_stale", Some("stale_token"),
        "The Edge-Identity token may have been used before.",
        "This process has just started and cannot know whether the token was used with the one before: sign again.";
    TokenUser = 401 "identity" "token_user", Some("binding"),
        "The Edge-Identity token is for another user's token.", "`ath` is not there, or not SHA-256 of the user's token.";
    UserTokenMissing = 401 "user" "user_token_missing", Some("missing"),
        "A user's token is required.", "The route demands a user, and no header that `people` name carries a token.";
    UserTokenRepeated = 400 "user" "user_token_repeated", None,
        "There must be one user's token.", "More than one header carries a user's token, or one carries two.";
    UserTokenTooLong = 400 "user" "user_token_too_long", None,
        "The user's token is too long.", "The user's token is over 16 KiB.";
    UserTokenMalformed = 401 "user" "user_token_malformed", Some("malformed"),
        "The user's token is not accepted.",
        "No compact JWS for users, iss or exp is missing or of another type, a claim is repeated, or it asks for what is refused (crit, jwk, jku, x5c, x5u, b64, zip).";
    UserTokenIssuer = 401 "user" "user_token_issuer", Some("issuer"),
        "The user's token is not accepted.", "No `people` have the token's iss and the header that it came in.";
    UserTokenKeyUnknown = 401 "user" "user_token_key_unknown", Some("unknown_key"),
        "The user's token is not accepted.", "The identity provider publishes no key with the token's kid and algorithm.";
    UserTokenSignature = 401 "user" "user_token_signature", Some("signature"),
        "The user's token is not accepted.", "The signature does not fit the identity provider's key.";
    UserTokenAudience = 401 "user" "user_token_audience", Some("audience"),
        "The user's token is not accepted.", "aud names none of the `audience` of these `people`: it is for another service.";
    UserTokenSigner = 401 "user" "user_token_signer", Some("signer"),
        "The user's token is not accepted.", "The load balancer that says it has signed the token is not `signer` of these `people`.";
    UserTokenCertificate = 401 "user" "user_token_certificate", Some("cert_mismatch"),
        "The user's token is not accepted.", "`cnf` binds it to something else than this connection's certificate.";
    UserTokenSubject = 401 "user" "user_token_subject", Some("subject"),
        "The user's token is not accepted.", "No claim of `subject` says who it is, or in more than 255 bytes of plain ASCII.";
    UserRevoked = 403 "user" "user_revoked", None,
        "Not allowed.", "`revoked` names the user.";
    UserTokenRevoked = 401 "user" "user_token_revoked", Some("revoked"),
        "The user's token is not accepted.", "`revoked` names the token's jti.";
    UserTokenExpired = 401 "user" "user_token_expired", Some("expired"),
        "The user's token has expired.", "exp has passed, with 30 s for clocks that are behind.";
    UserTokenNotYet = 401 "user" "user_token_not_yet", Some("not_yet"),
        "The user's token is not valid yet.", "nbf or iat is more than 30 s ahead of this clock.";
    UserKeysMissing = 503 "user" "user_keys_missing", None,
        "The service is not available.", "The identity provider's keys are not known, so that nobody can say who it is.";
    ReplayStoreFull = 503 "identity" "replay_store_full", None,
        "The service is overloaded.", "The replay store is full; nothing in it may be forgotten before it expires.";
    ReplayShareFull = 503 "identity" "replay_share_full", None,
        "The service is overloaded.", "This workload holds half of the replay store, which is all that one may.";
    ReplayStoreSilent = 503 "identity" "replay_store_silent", None,
        "The service is being replaced.",
        "Whether the token was used before is known to the process that replaces this one, which did not answer.";
    ProfileMismatch = 401 "policy" "profile_mismatch", Some("profile"),
        "More proof of identity is required.", "The identity was proved by another profile than the route demands.";
    NotAllowed = 403 "policy" "not_allowed", None,
        "Not allowed.", "Neither the route's allow list nor a rule of `access.policies` lets him in.";
    Forbidden = 403 "policy" "forbidden", None,
        "Not allowed.", "A rule of `access.policies` forbids it.";
    RuleFailed = 403 "policy" "rule_failed", None,
        "Not allowed.", "A rule of `access.policies` could not be judged, for example because a sum is too large.";
    FactMistyped = 403 "policy" "fact_mistyped", None,
        "Not allowed.", "A claim or fact that a rule reads is not of the type that `claims` or `facts` declare.";
    RateExceeded = 429 "limit" "rate_exceeded", None,
        "Too many requests.", "There came more requests than the limit's `rate` and `burst` allow.";
    ConcurrencyExceeded = 429 "limit" "concurrency_exceeded", None,
        "Too many requests at once.", "As many requests are in flight as the limit's `concurrency` allows.";
    EdgeLimited = 429 "limit" "edge_limited", None,
        "Too many requests.", "The edge says so in its token, by the fact that the limit's `edge` names.";
    LimitTableFull = 503 "limit" "limit_table_full", None,
        "The service is overloaded.", "The limit counts 65,536 others, and who cannot be counted does not pass.";
    FilterFailed = 500 "filter" "filter_failed", None,
        "The request could not be prepared.", "A filter of the route could not do its work.";
    NetworkNotAllowed = 403 "filter" "network_not_allowed", None,
        "Not allowed.", "The client's address is not known, or in none of the networks that a filter `networks` lets pass.";
    AuthorizerSilent = 503 "filter" "authorizer_silent", None,
        "The service is not available.", "Who is asked by `ext_authz` has not answered in time, or with neither yes nor no.";
    PluginFailed = 500 "filter" "plugin_failed", None,
        "The request could not be prepared.", "A plugin has crashed, used up its time or memory, or left the request waiting for too long.";
    PluginsBusy = 503 "filter" "plugins_busy", None,
        "The service is overloaded.", "All instances that a plugin may have are at work, or it has crashed too often a moment ago.";
    BodyTooLargeToFilter = 413 "filter" "body_too_large_to_filter", None,
        "The request's body is too large.", "A filter wants to see the whole body, and it is over what may be held for that.";
    ResponseTooLarge = 502 "filter" "response_too_large", None,
        "The service's answer is too large.", "The response's body is over a filter's `body_limit`, or over what may be held for a plugin.";
    AuditUnavailable = 503 "audit" "audit_unavailable", None,
        "The service is not available.", "The decision could not be recorded, and nothing is served unrecorded.";
    NoServer = 503 "upstream" "no_server", None,
        "No server is available.", "No server of the pool is healthy.";
    CircuitOpen = 503 "upstream" "circuit_open", None,
        "No server is available.", "Too many of the pool's requests have failed, so it is left alone for a while (`breaker`).";
    QueueFull = 503 "upstream" "queue_full", None,
        "No server is available.", "All servers of the pool work on `max_requests`, and too many requests wait (`queue`).";
    QueueTimeout = 503 "upstream" "queue_timeout", None,
        "No server is available.", "No server of the pool had room within `queue.timeout`.";
    QueueShed = 503 "upstream" "queue_shed", None,
        "No server is available.", "The queue of the pool was full, and somebody whose role has a higher `priority` took the place.";
    ConnectionsFull = 503 "upstream" "connections_full", None,
        "No server is available.", "The servers of the pool have `max_connections` already, and none of these is for this client.";
    ConnectFailed = 502 "upstream" "connect_failed", None,
        "The origin cannot be reached.", "The server refused the connection or its TLS failed.";
    ConnectTimeout = 504 "upstream" "connect_timeout", None,
        "The origin did not answer in time.", "No connection within `timeouts.connect`.";
    ResponseTimeout = 504 "upstream" "response_timeout", None,
        "The origin did not answer in time.", "The server sent nothing for `timeouts.between_bytes`, or took nothing.";
    ResponseBroken = 502 "upstream" "response_broken", None,
        "The origin's answer was broken.", "The server closed the connection or sent no HTTP.";
    Internal = 500 "internal" "internal", None,
        "Something went wrong here.", "A fault in Belay itself; the process log says more.";
}

impl Refusal {
    /// Whether the answer carries a `WWW-Authenticate` challenge.
    #[must_use]
    pub const fn is_challenge(self) -> bool {
        self.facts().status == 401
    }

    /// Whether lists or rules say so.
    #[must_use]
    pub const fn is_of_policy(self) -> bool {
        matches!(
            self,
            Self::ProfileMismatch | Self::NotAllowed | Self::Forbidden | Self::RuleFailed | Self::FactMistyped
        )
    }

    /// After how many seconds a new try may succeed, where that is known: `Retry-After`.
    #[must_use]
    pub const fn retry_after(self) -> Option<u64> {
        match (self, self.facts().status) {
            (Self::TokenStale, _) => Some(Self::STALE_FOR_SECONDS),
            (_, 429 | 503) => Some(1),
            (_, _) => None,
        }
    }

    /// After a start, for how long tokens may have been used with an earlier process.
    pub const STALE_FOR_SECONDS: u64 = 6;
}

impl Serialize for Refusal {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(self.facts().code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_refusal_has_a_name_of_its_own() {
        let labels: HashSet<_> = Refusal::ALL.iter().map(|r| r.facts().label).collect();
        assert_eq!(labels.len(), Refusal::ALL.len());
        assert!(Refusal::ALL.iter().enumerate().all(|(index, refusal)| *refusal as usize == index));
    }

    #[test]
    fn a_challenge_has_a_description_and_only_a_challenge() {
        for refusal in Refusal::ALL {
            assert_eq!(refusal.is_challenge(), refusal.facts().challenge.is_some(), "{refusal:?}");
        }
    }

    #[test]
    fn the_client_reads_no_more_than_a_sentence() {
        for refusal in Refusal::ALL {
            let text = refusal.facts().text;
            assert!(text.ends_with('.') && text.len() < 60 && !text.contains("config"), "{text}");
        }
    }
}
