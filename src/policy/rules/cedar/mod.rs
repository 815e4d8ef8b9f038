//! Rules in Cedar.
//!
//! For each route and action there is a slice of the rules that can match, and a list of the atoms that these ask. What
//! Cedar decides is remembered by who asks, route, action and the atoms' bits.

mod atom;
mod entity;
mod near;
mod reading;
mod schema;
mod slice;
mod source;
mod typed;

use super::words::{RouteWords, Words};
use super::{Answer, Effect, Fault, Judge, Question, RuleSet, Ruling, Said, Source};
use crate::name::{PeopleName, WorkloadName};
use crate::verdict::{HasRead, RuleId};
use cedar_policy::{AuthorizationError, Authorizer, Decision, PolicyId, PolicySet, Response};
use entity::Entities;
use quick_cache::sync::Cache;
use reading::Reading;
use slice::{ACTIONS, Part, Slice, Slices};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};
use typed::Mistyped;

/// So many rulings are remembered.
const REMEMBERED_MAX: usize = 65_536;

/// Reads rules.
pub(super) fn read(words: &Words, sources: &[Source<'_>]) -> Result<super::Read, Vec<Fault>> {
    let (rules, mut faults) = source::read(words, sources);
    if faults.iter().any(|fault| !fault.is_warning) {
        return Err(faults);
    }
    let slices = Slices::of(&rules, words);
    let unused = rules.iter().enumerate().filter(|(index, _)| !slices.have(*index));
    let never = "the rule can never match: no route takes what it is about";
    faults.extend(unused.map(|(_, read)| read.warning(never, "see `methods` and `groups` of `routes`")));
    faults.extend(rules.iter().filter_map(|read| unread(read, words)));
    let entities = Entities::new(words).map_err(|error| vec![fault_of_ours(sources, &*error)])?;
    let judge = Cedar { slices, entities, authorizer: Authorizer::new(), remembered: Cache::new(REMEMBERED_MAX) };
    Ok((RuleSet::new(rules.into_iter().map(|read| read.rule).collect(), words, Arc::new(judge)), faults))
}

/// A rule that keeps out by what nobody brings where it counts.
fn unread(read: &source::Read, words: &Words) -> Option<Fault> {
    let (facts, claims): (Vec<_>, Vec<_>) =
        read.asked.reads.iter().filter(|reading| reading.is_brought()).partition(|reading| reading.is_of_request());
    let lacks = |route: &&RouteWords| {
        let is_meant =
            ACTIONS.iter().any(|action| route.takes(action) && slice::Scope::of(&read.form).takes(route, action));
        let is_missing = (!facts.is_empty() && !route.has_facts) || (!claims.is_empty() && !route.has_users);
        is_meant && is_missing
    };
    let routes: Vec<_> = words.routes.iter().filter(lacks).map(|route| route.name.as_str()).collect();
    let is_wanted = read.rule.effect == Effect::Forbid && !routes.is_empty();
    let what: Vec<_> = facts.iter().chain(&claims).map(|reading| reading.place()).collect();
    let message =
        format!("nobody brings {} to {}, so the rule forbids nothing there", what.join(" or "), listed(&routes));
    let hint =
        "facts come with a token (`mtls+jwt`), claims with a user's (`+user`); say for which routes or groups it is";
    is_wanted.then(|| read.warning(&message, hint))
}

/// Some names, and how many more there are.
fn listed(names: &[&str]) -> String {
    const TOLD_MAX: usize = 5;
    let more = names.len().saturating_sub(TOLD_MAX);
    let told = names.iter().take(TOLD_MAX).copied().collect::<Vec<_>>().join(", ");
    if more == 0 { told } else { format!("{told} and {more} more") }
}

fn fault_of_ours(sources: &[Source<'_>], error: &dyn std::error::Error) -> Fault {
    let file = sources.first().map(|source| source.file.to_owned()).unwrap_or_default();
    let message = format!("what the rules speak of cannot be said in Cedar: {error}");
    Fault { file, place: (0, 0), message, hint: None, is_warning: false }
}

/// The schema, for editors and tests of the rules.
pub(super) fn schema(words: &Words) -> String {
    schema::text(words)
}

struct Cedar {
    slices: Slices,
    entities: Entities,
    authorizer: Authorizer,
    remembered: Cache<Key, Arc<Said>>,
}

impl std::fmt::Debug for Cedar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cedar").field("remembered", &self.remembered.len()).finish_non_exhaustive()
    }
}

/// What rules say depends on, where they ask nothing but atoms.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    workload: Option<WorkloadName>,
    /// What is known of a user is in his token.
    user: Option<(PeopleName, [u8; 32])>,
    at: At,
    is_shadow: bool,
    bits: u128,
}

/// Route and action.
type At = (usize, usize);

impl Cedar {
    fn slice(&self, route: usize, question: &Question<'_>) -> (At, Option<&Slice>) {
        let action = slice::action(&question.facts.method);
        ((route, action), self.slices.at(route, action))
    }

