//! A YAML text as a tree that remembers where everything stood.

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, Error as _, MapAccess, SeqAccess, Visitor},
};
use serde_saphyr::{Location, Spanned};
use std::fmt;

/// A step into the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// Into a map.
    Key(String),
    /// Into a list.
    Index(usize),
}

/// A way into the tree, for example `routes[0].allow`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place(Vec<Step>);

impl Place {
    /// The top of the config.
    #[must_use]
    pub fn root() -> Self {
        Self::default()
    }

    /// One key further.
    #[must_use]
    pub fn key(&self, key: &str) -> Self {
        self.step(Step::Key(key.to_owned()))
    }

    /// One list entry further, from 0.
    #[must_use]
    pub fn index(&self, index: usize) -> Self {
        self.step(Step::Index(index))
    }

    fn step(&self, step: Step) -> Self {
        Self(self.0.iter().cloned().chain([step]).collect())
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().enumerate().try_for_each(|(number, step)| match step {
            Step::Index(index) => write!(f, "[{index}]"),
            Step::Key(key) if number == 0 => f.write_str(key),
            Step::Key(key) => write!(f, ".{key}"),
        })
    }
}

/// A stretch of one line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    /// In characters.
    pub width: usize,
}

impl From<Location> for Span {
    fn from(location: Location) -> Self {
        let number = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        let width = usize::try_from(location.span().len()).unwrap_or(1);
        Self { line: number(location.line()), column: number(location.column()), width }
    }
}

/// What stands at a place.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Nothing.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Integer(i64),
    /// Another number.
    Float(f64),
    /// Text.
    Text(String),
    /// A list.
    List(Vec<Node>),
    /// A map, in the order of the text.
    Map(Vec<(Spanned<String>, Node)>),
}

impl Value {
    /// What it is, for messages.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Bool(_) => "true or false",
            Self::Integer(_) => "a number",
            Self::Float(_) => "a fraction",
            Self::Text(_) => "a text",
            Self::List(_) => "a list",
            Self::Map(_) => "a map",
        }
    }
}

/// A value and where it stood.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// What.
    pub value: Value,
    span: Span,
}

impl Node {
    /// Reads a text. An empty one is an empty map.
    pub(super) fn read(text: &str) -> Result<Self, serde_saphyr::Error> {
        // YAML 1.2: `off`, `no` and `y` are words.
        let options = serde_saphyr::options! { strict_booleans: true };
        match serde_saphyr::from_str_with_options::<Option<Spanned<Value>>>(text, options)? {
            Some(root) => Ok(root.into()),
            None => Ok(Self { value: Value::Map(Vec::new()), span: Span::default() }),
        }
    }

    /// The value of a key, if this is a map that has it.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Self> {
        self.entry(key).map(|(_, node)| node)
    }

    /// The entries, if this is a map.
    #[must_use]
    pub fn entries(&self) -> &[(Spanned<String>, Self)] {
        if let Value::Map(entries) = &self.value { entries } else { &[] }
    }

    /// The items, if this is a list.
    #[must_use]
    pub fn items(&self) -> &[Self] {
        if let Value::List(items) = &self.value { items } else { &[] }
    }

    /// The tree as any type that reads itself.
    ///
    /// # Errors
    /// If the type does not read this tree.
    pub fn to<T: DeserializeOwned>(&self) -> serde_json::Result<T> {
        serde_json::from_value(self.to_json())
    }

    fn to_json(&self) -> serde_json::Value {
        match &self.value {
            Value::Null => serde_json::Value::Null,
            Value::Bool(flag) => (*flag).into(),
            Value::Integer(number) => (*number).into(),
            Value::Float(number) => (*number).into(),
            Value::Text(text) => text.as_str().into(),
            Value::List(items) => items.iter().map(Self::to_json).collect(),
            Value::Map(entries) => entries.iter().map(|(key, node)| (key.value.clone(), node.to_json())).collect(),
        }
    }

    fn entry(&self, key: &str) -> Option<&(Spanned<String>, Self)> {
        self.entries().iter().find(|(name, _)| name.value == key)
    }

    /// The node at a place.
    pub(super) fn at(&self, place: &Place) -> Option<&Self> {
        place.0.iter().try_fold(self, |node, step| match step {
            Step::Key(key) => node.get(key),
            Step::Index(index) => node.items().get(*index),
        })
    }

    /// Where a place stands in the text; the nearest place above it, where it does not exist.
    pub(super) fn span(&self, place: &Place, at_key: bool) -> Option<Span> {
        let (last, above) = match place.0.split_last() {
            Some((last, above)) => (last, Place(above.to_vec())),
            None => return Some(self.span),
        };
        let parent = self.at(&above);
        let own = match (parent, last) {
            (Some(parent), Step::Key(key)) => parent.entry(key).map(|(key, node)| match node.value {
                _ if at_key => key.referenced.into(),
                // A map or list begins on a later line, so its key says better which one is meant.
                Value::List(_) | Value::Map(_) | Value::Null => key.referenced.into(),
                Value::Bool(_) | Value::Integer(_) | Value::Float(_) | Value::Text(_) => node.span,
            }),
            (Some(parent), Step::Index(index)) => parent.items().get(*index).map(|node| node.span),
            (None, _) => None,
        };
        own.or_else(|| self.span(&above, at_key))
    }
}

