//! The Worker's log beside ours: one line for each request that is in either of them.

use super::seen::Row;
use crate::cli::terminal::Terminal;
use crate::config::Finding;
use serde::Serialize;
use serde_json::{Value, value::RawValue};
use std::{
    collections::{BTreeSet, HashMap},
    fs::File,
    io::{self, BufRead, BufReader},
    path::Path,
    rc::Rc,
};

/// So many requests may one line of the Worker's log be of.
const IDS_MAX: usize = 1_000;

/// What is known of a request on both sides.
#[derive(Debug, Default, Serialize)]
struct Both {
    /// The request's id; none for a line of the Worker's that names none.
    rid: Option<String>,
    /// What the Worker's log says. A line that is no JSON is a string.
    edge: Vec<Rc<RawValue>>,
    /// What ours says.
    belay: Vec<Box<RawValue>>,
}

/// Requests in the order in which they were met.
#[derive(Debug, Default)]
pub(super) struct Joined {
    all: Vec<Both>,
    by_id: HashMap<String, usize>,
    /// Lines of the Worker's log without a request's id.
    nameless: usize,
}

impl Joined {
    /// Reads the Worker's log.
    pub(super) fn read(worker: &Path) -> Result<Self, Finding> {
        let unreadable = |error: io::Error| Finding::of_file(worker, format!("cannot be read: {error}"), None);
        let mut joined = Self::default();
        for line in BufReader::new(File::open(worker).map_err(unreadable)?).split(b'\n') {
            let line = line.map_err(unreadable)?;
            let text = String::from_utf8_lossy(&line);
            if !text.trim().is_empty() {
                joined.add_of_worker(text.trim());
            }
        }
        Ok(joined)
    }

    /// A line may be the kit's own, or hold such lines as text, as what collects Workers' logs writes them.
    fn add_of_worker(&mut self, text: &str) {
        let (raw, value) = match serde_json::from_str::<Box<RawValue>>(text) {
            Ok(raw) => (Some(raw), serde_json::from_str(text).unwrap_or_default()),
            Err(_no_json) => (serde_json::value::to_raw_value(text).ok(), Value::Null),
        };
        let Some(raw) = raw.map(Rc::<RawValue>::from) else { return };
        let ids = ids(&value);
        if ids.is_empty() {
            self.nameless = self.nameless.saturating_add(1);
            return self.to(None, |both| both.edge.push(raw));
        }
        for id in ids {
            self.to(Some(id), |both| both.edge.push(Rc::clone(&raw)));
        }
    }

    /// Adds to what is known of a request.
    fn to(&mut self, rid: Option<String>, add: impl FnOnce(&mut Both)) {
        let next = self.all.len();
        let index = match &rid {
            Some(rid) => *self.by_id.entry(rid.clone()).or_insert(next),
            None => next,
        };
        if index == next {
            self.all.push(Both { rid, ..Both::default() });
        }
        if let Some(both) = self.all.get_mut(index) {
            add(both);
        }
    }

    /// Adds what our log says of a request; what is of none is left out.
    pub(super) fn add(&mut self, row: Row) {
        if row.request.is_some() && row.action.is_none() {
            let lines = row.lines.into_iter().filter_map(|line| RawValue::from_string(line.into()).ok());
            self.to(row.request, |both| both.belay.extend(lines));
        }
    }

    pub(super) fn say(&self, terminal: &Terminal) {
        self.all.iter().for_each(|both| terminal.say_json(both));
        let count = |is: fn(&Both) -> bool| self.all.iter().filter(|both| is(both)).count();
        let in_both = count(|both| !both.edge.is_empty() && !both.belay.is_empty());
        let only_edge = count(|both| both.rid.is_some() && both.belay.is_empty());
        let only_here = count(|both| both.edge.is_empty());
        terminal.tell(&format!(
            "{in_both} requests are in both logs, {only_edge} only in the Worker's, {only_here} only in ours"
        ));
        if self.nameless > 0 {
            terminal.tell(&format!("{} lines of the Worker's log name no request", self.nameless));
        }
    }
}

/// The ids of requests in a line: its own, or those of the lines that were collected into it. What a caller has sent
/// stands elsewhere in it.
fn ids(line: &Value) -> BTreeSet<String> {
    let own = |line: &Value| line.get("rid").and_then(Value::as_str).map(str::to_owned);
    let collected = ["logs", "Logs"].into_iter().filter_map(|key| line.get(key)?.as_array()).flatten();
    let messages = collected.filter_map(|log| log.get("message").or_else(|| log.get("Message"))?.as_array()).flatten();
    let written = messages.filter_map(|message| match message {
        Value::String(text) => own(&serde_json::from_str(text).ok()?),
        other @ (Value::Object(_) | Value::Array(_) | Value::Null | Value::Bool(_) | Value::Number(_)) => own(other),
    });
    own(line).into_iter().chain(written).take(IDS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use test_case::test_case;

    #[test_case(r#"{"rid":"one","status":200}"#, &["one"]; "the kit's own")]
    #[test_case(r#"{"status":200}"#, &[]; "another")]
    #[test_case("console.warn: no JSON", &[])]
    #[test_case(r#"{"rid":7}"#, &[]; "no text")]
    #[test_case(r#"{"outcome":"ok","logs":[{"message":["{\"rid\":\"one\"}"]},{"message":["{\"rid\":\"two\"}","hello"]}]}"#, &["one", "two"]; "collected")]
    #[test_case(r#"{"logs":[{"message":["no",{"rid":"one"}]}],"event":{"request":{"headers":{"x":"{\"rid\":\"two\"}","rid":"three"}}}}"#, &["one"]; "not what a caller has sent")]
    #[test_case(r#"{"Logs":[{"Message":["{\"rid\":\"one\"}"]}]}"#, &["one"]; "as Logpush writes it")]
    fn no_line_is_lost(line: &str, expected: &[&str]) {
        let mut joined = Joined::default();
        joined.add_of_worker(line);
        let ids: Vec<_> = joined.all.iter().filter_map(|both| both.rid.as_deref()).collect();
        assert_eq!(ids, expected);
        assert!(!joined.all.is_empty() && joined.all.iter().all(|both| both.edge.len() == 1));
        assert_eq!(joined.nameless, usize::from(expected.is_empty()));
    }
}
