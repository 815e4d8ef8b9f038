//! The description of what can be asked (`OpenAPI` 3.1), made from the table and from the types of the answers.

use super::endpoints::{ALL, Does, Endpoint};
use super::history::{Current, Demand, History, Shown};
use super::keys::Keys;
use super::orders::{Reloading, Replacing, RollingBack, ServerChange, Told};
use super::reply::Content;
use super::servers::Status;
use super::version::Version;
use crate::runtime::Right;
use schemars::{JsonSchema, SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value, json};

/// What a query may say: its name, its type (`null` if it is said by its name alone), its meaning.
const QUERIES: [(Does, &str, &str, &str); 4] = [
    (Does::Recent, "limit", "integer", "How many, the last ones."),
    (Does::Recent, "denied", "null", "Only refusals."),
    (Does::Recent, "request", "string", "All records of the request of that id."),
    (Does::Readyz, "verbose", "null", "Tell also what does not count."),
];

/// Makes a type's schema.
type Schema = fn(&mut SchemaGenerator) -> Value;

/// What goes along with a change.
const BODIES: [(Does, Schema); 4] = [
    (Does::Server, schema::<ServerChange>),
    (Does::Reload, schema::<Reloading>),
    (Does::RollBack, schema::<RollingBack>),
    (Does::Upgrade, schema::<Replacing>),
];

/// How it can fail, beside who asks.
const FAULTS: [(Does, &str, &str); 11] = [
    (Does::Readyz, "503", "It should get none, and why."),
    (Does::Generation, "400", "No number."),
    (Does::Generation, "404", "It is not remembered, or none are."),
    (Does::Server, "400", "Nothing that can be done."),
    (Does::Server, "404", "There is no such server."),
    (Does::Reload, "400", "The body is not as expected."),
    (Does::Reload, "503", "The process ends, or has too many changes to make."),
    (Does::RollBack, "400", "The body is not as expected."),
    (Does::RollBack, "503", "The process ends, or has too many changes to make."),
    (Does::Upgrade, "400", "The body is not as expected."),
    (Does::Upgrade, "503", "The process ends, or has too many changes to make."),
];

/// The document.
#[must_use]
pub fn openapi() -> Value {
    let mut settings = SchemaSettings::draft2020_12();
    settings.definitions_path = "/components/schemas".into();
    settings.meta_schema = None;
    let mut schemas = settings.into_generator();
    let mut paths = Map::new();
    for endpoint in &ALL {
        let method = endpoint.method.as_str().to_ascii_lowercase();
        let path = paths.entry(endpoint.path).or_insert_with(|| json!({}));
        if let Some(path) = path.as_object_mut() {
            path.insert(method, operation(endpoint, &mut schemas));
        }
    }
    let mut told = json!({
        "openapi": "3.1.1",
        "info": {
            "title": "Belay's admin API",
            "version": env!("CARGO_PKG_VERSION"),
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
            "description": "Answered at the socket `admin.socket`, to users of the system that the config names \
                (`admin.read`, `admin.change`), root, and the process's own user. What needs no right is answered at \
                the address `admin.http`, too. Every change is recorded in the audit log with who wanted it.",
        },
        "servers": [{ "url": "http://localhost", "description": "curl --unix-socket admin.sock http://localhost/status" }],
        "paths": paths,
        "components": { "schemas": schemas.take_definitions(true) },
    });
    // The same in every build: parts that are left out of some decide how maps are kept.
    told.sort_all_objects();
    told
}

