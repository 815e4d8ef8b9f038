//! `belay keys rotate`

use super::files::{Made, NewKey, replace};
use super::time;
use crate::cli::Exit;
use crate::cli::socket;
use crate::cli::terminal::Terminal;
use crate::clock::{Clock, System};
use crate::config::document::Key;
use crate::config::{self, Config, Finding, KeyEdit, KeySource, KeyState, NotEdited, TokenKeyFile, Workload};
use crate::filter;
use crate::identity::Kid;
use crate::keys::Files;
use crate::name::closest;
use serde_json::{Value, json};
use std::{
    fs, io,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

/// Replace a workload's token key by a new one, without losing a request.
///
/// It takes one step, says what is to be done at Cloudflare, and goes on when it is called again; with --wait it does all
/// of it in one go. The steps: a new key counts beside the old one (`next`); the Worker gets it; once a token was signed
/// with it, it is `active` and the old one `retiring`; once the old one has not been used for a while, it is `revoked`.
/// The config is changed in its place, comments stay, and each step is a reload.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  belay keys rotate checkout -c /etc/belay/belay.yaml --wait
  npx wrangler secret put EDGE_IDENTITY < checkout-2026-11-30.json     # in another terminal, when it says so")]
pub(super) struct Args {
    /// The workload.
    workload: String,
    #[command(flatten)]
    socket: socket::At,
    /// The new key's id. Without it, the workload and the day.
    #[arg(long, value_name = "KID", value_parser = kid)]
    kid: Option<Kid>,
    /// Where the Worker's half goes: `{kid, alg, key}` in JSON, for its secret `EDGE_IDENTITY`. Without it, a file of the
    /// key's id in this folder. Delete it once the Worker has it.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// For how long nobody may have used the old key before it is revoked. Workers take a while to take a secret up.
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = humantime::parse_duration)]
    quiet_for: Duration,
    /// Wait for the Worker, and take all steps.
    #[arg(long)]
    wait: bool,
    /// Print each step as a line of JSON.
    #[arg(long)]
    json: bool,
}

fn kid(text: &str) -> Result<Kid, String> {
    Kid::parse(text).ok_or_else(|| "1 to 64 of `A-Z a-z 0-9 . _ -`".to_owned())
}

/// How often it is looked while it waits.
const EVERY: Duration = Duration::from_secs(1);
/// So many keys may be made on one day.
const NAMES_MAX: usize = 99;

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("{config} names no workload `{name}`{hint}")]
    Workload { config: PathBuf, name: String, hint: String },
    #[error("`{0}` has no active key that a new one could replace")]
    NoKey(String),
    #[error("the process does not know the key `{0}` yet: is another config live? see belay reload")]
    Unknown(Kid),
    #[error("{0} cannot be written")]
    Write(PathBuf, #[source] io::Error),
    #[error("the key `{0}` cannot be made")]
    Make(Kid, #[source] io::Error),
    #[error("the day holds no more ids for keys of `{0}`: give one with --kid")]
    Names(String),
    #[error("{0}")]
    File(Finding),
    #[error("{file}: {source}; write this among the keys of `{workload}`, reload, and go on from there:\n  {line}")]
    NotEdited { file: PathBuf, source: NotEdited, workload: String, line: String },
    #[error("the change was refused, and the config's file is as it was")]
    Refused,
}

/// What came of a step.
enum Step {
    Made {
        kid: Kid,
        old: Kid,
        ours: PathBuf,
        theirs: PathBuf,
    },
    /// For the first token that the new key has signed.
    WaitsForUse {
        kid: Kid,
    },
    Switched {
        kid: Kid,
        old: Vec<Kid>,
    },
    /// Until the old key has not been used for long enough.
    WaitsForQuiet {
        old: Kid,
        left: Duration,
    },
    Revoked {
        old: Vec<Kid>,
    },
}

pub(super) fn main(args: &Args, terminal: &Terminal) -> Exit {
    let mut told = None;
    loop {
        let step = match turn(args, terminal) {
            Ok(step) => step,
            Err(exit) => return exit,
        };
        let waits_for = step.waits_for();
        // What it waits for is said once.
        if waits_for.is_none() || waits_for != told {
            tell(&step, args, terminal);
        }
        if !args.wait || matches!(step, Step::Revoked { .. }) {
            return Exit::Ok;
        }
        told = waits_for;
        if told.is_some() {
            thread::sleep(EVERY);
        }
    }
}

impl Step {
    /// The key that decides how long it waits, if it does.
    fn waits_for(&self) -> Option<Kid> {
        match self {
            Self::WaitsForUse { kid } | Self::WaitsForQuiet { old: kid, .. } => Some(kid.clone()),
            Self::Made { .. } | Self::Switched { .. } | Self::Revoked { .. } => None,
        }
    }
}

/// Looks where it stands, and takes the next step if it can be taken.
fn turn(args: &Args, terminal: &Terminal) -> Result<Step, Exit> {
    let checked = config::read_file(args.socket.config(), &filter::KINDS);
    let Some(config) = checked.config else {
        terminal.show(&checked.findings);
        return Err(Exit::Config);
    };
    let live = args.socket.ask_json("/keys", terminal)?;
    let rotation = Rotation { args, terminal, config: &config, live: &live };
    rotation.step().map_err(|error| {
        terminal.fail(&error);
        match error {
            Error::Refused | Error::File(_) => Exit::Config,
            Error::Workload { .. } | Error::NoKey(_) | Error::Names(_) | Error::NotEdited { .. } => Exit::BadData,
            Error::Unknown(_) | Error::Write(..) | Error::Make(..) => Exit::Unavailable,
        }
    })
}

struct Rotation<'a> {
    args: &'a Args,
    terminal: &'a Terminal,
    config: &'a Config,
    live: &'a Value,
}

