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

use super::words::Words;
use super::{Answer, Fault, Judge, Question, RuleSet, Ruling, Source};
use crate::name::{PeopleName, WorkloadName};
use crate::verdict::RuleId;
use cedar_policy::{AuthorizationError, Authorizer, Decision, PolicyId, PolicySet, Response};
use entity::Entities;
use quick_cache::sync::Cache;
use serde_json::{Map, Value};
use slice::{ACTIONS, Slice, Slices};
use std::sync::Arc;
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
    let entities = Entities::new(words).map_err(|error| vec![fault_of_ours(sources, &*error)])?;
    let judge = Cedar { slices, entities, authorizer: Authorizer::new(), remembered: Cache::new(REMEMBERED_MAX) };
    Ok((RuleSet::new(rules.into_iter().map(|read| read.rule).collect(), words, Arc::new(judge)), faults))
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
    remembered: Cache<Key, Arc<Ruling>>,
}

impl std::fmt::Debug for Cedar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cedar").field("remembered", &self.remembered.len()).finish_non_exhaustive()
    }
}

/// What a ruling depends on, where the rules ask nothing but atoms.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    workload: Option<WorkloadName>,
    /// What is known of a user is in his token.
    user: Option<(PeopleName, [u8; 32])>,
    route: usize,
    action: usize,
    bits: u128,
}

impl Cedar {
    fn slice(&self, route: usize, question: &Question<'_>) -> (usize, Option<&Slice>) {
        let action = slice::action(&question.facts.method);
        (action, self.slices.at(route, action))
    }

    fn ruling(&self, slice: &Slice, (route, action): (usize, usize), question: &Question<'_>) -> Ruling {
        if let Some(reading) = slice.asked.reads.iter().find(|reading| reading.see(question) == Err(Mistyped)) {
            return mistyped(&reading.place());
        }
        let known = self.entities.for_question((route, action), question);
        let Ok((request, entities)) = known else { return failed(slice.counting.policies().next()) };
        let said = |set: &PolicySet| told(&self.authorizer.is_authorized(&request, set, &entities));
        let (answer, by) = said(&slice.counting);
        let shadow = if slice.shadow.is_empty() { (Answer::Silent, Vec::new()) } else { said(&slice.shadow) };
        let shadow = shadow.1.into_iter().next().map(|rule| (shadow.0, rule));
        Ruling { answer, by, shadow }
    }
}

impl Judge for Cedar {
    fn judge(&self, route: usize, question: &Question<'_>) -> Arc<Ruling> {
        let (action, Some(slice)) = self.slice(route, question) else { return self.slices.silent() };
        if slice.asked.goes_beyond {
            return Arc::new(self.ruling(slice, (route, action), question));
        }
        let mut bits = 0_u128;
        for (index, atom) in slice.asked.atoms.iter().enumerate() {
            match atom.holds(question) {
                Ok(holds) => bits |= u128::from(holds) << index,
                Err(Mistyped) => return Arc::new(self.ruling(slice, (route, action), question)),
            }
        }
        let user = question.principal.user().map(|user| (user.people.clone(), user.token));
        let workload = question.principal.workload().map(|workload| workload.name.clone());
        let key = Key { workload, user, route, action, bits };
        if let Some(ruling) = self.remembered.get(&key) {
            return ruling;
        }
        let ruling = Arc::new(self.ruling(slice, (route, action), question));
        self.remembered.insert(key, Arc::clone(&ruling));
        ruling
    }

    fn judge_anew(&self, route: usize, question: &Question<'_>) -> Ruling {
        let (action, Some(slice)) = self.slice(route, question) else { return Ruling::SILENT };
        self.ruling(slice, (route, action), question)
    }

    fn near_misses(&self, route: usize, question: &Question<'_>) -> Vec<String> {
        let (action, Some(slice)) = self.slice(route, question) else { return Vec::new() };
        let Ok((request, entities)) = self.entities.for_question((route, action), question) else { return Vec::new() };
        let holds =
            |set: &PolicySet| self.authorizer.is_authorized(&request, set, &entities).decision() == Decision::Allow;
        slice.permits.iter().filter_map(|near| near.missing(holds)).take(near::TOLD_MAX).collect()
    }

    fn read(&self, route: usize, question: &Question<'_>) -> Map<String, Value> {
        let reads = self.slice(route, question).1.map(|slice| slice.asked.reads.as_slice()).unwrap_or_default();
        let is_told = |reading: &&reading::Reading| reading.is_told();
        let told = reads.iter().filter(is_told).filter_map(|reading| {
            let seen = reading.see(question).ok()??;
            Some((reading.place(), seen.to_json()))
        });
        told.collect()
    }

    fn at(&self, route: usize) -> Vec<RuleId> {
        let mut rules: Vec<_> = (0..ACTIONS.len())
            .filter_map(|action| self.slices.at(route, action))
            .flat_map(|slice| slice.counting.policies().chain(slice.shadow.policies()))
            .map(|policy| rule_id(policy.id()))
            .collect();
        rules.sort_by(|one, other| one.as_str().cmp(other.as_str()));
        rules.dedup();
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

fn mistyped(place: &str) -> Ruling {
    Ruling { answer: Answer::Mistyped, by: vec![RuleId::new(place)], shadow: None }
}

fn failed(first: Option<&cedar_policy::Policy>) -> Ruling {
    Ruling { answer: Answer::Failed, by: first.map(|policy| rule_id(policy.id())).into_iter().collect(), shadow: None }
}

/// What rules say, and which.
fn told(response: &Response) -> (Answer, Vec<RuleId>) {
    let mut failed: Vec<_> = response.diagnostics().errors().map(|error| rule_id(failing(error))).collect();
    let mut by: Vec<_> = response.diagnostics().reason().map(rule_id).collect();
    let order = |rules: &mut Vec<RuleId>| rules.sort_by(|one, other| one.as_str().cmp(other.as_str()));
    order(&mut failed);
    order(&mut by);
    match (failed.is_empty(), response.decision(), by.is_empty()) {
        (false, ..) => (Answer::Failed, failed),
        (true, Decision::Allow, _) => (Answer::Permitted, by),
        (true, Decision::Deny, false) => (Answer::Forbidden, by),
        (true, Decision::Deny, true) => (Answer::Silent, by),
    }
}

#[cfg(test)]
mod tests;
