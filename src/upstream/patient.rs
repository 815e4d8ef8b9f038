//! A connection that hears nothing before all is said.
//!
//! Where a server answers an upgrade at once, the library may read its 101 before it has noted that the request is over.
//! It then takes that end for the tunnel's, and closes what it has just opened (`pingora-proxy` 0.9.1, `proxy_h1.rs`,
//! `proxy_handle_upstream`: a stale `Body(_, true)` after `was_upgraded`). Who waits with listening for one look at
//! everything else has always noted it.

use pingora::protocols::l4::virt::{VirtualSockOpt, VirtualSocket};
use std::{
    fmt::Debug,
    io,
    pin::Pin,
    task::{Context, Poll},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A connection that, each time something was said, is looked at once in vain before it is heard.
#[derive(Debug)]
pub(super) struct Patient<S> {
    inner: S,
    has_spoken: bool,
}

impl<S> Patient<S> {
    pub(super) const fn new(inner: S) -> Self {
        Self { inner, has_spoken: false }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.has_spoken {
            self.has_spoken = false;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Pin::new(&mut self.inner).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.has_spoken = true;
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + Sync + Debug> VirtualSocket for Patient<S> {
    /// They are set before it becomes patient.
    fn set_socket_option(&self, _: VirtualSockOpt) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test]
    async fn it_looks_once_in_vain_after_it_has_spoken() {
        let (mut near, far) = tokio::io::duplex(64);
        let mut far = Patient::new(far);
        near.write_all(b"101").await.unwrap();
        far.write_all(b"GET").await.unwrap();
        let mut space = [0; 3];
        let mut buffer = ReadBuf::new(&mut space);
        let first = poll_fn(|cx| Poll::Ready(Pin::new(&mut far).poll_read(cx, &mut buffer).is_pending())).await;
        assert!(first, "although there is something to hear");
        far.read_exact(&mut space).await.unwrap();
        assert_eq!(space, *b"101");
    }
}
