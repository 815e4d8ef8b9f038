#![expect(clippy::unwrap_used, reason = "a failing test may panic")]
//! Checks that no compiler or linter makes: layers between modules, where Pingora, tokio and the environment are named,
//! file sizes, and that the architecture's picture is true. Std only, so it runs in milliseconds.

use std::{fs, path::Path};

/// Lowest layer first. A module may name modules of lower rows only; modules in one row do not know each other.
const LAYERS: &[&[&str]] = &[
    &["clock", "drain", "event_loop", "secret", "name", "network", "refusal", "hangup", "generation", "uses"],
    &["principal", "verdict", "request", "slots", "room", "pins"],
    &["identity", "route", "balance", "resilience", "limit", "metrics"],
    &["policy", "audit"],
    &["config"],
    &["tls", "keys", "upstream", "journal", "provider"],
    &["filter", "insight"],
    &["runtime"],
    &["proxy", "admin", "origin"],
    &["server"],
    &["cli"],
];
const FILE_LINES_MAX: usize = 600;
/// Whether a module may use a word.
type Allowed = fn(&str) -> bool;
/// Words that only some modules may use.
const RESERVED: &[(&str, Allowed)] = &[
    ("pingora::", may_name_pingora),
    ("pingora_", may_name_pingora),
    ("tokio::", |module| ["drain", "event_loop"].contains(&module) || rank(module).is_none_or(|rank| rank > 4)),
    ("serde_yaml", |module| module == "config"),
    ("serde_saphyr", |module| module == "config"),
    ("env::var", |module| module == "cli"),
    ("env::current_exe", |module| module == "cli"),
    ("env::temp_dir", |module| module == "cli"),
];

fn may_name_pingora(module: &str) -> bool {
    ["tls", "upstream", "proxy", "admin", "origin", "server"].contains(&module)
}

#[test]
fn tidy() {
    let mut faults = Vec::new();
    visit(Path::new("src"), &mut |path, text| {
        let module = module_of(path);
        let code = before_tests(text);
        if rank(&module).is_none() && module != "lib" && module != "main" {
            faults.push(format!("{}: {module} has no row in LAYERS", path.display()));
        }
        if code.lines().count() > FILE_LINES_MAX {
            faults.push(format!("{}: over {FILE_LINES_MAX} lines before its tests", path.display()));
        }
        for (number, line) in code.lines().enumerate() {
            let place = format!("{}:{}", path.display(), number + 1);
            faults.extend(line_faults(path, &module, line).into_iter().map(|fault| format!("{place}: {fault}")));
        }
    });
    assert!(faults.is_empty(), "untidy:\n{}", faults.join("\n"));
}

#[test]
fn every_module_of_a_row_exists() {
    for module in LAYERS.iter().flat_map(|row| row.iter()) {
        let (file, folder) = (format!("src/{module}.rs"), format!("src/{module}/mod.rs"));
        assert!(Path::new(&file).is_file() || Path::new(&folder).is_file(), "{module} is a row's word and no module");
    }
}

#[test]
fn the_picture_of_the_layers_is_true() {
    let text = fs::read_to_string("docs/architecture.md").unwrap();
    let drawn = text.split_once("```layers\n").and_then(|(_, rest)| rest.split_once("```")).unwrap().0;
    let rows: Vec<_> = LAYERS.iter().rev().map(|row| row.join(" ")).collect();
    assert_eq!(drawn.trim(), rows.join("\n"));
}

/// The checks themselves: what must be found, and what must not.
#[test]
fn tidy_finds_what_it_should() {
    let cases = [
        ("src/identity/mod.rs", "identity", "use crate::policy::Permit;", 1),
        ("src/identity/mod.rs", "identity", "use crate::refusal::Refusal;", 0),
        ("src/identity/mod.rs", "identity", "use crate::route::Table;", 1),
        ("src/config/mod.rs", "config", "use crate::{name, clock};", 1),
        ("src/config/mod.rs", "config", "let x = tokio::spawn(y);", 1),
        ("src/config/mod.rs", "config", "// crate::cli is told", 0),
        ("src/config/mod.rs", "config", "use crate::*;", 1),
        ("src/config.rs", "config", "use super::cli;", 1),
        ("src/config/mod.rs", "config", "use super::cli;", 1),
        ("src/config/node.rs", "config", "use super::fault;", 0),
        ("src/filter/mod.rs", "filter", "use pingora::http;", 1),
        ("src/proxy/mod.rs", "proxy", "use pingora::http;", 0),
        ("src/runtime/mod.rs", "runtime", "std::env::var(\"X\")", 1),
    ];
    for (path, module, line, expected) in cases {
        let found = line_faults(Path::new(path), module, line);
        assert_eq!(found.len(), expected, "{path}: {line}: {found:?}");
    }
}

fn line_faults(path: &Path, module: &str, line: &str) -> Vec<String> {
    let code = line.split("//").next().unwrap_or_default();
    let upward = code.split("crate::").skip(1).map(first_word).filter(|target| !may_know(module, target));
    let mut faults: Vec<_> = upward.map(|target| format!("{module} must not know {target}")).collect();
    if code.contains("use crate::{") {
        faults.push("one `use crate::module` per line".to_owned());
    }
    if code.contains("crate::*") {
        faults.push("name what is used".to_owned());
    }
    let is_root = path.parent().is_some_and(|folder| folder == Path::new("src")) || path.ends_with("mod.rs");
    let is_module = path.iter().count() <= 3;
    if is_root && is_module && code.trim_start().starts_with("use super::") {
        faults.push("a module at the root names others by `crate::`".to_owned());
    }
    let reserved = RESERVED.iter().filter(|(word, allowed)| code.contains(word) && !allowed(module));
    faults.extend(reserved.map(|(word, _)| format!("{module} must not name {word}")));
    faults
}

fn may_know(from: &str, to: &str) -> bool {
    match (rank(from), rank(to)) {
        (Some(from_rank), Some(to_rank)) => from == to || to_rank < from_rank,
        _ => from == "lib" || from == "main" || rank(to).is_none(),
    }
}

fn rank(module: &str) -> Option<usize> {
    LAYERS.iter().position(|row| row.contains(&module))
}

fn module_of(path: &Path) -> String {
    let inside = path.strip_prefix("src").unwrap_or(path);
    let first = inside.iter().next().unwrap_or_default().to_string_lossy();
    first.trim_end_matches(".rs").to_owned()
}

fn first_word(rest: &str) -> &str {
    let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
    &rest[..end]
}

fn before_tests(text: &str) -> &str {
    &text[..text.find("#[cfg(test)]\nmod ").unwrap_or(text.len())]
}

fn visit(dir: &Path, each: &mut dyn FnMut(&Path, &str)) {
    let mut entries: Vec<_> = fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            visit(&path, each);
        } else if path.extension().is_some_and(|e| e == "rs") && !path.ends_with("tests.rs") {
            each(&path, &fs::read_to_string(&path).unwrap());
        }
    }
}
