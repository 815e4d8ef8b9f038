//! The command line: one file a command.

mod against;
mod approve;
mod audit;
mod check;
mod demo;
mod explain;
mod history;
mod inherited;
mod keys;
mod known;
mod log;
mod plan;
mod plugin;
mod policy;
mod recent;
mod reload;
mod routes;
mod run;
mod schema;
mod servers;
mod socket;
mod status;
mod terminal;
mod token;
mod upgrade;
mod users;

use crate::runtime::for_a_shell;
use clap::{CommandFactory, Parser, Subcommand, error::ErrorKind};
use std::{path::PathBuf, process::ExitCode};
use terminal::Terminal;

/// A load balancer that knows who is calling.
#[derive(Debug, Parser)]
#[command(
    name = "belay",
    version,
    about,
    after_help = "Start here: `belay demo` shows requests that pass and forged ones that are refused.",
    subcommand_negates_reqs = true,
    arg_required_else_help = true
)]
pub struct Cli {
    /// Check the config given with -c and end; the same as `belay check`.
    #[arg(short = 't')]
    test: bool,
    /// The config for -t.
    #[arg(short, long, value_name = "FILE", default_value = DEFAULT_CONFIG, hide = true)]
    config: PathBuf,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::Args),
    Check(check::Args),
    Routes(routes::Args),
    Recent(recent::Args),
    Explain(explain::Args),
    Reload(reload::Args),
    Plan(plan::Args),
    Policy(policy::Args),
    Plugin(plugin::Args),
    Audit(audit::Args),
    Approve(approve::Args),
    History(history::History),
    Show(history::Show),
    Rollback(history::Rollback),
    Upgrade(upgrade::Args),
    Status(Box<status::Args>),
    Keys(Box<keys::Args>),
    Drain(servers::Drain),
    Ready(servers::Ready),
    Maint(servers::Maint),
    Weight(servers::Weight),
    Token(Box<token::Args>),
    Schema(schema::Args),
    Demo(demo::Args),
}

const DEFAULT_CONFIG: &str = "belay.yaml";

/// How a command ended. The numbers are those of `sysexits.h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Exit {
    Ok = 0,
    /// A test failed, or a record was altered.
    Failed = 1,
    /// A plan has changes, or an audit log lacks records.
    Changes = 2,
    /// Records of an audit log are not signed.
    Unsigned = 3,
    /// The command line is wrong.
    Usage = 64,
    /// A file's content is wrong.
    BadData = 65,
    /// Something that is needed is not there, for example an address that is free.
    Unavailable = 69,
    /// Who asks may not.
    Denied = 77,
    /// The config is wrong.
    Config = 78,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Runs the program.
#[must_use]
pub fn main() -> ExitCode {
    let terminal = Terminal::new();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error).into(),
    };
    log::install(&terminal);
    let exit = match cli.command {
        None if cli.test => check::main(&check::Args::of(cli.config), &terminal),
        None => help(&terminal),
        Some(Command::Run(args)) => run::main(args, &terminal),
        Some(Command::Check(args)) => check::main(&args, &terminal),
        Some(Command::Routes(args)) => routes::main(&args, &terminal),
        Some(Command::Recent(args)) => recent::main(&args, &terminal),
        Some(Command::Explain(args)) => explain::main(&args, &terminal),
        Some(Command::Reload(args)) => reload::main(&args, &terminal),
        Some(Command::Plan(args)) => plan::main(&args, &terminal),
        Some(Command::Audit(args)) => audit::main(&args, &terminal),
        Some(Command::Policy(args)) => policy::main(&args, &terminal),
        Some(Command::Plugin(args)) => plugin::main(&args, &terminal),
        Some(Command::Approve(args)) => approve::main(&args, &terminal),
        Some(Command::History(args)) => args.main(&terminal),
        Some(Command::Show(args)) => args.main(&terminal),
        Some(Command::Rollback(args)) => args.main(&terminal),
        Some(Command::Upgrade(args)) => upgrade::main(&args, &terminal),
        Some(Command::Status(args)) => status::main(&args, &terminal),
        Some(Command::Keys(args)) => keys::main(&args, &terminal),
        Some(Command::Drain(args)) => args.main(&terminal),
        Some(Command::Ready(args)) => args.main(&terminal),
        Some(Command::Maint(args)) => args.main(&terminal),
        Some(Command::Weight(args)) => args.main(&terminal),
        Some(Command::Token(args)) => token::main(&args, &terminal),
        Some(Command::Schema(args)) => schema::main(&args, &terminal),
        Some(Command::Demo(args)) => demo::main(&args, &terminal),
    };
    ::log::logger().flush();
    exit.into()
}

/// Help and version are no errors; clap's own number for a wrong command line is another.
fn usage(error: &clap::Error) -> Exit {
    // Whoever closed the pipe does not read the help.
    error.print().ok();
    let asked_for = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
    if asked_for { Exit::Ok } else { Exit::Usage }
}

fn help(terminal: &Terminal) -> Exit {
    terminal.say(&Cli::command().render_help().to_string());
    Exit::Usage
}

/// The command line as Markdown, for the reference.
#[must_use]
pub fn reference() -> String {
    let mut root = Cli::command();
    root.build();
    let mut text = String::new();
    describe(&root, "belay", &mut text);
    text
}

/// What is below a command.
fn describe(above: &clap::Command, name: &str, text: &mut String) {
    for command in above.get_subcommands().filter(|command| command.get_name() != "help") {
        let name = format!("{name} {}", command.get_name());
        let help = command.clone().term_width(100).render_long_help().to_string();
        let help: Vec<_> = help.lines().map(str::trim_end).collect();
        text.push_str(&format!("## {name}\n\n```text\n{}\n```\n\n", help.join("\n").trim_end()));
        describe(command, &name, text);
    }
}
