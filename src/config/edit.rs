//! Changes a workload's keys in a config's text as a hand would: everything else stays, comments, too.
//!
//! A place for the change is guessed from where things stand, and it counts only if the text then says just what it
//! should: what cannot be changed so is not changed at all.

use super::document::{Document, Key, KeyState};
use super::node::{Node, Place, Span};

/// A change of a workload's keys.
#[derive(Debug, Clone)]
pub enum KeyEdit {
    /// There is one more.
    Add(Box<Key>),
    /// One has another state.
    State(String, KeyState),
}

/// Why a text is not changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the config cannot be changed by a program without touching something else")]
pub struct NotEdited;

/// The text with changes of a workload's keys.
///
/// # Errors
/// [`NotEdited`].
pub fn edit_keys(text: &str, workload: &str, edits: &[KeyEdit]) -> Result<String, NotEdited> {
    edits.iter().try_fold(text.to_owned(), |text, edit| edited(&text, workload, edit))
}

fn edited(text: &str, workload: &str, edit: &KeyEdit) -> Result<String, NotEdited> {
    let (root, before) = read(text).ok_or(NotEdited)?;
    let wanted = changed(before, workload, edit).ok_or(NotEdited)?;
    let keys = Place::root().key("workloads").key(workload).key("keys");
    let candidates = match edit {
        KeyEdit::Add(key) => with_key(text, &root, &keys, key),
        KeyEdit::State(kid, state) => with_state(text, &root, &keys, (kid, *state)),
    };
    let is_it = |text: &String| read(text).is_some_and(|(_, document)| document == wanted);
    candidates.unwrap_or_default().into_iter().find(is_it).ok_or(NotEdited)
}

fn read(text: &str) -> Option<(Node, Document)> {
    let root = Node::read(text).ok()?;
    let document = root.to::<Document>().ok()?;
    Some((root, document))
}

/// What the text is to say; the new key stands before the others.
fn changed(mut document: Document, workload: &str, edit: &KeyEdit) -> Option<Document> {
    let keys = &mut document.workloads.get_mut(workload)?.keys;
    match edit {
        KeyEdit::Add(key) => keys.insert(0, Key::clone(key)),
        KeyEdit::State(kid, state) => keys.iter_mut().find(|key| key.kid == *kid)?.state = *state,
    }
    Some(document)
}

/// A key more before the first, in one line.
fn with_key(text: &str, root: &Node, keys: &Place, key: &Key) -> Option<Vec<String>> {
    let first = offset(text, root.span(&keys.index(0), false)?)?;
    let (before, after) = text.split_at_checked(first)?;
    let written = line_of(key);
    let dash = before.rsplit('\n').next()?;
    Some(vec![format!("{before}{written}, {after}"), format!("{before}{written}\n{dash}{after}")])
}

/// A key as it stands in one line.
#[must_use]
pub fn line_of(key: &Key) -> String {
    let source = match (&key.key, &key.secret) {
        (Some(file), _) => format!(", key: {}", quoted(file)),
        (None, Some(file)) => format!(", secret: {}", quoted(file)),
        (None, None) => String::new(),
    };
    let created = key.created.as_ref().map(|day| format!(", created: {day}")).unwrap_or_default();
    let state = if key.state == KeyState::default() { String::new() } else { format!(", state: {}", key.state.word()) };
    // Some texts are numbers or words to YAML.
    let is_plain = key.kid.starts_with(|c: char| c.is_ascii_alphabetic()) && key.kid.contains(['-', '_']);
    let kid = if is_plain { key.kid.clone() } else { quoted(&key.kid) };
    format!("{{ kid: {kid}{source}{created}{state} }}")
}

fn quoted(text: &str) -> String {
    serde_json::to_string(text).unwrap_or_default()
}

/// Another word for the state, or one after the key's id.
fn with_state(text: &str, root: &Node, keys: &Place, (kid, state): (&str, KeyState)) -> Option<Vec<String>> {
    let entries = root.at(keys)?.items();
    let is_it = |entry: &Node| entry.get("kid").and_then(|kid| kid.to::<String>().ok()).as_deref() == Some(kid);
    let key = keys.index(entries.iter().position(is_it)?);
    let word = state.word();
    if let Some(span) = root.span(&key.key("state"), false).filter(|_| root.at(&key.key("state")).is_some()) {
        let (before, after) = text.split_at_checked(offset(text, span)?)?;
        let rest = after.get(scalar(after)..)?;
        return Some(vec![format!("{before}{word}{rest}")]);
    }
    let start = offset(text, root.span(&key.key("kid"), false)?)?;
    let end = start.checked_add(scalar(text.get(start..)?))?;
    let (before, after) = text.split_at_checked(end)?;
    let column = root.span(&key.key("kid"), true)?.column;
    let indent = " ".repeat(column.saturating_sub(1));
    Some(vec![format!("{before}, state: {word}{after}"), format!("{before}\n{indent}state: {word}{after}")])
}

