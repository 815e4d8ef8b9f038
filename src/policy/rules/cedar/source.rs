//! From texts to rules, with all that is wrong with them.

use super::super::words::Words;
use super::super::{Effect, Fault, Rule, Source};
use super::atom::Asked;
use super::reading::Reading;
use super::schema;
use crate::name::{GroupName, RoleName, WorkloadName, closest};
use crate::verdict::RuleId;
use cedar_policy::{
    Policy, PolicyId, PolicySet, Schema, ValidationError, ValidationMode, ValidationWarning, Validator,
};
use miette::Diagnostic;
use serde_json::Value;
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    str::FromStr,
};

/// What an annotation may be.
const ANNOTATIONS: [&str; 4] = ["id", "because", "locked", "shadow"];
/// The longest `@id`, in bytes.
const ID_MAX: usize = 128;

/// A rule as Cedar knows it.
#[derive(Debug, Clone)]
pub(super) struct Read {
    pub(super) rule: Rule,
    pub(super) policy: Policy,
    /// Its JSON form.
    pub(super) form: Value,
    /// What it asks.
    pub(super) asked: Asked,
    /// Which text, and where in it.
    place: Place,
}

/// A text's number, and bytes of it from there on.
type Place = (usize, (usize, usize));

struct Reader<'a> {
    words: &'a Words,
    sources: &'a [Source<'a>],
    faults: Vec<Fault>,
}

