//! When an identity provider is asked next, and for how long its last word counts.

use http::{HeaderMap, header::CACHE_CONTROL};
use std::time::Duration;
use tokio::time::Instant;

/// Where the provider does not say it.
const FRESH: Duration = Duration::from_secs(60 * 60);
/// Providers say from 15 s to 38 days.
const FRESH_MIN: Duration = Duration::from_secs(5 * 60);
pub(super) const FRESH_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// For so long keys count that should have been fetched again, and could not.
const STALE_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// After the first failure; each further one doubles it.
const PAUSE: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// For how long an answer is fresh, as its `Cache-Control` says (RFC 9111 § 5.2.2.1), within bounds of ours.
pub(super) fn fresh_for(headers: &HeaderMap) -> Duration {
    let directives = headers.get_all(CACHE_CONTROL).iter().filter_map(|value| value.to_str().ok());
    let seconds = directives.flat_map(|value| value.split(',')).find_map(|directive| {
        let (name, seconds) = directive.trim().split_once('=')?;
        let seconds = seconds.trim_matches('"').parse().ok();
        seconds.filter(|_| name.eq_ignore_ascii_case("max-age"))
    });
    seconds.map_or(FRESH, Duration::from_secs).clamp(FRESH_MIN, FRESH_MAX)
}

/// How a provider is asked again and again.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// Until when the last good answer counts.
    counts_until: Option<Instant>,
    failures: u32,
}

impl Pace {
    /// How long to wait after a good answer: it is asked for again before it is old.
    pub(super) fn succeeded(&mut self, fresh_for: Duration, now: Instant) -> Duration {
        *self = Self { counts_until: now.checked_add(fresh_for.saturating_add(STALE_MAX)), failures: 0 };
        fresh_for.mul_f64(0.8)
    }

    /// How long to wait after a failure, and whether the last good answer counts no more.
    pub(super) fn failed(&mut self, now: Instant) -> (Duration, bool) {
        let pause = PAUSE.saturating_mul(1 << self.failures.min(16)).min(PAUSE_MAX);
        self.failures = self.failures.saturating_add(1);
        (pause, self.counts_until.is_none_or(|until| now >= until))
    }

    /// Whether the last failure was the first after a good answer.
    pub(super) const fn is_first_failure(&self) -> bool {
        self.failures == 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use test_case::test_case;

    const MINUTE: u64 = 60;
    const DAY: u64 = 24 * 60 * MINUTE;

    #[test_case("max-age=3600", 3600)]
    #[test_case("public, max-age=19887, must-revalidate, no-transform", 19_887; "among others")]
    #[test_case("Max-Age=\"600\"", 600; "quoted")]
    #[test_case("max-age=15", 5 * MINUTE; "too short")]
    #[test_case("max-age=0", 5 * MINUTE; "none")]
    #[test_case("max-age=3283200", DAY; "too long")]
    #[test_case("max-age=99999999999999999999", 3600; "beyond numbers")]
    #[test_case("max-age=-1", 3600; "below zero")]
    #[test_case("s-maxage=600", 3600; "for others")]
    #[test_case("no-store", 3600; "not to be kept")]
    #[test_case("", 3600; "nothing")]
    fn fresh(value: &'static str, seconds: u64) {
        let headers = HeaderMap::from_iter([(CACHE_CONTROL, HeaderValue::from_static(value))]);
        assert_eq!(fresh_for(&headers), Duration::from_secs(seconds));
    }

    #[test]
    fn a_provider_is_asked_before_its_answer_is_old_and_more_and_more_rarely_when_it_fails() {
        let (mut pace, start) = (Pace::default(), Instant::now());
        assert_eq!(pace.failed(start), (PAUSE, true), "before the first answer nothing counts");
        assert_eq!(pace.succeeded(FRESH, start), Duration::from_secs(48 * MINUTE));
        let after = |seconds| start + Duration::from_secs(seconds);
        let pauses: Vec<_> = (0..8).map(|_| pace.failed(after(60 * MINUTE)).0.as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert!(!pace.failed(after(DAY)).1, "it still counts");
        assert!(pace.failed(after(DAY + 60 * MINUTE)).1, "and then no more");
    }

    #[test]
    fn the_first_failure_is_known() {
        let mut pace = Pace::default();
        pace.failed(Instant::now());
        assert!(pace.is_first_failure());
        pace.failed(Instant::now());
        assert!(!pace.is_first_failure());
    }
}
