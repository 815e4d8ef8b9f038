//! Keys, certificates and all else that grows old: since when each is there, how long yet, and whether anybody uses it.

use super::aging::Aging;
use crate::audit::KeyChange;
use crate::clock::{Timestamp, UnixSeconds};
use crate::config::KeyState;
use crate::generation::Digest;
use crate::metrics::Metrics;
use crate::secret::{Kind, Label};
use crate::uses::Uses;
use parking_lot::Mutex;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    path::PathBuf,
};

/// A secret of a generation, or what vouches for somebody.
#[derive(Debug, Clone)]
pub struct Held {
    /// Which.
    pub label: Label,
    /// Where it was read from.
    pub file: Option<PathBuf>,
    /// Where it is in its life, as the config says.
    pub state: KeyState,
    /// What it is, whatever it is called; of a certificate its public key.
    pub fingerprint: Option<Digest>,
    /// When it was first seen.
    pub first_seen: Option<UnixSeconds>,
    /// When it was made, or first seen, if that was earlier.
    pub born: UnixSeconds,
    /// When it ends, and what happens then; none if it never does.
    pub aging: Option<Aging>,
    /// How often it was used; none if nobody here could know.
    pub uses: Option<Uses>,
}

impl Held {
    /// Its age, in seconds.
    #[must_use]
    pub fn age(&self, now: Timestamp) -> UnixSeconds {
        now.unix_seconds().saturating_sub(self.born).max(0)
    }

    /// The word for where it is in its life: what has ended is `expired`, or `too_old`.
    #[must_use]
    pub fn state(&self, now: Timestamp) -> &'static str {
        let has_ended = self.aging.as_ref().is_some_and(|aging| now.unix_seconds() >= aging.ends);
        match (has_ended, self.label.kind) {
            (true, Kind::Certificate | Kind::Ca | Kind::RevocationList) => "expired",
            (true, _) => "too_old",
            (false, _) => self.state.word(),
        }
    }
}

/// What is another than it was. Keys that are only made here, and never leave, are left out.
#[must_use]
pub(super) fn changed(before: &[Held], now: &[Held]) -> Vec<KeyChange> {
    let told = |held: &&Held| held.label.kind != Kind::TicketKey;
    let by_label = |held: &[Held]| -> BTreeMap<Label, Held> {
        held.iter().filter(told).map(|held| (held.label.clone(), held.clone())).collect()
    };
    let (before, now) = (by_label(before), by_label(now));
    let labels: BTreeSet<&Label> = before.keys().chain(now.keys()).collect();
    let mut changes = Vec::new();
    for label in labels {
        let (was, is) = (before.get(label), now.get(label));
        let same = was.zip(is).is_some_and(|(was, is)| (was.fingerprint, was.state) == (is.fingerprint, is.state));
        if !same {
            changes.push(KeyChange {
                label: label.clone(),
                fingerprint: is.or(was).and_then(|held| held.fingerprint),
                before: was.map(|held| held.state.word()),
                state: is.map(|held| held.state.word()),
            });
        }
    }
    changes
}

/// A secret by whose it is and by what it is: under its name another one is another, and under another name it is the same.
type Identity = (Kind, Box<str>, Option<Digest>, Option<Box<str>>);

/// What is not known by its content is known by its name.
fn identity(label: &Label, fingerprint: Option<Digest>) -> Identity {
    (label.kind, label.owner.clone(), fingerprint, fingerprint.is_none().then(|| label.name.clone()))
}

/// What is known of the uses of secrets, over generations.
#[derive(Debug, Default)]
pub struct Secrets(Mutex<HashMap<Identity, Known>>);

#[derive(Debug, Default)]
struct Known {
    /// By what people know it; none while no live generation has it.
    label: Option<Label>,
    uses: Uses,
    /// How many of them the metrics know of.
    told: u64,
    last: Option<UnixSeconds>,
}

impl Known {
    /// Has the metrics know of its uses since the last time.
    fn tell(&mut self, metrics: &Metrics, now: Timestamp) {
        let count = self.uses.count();
        let more = count.saturating_sub(self.told);
        if let (Some(label), true) = (&self.label, more > 0) {
            self.told = count;
            self.last = Some(now.unix_seconds());
            metrics.secret_used(label, more, now.unix_seconds());
        }
    }
}

impl Secrets {
    /// The count of a secret's uses.
    #[must_use]
    pub fn uses(&self, label: &Label, fingerprint: Option<Digest>) -> Uses {
        self.0.lock().entry(identity(label, fingerprint)).or_default().uses.clone()
    }

    /// From now on these are held, and no others.
    pub fn adopt(&self, held: &[Held], metrics: &Metrics, now: Timestamp) {
        let mut known = self.0.lock();
        // What was used up to now is told before it is forgotten.
        known.values_mut().for_each(|known| known.tell(metrics, now));
        let there: HashSet<Identity> = held.iter().map(|held| identity(&held.label, held.fingerprint)).collect();
        known.retain(|identity, known| {
            let stays = there.contains(identity);
            known.label.iter().filter(|_| !stays).for_each(|label| metrics.forget_secret(label));
            stays
        });
        // What has another name now is told anew under it.
        for held in held {
            let known = known.entry(identity(&held.label, held.fingerprint)).or_default();
            if known.label.as_ref().is_some_and(|label| *label != held.label) {
                known.label.take().iter().for_each(|label| metrics.forget_secret(label));
            }
        }
        for held in held {
            let known = known.entry(identity(&held.label, held.fingerprint)).or_default();
            if known.label.is_none() {
                (known.label, known.told) = (Some(held.label.clone()), 0);
            }
            metrics.secret(&held.label, held.born, held.aging.as_ref().map(|aging| aging.ends));
            held.uses.iter().for_each(|_| metrics.secret_is_counted(&held.label));
        }
    }

