//! Slices: of all rules those that can match a route and an action, found out once.

use super::super::Effect;
use super::super::words::{RouteWords, Words};
use super::atom::Asked;
use super::near::Near;
use super::reading::Reading;
use super::schema::{READ, WRITE};
use super::source::Read;
use cedar_policy::PolicySet;
use http::Method;
use serde_json::Value;
use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
};

/// More atoms than these have no bit.
const ATOMS_MAX: usize = 128;

/// What can be done: see `schema`.
pub(super) const ACTIONS: [&str; READ.len() + WRITE.len()] =
    [READ[0], READ[1], READ[2], WRITE[0], WRITE[1], WRITE[2], WRITE[3], WRITE[4]];

/// The number of what a method does.
pub(super) fn action(method: &Method) -> usize {
    let named = ACTIONS.iter().position(|action| *action == method.as_str());
    named.unwrap_or(ACTIONS.len().saturating_sub(1))
}

impl RouteWords {
    /// Whether it takes requests that do that.
    pub(super) fn takes(&self, action: &str) -> bool {
        let does = |method: &Method| ACTIONS.get(self::action(method)) == Some(&action);
        self.methods.as_ref().is_none_or(|methods| methods.iter().any(does))
    }
}

/// Whether an action is in a group of them.
pub(super) fn is_in(action: &str, group: &str) -> bool {
    match group {
        "read" => READ.contains(&action),
        "write" => WRITE.contains(&action),
        same => same == action,
    }
}

/// The rules that can match a route and an action.
#[derive(Debug)]
pub(super) struct Slice {
    /// Those that count.
    pub(super) counting: Part,
    /// Those that are tried out, if there are some.
    pub(super) shadow: Option<Part>,
    /// Those that count and let in.
    pub(super) permits: Vec<Arc<Near>>,
}

/// Rules that are judged together.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) set: PolicySet,
    /// What they ask.
    pub(super) asked: Asked,
    /// All that they read, by the places by which they name it.
    pub(super) reads: Vec<(Arc<str>, Reading)>,
}

/// All slices.
#[derive(Debug)]
pub(super) struct Slices {
    /// For each route, for each action, its slice.
    places: Box<[[Option<usize>; ACTIONS.len()]]>,
    slices: Box<[Slice]>,
    /// What each route takes.
    taken: Box<[BTreeSet<&'static str>]>,
    /// The rules that are in one of them.
    used: HashSet<usize>,
}

impl Slices {
    pub(super) fn of(rules: &[Read], words: &Words) -> Self {
        let scopes: Vec<_> = rules.iter().map(|read| Scope::of(&read.form)).collect();
        let nears: Vec<_> = rules.iter().map(|read| Arc::new(Near::of(read))).collect();
        let mut known: HashMap<Vec<usize>, usize> = HashMap::new();
        let mut slices = Vec::new();
        let mut place = |route: &RouteWords, action: &'static str| {
            if !route.takes(action) {
                return None;
            }
            let scopes = scopes.iter().enumerate();
            let matching: Vec<_> =
                scopes.filter(|(_, scope)| scope.takes(route, action)).map(|(index, _)| index).collect();
            if matching.is_empty() {
                return None;
            }
            Some(*known.entry(matching).or_insert_with_key(|matching| {
                slices.push(slice(matching, rules, &nears));
                slices.len().saturating_sub(1)
            }))
        };
        let places = words.routes.iter().map(|route| ACTIONS.map(|action| place(route, action))).collect();
        let used = known.into_keys().flatten().collect();
        let taken = |route: &RouteWords| ACTIONS.into_iter().filter(|action| route.takes(action)).collect();
        let taken = words.routes.iter().map(taken).collect();
        Self { places, slices: slices.into(), taken, used }
    }

    pub(super) fn at(&self, route: usize, action: usize) -> Option<&Slice> {
        self.slices.get((*self.places.get(route)?.get(action)?)?)
    }

    pub(super) fn taken_by(&self, route: usize) -> BTreeSet<&'static str> {
        self.taken.get(route).cloned().unwrap_or_default()
    }

    /// Whether a rule is in one of them.
    pub(super) fn have(&self, rule: usize) -> bool {
        self.used.contains(&rule)
    }
}

fn slice(matching: &[usize], rules: &[Read], nears: &[Arc<Near>]) -> Slice {
    let members = || matching.iter().filter_map(|index| Some((rules.get(*index)?, nears.get(*index)?)));
    let of = |is_shadow: bool| members().map(|(read, _)| read).filter(move |read| read.rule.is_shadow == is_shadow);
    let permits = members().filter(|(read, _)| read.rule.effect == Effect::Permit && !read.rule.is_shadow);
    Slice {
        counting: Part::of(of(false)),
        shadow: of(true).next().map(|_| Part::of(of(true))),
        permits: permits.map(|(_, near)| Arc::clone(near)).collect(),
    }
}

impl Part {
    fn of<'a>(rules: impl Iterator<Item = &'a Read>) -> Self {
        let (mut set, mut asked) = (PolicySet::new(), Asked::default());
        for read in rules {
            // Their names are different: that was checked.
            set.add(read.policy.clone()).ok();
            asked.join(&read.asked);
        }
        asked.goes_beyond |= asked.atoms.len() > ATOMS_MAX;
        let reads = asked.reads.iter().map(|reading| (reading.place().into(), reading.clone())).collect();
        Self { set, asked, reads }
    }
}

/// What a rule is about, from its JSON form.
pub(super) struct Scope<'a> {
    actions: Option<Vec<&'a str>>,
    resource: Option<(&'a str, &'a str)>,
}

impl<'a> Scope<'a> {
    pub(super) fn of(form: &'a Value) -> Self {
        let entity = |value: &'a Value| Some((value.get("type")?.as_str()?, value.get("id")?.as_str()?));
        let of = |part: &str| form.get(part);
        let actions = of("action").and_then(|action| {
            let one = action.get("entity").and_then(entity).map(|(_, id)| vec![id]);
            let many = || action.get("entities")?.as_array()?.iter().map(|it| entity(it).map(|(_, id)| id)).collect();
            one.or_else(many)
        });
        let resource = of("resource").and_then(|resource| {
            // `is Route in …` says it one level deeper.
            resource.get("entity").or_else(|| resource.get("in")?.get("entity")).and_then(entity)
        });
        Self { actions, resource }
    }

    pub(super) fn takes(&self, route: &RouteWords, action: &str) -> bool {
        let acts = self.actions.as_ref().is_none_or(|groups| groups.iter().any(|group| is_in(action, group)));
        let is_meant = match self.resource {
            None => true,
            Some(("Route", name)) => route.name.as_str() == name,
            Some(("RouteGroup", name)) => route.groups.iter().any(|group| group.as_str() == name),
            Some(_) => false,
        };
        acts && is_meant
    }
}
