//! Notes what grows old, as it is read.

use super::{Build, DAY};
use crate::clock::UnixSeconds;
use crate::config::{Finding, KeyFile, KeyState};
use crate::generation::Digest;
use crate::keys::Dated;
use crate::runtime::aging::Aging;
use crate::runtime::secrets::Held;
use crate::secret::{Kind, Label};
use crate::uses::Uses;
use rustls::pki_types::CertificateDer;
use std::path::Path;

/// So long before a key is too old somebody should hear of it.
const WARNED_BEFORE: UnixSeconds = 15 * DAY;

/// A key whose age counts from the day on which it was made, or first seen.
pub(super) struct Aged<'a> {
    pub(super) label: Label,
    pub(super) file: &'a Path,
    pub(super) fingerprint: Digest,
    pub(super) created: Option<UnixSeconds>,
    pub(super) state: KeyState,
}

impl Build<'_> {
    /// The name of what stands in a file: the way to it.
    fn name_of(&self, file: &Path) -> Box<str> {
        self.config.way_to(file).to_string_lossy().into()
    }

    /// Notes a key; the count of its uses, and when it is too old.
    pub(super) fn ages(&mut self, key: Aged<'_>) -> (Uses, UnixSeconds) {
        let Aged { label, file, fingerprint, created, state } = key;
        let now = self.beside.now.unix_seconds();
        let first = self.beside.sights.first(fingerprint, self.beside.now);
        if created.is_some_and(|created| created > now.saturating_add(DAY)) {
            let message = format!("{label} is created on a day that has not come");
            self.findings.push(Finding::of_file(file, message, Some("a key's age counts from `created`".into())));
        }
        let born = created.unwrap_or(first).min(first);
        let age_max = UnixSeconds::try_from(self.config.key_age_max.as_secs()).unwrap_or(UnixSeconds::MAX);
        let ends = born.saturating_add(age_max);
        let then = if label.kind == Kind::SharedSecret { "is refused" } else { "should be replaced" };
        let what = format!("{label} {then} at the age of {} days", age_max / DAY);
        let warn_from = ends.saturating_sub(WARNED_BEFORE.min(age_max / 3));
        let aging = (state != KeyState::Revoked).then_some(Aging { what, warn_from, ends });
        let uses = self.beside.secrets.uses(&label, Some(fingerprint));
        self.secrets.push(Held {
            label,
            file: Some(file.to_owned()),
            state,
            fingerprint: Some(fingerprint),
            first_seen: Some(first),
            born,
            aging,
            uses: Some(uses.clone()),
        });
        (uses, ends)
    }

    /// Notes a key of our own that stands in a file.
    pub(super) fn own_key(&mut self, kind: Kind, owner: &str, file: &KeyFile, fingerprint: Digest) -> Uses {
        let label = Label::new(kind, owner, self.name_of(&file.path));
        let (created, state) = (file.created, KeyState::Active);
        self.ages(Aged { label, file: &file.path, fingerprint, created, state }).0
    }

    /// Notes the certificates of a file, CAs or our own; the counts of their uses.
    pub(super) fn certificates_age(
        &mut self,
        kind: Kind,
        owner: &str,
        file: &Path,
        ders: &[CertificateDer<'_>],
    ) -> Vec<Uses> {
        let before = if kind == Kind::Ca { 30 * DAY } else { 14 * DAY };
        let dated: Vec<_> = ders.iter().map(Dated::of_certificate).collect();
        let mut uses = Vec::with_capacity(dated.len());
        for (index, dated) in dated.iter().enumerate() {
            let label = Label::new(kind, owner, self.numbered(file, index));
            uses.push(dated.as_ref().map_or_else(Uses::default, |dated| {
                let first = self.beside.sights.first(dated.fingerprint, self.beside.now);
                self.expires(label, file, dated, first, before)
            }));
        }
        uses
    }

    /// Notes a revocation list, that one of its file. There is another one every few hours, so nobody remembers them.
    pub(super) fn list_ages(&mut self, owner: &str, (file, index): (&Path, usize), dated: Option<Dated>) -> Uses {
        let Some(dated) = dated else { return Uses::default() };
        let label = Label::new(Kind::RevocationList, owner, self.numbered(file, index));
        let known = self.known(&label, dated.fingerprint);
        let first = known.unwrap_or_else(|| self.beside.now.unix_seconds());
        self.expires(label, file, &dated, first, 3 * DAY)
    }

    /// Notes the key of a listener's session tickets, which is made with what the sessions rest on.
    pub(super) fn tickets_age(&mut self, owner: &str, trust: Digest) -> Uses {
        let label = Label::new(Kind::TicketKey, owner, "memory");
        let now = self.beside.now.unix_seconds();
        let born = self.known(&label, trust).unwrap_or(now);
        let uses = self.beside.secrets.uses(&label, Some(trust));
        self.secrets.push(Held {
            label,
            file: None,
            state: KeyState::Active,
            fingerprint: Some(trust),
            first_seen: Some(born),
            born,
            aging: None,
            uses: Some(uses.clone()),
        });
        uses
    }

    /// Notes the secrets that others have.
    pub(super) fn external_secrets(&mut self) {
        for secret in &self.config.external_secrets {
            let label = Label::new(Kind::External, "external_secrets", secret.name.clone());
            let age_max = UnixSeconds::try_from(secret.age_max.as_secs()).unwrap_or(UnixSeconds::MAX);
            let ends = secret.created.saturating_add(age_max);
            let what = format!("{label} should be replaced at the age of {} days", age_max / DAY);
            let warn_from = ends.saturating_sub(WARNED_BEFORE.min(age_max / 3));
            self.secrets.push(Held {
                label,
                file: None,
                state: KeyState::Active,
                fingerprint: None,
                first_seen: None,
                born: secret.created,
                aging: Some(Aging { what, warn_from, ends }),
                uses: None,
            });
        }
    }

    fn expires(
        &mut self,
        label: Label,
        file: &Path,
        dated: &Dated,
        first_seen: UnixSeconds,
        before: UnixSeconds,
    ) -> Uses {
        let aging = Aging::of_validity(format!("{label} expires"), &dated.valid, before);
        let uses = self.beside.secrets.uses(&label, Some(dated.fingerprint));
        self.secrets.push(Held {
            label,
            file: Some(file.to_owned()),
            state: KeyState::Active,
            fingerprint: Some(dated.fingerprint),
            first_seen: Some(first_seen),
            born: dated.valid.start.min(first_seen),
            aging: (dated.valid.end < UnixSeconds::MAX).then_some(aging),
            uses: Some(uses.clone()),
        });
        uses
    }

    /// When the live generation has seen it first, if it has.
    fn known(&self, label: &Label, fingerprint: Digest) -> Option<UnixSeconds> {
        let mut held = self.beside.live?.secrets.iter();
        held.find(|held| held.label == *label && held.fingerprint == Some(fingerprint))?.first_seen
    }

    fn numbered(&self, file: &Path, index: usize) -> Box<str> {
        let name = self.name_of(file);
        if index == 0 { name } else { format!("{name}#{}", index.saturating_add(1)).into() }
    }
}
