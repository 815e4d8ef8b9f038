//! `belay plan`

use super::terminal::Terminal;
use super::{Exit, check, run, socket};
use crate::config::{self, Config};
use crate::filter;
use crate::generation::Digest;
use crate::insight::{self, Side};
use serde_json::{Value, json};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

/// Say what a config would change for whom, before it is live.
///
/// Compared is the running process, asked at `admin.socket`, or what `--against` names. Each change comes with a request
/// that is decided differently; a stranger and each workload are tried at every listener. Ends with 0 if nothing changes,
/// with 2 if something does, and with 77 if something dangerous is not accepted.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    belay plan belay.yaml\n  \
    belay plan belay.yaml --against 7\n  \
    belay plan new.yaml --against old.yaml --markdown > plan.md")]
pub(super) struct Args {
    /// The new config.
    new: PathBuf,
    /// What to compare with: `running`, the number of a generation that was live, or another config's file.
    #[arg(long, value_name = "WHAT", default_value = "running")]
    against: String,
    /// The process's socket, if it is not the one that the new config says.
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Something dangerous that is meant, by the name that the plan says; `all` for all.
    #[arg(long, value_name = "NAME")]
    accept: Vec<String>,
    /// Print Markdown, for a pull request.
    #[arg(long, conflicts_with = "json")]
    markdown: bool,
    /// Print the plan as JSON.
    #[arg(long)]
    json: bool,
}

/// A config with the digests of the files that decide beside it.
struct Known {
    config: Arc<Config>,
    files: Vec<(PathBuf, Digest)>,
}

impl Known {
    /// Files are known by their way from the config's folder, which may be another one on another machine.
    fn new(config: Arc<Config>, files: impl Iterator<Item = (PathBuf, Digest)>) -> Self {
        let folder = config.file.parent().unwrap_or_else(|| Path::new(""));
        let inner = |path: PathBuf| path.strip_prefix(folder).map_or_else(|_elsewhere| path.clone(), Path::to_path_buf);
        let files = files.map(|(path, digest)| (inner(path), digest)).collect();
        Self { config, files }
    }

    fn side(&self) -> Side<'_> {
        Side { config: &self.config, files: &self.files }
    }
}

pub(super) fn main(args: &Args, terminal: &Terminal) -> Exit {
    let compared = from_file(&args.new, terminal).and_then(|new| Ok((old(args, terminal)?, new)));
    let (old, new) = match compared {
        Ok(compared) => compared,
        Err(exit) => return exit,
    };
    let plan = insight::plan(&old.side(), &new.side());
    let unaccepted: Vec<_> = plan.unaccepted(&args.accept).collect();
    if args.json {
        terminal.say_json(&json!({ "plan": plan, "unaccepted": unaccepted }));
    } else {
        terminal.say(&plan.show(args.markdown));
    }
    match (plan.is_empty(), unaccepted.is_empty()) {
        (true, _) => Exit::Ok,
        (false, true) => Exit::Changes,
        (false, false) => Exit::Denied,
    }
}

fn from_file(file: &Path, terminal: &Terminal) -> Result<Known, Exit> {
    let config = Arc::new(run::load(file, terminal).ok_or(Exit::Config)?);
    let mut findings = Vec::new();
    let snapshot = check::build(&config, &mut findings);
    terminal.show(&findings);
    let read = snapshot.ok_or(Exit::Config)?.read;
    Ok(Known::new(config, read.iter().skip(1).map(|read| (read.path.clone(), read.digest()))))
}

/// What is compared with.
fn old(args: &Args, terminal: &Terminal) -> Result<Known, Exit> {
    let at = socket::At::of(args.new.clone(), args.socket.clone());
    let told = match args.against.parse::<u64>() {
        Ok(generation) => at.ask_json(&format!("/history/{generation}"), terminal)?,
        Err(_no_number) if args.against == "running" => at.ask_json("/config", terminal)?,
        Err(_no_number) => return from_file(Path::new(&args.against), terminal),
    };
    let contents = told.get("contents").and_then(Value::as_array).cloned().unwrap_or_default();
    let text = |content: &Value, key: &str| content.get(key).and_then(Value::as_str).map(str::to_owned);
    let file =
        |content: &Value| Some((PathBuf::from(text(content, "path")?), Digest::parse(&text(content, "sha256")?)?));
    let first = contents.first().and_then(|content| Some((text(content, "path")?, text(content, "text")?)));
    let (path, config) = first.ok_or(Exit::Unavailable)?;
    let checked = config::read(Path::new(&path), &config, &filter::KINDS);
    let Some(config) = checked.config else {
        terminal.show(&checked.findings);
        return Err(Exit::Config);
    };
    Ok(Known::new(Arc::new(config), contents.iter().skip(1).filter_map(file)))
}
