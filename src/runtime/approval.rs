//! Approval by several people: a config goes live only if so many of them have signed what decides in it, and what it
//! takes the place of. Who they are stands in a file that only root can change.
//!
//! Each approval names the one before it, so that an old one cannot be used again: not even if what it approved is wanted
//! once more.

use super::files::{only_roots, replace_for_good};
use crate::config::{Approvers, Finding};
use crate::generation::Digest;
use crate::keys::{Kind, content_up_to};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use ssh_key::{PublicKey, SshSig};
use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

/// What a signature must say that it is for: `ssh-keygen -Y sign -n belay`.
pub const NAMESPACE: &str = "belay";
/// The longest file of signatures, in bytes.
const SIGNATURES_MAX: u64 = 256 * 1024;
const BEGIN: &str = "-----BEGIN SSH SIGNATURE-----";
const END: &str = "-----END SSH SIGNATURE-----";

/// A config that was approved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approved {
    /// What was signed.
    statement: String,
    /// The signatures.
    signatures: Vec<String>,
    /// By whom.
    pub by: BTreeSet<String>,
}

/// What makes a process ask for approval.
#[derive(Debug)]
pub struct Approval {
    approvers: PathBuf,
    /// Where the last one is remembered.
    file: PathBuf,
    last: Mutex<Option<Approved>>,
}

/// What is signed: a text that names every file that decides, by its content, and the approval before.
#[must_use]
pub fn statement<'a>(
    folder: &Path,
    files: impl Iterator<Item = (&'a Path, Kind, Digest)>,
    parent: Option<Digest>,
) -> String {
    let parent = parent.map_or_else(|| "none".to_owned(), |parent| parent.to_string());
    let mut text = format!("belay approval 1\nparent {parent}\n");
    let line = |(path, _, digest): (&Path, Kind, Digest)| {
        let path = path.strip_prefix(folder).unwrap_or(path).display().to_string();
        // A name with a line's end must not look like two files.
        format!("{digest} {}\n", path.escape_default())
    };
    let lines: BTreeSet<_> = files.filter(|(_, kind, _)| kind.must_be_approved()).map(line).collect();
    lines.iter().for_each(|line| text.push_str(line));
    text
}

/// Where the signatures of a config are.
#[must_use]
pub fn signatures_of(config: &Path) -> PathBuf {
    let mut name = config.as_os_str().to_owned();
    name.push(".sig");
    name.into()
}

/// Where the last approval is remembered, in the history's folder.
#[must_use]
pub fn memory_in(history: &Path) -> PathBuf {
    history.join("approved.json")
}

/// The id of the approval that a file remembers; none if there was none yet.
///
/// # Errors
/// If it cannot be read.
pub fn remembered(file: &Path) -> io::Result<Option<Digest>> {
    Ok(read(file)?.map(|approved| approved.id()))
}

fn read(file: &Path) -> io::Result<Option<Approved>> {
    match fs::read(file) {
        Ok(text) => Ok(Some(serde_json::from_slice(&text)?)),
        Err(fault) if fault.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(fault) => Err(fault),
    }
}

impl Approved {
    /// By what the next one names it.
    #[must_use]
    pub fn id(&self) -> Digest {
        Digest::of_content(self.statement.as_bytes())
    }
}

impl Approval {
    /// Approval by those whom a file names; the last one is remembered in the history's folder.
    ///
    /// # Errors
    /// If there is no history, or what is remembered cannot be read or was not signed.
    pub fn open(approvers: PathBuf, history: Option<&Path>) -> Result<Self, Finding> {
        let hint = || Some("add `history: { dir: … }`: each approval names the one before it".to_owned());
        let folder =
            history.ok_or_else(|| Finding::of_file(&approvers, "approval needs a history in the config", hint()))?;
        let file = memory_in(folder);
        let last = read(&file).map_err(|fault| Finding::of_file(&file, format!("cannot be read: {fault}"), None))?;
        let approval = Self { approvers, file, last: Mutex::default() };
        if let Some(last) = &last {
            let found = approval.approvers()?.signed(&last.statement, last.signatures.iter().map(String::as_str));
            found.enough().map_err(|few| {
                let message = format!("remembers an approval that does not count any more: {few}");
                let hint = format!("remove it, approve the config with `belay approve --parent {}`", last.id());
                Finding::of_file(&approval.file, message, Some(hint))
            })?;
        }
        *approval.last.lock() = last;
        Ok(approval)
    }

    /// The last approval.
    #[must_use]
    pub fn last(&self) -> Option<Approved> {
        self.last.lock().clone()
    }

