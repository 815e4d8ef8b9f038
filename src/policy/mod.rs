//! Who may: from a [`Verified`] identity to a [`Permit`].
//!
//! A permit is the only key to a pool, and only this module makes one. What is not allowed is denied.

mod near;
pub mod rules;

pub use near::near_misses;

use crate::clock::Timestamp;
use crate::generation::Generation;
use crate::identity::{Elsewhere, NotEntered, Profile, Replay, ReplayStore, Spending, Verified};
use crate::name::{PoolName, RoleName, RouteName, WorkloadName};
use crate::principal::Principal;
use crate::refusal::Refusal;
use crate::request::{Facts, Id};
use crate::verdict::{RuleId, Shadow};
use rules::{Answer, AtRoute, Question, Ruling};
use std::{collections::HashMap, net::IpAddr, sync::Arc, time::Duration};

/// Who may pass.
#[derive(Debug)]
pub enum Access {
    /// Everybody; no identity is asked.
    Public(RuleId),
    /// Whom the list names, by itself or by a role.
    Listed(AllowList),
}

/// An `allow:` list, each entry with its rule.
#[derive(Debug, Clone, Default)]
pub struct AllowList {
    /// Workloads.
    pub workloads: HashMap<WorkloadName, RuleId>,
    /// Roles.
    pub roles: HashMap<RoleName, RuleId>,
}

impl AllowList {
    /// The rule that lets a workload in by its name, or whoever has those roles, if one does.
    pub fn rule_for<'a>(
        &self,
        workload: &WorkloadName,
        mut roles: impl Iterator<Item = &'a RoleName>,
    ) -> Option<&RuleId> {
        self.workloads.get(workload).or_else(|| roles.find_map(|role| self.roles.get(role)))
    }
}

/// What a route demands and where it leads.
#[derive(Debug)]
pub struct Door {
    /// The route.
    pub route: RouteName,
    /// The proofs that it demands; none means the listener's.
    pub demands: Option<Profile>,
    /// Who may pass.
    pub access: Arc<Access>,
    /// What rules say beside that; none if they say nothing here.
    pub rules: Option<AtRoute>,
    /// Whether who may not pass sees it.
    pub is_hidden: bool,
    /// Whether the token must carry the body's digest.
    pub demands_digest: bool,
    /// For how long.
    pub term: Term,
    /// Where it leads.
    pub pool: PoolName,
}

/// How long what a route has let in may go on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Term {
    /// At most; none means without end.
    pub max_age: Option<Duration>,
    /// Whether it goes on when the user's token ends.
    pub outlives_token: bool,
}

impl Door {
    /// Whether no identity is asked.
    #[must_use]
    pub fn is_public(&self) -> bool {
        matches!(*self.access, Access::Public(_))
    }

    /// The proofs that it demands at a listener with that profile.
    #[must_use]
    pub fn demanded(&self, listener: Profile) -> Profile {
        self.demands.unwrap_or(listener)
    }
}

/// The request that is decided.
#[derive(Debug, Clone, Copy)]
pub struct Case<'a> {
    /// Its id: the one that the edge signed, else ours.
    pub id: &'a Id,
    /// What it asks.
    pub facts: &'a Facts,
    /// The client's address.
    pub client: Option<IpAddr>,
    /// The TLS version, for example `1.3`.
    pub tls: Option<&'static str>,
    /// The profile of the listener that it came to.
    pub listener: Profile,
    /// The config that judges it.
    pub generation: Generation,
    /// When.
    pub now: Timestamp,
}

impl<'a> Case<'a> {
    /// What rules are asked of it.
    #[must_use]
    pub fn question(&self, principal: &'a Principal, verified: Option<&'a Verified>) -> Question<'a> {
        let asserted = verified.and_then(|verified| verified.token()).map(|token| &token.asserted);
        Question { principal, facts: self.facts, client: self.client, tls: self.tls, asserted, now: self.now }
    }
}

/// Why somebody may not pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denial {
    /// Why.
    pub refusal: Refusal,
    /// By which rule, where it is not one that is missing.
    pub rule: Option<RuleId>,
    /// What rules would change that are only tried out.
    pub shadow: Option<Shadow>,
}

impl From<Refusal> for Denial {
    fn from(refusal: Refusal) -> Self {
        Self { refusal, rule: None, shadow: None }
    }
}

