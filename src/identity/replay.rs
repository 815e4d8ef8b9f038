//! Which tokens were used, and how often.
//!
//! A token is entered only after its signature, its binding and the policy said yes, so a stranger cannot fill the
//! store. Nothing is forgotten before it has expired: a full store refuses.

use super::token::{Sighting, acceptable_until};
use crate::clock::{Timestamp, UnixSeconds};
use crate::name::WorkloadName;
use crate::refusal::Refusal;
use http::Method;
use parking_lot::Mutex;
use std::{
    collections::{BTreeMap, HashMap},
    hash::{BuildHasher, RandomState},
    time::Duration,
};

/// How often one token may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replay {
    /// GET, HEAD and OPTIONS up to three times within 15 s from the same certificate, everything else once: the Workers
    /// runtime silently sends such a request again when a kept-alive connection dies.
    Tolerant,
    /// Once.
    Strict,
    /// As often as it is good: nothing is remembered.
    Off,
}

const REPEATS_MAX: u8 = 3;
const REPEAT_WITHIN: Duration = Duration::from_secs(15);
const SHARDS: usize = 64;

/// The tokens used and not expired, for all listeners of the process.
#[derive(Debug)]
pub struct Store {
    shards: Box<[Mutex<Shard>]>,
    hasher: RandomState,
    shard_max: usize,
    horizon: UnixSeconds,
}

#[derive(Debug, Default)]
struct Shard {
    uses: HashMap<Box<str>, Use>,
    by_expiry: BTreeMap<UnixSeconds, Vec<Box<str>>>,
    shares: HashMap<WorkloadName, usize>,
    /// What was acceptable until then is forgotten.
    swept_until: UnixSeconds,
}

#[derive(Debug)]
struct Use {
    digest: [u8; 32],
    workload: WorkloadName,
    first: Timestamp,
    count: u8,
}

impl Store {
    /// How many tokens are remembered by default.
    pub const CAPACITY: usize = 1_000_000;
    /// How far a Worker's clock may be ahead: tokens signed up to this long after a start may have been used before it.
    pub const HORIZON_AFTER_START: Duration = Duration::from_secs(Refusal::STALE_FOR_SECONDS - 1);

    /// An empty store for that many tokens. What happened before `horizon` it cannot know: requests with a token signed
    /// before it, or at it, are refused, unless they may be repeated.
    #[must_use]
    pub fn new(capacity: usize, horizon: Timestamp) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
            shard_max: capacity.div_ceil(SHARDS),
            horizon: horizon.unix_seconds(),
        }
    }

    /// How many tokens are remembered, expired ones that nobody has swept included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().uses.len()).sum()
    }

    /// Whether nothing is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Enters one use of a token.
    ///
    /// # Errors
    /// [`Refusal::TokenReplayed`] after its last use, [`Refusal::TokenStale`] if it may have been used with an earlier
    /// process, [`Refusal::ReplayStoreFull`] and [`Refusal::ReplayShareFull`] when there is no room.
    pub fn spend(
        &self,
        token: &Sighting,
        workload: &WorkloadName,
        (mode, method): (Replay, &Method),
        now: Timestamp,
    ) -> Result<(), Refusal> {
        if mode == Replay::Off {
            return Ok(());
        }
        let harmless = mode == Replay::Tolerant && method.is_idempotent();
        if !harmless && token.iat <= self.horizon {
            return Err(Refusal::TokenStale);
        }
        let uses_max = match mode {
            Replay::Tolerant if method.is_safe() => REPEATS_MAX,
            Replay::Tolerant | Replay::Strict | Replay::Off => 1,
        };
        let shard = usize::try_from(self.hasher.hash_one(&*token.jti)).unwrap_or(usize::MAX) % SHARDS;
        let shard = self.shards.get(shard).ok_or(Refusal::Internal)?;
        let mut shard = shard.lock();
        shard.sweep(now.unix_seconds());
        match shard.uses.get_mut(&token.jti) {
            Some(known) => known.again(token, uses_max, now),
            None => shard.enter(token, workload, self.shard_max, now),
        }
    }
}

