//! The stream under the HTTP/2 code: it counts frames that bring nothing, and ends the connection that sends a flood.
//!
//! The library answers SETTINGS and PING for ever and takes empty DATA without end: each costs the client 9 bytes.
//! Legitimate ones come with a body, with the answer to one, or now and then.

use super::brake::{Brake, PAUSE};
use crate::event_loop::{Turn, Work};
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
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

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
/// The longest pause for several requests that were dear and in vain: heads that are refused for their size, which can
/// take a hundred times as long to read as usual ones, and what the brake says.
const PAUSE_MAX: Duration = Duration::from_millis(500);
/// How long a connection counts as dear after a pause, and how many bytes of it are read at once then.
const DEAR_FOR: Duration = Duration::from_secs(1);
const LITTLE: usize = 2048;
/// The longest time from a header block's first byte to its last.
const BLOCK_MAX: Duration = Duration::from_secs(5);

const PREFACE: usize = 24;
/// Without the reserved bit.
const STREAM_MASK: u32 = 0x7fff_ffff;
/// Frames that a request, and each frame of a response's body, earns beside its bytes.
const HEAD_EARNS: u32 = 4;
const DATA_EARNS: u32 = 3;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const CONTINUATION: u8 = 9;
const SETTINGS: u8 = 4;
const END_HEADERS: u8 = 4;
const END_STREAM: u8 = 1;
const ACK: u8 = 1;

/// A connection whose frames are counted.
#[derive(Debug)]
pub(super) struct Frames {
    inner: Stream,
    meter: Meter,
    backlog: Backlog,
    pause: Pin<Box<Sleep>>,
    was_paused: bool,
    turn: Turn,
    /// When the header block must be whole that has begun.
    block_ends: Option<Pin<Box<Sleep>>>,
}

/// Requests that were read and not taken by anybody yet. The library would read as many as it may at once, and hold all
/// their heads; a small head on the wire can be a large one in memory.
#[derive(Debug, Clone, Default)]
pub(super) struct Backlog {
    waiting: Arc<AtomicUsize>,
    flooded: Arc<AtomicBool>,
    /// For so many requests no pause was made yet.
    pauses: Arc<AtomicUsize>,
    brake: Arc<Brake>,
}

impl Backlog {
    /// One was taken.
    pub(super) fn taken(&self) {
        let one_less = |count: usize| Some(count.saturating_sub(1));
        // It always is one less, and never less than none.
        self.waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less).ok();
    }

    /// None is left: the others were refused by the library, most often because they are far too large.
    pub(super) fn clear(&self) {
        self.pause_for(self.waiting.swap(0, Ordering::Relaxed));
    }

    /// So many requests were dear and in vain.
    pub(super) fn pause_for(&self, requests: usize) {
        self.pauses.fetch_add(requests, Ordering::Relaxed);
    }

    /// A request was answered.
    pub(super) fn answered(&self, was_unproven: bool) {
        self.pause_for(usize::from(self.brake.answered(was_unproven)));
    }

    /// The connection's.
    pub(super) fn brake(&self) -> Arc<Brake> {
        Arc::clone(&self.brake)
    }

    /// Whether the connection was ended for a flood.
    pub(super) fn was_flooded(&self) -> bool {
        self.flooded.load(Ordering::Relaxed)
    }

    fn is_full(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) >= BACKLOG_MAX
    }
}

impl Frames {
    pub(super) fn new(inner: Stream, backlog: Backlog) -> Self {
        let now = Instant::now();
        Self {
            inner,
            meter: Meter::new(now),
            backlog,
            pause: Box::pin(sleep_until(now)),
            was_paused: false,
            turn: Turn::default(),
            block_ends: None,
        }
    }
}

impl Frames {
    /// Ready when it may be read.
    fn poll_pause(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let requests = self.backlog.pauses.swap(0, Ordering::Relaxed);
        if requests > 0 {
            let now = Instant::now();
            let pause = PAUSE.saturating_mul(u32::try_from(requests).unwrap_or(u32::MAX));
            let until = self.pause.deadline().max(now).checked_add(pause).unwrap_or(now);
            self.pause.as_mut().reset(until.min(now + PAUSE_MAX));
            self.was_paused = true;
        }
        self.pause.as_mut().poll(cx)
    }

    /// Whether a header block has begun too long ago. Wakes the task when that is so.
    fn is_block_late(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(block) = self.meter.block else {
            self.block_ends = None;
            return false;
        };
        let deadline = block.since + BLOCK_MAX;
        let ends = self.block_ends.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        // One read may bring the end of a block and the begin of the next.
        if ends.deadline() != deadline {
            ends.as_mut().reset(deadline);
        }
        ends.as_mut().poll(cx).is_ready()
    }

    fn flooded(&self) -> io::Error {
        self.backlog.flooded.store(true, Ordering::Relaxed);
        io::Error::other("a flood of HTTP/2 frames without content")
    }

