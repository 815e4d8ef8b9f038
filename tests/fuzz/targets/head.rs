//! Heads and bodies of HTTP/1.1: what is read has one reading, however the wire cuts it.
#![no_main]

use belay::request::wire::{Announced, Framing, Remaining, end_of_head, read_head};
use belay::request::{Facts, Head, Protocol};
use http::Method;
use libfuzzer_sys::fuzz_target;

/// Taken whole and byte by byte a body is the same.
fn reads_alike(framing: Framing, body: &[u8]) {
    let mut whole = Remaining::of(framing);
    let taken = whole.take(body);
    let mut pieces = Remaining::of(framing);
    let counted = body.iter().try_fold(0, |count, byte| pieces.take(&[*byte]).map(|taken| count + taken));
    assert_eq!(taken.is_err(), counted.is_err());
    if let (Ok(taken), Ok(counted)) = (taken, counted) {
        assert_eq!((taken, &whole), (counted, &pieces));
    }
}

fn field<'a>(head: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let line = |line: &'a [u8]| {
        let colon = line.iter().position(|b| *b == b':')?;
        line[..colon].eq_ignore_ascii_case(name).then(|| line[colon + 1..].trim_ascii())
    };
    head.split(|b| *b == b'\n').skip(1).find_map(line)
}

fuzz_target!(|data: &[u8]| {
    for seen in [0, data.len() / 2, data.len()] {
        let found = end_of_head(data, seen);
        assert!(found.is_none_or(|end| end <= data.len()));
    }
    let Some(end) = end_of_head(data, 0) else { return };
    let (head, body) = data.split_at(end);
    let Ok(Announced { framing, .. }) = read_head(head, 100) else { return };
    reads_alike(framing, body);
    let target = head.split(|b| *b == b' ').nth(1).unwrap();
    let host = field(head, b"host");
    assert!(host.is_some(), "a head without a host has no reading");
    let read = Facts::read(&Head {
        method: &Method::GET,
        target,
        authority: None,
        hosts: [host, None],
        protocol: Protocol::Http1,
    });
    if let Ok(facts) = read {
        assert!(target.ends_with(facts.target.as_bytes()), "what is forwarded is what came");
        assert!(facts.path.segments().all(|segment| segment != ".." && !segment.contains(['\\', ';'])));
    }
});
