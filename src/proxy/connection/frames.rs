//! The stream under the HTTP/2 code: it counts frames that bring nothing, and ends the connection that sends a flood.
//!
//! The library answers SETTINGS and PING for ever and takes empty DATA without end: each costs the client 9 bytes.
//! Legitimate ones come with a body, with the answer to one, or now and then.

use async_trait::async_trait;
use pingora::protocols::tls::{SslDigest, TlsRef};
use pingora::protocols::{
    ALPN, GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, Stream, TimingDigest,
    UniqueID, UniqueIDType,
};
use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

/// Frames without content that a connection may send at once.
const BURST: u32 = 1_000;
/// And those that it may send each second.
const RATE: u32 = 100;
/// Bytes of bodies, in either direction, that earn one more.
const BYTES_FOR_ONE: usize = 1024;
/// As many frames as one reset counts for: it throws away work that was begun (CVE-2023-44487).
const RESET_COSTS: u32 = 10;
/// Requests that may be read before one is taken.
const BACKLOG_MAX: usize = 4;
/// The longest time from a header block's first byte to its last.
const BLOCK_MAX: Duration = Duration::from_secs(5);

const PREFACE: usize = 24;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 4;

/// A connection whose frames are counted.
#[derive(Debug)]
pub(super) struct Frames {
    inner: Stream,
    meter: Meter,
    backlog: Backlog,
}

/// Requests that were read and not taken by anybody yet. The library would read as many as it may at once, and hold all
/// their heads; a small head on the wire can be a large one in memory.
#[derive(Debug, Clone, Default)]
pub(super) struct Backlog(Arc<AtomicUsize>);

impl Backlog {
    /// One was taken.
    pub(super) fn taken(&self) {
        let one_less = |count: usize| Some(count.saturating_sub(1));
        // It always is one less, and never less than none.
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less).ok();
    }

    /// None is left: the others were refused by the library.
    pub(super) fn clear(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    fn is_full(&self) -> bool {
        self.0.load(Ordering::Relaxed) >= BACKLOG_MAX
    }
}

impl Frames {
    pub(super) fn new(inner: Stream, backlog: Backlog) -> Self {
        Self { inner, meter: Meter::new(Instant::now()), backlog }
    }
}

/// The frames of a connection, read as far as their heads (RFC 9113 § 4.1).
#[derive(Debug)]
struct Meter {
    /// Bytes of a payload, or of the preface, that are of no interest.
    skip: usize,
    head: [u8; 9],
    filled: usize,
    allowed: u32,
    earned: usize,
    refilled: Instant,
    block: Option<Block>,
    /// Header blocks that have begun.
    heads: usize,
}

/// A header block that has not ended.
#[derive(Debug, Clone, Copy)]
struct Block {
    since: Instant,
    /// The present frame is its last.
    is_last: bool,
}

/// More frames without content than anybody needs, or a header block that does not end.
#[derive(Debug, PartialEq, Eq)]
struct Flood;

impl Meter {
    const fn new(now: Instant) -> Self {
        Self { skip: PREFACE, head: [0; 9], filled: 0, allowed: BURST, earned: 0, refilled: now, block: None, heads: 0 }
    }

    fn take(&mut self, mut bytes: &[u8], now: Instant) -> Result<(), Flood> {
        while let Some(first) = bytes.first() {
            if self.skip > 0 {
                let skipped = self.skip.min(bytes.len());
                self.skip -= skipped;
                bytes = bytes.get(skipped..).unwrap_or_default();
            } else {
                self.take_head(*first, now)?;
                bytes = bytes.get(1..).unwrap_or_default();
            }
            if self.skip == 0 && self.filled == 0 {
                self.block = self.block.filter(|block| !block.is_last);
            }
        }
        match self.block {
            Some(block) if now.duration_since(block.since) > BLOCK_MAX => Err(Flood),
            Some(_) | None => Ok(()),
        }
    }

    /// One more byte of a frame's head.
    fn take_head(&mut self, byte: u8, now: Instant) -> Result<(), Flood> {
        if let Some(place) = self.head.get_mut(self.filled) {
            *place = byte;
        }
        self.filled = self.filled.saturating_add(1);
        if self.filled < self.head.len() {
            return Ok(());
        }
        self.filled = 0;
        self.frame(now)
    }

    fn frame(&mut self, now: Instant) -> Result<(), Flood> {
        let [high, middle, low, kind, flags, ..] = self.head;
        let length = u32::from_be_bytes([0, high, middle, low]);
        self.skip = usize::try_from(length).unwrap_or(usize::MAX);
        if matches!(kind, HEADERS | CONTINUATION) {
            let since = self.block.map_or(now, |block| block.since);
            self.block = Some(Block { since, is_last: flags & END_HEADERS != 0 });
        }
        match kind {
            HEADERS => {
                self.heads = self.heads.saturating_add(1);
                Ok(())
            }
            DATA if length > 0 => {
                self.earn(self.skip);
                Ok(())
            }
            RST_STREAM => self.spend(RESET_COSTS, now),
            _ => self.spend(1, now),
        }
    }