    /// Whether it was paused not long ago, so that what comes next may be dear, too.
    fn is_dear(&self) -> bool {
        // The first deadline is that of no pause.
        self.was_paused && self.pause.deadline().elapsed() < DEAR_FOR
    }

    /// Reads only so much that few dear heads can be in it, and one such connection after another.
    fn poll_read_little(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        ready!(self.turn.poll(Work::Long, cx));
        let mut little = [0; LITTLE];
        let most = little.len().min(buffer.remaining());
        let mut piece = ReadBuf::new(little.get_mut(..most).unwrap_or_default());
        ready!(Pin::new(&mut self.inner).poll_read(cx, &mut piece))?;
        buffer.put_slice(piece.filled());
        Poll::Ready(Ok(()))
    }
}

/// A frame, as far as its head tells (RFC 9113 § 4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Frame {
    kind: u8,
    flags: u8,
    length: usize,
    stream: u32,
}

/// Finds frames in bytes, however these are cut.
#[derive(Debug)]
struct Reader {
    /// Bytes of a payload, or of the preface, that are of no interest.
    skip: usize,
    head: [u8; 9],
    filled: usize,
}

impl Reader {
    const fn after(skip: usize) -> Self {
        Self { skip, head: [0; 9], filled: 0 }
    }

    /// Whether a frame, or nothing, has come to its end.
    const fn is_between_frames(&self) -> bool {
        self.skip == 0 && self.filled == 0
    }

    /// The next frame whose head ends in these bytes, which are consumed up to there.
    fn next(&mut self, bytes: &mut &[u8]) -> Option<Frame> {
        if self.skip > 0 {
            let skipped = self.skip.min(bytes.len());
            self.skip = self.skip.saturating_sub(skipped);
            *bytes = bytes.get(skipped..).unwrap_or_default();
            return None;
        }
        while let Some((first, rest)) = bytes.split_first() {
            *bytes = rest;
            if let Some(place) = self.head.get_mut(self.filled) {
                *place = *first;
            }
            self.filled = self.filled.saturating_add(1);
            if self.filled == self.head.len() {
                return Some(self.frame());
            }
        }
        None
    }

    fn frame(&mut self) -> Frame {
        let [high, middle, low, kind, flags, stream @ ..] = self.head;
        let length = usize::try_from(u32::from_be_bytes([0, high, middle, low])).unwrap_or(usize::MAX);
        (self.filled, self.skip) = (0, length);
        Frame { kind, flags, length, stream: u32::from_be_bytes(stream) & STREAM_MASK }
    }
}

/// What a connection may still send of frames without content.
#[derive(Debug)]
struct Meter {
    came: Reader,
    went: Reader,
    allowed: u32,
    earned: usize,
    refilled: Instant,
    block: Option<Block>,
    /// Heads of requests that came whole.
    heads: usize,
    /// The last stream.
    last: u32,
}

/// A header block that has not ended.
#[derive(Debug, Clone, Copy)]
struct Block {
    since: Instant,
    /// The present frame is its last.
    is_last: bool,
    /// It begins a stream; else it is trailers.
    is_request: bool,
}

/// More frames without content than anybody needs, or a header block that does not end.
#[derive(Debug, PartialEq, Eq)]
struct Flood;

impl Meter {
    const fn new(now: Instant) -> Self {
        let (came, went) = (Reader::after(PREFACE), Reader::after(0));
        Self { came, went, allowed: BURST, earned: 0, refilled: now, block: None, heads: 0, last: 0 }
    }

    /// Counts what comes.
    fn take(&mut self, mut bytes: &[u8], now: Instant) -> Result<(), Flood> {
        while !bytes.is_empty() {
            if let Some(frame) = self.came.next(&mut bytes) {
                self.count(frame, now)?;
            }
            if self.came.is_between_frames()
                && let Some(block) = self.block.take_if(|block| block.is_last)
            {
                self.heads = self.heads.saturating_add(usize::from(block.is_request));
            }
        }
        Ok(())
    }

    fn count(&mut self, frame: Frame, now: Instant) -> Result<(), Flood> {
        let has = |flag: u8| frame.flags & flag != 0;
        if matches!(frame.kind, HEADERS | CONTINUATION) {
            let begun =
                self.block.unwrap_or(Block { since: now, is_last: false, is_request: frame.stream > self.last });
            self.block = Some(Block { is_last: has(END_HEADERS), ..begun });
            self.last = self.last.max(frame.stream);
        }
        match frame.kind {
            HEADERS => {
                self.earn(HEAD_EARNS, 0);
                Ok(())
            }
            DATA if frame.length > 0 => {
                self.earn(0, frame.length);
                Ok(())
            }
            // The end of a body, and the answer to what we have sent.
            DATA if has(END_STREAM) => Ok(()),
            SETTINGS if has(ACK) => Ok(()),
            RST_STREAM => self.spend(RESET_COSTS, now),
            _ => self.spend(1, now),
        }
    }

