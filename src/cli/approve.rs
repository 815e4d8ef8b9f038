//! `belay approve`

use super::known::Known;
use super::socket::{self, NoAnswer};
use super::terminal::Terminal;
use super::{DEFAULT_CONFIG, Exit};
use crate::generation::Digest;
use crate::runtime;
use std::path::PathBuf;

/// Print what those must sign who approve a config: every file that decides, by its content, and the approval before it.
///
/// Each signs that text with his SSH key, after he has read the plan; the signatures stand in a file beside the config,
/// one after the other. The process asks for them if it runs with --approvers.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  \
    belay plan belay.yaml && belay approve -c belay.yaml > change.txt\n  \
    ssh-keygen -Y sign -n belay -f ~/.ssh/id_ed25519 change.txt\n  \
    cat change.txt.sig >> belay.yaml.sig && belay reload -c belay.yaml")]
pub(super) struct Args {
    /// The config.
    #[arg(short, long, value_name = "FILE", default_value = DEFAULT_CONFIG)]
    config: PathBuf,
    /// An earlier generation that is to be live again, instead of the config.
    #[arg(long, value_name = "NUMBER")]
    generation: Option<u64>,
    /// The approval before, if no process can be asked: its id, or `none` before the first start.
    #[arg(long, value_name = "ID", value_parser = parent)]
    parent: Option<Parent>,
    /// The process's socket, if it is not the one that the config says.
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
}

/// What an approval comes after.
#[derive(Debug, Clone, Copy)]
struct Parent(Option<Digest>);

fn parent(text: &str) -> Result<Parent, String> {
    match (text, Digest::parse(text)) {
        ("none", _) => Ok(Parent(None)),
        (_, Some(digest)) => Ok(Parent(Some(digest))),
        (_, None) => Err("an id is 64 hexadecimal digits, or `none`".into()),
    }
}

pub(super) fn main(args: &Args, terminal: &Terminal) -> Exit {
    match text(args, terminal) {
        Ok(text) => {
            terminal.say(&text);
            Exit::Ok
        }
        Err(exit) => exit,
    }
}

fn text(args: &Args, terminal: &Terminal) -> Result<String, Exit> {
    let at = socket::At::of(args.config.clone(), args.socket.clone());
    let known = match args.generation {
        Some(generation) => Known::meant(&generation.to_string(), &at, terminal)?,
        None => Known::in_file(&std::path::absolute(&args.config).unwrap_or_else(|_| args.config.clone()), terminal)?,
    };
    let parent = match args.parent {
        Some(Parent(parent)) => parent,
        None => last(&at, terminal)?,
    };
    Ok(runtime::statement(known.folder(), known.all(), parent))
}

/// The last approval, as the process knows it.
fn last(at: &socket::At, terminal: &Terminal) -> Result<Option<Digest>, Exit> {
    let told = at.ask_json("/approval", terminal)?;
    if told.get("required").and_then(serde_json::Value::as_bool) != Some(true) {
        let why = "the running process asks for no approval: start it with --approvers, or say --parent";
        terminal.fail(&NoAnswer::Refused(why.into()));
        return Err(Exit::Unavailable);
    }
    Ok(told.get("last").and_then(|last| Digest::parse(last.as_str()?)))
}
