//! The HTTP/1.1 message on the wire, read strictly (RFC 9112): one reading, or none.
//!
//! Pingora's parser is generous: it takes bare line feeds, folded lines and bodies whose framing two servers read in
//! two ways. What comes through here has passed the strict reading first, byte for byte what Pingora then reads.

use super::METHOD_MAX;
use super::class::Class;
use super::headers::is_framing;
use crate::refusal::Refusal;

/// The longest line that frames a chunk, its extensions included, in bytes.
const CHUNK_LINE_MAX: usize = 256;
/// The longest trailer section, in bytes.
const TRAILERS_MAX: usize = 8 * 1024;

/// What follows a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// So many bytes; none at all where the head names no length.
    Length(u64),
    /// Chunks.
    Chunked,
}

/// What a head says of its message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Announced {
    /// What follows.
    pub framing: Framing,
    /// The client waits for a word before it sends the body (RFC 9110 § 10.1.1).
    pub expects: bool,
}

/// Where a head ends, if it does: after the first empty line. `seen` bytes were looked at before.
#[must_use]
pub fn end_of_head(bytes: &[u8], seen: usize) -> Option<usize> {
    let from = seen.saturating_sub(3);
    let rest = bytes.get(from..)?;
    // An empty line that ends in a bare LF ends the head too, so that it is judged and not waited for.
    let ends = memchr::memchr_iter(b'\n', rest).map(|at| at.saturating_add(1));
    let mut ends = ends.filter(|end| {
        let before = rest.get(..end.saturating_sub(1)).unwrap_or_default();
        before.ends_with(b"\n") || before.ends_with(b"\r\n\r")
    });
    let end = ends.next()?;
    Some(from.saturating_add(end))
}

/// Reads a whole head, its empty line included.
///
/// # Errors
/// The first rule that it breaks.
pub fn read_head(head: &[u8], headers_max: usize) -> Result<Announced, Refusal> {
    let text = head.strip_suffix(b"\r\n\r\n").ok_or(Refusal::MalformedHead)?;
    let mut lines = Lines(Some(text));
    let version = request_line(lines.next().ok_or(Refusal::MalformedHead)??)?;
    let mut fields = Fields::default();
    for line in lines {
        fields.take(line?)?;
        if fields.count > headers_max {
            return Err(Refusal::HeadTooLarge);
        }
    }
    Ok(Announced { framing: fields.framing(version)?, expects: fields.expects })
}

/// Lines that end in CRLF, and hold neither of the two alone.
struct Lines<'a>(Option<&'a [u8]>);