/// The right to one request to one pool. Only this module makes one, it is used up by being dropped, and it cannot be
/// copied. It can be handed on:
///
/// ```
/// use belay::policy::Permit;
/// fn once(permit: Permit) -> Permit {
///     permit
/// }
/// ```
///
/// but not be doubled:
///
/// ```compile_fail
/// use belay::policy::Permit;
/// fn twice(permit: Permit) -> (Permit, Permit) {
///     (permit.clone(), permit)
/// }
/// ```
///
/// Its parts can be made by anybody:
///
/// ```
/// use belay::{generation::Generation, name::{PoolName, RouteName}, policy::Permit, principal::Principal,
///     request::Id, verdict::RuleId};
/// let _ = (Generation::new(1), Id::random(), Principal::Anonymous, RuleId::new("mine"));
/// let _ = (RouteName::parse("orders").unwrap(), PoolName::parse("orders").unwrap());
/// ```
///
/// and it from them by nobody:
///
/// ```compile_fail
/// use belay::{generation::Generation, name::{PoolName, RouteName}, policy::Permit, principal::Principal,
///     request::Id, verdict::RuleId};
/// let forged = Permit {
///     generation: Generation::new(1),
///     request_id: Id::random(),
///     principal: Principal::Anonymous,
///     route: RouteName::parse("orders").unwrap(),
///     pool: PoolName::parse("orders").unwrap(),
///     rule: RuleId::new("mine"),
/// };
/// ```
///
/// A decision needs a [`Verified`]:
///
/// ```
/// use belay::{identity::{Replay, Verified}, policy::{Case, Door, decide}};
/// fn proven(verified: &Verified, door: &Door, case: &Case<'_>) {
///     let _ = decide(verified, door, case, Replay::Tolerant);
/// }
/// ```
///
/// so that a mere claim does not compile:
///
/// ```compile_fail
/// use belay::{identity::Replay, policy::{Case, Door, decide}, principal::Principal};
/// fn trusting(door: &Door, case: &Case<'_>) {
///     let _ = decide(&Principal::Anonymous, door, case, Replay::Tolerant);
/// }
/// ```
///
/// What it clears is no permit before its token is entered:
///
/// ```
/// use belay::{clock::Timestamp, identity::ReplayStore, policy::{Cleared, Permit}, refusal::Refusal};
/// fn entered<'a>(cleared: Cleared<'a>, store: &ReplayStore, now: Timestamp) -> Result<Result<Permit, Cleared<'a>>, Refusal> {
///     cleared.enter(store, now)
/// }
/// ```
///
/// ```compile_fail
/// use belay::{clock::Timestamp, identity::ReplayStore, policy::{Cleared, Permit}, refusal::Refusal};
/// fn unentered(cleared: Cleared<'_>) -> Permit {
///     cleared.permit
/// }
/// ```
#[derive(Debug)]
pub struct Permit {
    generation: Generation,
    request_id: Id,
    principal: Principal,
    route: RouteName,
    pool: PoolName,
    rule: RuleId,
    shadow: Option<Shadow>,
}

impl Permit {
    /// The config that the request was judged by.
    #[must_use]
    pub const fn generation(&self) -> Generation {
        self.generation
    }

    /// The request's id: the one that the edge signed, else ours.
    #[must_use]
    pub const fn request_id(&self) -> &Id {
        &self.request_id
    }

    /// Who asks.
    #[must_use]
    pub const fn principal(&self) -> &Principal {
        &self.principal
    }

    /// The route.
    #[must_use]
    pub const fn route(&self) -> &RouteName {
        &self.route
    }

    /// The only pool that the permit leads to.
    #[must_use]
    pub const fn pool(&self) -> &PoolName {
        &self.pool
    }

    /// The rule that allowed it.
    #[must_use]
    pub const fn rule(&self) -> &RuleId {
        &self.rule
    }

    /// What a rule would change that is only tried out.
    #[must_use]
    pub const fn shadow(&self) -> Option<&Shadow> {
        self.shadow.as_ref()
    }

    fn new(door: &Door, case: &Case<'_>, principal: Principal, (rule, shadow): Allowed) -> Self {
        Self {
            generation: case.generation,
            request_id: case.id.clone(),
            principal,
            route: door.route.clone(),
            pool: door.pool.clone(),
            rule,
            shadow,
        }
    }
}

/// The permit for a public route, the one place that grants without an identity.
///
/// # Errors
/// [`Refusal::ProfileMismatch`] if the route is not public, and what rules have against it.
pub fn admit_public(door: &Door, case: &Case<'_>) -> Result<Permit, Denial> {
    if !door.is_public() {
        return Err(Refusal::ProfileMismatch.into());
    }
    let allowed = allowed(door, &case.question(&Principal::Anonymous, None))?;
    Ok(Permit::new(door, case, Principal::Anonymous, allowed))
}

/// A request that may pass as soon as the use of its token is entered: the last step, so that a token that was refused is
/// not used up.
#[derive(Debug)]
pub struct Cleared<'a> {
    permit: Permit,
    /// None where nothing is to be entered.
    spending: Option<Spending<'a>>,
}

impl Cleared<'_> {
    /// Who may pass, and by which rule.
    #[must_use]
    pub const fn passing(&self) -> (&Principal, &RuleId) {
        (&self.permit.principal, &self.permit.rule)
    }

    /// Enters the token; without a permit if the store is another process's now, and it must be entered there.
    ///
    /// # Errors
    /// What [`ReplayStore::spend`] refuses.
    pub fn enter(self, store: &ReplayStore, now: Timestamp) -> Result<Result<Permit, Self>, Refusal> {
        match self.spending.as_ref().map_or(Ok(()), |spending| store.spend(spending, now)) {
            Ok(()) => Ok(Ok(self.permit)),
            Err(NotEntered::HandedOver) => Ok(Err(self)),
            Err(NotEntered::Refused(refusal)) => Err(refusal),
        }
    }

    /// Enters the token in another process's store, and notes it in our own.
    ///
    /// # Errors
    /// What [`Elsewhere::spend`] refuses.
    pub async fn enter_elsewhere(
        self,
        elsewhere: &dyn Elsewhere,
        own: &ReplayStore,
        now: Timestamp,
    ) -> Result<Permit, Refusal> {
        if let Some(spending) = self.spending {
            let spending = spending.into_owned();
            elsewhere.spend(spending.clone()).await?;
            own.note(&spending, now);
        }
        Ok(self.permit)
    }
}

