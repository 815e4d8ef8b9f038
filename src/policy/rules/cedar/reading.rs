//! What rules read of a question, in Rust.

use super::super::Question;
use super::super::words::{Declared, Words};
use super::typed::{Mistyped, Typed};
use serde_json::Value;
use std::net::IpAddr;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// Something that a rule reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reading {
    Path,
    Host,
    Client,
    Tls,
    Mfa,
    Time,
    Hour,
    Weekday,
    Fact(Declared),
    Claim(Declared),
}

/// What is read.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Seen<'a> {
    Of(Typed<'a>),
    Address(IpAddr),
    /// A time, which only Cedar compares.
    Time(OffsetDateTime),
}

impl Reading {
    /// What `context.facts.country` or the like means; none if that is nothing, or more than one thing.
    pub(super) fn of(chain: &[&str], words: &Words) -> Option<Self> {
        let declared = |all: &[Declared], name: &str| all.iter().find(|known| *known.name == *name).cloned();
        match chain {
            ["context", "path"] => Some(Self::Path),
            ["context", "host"] => Some(Self::Host),
            ["context", "client"] => Some(Self::Client),
            ["context", "tls"] => Some(Self::Tls),
            ["context", "mfa"] => Some(Self::Mfa),
            ["context", "time"] => Some(Self::Time),
            ["context", "hour"] => Some(Self::Hour),
            ["context", "weekday"] => Some(Self::Weekday),
            ["context", "facts", name] => declared(&words.facts, name).map(Self::Fact),
            ["principal", "claims", name] => declared(&words.claims, name).map(Self::Claim),
            _ => None,
        }
    }

    /// What there is; nothing where it is not known.
    pub(super) fn see<'a>(&self, question: &'a Question<'_>) -> Result<Option<Seen<'a>>, Mistyped> {
        let typed = |typed: Typed<'a>| Ok(Some(Seen::Of(typed)));
        match self {
            Self::Path => typed(Typed::Text(question.facts.path.as_str())),
            Self::Host => typed(Typed::Text(&question.facts.host)),
            // As Cedar writes it, no IPv4 address hides in an IPv6 one.
            Self::Client => Ok(question.client.map(|client| Seen::Address(client.to_canonical()))),
            Self::Tls => Ok(question.tls.map(|version| Seen::Of(Typed::Text(version)))),
            Self::Mfa => typed(Typed::Truth(has_several_factors(question))),
            Self::Time => Ok(Some(Seen::Time(moment(question)))),
            Self::Hour => typed(Typed::Number(moment(question).hour().into())),
            Self::Weekday => typed(Typed::Number(moment(question).weekday().number_from_monday().into())),
            Self::Fact(fact) => match question.asserted.and_then(|asserted| asserted.get(&fact.name)) {
                Some(value) => fact.is.read(value).map(|typed| Some(Seen::Of(typed))),
                None => Ok(None),
            },
            // Who declares nothing of a claim, does not vouch for it either.
            Self::Claim(claim) => match question.principal.user().filter(|user| claim.of.contains(&user.people)) {
                Some(user) => claim.find(&user.claims).map(|typed| typed.map(Seen::Of)),
                None => Ok(None),
            },
        }
    }

    /// Its place, as rules and records call it.
    pub(super) fn place(&self) -> String {
        match self {
            Self::Path => "context.path".into(),
            Self::Host => "context.host".into(),
            Self::Client => "context.client".into(),
            Self::Tls => "context.tls".into(),
            Self::Mfa => "context.mfa".into(),
            Self::Time => "context.time".into(),
            Self::Hour => "context.hour".into(),
            Self::Weekday => "context.weekday".into(),
            Self::Fact(fact) => format!("context.facts.{}", fact.name),
            Self::Claim(claim) => format!("principal.claims.{}", claim.name),
        }
    }

    /// Whether a record tells it beside what every record tells.
    pub(super) const fn is_told(&self) -> bool {
        !matches!(self, Self::Path | Self::Host | Self::Tls)
    }

    /// Whether somebody has to bring it with a token.
    pub(super) const fn is_brought(&self) -> bool {
        matches!(self, Self::Fact(_) | Self::Claim(_))
    }

    /// Whether it can be another from one request of somebody to the next.
    pub(super) const fn is_of_request(&self) -> bool {
        !matches!(self, Self::Claim(_))
    }
}

impl Seen<'_> {
    pub(super) fn to_json(self) -> Value {
        match self {
            Self::Of(Typed::Text(text)) => text.into(),
            Self::Of(Typed::Texts(texts)) => texts.into(),
            Self::Of(Typed::Number(number)) => number.into(),
            Self::Of(Typed::Truth(truth)) => truth.into(),
            Self::Address(address) => address.to_string().into(),
            Self::Time(time) => time.format(&Rfc3339).unwrap_or_default().into(),
        }
    }
}

/// RFC 8176: `amr` says how somebody has proved himself.
fn has_several_factors(question: &Question<'_>) -> bool {
    let amr = question.principal.user().and_then(|user| user.claims.get("amr")?.as_array());
    amr.is_some_and(|methods| methods.iter().any(|method| method == "mfa"))
}

fn moment(question: &Question<'_>) -> OffsetDateTime {
    // No clock says anything after the year 9999.
    OffsetDateTime::from_unix_timestamp(question.now.unix_seconds()).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}