impl<'a> Iterator for Lines<'a> {
    type Item = Result<&'a [u8], Refusal>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.0.take()?;
        let line = match memchr::memchr2(b'\r', b'\n', rest) {
            None => rest,
            Some(end) => {
                let (line, after) = rest.split_at(end);
                let Some(after) = after.strip_prefix(b"\r\n") else { return Some(Err(Refusal::MalformedHead)) };
                self.0 = Some(after);
                line
            }
        };
        Some(Ok(line))
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Version {
    Http10,
    Http11,
}

/// RFC 9112 § 3: method, target and version, one space between them.
fn request_line(line: &[u8]) -> Result<Version, Refusal> {
    let mut parts = line.split(|b| *b == b' ');
    let (Some(method), Some(target), Some(version), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(Refusal::MalformedHead);
    };
    if method.is_empty() || !Class::TOKEN.has_all(method) || method.len() > METHOD_MAX {
        return Err(Refusal::MalformedHead);
    }
    let version = match version {
        b"HTTP/1.1" => Version::Http11,
        b"HTTP/1.0" => Version::Http10,
        [b'H', b'T', b'T', b'P', b'/', ..] => return Err(Refusal::UnsupportedVersion),
        _ => return Err(Refusal::MalformedHead),
    };
    if method == b"CONNECT" {
        return Err(Refusal::ConnectRefused);
    }
    // Pingora would cut a fragment off, and refuse others without a record.
    if target.is_empty() || !Class::TARGET.has_all(target) { Err(Refusal::MalformedTarget) } else { Ok(version) }
}

/// RFC 9110 § 5.6.3: spaces and tabs around a value, and nothing else.
fn trim(value: &[u8]) -> &[u8] {
    let is_white = |b: &u8| matches!(b, b' ' | b'\t');
    let begin = value.iter().position(|b| !is_white(b)).unwrap_or(value.len());
    let end = value.iter().rposition(|b| !is_white(b)).map_or(begin, |last| last.saturating_add(1));
    value.get(begin..end).unwrap_or_default()
}

/// RFC 9110 § 5.5. All bytes are looked at, many at once, as values are long and good.
fn is_printable(value: &[u8]) -> bool {
    value.iter().fold(true, |all, b| all & (*b == b'\t' || (*b >= 0x20 && *b != 0x7f)))
}

/// What the fields of a head say about its framing.
#[derive(Default)]
struct Fields {
    count: usize,
    hosts: usize,
    length: Option<u64>,
    chunked: bool,
    upgrades: bool,
    expects: bool,
}

impl Fields {
    /// RFC 9112 § 5: a name, a colon right after it, and a value without control bytes on one line.
    fn take(&mut self, line: &[u8]) -> Result<(), Refusal> {
        let colon = memchr::memchr(b':', line).ok_or(Refusal::MalformedHead)?;
        let (name, value) = (line.get(..colon).unwrap_or_default(), line.get(colon..).unwrap_or_default());
        let value = trim(value.strip_prefix(b":").unwrap_or_default());
        if name.is_empty() || !Class::TOKEN.has_all(name) || !is_printable(value) {
            return Err(Refusal::MalformedHead);
        }
        self.count = self.count.saturating_add(1);
        let is = |own: &[u8]| name.eq_ignore_ascii_case(own);
        if is(b"host") {
            self.hosts = self.hosts.saturating_add(1);
        } else if is(b"content-length") {
            self.take_length(value)?;
        } else if is(b"transfer-encoding") {
            self.take_encoding(value)?;
        } else if is(b"expect") {
            if !value.eq_ignore_ascii_case(b"100-continue") {
                return Err(Refusal::ExpectationRefused);
            }
            self.expects = true;
        } else if is(b"upgrade") {
            self.upgrades = true;
        }
        not_in_disguise(name)
    }

    /// RFC 9112 § 6.3: one length, once. A list of equal ones is a list all the same.
    fn take_length(&mut self, value: &[u8]) -> Result<(), Refusal> {
        let digits = !value.is_empty() && value.len() <= 18 && value.iter().all(u8::is_ascii_digit);
        let number = std::str::from_utf8(value).ok().filter(|_| digits).and_then(|text| text.parse().ok());
        let number = number.filter(|_| self.length.is_none()).ok_or(Refusal::MalformedRequest)?;
        self.length = Some(number);
        Ok(())
    }

    fn take_encoding(&mut self, value: &[u8]) -> Result<(), Refusal> {
        if self.chunked || !value.eq_ignore_ascii_case(b"chunked") {
            return Err(Refusal::MalformedRequest);
        }
        self.chunked = true;
        Ok(())
    }

    fn framing(&self, version: Version) -> Result<Framing, Refusal> {
        if self.hosts != 1 {
            return Err(Refusal::MalformedAuthority);
        }
        let has_body = self.chunked || self.length.is_some_and(|length| length > 0);
        // Both framings at once, chunks in HTTP/1.0, and a body before a tunnel are read in different ways.
        let doubtful = self.chunked && (self.length.is_some() || version == Version::Http10);
        if doubtful || (self.upgrades && has_body) {
            return Err(Refusal::MalformedRequest);
        }
        Ok(if self.chunked { Framing::Chunked } else { Framing::Length(self.length.unwrap_or(0)) })
    }
}

/// Servers that turn `_` into `-` would read `Content_Length` and its like as framing.
fn not_in_disguise(name: &[u8]) -> Result<(), Refusal> {
    if !name.contains(&b'_') {
        return Ok(());
    }
    let dashed = String::from_utf8_lossy(name).replace('_', "-");
    if is_framing(&dashed) { Err(Refusal::MalformedRequest) } else { Ok(()) }
}

/// What of a message is still to come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remaining(State);

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Done,
    Length(u64),
    /// The line that says how long the next chunk is, as far as it came.
    Size(Line),
    Data(u64),
    /// The line end after a chunk, as far as it came.
    AfterData(u8),
    Trailer(Line, usize),
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Line(Vec<u8>);

impl Line {
    /// Takes a byte; the line without its end once it is whole.
    fn take(&mut self, byte: u8, max: usize) -> Result<Option<Vec<u8>>, Refusal> {
        match (byte, self.0.last()) {
            (b'\n', Some(b'\r')) => {
                self.0.pop();
                Ok(Some(std::mem::take(&mut self.0)))
            }
            (b'\n', _) | (_, Some(b'\r')) => Err(Refusal::MalformedRequest),
            (_, _) if self.0.len() >= max => Err(Refusal::MalformedRequest),
            (_, _) => {
                self.0.push(byte);
                Ok(None)
            }
        }
    }
}

impl Remaining {
    /// All of a body.
    #[must_use]
    pub fn of(framing: Framing) -> Self {
        Self(match framing {
            Framing::Length(0) => State::Done,
            Framing::Length(length) => State::Length(length),
            Framing::Chunked => State::Size(Line::default()),
        })
    }