    /// What we send of bodies earns the client its window updates and pings.
    fn sent(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            match self.went.next(&mut bytes) {
                Some(frame) if frame.kind == DATA && frame.length > 0 => self.earn(DATA_EARNS, frame.length),
                Some(_) | None => {}
            }
        }
    }

    fn earn(&mut self, frames: u32, bytes: usize) {
        let earned = self.earned.saturating_add(bytes);
        let more = u32::try_from(earned / BYTES_FOR_ONE).unwrap_or(u32::MAX).saturating_add(frames);
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
        ready!(self.poll_pause(cx));
        if self.backlog.is_full() {
            // Whoever takes one comes by here again at once.
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if self.is_block_late(cx) {
            return Poll::Ready(Err(self.flooded()));
        }
        let before = buffer.filled().len();
        if self.is_dear() {
            ready!(self.poll_read_little(cx, buffer))?;
        } else {
            ready!(Pin::new(&mut self.inner).poll_read(cx, buffer))?;
        }
        let came = buffer.filled().get(before..).unwrap_or_default();
        let taken = self.meter.take(came, Instant::now()).map_err(|Flood| self.flooded());
        let heads = std::mem::take(&mut self.meter.heads);
        self.backlog.waiting.fetch_add(heads, Ordering::Relaxed);
        Poll::Ready(taken)
    }
}

impl AsyncWrite for Frames {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.inner).poll_write(cx, bytes))?;
        self.meter.sent(bytes.get(..written).unwrap_or_default());
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
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

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

    /// A client that answers each small message of a stream with a window update and a ping.
    #[test]
    fn a_chatty_stream_is_no_flood() {
        let now = Instant::now();
        let mut meter = meter(now);
        for _ in 0..10_000 {
            meter.sent(&frame(DATA, 0, 20));
            meter.take(&frame(8, 0, 4), now).unwrap();
            meter.take(&frame(PING, 0, 8), now).unwrap();
        }
    }

    /// Small requests, each with an empty end.
    #[test]
    fn small_requests_are_no_flood() {
        let now = Instant::now();
        let mut meter = meter(now);
        for _ in 0..10_000 {
            meter.take(&frame(HEADERS, END_HEADERS, 30), now).unwrap();
            meter.take(&frame(DATA, END_STREAM, 0), now).unwrap();
            meter.take(&frame(8, 0, 4), now).unwrap();
        }
    }

    #[test]
    fn heads_of_requests_are_counted_when_they_are_whole() {
        let now = Instant::now();
        let mut meter = meter(now);
        let on = |stream: u8, mut frame: Vec<u8>| {
            frame[8] = stream;
            frame
        };
        let steps = [
            (on(1, frame(HEADERS, 0, 5)), 0),
            (on(1, frame(CONTINUATION, END_HEADERS, 5)), 1),
            (on(1, frame(DATA, 0, 5)), 1),
            (on(1, frame(HEADERS, END_HEADERS | END_STREAM, 5)), 1),
            (on(3, frame(HEADERS, END_HEADERS, 5)), 2),
        ];
        for (bytes, heads) in steps {
            let (last, rest) = bytes.split_last().unwrap();
            let before = meter.heads;
            meter.take(rest, now).unwrap();
            assert_eq!(meter.heads, before);
            meter.take(&[*last], now).unwrap();
            assert_eq!(meter.heads, heads);
        }
    }

    /// How long the stream of somebody lives who says no more than this.
    async fn lives(said: &[u8]) -> Option<Duration> {
        let (mut client, ours) = tokio::net::UnixStream::pair().unwrap();
        let backlog = Backlog::default();
        let stream: Stream = Box::new(pingora::protocols::l4::stream::Stream::from(ours));
        let mut frames = Frames::new(stream, backlog.clone());
        client.write_all(&[0; PREFACE]).await.unwrap();
        client.write_all(said).await.unwrap();
        let (started, mut buffer) = (Instant::now(), [0; 64]);
        let dies = async { while frames.read(&mut buffer).await.is_ok() {} };
        let died = tokio::time::timeout(Duration::from_secs(3600), dies).await.is_ok();
        assert_eq!(died, backlog.was_flooded());
        died.then(|| started.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn a_header_block_ends_in_time_even_if_nothing_comes() {
        let whole = frame(HEADERS, END_HEADERS, 5);
        assert_eq!(lives(&whole[..12]).await, Some(BLOCK_MAX), "a frame that is cut");
        assert_eq!(lives(&frame(HEADERS, 0, 5)).await, Some(BLOCK_MAX), "a block that goes on");
        assert_eq!(lives(&whole).await, None, "one that is whole");
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