/// Decides. What it clears still has to be entered into the replay store.
///
/// # Errors
/// [`Refusal::ProfileMismatch`] for an identity proved by another profile than the route demands,
/// [`Refusal::NotAllowed`] where no rule allows it, [`Refusal::Forbidden`] where one forbids it, and
/// [`Refusal::TokenBodyMissing`] where the route demands the body's digest.
pub fn decide<'a>(verified: &'a Verified, door: &Door, case: &Case<'_>, mode: Replay) -> Result<Cleared<'a>, Denial> {
    if verified.profile() != door.demanded(case.listener) {
        return Err(Refusal::ProfileMismatch.into());
    }
    let principal = verified.principal();
    let allowed = allowed(door, &case.question(principal, Some(verified)))?;
    if door.demands_digest && verified.token().is_none_or(|token| token.body.is_none()) {
        return Err(Refusal::TokenBodyMissing.into());
    }
    // Where no certificate backs a token, whoever sees it could use it: once is enough.
    let mode = if verified.profile().needs_certificate() { mode } else { Replay::Strict };
    let used = verified.token().zip(principal.workload());
    let spending = used.and_then(|(token, workload)| Spending::of(token, &workload.name, (mode, &case.facts.method)));
    Ok(Cleared { permit: Permit::new(door, case, principal.clone(), allowed), spending })
}

/// Whether a request that was let in would be let in by that door, too, by who asks as he is known now; none means that
/// nobody was asked. What is new here is no reason to end it: only proof that is missing, or a rule.
///
/// # Errors
/// As [`decide`].
pub fn still_allows(verified: Option<&Verified>, door: &Door, case: &Case<'_>) -> Result<(), Refusal> {
    let question = match verified {
        _ if door.is_public() => case.question(&Principal::Anonymous, None),
        Some(verified) if verified.profile().covers(door.demanded(case.listener)) => {
            case.question(verified.principal(), Some(verified))
        }
        Some(_) | None => return Err(Refusal::ProfileMismatch),
    };
    allowed(door, &question).map(drop).map_err(|denial| denial.refusal)
}

/// The rule that lets in, and what one would change that is only tried out.
pub type Allowed = (RuleId, Option<Shadow>);

fn allowed(door: &Door, question: &Question<'_>) -> Result<Allowed, Denial> {
    // Who proves nothing is let in where everybody is, and nowhere else, whatever rules say.
    if !door.is_public() && question.principal.workload().is_none() {
        return Err(Refusal::NotAllowed.into());
    }
    let listed = rule_for(&door.access, question.principal);
    match &door.rules {
        Some(rules) => joined(listed, rules.judge(question).as_ref()),
        None => joined(listed, None),
    }
}

/// What a list and rules say together: who is forbidden is so whoever lets him in, and what cannot be said is no yes.
///
/// # Errors
/// As [`decide`].
pub fn joined(listed: Option<&RuleId>, ruling: Option<&Ruling>) -> Result<Allowed, Denial> {
    let Some(ruling) = ruling else {
        return listed.map_or_else(|| Err(Refusal::NotAllowed.into()), |rule| Ok((rule.clone(), None)));
    };
    let by = ruling.said.by.first().cloned();
    let refused = |refusal| Err((refusal, by.clone()));
    let verdict = match ruling.said.answer {
        Answer::Forbidden => refused(Refusal::Forbidden),
        Answer::Failed => refused(Refusal::RuleFailed),
        Answer::Mistyped => refused(Refusal::FactMistyped),
        Answer::Permitted => listed.cloned().or_else(|| by.clone()).ok_or((Refusal::NotAllowed, None)),
        Answer::Silent => listed.cloned().ok_or((Refusal::NotAllowed, None)),
    };
    let would = ruling.shadow.as_ref().filter(|said| said.answer != Answer::Silent).and_then(|said| {
        let would_allow = said.answer == Answer::Permitted;
        let changes = match &verdict {
            Ok(_) => !would_allow,
            Err((refusal, _)) => would_allow && *refusal == Refusal::NotAllowed,
        };
        changes.then(|| Shadow { rules: said.by.clone(), would_allow })
    });
    match verdict {
        Ok(rule) => Ok((rule, would)),
        Err((refusal, rule)) => Err(Denial { refusal, rule, shadow: would }),
    }
}

fn rule_for<'a>(access: &'a Access, principal: &Principal) -> Option<&'a RuleId> {
    match access {
        Access::Public(rule) => Some(rule),
        Access::Listed(list) => list.rule_for(&principal.workload()?.name, principal.roles()),
    }
}
