//! Which tokens were used, and how often.
//!
//! A token is entered only after its signature, its binding and the policy said yes, so a stranger cannot fill the
//! store. Nothing is forgotten before it has expired: a full store refuses.
//!
//! A process that is replaced hands its store over, piece by piece. From then on the uses that it grants are entered by
//! its successor ([`Elsewhere`]), so that a token never counts once here and once there.

use super::token::{Sighting, acceptable_until};
use crate::clock::{Timestamp, UnixSeconds};
use crate::name::WorkloadName;
use crate::refusal::Refusal;
use async_trait::async_trait;
use http::Method;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap},
    fmt,
    hash::{BuildHasher, RandomState},
    sync::atomic::{AtomicI64, Ordering},
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
    horizon: AtomicI64,
}

/// One use of a token that is to be entered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spending<'a> {
    jti: Cow<'a, str>,
    #[serde(with = "base64_digest")]
    digest: [u8; 32],
    iat: UnixSeconds,
    until: UnixSeconds,
    workload: Cow<'a, WorkloadName>,
    uses_max: u8,
    /// It may be repeated without harm, so it passes although an earlier process may have seen it.
    is_harmless: bool,
}

/// A token that was used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Used {
    jti: Box<str>,
    #[serde(with = "base64_digest")]
    digest: [u8; 32],
    workload: WorkloadName,
    until: UnixSeconds,
    first: UnixSeconds,
    count: u8,
}

/// A digest as text: there may be a million of them to hand over.
mod base64_digest {
    use base64::{Engine, prelude::BASE64_STANDARD_NO_PAD as BASE64};
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(digest: &[u8; 32], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&BASE64.encode(digest))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<[u8; 32], D::Error> {
        let text = <&str>::deserialize(from)?;
        let bytes = BASE64.decode(text).map_err(D::Error::custom)?;
        bytes.try_into().map_err(|_other_length| D::Error::custom("a digest has 32 bytes"))
    }
}

/// Why a use was not entered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotEntered {
    /// It must not be.
    Refused(Refusal),
    /// The store is another process's now.
    HandedOver,
}

/// A store that is another process's.
#[async_trait]
pub trait Elsewhere: fmt::Debug + Send + Sync {
    /// Enters one use of a token there.
    ///
    /// # Errors
    /// What [`Store::spend`] refuses, and [`Refusal::ReplayStoreSilent`] without an answer.
    async fn spend(&self, spending: Spending<'static>) -> Result<(), Refusal>;
}

#[derive(Debug, Default)]
struct Shard {
    /// What is used from now on is entered elsewhere.
    is_handed_over: bool,
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
            horizon: AtomicI64::new(horizon.unix_seconds()),
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
    /// process, [`Refusal::ReplayStoreFull`] and [`Refusal::ReplayShareFull`] when there is no room, and
    /// [`NotEntered::HandedOver`].
    pub fn spend(&self, spending: &Spending<'_>, now: Timestamp) -> Result<(), NotEntered> {
        let mut shard = self.shard(&spending.jti)?.lock();
        if shard.is_handed_over {
            return Err(NotEntered::HandedOver);
        }
        if !spending.is_harmless && spending.iat <= self.horizon.load(Ordering::Relaxed) {
            return Err(Refusal::TokenStale.into());
        }
        shard.sweep(now.unix_seconds());
        Ok(shard.spend(spending, self.shard_max, now)?)
    }

    fn shard(&self, jti: &str) -> Result<&Mutex<Shard>, Refusal> {
        let shard = usize::try_from(self.hasher.hash_one(jti)).unwrap_or(usize::MAX) % SHARDS;
        self.shards.get(shard).ok_or(Refusal::Internal)
    }

    /// Hands everything over, piece by piece. Of a piece that was handed over nothing is entered here any more.
    pub fn hand_over(&self) -> impl Iterator<Item = Vec<Used>> {
        self.shards.iter().map(|shard| {
            let mut shard = shard.lock();
            shard.is_handed_over = true;
            shard.used()
        })
    }

    /// Notes a use that was entered elsewhere, for the case that all is taken back.
    pub fn note(&self, spending: &Spending<'_>, now: Timestamp) {
        if let Ok(shard) = self.shard(&spending.jti) {
            // Whether it was allowed was decided there.
            shard.lock().spend(spending, usize::MAX, now).ok();
        }
    }

