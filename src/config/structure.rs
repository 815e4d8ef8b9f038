//! Compares a tree with the schema and reports every difference: unknown keys, missing ones, and values of other kinds.
//!
//! It understands what our schemas use and no more; a word of a schema that it does not know is left to the types.

use super::fault::Fault;
use super::node::{Node, Place, Value};
use schemars::Schema;
use serde_json::{Map, Value as Json};

/// Words of the design that no code enforces yet. They are refused like unknown ones, but said to be known.
const NOT_YET: &[&str] = &["checkpoints", "defaults", "durability", "include", "keep", "limit", "on_failure"];

type Object = Map<String, Json>;

/// Reports every difference between the tree and the schema.
pub(super) fn compare(root: &Node, schema: &Schema, faults: &mut Vec<Fault>) {
    let definitions = schema.get("$defs").and_then(Json::as_object);
    let walk = Walk { definitions };
    if let Some(schema) = schema.as_object() {
        walk.compare(root, schema, &Place::root(), faults);
    }
}

struct Walk<'a> {
    definitions: Option<&'a Object>,
}

impl<'a> Walk<'a> {
    fn compare(&self, node: &Node, schema: &'a Object, place: &Place, faults: &mut Vec<Fault>) {
        let schema = self.resolve(schema);
        if let Some(branches) = branches(schema) {
            return self.compare_any(node, &self.flat(branches), place, faults);
        }
        if let Some(wanted) = schema.get("type").and_then(Json::as_str).filter(|wanted| !fits(node, wanted)) {
            let written = node.value.kind();
            let fault = Fault::new(place, format!("this is {written}, and {} is expected", kind_name(wanted)));
            faults.push(with_example(fault, schema));
            return;
        }
        if let (Some(words), false) = (words(schema), matches!(node.value, Value::Text(_))) {
            let fault = Fault::new(place, format!("this is {}, and a word is expected", node.value.kind()));
            faults.push(fault.hint(format!("one of {}", words.join(", "))));
            return;
        }
        match &node.value {
            Value::Map(_) => self.compare_map(node, schema, place, faults),
            Value::List(items) => self.compare_list(items, schema, place, faults),
            Value::Integer(number) => faults.extend(outside(*number, schema, place)),
            Value::Text(text) => faults.extend(not_the_word(text, schema, place)),
            Value::Null | Value::Bool(_) | Value::Float(_) => {}
        }
    }

    fn compare_map(&self, node: &Node, schema: &'a Object, place: &Place, faults: &mut Vec<Fault>) {
        let known = schema.get("properties").and_then(Json::as_object);
        let others = schema.get("additionalProperties");
        for (key, value) in node.entries() {
            let place = place.key(&key.value);
            match (known.and_then(|known| known.get(&key.value)).and_then(Json::as_object), others) {
                (Some(schema), _) => self.compare(value, schema, &place, faults),
                (None, Some(Json::Object(schema))) => self.compare(value, schema, &place, faults),
                // Whatever somebody's token says.
                (None, Some(Json::Bool(true))) => {}
                (None, _) => faults.push(unknown(&key.value, &place, known)),
            }
        }
        let required = schema.get("required").and_then(Json::as_array).into_iter().flatten().filter_map(Json::as_str);
        for missing in required.filter(|key| node.get(key).is_none()) {
            faults.push(Fault::new(place, format!("`{missing}` is missing")).at_key());
        }
        faults.extend(wrong_count(node.entries().len(), schema, ["minProperties", "maxProperties"], place));
    }

    fn compare_list(&self, items: &[Node], schema: &'a Object, place: &Place, faults: &mut Vec<Fault>) {
        if let Some(schema) = schema.get("items").and_then(Json::as_object) {
            for (index, item) in items.iter().enumerate() {
                self.compare(item, schema, &place.index(index), faults);
            }
        }
        faults.extend(wrong_count(items.len(), schema, ["minItems", "maxItems"], place));
    }