    /// Whether the message has ended.
    #[must_use]
    pub const fn is_nothing(&self) -> bool {
        matches!(self.0, State::Done)
    }

    /// Takes bytes from the wire; how many of them belong to the message.
    ///
    /// # Errors
    /// [`Refusal::MalformedRequest`] where they are not chunks as RFC 9112 § 7.1 writes them.
    pub fn take(&mut self, bytes: &[u8]) -> Result<usize, Refusal> {
        let mut rest = bytes;
        while !rest.is_empty() && !self.is_nothing() {
            let taken = self.step(rest)?;
            rest = rest.get(taken..).unwrap_or_default();
        }
        Ok(bytes.len().saturating_sub(rest.len()))
    }

    fn step(&mut self, rest: &[u8]) -> Result<usize, Refusal> {
        let first = rest.first().copied().unwrap_or_default();
        let mut taken = 1;
        let next = match &mut self.0 {
            State::Done => return Ok(0),
            State::Length(left) => {
                taken = pass(left, rest);
                (*left == 0).then_some(State::Done)
            }
            State::Data(left) => {
                taken = pass(left, rest);
                (*left == 0).then_some(State::AfterData(b'\r'))
            }
            State::Size(line) => match line.take(first, CHUNK_LINE_MAX)? {
                Some(line) if chunk_size(&line)? == 0 => Some(State::Trailer(Line::default(), 0)),
                Some(line) => Some(State::Data(chunk_size(&line)?)),
                None => None,
            },
            State::AfterData(expected) if first != *expected => return Err(Refusal::MalformedRequest),
            State::AfterData(b'\r') => Some(State::AfterData(b'\n')),
            State::AfterData(_) => Some(State::Size(Line::default())),
            State::Trailer(line, length) => {
                *length = length.saturating_add(1);
                match line.take(first, TRAILERS_MAX.saturating_sub(*length))? {
                    Some(line) if line.is_empty() => Some(State::Done),
                    Some(line) => {
                        Fields::default().take(&line).map_err(|_bad_field| Refusal::MalformedRequest)?;
                        None
                    }
                    None => None,
                }
            }
        };
        if let Some(next) = next {
            self.0 = next;
        }
        Ok(taken)
    }
}

/// Counts off how many of the bytes belong to what is left.
fn pass(left: &mut u64, bytes: &[u8]) -> usize {
    let passed = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
    *left = left.saturating_sub(passed as u64);
    passed
}

/// RFC 9112 § 7.1: hexadecimal digits, and perhaps extensions, which nobody uses but who wants to hide something in
/// them: only visible ones with a name are taken.
fn chunk_size(line: &[u8]) -> Result<u64, Refusal> {
    let digits = line.iter().take_while(|b| b.is_ascii_hexdigit()).count();
    let (size, extensions) = line.split_at(digits);
    let is_extension = |part: &[u8]| {
        let visible = part.iter().all(|b| b.is_ascii_graphic() || *b == b' ');
        visible && part.first().is_some_and(|first| Class::TOKEN.has_all(&[*first]))
    };
    let mut parts = extensions.split(|b| *b == b';');
    let well_formed = parts.next().is_some_and(<[u8]>::is_empty) && parts.all(is_extension);
    let size = std::str::from_utf8(size).ok().filter(|_| (1..=15).contains(&digits));
    let size = size.and_then(|text| u64::from_str_radix(text, 16).ok());
    size.filter(|_| well_formed).ok_or(Refusal::MalformedRequest)
}

#[cfg(test)]
mod tests;
