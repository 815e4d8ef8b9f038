//! Revocations and guardrails that were live: none of them is taken back unseen, be it by a rollback, a start or another
//! name.

use super::files::replace_for_good;
use super::snapshot::Snapshot;
use crate::generation::Digest;
use crate::identity::{Authorities, Counts, Kid, Trust};
use crate::policy::rules::RuleSet;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    fs, io,
    path::{Path, PathBuf},
};

/// What was revoked, over restarts where there is a history.
#[derive(Debug, Default)]
pub struct Revocations {
    file: Option<PathBuf>,
    known: Mutex<Known>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Known {
    /// Token keys: their ids by their fingerprints.
    keys: BTreeMap<String, String>,
    /// The highest number of each series of revocation lists.
    lists: BTreeMap<String, Number>,
    /// What the file of `revoked` named, in words.
    #[serde(default)]
    named: BTreeSet<String>,
    /// Rules that are `@locked`, each with what it says.
    #[serde(default)]
    guardrails: BTreeMap<String, String>,
}

/// The number of a revocation list: hexadecimal, without leading zeros.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Number(String);

impl Number {
    fn new(bytes: &[u8]) -> Self {
        let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        Self(text.trim_start_matches('0').to_owned())
    }

    fn is_below(&self, other: &Self) -> bool {
        (self.0.len(), &self.0) < (other.0.len(), &other.0)
    }
}

impl Revocations {
    /// Reads what was remembered.
    ///
    /// # Errors
    /// If the folder's file is there and cannot be read: without it what was revoked could count again.
    pub fn open(folder: Option<&Path>) -> io::Result<Self> {
        let revocations = Self { file: folder.map(|folder| folder.join("revocations.json")), known: Mutex::default() };
        revocations.read_again()?;
        Ok(revocations)
    }

    /// Reads again what another process may have written.
    ///
    /// # Errors
    /// As [`Revocations::open`].
    pub fn read_again(&self) -> io::Result<()> {
        match self.file.as_ref().map(fs::read) {
            Some(Ok(text)) => *self.known.lock() = serde_json::from_slice(&text)?,
            Some(Err(fault)) if fault.kind() != io::ErrorKind::NotFound => return Err(fault),
            Some(Err(_)) | None => {}
        }
        Ok(())
    }

    /// The first list whose series has come further already (RFC 5280 § 5.2.3): somebody has put an old one back, and
    /// with it what was revoked since.
    #[must_use]
    pub fn older_list(&self, authorities: &Authorities) -> Option<usize> {
        let known = self.known.lock();
        let newest = newest([authorities]);
        let is_old = |series: Digest| {
            let known = known.lists.get(&series.to_string());
            known.zip(newest.get(&series)).is_some_and(|(known, newest)| newest.is_below(known))
        };
        authorities.lists().position(|(series, _)| is_old(series))
    }

    /// What was revoked and counts again: how it is accepted by name, and what it is.
    #[must_use]
    pub fn counting_again(&self, trust: &Trust) -> Vec<(String, String)> {
        let keys = self.keys_again(trust).into_iter();
        let keys = keys.map(|kid| (kid.to_string(), format!("token key `{kid}`")));
        let known = self.known.lock();
        let is: HashSet<_> = trust.revoked.load().lasting().collect();
        let named = known.named.iter().filter(|text| !is.contains(*text) && !is_gone(text, trust));
        let named = named.filter_map(|text| {
            let (kind, name) = text.split_once(' ')?;
            Some((name.to_owned(), format!("{kind} `{name}`")))
        });
        keys.chain(named).collect()
    }

    /// The guardrails that held and do not any more, or are others.
    #[must_use]
    pub fn lost_guardrails(&self, rules: Option<&RuleSet>) -> Vec<String> {
        let is = guardrails(rules);
        let known = self.known.lock();
        known.guardrails.iter().filter(|(id, text)| is.get(*id) != Some(*text)).map(|(id, _)| id.clone()).collect()
    }

    fn keys_again<'a>(&self, trust: &'a Trust) -> Vec<&'a Kid> {
        let known = self.known.lock();
        let was_revoked = |digest: Digest| known.keys.contains_key(&digest.to_string());
        let counting = trust.keys.iter().filter(|(_, key)| key.counts != Counts::Revoked);
        let mut again: Vec<_> =
            counting.filter(|(_, key)| was_revoked(key.key.fingerprint())).map(|(kid, _)| kid).collect();
        again.sort_by_key(|kid| kid.as_str());
        again
    }

    /// Remembers what a generation revokes that is about to be live, and no more what it lets count again.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn learn(&self, next: &Snapshot) -> io::Result<()> {
        let mut known = self.known.lock();
        let mut then = known.clone();
        for (kid, key) in &next.trust.keys {
            let fingerprint = key.key.fingerprint().to_string();
            if key.counts == Counts::Revoked {
                then.keys.insert(fingerprint, kid.to_string());
            } else {
                then.keys.remove(&fingerprint);
            }
        }
        // A workload that is gone could come back.
        then.named.retain(|text| is_gone(text, &next.trust));
        then.named.extend(next.trust.revoked.load().lasting());
        then.guardrails = guardrails(next.rules.as_ref());
        for (series, number) in newest(next.entrances.values().filter_map(|it| it.authorities.as_deref())) {
            then.lists.insert(series.to_string(), number);
        }
        if then != *known {
            if let Some(file) = &self.file {
                replace_for_good(file, &serde_json::to_vec_pretty(&then)?)?;
            }
            *known = then;
        }
        Ok(())
    }
}

fn guardrails(rules: Option<&RuleSet>) -> BTreeMap<String, String> {
    let locked = rules.into_iter().flat_map(RuleSet::all).filter(|rule| rule.is_locked);
    locked.map(|rule| (rule.id.to_string(), rule.text.to_string())).collect()
}

/// Whether that is a workload that there is no more.
fn is_gone(text: &str, trust: &Trust) -> bool {
    let workload = text.strip_prefix("workload ");
    workload.is_some_and(|name| trust.workloads.values().all(|known| known.name.as_str() != name))
}

/// The highest number of each series.
fn newest<'a>(authorities: impl IntoIterator<Item = &'a Authorities>) -> HashMap<Digest, Number> {
    let mut newest: HashMap<Digest, Number> = HashMap::new();
    for (series, number) in authorities.into_iter().flat_map(Authorities::lists) {
        let number = Number::new(number);
        if newest.get(&series).is_none_or(|known| known.is_below(&number)) {
            newest.insert(series, number);
        }
    }
    newest
}

#[cfg(test)]
mod tests {
    use super::*;
    use test_case::test_case;

    #[test_case(&[1], &[2], true; "one less")]
    #[test_case(&[2], &[2], false; "the same")]
    #[test_case(&[255], &[1, 0], true; "fewer bytes")]
    #[test_case(&[1, 0], &[255], false; "more bytes")]
    #[test_case(&[0, 0, 3], &[2], false; "zeros in front count nothing")]
    fn numbers(one: &[u8], other: &[u8], expected: bool) {
        assert_eq!(Number::new(one).is_below(&Number::new(other)), expected);
    }

    #[test]
    fn what_cannot_be_read_is_no_empty_file() {
        let folder = tempfile::tempdir().unwrap();
        assert!(Revocations::open(Some(folder.path())).is_ok(), "nothing was revoked yet");
        fs::write(folder.path().join("revocations.json"), "").unwrap();
        assert!(Revocations::open(Some(folder.path())).is_err());
    }
}