    fn anew(&self, part: &Part, at: At, question: &Question<'_>) -> Said {
        if let Some((place, _)) = part.reads.iter().find(|(_, reading)| reading.see(question) == Err(Mistyped)) {
            return Said { answer: Answer::Mistyped, by: vec![RuleId::new(place)] };
        }
        match self.entities.for_question(at, question) {
            Ok((request, entities)) => told(&self.authorizer.is_authorized(&request, &part.set, &entities)),
            Err(_unsayable) => Said { answer: Answer::Failed, by: vec![RuleId::new("access.policies")] },
        }
    }

    fn remembered(&self, part: &Part, (at, is_shadow): (At, bool), question: &Question<'_>) -> Arc<Said> {
        let Some(bits) = part.asked.bits(question) else { return Arc::new(self.anew(part, at, question)) };
        let user = question.principal.user().map(|user| (user.people.clone(), user.token));
        let workload = question.principal.workload().map(|workload| workload.name.clone());
        let key = Key { workload, user, at, is_shadow, bits };
        if let Some(said) = self.remembered.get(&key) {
            return said;
        }
        let said = Arc::new(self.anew(part, at, question));
        self.remembered.insert(key, Arc::clone(&said));
        said
    }
}

impl Judge for Cedar {
    fn judge(&self, route: usize, question: &Question<'_>) -> Option<Ruling> {
        let (at, slice) = self.slice(route, question);
        let slice = slice?;
        let said = self.remembered(&slice.counting, (at, false), question);
        let shadow = slice.shadow.as_ref().map(|part| self.remembered(part, (at, true), question));
        Some(Ruling { said, shadow })
    }

    fn judge_anew(&self, route: usize, question: &Question<'_>) -> Option<Ruling> {
        let (at, slice) = self.slice(route, question);
        let slice = slice?;
        let said = Arc::new(self.anew(&slice.counting, at, question));
        let shadow = slice.shadow.as_ref().map(|part| Arc::new(self.anew(part, at, question)));
        Some(Ruling { said, shadow })
    }

    fn near_misses(&self, route: usize, question: &Question<'_>) -> Vec<String> {
        let (at, Some(slice)) = self.slice(route, question) else { return Vec::new() };
        let Ok((request, entities)) = self.entities.for_question(at, question) else { return Vec::new() };
        let holds =
            |set: &PolicySet| self.authorizer.is_authorized(&request, set, &entities).decision() == Decision::Allow;
        slice.permits.iter().filter_map(|near| near.missing(holds)).take(near::TOLD_MAX).collect()
    }

    fn read(&self, route: usize, question: &Question<'_>) -> HasRead {
        let Some(slice) = self.slice(route, question).1 else { return HasRead::default() };
        let of_shadow = slice.shadow.as_ref().map(|part| part.reads.as_slice()).unwrap_or_default();
        let is_new = |(place, _): &&(Arc<str>, Reading)| !slice.counting.reads.iter().any(|(known, _)| known == place);
        let reads = slice.counting.reads.iter().chain(of_shadow.iter().filter(is_new));
        let told = reads.filter(|(_, reading)| reading.is_told()).filter_map(|(place, reading)| {
            let seen = reading.see(question).ok()??;
            Some((Arc::clone(place), seen.to_json()))
        });
        HasRead(told.collect())
    }

    fn taken_by(&self, route: usize) -> BTreeSet<&'static str> {
        self.slices.taken_by(route)
    }

    fn at(&self, route: usize) -> BTreeMap<RuleId, BTreeSet<&'static str>> {
        let mut rules: BTreeMap<RuleId, BTreeSet<&'static str>> = BTreeMap::new();
        for (index, action) in ACTIONS.iter().enumerate() {
            let Some(slice) = self.slices.at(route, index) else { continue };
            let parts = std::iter::once(&slice.counting).chain(&slice.shadow);
            for policy in parts.flat_map(|part| part.set.policies()) {
                rules.entry(rule_id(policy.id())).or_default().insert(action);
            }
        }
        rules
    }
}

fn rule_id(id: &PolicyId) -> RuleId {
    RuleId::new(id.as_ref())
}

fn failing(error: &AuthorizationError) -> &PolicyId {
    match error {
        AuthorizationError::PolicyEvaluationError(error) => error.policy_id(),
    }
}

/// What rules say, and which.
fn told(response: &Response) -> Said {
    let mut failed: Vec<_> = response.diagnostics().errors().map(|error| rule_id(failing(error))).collect();
    let mut by: Vec<_> = response.diagnostics().reason().map(rule_id).collect();
    failed.sort();
    by.sort();
    match (failed.is_empty(), response.decision(), by.is_empty()) {
        (false, ..) => Said { answer: Answer::Failed, by: failed },
        (true, Decision::Allow, _) => Said { answer: Answer::Permitted, by },
        (true, Decision::Deny, false) => Said { answer: Answer::Forbidden, by },
        (true, Decision::Deny, true) => Said { answer: Answer::Silent, by },
    }
}

#[cfg(test)]
mod tests;
