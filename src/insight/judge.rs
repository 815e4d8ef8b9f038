//! What a config decides of a request, by whoever can prove all that he is.

use crate::config::{Config, KeySource, KeyState, Listener, Route, Workload};
use crate::identity::Profile;
use crate::name::{ListenerName, PoolName, RouteName, WorkloadName};
use crate::policy::Access;
use crate::verdict::RuleId;
use http::Method;
use serde::Serialize;

/// A request that somebody could make.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Asked {
    /// Where it comes to.
    pub listener: ListenerName,
    /// Whose it is; none for a stranger.
    pub workload: Option<WorkloadName>,
    /// Its method.
    #[serde(serialize_with = "as_text")]
    pub method: Method,
    /// Its host.
    pub host: String,
    /// Its path.
    pub path: String,
}

fn as_text<S: serde::Serializer>(method: &Method, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(method.as_str())
}

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
    decide(config, config.routes.iter().find(takes), (&asked.listener, asked.workload.as_ref()))
}

/// The same, where the route is known.
pub(super) fn decide(
    config: &Config,
    route: Option<&Route>,
    (listener, who): (&ListenerName, Option<&WorkloadName>),
) -> Verdict {
    let Some(listener) = config.listeners.iter().find(|known| known.name == *listener) else {
        return Verdict::Nowhere;
    };
    let who = who.and_then(|name| config.workloads.iter().find(|known| known.workload.name == *name));
    let demanded = route.and_then(|route| route.identity).unwrap_or(listener.identity);
    let deny = |status, reason| Verdict::Deny { route: route.map(|route| route.name.clone()), status, reason };
    let allow = |route: &Route, rule: &RuleId, profile| Verdict::Allow {
        route: route.name.clone(),
        rule: rule.clone(),
        profile,
        pool: route.pool.clone(),
    };
    let list = match route.map(|route| (route, &*route.access)) {
        Some((route, Access::Public(rule))) => return allow(route, rule, None),
        Some((_, Access::Listed(list))) => Some(list),
        None => None,
    };
    let is_proven = demanded == Profile::None || who.is_some_and(|who| can_prove(config, listener, who, demanded));
    let (Some(route), Some(list)) = (route, list) else {
        return if is_proven { deny(404, "no route takes it") } else { deny(401, "who asks is not known") };
    };
    match who.filter(|_| is_proven && demanded != Profile::None) {
        None if demanded == Profile::None => deny(403, "nobody proves who he is here"),
        None => deny(401, "who asks is not known"),
        Some(who) => match list.rule_for(&who.workload) {
            Some(rule) => allow(route, rule, Some(demanded)),
            None => deny(403, "no rule allows it"),
        },
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
    let token = !profile.needs_token() || (config.edge.is_some() && has_key(profile == Profile::Psk));
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
