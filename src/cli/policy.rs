//! `belay policy`

use super::terminal::{Terminal, table};
use super::{DEFAULT_CONFIG, Exit, run, socket};
use crate::clock::{self, Clock};
use crate::config::{Config, Finding, Trial, read_tests};
use crate::insight::{self, Trials, Tried};
use crate::keys::Files;
use crate::policy::rules;
use crate::runtime;
use serde::Serialize;
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
};

/// Try rules out, and say what they can speak of.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Test(Test),
    Shadow(Shadow),
    Schema(Schema),
}

/// Do the tests of `access.tests`: who may do what, and because of which rule.
///
/// All that the config says counts: lists, roles, rules; no key is read. Who asks in a test has proved all that he can. Says which rules no
/// test was decided by. Ends with 0 if all pass, and with 1 if one fails.
#[derive(Debug, clap::Args)]
#[command(after_help = "A test, in a file such as policies/orders.test.yaml:\n  \
    - who: checkout\n    \
      user: { people: staff, claims: { groups: [support] } }\n    \
      what: GET https://shop.example.com/orders/7\n    \
      expect: allow\n    \
      because: support answers questions about orders\n\n\
    A test may say `facts`, `client`, `at`, `listener`, and the `rule` that is to decide, too.")]
struct Test {
    /// The config.
    #[arg(short, long, value_name = "FILE", default_value = DEFAULT_CONFIG)]
    config: PathBuf,
    /// Fail if a rule is decided by in no test.
    #[arg(long)]
    all_rules: bool,
    /// Print what came of each test as JSON.
    #[arg(long)]
    json: bool,
}