    fn earn(&mut self, bytes: usize) {
        let earned = self.earned.saturating_add(bytes);
        let more = u32::try_from(earned / BYTES_FOR_ONE).unwrap_or(u32::MAX);
        self.allowed = self.allowed.saturating_add(more).min(BURST);
        self.earned = earned % BYTES_FOR_ONE;
    }

    fn spend(&mut self, cost: u32, now: Instant) -> Result<(), Flood> {
        let seconds = now.duration_since(self.refilled).as_secs();
        if seconds > 0 {
            let more = u32::try_from(seconds).unwrap_or(u32::MAX).saturating_mul(RATE);
            self.allowed = self.allowed.saturating_add(more).min(BURST);
            self.refilled = now;
        }
        self.allowed = self.allowed.checked_sub(cost).ok_or(Flood)?;
        Ok(())
    }
}

impl AsyncRead for Frames {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.backlog.is_full() {
            // Whoever takes one comes by here again at once.
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buffer))?;
        let came = buffer.filled().get(before..).unwrap_or_default();
        let flood = |Flood| io::Error::other("a flood of HTTP/2 frames without content");
        let taken = self.meter.take(came, Instant::now()).map_err(flood);
        let heads = std::mem::take(&mut self.meter.heads);
        self.backlog.0.fetch_add(heads, Ordering::Relaxed);
        Poll::Ready(taken)
    }
}

impl AsyncWrite for Frames {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.inner).poll_write(cx, bytes))?;
        // The answers to a flood must not pay for it: they are short.
        self.meter.earn(written.saturating_sub(BYTES_FOR_ONE));
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

super::pass_on!(Frames);

#[cfg(test)]
mod tests {
    use super::*;
    use test_case::test_case;

    const SETTINGS: u8 = 4;
    const PING: u8 = 6;

    fn frame(kind: u8, flags: u8, length: usize) -> Vec<u8> {
        let [.., high, middle, low] = u32::try_from(length).unwrap().to_be_bytes();
        let mut frame = vec![high, middle, low, kind, flags, 0, 0, 0, 1];
        frame.resize(9 + length, 0);
        frame
    }

    fn meter(now: Instant) -> Meter {
        let mut meter = Meter::new(now);
        meter.take(&[0; PREFACE], now).unwrap();
        meter
    }

    fn how_many(kind: u8, length: usize) -> usize {
        let now = Instant::now();
        let mut meter = meter(now);
        (0..5_000).take_while(|_| meter.take(&frame(kind, 0, length), now).is_ok()).count()
    }

    #[test_case(SETTINGS, 0, 1_000; "settings")]
    #[test_case(PING, 8, 1_000; "pings")]
    #[test_case(DATA, 0, 1_000; "empty data")]
    #[test_case(CONTINUATION, 0, 1_000; "empty continuations")]
    #[test_case(RST_STREAM, 4, 100; "resets")]
    #[test_case(99, 10, 1_000; "unknown frames")]
    #[test_case(DATA, 1, 5_000; "a body byte by byte")]
    fn at_once(kind: u8, length: usize, expected: usize) {
        assert_eq!(how_many(kind, length), expected);
    }

    #[test]
    fn some_each_second_are_fine() {
        let start = Instant::now();
        let mut meter = meter(start);
        for second in 0..60 {
            let now = start + Duration::from_secs(second);
            let pings = (0..RATE).map(|_| meter.take(&frame(PING, 0, 8), now));
            assert_eq!(pings.collect::<Result<Vec<_>, _>>().map(drop), Ok(()), "second {second}");
        }
    }

    #[test]
    fn bodies_earn_frames() {
        let now = Instant::now();
        let mut meter = meter(now);
        for _ in 0..10_000 {
            meter.take(&frame(DATA, 0, BYTES_FOR_ONE), now).unwrap();
            meter.take(&frame(PING, 0, 8), now).unwrap();
        }
    }

    #[test]
    fn a_header_block_ends_in_time() {
        let start = Instant::now();
        let mut meter = meter(start);
        meter.take(&frame(HEADERS, 0, 5), start).unwrap();
        assert_eq!(meter.take(&frame(CONTINUATION, 0, 5), start + BLOCK_MAX), Ok(()));
        let late = start + BLOCK_MAX + Duration::from_millis(1);
        assert_eq!(meter.take(&frame(CONTINUATION, END_HEADERS, 5), late), Ok(()), "it has ended");
        meter.take(&frame(HEADERS, 0, 5), start).unwrap();
        assert_eq!(meter.take(&[0], late), Err(Flood));
        let mut meter = self::meter(start);
        let whole = frame(HEADERS, END_HEADERS, 5);
        meter.take(&whole[..12], start).unwrap();
        assert_eq!(meter.take(&whole[12..13], late), Err(Flood), "byte by byte");
    }

    #[test]
    fn frames_are_counted_however_they_are_cut() {
        let now = Instant::now();
        let mut meter = meter(now);
        let flood = frame(PING, 0, 8).repeat(1_001);
        let taken = flood.chunks(7).try_for_each(|piece| meter.take(piece, now));
        assert_eq!(taken, Err(Flood));
    }
}
