//! The keys of the audit log.

use super::build::Build;
use crate::audit::{CheckpointKey, NotEd25519, Pseudonyms};
use crate::config::{Audit, Finding};
use crate::journal::Settings;
use std::sync::Arc;

impl Build<'_> {
    /// How the audit log is kept; none if a key is broken, which is noted then.
    pub(super) fn journal(&mut self, audit: &Audit) -> Option<Settings> {
        let key = match &audit.checkpoints {
            Some(checkpoints) => {
                self.has_folder(&checkpoints.file, checkpoints.file.parent());
                let read = self.files.private_key(&checkpoints.key);
                let key = CheckpointKey::from_pkcs8(self.take(read)?.secret_der());
                let no_key = |fault: NotEd25519| Finding::of_file(&checkpoints.key, fault.to_string(), None);
                Some(Arc::new(self.take(key.map_err(no_key))?))
            }
            None => None,
        };
        let pseudonyms = match &audit.pseudonyms {
            Some(path) => {
                let read = self.files.own_secret(path);
                Some(Arc::new(Pseudonyms::new(&self.take(read)?)))
            }
            None => None,
        };
        Some(Settings::of(audit, key, pseudonyms))
    }
}
