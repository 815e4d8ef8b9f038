//! The strict reading of heads and chunks.

use super::*;
use proptest::prelude::*;
use test_case::test_case;

const HOST: &str = "Host: shop.example.com\r\n";

fn read(text: &str) -> Result<Framing, Refusal> {
    read_head(text.as_bytes(), 10).map(|announced| announced.framing)
}

#[test_case("", Ok(Framing::Length(0)); "no body")]
#[test_case("content-length: 5\r\n", Ok(Framing::Length(5)); "a length")]
#[test_case("Content-Length:5\r\n", Ok(Framing::Length(5)); "without a space")]
#[test_case("Transfer-Encoding: Chunked\r\n", Ok(Framing::Chunked); "chunks")]
#[test_case("Expect: 100-Continue\r\n", Ok(Framing::Length(0)); "expects to go on")]
#[test_case("X-Empty:\r\n", Ok(Framing::Length(0)); "empty value")]
#[test_case("X: a\tb\r\n", Ok(Framing::Length(0)); "tab inside")]
#[test_case("X: \u{e9}\r\n", Ok(Framing::Length(0)); "beyond ascii")]
#[test_case("Upgrade: websocket\r\n", Ok(Framing::Length(0)); "upgrade")]
#[test_case("Content-Length: 5\r\nContent-Length: 5\r\n", Err(Refusal::MalformedRequest); "two equal lengths")]
#[test_case("Content-Length: 5, 5\r\n", Err(Refusal::MalformedRequest); "a list of lengths")]
#[test_case("Content-Length: +5\r\n", Err(Refusal::MalformedRequest); "signed length")]
#[test_case("Content-Length: 0x5\r\n", Err(Refusal::MalformedRequest); "hexadecimal length")]
#[test_case("Content-Length: \r\n", Err(Refusal::MalformedRequest); "empty length")]
#[test_case("Content-Length: 9999999999999999999\r\n", Err(Refusal::MalformedRequest); "endless length")]
#[test_case("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", Err(Refusal::MalformedRequest); "both framings")]
#[test_case("Transfer-Encoding: gzip, chunked\r\n", Err(Refusal::MalformedRequest); "two encodings")]
#[test_case("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", Err(Refusal::MalformedRequest); "twice")]
#[test_case("Transfer-Encoding: xchunked\r\n", Err(Refusal::MalformedRequest); "another encoding")]
#[test_case("Transfer-Encoding: \u{b}chunked\r\n", Err(Refusal::MalformedHead); "vertical tab")]
#[test_case("Transfer_Encoding: chunked\r\n", Err(Refusal::MalformedRequest); "underscore")]
#[test_case("Content_Length: 5\r\n", Err(Refusal::MalformedRequest); "underscore length")]
#[test_case("Upgrade: websocket\r\nContent-Length: 5\r\n", Err(Refusal::MalformedRequest); "body before a tunnel")]
#[test_case("Host: other\r\n", Err(Refusal::MalformedAuthority); "two hosts")]
#[test_case("X : a\r\n", Err(Refusal::MalformedHead); "space before the colon")]
#[test_case(" X: a\r\n", Err(Refusal::MalformedHead); "folded")]
#[test_case("\tX: a\r\n", Err(Refusal::MalformedHead); "folded by a tab")]
#[test_case(": a\r\n", Err(Refusal::MalformedHead); "empty name")]
#[test_case("X\r\n", Err(Refusal::MalformedHead); "no colon")]
#[test_case("X: a\nY: b\r\n", Err(Refusal::MalformedHead); "bare lf")]
#[test_case("X: a\rY: b\r\n", Err(Refusal::MalformedHead); "bare cr")]
#[test_case("X: a\0b\r\n", Err(Refusal::MalformedHead); "nul")]
#[test_case("X: a\u{7f}b\r\n", Err(Refusal::MalformedHead); "delete")]
#[test_case("X: \u{c}a\r\n", Err(Refusal::MalformedHead); "form feed before a value")]
#[test_case("Content-Length: 5\u{c}\r\n", Err(Refusal::MalformedHead); "form feed after a length")]
#[test_case("X\0: a\r\n", Err(Refusal::MalformedHead); "nul in the name")]
#[test_case("Expect: more\r\n", Err(Refusal::ExpectationRefused); "another expectation")]
fn fields(fields: &str, expected: Result<Framing, Refusal>) {
    assert_eq!(read(&format!("GET / HTTP/1.1\r\n{HOST}{fields}\r\n")), expected);
}

