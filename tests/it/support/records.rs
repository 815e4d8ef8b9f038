//! Audit records, none of which is read here without a look at its schema.

use serde_json::Value;
use std::sync::LazyLock;

static SCHEMA: LazyLock<jsonschema::Validator> = LazyLock::new(|| {
    let schema = std::fs::read_to_string("docs/audit.schema.json").unwrap();
    jsonschema::draft202012::new(&serde_json::from_str(&schema).unwrap()).unwrap()
});

/// A line of the audit log, which is as its schema says.
pub fn record(line: &str) -> Value {
    let record: Value = serde_json::from_str(line).unwrap_or_else(|fault| panic!("{fault}: {line}"));
    let faults: Vec<_> =
        SCHEMA.iter_errors(&record).map(|fault| format!("{fault} at {}", fault.instance_path())).collect();
    assert!(faults.is_empty(), "{faults:#?}\n{line}");
    record
}
