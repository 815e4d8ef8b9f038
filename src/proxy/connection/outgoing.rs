//! What is to be sent gathers until somebody wants it to go, so that a head and a short body are one packet, one call and
//! one record of TLS.

use bytes::{Buf, BytesMut};
use pingora::protocols::Stream;
use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::io::AsyncWrite;

/// So much gathers at most, in bytes.
const GATHERED_MAX: usize = 16 * 1024;

/// Bytes that are still to be sent. An idle connection has none, and no room for any.
#[derive(Debug, Default)]
pub(super) struct Outgoing(BytesMut);

impl Outgoing {
    /// Takes bytes, or sends them with those that wait where they are too many; how many were taken.
    pub(super) fn poll_write(
        &mut self,
        stream: &mut Stream,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        while self.0.len().saturating_add(bytes.len()) > GATHERED_MAX {
            let waiting = self.0.len();
            if waiting == 0 {
                return Pin::new(stream).poll_write(cx, bytes);
            }
            let pieces = [io::IoSlice::new(&self.0), io::IoSlice::new(bytes)];
            let sent = ready!(Pin::new(&mut *stream).poll_write_vectored(cx, &pieces))?;
            self.went(sent.min(waiting))?;
            if sent > waiting {
                return Poll::Ready(Ok(sent.saturating_sub(waiting)));
            }
        }
        self.0.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    /// Sends what waits.
    pub(super) fn poll_send(&mut self, stream: &mut Stream, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.0.is_empty() {
            let sent = ready!(Pin::new(&mut *stream).poll_write(cx, &self.0))?;
            self.went(sent)?;
        }
        Poll::Ready(Ok(()))
    }

    fn went(&mut self, bytes: usize) -> io::Result<()> {
        if bytes == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.0.advance(bytes);
        if self.0.is_empty() {
            self.0 = BytesMut::new();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::future::poll_fn;
    use tokio::io::{AsyncReadExt, duplex};

    /// Writes pieces, with a flush behind some of them, to somebody who reads little at once.
    async fn arrives(pieces: Vec<(usize, bool)>, room: usize) -> (Vec<u8>, Vec<u8>) {
        let (near, mut far) = duplex(room);
        let mut stream: Stream = Box::new(near);
        let mut outgoing = Outgoing::default();
        let reading = tokio::spawn(async move {
            let mut all = Vec::new();
            far.read_to_end(&mut all).await.unwrap();
            all
        });
        let mut sent = Vec::new();
        for (number, (length, flushes)) in pieces.into_iter().enumerate() {
            let piece = vec![u8::try_from(number % 251).unwrap(); length];
            let mut rest = piece.as_slice();
            while !rest.is_empty() {
                let taken = poll_fn(|cx| outgoing.poll_write(&mut stream, cx, rest)).await.unwrap();
                rest = &rest[taken..];
            }
            sent.extend(piece);
            if flushes {
                poll_fn(|cx| outgoing.poll_send(&mut stream, cx)).await.unwrap();
                assert_eq!(outgoing.0.capacity(), 0, "an idle connection holds nothing");
            }
        }
        poll_fn(|cx| outgoing.poll_send(&mut stream, cx)).await.unwrap();
        drop(stream);
        (sent, reading.await.unwrap())
    }

    proptest! {
        /// Every byte once, in order, whatever fits.
        #[test]
        fn everything_arrives(
            pieces in prop::collection::vec((0..40_000_usize, any::<bool>()), 0..12),
            room in 1..70_000_usize,
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let (sent, received) = runtime.block_on(arrives(pieces, room));
            prop_assert!(sent == received);
        }
    }

    #[tokio::test]
    async fn a_head_and_a_short_body_go_together() {
        let (near, mut far) = duplex(1024);
        let mut stream: Stream = Box::new(near);
        let mut outgoing = Outgoing::default();
        for piece in [&b"head"[..], b"body"] {
            poll_fn(|cx| outgoing.poll_write(&mut stream, cx, piece)).await.unwrap();
        }
        let mut buffer = [0; 16];
        let nothing_yet = tokio::time::timeout(std::time::Duration::ZERO, far.read(&mut buffer)).await;
        assert!(nothing_yet.is_err());
        poll_fn(|cx| outgoing.poll_send(&mut stream, cx)).await.unwrap();
        assert_eq!(far.read(&mut buffer).await.unwrap(), 8);
    }
}
