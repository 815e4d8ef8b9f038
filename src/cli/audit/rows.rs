//! Puts the decision and the outcome of a request together, as they come.

use super::seen::{Row, Seen};
use crate::cli::terminal::Terminal;
use std::collections::{HashMap, VecDeque};

/// Requests that are decided, and whose outcomes have not come yet.
const OPEN_MAX: usize = 200_000;

/// Takes lines, and gives rows that are complete.
#[derive(Debug, Default)]
pub(super) struct Rows {
    /// By boot and request id: an id that comes again has a queue.
    open: HashMap<(String, String), VecDeque<(u64, Row)>>,
    opened: u64,
}

impl Rows {
    /// Takes a line; the row that it makes complete, if it does. What is no record gives none.
    pub(super) fn take(&mut self, line: &[u8]) -> Option<Row> {
        let text = std::str::from_utf8(line).ok()?;
        let seen = serde_json::from_str::<Seen<'_>>(text).ok()?;
        let id = Row::id_of(&seen).filter(|_| matches!(&*seen.event.action, "decision" | "outcome"));
        let Some(id) = id else {
            let mut row = Row::default();
            row.add(seen, text);
            return Some(row);
        };
        let key = (seen.belay.boot.clone().into_owned(), id);
        let is_decision = seen.event.action == "decision";
        let mut row = match (is_decision, self.open.get_mut(&key)) {
            (false, Some(open)) => open.pop_front().map(|(_, row)| row).unwrap_or_default(),
            _ => Row::default(),
        };
        row.add(seen, text);
        if is_decision && self.open.len() < OPEN_MAX {
            self.opened = self.opened.saturating_add(1);
            self.open.entry(key).or_default().push_back((self.opened, row));
            return None;
        }
        if self.open.get(&key).is_some_and(VecDeque::is_empty) {
            self.open.remove(&key);
        }
        Some(row)
    }

    /// Requests whose outcome is not there, in the order in which they were decided.
    pub(super) fn rest(self) -> impl Iterator<Item = Row> {
        let mut rest: Vec<_> = self.open.into_values().flatten().collect();
        rest.sort_by_key(|(opened, _)| *opened);
        rest.into_iter().map(|(_, row)| row)
    }
}

const HEAD: [(&str, usize); 9] = [
    ("TIME", 24),
    ("WHAT", 8),
    ("STATUS", 6),
    ("MS", 7),
    ("WHY", 28),
    ("WHO", 12),
    ("SERVER", 12),
    ("REQUEST", 36),
    ("URL", 0),
];

/// The head of the table.
pub(super) fn head(terminal: &Terminal) -> String {
    terminal.dim(&line(&HEAD.map(|(name, _)| name.to_owned())))
}

/// A row of it.
pub(super) fn shown(row: &Row) -> String {
    let or_dash = |text: Option<&String>| text.cloned().unwrap_or_else(|| "-".into());
    let time = row.time.get(..23).map_or_else(|| row.time.clone(), |text| format!("{text}Z"));
    let who = row.user.as_ref().or(row.workload.as_ref());
    let url = match (&row.method, &row.url) {
        (Some(method), Some(url)) => format!("{method} {url}"),
        (None, Some(url)) => url.clone(),
        _ => "-".into(),
    };
    line(&[
        time,
        or_dash(row.action.as_ref().or(row.decision.as_ref())),
        row.status.map_or_else(|| "-".into(), |status| status.to_string()),
        row.took.map_or_else(|| "-".into(), |took| format!("{}.{:01}", took / 1_000_000, took / 100_000 % 10)),
        or_dash(row.reason.as_ref().or(row.rule.as_ref())),
        or_dash(who),
        or_dash(row.server.as_ref()),
        or_dash(row.request.as_ref()),
        url,
    ])
}

fn line(cells: &[String; 9]) -> String {
    let cells = cells.iter().zip(HEAD).map(|(cell, (_, width))| format!("{:width$}", visible(cell)));
    cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
}

/// A log that somebody else has written may hold anything: nothing in it moves the cursor.
fn visible(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(action: &str, id: &str, more: &str) -> Vec<u8> {
        format!(
            r#"{{"@timestamp":"2026-11-22T13:00:00.000000000Z","event":{{"action":"{action}","duration":2500000}},"http":{{"request":{{"id":"{id}"}}{more}}},"belay":{{"boot":"b"}}}}"#
        )
        .into_bytes()
    }

    #[test]
    fn an_outcome_completes_its_decision() {
        let mut rows = Rows::default();
        assert_eq!(rows.take(&record("decision", "one", "")), None);
        assert_eq!(rows.take(&record("decision", "two", "")), None);
        assert_eq!(rows.take(&record("decision", "one", "")), None, "the same id once more");
        let done = rows.take(&record("outcome", "one", r#","response":{"status_code":200}"#)).unwrap();
        assert_eq!(
            (done.request.as_deref(), done.status, done.took, done.lines.len()),
            (Some("one"), Some(200), Some(2_500_000), 2)
        );
        let early = rows.take(&record("outcome", "three", "")).unwrap();
        assert_eq!(early.lines.len(), 1, "its decision is in an older file");
        assert!(rows.take(b"garbage").is_none() && rows.take(b"\xff").is_none());
        let other = rows.take(&record("reload", "", "")).unwrap();
        assert_eq!(other.action.as_deref(), Some("reload"));
        let rest: Vec<_> = rows.rest().filter_map(|row| row.request).collect();
        assert_eq!(rest, ["two", "one"]);
    }

    #[test]
    fn a_row_is_read_by_people() {
        let row = Row {
            time: "2026-11-22T13:00:00.123456789Z".into(),
            request: Some("r-1".into()),
            decision: Some("allow".into()),
            status: Some(200),
            rule: Some("routes.orders.allow.checkout".into()),
            workload: Some("checkout".into()),
            server: Some("shop/a".into()),
            method: Some("GET".into()),
            url: Some("shop.example.com/orders/7\u{1b}[2J".into()),
            took: Some(12_345_678),
            ..Row::default()
        };
        let expected = "2026-11-22T13:00:00.123Z  allow     200     12.3     routes.orders.allow.checkout  checkout      \
                        shop/a        r-1                                   GET shop.example.com/orders/7\u{fffd}[2J";
        assert_eq!(shown(&row), expected);
    }
}