#[test_case("Expect: 100-continue\r\n", true; "it waits")]
#[test_case("eXPECT:100-Continue\r\n", true; "in another spelling")]
#[test_case("X-Expect: 100-continue\r\n", false; "another name")]
#[test_case("", false; "it does not say so")]
fn expects(fields: &str, expected: bool) {
    let head = format!("GET / HTTP/1.1\r\n{HOST}{fields}\r\n");
    assert_eq!(read_head(head.as_bytes(), 10).unwrap().expects, expected);
}

#[test_case("GET / HTTP/1.1", Ok(Framing::Length(0)); "as it should be")]
#[test_case("get-it / HTTP/1.0", Ok(Framing::Length(0)); "an unknown method")]
#[test_case("GET  / HTTP/1.1", Err(Refusal::MalformedHead); "two spaces")]
#[test_case("GET /\tHTTP/1.1", Err(Refusal::MalformedHead); "tab")]
#[test_case(" GET / HTTP/1.1", Err(Refusal::MalformedHead); "space first")]
#[test_case("\r\nGET / HTTP/1.1", Err(Refusal::MalformedHead); "empty line first")]
#[test_case("GET / HTTP/1.1 ", Err(Refusal::MalformedHead); "space last")]
#[test_case("GET /", Err(Refusal::MalformedHead); "version 0.9")]
#[test_case("G<T / HTTP/1.1", Err(Refusal::MalformedHead); "no method")]
#[test_case("GET / http/1.1", Err(Refusal::MalformedHead); "lower case version")]
#[test_case("GET / HTTP/1.2", Err(Refusal::UnsupportedVersion); "version 1.2")]
#[test_case("PRI * HTTP/2.0", Err(Refusal::UnsupportedVersion); "h2 preface")]
#[test_case("GET /a#b HTTP/1.1", Err(Refusal::MalformedTarget); "fragment")]
#[test_case("GET /\u{e9} HTTP/1.1", Err(Refusal::MalformedTarget); "not ascii")]
#[test_case("GET /\0 HTTP/1.1", Err(Refusal::MalformedTarget); "nul")]
#[test_case("GET /a`b HTTP/1.1", Err(Refusal::MalformedTarget); "backtick")]
#[test_case("GET /a?<b> HTTP/1.1", Err(Refusal::MalformedTarget); "angle brackets")]
#[test_case("GET /a?\"b\" HTTP/1.1", Err(Refusal::MalformedTarget); "quotes")]
#[test_case("GET /{a|b} HTTP/1.1", Err(Refusal::MalformedTarget); "braces and a bar")]
#[test_case("CONNECT a:443 HTTP/1.1", Err(Refusal::ConnectRefused); "connect")]
fn first_line(line: &str, expected: Result<Framing, Refusal>) {
    assert_eq!(read(&format!("{line}\r\n{HOST}\r\n")), expected);
}

#[test]
fn what_a_head_as_a_whole_must_be() {
    let many = "X: a\r\n".repeat(9);
    assert_eq!(read(&format!("GET / HTTP/1.1\r\n{HOST}{many}\r\n")), Ok(Framing::Length(0)));
    assert_eq!(read(&format!("GET / HTTP/1.1\r\n{HOST}{many}X: b\r\n\r\n")), Err(Refusal::HeadTooLarge));
    assert_eq!(read("GET / HTTP/1.1\r\n\r\n"), Err(Refusal::MalformedAuthority));
    assert_eq!(
        read(&format!("GET / HTTP/1.0\r\n{HOST}Transfer-Encoding: chunked\r\n\r\n")),
        Err(Refusal::MalformedRequest)
    );
    assert_eq!(read(&format!("GET / HTTP/1.1\n{HOST}\n\n")), Err(Refusal::MalformedHead));
}

#[test_case(b"GET / HTTP/1.1\r\n\r\nrest", Some(18); "crlf")]
#[test_case(b"GET / HTTP/1.1\n\nrest", Some(16); "bare lf")]
#[test_case(b"GET / HTTP/1.1\r\nA: b\r\n", None; "not yet")]
#[test_case(b"", None; "nothing")]
fn the_end_of_a_head(bytes: &[u8], expected: Option<usize>) {
    assert_eq!(end_of_head(bytes, 0), expected);
    for seen in 0..expected.unwrap_or(0) {
        assert_eq!(end_of_head(bytes, seen), expected, "{seen} bytes were seen before");
    }
}