/// Reads all rules, by their names.
pub(super) fn read(words: &Words, sources: &[Source<'_>]) -> (Vec<Read>, Vec<Fault>) {
    let mut reader = Reader { words, sources, faults: Vec::new() };
    let mut rules: BTreeMap<Box<str>, Read> = BTreeMap::new();
    for (index, source) in sources.iter().enumerate() {
        for read in reader.parse(index, source) {
            let name = read.rule.id.as_str();
            if let Some(first) = rules.get(name) {
                let file = first.rule.file.display();
                let message = format!("the rule `{}` stands in {file} too", name.trim_start_matches(PREFIX));
                reader.fault(read.place, message, Some("give each rule an `@id` of its own".into()));
                continue;
            }
            reader.literals(&read);
            rules.insert(name.into(), read);
        }
    }
    let rules: Vec<_> = rules.into_values().collect();
    reader.validate(&rules);
    (rules, reader.faults)
}

/// Before every name of a rule.
const PREFIX: &str = "policies.";

impl Reader<'_> {
    fn fault(&mut self, (index, place): Place, message: String, hint: Option<String>) {
        let file = self.sources.get(index).map(|source| source.file.to_owned()).unwrap_or_default();
        self.faults.push(Fault { file, place, message, hint, is_warning: false });
    }

    /// What Cedar itself says.
    fn told(&mut self, at: Place, error: &dyn Diagnostic, is_warning: bool) {
        let span = error.labels().and_then(|mut labels| labels.next());
        let place = span.map_or(at.1, |span| (span.offset(), span.len()));
        let text = error.to_string();
        // Which rule it is the place says, and that it holds for every action goes without saying.
        let text = text.split_once("`, ").filter(|_| text.starts_with("for policy")).map_or(&*text, |(_, rest)| rest);
        let message = text.split_once(" in context for Action").map_or(text, |(message, _)| message).to_owned();
        let file = self.sources.get(at.0).map(|source| source.file.to_owned()).unwrap_or_default();
        let is_told = |fault: &Fault| (fault.place, &*fault.message) == (place, &*message) && fault.file == file;
        if self.faults.iter().any(is_told) {
            return;
        }
        self.fault((at.0, place), message, error.help().map(|help| help.to_string()));
        if let Some(fault) = self.faults.last_mut() {
            fault.is_warning = is_warning;
        }
    }

    fn parse(&mut self, index: usize, source: &Source<'_>) -> Vec<Read> {
        let set = match PolicySet::from_str(source.text) {
            Ok(set) => set,
            Err(errors) => {
                errors.iter().for_each(|error| self.told((index, (0, 0)), error, false));
                return Vec::new();
            }
        };
        for template in set.templates() {
            let text = template.to_cedar();
            let place = (source.text.find(&text).unwrap_or_default(), 1);
            let hint = "write out the role, workload, route or group that is meant".to_owned();
            self.fault((index, place), "a rule with a slot is for nobody".into(), Some(hint));
        }
        // They are numbered as they stand in the text.
        let number = |policy: &Policy| policy.id().to_string().trim_start_matches("policy").parse().unwrap_or(0_usize);
        let mut policies: Vec<&Policy> = set.policies().collect();
        policies.sort_by_key(|policy| number(policy));
        let mut from = 0;
        let mut read = Vec::new();
        for policy in policies {
            let text = policy.to_cedar().unwrap_or_default();
            let start = source.text.get(from..).and_then(|rest| rest.find(&text)).map_or(from, |at| from + at);
            from = start.saturating_add(text.len());
            read.extend(self.rule(policy, (index, (start, first_line(&text))), source));
        }
        read
    }

    fn rule(&mut self, policy: &Policy, place: Place, source: &Source<'_>) -> Option<Read> {
        for (name, _) in policy.annotations().filter(|(name, _)| !ANNOTATIONS.contains(name)) {
            let message = format!("there is no annotation `@{name}`");
            let meant = closest(name, ANNOTATIONS).map(|meant| format!("did you mean `@{meant}`?"));
            let known = || "there are `@id(\"…\")`, `@because(\"…\")`, `@locked` and `@shadow`".to_owned();
            self.fault(place, message, Some(meant.unwrap_or_else(known)));
        }
        let marks =
            policy.annotations().filter(|(name, value)| ["locked", "shadow"].contains(name) && !value.is_empty());
        for (name, value) in marks {
            let hint = format!("write `@{name}` alone, or leave it out");
            self.fault(place, format!("`@{name}` says nothing more, and this says `{value}`"), Some(hint));
        }
        let inside = |b: u8| b.is_ascii_alphanumeric() || b"_-.".contains(&b);
        let id = policy.annotation("id");
        let Some(id) = id.filter(|id| (1..=ID_MAX).contains(&id.len()) && id.bytes().all(inside)) else {
            let hint = format!("write `@id(\"…\")` before it: 1 to {ID_MAX} of `A-Z a-z 0-9 . _ -`");
            self.fault(place, "a rule has a name, which stands in every record".into(), Some(hint));
            return None;
        };
        let effect = match policy.effect() {
            cedar_policy::Effect::Permit => Effect::Permit,
            cedar_policy::Effect::Forbid => Effect::Forbid,
        };
        let is_locked = policy.annotation("locked").is_some();
        let is_shadow = policy.annotation("shadow").is_some();
        if is_locked && (is_shadow || effect == Effect::Permit) {
            let message = "only a `forbid` that counts can be `@locked`".to_owned();
            self.fault(place, message, Some("a guardrail keeps out; it lets nobody in".into()));
        }
        let id = RuleId::new(&format!("{PREFIX}{id}"));
        let policy = policy.new_id(PolicyId::new(id.as_str()));
        let form = policy.to_json().ok()?;
        let because = policy.annotation("because").map(Into::into);
        let decides = |part: &str| form.get(part).map(ToString::to_string).unwrap_or_default();
        let text = ["effect", "principal", "action", "resource", "conditions"].map(decides).join(" ").into();
        let file = source.file.to_owned();
        let asked = Asked::by(&form, self.words);
        let facts = asked.reads.iter().filter(|reading| matches!(reading, Reading::Fact(_)));
        let facts = facts.map(|reading| reading.place().into()).collect();
        let rule = Rule { id, effect, is_locked, is_shadow, facts, because, text, file };
        Some(Read { rule, policy, form, asked, place })
    }

    /// Names that a rule says must be the config's: Cedar takes any.
    fn literals(&mut self, read: &Read) {
        for literal in read.policy.entity_literals() {
            let (kind, name) = (literal.type_name().to_string(), literal.id().unescaped().to_owned());
            if kind == "Caller" {
                let hint =
                    "say `principal in Workload::\"…\"` or `principal in Role::\"…\"`, or compare `principal.user`";
                let message = "a rule names no caller by himself".to_owned();
                self.fault(self.place_of(read, &name), message, Some(hint.into()));
            }
            // The schema knows which others there are.
            let Some((what, known)) = named(self.words, &kind) else { continue };
            if !known.contains(&name.as_str()) {
                let hint = closest(&name, known).map(|meant| format!("did you mean `{meant}`?"));
                self.fault(self.place_of(read, &name), format!("there is no {what} `{name}`"), hint);
            }
        }
    }

    /// Where a name stands in a rule.
    fn place_of(&self, read: &Read, name: &str) -> Place {
        let (index, (start, length)) = read.place;
        let quoted = format!("{name:?}");
        let rest = self.sources.get(index).and_then(|source| source.text.get(start..));
        match rest.and_then(|rest| rest.find(&quoted)) {
            Some(at) => (index, (start.saturating_add(at), quoted.len())),
            None => (index, (start, length)),
        }
    }

    fn validate(&mut self, rules: &[Read]) {
        let schema = match Schema::from_cedarschema_str(&schema::text(self.words)) {
            Ok((schema, _)) => schema,
            Err(error) => return self.told((0, (0, 0)), &error, false),
        };
        let places: HashMap<&str, Place> = rules.iter().map(|read| (read.rule.id.as_str(), read.place)).collect();
        let place = |id: &PolicyId| places.get(AsRef::<str>::as_ref(id)).copied().unwrap_or_default();
        let Ok(set) = PolicySet::from_policies(rules.iter().map(|read| read.policy.clone())) else { return };
        let result = Validator::new(schema).validate(&set, ValidationMode::Strict);
        for error in result.validation_errors() {
            self.told(place(error.policy_id()), error, false);
        }
        let faulty: HashSet<_> = result.validation_errors().map(ValidationError::policy_id).collect();
        for warning in result.validation_warnings().filter(|warning| !faulty.contains(warning.policy_id())) {
            let at = place(warning.policy_id());
            use ValidationWarning::{ImpossiblePolicy, InvalidActionApplication};
            if matches!(warning, ImpossiblePolicy(_) | InvalidActionApplication(_)) {
                let message = "the rule can never match: what it demands is false for every request";
                self.fault(at, message.to_owned(), None);
                self.faults.iter_mut().last().into_iter().for_each(|fault| fault.is_warning = true);
            } else {
                self.told(at, warning, true);
            }
        }
    }
}

/// What an entity of that type is called, and which there are.
fn named<'a>(words: &'a Words, kind: &str) -> Option<(&'static str, Vec<&'a str>)> {
    let groups = || words.routes.iter().flat_map(|route| &route.groups);
    Some(match kind {
        "Role" => ("role", words.roles.iter().map(RoleName::as_str).collect()),
        "Workload" => ("workload", words.workloads.iter().map(WorkloadName::as_str).collect()),
        "Route" => ("route", words.routes.iter().map(|route| route.name.as_str()).collect()),
        "RouteGroup" => ("group of routes", groups().map(GroupName::as_str).collect()),
        _ => return None,
    })
}

fn first_line(text: &str) -> usize {
    text.lines().next().map_or(1, str::len)
}

impl Read {
    /// A warning about the rule as a whole.
    pub(super) fn warning(&self, message: &str, hint: &str) -> Fault {
        let (file, place) = (self.rule.file.clone(), self.place.1);
        Fault { file, place, message: message.into(), hint: Some(hint.into()), is_warning: true }
    }
}
