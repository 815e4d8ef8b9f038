//! The stream under Pingora's HTTP/1.1 code: it gives out one message at a time, and only what was read strictly.

use super::Source;
use super::link::Link;
use super::outgoing::Outgoing;
use crate::refusal::Refusal;
use crate::request::wire::{self, Framing, Remaining};
use async_trait::async_trait;
use bytes::{Buf, BytesMut};
use pingora::protocols::tls::{SslDigest, TlsRef};
use pingora::protocols::{
    ALPN, GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, Stream, TimingDigest,
    UniqueID, UniqueIDType,
};
use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

/// Bytes of later messages that are read while a message is served, to notice that the client has gone.
const AHEAD_MAX: usize = 4096;
/// Bytes that are read at once while a head is waited for; an idle connection holds so much.
const READ_AT_ONCE: usize = 1024;

/// A connection that is read message by message.
#[derive(Debug)]
pub(super) struct Message {
    inner: Stream,
    /// Read from the connection and not given out yet.
    ahead: BytesMut,
    remaining: Remaining,
    outgoing: Outgoing,
    link: Arc<Link>,
}

/// A head that was read strictly.
pub(super) struct Head {
    pub(super) bytes: BytesMut,
    pub(super) framing: Framing,
    /// The client waits for a word before it sends the body.
    pub(super) expects: bool,
}

impl Message {
    pub(super) fn new(inner: Stream) -> Self {
        let remaining = Remaining::of(Framing::Length(0));
        Self { inner, ahead: BytesMut::new(), remaining, outgoing: Outgoing::default(), link: Arc::default() }
    }

    /// Waits for the first byte of the next message; whether there is one.
    pub(super) async fn begins(&mut self) -> io::Result<bool> {
        Ok(!self.ahead.is_empty() || self.read_ahead().await? > 0)
    }

    /// Reads the next head, whole.
    ///
    /// # Errors
    /// A [`Refusal`] if it is too large or malformed; none if the client goes away.
    pub(super) async fn head(&mut self, (bytes_max, headers_max): (usize, usize)) -> Result<Head, Option<Refusal>> {
        let mut seen = 0;
        let end = loop {
            match wire::end_of_head(&self.ahead, seen) {
                Some(end) if end > bytes_max => return Err(Some(Refusal::HeadTooLarge)),
                Some(end) => break end,
                None if self.ahead.len() >= bytes_max => return Err(Some(Refusal::HeadTooLarge)),
                None => seen = self.ahead.len(),
            }
            if self.read_ahead().await.map_err(|_gone| None)? == 0 {
                return Err(None);
            }
        };
        let bytes = self.ahead.split_to(end);
        let wire::Announced { framing, expects } = wire::read_head(&bytes, headers_max)?;
        // What has come of the body already is read before anything is forwarded.
        Remaining::of(framing).take(&self.ahead)?;
        Ok(Head { bytes, framing, expects })
    }

    async fn read_ahead(&mut self) -> io::Result<usize> {
        self.ahead.reserve(READ_AT_ONCE);
        self.inner.read_buf(&mut self.ahead).await
    }

    /// From here on the body of that message is given out, and nothing after it.
    pub(super) fn serve(&mut self, framing: Framing, link: Arc<Link>) {
        self.remaining = Remaining::of(framing);
        self.link = link;
    }

    /// Whether the message was given out to its end, so that what follows is the next one.
    pub(super) const fn is_over(&self) -> bool {
        self.remaining.is_nothing()
    }

    /// Where the connection comes from.
    pub(super) fn source(&self) -> Source {
        Source { tls: self.inner.get_ssl_digest(), socket: self.inner.get_socket_digest() }
    }

    /// The connection, when no message is wanted any more.
    pub(super) const fn connection(&mut self) -> &mut Stream {
        &mut self.inner
    }

    /// Gives out bytes that were read before.
    fn give(&mut self, buffer: &mut ReadBuf<'_>) -> io::Result<()> {
        let length = self.ahead.len().min(buffer.remaining());
        let bytes = self.ahead.get(..length).unwrap_or_default();
        let taken = if self.link.is_tunnel() { length } else { self.remaining.take(bytes).map_err(broken)? };
        buffer.put_slice(self.ahead.get(..taken).unwrap_or_default());
        self.ahead.advance(taken);
        Ok(())
    }

    /// Reads from the connection; what is not of this message waits for the next.
    fn poll_body(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buffer))?;
        if self.link.is_tunnel() {
            return Poll::Ready(Ok(()));
        }
        let came = buffer.filled().get(before..).unwrap_or_default();
        let taken = self.remaining.take(came).map_err(broken)?;
        self.ahead.extend_from_slice(came.get(taken..).unwrap_or_default());
        buffer.set_filled(before.saturating_add(taken));
        Poll::Ready(Ok(()))
    }

    /// The message is over: nothing is given out, but the end of the connection is.
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.ahead.len() < AHEAD_MAX {
            let mut space = [0; 1024];
            let mut buffer = ReadBuf::new(&mut space);
            ready!(Pin::new(&mut self.inner).poll_read(cx, &mut buffer))?;
            if buffer.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            self.ahead.extend_from_slice(buffer.filled());
        }
        Poll::Pending
    }
}

fn broken(refusal: Refusal) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, refusal.facts().explain)
}

impl AsyncRead for Message {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        // Who waits for the client has nothing more to send now. Pingora wants a counted body to go only at its end.
        if let Poll::Ready(sent) = this.outgoing.poll_send(&mut this.inner, cx) {
            sent?;
        }
        let is_tunnel = this.link.is_tunnel();
        if this.remaining.is_nothing() && !is_tunnel {
            return this.poll_gone(cx);
        }
        if !this.ahead.is_empty() {
            let given = this.give(buffer);
            this.link.body_came(buffer.filled().len());
            return Poll::Ready(given);
        }
        let before = buffer.filled().len();
        let polled = this.poll_body(cx, buffer);
        match &polled {
            Poll::Ready(_) => this.link.body_came(buffer.filled().len().saturating_sub(before)),
            Poll::Pending if !is_tunnel => this.link.wait_for_body(),
            Poll::Pending => {}
        }
        polled
    }
}

impl AsyncWrite for Message {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.link.may_send(bytes.starts_with(b"HTTP/1.1 100"));
        let this = &mut *self;
        this.outgoing.poll_write(&mut this.inner, cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        ready!(this.outgoing.poll_send(&mut this.inner, cx))?;
        Pin::new(&mut this.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        ready!(this.outgoing.poll_send(&mut this.inner, cx))?;
        Pin::new(&mut this.inner).poll_shutdown(cx)
    }
}

super::pass_on!(Message);
