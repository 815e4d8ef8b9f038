//! A cookie between the client and us only: read, and taken out before servers see it.

use http::HeaderMap;
use http::header::COOKIE;
use pingora::http::RequestHeader;

/// The value of the first cookie of that name, as it is written.
pub(super) fn value<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let lines = headers.get_all(COOKIE).iter().filter_map(|line| line.to_str().ok());
    let mut pairs = lines.flat_map(|line| line.split(';')).map(str::trim);
    pairs.find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
}

/// Takes all cookies of that name out of a request; the others stay as they are written.
///
/// # Errors
/// If what is left cannot be set.
pub(super) fn take_out(request: &mut RequestHeader, name: &str) -> pingora::Result<()> {
    let is_ours =
        |pair: &[u8]| pair.trim_ascii().strip_prefix(name.as_bytes()).is_some_and(|rest| rest.starts_with(b"="));
    let lines: Vec<_> = request.headers.get_all(COOKIE).iter().cloned().collect();
    let has_ours = |line: &[u8]| line.split(|b| *b == b';').any(is_ours);
    if !lines.iter().any(|line| has_ours(line.as_bytes())) {
        return Ok(());
    }
    request.remove_header(&COOKIE);
    for line in lines {
        let others: Vec<_> = line.as_bytes().split(|b| *b == b';').filter(|pair| !is_ours(pair)).collect();
        let left = others.join(&b';');
        if !left.trim_ascii().is_empty() {
            request.append_header(COOKIE, left.trim_ascii())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use test_case::test_case;

    fn request(lines: &[&str]) -> RequestHeader {
        let mut request = RequestHeader::build("GET", b"/", None).unwrap();
        for line in lines {
            request.append_header(COOKIE, *line).unwrap();
        }
        request
    }

    #[test_case(&["s=1"], Some("1"), &[]; "alone")]
    #[test_case(&["a=2; s=1; b=3"], Some("1"), &["a=2; b=3"]; "between others")]
    #[test_case(&["a=2", "s=1"], Some("1"), &["a=2"]; "in a line of its own")]
    #[test_case(&["s=1; s=2"], Some("1"), &[]; "twice")]
    #[test_case(&["s=1;a=2"], Some("1"), &["a=2"]; "without a space")]
    #[test_case(&["ss=1; as=2; S=3"], None, &["ss=1; as=2; S=3"]; "others that look like it")]
    #[test_case(&["s"], None, &["s"]; "without a value")]
    #[test_case(&["a=\"x; s=1\""], Some("1\""), &["a=\"x"]; "quotes mean nothing")]
    #[test_case(&[], None, &[]; "none")]
    fn ours(lines: &[&str], expected: Option<&str>, left: &[&str]) {
        let mut request = request(lines);
        assert_eq!(value(&request.headers, "s"), expected);
        take_out(&mut request, "s").unwrap();
        let lines: Vec<_> = request.headers.get_all(COOKIE).iter().map(|line| line.to_str().unwrap()).collect();
        assert_eq!(lines, left);
    }
}
