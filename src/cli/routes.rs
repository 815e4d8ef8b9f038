//! `belay routes`

use super::terminal::{Terminal, table};
use super::{DEFAULT_CONFIG, Exit, run};
use crate::config::{self, Config};
use crate::identity::Profile;
use crate::policy::Access;
use serde::Serialize;
use std::path::PathBuf;

/// Show the routes in the order in which they are tried: the first that matches decides.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: belay routes -c belay.yaml")]
pub(super) struct Args {
    /// The config.
    #[arg(short, long, value_name = "FILE", default_value = DEFAULT_CONFIG)]
    config: PathBuf,
    /// Print them as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Row {
    name: String,
    host: String,
    path: String,
    methods: Vec<String>,
    allow: Vec<String>,
    identity: Vec<String>,
    pool: String,
}

pub(super) fn main(args: &Args, terminal: &Terminal) -> Exit {
    let Some(config) = run::load(&args.config, terminal) else { return Exit::Config };
    let rows: Vec<_> = config.routes.iter().map(|route| row(route, &config)).collect();
    if args.json {
        terminal.say_json(&rows);
    } else {
        terminal.say(&show(&rows, terminal));
    }
    Exit::Ok
}

fn row(route: &config::Route, config: &Config) -> Row {
    let methods = route.pattern.methods.iter().flatten().map(ToString::to_string).collect();
    let (allow, identity) = match &*route.access {
        Access::Public(_) => (vec!["public".into()], Vec::new()),
        Access::Listed(list) => {
            let names =
                list.workloads.keys().map(ToString::to_string).chain(list.roles.keys().map(ToString::to_string));
            let mut names: Vec<_> = names.collect();
            names.sort();
            (names, demanded(route, config))
        }
    };
    Row {
        name: route.name.to_string(),
        host: route.pattern.host.to_string(),
        path: route.pattern.path.to_string(),
        methods,
        allow,
        identity,
        pool: route.pool.to_string(),
    }
}

/// What who is allowed may have to prove. A listener that asks for nothing lets none of them in.
fn demanded(route: &config::Route, config: &Config) -> Vec<String> {
    let of_listeners = || config.listeners.iter().map(|listener| listener.identity).collect::<Vec<_>>();
    let profiles = route.identity.map_or_else(of_listeners, |profile| vec![profile]);
    let proving = profiles.iter().filter(|profile| **profile != Profile::None);
    let mut names: Vec<_> = proving.map(ToString::to_string).collect();
    names.sort();
    names.dedup();
    names
}

fn show(rows: &[Row], terminal: &Terminal) -> String {
    let or = |list: &[String], none: &str| if list.is_empty() { none.to_owned() } else { list.join(",") };
    let head = ["#", "ROUTE", "HOST", "PATH", "METHODS", "ALLOW", "IDENTITY", "POOL"].map(str::to_owned).to_vec();
    let body = rows.iter().zip(1..).map(|(row, number): (&Row, usize)| {
        vec![
            number.to_string(),
            row.name.clone(),
            row.host.clone(),
            row.path.clone(),
            or(&row.methods, "any"),
            or(&row.allow, "nobody"),
            or(&row.identity, "-"),
            row.pool.clone(),
        ]
    });
    let text = table(&std::iter::once(head).chain(body).collect::<Vec<_>>());
    match text.split_once('\n') {
        Some((head, body)) => format!("{}\n{body}", terminal.bold(head)),
        None => text,
    }
}
