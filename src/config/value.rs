//! Values that are more than text.

use crate::clock::UnixSeconds;
use http::{Method, Uri};
use std::{num::NonZeroU32, ops::RangeInclusive, path::PathBuf, time::Duration};

/// Reads `250ms`, `2s`, `5m`, `1h` or `90d`.
pub(super) fn duration(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    let seconds = match unit {
        "ms" => return Some(Duration::from_millis(number)),
        "s" => 1,
        "m" => 60,
        "h" => 60 * 60,
        "d" => 24 * 60 * 60,
        _ => return None,
    };
    number.checked_mul(seconds).map(Duration::from_secs)
}

/// Reads a day, `2026-11-01`: its first second in UTC.
pub(super) fn day(text: &str) -> Option<UnixSeconds> {
    let plain = text.len() == 10 && text.bytes().all(|b| b.is_ascii_digit() || b == b'-');
    let midnight = format!("{text}T00:00:00Z");
    let moment = humantime::parse_rfc3339(&midnight).ok().filter(|_| plain)?;
    let since = moment.duration_since(std::time::UNIX_EPOCH).ok()?;
    UnixSeconds::try_from(since.as_secs()).ok()
}

/// Reads `512B`, `32KiB`, `10MiB`, `1GiB` or `1TiB`.
pub(super) fn bytes(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let power = ["B", "KiB", "MiB", "GiB", "TiB"].iter().position(|known| *known == unit)?;
    let factor = 1024_u64.checked_pow(u32::try_from(power).ok()?)?;
    number.parse::<u64>().ok()?.checked_mul(factor)
}

/// Reads `1KiB/s`.
pub(super) fn bytes_per_second(text: &str) -> Option<u64> {
    bytes(text.strip_suffix("/s")?)
}

/// Reads `50/s`, `1000/m`, `5000/h` or `20000/d`, up to a million.
pub(super) fn frequency(text: &str) -> Option<(NonZeroU32, Duration)> {
    let (times, period) = text.split_once('/')?;
    let seconds = match period {
        "s" => 1,
        "m" => 60,
        "h" => 60 * 60,
        "d" => 24 * 60 * 60,
        _ => return None,
    };
    let is_plain = times.bytes().all(|b| b.is_ascii_digit());
    let times = times.parse::<NonZeroU32>().ok().filter(|times| is_plain && times.get() <= 1_000_000)?;
    Some((times, Duration::from_secs(seconds)))
}

/// Reads `50%`.
pub(super) fn percent(text: &str) -> Option<u32> {
    text.strip_suffix('%')?.parse().ok()
}

/// Reads `200` or `200-299`.
pub(super) fn statuses(text: &str) -> Option<RangeInclusive<u16>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let status = |text: &str| text.parse::<u16>().ok().filter(|status| text.len() == 3 && (100..=599).contains(status));
    let (first, last) = (status(first)?, status(last)?);
    (first <= last).then_some(first..=last)
}

/// Reads a method in upper case.
pub(super) fn method(text: &str) -> Option<Method> {
    let upper = !text.is_empty() && text.len() <= 32 && text.bytes().all(|b| b.is_ascii_uppercase() || b == b'-');
    Method::from_bytes(text.as_bytes()).ok().filter(|method| upper && *method != Method::CONNECT)
}

/// Why a text names no file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BadReference {
    /// It looks like the secret itself, or like nothing.
    Inline,
    /// It names a source that is not read yet.
    NotYet,
}

/// Reads `file:PATH`.
pub(super) fn file_reference(text: &str) -> Result<PathBuf, BadReference> {
    match text.split_once(':') {
        Some(("file", path)) if !path.is_empty() => Ok(path.into()),
        Some(("env" | "credential", _)) => Err(BadReference::NotYet),
        Some(_) | None => Err(BadReference::Inline),
    }
}

