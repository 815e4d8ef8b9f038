//! What Pingora asks of a stream beside reading and writing, passed on to the stream inside.

/// Implements Pingora's traits for a struct whose field `inner` is a `Stream`.
macro_rules! pass_on {
    ($name:ident) => {
        #[async_trait]
        impl Shutdown for $name {
            async fn shutdown(&mut self) {
                self.inner.shutdown().await;
            }
        }

        impl UniqueID for $name {
            fn id(&self) -> UniqueIDType {
                self.inner.id()
            }
        }

        impl Ssl for $name {
            fn get_ssl(&self) -> Option<&TlsRef> {
                self.inner.get_ssl()
            }

            fn get_ssl_digest(&self) -> Option<Arc<SslDigest>> {
                self.inner.get_ssl_digest()
            }

            fn selected_alpn_proto(&self) -> Option<ALPN> {
                self.inner.selected_alpn_proto()
            }
        }

        impl Peek for $name {}

        impl GetTimingDigest for $name {
            fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
                self.inner.get_timing_digest()
            }

            fn get_read_pending_time(&self) -> Duration {
                self.inner.get_read_pending_time()
            }

            fn get_write_pending_time(&self) -> Duration {
                self.inner.get_write_pending_time()
            }
        }

        impl GetProxyDigest for $name {
            fn get_proxy_digest(&self) -> Option<Arc<pingora::protocols::raw_connect::ProxyDigest>> {
                self.inner.get_proxy_digest()
            }
        }

        impl GetSocketDigest for $name {
            fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
                self.inner.get_socket_digest()
            }
        }
    };
}

pub(super) use pass_on;
