//! The last decisions and what came of them, kept in memory for whoever asks what has just happened.

use crate::audit::Record;
use crate::request::Id;
use parking_lot::Mutex;
use std::{collections::VecDeque, sync::Arc};

/// How many decisions are kept, and how many outcomes.
const KEPT_MAX: usize = 10_000;

/// Lines of the audit log, the oldest first.
#[derive(Debug, Default)]
pub struct Recent {
    decisions: Mutex<VecDeque<Kept>>,
    outcomes: Mutex<VecDeque<Kept>>,
}

#[derive(Debug)]
struct Kept {
    is_denied: bool,
    request: Id,
    line: Arc<[u8]>,
}

impl Recent {
    /// Remembers the line of a record that is a request's.
    pub(super) fn remember(&self, record: &Record, line: &[u8]) {
        match record {
            Record::Decision(it) => Self::keep(&self.decisions, it.verdict.is_err(), &it.request_id, line),
            Record::Outcome(it) => Self::keep(&self.outcomes, false, &it.request_id, line),
            Record::HungUp(_) | Record::Summary(_) | Record::Act(_) | Record::Upkeep { .. } => {}
        }
    }

    fn keep(all: &Mutex<VecDeque<Kept>>, is_denied: bool, request: &Id, line: &[u8]) {
        let mut kept = all.lock();
        if kept.len() >= KEPT_MAX {
            kept.pop_front();
        }
        kept.push_back(Kept { is_denied, request: request.clone(), line: line.into() });
    }

    /// The last lines, at most so many, the oldest first; only denials, if only they are asked for.
    #[must_use]
    pub fn last(&self, count: usize, only_denied: bool) -> Vec<u8> {
        // Copied once the writer may go on.
        let meant: Vec<_> = {
            let kept = self.decisions.lock();
            let meant = kept.iter().rev().filter(|kept| kept.is_denied || !only_denied).take(count);
            meant.map(|kept| Arc::clone(&kept.line)).collect()
        };
        meant.iter().rev().map(|line| &**line).collect::<Vec<_>>().concat()
    }

    /// All lines of a request, by its id's text: what was decided, then what came of it.
    #[must_use]
    pub fn of_request(&self, id: &str) -> Vec<u8> {
        let of_it = |kept: &VecDeque<Kept>| {
            let lines = kept.iter().filter(|kept| kept.request.as_str() == id).map(|kept| &*kept.line);
            lines.collect::<Vec<_>>().concat()
        };
        [of_it(&self.decisions.lock()), of_it(&self.outcomes.lock())].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: usize) -> Id {
        Id::parse(&format!("request-{number}")).unwrap()
    }

    fn keep(recent: &Recent, number: usize) {
        let line = format!("{number}\n");
        Recent::keep(&recent.decisions, number.is_multiple_of(2), &id(number), line.as_bytes());
    }

    #[test]
    fn the_last_in_their_order() {
        let recent = Recent::default();
        (0..KEPT_MAX + 5).for_each(|number| keep(&recent, number));
        assert_eq!(recent.last(3, false), b"10002\n10003\n10004\n");
        assert_eq!(recent.last(2, true), b"10002\n10004\n");
        assert!(recent.last(KEPT_MAX * 2, false).starts_with(b"5\n"), "the oldest are forgotten");
        assert!(Recent::default().last(5, false).is_empty());
    }

    #[test]
    fn a_request_with_what_came_of_it() {
        let recent = Recent::default();
        Recent::keep(&recent.outcomes, false, &id(7), b"came of 7\n");
        (6..9).for_each(|number| keep(&recent, number));
        assert_eq!(recent.of_request("request-7"), b"7\ncame of 7\n");
        assert!(recent.of_request("request-9").is_empty());
    }
}
