//! What who may pass may use: counted once the policy lets him, before his token is entered.

use super::exchange::Exchange;
use super::hash_key::{self, Known};
use super::heads::value;
use crate::config::{self, HashKey, LimitKey};
use crate::identity::Denied;
use crate::limit::{Counted, Exceeded, Limiter, Remaining, Within};
use crate::network::Client;
use crate::principal::Principal;
use crate::refusal::Refusal;
use crate::runtime::{Entrance, Limit, Route};
use crate::verdict::RuleId;
use http::HeaderMap;
use http::header::CONTENT_LENGTH;
use pingora_proxy::Session;
use std::{sync::Arc, time::Duration};

/// What the limits say of a request that is within them, as long as it lives.
#[derive(Debug, Default)]
pub(super) struct Used {
    /// What is in flight.
    within: Vec<Within>,
    /// At which pace the response goes.
    pacers: Vec<Pacer>,
    /// The limit of which the least is left.
    tightest: Option<Told>,
}

#[derive(Debug)]
struct Pacer {
    limiter: Arc<Limiter>,
    whom: Counted,
    each_second: u64,
}

/// A rate, as the client reads of it.
#[derive(Debug, Clone)]
pub(super) struct Told {
    limit: Arc<config::Limit>,
    remaining: Remaining,
}

/// Who may pass, and by which rule.
pub(super) type Passing<'a> = (&'a Principal, &'a RuleId);

/// Counts a request with all limits that are for it. What one refuses counts with none.
///
/// # Errors
/// With the first that it is over.
pub(super) fn keep(
    session: &Session,
    exchange: &mut Exchange,
    (entrance, route): (&Entrance, &Route),
    passing: Passing<'_>,
) -> Result<(), Denied> {
    let mut used = Used::default();
    let limits = entrance.requests.iter().chain(&route.limits);
    for limit in limits.filter(|limit| is_for(&limit.config, passing.0)) {
        if let Err((refusal, wait)) = one(session, exchange, passing, (limit, &mut used)) {
            limit.exceeded.inc();
            used.undo();
            exchange.uses(used);
            exchange.may_come_again(wait);
            return Err(Denied { rule: Some(limit.config.name.clone()), ..refusal.into() });
        }
    }
    exchange.uses(used);
    Ok(())
}

fn is_for(limit: &config::Limit, principal: &Principal) -> bool {
    limit.whom.as_ref().is_none_or(|whom| {
        principal.workload().is_some_and(|workload| whom.rule_for(&workload.name, principal.roles()).is_some())
    })
}

/// The refusal, and after which time another request may pass.
type Over = (Refusal, Option<Duration>);

fn one(
    session: &Session,
    exchange: &mut Exchange,
    passing: Passing<'_>,
    (limit, used): (&Limit, &mut Used),
) -> Result<(), Over> {
    let Limit { config, limiter, .. } = limit;
    if let Some(edge) = &config.edge
        && exchange.token().is_some_and(|token| token.says(&edge.claim, &edge.has))
    {
        return Err((Refusal::EdgeLimited, None));
    }
    if let Some(max) = config.body {
        exchange.takes_no_more_than(max);
        let length = session.req_header().headers.get(CONTENT_LENGTH);
        let length = length.and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
        if length.is_some_and(|length| length > max) {
            return Err((Refusal::BodyTooLarge, None));
        }
    }
    let whom = counted(session, exchange, passing, limit);
    let within = limiter.admit(whom, &config.allowance).map_err(|exceeded| match exceeded {
        Exceeded::Rate(wait) => (Refusal::RateExceeded, Some(wait)),
        Exceeded::Concurrency => (Refusal::ConcurrencyExceeded, None),
        Exceeded::Full => (Refusal::LimitTableFull, None),
    });
    let told = |remaining| Told { limit: Arc::clone(config), remaining };
    let none_left = |wait| told(Remaining { requests: 0, reset: wait });
    let within = within.inspect_err(|(_, wait)| used.tightest = wait.map(none_left))?;
    used.tell(within.remaining.map(told));
    used.within.push(within);
    if let Some(each_second) = config.allowance.bandwidth {
        used.pacers.push(Pacer { limiter: Arc::clone(limiter), whom, each_second });
    }
    Ok(())
}

/// Who is counted.
fn counted(
    session: &Session,
    exchange: &Exchange,
    (principal, rule): Passing<'_>,
    Limit { config, limiter, .. }: &Limit,
) -> Counted {
    match &config.by {
        LimitKey::All => limiter.counted([]),
        LimitKey::User => match principal.user() {
            Some(user) => limiter.counted([user.issuer.as_bytes(), user.subject.as_bytes()]),
            None => limiter.counted([]),
        },
        LimitKey::Role => limiter.counted([rule.lets_in().as_bytes()]),
        // Who has an IPv6 address has many.
        LimitKey::Request(HashKey::Address) => match exchange.client() {
            Some(client) => limiter.counted([Client::at(client).to_string().as_bytes()]),
            None => limiter.counted([]),
        },
        LimitKey::Request(by) => {
            let workload = principal.workload().map(|workload| &workload.name);
            let known = Known { client: exchange.client(), workload, token: exchange.token() };
            hash_key::with(by, session, &known, |value| match value {
                Some(value) => limiter.counted([value]),
                None => limiter.counted([]),
            })
        }
    }
}

impl Used {
    /// Gives back what was counted. What is told of the limits stays.
    pub(super) fn undo(&mut self) {
        self.within.drain(..).for_each(Within::undo);
        self.pacers.clear();
    }

    /// Remembers what a limit leaves, if it is less than what others do.
    fn tell(&mut self, told: Option<Told>) {
        let left = |told: &Told| told.remaining.requests;
        if let Some(told) = told
            && self.tightest.as_ref().is_none_or(|known| left(&told) < left(known))
        {
            self.tightest = Some(told);
        }
    }

    /// How long a piece of the response has to wait.
    pub(super) fn pace(&self, bytes: usize) -> Option<Duration> {
        let waits = self.pacers.iter().map(|pacer| pacer.limiter.pace(pacer.whom, bytes, pacer.each_second));
        waits.max().filter(|wait| !wait.is_zero())
    }

    /// What the client reads of the limit of which the least is left
    /// (<https://datatracker.ietf.org/doc/draft-ietf-httpapi-ratelimit-headers/>).
    pub(super) fn headers(&self) -> Option<[(&'static str, String); 2]> {
        let Told { limit, remaining } = self.tightest.as_ref()?;
        let (label, rate) = (&limit.label, limit.allowance.rate?);
        let window = seconds(rate.window());
        Some([
            ("ratelimit-policy", format!("\"{label}\";q={};w={window}", rate.burst)),
            ("ratelimit", format!("\"{label}\";r={};t={}", remaining.requests, seconds(remaining.reset))),
        ])
    }

    /// Sets them on a response.
    pub(super) fn tell_in(&self, response: &mut HeaderMap) -> pingora::Result<()> {
        for (name, text) in self.headers().into_iter().flatten() {
            response.insert(name, value(&text)?);
        }
        Ok(())
    }
}

/// Whole seconds, rounded up, one at least.
pub(super) fn seconds(time: Duration) -> u64 {
    time.as_secs().saturating_add(u64::from(time.subsec_nanos() > 0)).max(1)
}