/// Say what rules marked `@shadow` would have decided otherwise.
///
/// Looks through the last decisions of the running process, up to 10,000, or through an audit log.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: belay policy shadow --file /var/log/belay/audit.jsonl")]
struct Shadow {
    #[command(flatten)]
    socket: socket::At,
    /// The audit log to look through, instead of asking the process.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Print the Cedar schema of what rules can speak of, for editors that know Cedar.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: belay policy schema -c belay.yaml > policies/schema.cedarschema")]
struct Schema {
    /// The config.
    #[arg(short, long, value_name = "FILE", default_value = DEFAULT_CONFIG)]
    config: PathBuf,
}

pub(super) fn main(args: &Args, terminal: &Terminal) -> Exit {
    let ended = match &args.command {
        Command::Test(args) => test(args, terminal),
        Command::Shadow(args) => shadow(args, terminal),
        Command::Schema(args) => schema(args, terminal),
    };
    ended.unwrap_or_else(|exit| exit)
}

fn schema(args: &Schema, terminal: &Terminal) -> Result<Exit, Exit> {
    let config = run::load(&args.config, terminal).ok_or(Exit::Config)?;
    match rules::schema(&config.words) {
        Ok(schema) => terminal.say(schema.trim_end()),
        Err(fault) => {
            terminal.show(&[Finding::of_file("", fault.message, fault.hint)]);
            return Err(Exit::Unavailable);
        }
    }
    Ok(Exit::Ok)
}

fn test(args: &Test, terminal: &Terminal) -> Result<Exit, Exit> {
    let config = run::load(&args.config, terminal).ok_or(Exit::Config)?;
    let done = done(&config).map_err(|(exit, findings)| {
        terminal.show(&findings);
        exit
    })?;
    if args.json {
        terminal.say_json(&done);
    } else {
        terminal.say(&told(&done, terminal));
    }
    let failed = done.tests.is_empty() || done.tests.iter().any(|tried| tried.fault.is_some());
    let uncovered = args.all_rules && !done.uncovered.is_empty();
    Ok(if failed || uncovered { Exit::Failed } else { Exit::Ok })
}

/// Does the tests of a config.
///
/// # Errors
/// What is wrong with which file, of those that decide or of the tests.
pub(super) fn done(config: &Config) -> Result<Trials, (Exit, Vec<Finding>)> {
    let (people, rules) = runtime::rules::deciding(config).map_err(|findings| (Exit::Config, findings))?;
    let tests = tests(config).map_err(|findings| (Exit::BadData, findings))?;
    Ok(insight::try_out(config, (&people, rules.as_ref()), &tests, clock::System.now()))
}

fn tests(config: &Config) -> Result<Vec<Trial>, Vec<Finding>> {
    let patterns = config.policies.as_ref().map(|files| files.tests.as_slice()).unwrap_or_default();
    let mut files = Files::new(config.file.parent().unwrap_or_else(|| Path::new("")));
    let (mut tests, mut findings) = (Vec::new(), Vec::new());
    for pattern in patterns {
        let found = files.matching(pattern).map_err(|finding| findings.push(finding)).unwrap_or_default();
        for file in found {
            let read = files.policy(&file).map_err(|finding| vec![finding]).and_then(|text| read_tests(&file, &text));
            match read {
                // Two patterns may fit one file.
                Ok(_) if tests.iter().any(|test: &Trial| test.file == file) => {}
                Ok(read) => tests.extend(read),
                Err(faults) => findings.extend(faults),
            }
        }
    }
    if findings.is_empty() { Ok(tests) } else { Err(findings) }
}

/// What came of the tests, for people.
pub(super) fn told(done: &Trials, terminal: &Terminal) -> String {
    let failed: Vec<_> = done.tests.iter().filter(|tried| tried.fault.is_some()).collect();
    let mut text = String::new();
    for tried in &failed {
        text.push_str(&failure(tried, terminal));
    }
    let covered = done.rules.saturating_sub(done.uncovered.len());
    if !done.uncovered.is_empty() {
        let names: Vec<_> = done.uncovered.iter().map(ToString::to_string).collect();
        text.push_str(&format!("{} {}\n", terminal.dim("no test is decided by:"), names.join(", ")));
    }
    let (count, rules) = (done.tests.len(), done.rules);
    if count == 0 {
        return "there are no tests: name their files in `access.tests`".into();
    }
    let passed = count.saturating_sub(failed.len());
    text.push_str(&format!("{passed} of {count} tests passed; {covered} of {rules} rules are covered"));
    text
}

fn failure(tried: &Tried, terminal: &Terminal) -> String {
    let asked = &tried.story.asked;
    let place = format!("{}:{}", tried.file.display(), tried.line);
    let fault = tried.fault.as_deref().unwrap_or_default();
    let mut text = format!(
        "{} {place}\n  {} https://{}{} by {}\n  {fault}\n  because {}\n",
        terminal.bold("failed:"),
        asked.method,
        asked.host,
        asked.path,
        asked.by(),
        tried.because
    );
    for step in &tried.story.steps {
        text.push_str(&format!("    {} {}\n", terminal.dim(&format!("{:<9}", step.about)), step.says));
    }
    text.push('\n');
    text
}

/// What a rule would have changed.
#[derive(Debug, Default, Serialize)]
struct Would {
    count: u64,
    routes: BTreeSet<String>,
    workloads: BTreeSet<String>,
    /// The last of these requests.
    request: String,
}

/// By rule and decision.
type Woulds = BTreeMap<(String, String), Would>;

fn shadow(args: &Shadow, terminal: &Terminal) -> Result<Exit, Exit> {
    let mut woulds = Woulds::new();
    match &args.file {
        None => {
            let lines = args.socket.ask("/recent?limit=10000", terminal)?;
            lines.lines().for_each(|line| note(line, &mut woulds));
        }
        Some(file) => {
            let unread = |error: std::io::Error| {
                terminal.show(&[Finding::of_file(file, format!("cannot be read: {error}"), None)]);
                Exit::Unavailable
            };
            for line in BufReader::new(File::open(file).map_err(unread)?).lines() {
                note(&line.map_err(unread)?, &mut woulds);
            }
        }
    }
    if args.json {
        let rows = woulds
            .iter()
            .map(|((rule, decision), would)| json!({ "rule": rule, "decision": decision, "would": would }));
        terminal.say_json(&rows.collect::<Vec<_>>());
    } else if woulds.is_empty() {
        terminal.tell("no rule that is tried out would have decided anything otherwise");
    } else {
        terminal.say(&rows(&woulds, terminal));
    }
    Ok(Exit::Ok)
}

fn note(line: &str, woulds: &mut Woulds) {
    // Most lines are of other things.
    if !line.contains("\"shadow\":") {
        return;
    }
    let Ok(record) = serde_json::from_str::<Value>(line) else { return };
    let text = |pointer: &str| record.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
    let Some(decision) = text("/belay/shadow/decision") else { return };
    let rules = record.pointer("/belay/shadow/rules").and_then(Value::as_array).into_iter().flatten();
    for rule in rules.filter_map(Value::as_str) {
        let would = woulds.entry((rule.to_owned(), decision.clone())).or_default();
        would.count = would.count.saturating_add(1);
        would.routes.extend(text("/belay/route"));
        would.workloads.extend(text("/belay/workload"));
        would.request = text("/http/request/id").unwrap_or_default();
    }
}

fn rows(woulds: &Woulds, terminal: &Terminal) -> String {
    let list = |names: &BTreeSet<String>| names.iter().cloned().collect::<Vec<_>>().join(", ");
    let head = ["RULE", "WOULD", "REQUESTS", "ROUTES", "WORKLOADS", "LAST REQUEST"].map(str::to_owned).to_vec();
    let rows = woulds.iter().map(|((rule, decision), would)| {
        let count = would.count.to_string();
        vec![rule.clone(), decision.clone(), count, list(&would.routes), list(&would.workloads), would.request.clone()]
    });
    let text = table(&std::iter::once(head).chain(rows).collect::<Vec<_>>());
    match text.split_once('\n') {
        Some((head, rows)) => format!("{}\n{rows}", terminal.dim(head)),
        None => text,
    }
}
