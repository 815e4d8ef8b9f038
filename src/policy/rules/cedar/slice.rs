//! Slices: of all rules those that can match a route and an action, found out once.

use super::super::words::Words;
use super::super::{Effect, Ruling};
use super::atom::Asked;
use super::near::Near;
use super::schema::{READ, WRITE};
use super::source::Read;
use cedar_policy::PolicySet;
use http::Method;
use serde_json::Value;
use std::{
    collections::{HashMap, HashSet},
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
    pub(super) counting: PolicySet,
    /// Those that are tried out.
    pub(super) shadow: PolicySet,
    /// What all of them ask.
    pub(super) asked: Asked,
    /// Those that count and let in.
    pub(super) permits: Vec<Near>,
}

/// All slices.
#[derive(Debug)]
pub(super) struct Slices {
    /// For each route, for each action, its slice.
    places: Box<[[Option<usize>; ACTIONS.len()]]>,
    slices: Box<[Slice]>,
    /// The rules that are in one of them.
    used: HashSet<usize>,
    silent: Arc<Ruling>,
}

impl Slices {
    pub(super) fn of(rules: &[Read], words: &Words) -> Self {
        let asked: Vec<_> = rules.iter().map(|read| Asked::by(&read.form, words)).collect();
        let scopes: Vec<_> = rules.iter().map(|read| Scope::of(&read.form)).collect();
        let mut known: HashMap<Vec<usize>, usize> = HashMap::new();
        let mut slices = Vec::new();
        let mut place = |route: &super::super::RouteWords, action: &str| {
            let takes =
                |methods: &Vec<Method>| methods.iter().any(|method| ACTIONS.get(self::action(method)) == Some(&action));
            if !route.methods.as_ref().is_none_or(takes) {
                return None;
            }
            let scopes = scopes.iter().enumerate();
            let matching: Vec<_> =
                scopes.filter(|(_, scope)| scope.takes(route, action)).map(|(index, _)| index).collect();
            if matching.is_empty() {
                return None;
            }
            Some(*known.entry(matching).or_insert_with_key(|matching| {
                slices.push(slice(matching, rules, &asked));
                slices.len().saturating_sub(1)
            }))
        };
        let places = words.routes.iter().map(|route| ACTIONS.map(|action| place(route, action))).collect();
        let used = known.into_keys().flatten().collect();
        Self { places, slices: slices.into(), used, silent: Arc::new(Ruling::SILENT) }
    }

    pub(super) fn at(&self, route: usize, action: usize) -> Option<&Slice> {
        self.slices.get((*self.places.get(route)?.get(action)?)?)
    }

    /// Whether a rule is in one of them.
    pub(super) fn have(&self, rule: usize) -> bool {
        self.used.contains(&rule)
    }

    pub(super) fn silent(&self) -> Arc<Ruling> {
        Arc::clone(&self.silent)
    }
}

fn slice(matching: &[usize], rules: &[Read], asked: &[Asked]) -> Slice {
    let members = || matching.iter().filter_map(|index| rules.get(*index));
    let set = |is_shadow: bool| {
        let meant = members().filter(|read| read.rule.is_shadow == is_shadow);
        // Their names are different: that was checked.
        PolicySet::from_policies(meant.map(|read| read.policy.clone())).unwrap_or_default()
    };
    let mut all = Asked::default();
    matching.iter().filter_map(|index| asked.get(*index)).for_each(|asked| all.join(asked));
    all.goes_beyond |= all.atoms.len() > ATOMS_MAX;
    let permits = members().filter(|read| read.rule.effect == Effect::Permit && !read.rule.is_shadow);
    Slice { counting: set(false), shadow: set(true), asked: all, permits: permits.map(Near::of).collect() }
}

/// What a rule is about, from its JSON form.
struct Scope<'a> {
    actions: Option<Vec<&'a str>>,
    resource: Option<(&'a str, &'a str)>,
}

impl<'a> Scope<'a> {
    fn of(form: &'a Value) -> Self {
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

    fn takes(&self, route: &super::super::RouteWords, action: &str) -> bool {
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