fn operation(endpoint: &Endpoint, schemas: &mut SchemaGenerator) -> Value {
    let does = endpoint.does;
    let names = endpoint.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let placed = names.map(|name| {
        json!({ "name": name, "in": "path", "required": true, "schema": word(name), "description": about_word(name) })
    });
    let asked = QUERIES.iter().filter(|(known, ..)| *known == does).map(|(_, name, kind, about)| {
        json!({ "name": name, "in": "query", "allowEmptyValue": *kind == "null", "description": about,
            "schema": { "type": kind } })
    });
    let mut operation = json!({
        "operationId": format!("{does:?}"),
        "summary": endpoint.about,
        "responses": responses(endpoint, schemas),
    });
    let parameters: Vec<Value> = placed.chain(asked).collect();
    if let Some(operation) = operation.as_object_mut() {
        if !parameters.is_empty() {
            operation.insert("parameters".into(), parameters.into());
        }
        if let Some(right) = endpoint.needs {
            let right = if right == Right::Change { "change" } else { "read" };
            operation.insert("x-right".into(), right.into());
        }
        if let Some(body) = body(does, schemas) {
            let content = json!({ "application/json": { "schema": body } });
            operation.insert("requestBody".into(), json!({ "required": false, "content": content }));
        }
    }
    operation
}

fn word(name: &str) -> Value {
    match name {
        "generation" => json!({ "type": "integer", "minimum": 1 }),
        "act" => json!({ "type": "string",
            "pattern": "^(ready|drain|maint|weight=default|weight=([0-9]|[1-9][0-9]|1[0-9]{2}|2[0-4][0-9]|25[0-6]))$" }),
        _ => json!({ "type": "string" }),
    }
}

fn about_word(name: &str) -> &'static str {
    match name {
        "generation" => "Its number.",
        "pool" => "The pool's name.",
        "server" => "The server's name.",
        _ => "What is done: `ready`, `drain`, `maint`, `weight=0` to `weight=256`, `weight=default`.",
    }
}

fn body(does: Does, schemas: &mut SchemaGenerator) -> Option<Value> {
    let (_, schema) = BODIES.iter().find(|(known, _)| *known == does)?;
    Some(schema(schemas))
}

fn schema<T: JsonSchema>(schemas: &mut SchemaGenerator) -> Value {
    schemas.subschema_for::<T>().into()
}

fn responses(endpoint: &Endpoint, schemas: &mut SchemaGenerator) -> Value {
    let does = endpoint.does;
    let (content, answer) = match does {
        Does::Metrics => (Content::Metrics, json!({ "type": "string" })),
        Does::Livez | Does::Readyz | Does::Startupz | Does::Server => (Content::Text, json!({ "type": "string" })),
        Does::OpenApi => (Content::Json, json!({ "type": "object" })),
        Does::Recent => (Content::Lines, json!({ "type": "string" })),
        Does::Status => (Content::Json, schema::<Status<'_>>(schemas)),
        Does::Keys => (Content::Json, schema::<Keys<'_>>(schemas)),
        Does::Version => (Content::Json, schema::<Version<'_>>(schemas)),
        Does::History => (Content::Json, schema::<History>(schemas)),
        Does::Generation => (Content::Json, schema::<Shown<'_>>(schemas)),
        Does::Approval => (Content::Json, schema::<Demand>(schemas)),
        Does::Config => (Content::Json, schema::<Current<'_>>(schemas)),
        Does::Reload | Does::RollBack | Does::Upgrade => (Content::Json, schema::<Told>(schemas)),
    };
    let told = |about: &str, content: Content, schema: &Value| {
        let media_type = content.media_type();
        json!({ "description": about, "content": { media_type: { "schema": schema } } })
    };
    let why = |about: &str| told(about, Content::Text, &json!({ "type": "string" }));
    let mut responses = Map::from_iter([("200".to_owned(), told("Done.", content, &answer))]);
    for (_, status, about) in FAULTS.iter().filter(|(known, ..)| *known == does) {
        responses.insert((*status).to_owned(), why(about));
    }
    if is_change_of_all(does) {
        responses.insert("422".to_owned(), told("Refused: all is as before.", content, &answer));
    }
    let (status, about) = match endpoint.needs {
        Some(_) => ("403", "The user may not."),
        None => ("421", "At the address: the host that was asked is neither `localhost` nor an IP address."),
    };
    responses.insert(status.to_owned(), why(about));
    responses.into()
}

fn is_change_of_all(does: Does) -> bool {
    [Does::Reload, Does::RollBack, Does::Upgrade].contains(&does)
}
