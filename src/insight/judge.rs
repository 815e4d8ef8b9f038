//! What a config decides of a request, by whoever can prove all that he is.

use super::asked::{Asked, Asker};
use crate::config::{Config, KeySource, KeyState, Listener, Route, Workload};
use crate::identity::Profile;
use crate::name::{PoolName, RouteName};
use crate::policy::Access;
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

/// What a config decides.
#[must_use]
pub fn judge(config: &Config, asked: &Asked) -> Verdict {
    let takes = |route: &&Route| route.pattern.takes(&asked.method, &asked.host, &asked.path);
    decide(config, config.routes.iter().find(takes), asked.asker())
}

/// The same, where the route is known.
pub(super) fn decide(config: &Config, route: Option<&Route>, asker: Asker<'_>) -> Verdict {
    let verdict = openly(config, route, asker);
    match (verdict, route.filter(|route| route.is_hidden)) {
        // Who may not pass sees what he would see without the route.
        (Verdict::Deny { reason, .. }, Some(route)) => match openly(config, None, asker) {
            Verdict::Deny { status, .. } => Verdict::Deny { route: Some(route.name.clone()), status, reason },
            other @ (Verdict::Allow { .. } | Verdict::Nowhere) => other,
        },
        (verdict, _) => verdict,
    }
}

/// The same, as if no route were hidden.
fn openly(config: &Config, route: Option<&Route>, asker: Asker<'_>) -> Verdict {
    let Some(listener) = config.listeners.iter().find(|known| known.name == *asker.listener) else {
        return Verdict::Nowhere;
    };
    let demanded = route.and_then(|route| route.identity).unwrap_or(listener.identity);
    let deny = |status, reason| Verdict::Deny { route: route.map(|route| route.name.clone()), status, reason };
    let allow = |route: &Route, rule: &RuleId, profile| Verdict::Allow {
        route: route.name.clone(),
        rule: rule.clone(),
        profile,
        pool: route.pool.clone(),
    };
    if let Some((route, Access::Public(rule))) = route.map(|route| (route, &*route.access)) {
        return allow(route, rule, None);
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
    let roles = who.workload.roles.iter().chain(asker.roles_of_user(config, who));
    match list.rule_for(&who.workload.name, roles) {
        Some(rule) => allow(route, rule, Some(demanded)),
        None => deny(403, "no rule allows it"),
    }
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
