//! The configuration, and what it says about a request. Whatever it could mean twice, or could not keep, is a fault.

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use std::fmt;
use std::marker::PhantomData;

/// What was configured, with names in lower case.
pub struct Policy {
    require: Vec<String>,
    deny: Vec<(String, Vec<String>)>,
    set: Vec<(String, String)>,
    remove: Vec<String>,
}

/// Why a request is refused, with the header's name.
pub enum Refusal<'a> {
    Missing(&'a str),
    Denied(&'a str),
}

impl Policy {
    /// Reads the JSON text; the error says what is wrong.
    pub fn parse(text: &[u8]) -> Result<Self, String> {
        if text.trim_ascii().is_empty() {
            return Err("there is no configuration".into());
        }
        // The parser would also take a list, with what the keys stand for in the order of this file.
        if !text.trim_ascii().starts_with(b"{") {
            return Err("the configuration is not a JSON object".into());
        }
        let document: Document = serde_json::from_slice(text).map_err(|error| error.to_string())?;
        let policy = Self {
            require: names(document.require)?,
            deny: named(document.deny, denied_values)?,
            set: named(document.response.set, |name, value| field_value(name, &value).map(|()| value))?,
            remove: names(document.response.remove)?,
        };
        policy.check_response()?;
        if policy.require.is_empty() && policy.deny.is_empty() && policy.set.is_empty() && policy.remove.is_empty() {
            return Err("nothing is required, denied, set or removed".into());
        }
        Ok(policy)
    }

    /// The first thing that is wrong with a request, required headers first.
    pub fn judge(&self, headers: &[(String, Vec<u8>)]) -> Result<(), Refusal<'_>> {
        if let Some(name) = self.require.iter().find(|name| !is_present(headers, name)) {
            return Err(Refusal::Missing(name));
        }
        match self.deny.iter().find(|(name, values)| has_value(headers, name, values)) {
            Some((name, _)) => Err(Refusal::Denied(name)),
            None => Ok(()),
        }
    }

    /// The headers that a response loses.
    pub fn removed(&self) -> &[String] {
        &self.remove
    }

    /// The headers that a response gets, each in place of all that have its name.
    pub fn set(&self) -> &[(String, String)] {
        &self.set
    }

    fn check_response(&self) -> Result<(), String> {
        let set: Vec<&str> = self.set.iter().map(|(name, _)| name.as_str()).collect();
        for (at, name) in set.iter().enumerate() {
            if set[..at].contains(name) {
                return Err(format!("response.set has {name} twice"));
            }
            if self.remove.iter().any(|removed| removed == name) {
                return Err(format!("response both sets and removes {name}"));
            }
        }
        match set.into_iter().chain(self.remove.iter().map(String::as_str)).find(|name| FRAMING.contains(name)) {
            Some(name) => Err(format!("{name} frames the message, which is the load balancer's work")),
            None => Ok(()),
        }
    }
}

// An empty header says nothing, so that it does not count.
fn is_present(headers: &[(String, Vec<u8>)], name: &str) -> bool {
    headers.iter().any(|(present, value)| present.eq_ignore_ascii_case(name) && !value.trim_ascii().is_empty())
}

// RFC 9110, section 5.3: whoever forwards may join fields of one name with commas. So a member of such a list counts
// like a field of its own.
fn has_value(headers: &[(String, Vec<u8>)], name: &str, denied: &[String]) -> bool {
    let is_denied = |value: &[u8]| denied.iter().any(|text| value.trim_ascii().eq_ignore_ascii_case(text.as_bytes()));
    headers
        .iter()
        .filter(|(present, _)| is_read_as(present, name))
        .any(|(_, value)| is_denied(value) || value.split(|byte| *byte == b',').any(is_denied))
}

// CGI and what descends from it hand X_Debug and X-Debug to the application under the same name.
fn is_read_as(present: &str, name: &str) -> bool {
    let folded = |byte: u8| if byte == b'_' { b'-' } else { byte.to_ascii_lowercase() };
    present.len() == name.len() && present.bytes().zip(name.bytes()).all(|(a, b)| folded(a) == folded(b))
}

fn names(names: Vec<String>) -> Result<Vec<String>, String> {
    names.iter().map(|name| header_name(name)).collect()
}

fn named<T>(pairs: Pairs<T>, check: impl Fn(&str, T) -> Result<T, String>) -> Result<Vec<(String, T)>, String> {
    pairs.0.into_iter().map(|(name, value)| Ok((header_name(&name)?, check(&name, value)?))).collect()
}

// RFC 9110, section 5.1: a name is a token. That also keeps `:path` and its like out.
fn header_name(name: &str) -> Result<String, String> {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || !name.bytes().all(is_token) {
        return Err(format!("{name:?} is not the name of a header"));
    }
    Ok(name.to_ascii_lowercase())
}

fn denied_values(name: &str, values: Vec<String>) -> Result<Vec<String>, String> {
    if values.is_empty() {
        return Err(format!("deny has no values for {name}"));
    }
    values.iter().try_for_each(|value| field_value(name, value))?;
    Ok(values)
}

fn field_value(name: &str, value: &str) -> Result<(), String> {
    if value.trim_ascii() != value || !value.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()) {
        return Err(format!("{value:?} for {name} is not printable ASCII without space at its ends"));
    }
    Ok(())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(default)]
    require: Vec<String>,
    #[serde(default)]
    deny: Pairs<Vec<String>>,
    #[serde(default)]
    response: Response,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Response {
    #[serde(default)]
    set: Pairs<String>,
    #[serde(default)]
    remove: Vec<String>,
}

/// The members of a JSON object, none lost: a map would silently keep only the last of two that have the same name.
struct Pairs<T>(Vec<(String, T)>);

impl<T> Default for Pairs<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Pairs<T> {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        source.deserialize_map(Members(PhantomData))
    }
}

struct Members<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for Members<T> {
    type Value = Pairs<T>;

    fn expecting(&self, out: &mut fmt::Formatter) -> fmt::Result {
        out.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Pairs<T>, A::Error> {
        let mut pairs = Vec::new();
        while let Some(pair) = members.next_entry()? {
            pairs.push(pair);
        }
        Ok(Pairs(pairs))
    }
}

// The host would not let a plugin touch these; better to hear it when the configuration is read.
const FRAMING: [&str; 8] =
    ["connection", "content-length", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"];
