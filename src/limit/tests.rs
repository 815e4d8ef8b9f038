use super::*;
use proptest::prelude::*;
use std::num::NonZeroU32;
use test_case::test_case;

fn rate(times: u32, period: u64, burst: u32) -> Frequency {
    let count = |count| NonZeroU32::new(count).unwrap();
    Frequency { times: count(times), period: Duration::from_secs(period), burst: count(burst) }
}

fn by_rate(times: u32, period: u64, burst: u32) -> Allowance {
    Allowance { rate: Some(rate(times, period, burst)), ..Allowance::default() }
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Moments in ms, and who of them passes.
#[test_case(by_rate(10, 1, 1), &[0, 1, 99, 100, 150, 200], &[true, false, false, true, false, true]; "an even pace")]
#[test_case(by_rate(10, 1, 3), &[0, 0, 0, 0, 99, 100, 100, 400, 400, 400, 400], &[true, true, true, false, false, true, false, true, true, true, false]; "some at once")]
#[test_case(by_rate(1, 60, 2), &[0, 0, 59_999, 60_000, 60_000, 180_000, 180_000, 180_000], &[true, true, false, true, false, true, true, false]; "by the minute")]
fn a_rate_lets_through(allowance: Allowance, moments: &[u64], expected: &[bool]) {
    let limiter = Arc::new(Limiter::default());
    let whom = limiter.counted([&b"a"[..]]);
    let passes = |at: &u64| limiter.admit_at(whom, &allowance, ms(*at)).is_ok();
    assert_eq!(moments.iter().map(passes).collect::<Vec<_>>(), expected);
}

#[test]
fn it_is_told_when_to_come_again_and_what_is_left() {
    let limiter = Arc::new(Limiter::default());
    let (whom, allowance) = (limiter.counted([&b"a"[..]]), by_rate(10, 1, 3));
    let remaining = |at| limiter.admit_at(whom, &allowance, ms(at)).map(|within| within.remaining.unwrap());
    assert_eq!(remaining(0), Ok(Remaining { requests: 2, reset: ms(100) }));
    assert_eq!(remaining(0), Ok(Remaining { requests: 1, reset: ms(200) }));
    assert_eq!(remaining(0), Ok(Remaining { requests: 0, reset: ms(300) }));
    assert_eq!(remaining(30), Err(Exceeded::Rate(ms(70))));
    assert_eq!(remaining(100), Ok(Remaining { requests: 0, reset: ms(300) }));
}

#[test]
fn what_is_allowed_now_is_allowed_now() {
    let limiter = Arc::new(Limiter::default());
    let whom = limiter.counted([&b"a"[..]]);
    assert!(limiter.admit_at(whom, &by_rate(1, 86_400, 1), ms(0)).is_ok());
    assert!(limiter.admit_at(whom, &by_rate(1, 86_400, 1), ms(1)).is_err());
    assert!(limiter.admit_at(whom, &by_rate(10, 1, 1), ms(2)).is_ok());
    assert_eq!(limiter.admit_at(whom, &by_rate(10, 1, 1), ms(2)).map(drop), Err(Exceeded::Rate(ms(100))));
    assert!(limiter.admit_at(whom, &by_rate(10, 1, 1), ms(102)).is_ok());
}

#[test]
fn what_was_refused_otherwise_is_given_back() {
    let limiter = Arc::new(Limiter::default());
    let (whom, allowance) = (limiter.counted([&b"a"[..]]), Allowance { concurrency: Some(1), ..by_rate(1, 3600, 1) });
    for _ in 0..3 {
        limiter.admit(whom, &allowance).unwrap().undo();
    }
    drop(limiter.admit(whom, &allowance).unwrap());
    assert!(matches!(limiter.admit(whom, &allowance), Err(Exceeded::Rate(_))));
}

#[test]
fn each_is_counted_for_himself() {
    let limiter = Arc::new(Limiter::default());
    let allowance = by_rate(1, 60, 1);
    let parts: [&[&[u8]]; 4] = [&[b"a", b"b"], &[b"ab"], &[b"ab", b""], &[b"b", b"a"]];
    for part in parts {
        let whom = limiter.counted(part.iter().copied());
        assert!(limiter.admit_at(whom, &allowance, ms(0)).is_ok());
        assert!(limiter.admit_at(whom, &allowance, ms(0)).is_err());
    }
}

#[test]
fn so_many_at_once_and_no_more() {
    let limiter = Arc::new(Limiter::default());
    let whom = limiter.counted([&b"a"[..]]);
    let allowance = Allowance { concurrency: Some(2), ..by_rate(1, 60, 3) };
    let admit = || limiter.admit_at(whom, &allowance, ms(0));
    let (first, _second) = (admit().unwrap(), admit().unwrap());
    assert_eq!(admit().map(drop), Err(Exceeded::Concurrency));
    drop(first);
    let _third = admit().unwrap();
    drop(_third);
    // The rate refuses it, and so it is not in flight either.
    assert!(matches!(admit(), Err(Exceeded::Rate(_))));
    assert_eq!(limiter.running.len(), 1);
    drop(_second);
    assert_eq!(limiter.running.len(), 0, "who has none in flight is forgotten");
}

#[test]
fn a_full_table_refuses_whom_it_cannot_count() {
    let limiter = Arc::new(Limiter::with_room(16));
    let allowance = by_rate(1, 60, 1);
    let whom = |number: u32| limiter.counted([&number.to_be_bytes()[..]]);
    let is_full = |number: &u32| limiter.admit_at(whom(*number), &allowance, ms(0)).err() == Some(Exceeded::Full);
    let full = (0..10_000).find(is_full);
    let full = full.unwrap();
    assert!(limiter.rates.len() <= 16);
    assert_eq!(
        limiter.admit_at(whom(0), &allowance, ms(0)).map(drop),
        Err(Exceeded::Rate(ms(60_000))),
        "who is counted stays so"
    );
    assert!(limiter.admit_at(whom(full), &allowance, ms(60_000)).is_ok(), "who has paid back makes room");
}

#[test]
fn bytes_have_their_pace() {
    let limiter = Limiter::default();
    let whom = limiter.counted([&b"a"[..]]);
    let kib = |kib: usize| kib * 1024;
    assert_eq!(limiter.pace_at(whom, kib(64), 64 * 1024, ms(0)), ms(0), "some go at once");
    assert_eq!(limiter.pace_at(whom, kib(32), 64 * 1024, ms(0)), ms(500));
    assert_eq!(limiter.pace_at(whom, kib(32), 64 * 1024, ms(500)), ms(500));
    assert_eq!(limiter.pace_at(whom, kib(64), 64 * 1024, ms(10_000)), ms(0), "after a pause some go at once again");
    assert_eq!(limiter.pace_at(whom, kib(64_000), 64 * 1024, ms(10_000)), ms(5_000), "nobody waits for long");
    assert_eq!(limiter.pace_at(whom, kib(64), 64 * 1024, ms(15_000)), ms(1_000), "and owes no more than that");
}

proptest! {
    /// In any time there pass so many at once and what the pace allows, never more; and whoever waits as he is told passes.
    #[test]
    fn never_more_than_allowed(times in 1..50_u32, burst in 1..20_u32, gaps in prop::collection::vec(0..200_u64, 1..200)) {
        let limiter = Arc::new(Limiter::default());
        let (whom, allowance) = (limiter.counted([&b"a"[..]]), by_rate(times, 1, burst));
        let (mut now, mut passed) = (0, Vec::new());
        for gap in gaps {
            now += gap;
            match limiter.admit_at(whom, &allowance, ms(now)) {
                Ok(_) => passed.push(now),
                Err(Exceeded::Rate(wait)) => {
                    let later = ms(now) + wait;
                    prop_assert!(limiter.admit_at(whom, &allowance, later).is_ok());
                    now = u64::try_from(later.as_millis()).unwrap() + 1;
                    passed.push(now);
                }
                Err(other) => prop_assert!(false, "{other:?}"),
            }
        }
        for (index, from) in passed.iter().enumerate() {
            for (count, to) in passed[index..].iter().enumerate() {
                let allowed = f64::from(burst) + (to - from + 2) as f64 / 1000.0 * f64::from(times);
                prop_assert!((count + 1) as f64 <= allowed + 1.0, "{} within {} ms", count + 1, to - from);
            }
        }
    }
}
