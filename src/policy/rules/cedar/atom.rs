//! Atoms: the smallest questions that rules ask about a request, each answered by a bit.
//!
//! Two requests of somebody for a route whose bits are equal are equal to the rules, as long as these ask nothing else.
//! They are read from the JSON form of a rule (<https://docs.cedarpolicy.com/policies/json-format.html>).

use super::super::Question;
use super::super::words::Words;
use super::reading::{Reading, Seen};
use super::typed::{Mistyped, Typed};
use crate::clock::UnixSeconds;
use ipnet::IpNet;
use serde_json::Value;
use std::{cmp::Ordering, net::IpAddr};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// What is asked about something that is read.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Atom {
    reading: Reading,
    test: Test,
}

#[derive(Debug, Clone, PartialEq)]
enum Test {
    IsThere,
    IsTrue,
    Like(Glob),
    Compares(&'static [Ordering], Literal),
    IsOneOf(Box<[Literal]>),
    HasAny(Box<[Box<str>]>),
    HasAll(Box<[Box<str>]>),
    IsIn(IpNet),
    IsIpv4,
    IsIpv6,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Literal {
    Text(Box<str>),
    Number(i64),
    Truth(bool),
    Address(IpAddr),
    /// In seconds.
    Time(UnixSeconds),
}

impl Atom {
    /// The bit.
    pub(super) fn holds(&self, question: &Question<'_>) -> Result<bool, Mistyped> {
        let Some(seen) = self.reading.see(question)? else { return Ok(false) };
        Ok(match (&self.test, seen) {
            (Test::IsThere, _) => true,
            (Test::IsTrue, Seen::Of(Typed::Truth(truth))) => truth,
            (Test::Like(glob), Seen::Of(Typed::Text(text))) => glob.takes(text),
            (Test::Compares(wanted, literal), seen) => {
                literal.compared_with(seen).is_some_and(|is| wanted.contains(&is))
            }
            (Test::IsOneOf(literals), seen) => {
                literals.iter().any(|literal| literal.compared_with(seen) == Some(Ordering::Equal))
            }
            (Test::HasAny(texts), Seen::Of(Typed::Texts(has))) => texts.iter().any(|text| has_text(has, text)),
            (Test::HasAll(texts), Seen::Of(Typed::Texts(has))) => texts.iter().all(|text| has_text(has, text)),
            (Test::IsIn(network), Seen::Address(address)) => network.contains(&address),
            (Test::IsIpv4, Seen::Address(address)) => address.is_ipv4(),
            (Test::IsIpv6, Seen::Address(address)) => address.is_ipv6(),
            (_, _) => false,
        })
    }

    /// The atom that an expression is, if it is one.
    fn of(expression: &Value, words: &Words) -> Option<Self> {
        let read = |expression: &Value| Reading::of(&chain(expression)?, words).filter(Reading::is_of_request);
        if let Some(reading) = read(expression) {
            return is_truth(&reading).then_some(Self { reading, test: Test::IsTrue });
        }
        let (operator, operands) = expression.as_object()?.iter().next()?;
        let (reading, test) = if let Value::Array(operands) = operands {
            Test::called(operator, operands, &read)?
        } else if operator == "has" {
            // Where it is several names deep, all but the last are always there.
            (Reading::of(&had(operands)?, words).filter(Reading::is_of_request)?, Test::IsThere)
        } else if operator == "like" {
            (read(operands.get("left")?)?, Test::Like(Glob::read(operands.get("pattern")?)?))
        } else {
            Test::between(operator, (operands.get("left")?, operands.get("right")?), &read)?
        };
        Some(Self { reading, test })
    }
}

impl Test {
    /// What a function asks.
    fn called(
        function: &str,
        operands: &[Value],
        read: &impl Fn(&Value) -> Option<Reading>,
    ) -> Option<(Reading, Self)> {
        match (function, operands) {
            ("isInRange", [address, network]) => {
                let network = called(network, "ip")?;
                let network = network.parse().or_else(|_single| network.parse::<IpAddr>().map(IpNet::from)).ok()?;
                Some((read(address)?, Self::IsIn(network)))
            }
            ("isIpv4", [address]) => Some((read(address)?, Self::IsIpv4)),
            ("isIpv6", [address]) => Some((read(address)?, Self::IsIpv6)),
            (_, _) => None,
        }
    }

    /// What an operator between two asks, one of which is a literal.
    fn between(
        operator: &str,
        (left, right): (&Value, &Value),
        read: &impl Fn(&Value) -> Option<Reading>,
    ) -> Option<(Reading, Self)> {
        match (operator, read(left), read(right)) {
            ("contains", None, Some(reading)) => Some((reading, Self::IsOneOf(set(left)?))),
            ("contains", Some(reading), None) => Some((reading, Self::HasAny([text(right)?].into()))),
            ("containsAny", Some(reading), None) => Some((reading, Self::HasAny(texts(right)?))),
            ("containsAll", Some(reading), None) => Some((reading, Self::HasAll(texts(right)?))),
            (comparison, Some(reading), None) => {
                Some((reading, Self::Compares(orderings(comparison)?.0, literal(right)?)))
            }
            (comparison, None, Some(reading)) => {
                Some((reading, Self::Compares(orderings(comparison)?.1, literal(left)?)))
            }
            (_, _, _) => None,
        }
    }
}

/// What an operator demands of the order of left to right, and of right to left.
fn orderings(operator: &str) -> Option<(&'static [Ordering], &'static [Ordering])> {
    use Ordering::{Equal, Greater, Less};
    Some(match operator {
        "==" => (&[Equal], &[Equal]),
        "!=" => (&[Less, Greater], &[Less, Greater]),
        "<" => (&[Less], &[Greater]),
        "<=" => (&[Less, Equal], &[Greater, Equal]),
        ">" => (&[Greater], &[Less]),
        ">=" => (&[Greater, Equal], &[Less, Equal]),
        _ => return None,
    })
}

impl Literal {
    /// How what was read compares with it; nothing if it is of another type.
    fn compared_with(&self, seen: Seen<'_>) -> Option<Ordering> {
        match (seen, self) {
            (Seen::Of(Typed::Text(seen)), Self::Text(text)) => Some(seen.cmp(text)),
            (Seen::Of(Typed::Number(seen)), Self::Number(number)) => Some(seen.cmp(number)),
            (Seen::Of(Typed::Truth(seen)), Self::Truth(truth)) => Some(seen.cmp(truth)),
            (Seen::Address(seen), Self::Address(address)) => Some(seen.cmp(address)),
            (Seen::Time(seen), Self::Time(time)) => Some(seen.unix_timestamp().cmp(time)),
            (_, _) => None,
        }
    }
}

fn is_truth(reading: &Reading) -> bool {
    use super::super::words::Type;
    *reading == Reading::Mfa || matches!(reading, Reading::Fact(fact) if fact.is == Type::Truth)
}

fn has_text(texts: &[Value], wanted: &str) -> bool {
    texts.iter().any(|text| text.as_str() == Some(wanted))
}

/// The names of `context.facts.country`, the outermost first.
pub(super) fn chain(expression: &Value) -> Option<Vec<&str>> {
    if let Some(variable) = expression.get("Var") {
        return Some(vec![variable.as_str()?]);
    }
    let access = expression.get(".")?;
    let mut chain = chain(access.get("left")?)?;
    chain.push(access.get("attr")?.as_str()?);
    Some(chain)
}

/// What `has` asks for, which may be several names deep.
fn had(operands: &Value) -> Option<Vec<&str>> {
    let mut place = chain(operands.get("left")?)?;
    match operands.get("attr")? {
        Value::String(name) => place.push(name),
        Value::Array(names) => place.extend(names.iter().map(Value::as_str).collect::<Option<Vec<_>>>()?),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => return None,
    }
    Some(place)
}

fn is_principal(expression: &Value) -> bool {
    expression.get("Var").is_some_and(|variable| variable == "principal")
}

fn literal(expression: &Value) -> Option<Literal> {
    if let Some(address) = called(expression, "ip") {
        return address.parse().ok().map(Literal::Address);
    }
    if let Some(text) = called(expression, "datetime") {
        return moment(text).map(Literal::Time);
    }
    match expression.get("Value")? {
        Value::String(text) => Some(Literal::Text(text.as_str().into())),
        Value::Number(number) => number.as_i64().map(Literal::Number),
        Value::Bool(truth) => Some(Literal::Truth(*truth)),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// The text that a function is called with.
fn called<'a>(expression: &'a Value, function: &str) -> Option<&'a str> {
    let [only] = expression.get(function)?.as_array()?.as_slice() else { return None };
    only.get("Value")?.as_str()
}

/// A day or a whole second of UTC; others are compared by Cedar.
fn moment(text: &str) -> Option<UnixSeconds> {
    let whole = if text.len() == "2026-11-24".len() { format!("{text}T00:00:00Z") } else { text.to_owned() };
    let time = OffsetDateTime::parse(&whole, &Rfc3339).ok().filter(|time| time.nanosecond() == 0)?;
    Some(time.unix_timestamp())
}

fn text(expression: &Value) -> Option<Box<str>> {
    expression.get("Value")?.as_str().map(Into::into)
}

fn set(expression: &Value) -> Option<Box<[Literal]>> {
    expression.get("Set")?.as_array()?.iter().map(literal).collect()
}

fn texts(expression: &Value) -> Option<Box<[Box<str>]>> {
    expression.get("Set")?.as_array()?.iter().map(text).collect()
}

/// The right side of `like`: pieces, between any two of which anything may stand.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Glob(Box<[Box<str>]>);

impl Glob {
    fn read(pattern: &Value) -> Option<Self> {
        let mut pieces = vec![String::new()];
        for element in pattern.as_array()? {
            if element == "Wildcard" {
                pieces.push(String::new());
            } else {
                let literal = element.get("Literal")?.as_str()?;
                pieces.last_mut()?.push_str(literal);
            }
        }
        Some(Self(pieces.into_iter().map(String::into_boxed_str).collect()))
    }

    fn takes(&self, text: &str) -> bool {
        let Some((first, rest)) = self.0.split_first() else { return false };
        let Some((last, middle)) = rest.split_last() else { return **first == *text };
        let Some(inner) = text.strip_prefix(&**first) else { return false };
        let Some(mut inner) = inner.strip_suffix(&**last) else { return false };
        middle.iter().all(|piece| match inner.split_once(&**piece) {
            Some((_, after)) => {
                inner = after;
                true
            }
            None => false,
        })
    }
}

/// What a rule asks of a request.
#[derive(Debug, Clone, Default)]
pub(super) struct Asked {
    /// Its atoms.
    pub(super) atoms: Vec<Atom>,
    /// What it reads.
    pub(super) reads: Vec<Reading>,
    /// Whether it asks more than the atoms say.
    pub(super) goes_beyond: bool,
}

impl Asked {
    /// What the conditions of a rule ask.
    pub(super) fn by(rule: &Value, words: &Words) -> Self {
        let mut asked = Self::default();
        let conditions = rule.get("conditions").and_then(Value::as_array).into_iter().flatten();
        conditions.filter_map(|condition| condition.get("body")).for_each(|body| asked.visit(body, words));
        asked
    }

    /// The bits of all atoms; none, if that is not all that is asked, or one cannot be said.
    pub(super) fn bits(&self, question: &Question<'_>) -> Option<u128> {
        if self.goes_beyond {
            return None;
        }
        let mut bits = 0_u128;
        for (index, atom) in self.atoms.iter().enumerate() {
            bits |= u128::from(atom.holds(question).ok()?) << index;
        }
        Some(bits)
    }

    /// Joins what others ask.
    pub(super) fn join(&mut self, other: &Self) {
        let new = |atom: &&Atom| !self.atoms.contains(atom);
        let atoms: Vec<_> = other.atoms.iter().filter(new).cloned().collect();
        self.atoms.extend(atoms);
        other.reads.iter().for_each(|reading| self.reads(reading));
        self.goes_beyond |= other.goes_beyond;
    }

    fn reads(&mut self, reading: &Reading) {
        if !self.reads.contains(reading) {
            self.reads.push(reading.clone());
        }
    }

    /// More than one thing at once: whatever is in it may be read.
    fn visit_whole(&mut self, place: &[&str], words: &Words) {
        self.goes_beyond |= place.first() == Some(&"context");
        let facts = words.facts.iter().cloned().map(Reading::Fact).filter(|_| matches!(place, ["context", ..]));
        facts.for_each(|fact| self.reads(&fact));
        let is_of_claims = matches!(place, ["principal"] | ["principal", "claims", ..]);
        let claims = words.claims.iter().cloned().map(Reading::Claim).filter(|_| is_of_claims);
        claims.for_each(|claim| self.reads(&claim));
    }

    fn visit(&mut self, expression: &Value, words: &Words) {
        if let Some(atom) = Atom::of(expression, words) {
            self.reads(&atom.reading);
            if !self.atoms.contains(&atom) {
                self.atoms.push(atom);
            }
            return;
        }
        if let Some(chain) = chain(expression) {
            match Reading::of(&chain, words) {
                Some(reading) => {
                    self.goes_beyond |= reading.is_of_request();
                    self.reads(&reading);
                }
                None => self.visit_whole(&chain, words),
            }
            return;
        }
        let Some((operator, operands)) = expression.as_object().and_then(|object| object.iter().next()) else { return };
        match (operator.as_str(), operands) {
            ("Value" | "Slot", _) => {}
            ("has", operands) => match had(operands).and_then(|place| Reading::of(&place, words)) {
                // What is of the request is an atom.
                Some(reading) => self.reads(&reading),
                None => operands.get("left").into_iter().for_each(|left| self.visit(left, words)),
            },
            // Who somebody is, is no part of him.
            ("in" | "is" | "==" | "!=", operands) if operands.get("left").is_some_and(is_principal) => {
                ["right", "in"].iter().filter_map(|part| operands.get(part)).for_each(|part| self.visit(part, words));
            }
            ("like", operands) => operands.get("left").into_iter().for_each(|left| self.visit(left, words)),
            (_, Value::Array(operands)) => operands.iter().for_each(|operand| self.visit(operand, words)),
            (_, Value::Object(operands)) => operands.values().for_each(|operand| self.visit(operand, words)),
            (_, _) => {}
        }
    }
}