/// The body, and how much of it belongs to the message; none where it is refused.
#[test_case("5\r\nhello\r\n0\r\n\r\nGET", Some(15); "one chunk")]
#[test_case("5;a=b\r\nhello\r\n0;c\r\n\r\n", Some(21); "extensions")]
#[test_case("0\r\nX: a\r\n\r\n", Some(11); "trailers")]
#[test_case("000005\r\nhello\r\n0\r\n\r\n", Some(20); "leading zeros")]
#[test_case("5\nhello\r\n0\r\n\r\n", None; "bare lf after the size")]
#[test_case("5\r\nhello\n0\r\n\r\n", None; "bare lf after the data")]
#[test_case("5\r\nhello0\r\n\r\n", None; "no line end after the data")]
#[test_case("5\r\nhelloworld\r\n0\r\n\r\n", None; "longer than it says")]
#[test_case("5;\r\nhello\r\n0\r\n\r\n", None; "an extension without a name")]
#[test_case("5;a;;b\r\nhello\r\n0\r\n\r\n", None; "an empty extension")]
#[test_case("0x5\r\nhello\r\n0\r\n\r\n", None; "prefix")]
#[test_case("+5\r\nhello\r\n0\r\n\r\n", None; "sign")]
#[test_case("-1\r\nhello\r\n0\r\n\r\n", None; "negative")]
#[test_case("5 \r\nhello\r\n0\r\n\r\n", None; "space after the size")]
#[test_case(" 5\r\nhello\r\n0\r\n\r\n", None; "space before the size")]
#[test_case("\r\nhello\r\n0\r\n\r\n", None; "no size")]
#[test_case("g\r\n", None; "no digit")]
#[test_case("5;a\rb\r\nhello\r\n0\r\n\r\n", None; "bare cr in an extension")]
#[test_case("5;a\nb\r\nhello\r\n0\r\n\r\n", None; "bare lf in an extension")]
#[test_case("10000000000000005\r\nhello\r\n0\r\n\r\n", None; "overflow")]
#[test_case("0\r\n X: a\r\n\r\n", None; "folded trailer")]
#[test_case("0\r\nX\r\n\r\n", None; "no trailer")]
#[test_case("0\r\n\n", None; "bare lf at the end")]
fn chunks(body: &str, expected: Option<usize>) {
    let mut whole = Remaining::of(Framing::Chunked);
    assert_eq!(whole.take(body.as_bytes()).ok(), expected);
    assert!(expected.is_none() || whole.is_nothing());
}

#[test]
fn lines_of_chunks_and_trailers_are_bounded() {
    let take = |text: String| Remaining::of(Framing::Chunked).take(text.as_bytes()).is_ok();
    assert!(take(format!("5;{}\r\n", "a".repeat(CHUNK_LINE_MAX - 4))));
    assert!(!take(format!("5;{}\r\n", "a".repeat(CHUNK_LINE_MAX))));
    assert!(!take(format!("0\r\n{}", "X: a\r\n".repeat(TRAILERS_MAX / 6 + 1))));
}

proptest! {
    /// However the wire cuts it, a body reads the same.
    #[test]
    fn a_body_reads_the_same_in_pieces(body in "[0-9a-f;\r\n hX:]{0,40}", cuts in proptest::collection::vec(1_usize..6, 0..40)) {
        let mut whole = Remaining::of(Framing::Chunked);
        let expected = whole.take(body.as_bytes());
        let mut pieces = Remaining::of(Framing::Chunked);
        let (mut rest, mut taken, mut failed) = (body.as_bytes(), 0, false);
        for cut in cuts.into_iter().chain(std::iter::once(usize::MAX)) {
            let (piece, after) = rest.split_at(cut.min(rest.len()));
            match pieces.take(piece) {
                Ok(count) => taken += count,
                Err(_) => { failed = true; break }
            }
            rest = after;
        }
        prop_assert_eq!(expected.is_err(), failed);
        if !failed {
            prop_assert_eq!(expected, Ok(taken));
            prop_assert_eq!(whole, pieces);
        }
    }
}
