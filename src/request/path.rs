//! A path with one reading.

use crate::refusal::Refusal;

/// A path, percent-decoded once. Its decoded text holds no encoded slash, no dot segment and no empty segment but the
/// last, so splitting it at `/` gives the same segments to everybody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path(Box<str>);

impl Path {
    /// Reads a raw path that starts with `/`.
    ///
    /// # Errors
    /// [`Refusal::AmbiguousPath`] for what servers read in different ways: encoded slashes, backslashes, dots or
    /// plain letters, `;`, `//`, dot segments, control bytes, broken escapes and text that is not UTF-8.
    pub fn read(raw: &str) -> Result<Self, Refusal> {
        let decoded = if raw.contains('%') { decode(raw)? } else { raw.to_owned() };
        let segments = decoded.strip_prefix('/').ok_or(Refusal::MalformedTarget)?;
        let (above, last) = segments.rsplit_once('/').map_or((None, segments), |(above, last)| (Some(above), last));
        let clear = |segment: &str| !segment.is_empty() && !is_dots(segment);
        let unambiguous = above.is_none_or(|above| above.split('/').all(clear)) && !is_dots(last);
        if unambiguous && !decoded.contains(';') { Ok(Self(decoded.into())) } else { Err(Refusal::AmbiguousPath) }
    }

    /// The decoded path.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its segments; a path that ends in `/` has an empty last one.
    pub fn segments(&self) -> impl Iterator<Item = &str> {
        self.0.split('/').skip(1)
    }
}

fn is_dots(segment: &str) -> bool {
    segment == "." || segment == ".."
}

fn decode(raw: &str) -> Result<String, Refusal> {
    let mut bytes = Vec::with_capacity(raw.len());
    let mut rest = raw.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(if byte == b'%' { escaped(rest.next(), rest.next())? } else { byte });
    }
    let text = String::from_utf8(bytes).map_err(|_not_text| Refusal::AmbiguousPath)?;
    if text.chars().any(char::is_control) { Err(Refusal::AmbiguousPath) } else { Ok(text) }
}

/// One escape. RFC 3986 § 2.3: unreserved characters should not be encoded, so an encoded one is a disguise.
fn escaped(high: Option<u8>, low: Option<u8>) -> Result<u8, Refusal> {
    let digit = |b: Option<u8>| b.and_then(|b| char::from(b).to_digit(16));
    let (Some(high), Some(low)) = (digit(high), digit(low)) else { return Err(Refusal::AmbiguousPath) };
    let byte = u8::try_from(high * 16 + low).map_err(|_too_big| Refusal::AmbiguousPath)?;
    let unreserved = byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let disguise = unreserved || b"/\\;#?%".contains(&byte) || byte < 0x20 || byte == 0x7f;
    if disguise { Err(Refusal::AmbiguousPath) } else { Ok(byte) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use test_case::test_case;

    #[test_case("/", Some("/"))]
    #[test_case("/a/b", Some("/a/b"))]
    #[test_case("/a/", Some("/a/"); "trailing slash")]
    #[test_case("/a%20b", Some("/a b"); "space")]
    #[test_case("/%C3%A9", Some("/é"); "utf8")]
    #[test_case("/a:b@c$&'()*+,=!~", Some("/a:b@c$&'()*+,=!~"); "plain signs")]
    #[test_case("/.well-known/x", Some("/.well-known/x"); "dot in front")]
    #[test_case("/...", Some("/..."); "three dots")]
    #[test_case("//a", None; "empty first")]
    #[test_case("/a//b", None; "empty middle")]
    #[test_case("/a//", None; "empty last two")]
    #[test_case("/.", None; "dot")]
    #[test_case("/a/../b", None; "dot dot")]
    #[test_case("/a/..", None; "dot dot at the end")]
    #[test_case("/%2e%2e/b", None; "encoded dots")]
    #[test_case("/a%2fb", None; "encoded slash")]
    #[test_case("/a%2Fb", None; "encoded slash upper")]
    #[test_case("/a%5cb", None; "encoded backslash")]
    #[test_case("/a;b", None; "semicolon")]
    #[test_case("/a%3bb", None; "encoded semicolon")]
    #[test_case("/a%23", None; "encoded hash")]
    #[test_case("/a%3f", None; "encoded question mark")]
    #[test_case("/a%25", None; "double encoding")]
    #[test_case("/a%00", None; "nul")]
    #[test_case("/a%0a", None; "newline")]
    #[test_case("/a%C2%85", None; "unicode control")]
    #[test_case("/%41", None; "encoded letter")]
    #[test_case("/a%", None; "cut escape")]
    #[test_case("/a%4", None; "cut escape 2")]
    #[test_case("/a%zz", None; "no hex")]
    #[test_case("/a%+1", None; "signed hex")]
    #[test_case("/%ff", None; "not utf8")]
    fn reads(raw: &str, expected: Option<&str>) {
        assert_eq!(Path::read(raw).ok().as_ref().map(Path::as_str), expected);
    }

    proptest! {
        #[test]
        fn segments_never_hide_a_separator(raw in "/[a-z./;%0-9A-F]{0,24}") {
            if let Ok(path) = Path::read(&raw) {
                let segments: Vec<_> = path.segments().collect();
                prop_assert!(segments.iter().all(|s| !s.contains(['/', '\\', ';']) && !is_dots(s)));
                prop_assert_eq!(raw.matches('/').count(), segments.len());
            }
        }
    }
}
