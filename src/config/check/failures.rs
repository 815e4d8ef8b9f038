//! What a pool does about failures: `retry`, `outliers`, `breaker`.

use super::Check;
use crate::config::document::{Breaker, Outliers, Retry, RetryOn, RetryWord};
use crate::config::fault::Fault;
use crate::config::model;
use crate::config::node::Place;
use crate::resilience::{BreakerRules, OutlierRules};
use std::{ops::RangeInclusive, time::Duration};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

pub(super) fn retry(check: &mut Check<'_>, retry: &Retry, place: &Place) -> Option<model::Retry> {
    let budget = check.percent(&retry.budget.0, &place.key("budget"), 0..=100);
    let has = |word: RetryWord| retry.on.contains(&RetryOn::Word(word));
    let status = |on: &RetryOn| if let RetryOn::Status(status) = on { Some(*status) } else { None };
    Some(model::Retry {
        attempts: retry.attempts,
        on_connect_failure: has(RetryWord::ConnectFailure),
        on_no_response: has(RetryWord::NoResponse),
        on_timeout: has(RetryWord::Timeout),
        on_statuses: retry.on.iter().filter_map(status).collect(),
        methods: retry.methods,
        budget: budget?,
    })
}

pub(super) fn outliers(check: &mut Check<'_>, outliers: &Outliers, place: &Place) -> Option<OutlierRules> {
    let error_rate = check.percent(&outliers.error_rate.0, &place.key("error_rate"), 0..=100);
    let slower_than = off_or(check, &outliers.slower_than.0, &place.key("slower_than"), 150..=10_000);
    let ejected_max = check.percent(&outliers.ejected_max.0, &place.key("ejected_max"), 1..=100);
    let eject = check.duration(&outliers.eject.0, &place.key("eject"), SECOND..=HOUR);
    let eject_max = check.duration(&outliers.eject_max.0, &place.key("eject_max"), SECOND..=24 * HOUR);
    let (eject, eject_max) = (eject?, eject_max?);
    if eject_max < eject {
        check.fault(
            Fault::new(&place.key("eject_max"), "this is shorter than `eject`").hint("make it as long at least"),
        );
    }
    Some(OutlierRules {
        consecutive_failures: outliers.consecutive_failures,
        error_rate: error_rate?,
        requests_min: outliers.requests_min,
        slower_than: slower_than?,
        eject,
        eject_max,
        ejected_max: ejected_max?,
    })
}

pub(super) fn breaker(check: &mut Check<'_>, breaker: &Breaker, place: &Place) -> Option<BreakerRules> {
    let error_rate = check.percent(&breaker.error_rate.0, &place.key("error_rate"), 1..=100);
    let pause = check.duration(&breaker.pause.0, &place.key("pause"), Duration::from_millis(100)..=600 * SECOND);
    Some(BreakerRules { error_rate: error_rate?, requests_min: breaker.requests_min, pause: pause? })
}

/// `0%`, or a share in the range.
fn off_or(check: &mut Check<'_>, text: &str, place: &Place, range: RangeInclusive<u32>) -> Option<u32> {
    if text == "0%" { Some(0) } else { check.percent(text, place, range) }
}
