//! From a text to a [`Config`] that has no invalid state.
//!
//! The text becomes a tree that remembers its places ([`Node`]); its shape is compared with the schema that also makes
//! the reference ([`schema`]); the tree becomes a [`Document`], word for word what the user wrote; and the document
//! becomes the `Config`, in domain types. Every step reports all of its faults, each with line, column and hint.
//! Only [`read_file`] reads a file, and only that one; the files that it names are read when it is built.

mod amount;
mod approvers;
mod check;
pub mod document;
mod edit;
mod fault;
mod filter;
mod model;
mod node;
mod reference;
mod schema;
mod structure;
mod value;

pub use approvers::Approvers;
pub use edit::{KeyEdit, NotEdited, edit_keys, line_of};
pub use fault::{Fault, Finding, Part, Severity};
pub use filter::{FilterKind, FilterSpec, Reader};
pub use model::{
    AdminHttps, AgentCheck, Audit, Balance, Bind, CertificateFiles, CheckKind, Checkpoints, ClientAddress, ClientAuth,
    Config, Dns, Durability, ExternalSecret, Followed, HashKey, HealthCheck, HttpCheck, Introduction, KeyFile,
    KeySource, KeyState, KeysPlace, Limit, LimitKey, Limits, Listener, Location, LogFormat, LogLevel, OnFailure,
    Operators, People, PolicyFiles, Pool, PoolLimits, ProcessLog, ProviderKeys, Question, Retry, RetryMethods, Route,
    SameSite, Scope, Server, Span, Sticky, TcpCheck, Timeouts, Tls, TokenKeyFile, Trial, Workload,
};
pub use node::{Node, Place, Value};
pub use reference::reference;
pub use schema::schema;

use crate::identity::Revoked;
use crate::name::RoleName;
use document::Document;
use schemars::Schema;
use serde::de::DeserializeOwned;
use std::path::{Path, PathBuf};

/// The largest config, in bytes.
pub const TEXT_MAX: u64 = 16 * 1024 * 1024;

/// A config and what is to be said of it.
#[derive(Debug)]
pub struct Checked {
    /// The config; none if there are errors.
    pub config: Option<Config>,
    /// Errors and warnings, in the order of the text.
    pub findings: Vec<Finding>,
}

/// Reads a config file.
#[must_use]
pub fn read_file(file: &Path, filters: &[&dyn FilterKind]) -> Checked {
    read_file_as(file, filters, |text| text)
}

/// Reads a config file of whose text perhaps something else counts.
pub fn read_file_as(file: &Path, filters: &[&dyn FilterKind], counts: impl FnOnce(String) -> String) -> Checked {
    match text_of(file) {
        Ok(text) => read(file, &counts(text), filters),
        Err(finding) => Checked { config: None, findings: vec![finding] },
    }
}

fn text_of(file: &Path) -> Result<String, Finding> {
    std::fs::read_to_string(file).map_err(|error| {
        let hint = "name the config with -c FILE, or try `belay demo`".to_owned();
        Finding::of_file(file, format!("the config cannot be read: {error}"), Some(hint))
    })
}

/// Where operators ask the process that runs with a config, be the rest of it good or not; none if it does not say.
///
/// # Errors
/// If the file cannot be read, or is no YAML.
pub fn socket_of(file: &Path) -> Result<Option<PathBuf>, Vec<Finding>> {
    let text = text_of(file).map_err(|finding| vec![finding])?;
    let root = Node::read(&text).map_err(|error| vec![not_yaml(file, &text, &error)])?;
    let socket = root.get("admin").and_then(|admin| admin.get("socket")?.to::<String>().ok());
    Ok(socket.map(|socket| file.parent().unwrap_or_else(|| Path::new("")).join(socket)))
}

/// Reads the config whose text stands in `file`. Its relative paths start at the file's folder.
#[must_use]
pub fn read(file: &Path, text: &str, filters: &[&dyn FilterKind]) -> Checked {
    if text.len() as u64 > TEXT_MAX {
        let message = format!("the config is over {} MiB", TEXT_MAX / 1024 / 1024);
        return Checked { config: None, findings: vec![Finding::of_file(file, message, None)] };
    }
    let root = match Node::read(text) {
        Ok(root) => root,
        Err(error) => return Checked { config: None, findings: vec![not_yaml(file, text, &error)] },
    };
    let mut faults = Vec::new();
    let config = understand((text, &root), file, filters, &mut faults);
    let failed = faults.iter().any(|fault| fault.severity == Severity::Error);
    let source = fault::Source { file, text, root: Some(&root) };
    let mut findings: Vec<_> = faults.into_iter().map(|fault| Finding::locate(fault, &source)).collect();
    findings.sort_by_key(|finding| (finding.line, finding.column));
    Checked { config: config.filter(|_| !failed), findings }
}

