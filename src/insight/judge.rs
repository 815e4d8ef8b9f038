//! What a config decides of a request, by whoever can prove all that he is.

use super::asked::{Asked, Asker};
use super::circumstances::{self, Circumstances};
use crate::config::{Config, KeySource, KeyState, Listener, Route, Workload};
use crate::identity::Profile;
use crate::name::{PoolName, RouteName};
use crate::policy::{Access, joined};
use crate::principal::Principal;
use crate::refusal::Refusal;
use crate::verdict::RuleId;
use serde::Serialize;

/// What is decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "decision", rename_all = "snake_case")]
pub enum Verdict {
    /// It passes.
    Allow {
        /// By that route.
        route: RouteName,
        /// By that rule.
        rule: RuleId,
        /// With that proof; none on a public route.
        profile: Option<Profile>,
        /// To that pool.
        pool: PoolName,
    },
    /// It is refused.
    Deny {
        /// By that route, if one takes it.
        route: Option<RouteName>,
        /// With that status.
        status: u16,
        /// Why.
        reason: &'static str,
        /// By which rule, where it is not one that is missing.
        #[serde(skip_serializing_if = "Option::is_none")]
        rule: Option<RuleId>,
    },
    /// There is no such listener.
    Nowhere,
}

impl Verdict {
    /// Whether it passes.
    #[must_use]
    pub const fn is_allowed(&self) -> bool {
        matches!(self, Self::Allow { .. })
    }
}

/// What a config decides, and the rules beside it.
#[must_use]
pub fn judge(config: &Config, asked: &Asked, circumstances: &Circumstances<'_>) -> Verdict {
    let takes = |route: &&Route| route.pattern.takes(&asked.method, &asked.host, &asked.path);
    by(config, config.routes.iter().find(takes), asked.asker(), Some((asked, circumstances)))
}

/// What the lists of a route decide, whatever rules say beside them.
pub(super) fn decide(config: &Config, route: Option<&Route>, asker: Asker<'_>) -> Verdict {
    by(config, route, asker, None)
}

/// The reason where nothing lets somebody in.
pub(super) const NO_RULE: &str = "no rule allows it";

/// Of what rules are asked, if they are.
type Beside<'a> = Option<(&'a Asked, &'a Circumstances<'a>)>;

fn by(config: &Config, route: Option<&Route>, asker: Asker<'_>, beside: Beside<'_>) -> Verdict {
    let verdict = openly(config, route, asker, beside);
    match (verdict, route.filter(|route| route.is_hidden)) {
        // Who may not pass sees what he would see without the route.
        (Verdict::Deny { reason, rule, .. }, Some(route)) => match openly(config, None, asker, None) {
            Verdict::Deny { status, .. } => Verdict::Deny { route: Some(route.name.clone()), status, reason, rule },
            other @ (Verdict::Allow { .. } | Verdict::Nowhere) => other,
        },
        (verdict, _) => verdict,
    }
}

/// The same, as if no route were hidden.
fn openly(config: &Config, route: Option<&Route>, asker: Asker<'_>, beside: Beside<'_>) -> Verdict {
    let Some(listener) = config.listeners.iter().find(|known| known.name == *asker.listener) else {
        return Verdict::Nowhere;
    };
    let demanded = route.and_then(|route| route.identity).unwrap_or(listener.identity);
    let name = || route.map(|route| route.name.clone());
    let deny = |status, reason| Verdict::Deny { route: name(), status, reason, rule: None };
    let allow = |route: &Route, rule: &RuleId, profile| Verdict::Allow {
        route: route.name.clone(),
        rule: rule.clone(),
        profile,
        pool: route.pool.clone(),
    };
    let ruled = |route: &Route, principal: &Principal, listed: Option<&RuleId>, profile| {
        let ruling = beside.and_then(|(asked, circumstances)| {
            circumstances.ask((asked, principal), (listener, route), |rules, question| rules.judge_anew(question))?
        });
        match joined(listed, ruling.as_ref()) {
            Ok((rule, _)) => allow(route, &rule, profile),
            Err(denial) if denial.refusal != Refusal::NotAllowed => {
                let reason = if denial.refusal == Refusal::Forbidden {
                    "a rule forbids it"
                } else if denial.refusal == Refusal::FactMistyped {
                    "a claim or fact is not of the type that is declared"
                } else {
                    "a rule could not be judged"
                };
                Verdict::Deny { route: name(), status: 403, reason, rule: denial.rule }
            }
            Err(_) => deny(403, NO_RULE),
        }
    };
    if let Some((route, Access::Public(rule))) = route.map(|route| (route, &*route.access)) {
        return ruled(route, &Principal::Anonymous, Some(rule), None);
    }
    let who = asker.known(config).filter(|who| can_prove(config, listener, who, demanded));
    if demanded != Profile::None && who.is_none() {
        return deny(401, "who asks is not known");
    }
    if demanded.needs_user() && !asker.is_known_user(config) {
        return deny(401, "no user is known");
    }
    let Some((route, Access::Listed(list))) = route.map(|route| (route, &*route.access)) else {
        return deny(404, "no route takes it");
    };
    let Some(who) = who.filter(|_| demanded != Profile::None) else {
        return deny(403, "nobody proves who he is here");
    };
    // Where no user is demanded, nobody looks for one.
    let asker = Asker { user: asker.user.filter(|_| demanded.needs_user()), ..asker };
    let people = beside.and_then(|(_, circumstances)| circumstances.people);
    let roles: Vec<_> = asker.roles_of_user(config, people, who).cloned().collect();
    let listed = list.rule_for(&who.workload.name, who.workload.roles.iter().chain(&roles));
    let principal = circumstances::principal(config, who, asker.user.map(|user| (user, roles)));
    ruled(route, &principal, listed, Some(demanded))
}

/// Whether a workload could show what a profile demands, at a listener.
fn can_prove(config: &Config, listener: &Listener, who: &Workload, profile: Profile) -> bool {
    let Some(tls) = &listener.tls else { return false };
    let has_key = |shared: bool| {
        let counts = |state: KeyState| state != KeyState::Revoked;
        who.keys.iter().any(|key| counts(key.state) && matches!(key.source, KeySource::Secret(_)) == shared)
    };
    let certificate = !profile.needs_certificate() || tls.client_auth.is_some();
    let token = !profile.needs_token() || (config.edge.is_some() && has_key(profile.needs_secret()));
    certificate && token
}

impl Verdict {
    /// The rule that decides, where it is not one that is missing.
    #[must_use]
    pub const fn rule(&self) -> Option<&RuleId> {
        match self {
            Self::Allow { rule, .. } => Some(rule),
            Self::Deny { rule, .. } => rule.as_ref(),
            Self::Nowhere => None,
        }
    }

    /// The route that decides.
    #[must_use]
    pub fn route(&self) -> Option<&str> {
        match self {
            Self::Allow { route, .. } => Some(route.as_str()),
            Self::Deny { route, .. } => route.as_ref().map(RouteName::as_str),
            Self::Nowhere => None,
        }
    }
}
