//! What a rule that lets in wants of somebody whom it does not let in.

use super::source::Read;
use crate::verdict::RuleId;
use cedar_policy::{Policy, PolicySet};
use once_cell::sync::OnceCell;
use serde_json::{Value, json};

/// So many rules are told.
pub(super) const TOLD_MAX: usize = 5;

/// A rule that lets in, to be taken apart when somebody wants to know.
#[derive(Debug)]
pub(super) struct Near {
    id: RuleId,
    form: Value,
    clauses: OnceCell<Box<[Clause]>>,
}

/// A part of a rule, alone.
#[derive(Debug)]
struct Clause {
    says: String,
    set: PolicySet,
}

impl Near {
    pub(super) fn of(read: &Read) -> Self {
        Self { id: read.rule.id.clone(), form: read.form.clone(), clauses: OnceCell::new() }
    }

    /// The first clause that does not hold; none if all do.
    pub(super) fn missing(&self, holds: impl Fn(&PolicySet) -> bool) -> Option<String> {
        let clauses = self.clauses.get_or_init(|| clauses(&self.form));
        let missing = clauses.iter().find(|clause| !holds(&clause.set))?;
        Some(format!("{} wants {}", self.id, missing.says))
    }
}

/// Whom it is for, and each condition, where one may be several with `&&` between them.
fn clauses(form: &Value) -> Box<[Clause]> {
    let anything = json!({ "op": "All" });
    let whom = form.get("principal").filter(|whom| **whom != anything);
    let whom = whom.and_then(|whom| Clause::of(whom, &json!([])));
    let conditions = form.get("conditions").and_then(Value::as_array).into_iter().flatten();
    let parts = conditions.flat_map(|condition| match condition.get("kind").and_then(Value::as_str) {
        Some("when") => {
            let mut parts = Vec::new();
            split(condition.get("body").unwrap_or(&Value::Null), &mut parts);
            parts.into_iter().map(|body| json!({ "kind": "when", "body": body })).collect()
        }
        _ => vec![condition.clone()],
    });
    let parts: Vec<_> = parts.collect();
    // A later part may rest on an earlier one, which makes sure that something is there.
    let whens = (1..=parts.len()).filter_map(|count| parts.get(..count));
    let conditions = whens.filter_map(|first| Clause::of(&anything, &json!(first)));
    whom.into_iter().chain(conditions).collect()
}

fn split<'a>(expression: &'a Value, parts: &mut Vec<&'a Value>) {
    match expression.get("&&") {
        Some(both) => ["left", "right"].iter().filter_map(|side| both.get(side)).for_each(|side| split(side, parts)),
        None => parts.push(expression),
    }
}

/// A part of a rule, as it is written.
fn between(policy: &Policy, start: char, end: &str) -> Option<String> {
    let text = policy.to_cedar()?.split_whitespace().collect::<Vec<_>>().join(" ");
    let (part, _) = text.split_once(start)?.1.rsplit_once(end)?;
    Some(part.trim().to_owned())
}

impl Clause {
    fn of(whom: &Value, conditions: &Value) -> Option<Self> {
        let all = json!({ "op": "All" });
        let form = |whom: &Value, conditions: &Value| json!({ "effect": "permit", "principal": whom, "action": all, "resource": all, "conditions": conditions });
        let policy = |form: Value| Policy::from_json(None, form).ok();
        let set = PolicySet::from_policies([policy(form(whom, conditions))?]).ok()?;
        let says = match conditions.as_array().and_then(|all| all.last()) {
            None => between(&policy(form(whom, conditions))?, '(', ", action")?,
            Some(last) => between(&policy(form(&all, &json!([last])))?, '{', "}")?,
        };
        Some(Self { says, set })
    }
}
