//! What two configs say differently, setting by setting.

use serde::Serialize;
use serde_json::Value;
use std::collections::{BTreeSet, HashMap};

/// A setting that is said differently.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Setting {
    /// Its place, for example `pools.orders.timeouts.connect`.
    pub place: String,
    /// What it was; none if it was not there.
    pub from: Option<Value>,
    /// What it is; none if it is not there any more.
    pub to: Option<Value>,
}

/// The keys by which entries of lists are known.
const NAMES: [&str; 2] = ["name", "kid"];

/// What differs between two documents, in the order of their places.
pub(super) fn compare(from: &Value, to: &Value) -> Vec<Setting> {
    let mut settings = Vec::new();
    visit(String::new(), (Some(from), Some(to)), &mut settings);
    settings
}

fn visit(place: String, (from, to): (Option<&Value>, Option<&Value>), settings: &mut Vec<Setting>) {
    if from == to {
        return;
    }
    if let (Some(Value::Object(old)), Some(Value::Object(new))) = (from, to) {
        let mut keys: Vec<_> = old.keys().chain(new.keys()).collect();
        keys.sort();
        keys.dedup();
        let dot = if place.is_empty() { "" } else { "." };
        return keys
            .into_iter()
            .for_each(|key| visit(format!("{place}{dot}{key}"), (old.get(key), new.get(key)), settings));
    }
    if let (Some(old), Some(new)) = (from.and_then(named), to.and_then(named)) {
        let names: BTreeSet<_> = old.keys().chain(new.keys()).collect();
        for name in names {
            let (old, new) = (old.get(name).copied(), new.get(name).copied());
            visit(format!("{place}[{name}]"), (old, new), settings);
        }
        return;
    }
    settings.push(Setting { place, from: from.cloned(), to: to.cloned() });
}

/// The entries of a list that are known by names.
fn named(value: &Value) -> Option<HashMap<&str, &Value>> {
    let with_name = |entry| NAMES.iter().find_map(|key| Value::get(entry, key)?.as_str()).map(|name| (name, entry));
    let entries = value.as_array().filter(|entries| !entries.is_empty())?;
    entries.iter().map(with_name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use test_case::test_case;

    #[test_case(json!({ "a": 1 }), json!({ "a": 1 }), &[]; "the same")]
    #[test_case(json!({ "a": { "b": 1 } }), json!({ "a": { "b": 2 } }), &["a.b"]; "another value")]
    #[test_case(json!({ "a": { "b": 1 } }), json!({ "a": {} }), &["a.b"]; "gone")]
    #[test_case(json!({ "s": [{ "name": "x", "w": 1 }] }), json!({ "s": [{ "name": "y" }, { "name": "x", "w": 2 }] }), &["s[x].w", "s[y]"]; "by name")]
    #[test_case(json!({ "k": [{ "kid": "x" }] }), json!({ "k": [] }), &["k"]; "an empty list has no names")]
    #[test_case(json!({ "l": ["a"] }), json!({ "l": ["a", "b"] }), &["l"]; "a list of words")]
    fn differs(from: Value, to: Value, expected: &[&str]) {
        let places: Vec<_> = compare(&from, &to).into_iter().map(|setting| setting.place).collect();
        assert_eq!(places, expected);
    }
}
