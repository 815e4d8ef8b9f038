//! Tests of the policy, done.

use super::asked::{Asked, AskedUser};
use super::circumstances::Circumstances;
use super::explain::{Story, story};
use super::judge::{NO_RULE, Verdict};
use crate::clock::Timestamp;
use crate::config::{Config, Trial};
use crate::identity::People;
use crate::name::{ListenerName, closest};
use crate::policy::Access;
use crate::policy::rules::{Answered, RuleSet};
use crate::verdict::RuleId;
use serde::Serialize;
use std::{collections::BTreeSet, path::PathBuf};

/// What came of a test.
#[derive(Debug, Clone, Serialize)]
pub struct Tried {
    /// Its file.
    pub file: PathBuf,
    /// The line where it begins.
    pub line: usize,
    /// Why it is there.
    pub because: String,
    /// What is wrong; none if it passed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
    /// What is decided, and why.
    pub story: Story,
}

/// What came of all tests.
#[derive(Debug, Clone, Serialize)]
pub struct Trials {
    /// Each of them.
    pub tests: Vec<Tried>,
    /// Rules of lists and files that no test was decided by.
    pub uncovered: Vec<RuleId>,
    /// How many rules there are.
    pub rules: usize,
}

/// Does tests with a config that was built, from whatever time it is now.
#[must_use]
pub fn try_out(
    config: &Config,
    (people, rules): (&[People], Option<&RuleSet>),
    trials: &[Trial],
    now: Timestamp,
) -> Trials {
    let beside = Circumstances { people: Some(people), ..Circumstances::with(rules, now) };
    let tests: Vec<_> = trials.iter().filter_map(|trial| one(config, &beside, trial)).collect();
    let covered: BTreeSet<&str> = tests.iter().flat_map(|tried| &tried.story.rules).map(RuleId::as_str).collect();
    let all = all(config, rules);
    let count = all.len();
    let uncovered = all.into_iter().filter(|rule| !covered.contains(rule.as_str())).collect();
    Trials { tests, uncovered, rules: count }
}

/// The rules of lists and of files.
fn all(config: &Config, rules: Option<&RuleSet>) -> Vec<RuleId> {
    let mut all: Vec<RuleId> = Vec::new();
    for route in &config.routes {
        match &*route.access {
            Access::Public(rule) => all.push(rule.clone()),
            Access::Listed(list) => all.extend(list.workloads.values().chain(list.roles.values()).cloned()),
        }
    }
    all.extend(rules.into_iter().flat_map(RuleSet::all).map(|rule| rule.id.clone()));
    all.sort_by(|one, other| one.as_str().cmp(other.as_str()));
    all
}

/// None where the config has no listener.
fn one(config: &Config, beside: &Circumstances<'_>, trial: &Trial) -> Option<Tried> {
    let first: Option<&ListenerName> = config.listeners.first().map(|listener| &listener.name);
    let user = trial.user.clone().map(|(people, claims)| AskedUser { people, claims });
    let asked = Asked {
        listener: trial.listener.as_ref().or(first)?.clone(),
        workload: trial.who.clone(),
        user,
        method: trial.method.clone(),
        host: trial.host.clone(),
        path: trial.path.clone(),
    };
    let beside = Circumstances {
        asserted: trial.facts.clone(),
        client: trial.client,
        now: trial.at.unwrap_or(beside.now),
        ..beside.clone()
    };
    let story = story(config, &asked, &beside);
    let fault = unknown(config, trial).or_else(|| fault(trial, &story));
    Some(Tried { file: trial.file.clone(), line: trial.line, because: trial.because.clone(), fault, story })
}

/// A name that the config does not have: what nobody knows is denied, and that proves nothing.
fn unknown(config: &Config, trial: &Trial) -> Option<String> {
    let none = |kind: &str, name: &str, known: Vec<&str>| {
        let meant = closest(name, known.iter().copied()).map(|meant| format!(": did you mean `{meant}`?"));
        (!known.contains(&name)).then(|| format!("there is no {kind} `{name}`{}", meant.unwrap_or_default()))
    };
    let workloads = || config.workloads.iter().map(|known| known.workload.name.as_str()).collect();
    let people = || config.people.iter().map(|known| known.terms.name.as_str()).collect();
    let listeners = || config.listeners.iter().map(|known| known.name.as_str()).collect();
    let who = config.workloads.iter().find(|known| Some(&known.workload.name) == trial.who.as_ref());
    let asserted = || who.map(|who| who.may_assert.iter().map(|fact| &**fact).collect()).unwrap_or_default();
    let unknown = trial.who.as_ref().and_then(|name| none("workload", name.as_str(), workloads()));
    unknown
        .or_else(|| trial.user.as_ref().and_then(|(name, _)| none("people", name.as_str(), people())))
        .or_else(|| trial.listener.as_ref().and_then(|name| none("listener", name.as_str(), listeners())))
        .or_else(|| trial.facts.keys().find_map(|name| none("fact that he may assert,", name, asserted())))
}

fn fault(trial: &Trial, story: &Story) -> Option<String> {
    let (is, by) = match &story.verdict {
        Verdict::Allow { rule, .. } => (Answered::Allow, Some(rule)),
        Verdict::Deny { rule, .. } => (Answered::Deny, rule.as_ref()),
        Verdict::Nowhere => return Some("there is no such listener".into()),
    };
    let said = by.map_or_else(|| "no rule".to_owned(), ToString::to_string);
    if is != trial.expects {
        return Some(format!("it is {}, and is to be {}: decided by {said}", is.done(), trial.expects.done()));
    }
    if let Verdict::Deny { status: 404, reason, .. } = &story.verdict
        && *reason != NO_RULE
        && by.is_none()
    {
        return Some(format!("{reason}, so that nothing is decided of it"));
    }
    let wanted = trial.rule.as_ref().filter(|wanted| by.is_none_or(|by| by.as_str() != wanted.as_str()))?;
    Some(format!("it is {} by {said}, and is to be so by {wanted}", is.done()))
}
