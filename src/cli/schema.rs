//! `belay schema`

use super::Exit;
use super::terminal::Terminal;
use crate::config;
use crate::filter;

/// Print the JSON Schema of the config, for editors.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: belay schema > belay.schema.json\n\
    and as the config's first line: # yaml-language-server: $schema=belay.schema.json")]
pub(super) struct Args {
    /// It is JSON in any case; accepted because every command takes it.
    #[arg(long, hide = true)]
    json: bool,
}

pub(super) fn main(_: &Args, terminal: &Terminal) -> Exit {
    // A schema is JSON already.
    terminal.say(&serde_json::to_string_pretty(&config::schema(filter::KINDS)).unwrap_or_default());
    Exit::Ok
}