/// Whether a text is an https URL without a user or a fragment.
pub(super) fn is_https_url(text: &str) -> bool {
    let uri = text.parse::<Uri>().ok().filter(|uri| uri.scheme_str() == Some("https"));
    let plain = !text.contains('#') && text.bytes().all(|b| b.is_ascii_graphic());
    plain && uri.and_then(|uri| uri.into_parts().authority).is_some_and(|authority| !authority.as_str().contains('@'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use test_case::test_case;

    #[test_case("50/s", Some((50, 1)))]
    #[test_case("1000000/d", Some((1_000_000, 86_400)))]
    #[test_case("5/m", Some((5, 60)))]
    #[test_case("0/s", None; "never")]
    #[test_case("1000001/s", None; "too often")]
    #[test_case("+5/s", None; "a sign")]
    #[test_case("5", None; "no period")]
    #[test_case("5/w", None; "another period")]
    #[test_case("5/10s", None; "several periods")]
    #[test_case("/s", None; "no number")]
    fn frequencies(text: &str, expected: Option<(u32, u64)>) {
        assert_eq!(frequency(text).map(|(times, period)| (times.get(), period.as_secs())), expected);
    }

    #[test_case("https://login.example.com", true)]
    #[test_case("https://login.example.com:8443/a/b?c=d", true)]
    #[test_case("https://[2001:db8::1]/keys", true)]
    #[test_case("http://login.example.com", false; "in the clear")]
    #[test_case("https://user@login.example.com", false; "with a user")]
    #[test_case("https://login.example.com/#keys", false; "with a fragment")]
    #[test_case("https://", false; "without a host")]
    #[test_case("login.example.com", false; "without a scheme")]
    #[test_case("file:///keys", false; "a file's")]
    #[test_case("https://login.example.com/a b", false; "with a space")]
    fn https_url(text: &str, expected: bool) {
        assert_eq!(is_https_url(text), expected);
    }

    #[test_case("250ms", Some(250))]
    #[test_case("2s", Some(2_000))]
    #[test_case("5m", Some(300_000))]
    #[test_case("1h", Some(3_600_000))]
    #[test_case("90d", Some(7_776_000_000))]
    #[test_case("", None; "empty")]
    #[test_case("5", None; "no unit")]
    #[test_case("s", None; "no number")]
    #[test_case("-5s", None; "negative")]
    #[test_case("1.5s", None; "fraction")]
    #[test_case("5 s", None; "space")]
    #[test_case("5w", None; "other unit")]
    #[test_case("99999999999999999999s", None; "too large")]
    #[test_case("18446744073709551615d", None; "overflow")]
    fn reads_duration(text: &str, millis: Option<u64>) {
        assert_eq!(duration(text), millis.map(Duration::from_millis));
    }

    #[test_case("2026-11-01", Some(1_793_491_200))]
    #[test_case("2024-02-29", Some(1_709_164_800))]
    #[test_case("2026-02-29", None; "no leap year")]
    #[test_case("2026-11-1", None; "one digit")]
    #[test_case("2026-11-01T00:00:00Z", None; "a moment")]
    #[test_case("1969-12-31", None; "before time")]
    #[test_case("", None; "no day")]
    fn reads_day(text: &str, expected: Option<UnixSeconds>) {
        assert_eq!(day(text), expected);
    }

    #[test_case("512B", Some(512))]
    #[test_case("32KiB", Some(32_768))]
    #[test_case("10MiB", Some(10_485_760))]
    #[test_case("1TiB", Some(1_099_511_627_776))]
    #[test_case("", None; "nothing")]
    #[test_case("32", None; "no size unit")]
    #[test_case("32KB", None; "thousands")]
    #[test_case("32k", None; "short unit")]
    #[test_case("-1B", None; "negative size")]
    #[test_case("99999999999TiB", None; "too many")]
    fn reads_bytes(text: &str, expected: Option<u64>) {
        assert_eq!(bytes(text), expected);
        assert_eq!(bytes_per_second(&format!("{text}/s")), expected);
        assert_eq!(bytes_per_second(text), None);
    }

    #[test_case("200", Some(200..=200))]
    #[test_case("200-299", Some(200..=299))]
    #[test_case("299-200", None; "backwards")]
    #[test_case("99", None; "too small")]
    #[test_case("600", None; "too large")]
    #[test_case("+200", None; "sign")]
    #[test_case("200-", None; "open")]
    #[test_case("2xx", None; "letters")]
    fn reads_statuses(text: &str, expected: Option<RangeInclusive<u16>>) {
        assert_eq!(statuses(text), expected);
    }

    #[test_case("GET", true)]
    #[test_case("PURGE", true)]
    #[test_case("get", false; "lower case")]
    #[test_case("CONNECT", false; "tunnels are not routed")]
    #[test_case("", false; "empty")]
    #[test_case("GE T", false; "space")]
    fn reads_method(text: &str, ok: bool) {
        assert_eq!(method(text).is_some(), ok);
    }

    #[test_case("file:keys/a.pem", Ok("keys/a.pem".into()); "file")]
    #[test_case("file:", Err(BadReference::Inline); "nothing")]
    #[test_case("env:KEY", Err(BadReference::NotYet); "environment")]
    #[test_case("-----BEGIN PRIVATE KEY-----", Err(BadReference::Inline); "the secret itself")]
    fn reads_reference(text: &str, expected: Result<PathBuf, BadReference>) {
        assert_eq!(file_reference(text), expected);
    }
}
