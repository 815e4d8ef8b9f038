//! Who asks for what, as Cedar's entities and requests.

use super::super::Question;
use super::super::words::Words;
use super::reading::{Reading, Seen};
use super::schema::READ;
use super::slice::ACTIONS;
use super::typed::Typed;
use cedar_policy::{
    Context, Entities as Known, Entity, EntityId, EntityTypeName, EntityUid, Request, RestrictedExpression,
};
use std::{
    collections::{HashMap, HashSet},
    str::FromStr,
};

/// Whatever went wrong on the way to Cedar; nothing does, as long as the config was checked.
pub(super) type Unsayable = Box<dyn std::error::Error>;

/// What is the same for all questions.
#[derive(Debug)]
pub(super) struct Entities {
    caller: EntityTypeName,
    role: EntityTypeName,
    workload: EntityTypeName,
    routes: Box<[Entity]>,
    actions: Box<[Entity]>,
    facts: Box<[Reading]>,
    claims: Box<[Reading]>,
}

type Attributes = Vec<(String, RestrictedExpression)>;

impl Entities {
    pub(super) fn new(words: &Words) -> Result<Self, Unsayable> {
        let name = |name: &str| EntityTypeName::from_str(name);
        let (route, group, action) = (name("Route")?, name("RouteGroup")?, name("Action")?);
        let routes = words.routes.iter().map(|words| {
            let groups = words.groups.iter().map(|name| uid(&group, name.as_str())).collect();
            Entity::new_no_attrs(uid(&route, words.name.as_str()), groups)
        });
        let actions = ACTIONS.iter().map(|method| {
            let group = if READ.contains(method) { "read" } else { "write" };
            Entity::new_no_attrs(uid(&action, method), HashSet::from([uid(&action, group)]))
        });
        Ok(Self {
            caller: name("Caller")?,
            role: name("Role")?,
            workload: name("Workload")?,
            routes: routes.collect(),
            actions: actions.collect(),
            facts: words.facts.iter().cloned().map(Reading::Fact).collect(),
            claims: words.claims.iter().cloned().map(Reading::Claim).collect(),
        })
    }

    pub(super) fn for_question(
        &self,
        (route, action): (usize, usize),
        question: &Question<'_>,
    ) -> Result<(Request, Known), Unsayable> {
        let (caller, route, action) =
            (self.caller(question)?, self.routes.get(route).ok_or("route")?, self.actions.get(action).ok_or("action")?);
        let context = Context::from_pairs(self.context(question)?)?;
        let request = Request::new(caller.uid(), action.uid(), route.uid(), context, None)?;
        let entities = Known::from_entities([caller, route.clone(), action.clone()], None)?;
        Ok((request, entities))
    }

    fn caller(&self, question: &Question<'_>) -> Result<Entity, Unsayable> {
        let principal = question.principal;
        let workload = principal.workload().map(|workload| workload.name.as_str());
        let parents = principal.roles().map(|role| uid(&self.role, role.as_str()));
        let parents = parents.chain(workload.map(|name| uid(&self.workload, name))).collect();
        let mut attributes: HashMap<String, RestrictedExpression> = HashMap::new();
        if let Some(user) = principal.user() {
            attributes.insert("user".into(), RestrictedExpression::new_string(user.to_string()));
            attributes.insert("people".into(), RestrictedExpression::new_string(user.people.to_string()));
        }
        attributes.insert("claims".into(), record(&self.claims, question)?);
        Ok(Entity::new(uid(&self.caller, workload.unwrap_or("anybody")), attributes, parents)?)
    }

    fn context(&self, question: &Question<'_>) -> Result<Attributes, Unsayable> {
        let of_request = [
            ("path", Reading::Path),
            ("host", Reading::Host),
            ("client", Reading::Client),
            ("tls", Reading::Tls),
            ("mfa", Reading::Mfa),
            ("time", Reading::Time),
            ("hour", Reading::Hour),
            ("weekday", Reading::Weekday),
        ];
        let mut context = Vec::new();
        for (name, reading) in of_request {
            context.extend(seen(&reading, question)?.map(|value| (name.to_owned(), value)));
        }
        context.push(("facts".to_owned(), record(&self.facts, question)?));
        Ok(context)
    }
}

fn uid(kind: &EntityTypeName, id: &str) -> EntityUid {
    EntityUid::from_type_name_and_id(kind.clone(), EntityId::new(id))
}

/// What is declared and of its type. What is of another, and is read, has ended the judging before.
fn record(readings: &[Reading], question: &Question<'_>) -> Result<RestrictedExpression, Unsayable> {
    let mut fields = Vec::new();
    for reading in readings {
        if let (Reading::Fact(declared) | Reading::Claim(declared), Ok(Some(value))) =
            (reading, seen(reading, question))
        {
            fields.push((declared.name.to_string(), value));
        }
    }
    Ok(RestrictedExpression::new_record(fields)?)
}

fn seen(reading: &Reading, question: &Question<'_>) -> Result<Option<RestrictedExpression>, Unsayable> {
    let Some(seen) = reading.see(question).map_err(|_mistyped| "type")? else { return Ok(None) };
    Ok(Some(match seen {
        Seen::Of(Typed::Text(text)) => RestrictedExpression::new_string(text.into()),
        Seen::Of(Typed::Texts(texts)) => {
            let texts = texts.iter().filter_map(|text| text.as_str());
            RestrictedExpression::new_set(texts.map(|text| RestrictedExpression::new_string(text.into())))
        }
        Seen::Of(Typed::Number(number)) => RestrictedExpression::new_long(number),
        Seen::Of(Typed::Truth(truth)) => RestrictedExpression::new_bool(truth),
        Seen::Address(address) => RestrictedExpression::new_ip(address.to_string()),
        Seen::Time(time) => {
            let (date, clock) = (time.date(), time.time());
            let (hour, minute, second) = clock.as_hms();
            RestrictedExpression::new_datetime(format!("{date}T{hour:02}:{minute:02}:{second:02}Z"))
        }
    }))
}
