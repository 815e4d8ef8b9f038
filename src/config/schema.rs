//! The schema of a config: made from the types and the filters, and used for the check, the reference and editors.

use super::document::{Document, Server};
use super::filter::FilterKind;
use schemars::{JsonSchema, Schema, generate::SchemaSettings, transform::Transform};
use serde_json::{Map, Value, json};

/// The JSON Schema (draft 2020-12) of a config with these filters.
#[must_use]
pub fn schema(filters: &[&dyn FilterKind]) -> Schema {
    let settings = SchemaSettings::draft2020_12().with_transform(WithoutNull);
    let mut schema = settings.into_generator().into_root_schema_for::<Document>();
    let mut definitions = Map::new();
    let mut kinds = Map::new();
    for kind in filters {
        let name = title_of(kind.name());
        let mut settings = without_null(kind.schema());
        if let Some(Value::Object(inner)) = settings.remove("$defs") {
            definitions.extend(inner);
        }
        let what = settings.get("description").cloned().unwrap_or_default();
        kinds.insert(kind.name().into(), json!({ "$ref": format!("#/$defs/{name}"), "description": what }));
        definitions.insert(name, Value::Object(settings));
    }
    let filter = json!({
        "description": "A filter: one key that names it, and its settings.",
        "type": "object",
        "properties": kinds,
        "additionalProperties": false,
        "minProperties": 1,
        "maxProperties": 1,
    });
    definitions.insert("Filter".into(), filter);
    if let Some(known) = schema.get_mut("$defs").and_then(Value::as_object_mut) {
        known.extend(definitions);
    }
    schema.insert("title".into(), "Belay's config".into());
    sorted(schema)
}

/// What the settings of a filter are called: `BodyLimit` for `body_limit`.
fn title_of(kind: &str) -> String {
    let word = |word: &str| word.get(..1).unwrap_or_default().to_uppercase() + word.get(1..).unwrap_or_default();
    kind.split('_').map(word).collect()
}

fn without_null(mut schema: Schema) -> Map<String, Value> {
    WithoutNull.transform(&mut schema);
    schema.as_object().cloned().unwrap_or_default()
}

/// The same in every build: parts that are left out of some decide how maps are kept.
fn sorted(schema: Schema) -> Schema {
    let mut value = schema.to_value();
    value.sort_all_objects();
    value.try_into().unwrap_or_default()
}

/// The same of a file of servers.
pub(super) fn servers() -> Schema {
    let settings = SchemaSettings::draft2020_12().with_transform(WithoutNull);
    let mut schema = settings.into_generator().into_root_schema_for::<Vec<Server>>();
    schema.insert("maxItems".into(), json!(1000));
    sorted(schema)
}

/// The same of a file of another kind.
pub(super) fn of<T: JsonSchema>() -> Schema {
    sorted(SchemaSettings::draft2020_12().with_transform(WithoutNull).into_generator().into_root_schema_for::<T>())
}

/// An optional key may be left out; `null` says nothing and is refused.
#[derive(Debug, Clone)]
struct WithoutNull;

impl Transform for WithoutNull {
    fn transform(&mut self, schema: &mut Schema) {
        if let Some(object) = schema.as_object_mut() {
            drop_null_type(object);
            drop_null_branch(object);
        }
        schemars::transform::transform_subschemas(self, schema);
    }
}

fn drop_null_type(object: &mut Map<String, Value>) {
    if let Some(Value::Array(types)) = object.get_mut("type") {
        types.retain(|name| name != "null");
        if let [only] = types.as_slice() {
            let only = only.clone();
            object.insert("type".into(), only);
        }
    }
}

fn drop_null_branch(object: &mut Map<String, Value>) {
    if let Some(Value::Array(branches)) = object.get_mut("anyOf") {
        branches.retain(|branch| branch.get("type").is_none_or(|name| name != "null"));
        if let [Value::Object(only)] = branches.as_slice() {
            let only = only.clone();
            object.remove("anyOf");
            object.extend(only);
        }
    }
}