impl Use {
    /// The digest covers the claims, and those the certificate: an equal digest comes from the same certificate.
    fn again(&mut self, token: &Sighting, uses_max: u8, now: Timestamp) -> Result<(), Refusal> {
        let same = self.digest == token.digest && now.since(self.first) <= REPEAT_WITHIN;
        if !same || self.count >= uses_max {
            return Err(Refusal::TokenReplayed);
        }
        self.count = self.count.saturating_add(1);
        Ok(())
    }
}

impl Shard {
    fn enter(&mut self, token: &Sighting, who: &WorkloadName, max: usize, now: Timestamp) -> Result<(), Refusal> {
        let until = acceptable_until(token.exp);
        // Requests do not come in the order of their times, and clocks are set back: what may have been forgotten
        // already counts as used.
        if until <= self.swept_until {
            return Err(Refusal::TokenReplayed);
        }
        let share = self.shares.get(who).copied().unwrap_or(0);
        if self.uses.len() >= max {
            return Err(Refusal::ReplayStoreFull);
        }
        if share >= max.div_ceil(2) {
            return Err(Refusal::ReplayShareFull);
        }
        self.shares.insert(who.clone(), share.saturating_add(1));
        self.by_expiry.entry(until).or_default().push(token.jti.clone());
        let known = Use { digest: token.digest, workload: who.clone(), first: now, count: 1 };
        self.uses.insert(token.jti.clone(), known);
        Ok(())
    }

    /// Forgets what can no longer be accepted anyway.
    fn sweep(&mut self, now: UnixSeconds) {
        self.swept_until = self.swept_until.max(now);
        while let Some(oldest) = self.by_expiry.first_entry().filter(|oldest| *oldest.key() <= now) {
            oldest.remove().iter().for_each(|jti| self.forget(jti));
        }
        self.shares.retain(|_, share| *share > 0);
    }

