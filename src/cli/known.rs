//! A config to look at: the one that is live, one that was, or one in a file.

use super::terminal::Terminal;
use super::{Exit, check, run, socket};
use crate::config::{self, Config};
use crate::filter;
use crate::generation::Digest;
use crate::insight::Side;
use crate::keys::{Kind, fits};
use crate::policy::rules::RuleSet;
use crate::runtime::{self, Snapshot};
use serde_json::Value;
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

/// A config with the digests of the files that decide beside it.
pub(super) struct Known {
    pub(super) config: Arc<Config>,
    /// By their ways from the config's folder.
    files: Vec<(PathBuf, Digest)>,
    /// The config and all files.
    all: Vec<(PathBuf, Kind, Digest)>,
    rules: Option<RuleSet>,
}

impl Known {
    /// Files are known by their way from the config's folder, which may be another one on another machine.
    fn new(config: Arc<Config>, all: Vec<(PathBuf, Kind, Digest)>, rules: Option<RuleSet>) -> Self {
        let files = all.iter().skip(1).map(|(path, _, digest)| (config.way_to(path).to_owned(), *digest)).collect();
        Self { config, files, all, rules }
    }

    /// The folder in which relative paths begin.
    pub(super) fn folder(&self) -> &Path {
        self.config.file.parent().unwrap_or_else(|| Path::new(""))
    }

    /// The config and all files.
    pub(super) fn all(&self) -> impl Iterator<Item = (&Path, Kind, Digest)> {
        self.all.iter().map(|(path, kind, digest)| (path.as_path(), *kind, *digest))
    }

    /// As a side of a plan.
    pub(super) fn side(&self) -> Side<'_> {
        Side { config: &self.config, files: &self.files, rules: self.rules() }
    }

    /// The rules, if there are some.
    pub(super) const fn rules(&self) -> Option<&RuleSet> {
        self.rules.as_ref()
    }

    /// The one in a file, with all that it names.
    pub(super) fn in_file(file: &Path, terminal: &Terminal) -> Result<Self, Exit> {
        let config = Arc::new(run::load(file, terminal).ok_or(Exit::Config)?);
        let mut findings = Vec::new();
        let snapshot = check::build(&config, &mut findings);
        terminal.show(&findings);
        let Snapshot { read, rules, .. } = snapshot.ok_or(Exit::Config)?;
        Ok(Self::new(config, read.iter().map(|read| (read.path.clone(), read.kind, read.digest())).collect(), rules))
    }

    /// What a word means: `running`, the number of a generation that was live, or a file.
    pub(super) fn meant(word: &str, at: &socket::At, terminal: &Terminal) -> Result<Self, Exit> {
        let told = match word.parse::<u64>() {
            Ok(generation) => at.ask_json(&format!("/history/{generation}"), terminal)?,
            Err(_no_number) if word == "running" => at.ask_json("/config", terminal)?,
            Err(_no_number) => return Self::in_file(Path::new(word), terminal),
        };
        Self::told(&told, terminal)
    }

    /// As the process tells it.
    fn told(told: &Value, terminal: &Terminal) -> Result<Self, Exit> {
        let contents = told.get("contents").and_then(Value::as_array).cloned().unwrap_or_default();
        let text = |content: &Value, key: &str| content.get(key).and_then(Value::as_str).map(str::to_owned);
        let file = |content: &Value| {
            let kind = serde_json::from_value(content.get("kind")?.clone()).ok()?;
            Some((PathBuf::from(text(content, "path")?), kind, Digest::parse(&text(content, "sha256")?)?))
        };
        let first = contents.first().and_then(|content| Some((text(content, "path")?, text(content, "text")?)));
        let (path, config) = first.ok_or(Exit::Unavailable)?;
        let checked = config::read(Path::new(&path), &config, filter::KINDS);
        let Some(config) = checked.config else {
            terminal.show(&checked.findings);
            return Err(Exit::Config);
        };
        let texts = contents.iter().filter_map(|content| Some((text(content, "text")?, text(content, "path")?.into())));
        let rules = rules(&config, texts.collect(), terminal)?;
        Ok(Self::new(Arc::new(config), contents.iter().filter_map(file).collect(), rules))
    }
}

/// The rules among texts that came with a config.
fn rules(config: &Config, texts: Vec<(String, PathBuf)>, terminal: &Terminal) -> Result<Option<RuleSet>, Exit> {
    let Some(files) = &config.policies else { return Ok(None) };
    let are_rules = |(_, path): &(String, PathBuf)| files.policies.iter().any(|pattern| fits(pattern, path));
    let texts: Vec<_> = texts.into_iter().filter(are_rules).collect();
    match runtime::rules::read(&config.words, &texts) {
        Ok((rules, _)) => Ok(Some(rules)),
        Err(findings) => {
            terminal.show(&findings);
            Err(Exit::Config)
        }
    }
}
