//! Claims and facts, as the types that are declared for them.

use super::super::words::{Declared, Type};
use serde_json::{Map, Value};

/// A value of a declared type.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Typed<'a> {
    Text(&'a str),
    Texts(&'a [Value]),
    Number(i64),
    Truth(bool),
}

/// The value is of another type than declared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mistyped;

impl Type {
    pub(super) fn read(self, value: &Value) -> Result<Typed<'_>, Mistyped> {
        match (self, value) {
            (Self::Text, Value::String(text)) => Ok(Typed::Text(text)),
            (Self::Texts, Value::Array(values)) if values.iter().all(Value::is_string) => Ok(Typed::Texts(values)),
            (Self::Texts, Value::String(_)) => Ok(Typed::Texts(std::slice::from_ref(value))),
            (Self::Number, Value::Number(number)) => number.as_i64().map(Typed::Number).ok_or(Mistyped),
            (Self::Truth, Value::Bool(truth)) => Ok(Typed::Truth(*truth)),
            (_, _) => Err(Mistyped),
        }
    }
}

impl Declared {
    /// What claims say; nothing, if they do not say it.
    pub(super) fn find<'a>(&self, claims: &'a Map<String, Value>) -> Result<Option<Typed<'a>>, Mistyped> {
        // Providers write null where there is nothing to say.
        self.path.find(claims).filter(|value| !value.is_null()).map(|value| self.is.read(value)).transpose()
    }
}
