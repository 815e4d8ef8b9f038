//! The reference: every key of the config as Markdown, made from the schema.

use schemars::Schema;
use serde_json::{Map, Value as Json};
use std::fmt::Write;

type Object = Map<String, Json>;

/// The keys of a config, one table a map.
#[must_use]
pub fn reference(schema: &Schema) -> String {
    let empty = Object::new();
    let definitions = schema.get("$defs").and_then(Json::as_object).unwrap_or(&empty);
    let mut book = Book { definitions, text: String::new(), written: Vec::new() };
    if let Some(root) = schema.as_object() {
        book.section("The config", root);
    }
    book.text
}

struct Book<'a> {
    definitions: &'a Object,
    text: String,
    written: Vec<&'a str>,
}

impl<'a> Book<'a> {
    fn section(&mut self, title: &str, schema: &'a Object) {
        let Some(keys) = schema.get("properties").and_then(Json::as_object) else { return };
        let about = description(schema);
        // Writing to a String cannot fail.
        let head = "| key | value | default | meaning |\n|---|---|---|---|";
        writeln!(self.text, "## {title}\n\n{about}\n\n{head}").ok();
        let required: Vec<_> = schema.get("required").and_then(Json::as_array).into_iter().flatten().collect();
        for (key, value) in keys {
            let must = required.iter().any(|name| *name == key);
            let default = if must { "**needed**".to_owned() } else { default(value) };
            let row = format!("| `{key}` | {} | {default} | {} |", self.kind(value), self.meaning(value));
            writeln!(self.text, "{}", row.replace('\n', " ")).ok();
        }
        self.text.push('\n');
        for value in keys.values() {
            self.follow(value);
        }
    }

    /// Writes the sections of the maps that a value consists of, once each.
    fn follow(&mut self, value: &'a Json) {
        if let Some(name) = reference_name(value) {
            if let (false, Some(Json::Object(schema))) = (self.written.contains(&name), self.definitions.get(name)) {
                self.written.push(name);
                self.section(name, schema);
            }
            return;
        }
        for inner in ["items", "additionalProperties"].into_iter().filter_map(|word| value.get(word)) {
            self.follow(inner);
        }
        if value.get("type").is_some_and(|kind| kind == "object") {
            let properties = value.get("properties").and_then(Json::as_object);
            properties.into_iter().flat_map(Map::values).for_each(|inner| self.follow(inner));
        }
    }

    fn kind(&self, value: &Json) -> String {
        if let Some(name) = reference_name(value) {
            let definition = self.definitions.get(name);
            return match definition.and_then(words) {
                Some(words) => words,
                None => format!("[{name}](#{})", name.to_lowercase()),
            };
        }
        if let Some(words) = words(value) {
            return words;
        }
        match value.get("type").and_then(Json::as_str) {
            Some("array") => {
                format!("list of {}", value.get("items").map_or_else(String::new, |items| self.kind(items)))
            }
            Some("object") => match value.get("additionalProperties") {
                Some(named) if named.is_object() => format!("map from a name to {}", self.kind(named)),
                Some(_) | None => "map".into(),
            },
            Some("string") => value.get("pattern").and_then(Json::as_str).map_or("text", amount).into(),
            Some("integer") => range(value),
            Some(other) => other.into(),
            None => String::new(),
        }
    }

    fn meaning(&self, value: &Json) -> String {
        let own = value.as_object().map_or_else(String::new, description);
        let of_words =
            reference_name(value).and_then(|name| self.definitions.get(name)).map_or_else(String::new, explained);
        [own, of_words].into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>().join(" ")
    }
}

fn reference_name(value: &Json) -> Option<&str> {
    value.get("$ref").and_then(Json::as_str).and_then(|path| path.strip_prefix("#/$defs/"))
}

fn description(schema: &Object) -> String {
    schema.get("description").and_then(Json::as_str).unwrap_or_default().replace('\n', " ").replace('|', "\\|")
}

fn branches(value: &Json) -> impl Iterator<Item = &Json> {
    ["oneOf", "anyOf"].into_iter().filter_map(|word| value.get(word)?.as_array()).flatten()
}

/// What an amount with a unit is of.
fn amount(pattern: &str) -> &'static str {
    match pattern {
        pattern if pattern.ends_with("/s$") => "size each second",
        pattern if pattern.contains("KiB") => "size",
        pattern if pattern.contains('%') => "share",
        _ => "time",
    }
}

/// The words that a value may be.
fn words(value: &Json) -> Option<String> {
    let quoted = |word: &str| format!("`{word}`");
    let listed = value.get("enum").and_then(Json::as_array).into_iter().flatten().filter_map(Json::as_str).map(quoted);
    let single = value.get("const").and_then(Json::as_str).map(quoted);
    let is_text =
        |branch: &Json| branch.get("const").is_none() && branch.get("type").is_some_and(|kind| kind == "string");
    let items = if branches(value).any(is_text) { "texts" } else { "names" };
    let of_branches = branches(value).map(|branch| match words(branch) {
        Some(words) => words,
        None if is_text(branch) => "text".into(),
        None => format!("list of {items}"),
    });
    let all: Vec<_> = listed.chain(single).chain(of_branches).collect();
    (!all.is_empty()).then(|| all.join(" or "))
}

/// What each word means.
fn explained(value: &Json) -> String {
    let word = |branch: &Json| {
        let word = branch.get("const")?.as_str()?;
        Some(format!("`{word}`: {}", branch.as_object().map(description)?))
    };
    branches(value).filter_map(word).collect::<Vec<_>>().join(" ")
}

fn default(value: &Json) -> String {
    match value.get("default") {
        Some(Json::String(text)) => format!("`{text}`"),
        Some(number @ Json::Number(_)) => format!("`{number}`"),
        Some(_) | None => String::new(),
    }
}

fn range(value: &Json) -> String {
    match (value.get("minimum"), value.get("maximum")) {
        (Some(min), Some(max)) if min == max => format!("`{min}`"),
        (Some(min), Some(max)) => format!("{min} to {max}"),
        (_, _) => "whole number".into(),
    }
}