impl From<Spanned<Value>> for Node {
    fn from(spanned: Spanned<Value>) -> Self {
        Self { value: spanned.value, span: spanned.referenced.into() }
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Reader)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Value, E> {
        Ok(Value::Bool(flag))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(Value::Integer(number))
    }

    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<Value, E> {
        i64::try_from(number).map(Value::Integer).map_err(|_too_big| E::custom("the number is too large"))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Value, E> {
        Ok(Value::Float(number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::Text(text.to_owned()))
    }

    fn visit_some<D: Deserializer<'de>>(self, from: D) -> Result<Value, D::Error> {
        Value::deserialize(from)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = from.next_element::<Spanned<Value>>()? {
            items.push(item.into());
        }
        Ok(Value::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Value, A::Error> {
        let mut entries: Vec<(Spanned<String>, Node)> = Vec::new();
        while let Some(key) = from.next_key::<Spanned<String>>()? {
            if entries.iter().any(|(known, _)| known.value == key.value) {
                return Err(A::Error::custom(format!("the key `{}` stands here twice", key.value)));
            }
            entries.push((key, from.next_value::<Spanned<Value>>()?.into()));
        }
        Ok(Value::Map(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remembers_places() {
        let text = "a: 1\nb:\n  - x: yes\n    'y': \"é z\"\n  - [1.5, null]\n";
        let root = Node::read(text).unwrap();
        let span = |place: &Place, at_key| {
            let span = root.span(place, at_key).unwrap();
            (span.line, span.column, span.width)
        };
        let b = Place::root().key("b");
        assert_eq!(span(&Place::root().key("a"), false), (1, 4, 1));
        assert_eq!(span(&Place::root().key("a"), true), (1, 1, 1));
        assert_eq!(span(&b, false), (2, 1, 1), "a list is its key");
        assert_eq!(span(&b.index(0).key("y"), false), (4, 10, 5));
        assert_eq!(span(&b.index(1).index(0), false), (5, 6, 3));
        assert_eq!(span(&b.index(0).key("none"), false).0, 3, "the nearest place above");
        assert_eq!(b.index(0).key("x").to_string(), "b[0].x");
        assert_eq!(root.to::<serde_json::Value>().unwrap()["b"][0]["y"], "é z");
    }

    #[test]
    fn nothing_is_an_empty_map() {
        assert_eq!(Node::read("# nothing\n").unwrap().value, Value::Map(Vec::new()));
        assert_eq!(Node::read("").unwrap().value, Value::Map(Vec::new()));
    }

    #[test]
    fn what_is_no_yaml_or_not_clear_is_refused() {
        for text in ["a: [", "a: 1\na: 2\n", "a: {b: 1, b: 2}", "? [a]\n: b", "a: 1\n---\nb: 2"] {
            assert!(Node::read(text).is_err(), "{text:?}");
        }
    }
}
