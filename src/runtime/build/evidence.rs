//! The keys of the audit log.

use super::Build;
use crate::audit::{CheckpointKey, NotEd25519, Pseudonyms};
use crate::config::{Audit, Finding};
use crate::generation::Digest;
use crate::journal::Settings;
use crate::secret::Kind;
use std::sync::Arc;

impl Build<'_> {
    /// How the audit log is kept; none if a key is broken, which is noted then.
    pub(super) fn journal(&mut self, audit: &Audit) -> Option<Settings> {
        let key = match &audit.checkpoints {
            Some(checkpoints) => {
                self.has_folder(&checkpoints.file, checkpoints.file.parent());
                let read = self.files.private_key(&checkpoints.key.path);
                let key = CheckpointKey::from_pkcs8(self.take(read)?.secret_der());
                let no_key = |fault: NotEd25519| Finding::of_file(&checkpoints.key.path, fault.to_string(), None);
                let key = self.take(key.map_err(no_key))?;
                let fingerprint = Digest::of(&[("checkpoint", key.id().as_bytes())]);
                let uses = self.own_key(Kind::CheckpointKey, "audit.checkpoints", &checkpoints.key, fingerprint);
                Some(Arc::new(key.counted(uses)))
            }
            None => None,
        };
        let pseudonyms = match &audit.pseudonyms {
            Some(key) => {
                let read = self.files.own_secret(&key.path);
                let secret = self.take(read)?;
                let fingerprint = Digest::of(&[("pseudonyms", secret.expose())]);
                let uses = self.own_key(Kind::PseudonymKey, "audit.pseudonyms", key, fingerprint);
                Some(Arc::new(Pseudonyms::new(&secret).counted(uses)))
            }
            None => None,
        };
        Some(Settings::of(audit, key, pseudonyms))
    }
}
