//! `belay plugin`

mod check;

use super::Exit;
use super::terminal::Terminal;

/// Look at plugins.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Check(Box<check::Args>),
}

pub(super) fn main(args: &Args, terminal: &Terminal) -> Exit {
    match &args.command {
        Command::Check(args) => check::main(args, terminal),
    }
}
