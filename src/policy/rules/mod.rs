//! Rules beside the lists: the files of `access.policies`, in Cedar (<https://docs.cedarpolicy.com>).
//!
//! They are one more voice: a `forbid` wins over every list, a `permit` lets in whom no list names. Cedar itself stands
//! behind `Judge`; in a build without the feature `cedar` nobody stands there, and rules are an error of the config.

#[cfg(feature = "cedar")]
mod cedar;
mod words;

pub use words::{Declared, RouteWords, Type, Words};

use crate::clock::Timestamp;
use crate::identity::Asserted;
use crate::name::RouteName;
use crate::principal::Principal;
use crate::request::Facts;
use crate::verdict::{HasRead, RuleId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    fmt,
    net::IpAddr,
    path::PathBuf,
    sync::Arc,
};

/// Who asks for what, and what is known about it.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// Who.
    pub principal: &'a Principal,
    /// What.
    pub facts: &'a Facts,
    /// The client's address.
    pub client: Option<IpAddr>,
    /// The TLS version, for example `1.3`.
    pub tls: Option<&'static str>,
    /// What the edge asserts.
    pub asserted: Option<&'a Asserted>,
    /// When.
    pub now: Timestamp,
}

/// What rules say to a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// Nothing.
    Silent,
    /// He may.
    Permitted,
    /// He may not, whoever else lets him.
    Forbidden,
    /// It cannot be said: a rule could not be judged.
    Failed,
    /// Nor can it: a claim or fact that rules read is not of the type that the config declares.
    Mistyped,
}

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Answered {
    /// It is let in.
    Allow,
    /// It is refused.
    Deny,
}

impl Answered {
    /// What is done to it.
    #[must_use]
    pub const fn done(self) -> &'static str {
        match self {
            Self::Allow => "allowed",
            Self::Deny => "denied",
        }
    }
}

/// What rules say to a question, and which of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// What.
    pub answer: Answer,
    /// The rules that say so, in the order of their names. Where it cannot be said, what stands against it.
    pub by: Vec<RuleId>,
}

/// What all rules of a route say to a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ruling {
    /// Those that count.
    pub said: Arc<Said>,
    /// Those that are only tried out, if there are some.
    pub shadow: Option<Arc<Said>>,
}

/// Who judges by rules.
trait Judge: fmt::Debug + Send + Sync {
    /// What the rules of a route say, perhaps as remembered; nothing, where none can match.
    fn judge(&self, route: usize, question: &Question<'_>) -> Option<Ruling>;
    /// The same, without memory.
    fn judge_anew(&self, route: usize, question: &Question<'_>) -> Option<Ruling>;
    /// The rules of a route that would permit it, each with what it wants and does not get.
    fn near_misses(&self, route: usize, question: &Question<'_>) -> Vec<String>;
    /// What the rules of a route read beside method, host and path.
    fn read(&self, route: usize, question: &Question<'_>) -> HasRead;
    /// What can be done at a route: methods, and `OTHER` for those without a name of their own.
    fn taken_by(&self, route: usize) -> BTreeSet<&'static str>;
    /// The actions for which a rule can say something at a route, by its name.
    fn at(&self, route: usize) -> BTreeMap<RuleId, BTreeSet<&'static str>>;
}

/// What a rule does when it matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// It lets in.
    Permit,
    /// It keeps out.
    Forbid,
}

/// A rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Rule {
    /// `policies.` and its `@id`.
    pub id: RuleId,
    /// What it does.
    pub effect: Effect,
    /// Whether it must not go, or change, unless somebody accepts that by name.
    pub is_locked: bool,
    /// Whether it is only tried out.
    pub is_shadow: bool,
    /// What it reads of facts that the edge asserts.
    #[serde(skip)]
    pub facts: Vec<Box<str>>,
    /// Why it is there.
    pub because: Option<Box<str>>,
    /// Itself, without comments and however it was laid out.
    #[serde(skip)]
    pub text: Box<str>,
    /// Its file.
    pub file: PathBuf,
}

impl Rule {
    /// Whether another is the same, wherever it stands and whatever is said of it.
    #[must_use]
    pub fn decides_like(&self, other: &Self) -> bool {
        let of = |rule: &Self| (rule.id.clone(), rule.is_locked, rule.is_shadow);
        of(self) == of(other) && self.text == other.text
    }
}

/// All rules of a config.
#[derive(Debug, Clone)]
pub struct RuleSet {
    all: Arc<[Rule]>,
    routes: Arc<[RouteWords]>,
    places: Arc<HashMap<RouteName, usize>>,
    /// Those of which some rule says something.
    spoken_of: Arc<HashSet<usize>>,
    judge: Arc<dyn Judge>,
}

/// The rules, and what is to be said of them.
pub type Read = (RuleSet, Vec<Fault>);

/// A text of rules.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    /// Its file.
    pub file: &'a std::path::Path,
    /// What stands in it.
    pub text: &'a str,
}

/// What is wrong with rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The file.
    pub file: PathBuf,
    /// Where it is, in bytes from the file's start, and how long.
    pub place: (usize, usize),
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// Whether the rules can be used all the same.
    pub is_warning: bool,
}