/// Bytes of a scalar at the beginning of a text.
fn scalar(text: &str) -> usize {
    match text.chars().next() {
        Some(quote @ ('"' | '\'')) => {
            text.get(1..).and_then(|rest| rest.find(quote)).map_or(0, |at| at.saturating_add(2))
        }
        _ => text.find([',', '}', ']', '\n', '\r', ' ', '#']).unwrap_or(text.len()),
    }
}

/// Where a stretch begins, in bytes.
fn offset(text: &str, span: Span) -> Option<usize> {
    let line_start = match span.line.checked_sub(1)? {
        0 => 0,
        before => text.match_indices('\n').nth(before.saturating_sub(1))?.0.saturating_add(1),
    };
    let line = text.get(line_start..)?;
    let (within, _) = line.char_indices().nth(span.column.checked_sub(1)?)?;
    line_start.checked_add(within)
}

#[cfg(test)]
mod tests {
    use super::*;
    use test_case::test_case;

    const HEAD: &str = "version: 1\nlisteners: { edge: { bind: ['127.0.0.1:0'] } }\n";
    const TAIL: &str =
        "routes: [{ name: a, allow: public, pool: p }]\npools: { p: { servers: [] } }\naudit: { file: a }\n";

    fn config(workloads: &str) -> String {
        format!("{HEAD}# whom we know\nworkloads:\n{workloads}\n# behind them\n{TAIL}")
    }

    fn new() -> KeyEdit {
        KeyEdit::Add(Box::new(Key {
            kid: "c-2".into(),
            key: Some("file:c-2.pub".into()),
            secret: None,
            created: Some("2026-11-30".into()),
            state: KeyState::Next,
        }))
    }

    const FLOW: &str = "  c: { id: 'spiffe://a/c', keys: [{ kid: c-1, key: 'file:c.pub' }] } # ours";
    const LINES: &str = "  c:\n    id: spiffe://a/c\n    keys:\n      # old\n      - { kid: c-1, key: \"file:c.pub\" } # of May\n      - { kid: c-0, key: 'file:0.pub', state: revoked }\n";
    const BLOCK: &str = "  c:\n    id: spiffe://a/ü\n    keys:\n    - kid: \"c-1\" # of May\n      key: file:c.pub\n";
    const LATER: &str = "  c:\n    id: spiffe://a/c\n    keys:\n    -   key: file:c.pub\n        kid: c-1\n        created: 2026-01-01\n";

    #[test_case(FLOW; "flow")]
    #[test_case(LINES; "a line each")]
    #[test_case(BLOCK; "block")]
    #[test_case(LATER; "block, in another order")]
    fn a_key_comes_and_the_other_goes(workloads: &str) {
        let text = config(workloads);
        let retiring = KeyEdit::State("c-1".into(), KeyState::Retiring);
        let edited = edit_keys(&text, "c", &[new(), retiring, KeyEdit::State("c-2".into(), KeyState::Active)]).unwrap();
        let (_, document) = read(&edited).unwrap();
        let keys = &document.workloads["c"].keys;
        let states: Vec<_> = keys.iter().map(|key| (key.kid.as_str(), key.state)).collect();
        assert_eq!(states[..2], [("c-2", KeyState::Active), ("c-1", KeyState::Retiring)], "{edited}");
        // All comments are there, and no line that is not about it is another.
        assert_eq!(edited.matches('#').count(), text.matches('#').count());
        let others = |text: &str| {
            text.lines()
                .filter(|line| !line.contains("c-") && !line.contains("state"))
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        assert_eq!(others(&edited), others(&text));
        let gone = edit_keys(&edited, "c", &[KeyEdit::State("c-1".into(), KeyState::Revoked)]).unwrap();
        assert_eq!(gone, edited.replace("retiring", "revoked"));
    }

    #[test_case("  c: { id: 'spiffe://a/c', keys: [] }", new(); "none there")]
    #[test_case("  c: { id: 'spiffe://a/c' }", new(); "no list")]
    #[test_case(FLOW, KeyEdit::State("c-9".into(), KeyState::Active); "no such key")]
    #[test_case("  d: &k { id: 'spiffe://a/d', keys: [{ kid: d-1, key: 'file:d.pub' }] }\n  c: *k", new(); "an alias")]
    fn what_would_touch_something_else_is_not_done(workloads: &str, edit: KeyEdit) {
        assert_eq!(edit_keys(&config(workloads), "c", &[edit]), Err(NotEdited));
    }

    #[test]
    fn a_key_is_written_as_in_the_docs() {
        let KeyEdit::Add(key) = new() else { panic!() };
        assert_eq!(line_of(&key), "{ kid: c-2, key: \"file:c-2.pub\", created: 2026-11-30, state: next }");
        let of = |kid: &str| line_of(&Key { kid: kid.into(), ..Key::clone(&key) });
        assert!(["2026", "1e5", "true", "2026-11-30"].iter().all(|kid| of(kid).contains(&format!("kid: \"{kid}\""))));
    }
}
