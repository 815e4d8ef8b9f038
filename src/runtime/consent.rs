//! What a change must not do unsaid, and what it cannot do at all.

use super::revocations::Revocations;
use super::snapshot::Snapshot;
use crate::audit::{Actor, Cause};
use crate::config::{Config, Finding};
use crate::identity::KeySet;
use crate::insight::{self, Danger};
use crate::keys::fits;
use std::{borrow::Cow, collections::HashSet, path::PathBuf};

/// What is dangerous in a change of the config, and was not accepted.
pub(super) fn unaccepted(live: &Config, next: &Config, cause: &Cause) -> Vec<Finding> {
    asked(insight::dangers(live, next), next, cause)
}

/// What was revoked and would count again, unless that was accepted.
pub(super) fn unrevoked(revocations: &Revocations, next: &Snapshot, cause: &Cause) -> Vec<Finding> {
    let again = revocations.counting_again(&next.trust).into_iter().map(|(name, what)| Danger {
        name: format!("{name}.revoked"),
        what: format!("the {what} was revoked, and would count again"),
    });
    asked(again.collect(), &next.config, cause)
}

/// The same for a rollback, which is not asked: what was revoked stays it.
pub(super) fn revived(revocations: &Revocations, next: &Snapshot) -> Vec<Finding> {
    let finding = |(_, what)| {
        let hint = "change the config by hand, and reload".to_owned();
        Finding::of_file("", format!("the {what} was revoked, and would count again"), Some(hint))
    };
    revocations.counting_again(&next.trust).into_iter().map(finding).collect()
}

/// Files of rules that are gone, although nobody has said so: perhaps somebody is just writing them anew.
pub(super) fn gone_by_itself(live: &Snapshot, next: &Snapshot, cause: &Cause) -> Vec<Finding> {
    let patterns = || next.config.policies.iter().flat_map(|policies| &policies.policies);
    let is_rules = |path: &&PathBuf| patterns().any(|pattern| fits(pattern, path));
    let is_read = |path: &PathBuf| next.read.iter().any(|read| read.path == *path);
    let gone = live.read.iter().map(|read| &read.path).filter(is_rules).filter(|path| !is_read(path));
    let finding = |path: &PathBuf| {
        let hint = Some("if that is meant: belay reload".to_owned());
        Finding::of_file(path, "is gone, and the rules in it would be", hint)
    };
    if cause.actor == Actor::Files { gone.map(finding).collect() } else { Vec::new() }
}

/// Guardrails that would be gone, or changed, unless that was accepted.
pub(super) fn unguarded(live: &Snapshot, next: &Snapshot, cause: &Cause) -> Vec<Finding> {
    asked(insight::unlocked(live.rules.as_ref(), next.rules.as_ref()), &next.config, cause)
}

/// Keys and CAs that a rollback would trust and that are not trusted now, unless that was accepted: perhaps somebody has
/// lost them.
pub(super) fn trusted_again(live: &Snapshot, next: &Snapshot, cause: &Cause) -> Vec<Finding> {
    let fingerprints: HashSet<_> = live.trust.keys.values().map(|key| key.key.fingerprint()).collect();
    let keys = next.trust.keys.iter().filter(|(_, key)| !fingerprints.contains(&key.key.fingerprint()));
    let keys = keys.map(|(kid, key)| Danger {
        name: format!("{kid}.trusted"),
        what: format!("the token key `{kid}` of {} is not trusted now", key.workload.name),
    });
    let vouching = |snapshot: &'_ Snapshot| {
        let all = snapshot.entrances.values().filter_map(|entrance| entrance.authorities.as_ref());
        all.flat_map(|authorities| authorities.vouching()).collect::<HashSet<_>>()
    };
    let known = vouching(live);
    let strange = next.entrances.iter().filter(|(_, entrance)| {
        entrance.authorities.as_ref().is_some_and(|it| it.vouching().any(|ca| !known.contains(&ca)))
    });
    let cas = strange.map(|(name, _)| Danger {
        name: format!("{name}.ca"),
        what: format!("a CA that listener {name} would trust is trusted by none now"),
    });
    let of_people = next.trust.people.iter().filter(|people| {
        let known =
            |is: &KeySet| live.trust.people.iter().filter_map(|people| people.keys.get()).any(|was| was.covers(is));
        // Keys that are fetched are those of now.
        !next.providers.contains_key(&people.name) && people.keys.get().is_some_and(|keys| !known(&keys))
    });
    let of_people = of_people.map(|people| Danger {
        name: format!("{}.trusted", people.name),
        what: format!("a key that would vouch for {} is not trusted now", people.name),
    });
    let mut dangers: Vec<_> = keys.chain(cas).chain(of_people).collect();
    dangers.sort();
    asked(dangers, &next.config, cause)
}

fn asked(dangers: Vec<Danger>, next: &Config, cause: &Cause) -> Vec<Finding> {
    let is_meant = |danger: &Danger| cause.accepted.iter().any(|name| *name == danger.name || name == "all");
    let finding = |danger: Danger| {
        Finding::of_file(
            &next.file,
            danger.what,
            Some(format!("if it is meant: --accept {}", for_a_shell(&danger.name))),
        )
    };
    dangers.into_iter().filter(|danger| !is_meant(danger)).map(finding).collect()
}

/// A name as it can be pasted into a command.
#[must_use]
pub fn for_a_shell(name: &str) -> Cow<'_, str> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-/:@+".contains(c);
    if name.chars().all(is_plain) { name.into() } else { format!("'{}'", name.replace('\'', r"'\''")).into() }
}

fn marks(config: &Config) -> Option<&std::path::Path> {
    config.audit.checkpoints.as_ref().map(|checkpoints| &*checkpoints.file)
}

/// What a running process cannot change yet.
pub(super) fn unchangeable(old: &Config, new: &Config) -> Vec<Finding> {
    let differences = [
        (old.node != new.node, "node"),
        (old.audit.file != new.audit.file, "audit.file"),
        (marks(old) != marks(new), "audit.checkpoints.file"),
        (old.log.format != new.log.format, "log.format"),
        (old.history_dir != new.history_dir, "history.dir"),
        (old.plugin_cache != new.plugin_cache, "plugins.cache"),
    ];
    let finding =
        |what| Finding::of_file("", format!("a running process cannot change {what}"), Some("restart it".into()));
    differences.into_iter().filter(|(differs, _)| *differs).map(|(_, what)| finding(what)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use test_case::test_case;

    #[test_case("checkout.revoked", "checkout.revoked")]
    #[test_case("https://login.example.com|ada.revoked", "'https://login.example.com|ada.revoked'")]
    #[test_case("it's $HOME", r"'it'\''s $HOME'")]
    fn a_name_can_be_pasted(name: &str, expected: &str) {
        assert_eq!(for_a_shell(name), expected);
    }
}
