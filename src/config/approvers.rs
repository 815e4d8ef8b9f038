//! Who may approve configs: a file beside the config, which its authors cannot change.

use serde::Deserialize;
use std::collections::BTreeMap;

/// Who may approve, and how many must.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Approvers {
    /// So many of them, from 1 to all.
    pub signatures: usize,
    /// Their public keys, as `ssh-keygen` writes them, by their names.
    pub signers: BTreeMap<String, String>,
}

impl Approvers {
    /// Reads it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(text: &str) -> Result<Self, String> {
        let read: Self = serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
        let most = read.signers.len();
        if read.signatures == 0 || read.signatures > most {
            return Err(format!("`signatures` must be from 1 to the number of signers, which is {most}"));
        }
        Ok(read)
    }
}