impl Rotation<'_> {
    fn step(&self) -> Result<Step, Error> {
        let workload = self.workload()?;
        let of = |state| workload.keys.iter().filter(move |key| key.state == state);
        if let Some(next) = of(KeyState::Next).next() {
            return self.switch(&next.kid, of(KeyState::Active));
        }
        let retiring: Vec<_> = of(KeyState::Retiring).map(|key| key.kid.clone()).collect();
        if !retiring.is_empty() {
            return self.revoke(retiring);
        }
        let old = of(KeyState::Active).next().ok_or_else(|| Error::NoKey(self.args.workload.clone()))?;
        self.make(workload, old)
    }

    fn workload(&self) -> Result<&Workload, Error> {
        let name = self.args.workload.as_str();
        let known = || self.config.workloads.iter().map(|known| known.workload.name.as_str());
        let found = self.config.workloads.iter().find(|known| known.workload.name.as_str() == name);
        found.ok_or_else(|| Error::Workload {
            config: self.config.file.clone(),
            name: name.to_owned(),
            hint: closest(name, known()).map(|meant| format!("; did you mean `{meant}`?")).unwrap_or_default(),
        })
    }

    /// Makes a key beside the old one, of the same kind.
    fn make(&self, workload: &Workload, old: &TokenKeyFile) -> Result<Step, Error> {
        let kid = self.new_kid(workload)?;
        let (KeySource::Public(like) | KeySource::Secret(like)) = &old.source;
        let mut files = Files::new(Path::new(""));
        let known = match &old.source {
            KeySource::Public(path) => files.public_key(path),
            KeySource::Secret(path) => files.shared_secret(path),
        };
        let algorithm = known.map_err(Error::File)?.algorithm();
        let key = NewKey::make(algorithm, kid.as_str()).map_err(|error| Error::Make(kid.clone(), error))?;
        let suffix = like.extension().map_or_else(|| "pub".into(), |suffix| suffix.to_string_lossy().into_owned());
        let ours = like.with_file_name(format!("{kid}.{suffix}"));
        let theirs = self.args.out.clone().unwrap_or_else(|| PathBuf::from(format!("{kid}.json")));
        let mut made = Made::default();
        made.like(like, &ours, &key.ours).map_err(|error| Error::Write(ours.clone(), error))?;
        let worker = format!("{}\n", serde_json::to_string(&key.theirs).unwrap_or_default());
        made.private(&theirs, &worker).map_err(|error| Error::Write(theirs.clone(), error))?;
        let file = format!("file:{}", self.config.way_to(&ours).display());
        let is_shared = algorithm.is_shared();
        let line = Key {
            kid: kid.as_str().to_owned(),
            key: (!is_shared).then(|| file.clone()),
            secret: is_shared.then_some(file),
            created: System.now().to_string().get(..10).map(str::to_owned),
            state: KeyState::Next,
        };
        self.change(&[KeyEdit::Add(Box::new(line))])?;
        made.keep();
        Ok(Step::Made { kid, old: old.kid.clone(), ours, theirs })
    }

    /// The id that was asked for, or one of this day that is not there yet.
    fn new_kid(&self, workload: &Workload) -> Result<Kid, Error> {
        if let Some(kid) = &self.args.kid {
            return Ok(kid.clone());
        }
        let day = System.now().to_string();
        let name = format!("{}-{}", workload.workload.name, day.get(..10).unwrap_or_default());
        let all = || self.config.workloads.iter().flat_map(|known| &known.keys);
        let names = (1..=NAMES_MAX).map(|number| if number == 1 { name.clone() } else { format!("{name}-{number}") });
        let mut kids = names.filter_map(|name| Kid::parse(&name));
        let free = kids.find(|kid| !all().any(|key| key.kid == *kid));
        free.ok_or_else(|| Error::Names(self.args.workload.clone()))
    }

    /// Makes the new key the active one, once somebody has signed with it.
    fn switch<'a>(&self, next: &Kid, old: impl Iterator<Item = &'a TokenKeyFile>) -> Result<Step, Error> {
        let known = self.known(next)?;
        if known["uses"].as_u64().unwrap_or(0) == 0 {
            return Ok(Step::WaitsForUse { kid: next.clone() });
        }
        let old: Vec<_> = old.map(|key| key.kid.clone()).collect();
        let retire = old.iter().map(|kid| KeyEdit::State(kid.as_str().to_owned(), KeyState::Retiring));
        let activate = KeyEdit::State(next.as_str().to_owned(), KeyState::Active);
        self.change(&retire.chain([activate]).collect::<Vec<_>>())?;
        Ok(Step::Switched { kid: next.clone(), old })
    }

    /// Revokes old keys, once nobody has used them for a while.
    fn revoke(&self, old: Vec<Kid>) -> Result<Step, Error> {
        for kid in &old {
            let known = self.known(kid)?;
            // Of what was before the process nothing is known.
            let now = System.now().unix_seconds();
            let last = time(&known["last_used"]).or_else(|| time(&self.live["since"])).unwrap_or(now);
            let quiet = Duration::from_secs(u64::try_from(now.saturating_sub(last)).unwrap_or(0));
            if let Some(left) = self.args.quiet_for.checked_sub(quiet).filter(|left| !left.is_zero()) {
                return Ok(Step::WaitsForQuiet { old: kid.clone(), left });
            }
        }
        let revoke = old.iter().map(|kid| KeyEdit::State(kid.as_str().to_owned(), KeyState::Revoked));
        self.change(&revoke.collect::<Vec<_>>())?;
        Ok(Step::Revoked { old })
    }

    /// What the process knows of a key.
    fn known(&self, kid: &Kid) -> Result<&Value, Error> {
        let owner = format!("workloads.{}", self.args.workload);
        let mut keys = self.live["keys"].as_array().into_iter().flatten();
        let is_it = |key: &&Value| key["owner"] == *owner && key["name"] == *kid.as_str();
        keys.find(is_it).ok_or_else(|| Error::Unknown(kid.clone()))
    }

    /// Changes the config, and has it read. What is refused leaves the file as it was.
    fn change(&self, edits: &[KeyEdit]) -> Result<(), Error> {
        let (file, before) = (&self.config.file, &self.config.text);
        let text = config::edit_keys(before, &self.args.workload, edits).map_err(|source| {
            let lines = edits.iter().map(|edit| match edit {
                KeyEdit::Add(key) => config::line_of(key),
                KeyEdit::State(kid, state) => format!("kid: {kid} … state: {state:?}").to_lowercase(),
            });
            let line = lines.collect::<Vec<_>>().join("\n  ");
            Error::NotEdited { file: file.clone(), source, workload: self.args.workload.clone(), line }
        })?;
        let write = |text: &str| replace(file, text).map_err(|error| Error::Write(file.clone(), error));
        // Somebody may have changed it meanwhile.
        let is_same = fs::read_to_string(file).is_ok_and(|now| *now == **before);
        if !is_same {
            return Err(Error::Refused);
        }
        write(&text)?;
        let wish = json!({ "reason": format!("belay keys rotate {}", self.args.workload) });
        let answer = self.args.socket.order("/reload", &wish, self.terminal);
        if answer.as_ref().is_ok_and(|answer| answer.get("result").is_some_and(|result| result != "refused")) {
            return Ok(());
        }
        write(before)?;
        // Why there is no answer was said.
        let findings = answer.ok().and_then(|mut answer| Some(answer.get_mut("findings")?.take()));
        let findings: Vec<Finding> = findings.and_then(|told| serde_json::from_value(told).ok()).unwrap_or_default();
        self.terminal.show(&findings);
        Err(Error::Refused)
    }
}

