//! What rules would say to a request that nobody has made.

use super::asked::{Asked, AskedUser};
use super::explain::{SignedFacts, list_of};
use crate::clock::Timestamp;
use crate::config::{Config, Listener, Route, Workload};
use crate::identity::{Asserted, People};
use crate::name::RoleName;
use crate::policy::Access;
use crate::policy::rules::{Answer, AtRoute, Declared, Question, RuleSet, Said, Type};
use crate::principal::{Principal, User};
use crate::request::{Facts, Path, Protocol};
use crate::verdict::RuleId;
use serde_json::Value;
use std::{net::IpAddr, sync::Arc};

/// What is known beside who asks for what.
#[derive(Debug, Clone)]
pub struct Circumstances<'a> {
    /// The rules, if there are some.
    pub rules: Option<&'a RuleSet>,
    /// The people with whom a file gives roles; without them those of the config.
    pub people: Option<&'a [People]>,
    /// What the edge asserts.
    pub asserted: Asserted,
    /// The client's address.
    pub client: Option<IpAddr>,
    /// When.
    pub now: Timestamp,
}

impl<'a> Circumstances<'a> {
    /// Only those rules, now.
    #[must_use]
    pub fn with(rules: Option<&'a RuleSet>, now: Timestamp) -> Self {
        Self { rules, people: None, asserted: Asserted::new(), client: None, now }
    }

    /// The same, where the edge signs facts that are given as words.
    #[must_use]
    pub fn signed(self, config: &Config, facts: &SignedFacts) -> Self {
        let typed = |(name, word): (&String, &String)| {
            let declared = config.words.facts.iter().find(|fact| *fact.name == **name);
            (name.as_str().into(), declared.map_or_else(|| word.as_str().into(), |declared| declared.meant(word)))
        };
        Self { asserted: facts.iter().map(typed).collect(), ..self }
    }

    /// Asks the rules of a route; none if there are none.
    pub(super) fn ask<T>(
        &self,
        (asked, principal): (&Asked, &Principal),
        (listener, route): Way<'_>,
        ask: impl FnOnce(&AtRoute, &Question<'_>) -> T,
    ) -> Option<T> {
        let rules = self.rules?.at(&route.name)?;
        let facts = Facts {
            method: asked.method.clone(),
            authority: asked.host.as_str().into(),
            host: asked.host.as_str().into(),
            target: asked.path.as_str().into(),
            path: Path::read(&asked.path).ok()?,
            protocol: Protocol::Http2,
        };
        // Facts are known where a token is read.
        let profile = route.identity.unwrap_or(listener.identity);
        let is_read = profile.needs_token() && !matches!(*route.access, Access::Public(_));
        let asserted = is_read.then_some(&self.asserted);
        let tls = listener.tls.as_ref().map(|_| "1.3");
        let question = Question { principal, facts: &facts, client: self.client, tls, asserted, now: self.now };
        Some(ask(&rules, &question))
    }

    /// What rules say beside the list, in words. Those that say something are noted.
    pub(super) fn told(&self, who: (&Asked, &Principal), way: Way<'_>, spoken: &mut Vec<RuleId>) -> Option<String> {
        let judged = |rules: &AtRoute, question: &Question<'_>| {
            let ruling = rules.judge_anew(question)?;
            Some((says(&ruling.said, rules, question), ruling))
        };
        let (says, ruling) = self.ask(who, way, judged).flatten()?;
        let shadow = ruling.shadow.filter(|said| said.answer != Answer::Silent);
        spoken.extend(ruling.said.by.iter().chain(shadow.iter().flat_map(|said| &said.by)).cloned());
        let Some(said) = shadow else { return Some(says) };
        let would = if said.answer == Answer::Permitted { "permit" } else { "refuse" };
        Some(format!("{says}; tried out only, {} would {would} it", list_of(&said.by)))
    }
}

fn says(said: &Said, rules: &AtRoute, question: &Question<'_>) -> String {
    let by = list_of(&said.by);
    match said.answer {
        Answer::Silent => match rules.near_misses(question).as_slice() {
            [] => "no rule says anything to it".into(),
            near => format!("no rule says anything to it: {}", near.join("; ")),
        },
        Answer::Permitted => format!("{by} permits it"),
        Answer::Forbidden => format!("{by} forbids it, whoever lets him in"),
        Answer::Failed => format!("{by} could not be judged, so nobody is let in"),
        Answer::Mistyped => format!("{by} is not of the type that is declared, so nobody is let in"),
    }
}

/// Where it comes in, and where it leads.
pub(super) type Way<'a> = (&'a Listener, &'a Route);

impl Declared {
    /// A word of a command line as a value of that type, as far as it is one.
    #[must_use]
    pub fn meant(&self, word: &str) -> Value {
        let value = match self.is {
            Type::Text | Type::Texts => None,
            Type::Number => word.parse::<i64>().ok().map(Value::from),
            Type::Truth => word.parse::<bool>().ok().map(Value::from),
        };
        value.unwrap_or_else(|| word.into())
    }
}

/// Who somebody is, whose proofs are good.
pub(super) fn principal(config: &Config, who: &Workload, user: Option<(&AskedUser, Vec<RoleName>)>) -> Principal {
    let workload = Arc::clone(&who.workload);
    let Some((user, roles)) = user else { return Principal::Workload(workload) };
    let terms = config.people.iter().map(|people| &people.terms).find(|people| people.name == user.people);
    let subject = user.claims.get("sub").and_then(Value::as_str).unwrap_or("somebody");
    let user = User {
        people: user.people.clone(),
        issuer: terms.map_or_else(|| "".into(), |terms| Arc::clone(&terms.issuer)),
        subject: subject.into(),
        roles: roles.into(),
        claims: user.claims.clone(),
        expires: i64::MAX,
        // Nothing is remembered by it.
        token: [0; 32],
    };
    Principal::User(workload, Arc::new(user))
}