/// Reads servers that stand in a file of their own.
///
/// # Errors
/// What is wrong with it.
pub fn read_servers(file: &Path, text: &str) -> Result<Vec<Server>, Vec<Finding>> {
    read_part(file, text, &schema::servers(), |read: Vec<document::Server>, faults| {
        check::servers(&read, &check::Context { text, file, filters: &[] }, faults)
    })
}

/// Reads a file that says who has which of those roles.
///
/// # Errors
/// What is wrong with it.
pub fn read_mapping(file: &Path, text: &str, roles: &[&RoleName]) -> Result<document::MappingFile, Vec<Finding>> {
    read_part(file, text, &schema::of::<document::MappingFile>(), |read: document::MappingFile, faults| {
        check::mapping(&read, roles, faults);
        read
    })
}

/// Reads a file of what counts no more.
///
/// # Errors
/// What is wrong with it.
pub fn read_revoked(file: &Path, text: &str) -> Result<Revoked, Vec<Finding>> {
    read_part(file, text, &schema::of::<document::RevokedFile>(), |read: document::RevokedFile, faults| {
        check::revoked(&read, &check::Context { text, file, filters: &[] }, faults)
    })
}

/// Reads a file of tests of the policy.
///
/// # Errors
/// What is wrong with it.
pub fn read_tests(file: &Path, text: &str) -> Result<Vec<Trial>, Vec<Finding>> {
    let root = Node::read(text).map_err(|error| vec![not_yaml(file, text, &error)])?;
    read_part(file, text, &schema::of::<Vec<document::PolicyTest>>(), |read: Vec<document::PolicyTest>, faults| {
        check::trials(&read, &root, &check::Context { text, file, filters: &[] }, faults)
    })
}

/// Reads a file that is a part of the config.
fn read_part<D: DeserializeOwned, T: Default>(
    file: &Path,
    text: &str,
    schema: &Schema,
    check: impl FnOnce(D, &mut Vec<Fault>) -> T,
) -> Result<T, Vec<Finding>> {
    let root = Node::read(text).map_err(|error| vec![not_yaml(file, text, &error)])?;
    let (mut faults, mut checked) = (Vec::new(), T::default());
    structure::compare(&root, schema, &mut faults);
    if faults.is_empty() {
        match root.to::<D>() {
            Ok(read) => checked = check(read, &mut faults),
            Err(error) => faults.push(Fault::new(&Place::root(), error.to_string())),
        }
    }
    let source = fault::Source { file, text, root: Some(&root) };
    let findings: Vec<_> = faults.into_iter().map(|fault| Finding::locate(fault, &source)).collect();
    if findings.is_empty() { Ok(checked) } else { Err(findings) }
}

fn understand(
    (text, root): (&str, &Node),
    file: &Path,
    filters: &[&dyn FilterKind],
    faults: &mut Vec<Fault>,
) -> Option<Config> {
    structure::compare(root, &schema(filters), faults);
    if !faults.is_empty() {
        return None;
    }
    match root.to::<Document>() {
        Ok(document) => check::check(&document, root, &check::Context { text, file, filters }, faults),
        Err(error) => {
            faults.push(Fault::new(&Place::root(), error.to_string()));
            None
        }
    }
}

fn not_yaml(file: &Path, text: &str, error: &serde_saphyr::Error) -> Finding {
    let place = error.location().map_or((0, 0), |location| {
        let number = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        (number(location.line()), number(location.column()))
    });
    let message = error.without_snippet().to_string();
    Finding::at(file, place, text, format!("this is not the YAML that is expected: {message}"))
}

/// Writes a document as YAML.
///
/// # Errors
/// [`Unwritable`], which a document that was checked never is.
pub fn write(document: &Document) -> Result<String, Unwritable> {
    serde_yaml::to_string(document).map_err(Unwritable)
}

/// Why a document cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("the config cannot be written as YAML")]
pub struct Unwritable(#[source] serde_yaml::Error);

#[cfg(test)]
mod tests;