    fn forget(&mut self, jti: &str) {
        let known = self.uses.remove(jti);
        if let Some(share) = known.and_then(|known| self.shares.get_mut(&known.workload)) {
            *share = share.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Kid;
    use test_case::test_case;

    const START: UnixSeconds = 1_000_000;

    fn token(jti: &str, digest: u8) -> Sighting {
        Sighting {
            kid: Kid::parse("k").unwrap(),
            iat: START + 10,
            exp: START + 70,
            rid: None,
            cip: None,
            ohost: None,
            body: None,
            asserted: crate::identity::Asserted::new(),
            digest: [digest; 32],
            jti: jti.into(),
        }
    }

    fn at(offset: i64) -> Timestamp {
        Timestamp::from_unix_seconds(START + 10 + offset)
    }

    fn store(capacity: usize) -> Store {
        Store::new(capacity, Timestamp::from_unix_seconds(START))
    }

    fn worker(name: &str) -> WorkloadName {
        WorkloadName::parse(name).unwrap()
    }

    /// The second of the uses that the offsets name, and the last.
    #[test_case(Replay::Tolerant, Method::GET, &[0, 1, 15], Ok(()); "get three times")]
    #[test_case(Replay::Tolerant, Method::HEAD, &[0, 0, 0], Ok(()); "head three times")]
    #[test_case(Replay::Tolerant, Method::OPTIONS, &[0, 0, 0], Ok(()); "options three times")]
    #[test_case(Replay::Tolerant, Method::GET, &[0, 0, 0, 0], Err(Refusal::TokenReplayed); "get four times")]
    #[test_case(Replay::Tolerant, Method::GET, &[0, 16], Err(Refusal::TokenReplayed); "get too late")]
    #[test_case(Replay::Tolerant, Method::POST, &[0, 0], Err(Refusal::TokenReplayed); "post twice")]
    #[test_case(Replay::Tolerant, Method::DELETE, &[0, 0], Err(Refusal::TokenReplayed); "delete twice")]
    #[test_case(Replay::Tolerant, Method::POST, &[0], Ok(()); "post once")]
    #[test_case(Replay::Strict, Method::GET, &[0], Ok(()); "strict get once")]
    #[test_case(Replay::Strict, Method::GET, &[0, 0], Err(Refusal::TokenReplayed); "strict get twice")]
    #[test_case(Replay::Strict, Method::GET, &[0, 89], Err(Refusal::TokenReplayed); "until it expires")]
    fn uses(mode: Replay, method: Method, offsets: &[i64], expected: Result<(), Refusal>) {
        let store = store(100);
        let who = worker("checkout");
        let spend = |offset: &i64| store.spend(&token("0123456789abcdef", 1), &who, (mode, &method), at(*offset));
        let (last, before) = offsets.split_last().unwrap();
        for offset in before {
            spend(offset).unwrap();
        }
        assert_eq!(spend(last), expected);
    }

    #[test]
    fn once_is_once_over_a_restart() {
        let early = Sighting { iat: START, ..token("0123456789abcdef", 1) };
        let spent = |mode| store(100).spend(&early, &worker("checkout"), (mode, &Method::GET), at(0));
        assert_eq!((spent(Replay::Strict), spent(Replay::Tolerant)), (Err(Refusal::TokenStale), Ok(())));
    }

    #[test]
    fn off_remembers_nothing() {
        let store = store(100);
        let spend = || store.spend(&token("0123456789abcdef", 1), &worker("a"), (Replay::Off, &Method::POST), at(0));
        assert!((0..5).all(|_| spend() == Ok(())));
        assert!(store.is_empty());
    }

    #[test]
    fn the_same_id_in_another_token_is_a_replay() {
        let store = store(100);
        let who = worker("checkout");
        let get = (Replay::Tolerant, &Method::GET);
        assert_eq!(store.spend(&token("0123456789abcdef", 1), &who, get, at(0)), Ok(()));
        assert_eq!(store.spend(&token("0123456789abcdef", 2), &who, get, at(0)), Err(Refusal::TokenReplayed));
    }

    #[test_case(Method::POST, 0, Err(Refusal::TokenStale); "post signed at the horizon")]
    #[test_case(Method::PATCH, -9, Err(Refusal::TokenStale); "patch signed before")]
    #[test_case(Method::POST, 1, Ok(()); "post signed after")]
    #[test_case(Method::GET, -9, Ok(()); "get signed before")]
    #[test_case(Method::DELETE, -9, Ok(()); "a repeated delete does no harm")]
    fn what_an_earlier_process_may_have_seen(method: Method, signed: i64, expected: Result<(), Refusal>) {
        let early = Sighting { iat: START + signed, ..token("0123456789abcdef", 1) };
        let spent = store(100).spend(&early, &worker("checkout"), (Replay::Tolerant, &method), at(0));
        assert_eq!(spent, expected);
    }

    #[test]
    fn what_was_forgotten_stays_used() {
        let store = store(100);
        let spend = |jti: &str, offset: i64| {
            store.spend(&token(jti, 1), &worker("checkout"), (Replay::Strict, &Method::POST), at(offset))
        };
        assert_eq!(spend("0123456789abcdef", 0), Ok(()));
        for shard in &store.shards {
            shard.lock().sweep(START + 200);
        }
        assert!(store.is_empty());
        assert_eq!(spend("0123456789abcdef", 0), Err(Refusal::TokenReplayed), "judged by an older time");
    }

    #[test]
    fn full_refuses_and_forgets_only_the_expired() {
        let store = store(SHARDS * 2);
        let spend = |who: &str, number: usize, offset: i64| {
            let token = Sighting { exp: START + 70 + offset, ..token(&format!("{number:016}"), 1) };
            store.spend(&token, &worker(who), (Replay::Strict, &Method::GET), at(offset))
        };
        let greedy: Vec<_> = (0..1000).map(|number| spend("greedy", number, 0)).collect();
        assert_eq!(greedy.iter().filter(|spent| spent.is_ok()).count(), SHARDS, "half of each shard");
        assert!(greedy.iter().all(|spent| matches!(spent, Ok(()) | Err(Refusal::ReplayShareFull))));
        let modest: Vec<_> = (1000..2000).map(|number| spend("modest", number, 0)).collect();
        assert_eq!(modest.iter().filter(|spent| spent.is_ok()).count(), SHARDS, "the other half");
        assert!(modest.contains(&Err(Refusal::ReplayStoreFull)));
        assert_eq!(store.len(), 2 * SHARDS);
        assert_eq!(spend("greedy", 3000, 89), Err(Refusal::ReplayStoreFull), "a second before the end");
        assert_eq!(spend("greedy", 3000, 90), Ok(()), "all have expired");
    }
}
