//! Makes lines of records, in their order.

use super::chain::Chain;
use super::checkpoint::{self, CheckpointKey, Reached};
use super::line::Line;
use super::pseudonym::Pseudonyms;
use super::record::{Predecessor, Record};
use crate::clock::Timestamp;
use crate::name::NodeName;
use crate::request::Id;
use std::sync::Arc;

/// Makes lines of records: numbers them without gaps and names the node and its boot. One writer owns it.
///
/// Each line is chained to the one before it.
#[derive(Debug)]
pub struct Sealer {
    node: NodeName,
    boot: Id,
    next: u64,
    chain: Chain,
    /// Hashes of personal data, where it is not to be told.
    pseudonyms: Option<Arc<Pseudonyms>>,
}

impl Sealer {
    /// Begins with number 1.
    #[must_use]
    pub fn new(node: NodeName, boot: Id) -> Self {
        Self { node, chain: Chain::of(boot.as_str()), boot, next: 1, pseudonyms: None }
    }

    /// From here on people stand there by these hashes.
    pub fn hides_people(&mut self, pseudonyms: Option<Arc<Pseudonyms>>) {
        self.pseudonyms = pseudonyms;
    }

    /// Whose lines they are.
    #[must_use]
    pub const fn boot(&self) -> &Id {
        &self.boot
    }

    /// The number of the last line; 0 before the first.
    #[must_use]
    pub const fn last(&self) -> u64 {
        self.next.saturating_sub(1)
    }

    /// How far its lines go.
    #[must_use]
    pub fn position(&self) -> Predecessor {
        let chain = Some(self.chain.to_string().into());
        Predecessor { boot: self.boot.as_str().into(), sequence: self.last(), chain }
    }

    /// Appends a checkpoint of all lines so far. Checkpoints are numbered without gaps, from 1.
    ///
    /// # Errors
    /// If it cannot be written as JSON.
    pub fn checkpoint(
        &self,
        number: u64,
        time: Timestamp,
        key: &CheckpointKey,
        lines: &mut Vec<u8>,
    ) -> serde_json::Result<()> {
        let (node, boot, sequence, chain) = (&self.node, &self.boot, self.last(), &self.chain);
        checkpoint::sign(&Reached { time, node, boot, number, sequence, chain }, key, lines)
    }

    /// Appends a record as one line.
    ///
    /// # Errors
    /// If it cannot be written as JSON; nothing is appended then.
    pub fn seal(&mut self, record: &Record, lines: &mut Vec<u8>) -> serde_json::Result<()> {
        let before = lines.len();
        let written = serde_json::to_writer(&mut *lines, &self.line(record));
        if written.is_err() {
            lines.truncate(before);
        } else {
            self.chain.seal(lines, before);
            lines.push(b'\n');
            self.next = self.next.saturating_add(1);
        }
        written
    }

    fn line<'a>(&'a self, record: &'a Record) -> Line<'a> {
        let mut line = match record {
            Record::Decision(decision) => Line::of_decision(decision, self.pseudonyms.as_deref()),
            Record::Outcome(outcome) => Line::of_outcome(outcome),
            Record::HungUp(hung_up) => Line::of_hung_up(hung_up, self.pseudonyms.as_deref()),
            Record::Summary(summary) => Line::of_summary(summary),
            Record::Act(act) => Line::of_act(act),
            Record::Upkeep { time, upkeep, judged } => Line::of_upkeep(*time, upkeep, *judged, &self.position()),
        };
        line.event.id = format!("{}-{}", self.boot, self.next);
        line.event.sequence = self.next;
        line.belay.node = Some(&self.node);
        line.belay.boot = Some(&self.boot);
        line
    }
}