    /// Looks what was used since the last look, which is some moment between the two; the metrics learn of it.
    pub fn look(&self, metrics: &Metrics, now: Timestamp) {
        self.0.lock().values_mut().for_each(|known| known.tell(metrics, now));
    }

    /// How often a secret was used, and when last.
    #[must_use]
    pub fn used(&self, held: &Held) -> (u64, Option<UnixSeconds>) {
        let known = self.0.lock();
        let known = known.get(&identity(&held.label, held.fingerprint));
        known.map_or((0, None), |known| (known.uses.count(), known.last))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(name: &str, content: &[u8]) -> Held {
        Held {
            label: Label::new(Kind::TokenKey, "workloads.checkout", name),
            file: None,
            state: KeyState::Active,
            fingerprint: Some(Digest::of_content(content)),
            first_seen: None,
            born: 100,
            aging: Some(Aging { what: String::new(), warn_from: 150, ends: 200 }),
            uses: Some(Uses::default()),
        }
    }

    #[test]
    fn uses_are_counted_over_generations_and_go_with_the_secret() {
        let (secrets, metrics) = (Secrets::default(), Metrics::new().unwrap());
        let at = Timestamp::from_unix_seconds;
        let (one, other) = (held("one", b"a"), held("one", b"b"));
        secrets.adopt(std::slice::from_ref(&one), &metrics, at(100));
        let text = || String::from_utf8(metrics.render(0).unwrap()).unwrap();
        let uses = "belay_secret_uses_total{kind=\"token_key\",name=\"one\",owner=\"workloads.checkout\"}";
        assert!(text().contains(&format!("{uses} 0")), "{}", text());
        secrets.uses(&one.label, one.fingerprint).add();
        secrets.look(&metrics, at(110));
        secrets.look(&metrics, at(120));
        assert_eq!(secrets.used(&one), (1, Some(110)));
        assert!(text().contains(&format!("{uses} 1")), "{}", text());
        // Under another name it is the same.
        let renamed = Held { label: Label { name: "two".into(), ..one.label.clone() }, ..one.clone() };
        secrets.adopt(std::slice::from_ref(&renamed), &metrics, at(130));
        secrets.uses(&renamed.label, renamed.fingerprint).add();
        secrets.look(&metrics, at(140));
        assert_eq!(secrets.used(&renamed), (2, Some(140)));
        assert!(
            !text().contains("\"one\"") && text().contains("name=\"two\",owner=\"workloads.checkout\"} 2"),
            "{}",
            text()
        );
        // Another key under the same name has not been used.
        let other = Held { label: renamed.label, ..other };
        secrets.adopt(std::slice::from_ref(&other), &metrics, at(150));
        assert_eq!((secrets.used(&one), secrets.used(&other)), ((0, None), (0, None)));
        assert!(!text().contains("belay_secret_last_used"), "{}", text());
        secrets.adopt(&[], &metrics, at(160));
        assert!(!text().contains("belay_secret"), "{}", text());
    }

    #[test]
    fn what_has_ended_says_so() {
        let at = Timestamp::from_unix_seconds;
        let key = held("one", b"a");
        assert_eq!((key.state(at(199)), key.state(at(200)), key.age(at(150))), ("active", "too_old", 50));
        let certificate = Held { label: Label::new(Kind::Certificate, "listeners.edge", "lb.pem"), ..key.clone() };
        assert_eq!(certificate.state(at(200)), "expired");
        let revoked = Held { state: KeyState::Revoked, aging: None, ..key };
        assert_eq!(revoked.state(at(200)), "revoked");
    }

    #[test]
    fn what_is_another_is_told() {
        let retiring = |held: Held| Held { state: KeyState::Retiring, ..held };
        let before = [held("gone", b"a"), held("same", b"b"), held("old", b"c"), held("renewed", b"d")];
        let now = [held("same", b"b"), retiring(held("old", b"c")), held("renewed", b"e"), held("new", b"f")];
        let told: Vec<_> = changed(&before, &now)
            .into_iter()
            .map(|change| (change.label.name.to_string(), change.before, change.state, change.fingerprint))
            .collect();
        let print = |content: &[u8]| Some(Digest::of_content(content));
        let expected = [
            ("gone", Some("active"), None, print(b"a")),
            ("new", None, Some("active"), print(b"f")),
            ("old", Some("active"), Some("retiring"), print(b"c")),
            ("renewed", Some("active"), Some("active"), print(b"e")),
        ];
        assert_eq!(told, expected.map(|(name, before, state, print)| (name.to_owned(), before, state, print)));
        assert_eq!(changed(&now, &now), []);
    }
}