fn tell(step: &Step, args: &Args, terminal: &Terminal) {
    if args.json {
        return terminal.say_json(&as_json(step));
    }
    let go_on = if args.wait { String::new() } else { format!("\nThen go on: {}", command(args)) };
    terminal.say(&match step {
        Step::Made { kid, old, ours, theirs } => format!(
            "{} counts now beside {old}.\n  here      {}\n  Worker's  {}\n\n\
             At Cloudflare, in the Worker's folder:\n  npx wrangler secret put EDGE_IDENTITY < {}\n\
             and delete that file: it is the private half.{go_on}",
            terminal.bold(kid.as_str()),
            ours.display(),
            theirs.display(),
            theirs.canonicalize().unwrap_or_else(|_| theirs.clone()).display(),
        ),
        Step::WaitsForUse { kid } => format!(
            "Nobody has signed with {kid} yet. Does the Worker have it, and is it called? Waiting for its first \
             token.{go_on}"
        ),
        Step::Switched { kid, old } => format!("{kid} is in use, and active. {} is retiring.{go_on}", names(old)),
        Step::WaitsForQuiet { old, left } => format!(
            "{old} is revoked once nobody has used it for {}: in {} at the earliest.{go_on}",
            humantime::format_duration(args.quiet_for),
            humantime::format_duration(Duration::from_secs(left.as_secs().saturating_add(1))),
        ),
        Step::Revoked { old } => format!(
            "{} is revoked: nobody has used it for {}. Done. Its line and its file can go when you like.",
            names(old),
            humantime::format_duration(args.quiet_for)
        ),
    });
}

fn as_json(step: &Step) -> Value {
    match step {
        Step::Made { kid, old, ours, theirs } => {
            json!({ "step": "made", "kid": kid, "old": [old], "file": ours, "worker_file": theirs })
        }
        Step::WaitsForUse { kid } => json!({ "step": "waits_for_use", "kid": kid }),
        Step::Switched { kid, old } => json!({ "step": "switched", "kid": kid, "old": old }),
        Step::WaitsForQuiet { old, left } => {
            json!({ "step": "waits_for_quiet", "old": [old], "seconds": left.as_secs() })
        }
        Step::Revoked { old } => json!({ "step": "revoked", "old": old }),
    }
}

fn names(kids: &[Kid]) -> String {
    if kids.is_empty() { "No other key".into() } else { kids.iter().map(Kid::as_str).collect::<Vec<_>>().join(", ") }
}

fn command(args: &Args) -> String {
    format!("belay keys rotate {} -c {}", args.workload, args.socket.config().display())
}