    /// Whether what decides in a config was approved: it is what was approved last, or enough have signed that it comes
    /// after that.
    ///
    /// # Errors
    /// What is missing.
    pub fn check<'a>(
        &self,
        config: &Path,
        files: impl Iterator<Item = (&'a Path, Kind, Digest)> + Clone,
    ) -> Result<Approved, Finding> {
        let folder = config.parent().unwrap_or_else(|| Path::new(""));
        let last = self.last();
        if let Some(last) = &last
            && last.statement == statement(folder, files.clone(), parent_of(&last.statement))
        {
            return Ok(last.clone());
        }
        let wanted = statement(folder, files, last.as_ref().map(Approved::id));
        let file = signatures_of(config);
        let text = match content_up_to(&file, SIGNATURES_MAX) {
            Ok(Some(text)) => String::from_utf8_lossy(&text).into_owned(),
            Ok(None) => return Err(Finding::of_file(&file, "is longer than signatures are", None)),
            Err(_not_there) => String::new(),
        };
        let found = self.approvers()?.signed(&wanted, blocks(&text));
        found.enough().map_err(|few| {
            let strange = match found.strange {
                0 => String::new(),
                1 => "; 1 signature is of another text, or of somebody else".to_owned(),
                more => format!("; {more} signatures are of another text, or of somebody else"),
            };
            let hint = "sign what `belay approve` prints, and append the signatures to that file".to_owned();
            Finding::of_file(&file, format!("the change is not approved: {few}{strange}"), Some(hint))
        })?;
        Ok(Approved { statement: wanted, signatures: found.signatures, by: found.by })
    }

    /// Remembers an approval whose config is about to be live.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn keep(&self, approved: Approved) -> io::Result<()> {
        let mut last = self.last.lock();
        if last.as_ref() != Some(&approved) {
            replace_for_good(&self.file, &serde_json::to_vec_pretty(&approved)?)?;
            *last = Some(approved);
        }
        Ok(())
    }

    /// Reads again what another process may have written.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn read_again(&self) -> io::Result<()> {
        *self.last.lock() = read(&self.file)?;
        Ok(())
    }

    /// Read each time: whoever may not approve any more cannot from then on.
    fn approvers(&self) -> Result<Signers, Finding> {
        let fault = |message: String| Finding::of_file(&self.approvers, message, None);
        let path = only_roots(&self.approvers).map_err(|untrusted| fault(untrusted.to_string()))?;
        let text = fs::read_to_string(path).map_err(|error| fault(format!("cannot be read: {error}")))?;
        let read = Approvers::read(&text).map_err(fault)?;
        let key = |(name, text): (&String, &String)| {
            let unusable = |error| fault(format!("the key of {name} cannot be used: {error}"));
            let key = PublicKey::from_openssh(text).map_err(unusable)?;
            let is_known = KINDS.contains(&key.algorithm().as_str());
            let unknown = || fault(format!("the key of {name} is none of {}", KINDS.join(", ")));
            if is_known { Ok((name.clone(), key)) } else { Err(unknown()) }
        };
        let keys = read.signers.iter().map(key).collect::<Result<Vec<_>, _>>()?;
        Ok(Signers { needed: read.signatures, keys })
    }
}

/// The kinds of keys that approve.
const KINDS: [&str; 4] =
    ["ssh-ed25519", "ecdsa-sha2-nistp256", "sk-ssh-ed25519@openssh.com", "sk-ecdsa-sha2-nistp256@openssh.com"];

/// Those who may approve, with their keys.
struct Signers {
    needed: usize,
    keys: Vec<(String, PublicKey)>,
}

/// Signatures of a text.
struct Found {
    needed: usize,
    by: BTreeSet<String>,
    signatures: Vec<String>,
    /// Those that are no approver's, or of another text.
    strange: usize,
}

impl Found {
    /// Whether so many have signed as must; or how many have.
    fn enough(&self) -> Result<(), String> {
        let (signed, needed) = (self.by.len(), self.needed);
        if signed >= needed {
            return Ok(());
        }
        let names = self.by.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
        let who = if names.is_empty() { String::new() } else { format!(" ({names})") };
        Err(format!("{signed} of {needed} signatures{who}"))
    }
}

impl Signers {
    fn signed<'a>(&self, text: &str, signatures: impl Iterator<Item = &'a str>) -> Found {
        let mut found = Found { needed: self.needed, by: BTreeSet::new(), signatures: Vec::new(), strange: 0 };
        for block in signatures {
            let signature = SshSig::from_pem(block).ok();
            let signer = signature.and_then(|signature| {
                let is_his =
                    |(_, key): &&(String, PublicKey)| key.verify(NAMESPACE, text.as_bytes(), &signature).is_ok();
                self.keys.iter().find(is_his).map(|(name, _)| name.clone())
            });
            match signer {
                Some(name) => {
                    found.by.insert(name);
                    found.signatures.push(block.to_owned());
                }
                None => found.strange = found.strange.saturating_add(1),
            }
        }
        found
    }
}

/// The signatures that stand in a file.
fn blocks(text: &str) -> impl Iterator<Item = &str> {
    text.match_indices(BEGIN).filter_map(|(start, _)| {
        let rest = text.get(start..)?;
        rest.get(..rest.find(END)?.saturating_add(END.len()))
    })
}

/// What a statement says that it comes after.
fn parent_of(statement: &str) -> Option<Digest> {
    Digest::parse(statement.lines().nth(1)?.strip_prefix("parent ")?)
}