/// What rules can speak of, as a schema in Cedar.
///
/// # Errors
/// If this build knows no Cedar.
#[cfg(feature = "cedar")]
pub fn schema(words: &Words) -> Result<String, Fault> {
    Ok(cedar::schema(words))
}

/// The schema that there is not.
///
/// # Errors
/// That this build knows no Cedar.
#[cfg(not(feature = "cedar"))]
pub fn schema(_: &Words) -> Result<String, Fault> {
    Err(no_cedar(PathBuf::new()))
}

#[cfg(not(feature = "cedar"))]
fn no_cedar(file: PathBuf) -> Fault {
    Fault {
        file,
        place: (0, 0),
        message: "this build of Belay knows no Cedar, so that nothing would do what the rules say".into(),
        hint: Some("build it with `--features cedar`, or take a package".into()),
        is_warning: false,
    }
}

impl RuleSet {
    /// Reads rules.
    ///
    /// # Errors
    /// What is wrong with them.
    #[cfg(feature = "cedar")]
    pub fn read(words: &Words, sources: &[Source<'_>]) -> Result<Read, Vec<Fault>> {
        cedar::read(words, sources)
    }

    /// Reads no rules.
    ///
    /// # Errors
    /// That it cannot.
    #[cfg(not(feature = "cedar"))]
    pub fn read(_: &Words, sources: &[Source<'_>]) -> Result<Read, Vec<Fault>> {
        Err(sources.iter().map(|source| no_cedar(source.file.to_owned())).collect())
    }

    #[cfg(feature = "cedar")]
    fn new(all: Vec<Rule>, words: &Words, judge: Arc<dyn Judge>) -> Self {
        let places = words.routes.iter().enumerate().map(|(index, route)| (route.name.clone(), index)).collect();
        let routes = words.routes.clone().into();
        let spoken_of = (0..words.routes.len()).filter(|route| !judge.at(*route).is_empty()).collect();
        Self { all: all.into(), routes, places: Arc::new(places), spoken_of: Arc::new(spoken_of), judge }
    }

    /// Each of them, in the order of their names.
    #[must_use]
    pub fn all(&self) -> &[Rule] {
        &self.all
    }

    /// The routes.
    pub fn routes(&self) -> impl Iterator<Item = &RouteWords> {
        self.routes.iter()
    }

    /// What can be done at a route: methods, and `OTHER` for those without a name of their own.
    #[must_use]
    pub fn taken_by(&self, route: &RouteName) -> BTreeSet<&'static str> {
        self.place(route).map(|route| self.judge.taken_by(route)).unwrap_or_default()
    }

    /// Of that what a rule speaks of.
    #[must_use]
    pub fn held_by(&self, rule: &Rule, route: &RouteName) -> BTreeSet<&'static str> {
        let spoken = self.place(route).and_then(|route| self.judge.at(route).remove(&rule.id));
        spoken.unwrap_or_default()
    }

    fn place(&self, route: &RouteName) -> Option<usize> {
        self.places.get(route).copied()
    }

    /// Those of a route; none if no rule says anything there.
    #[must_use]
    pub fn at(&self, route: &RouteName) -> Option<AtRoute> {
        let route = self.place(route)?;
        self.spoken_of.contains(&route).then(|| AtRoute { judge: Arc::clone(&self.judge), route })
    }
}

/// The rules of a route.
#[derive(Debug, Clone)]
pub struct AtRoute {
    judge: Arc<dyn Judge>,
    route: usize,
}

impl AtRoute {
    /// What they say, perhaps as remembered; nothing, where none can match what is done.
    #[must_use]
    pub fn judge(&self, question: &Question<'_>) -> Option<Ruling> {
        self.judge.judge(self.route, question)
    }

    /// The same, without memory: for who asks what would be, and has no token by which he is remembered.
    #[must_use]
    pub fn judge_anew(&self, question: &Question<'_>) -> Option<Ruling> {
        self.judge.judge_anew(self.route, question)
    }

    /// Those that would permit it, each with what it wants and does not get.
    #[must_use]
    pub fn near_misses(&self, question: &Question<'_>) -> Vec<String> {
        self.judge.near_misses(self.route, question)
    }

    /// What they read beside method, host and path: claims, facts, and what else is known.
    #[must_use]
    pub fn read(&self, question: &Question<'_>) -> HasRead {
        self.judge.read(self.route, question)
    }

    /// Each of them, with the actions that it is about: methods, and `OTHER` for those without a name of their own.
    #[must_use]
    pub fn all(&self) -> BTreeMap<RuleId, BTreeSet<&'static str>> {
        self.judge.at(self.route)
    }
}