    /// Takes back what was handed over. What was used elsewhere up to `horizon` it cannot know, if there is one.
    pub fn take_back(&self, horizon: Option<Timestamp>) {
        if let Some(horizon) = horizon {
            self.horizon.fetch_max(horizon.unix_seconds(), Ordering::Relaxed);
        }
        self.shards.iter().for_each(|shard| shard.lock().is_handed_over = false);
    }

    /// Up to when it does not know what was used.
    #[must_use]
    pub fn horizon(&self) -> UnixSeconds {
        self.horizon.load(Ordering::Relaxed)
    }

    /// Takes over what an earlier process has entered, and its horizon once everything is there.
    pub fn inherit(&self, used: Vec<Used>) {
        for used in used {
            if let Ok(shard) = self.shard(&used.jti) {
                shard.lock().inherit(used);
            }
        }
    }

    /// Everything that an earlier process has entered is there: nothing but its own horizon is unknown.
    pub fn knows_all_since(&self, horizon: UnixSeconds) {
        self.horizon.store(horizon, Ordering::Relaxed);
    }
}

impl<'a> Spending<'a> {
    /// The use that a request makes of a token; none where nothing is remembered.
    #[must_use]
    pub fn of(token: &'a Sighting, workload: &'a WorkloadName, (mode, method): (Replay, &Method)) -> Option<Self> {
        let is_tolerated = |may_be: bool| mode == Replay::Tolerant && may_be;
        (mode != Replay::Off).then(|| Self {
            jti: Cow::Borrowed(&token.jti),
            digest: token.digest,
            iat: token.iat,
            until: acceptable_until(token.exp),
            workload: Cow::Borrowed(workload),
            uses_max: if is_tolerated(method.is_safe()) { REPEATS_MAX } else { 1 },
            is_harmless: is_tolerated(method.is_idempotent()),
        })
    }

    /// The same, to be sent away.
    #[must_use]
    pub fn into_owned(self) -> Spending<'static> {
        let (jti, workload) = (Cow::Owned(self.jti.into_owned()), Cow::Owned(self.workload.into_owned()));
        Spending { jti, workload, ..self }
    }
}

impl From<Refusal> for NotEntered {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl Use {
    /// The digest covers the claims, and those the certificate: an equal digest comes from the same certificate.
    fn again(&mut self, spending: &Spending<'_>, now: Timestamp) -> Result<(), Refusal> {
        let same = self.digest == spending.digest && now.since(self.first) <= REPEAT_WITHIN;
        if !same || self.count >= spending.uses_max {
            return Err(Refusal::TokenReplayed);
        }
        self.count = self.count.saturating_add(1);
        Ok(())
    }
}

impl Shard {
    fn spend(&mut self, spending: &Spending<'_>, max: usize, now: Timestamp) -> Result<(), Refusal> {
        match self.uses.get_mut(&*spending.jti) {
            Some(known) => known.again(spending, now),
            None => self.enter(spending, max, now),
        }
    }

    fn enter(&mut self, spending: &Spending<'_>, max: usize, now: Timestamp) -> Result<(), Refusal> {
        // Requests do not come in the order of their times, and clocks are set back: what may have been forgotten
        // already counts as used.
        if spending.until <= self.swept_until {
            return Err(Refusal::TokenReplayed);
        }
        let share = self.shares.get(&*spending.workload).copied().unwrap_or(0);
        if self.uses.len() >= max {
            return Err(Refusal::ReplayStoreFull);
        }
        if share >= max.div_ceil(2) {
            return Err(Refusal::ReplayShareFull);
        }
        let known =
            Use { digest: spending.digest, workload: spending.workload.clone().into_owned(), first: now, count: 1 };
        self.remember(spending.jti.as_ref().into(), spending.until, known);
        Ok(())
    }

    fn remember(&mut self, jti: Box<str>, until: UnixSeconds, known: Use) {
        let share = self.shares.entry(known.workload.clone()).or_default();
        *share = share.saturating_add(1);
        self.by_expiry.entry(until).or_default().push(jti.clone());
        self.uses.insert(jti, known);
    }

