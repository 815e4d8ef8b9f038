//! The types of everything that rules can speak of, as Cedar reads them.

use super::super::words::{Declared, Type, Words};
use std::fmt::Write;

/// Methods that only look.
pub(super) const READ: [&str; 3] = ["GET", "HEAD", "OPTIONS"];
/// Methods that may change something. The last stands for all that have no name here.
pub(super) const WRITE: [&str; 5] = ["POST", "PUT", "PATCH", "DELETE", "OTHER"];

/// The schema (<https://docs.cedarpolicy.com/schema/human-readable-schema.html>).
pub(super) fn text(words: &Words) -> String {
    let mut text = String::from(
        "// What a route takes, and its groups.\n\
         entity RouteGroup;\n\
         entity Route in [RouteGroup];\n\
         // Who asks: a workload, perhaps with a user who comes through it.\n\
         entity Role;\n\
         entity Workload;\n",
    );
    let (claims, facts) = (record(&words.claims), record(&words.facts));
    // Writing to a String cannot fail.
    writeln!(text, "entity Caller in [Workload, Role] = {{ user?: String, people?: String, claims: {claims} }};").ok();
    writeln!(
        text,
        "type Context = {{ path: String, host: String, client?: ipaddr, tls?: String, mfa: Bool, time: datetime, \
         hour: Long, weekday: Long, facts: {facts} }};"
    )
    .ok();
    text.push_str("action \"read\", \"write\";\n");
    for (group, methods) in [("read", READ.as_slice()), ("write", WRITE.as_slice())] {
        let methods: Vec<_> = methods.iter().map(|method| format!("{method:?}")).collect();
        let methods = methods.join(", ");
        writeln!(
            text,
            "action {methods} in [\"{group}\"] appliesTo {{ principal: Caller, resource: Route, context: Context }};"
        )
        .ok();
    }
    text
}

fn record(declared: &[Declared]) -> String {
    let attribute = |it: &Declared| {
        let is = match it.is {
            Type::Text => "String",
            Type::Texts => "Set<String>",
            Type::Number => "Long",
            Type::Truth => "Bool",
        };
        format!("{:?}?: {is}", it.name)
    };
    let attributes: Vec<_> = declared.iter().map(attribute).collect();
    if attributes.is_empty() { "{}".into() } else { format!("{{ {} }}", attributes.join(", ")) }
}
