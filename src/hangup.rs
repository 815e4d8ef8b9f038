//! Why a connection ends before it brings a request: one closed list.

macro_rules! hangups {
    ($($variant:ident = $label:literal, $explain:literal;)*) => {
        /// Why a connection ended without a request.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Hangup {
            $(#[doc = $explain] $variant,)*
        }

        impl Hangup {
            /// All of them, in the table's order; `hangup as usize` is the index.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The label `reason` of metrics.
            #[must_use]
            pub const fn label(self) -> &'static str {
                match self { $(Self::$variant => $label,)* }
            }

            /// `event.reason` of the audit record.
            #[must_use]
            pub const fn code(self) -> &'static str {
                match self { $(Self::$variant => concat!("connection.", $label),)* }
            }

            /// What the operator reads.
            #[must_use]
            pub const fn explain(self) -> &'static str {
                match self { $(Self::$variant => $explain,)* }
            }
        }
    };
}

hangups! {
    Source = "source", "The client's address is in none of the listener's `sources`.";
    ProxyHeader = "proxy_header", "A load balancer of `proxy_protocol.from` sent no header of the PROXY protocol, or a broken one.";
    TooMany = "too_many", "The listener has `limits.connections` connections.";
    TooManyOfAddress = "too_many_of_address", "The address has `limits.connections_per_address` connections.";
    TooManyOfWorkload = "too_many_of_workload", "The workload has `limits.connections_per_workload` connections.";
    TooManyWaiting = "too_many_waiting", "The address or workload has sent floods of HTTP/2. Since then its connections are served one after another, and too many are waiting.";
    HandshakeTimeout = "handshake_timeout", "What comes before HTTP did not come within `limits.handshake_timeout`.";
    HandshakeClosed = "handshake_closed", "The client went away during the handshake.";
    HandshakeNotTls = "handshake_not_tls", "What came is not TLS.";
    HandshakeIncompatible = "handshake_incompatible", "Client and Belay share no version, cipher suite or protocol.";
    HandshakeCertificate = "handshake_certificate", "The client showed no certificate that a `strict` handshake takes.";
    HandshakeAlert = "handshake_alert", "The client refused: most often it does not trust our certificate.";
    Http2Flood = "http2_flood", "HTTP/2 frames without content came without end, or a header block did not end.";
    Http2Broken = "http2_broken", "The client broke the rules of HTTP/2, so that the connection could not go on.";
    HandshakeFailed = "handshake_failed", "The handshake failed in another way.";
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_hangup_has_a_name_of_its_own() {
        let labels: HashSet<_> = Hangup::ALL.iter().map(|hangup| hangup.label()).collect();
        assert_eq!(labels.len(), Hangup::ALL.len());
        assert!(Hangup::ALL.iter().enumerate().all(|(index, hangup)| *hangup as usize == index));
        assert!(
            Hangup::ALL.iter().all(|hangup| hangup.code().ends_with(hangup.label()) && hangup.explain().ends_with('.'))
        );
    }
}