    /// What is remembered, to be handed over.
    fn used(&self) -> Vec<Used> {
        let of = |jti: &str, until: UnixSeconds| {
            let known = self.uses.get(jti)?;
            Some(Used {
                jti: jti.into(),
                digest: known.digest,
                workload: known.workload.clone(),
                until,
                first: known.first.unix_seconds(),
                count: known.count,
            })
        };
        let entries = self.by_expiry.iter().flat_map(|(until, jtis)| jtis.iter().map(|jti| (jti, *until)));
        entries.filter_map(|(jti, until)| of(jti, until)).collect()
    }

    /// Remembers what another process has entered; what was entered here since counts, too.
    fn inherit(&mut self, used: Used) {
        let first = Timestamp::from_unix_seconds(used.first);
        match self.uses.get_mut(&used.jti) {
            Some(known) => known.count = known.count.saturating_add(used.count),
            None => {
                let known = Use { digest: used.digest, workload: used.workload, first, count: used.count };
                self.remember(used.jti, used.until, known);
            }
        }
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
            user: None,
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

    /// As a request does it.
    fn spend(
        store: &Store,
        token: &Sighting,
        who: &WorkloadName,
        how: (Replay, &Method),
        now: Timestamp,
    ) -> Result<(), Refusal> {
        let Some(spending) = Spending::of(token, who, how) else { return Ok(()) };
        store.spend(&spending, now).map_err(|not| match not {
            NotEntered::Refused(refusal) => refusal,
            NotEntered::HandedOver => panic!("handed over"),
        })
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
        let spent = |offset: &i64| spend(&store, &token("0123456789abcdef", 1), &who, (mode, &method), at(*offset));
        let (last, before) = offsets.split_last().unwrap();
        for offset in before {
            spent(offset).unwrap();
        }
        assert_eq!(spent(last), expected);
    }

    #[test]
    fn once_is_once_over_a_restart() {
        let early = Sighting { iat: START, ..token("0123456789abcdef", 1) };
        let spent = |mode| spend(&store(100), &early, &worker("checkout"), (mode, &Method::GET), at(0));
        assert_eq!((spent(Replay::Strict), spent(Replay::Tolerant)), (Err(Refusal::TokenStale), Ok(())));
    }

    #[test]
    fn off_remembers_nothing() {
        let store = store(100);
        let spent = || spend(&store, &token("0123456789abcdef", 1), &worker("a"), (Replay::Off, &Method::POST), at(0));
        assert!((0..5).all(|_| spent() == Ok(())));
        assert!(store.is_empty());
    }

    #[test]
    fn the_same_id_in_another_token_is_a_replay() {
        let store = store(100);
        let who = worker("checkout");
        let get = (Replay::Tolerant, &Method::GET);
        assert_eq!(spend(&store, &token("0123456789abcdef", 1), &who, get, at(0)), Ok(()));
        assert_eq!(spend(&store, &token("0123456789abcdef", 2), &who, get, at(0)), Err(Refusal::TokenReplayed));
    }

    #[test_case(Method::POST, 0, Err(Refusal::TokenStale); "post signed at the horizon")]
    #[test_case(Method::PATCH, -9, Err(Refusal::TokenStale); "patch signed before")]
    #[test_case(Method::POST, 1, Ok(()); "post signed after")]
    #[test_case(Method::GET, -9, Ok(()); "get signed before")]
    #[test_case(Method::DELETE, -9, Ok(()); "a repeated delete does no harm")]
    fn what_an_earlier_process_may_have_seen(method: Method, signed: i64, expected: Result<(), Refusal>) {
        let early = Sighting { iat: START + signed, ..token("0123456789abcdef", 1) };
        let spent = spend(&store(100), &early, &worker("checkout"), (Replay::Tolerant, &method), at(0));
        assert_eq!(spent, expected);
    }

    #[test]
    fn what_was_forgotten_stays_used() {
        let store = store(100);
        let spent = |jti: &str, offset: i64| {
            spend(&store, &token(jti, 1), &worker("checkout"), (Replay::Strict, &Method::POST), at(offset))
        };
        assert_eq!(spent("0123456789abcdef", 0), Ok(()));
        for shard in &store.shards {
            shard.lock().sweep(START + 200);
        }
        assert!(store.is_empty());
        assert_eq!(spent("0123456789abcdef", 0), Err(Refusal::TokenReplayed), "judged by an older time");
    }

    #[test]
    fn full_refuses_and_forgets_only_the_expired() {
        let store = store(SHARDS * 2);
        let spent = |who: &str, number: usize, offset: i64| {
            let token = Sighting { exp: START + 70 + offset, ..token(&format!("{number:016}"), 1) };
            spend(&store, &token, &worker(who), (Replay::Strict, &Method::GET), at(offset))
        };
        let greedy: Vec<_> = (0..1000).map(|number| spent("greedy", number, 0)).collect();
        assert_eq!(greedy.iter().filter(|spent| spent.is_ok()).count(), SHARDS, "half of each shard");
        assert!(greedy.iter().all(|spent| matches!(spent, Ok(()) | Err(Refusal::ReplayShareFull))));
        let modest: Vec<_> = (1000..2000).map(|number| spent("modest", number, 0)).collect();
        assert_eq!(modest.iter().filter(|spent| spent.is_ok()).count(), SHARDS, "the other half");
        assert!(modest.contains(&Err(Refusal::ReplayStoreFull)));
        assert_eq!(store.len(), 2 * SHARDS);
        assert_eq!(spent("greedy", 3000, 89), Err(Refusal::ReplayStoreFull), "a second before the end");
        assert_eq!(spent("greedy", 3000, 90), Ok(()), "all have expired");
    }

    #[test]
    fn what_is_handed_over_is_used_there_and_not_here() {
        // Room for all of them, whatever shard they come to.
        let (old, new) = (store(SHARDS * 8), Store::new(SHARDS * 8, at(1000)));
        let who = worker("checkout");
        let post = (Replay::Tolerant, &Method::POST);
        let (one, two, three) =
            (token("0123456789abcdef", 1), token("fedcba9876543210", 2), token("00112233445566", 3));
        spend(&old, &one, &who, post, at(0)).unwrap();
        let pieces: Vec<Vec<Used>> = old.hand_over().collect();
        let other = Spending::of(&two, &who, post).unwrap().into_owned();
        assert_eq!(old.spend(&other, at(0)), Err(NotEntered::HandedOver));
        new.spend(&other, at(0)).unwrap_err();
        let sent = serde_json::to_string(&pieces).unwrap();
        serde_json::from_str::<Vec<Vec<Used>>>(&sent).unwrap().into_iter().for_each(|piece| new.inherit(piece));
        new.knows_all_since(old.horizon());
        assert_eq!(spend(&new, &one, &who, post, at(1)), Err(Refusal::TokenReplayed), "it came along");
        assert_eq!(new.spend(&other, at(1)), Ok(()), "the successor enters it");
        old.note(&other, at(1));
        // The successor has died.
        old.take_back(Some(at(5)));
        assert_eq!(spend(&old, &two, &who, post, at(1)), Err(Refusal::TokenStale), "whatever it may have entered");
        let get = (Replay::Tolerant, &Method::GET);
        assert_eq!(spend(&old, &three, &who, get, at(1)), Ok(()));
        let later = |token: &Sighting| Sighting { iat: START + 20, ..token.clone() };
        assert_eq!(spend(&old, &later(&two), &who, post, at(1)), Err(Refusal::TokenReplayed), "noted");
        assert_eq!(spend(&old, &later(&one), &who, post, at(1)), Err(Refusal::TokenReplayed), "never forgotten");
    }

    #[test]
    fn uses_on_both_sides_of_a_handover_add_up() {
        let (old, new) = (store(100), store(100));
        let (who, get) = (worker("checkout"), (Replay::Tolerant, &Method::GET));
        let one = token("0123456789abcdef", 1);
        spend(&new, &one, &who, get, at(0)).unwrap();
        spend(&old, &one, &who, get, at(0)).unwrap();
        spend(&old, &one, &who, get, at(0)).unwrap();
        old.hand_over().for_each(|piece| new.inherit(piece));
        assert_eq!(spend(&new, &one, &who, get, at(0)), Err(Refusal::TokenReplayed));
        new.shards.iter().for_each(|shard| shard.lock().sweep(START + 500));
        assert!(new.is_empty(), "what was inherited expires");
    }
}