    /// Fits one branch, or is told what the branch of its own kind says, or what all branches are.
    fn compare_any(&self, node: &Node, branches: &[&'a Object], place: &Place, faults: &mut Vec<Fault>) {
        let mut own_kind = None;
        for branch in branches {
            let mut found = Vec::new();
            self.compare(node, branch, place, &mut found);
            if found.is_empty() {
                return;
            }
            let is_word = branch.contains_key("const");
            let same_kind =
                !is_word && branch.get("type").and_then(Json::as_str).is_some_and(|wanted| fits(node, wanted));
            own_kind = own_kind.or_else(|| same_kind.then_some(found));
        }
        let names: Vec<_> = branches.iter().filter_map(|branch| branch.get("const").and_then(Json::as_str)).collect();
        let kinds = branches.iter().filter(|branch| !branch.contains_key("const"));
        let kinds = kinds.filter_map(|branch| branch.get("type").and_then(Json::as_str).map(kind_name));
        let expected = names.iter().map(|name| format!("`{name}`")).chain(kinds.map(str::to_owned));
        let expected = expected.collect::<Vec<_>>().join(" or ");
        let fallback = || {
            let written =
                if let Value::Text(text) = &node.value { format!("`{text}`") } else { node.value.kind().into() };
            let fault = Fault::new(place, format!("this is {written}, and {expected} is expected"));
            vec![if let Value::Text(text) = &node.value {
                fault.did_you_mean(text, names.iter().copied())
            } else {
                fault
            }]
        };
        faults.extend(own_kind.unwrap_or_else(fallback));
    }

    /// The branches themselves, where some of them have branches of their own.
    fn flat(&self, branches: Vec<&'a Object>) -> Vec<&'a Object> {
        let flat = |branch: &'a Object| {
            let branch = self.resolve(branch);
            self::branches(branch).map_or_else(|| vec![branch], |inner| self.flat(inner))
        };
        branches.into_iter().flat_map(flat).collect()
    }

    fn resolve(&self, schema: &'a Object) -> &'a Object {
        let name = schema.get("$ref").and_then(Json::as_str).and_then(|path| path.strip_prefix("#/$defs/"));
        let found = name.and_then(|name| self.definitions?.get(name)?.as_object());
        found.unwrap_or(schema)
    }
}

fn branches(schema: &Object) -> Option<Vec<&Object>> {
    let branches = schema.get("anyOf").or_else(|| schema.get("oneOf"))?.as_array()?;
    Some(branches.iter().filter_map(Json::as_object).collect())
}

fn fits(node: &Node, wanted: &str) -> bool {
    match &node.value {
        Value::Null => wanted == "null",
        Value::Bool(_) => wanted == "boolean",
        Value::Integer(_) => wanted == "integer" || wanted == "number",
        Value::Float(_) => wanted == "number",
        Value::Text(_) => wanted == "string",
        Value::List(_) => wanted == "array",
        Value::Map(_) => wanted == "object",
    }
}

fn kind_name(wanted: &str) -> &str {
    match wanted {
        "object" => "a map",
        "array" => "a list",
        "string" => "a text",
        "integer" => "a whole number",
        "boolean" => "true or false",
        other => other,
    }
}

fn with_example(fault: Fault, schema: &Object) -> Fault {
    match schema.get("default") {
        Some(example @ (Json::String(_) | Json::Number(_) | Json::Bool(_))) => {
            fault.hint(format!("for example {example}"))
        }
        Some(_) | None if schema.get("pattern").is_some() => fault.hint("for example 30s"),
        Some(_) | None => fault,
    }
}

fn unknown(key: &str, place: &Place, known: Option<&Object>) -> Fault {
    if NOT_YET.contains(&key) {
        let message = format!("`{key}` is not implemented yet, so nothing would enforce it");
        return Fault::new(place, message).at_key().hint("leave it out");
    }
    let words: Vec<_> = known.into_iter().flat_map(Map::keys).map(String::as_str).collect();
    let fault = Fault::new(place, format!("there is no key `{key}` here")).at_key();
    let fault = if words.is_empty() { fault } else { fault.hint(format!("the keys here are {}", words.join(", "))) };
    fault.did_you_mean(key, words)
}

fn wrong_count(count: usize, schema: &Object, words: [&str; 2], place: &Place) -> Option<Fault> {
    let bound = |word| schema.get(word).and_then(Json::as_u64).and_then(|bound| usize::try_from(bound).ok());
    let [min, max] = words.map(bound);
    match (min, max) {
        (Some(min), _) if count < min => Some(Fault::new(place, format!("at least {min} is needed here"))),
        (_, Some(max)) if count > max => Some(Fault::new(place, format!("at most {max} may stand here"))),
        (_, _) => None,
    }
}

fn outside(number: i64, schema: &Object, place: &Place) -> Option<Fault> {
    let bound = |word| schema.get(word).and_then(Json::as_i64);
    let (min, max) = (bound("minimum").unwrap_or(i64::MIN), bound("maximum").unwrap_or(i64::MAX));
    let fault = || Fault::new(place, format!("{number} is out of range")).hint(format!("from {min} to {max}"));
    (!(min..=max).contains(&number)).then(fault)
}

/// The words that a schema lists, if it does.
fn words(schema: &Object) -> Option<Vec<&str>> {
    let single = schema.get("const").and_then(Json::as_str);
    let several = schema.get("enum").and_then(Json::as_array).into_iter().flatten().filter_map(Json::as_str);
    let words: Vec<_> = single.into_iter().chain(several).collect();
    (!words.is_empty()).then_some(words)
}

fn not_the_word(text: &str, schema: &Object, place: &Place) -> Option<Fault> {
    let empty = text.is_empty() && schema.get("minLength").is_some();
    if empty {
        return Some(Fault::new(place, "this must not be empty"));
    }
    let words = words(schema).filter(|words| !words.contains(&text))?;
    let fault =
        Fault::new(place, format!("`{text}` is not possible here")).hint(format!("one of {}", words.join(", ")));
    Some(fault.did_you_mean(text, words.iter().copied()))
}
