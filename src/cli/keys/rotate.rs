//! `belay keys rotate`

use super::files::{ANYBODY, GROUP, Locked, Made, NewKey};
use super::step::Step;
use super::time;
use crate::cli::check;
use crate::cli::socket;
use crate::cli::terminal::Terminal;
use crate::cli::{Exit, for_a_shell};
use crate::clock::{Clock, System, UnixSeconds};
use crate::config::document::Key;
use crate::config::{self, Config, Finding, KeyEdit, KeySource, KeyState, NotEdited, TokenKeyFile, Workload};
use crate::filter;
use crate::identity::Kid;
use crate::keys::Files;
use crate::name::closest;
use serde_json::{Value, json};
use std::{
    fs, io,
    path::{self, Path, PathBuf},
    sync::Arc,
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
    pub(super) workload: String,
    #[command(flatten)]
    socket: socket::At,
    /// The new key's id. Without it, the workload and the day.
    #[arg(long, value_name = "KID", value_parser = kid)]
    kid: Option<Kid>,
    /// The key that is replaced, where the workload has more than one active key.
    #[arg(long, value_name = "KID", value_parser = kid)]
    old: Option<Kid>,
    /// Where the Worker's half goes: `{kid, alg, key}` in JSON, for its secret `EDGE_IDENTITY`. Without it, a file of the
    /// key's id in this folder. Delete it once the Worker has it.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// For how long nobody may have used the old key before it is revoked. Workers take a while to take a secret up; it
    /// must be longer than the Worker's pauses between requests.
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = humantime::parse_duration)]
    pub(super) quiet_for: Duration,
    /// Wait for the Worker, and take all steps.
    #[arg(long)]
    pub(super) wait: bool,
    /// Print each step as a line of JSON.
    #[arg(long)]
    pub(super) json: bool,
}

fn kid(text: &str) -> Result<Kid, String> {
    Kid::parse(text).ok_or_else(|| "1 to 64 of `A-Z a-z 0-9 . _ -`".to_owned())
}

impl Args {
    /// The command that goes on.
    pub(super) fn again(&self) -> String {
        let config = self.socket.config().to_string_lossy();
        let quiet_for = humantime::format_duration(self.quiet_for).to_string().replace(' ', "");
        let mut words = vec![format!("belay keys rotate {} -c {}", self.workload, for_a_shell(&config))];
        words.extend(self.socket.socket().map(|path| format!("--socket {}", for_a_shell(&path.to_string_lossy()))));
        words.extend(self.old.iter().map(|old| format!("--old {old}")));
        words.push(format!("--quiet-for {quiet_for}"));
        words.join(" ")
    }
}

/// How often it is looked while it waits.
const EVERY: Duration = Duration::from_secs(1);
/// So many keys may be made on one day.
const NAMES_MAX: usize = 99;
/// So much of a workload's name fits into an id, with the day and a number.
const KID_NAME_MAX: usize = 48;

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("{config} names no workload `{name}`{hint}")]
    Workload { config: PathBuf, name: String, hint: String },
    #[error("`{0}` has no active key that a new one could replace")]
    NoKey(String),
    #[error("`{0}` has several active keys ({1}): say with --old which one is replaced")]
    Several(String, String),
    #[error("the process does not know the key `{0}` yet: is another config live? see belay reload")]
    Unknown(Kid),
    #[error("what is live is not what stands in {0}: reload it, or undo what was changed there, and try again")]
    Differs(PathBuf),
    #[error("changes of {0} must be approved by signatures here: add the key by hand, see docs/operating.md")]
    Approvals(PathBuf),
    #[error("{0} cannot be written")]
    Write(PathBuf, #[source] io::Error),
    #[error("the change was refused, and {0} could not be put back: it still says so, and no file was removed")]
    Stuck(PathBuf, #[source] io::Error),
    #[error("the key `{0}` cannot be made")]
    Make(Kid, #[source] io::Error),
    #[error("no id is free for another key of `{0}`: give one with --kid")]
    Names(String),
    #[error("{0}")]
    File(Finding),
    #[error("{file}: {source}; write this among the keys of `{workload}`, reload, and go on from there:\n  {line}")]
    NotEdited { file: PathBuf, source: NotEdited, workload: String, line: String },
    #[error("the change was refused, and the config's file is as it was")]
    Refused,
    #[error("the process has not taken the change, and the config's file is as it was: {0}")]
    NotTaken(&'static str),
    #[error("nothing was changed")]
    Asked(Exit),
}

impl Error {
    const fn exit(&self) -> Exit {
        match self {
            Self::Asked(exit) => *exit,
            Self::Refused | Self::NotTaken(_) | Self::File(_) => Exit::Config,
            Self::Workload { .. }
            | Self::NoKey(_)
            | Self::Several(..)
            | Self::Names(_)
            | Self::Differs(_)
            | Self::NotEdited { .. } => Exit::BadData,
            Self::Approvals(_) => Exit::Denied,
            Self::Unknown(_) | Self::Write(..) | Self::Stuck(..) | Self::Make(..) => Exit::Unavailable,
        }
    }
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
            step.tell(args, terminal);
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

/// Looks where it stands, and takes the next step if it can be taken.
fn turn(args: &Args, terminal: &Terminal) -> Result<Step, Exit> {
    let checked = config::read_file(args.socket.config(), filter::KINDS);
    let Some(config) = checked.config else {
        terminal.show(&checked.findings);
        return Err(Exit::Config);
    };
    let live = args.socket.ask_json("/keys", terminal)?;
    let rotation = Rotation { args, terminal, config: &config, live: &live };
    rotation.step().map_err(|error| {
        terminal.fail(&error);
        error.exit()
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
        let active: Vec<_> = of(KeyState::Active).collect();
        if let Some(next) = of(KeyState::Next).next() {
            return self.switch(&next.kid, &self.replaced(&active)?.kid);
        }
        let retiring: Vec<_> = of(KeyState::Retiring).map(|key| key.kid.clone()).collect();
        if !retiring.is_empty() {
            return self.revoke(retiring, &active);
        }
        self.make(workload, self.replaced(&active)?)
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

    fn no_key(&self) -> Error {
        Error::NoKey(self.args.workload.clone())
    }

    /// The one of the active keys that is replaced.
    fn replaced<'a>(&self, active: &[&'a TokenKeyFile]) -> Result<&'a TokenKeyFile, Error> {
        match (&self.args.old, active) {
            (Some(old), _) => active.iter().find(|key| key.kid == *old).copied().ok_or_else(|| self.no_key()),
            (None, []) => Err(self.no_key()),
            (None, [only]) => Ok(only),
            (None, several) => {
                let kids: Vec<_> = several.iter().map(|key| key.kid.as_str()).collect();
                Err(Error::Several(self.args.workload.clone(), kids.join(", ")))
            }
        }
    }

    /// Makes a key beside the old one, of the same kind.
    fn make(&self, workload: &Workload, old: &TokenKeyFile) -> Result<Step, Error> {
        let mut files = Files::new(Path::new(""));
        let (like, known) = match &old.source {
            KeySource::Public(path) => (path, files.public_key(path)),
            KeySource::Secret(path) => (path, files.shared_secret(path)),
        };
        let algorithm = known.map_err(Error::File)?.algorithm();
        let suffix = like.extension().map_or_else(|| "pub".into(), |suffix| suffix.to_string_lossy().into_owned());
        let beside = |kid: &Kid| like.with_file_name(format!("{kid}.{suffix}"));
        let kid = self.new_kid(workload, beside)?;
        let key = NewKey::make(algorithm, kid.as_str()).map_err(|error| Error::Make(kid.clone(), error))?;
        let (ours, theirs) = (beside(&kid), self.theirs(&kid));
        let mut made = Made::default();
        let mode_max = if algorithm.is_shared() { GROUP } else { ANYBODY };
        let written = fs::metadata(like).and_then(|found| made.like(&found, mode_max, &ours, &key.ours));
        written.map_err(|error| Error::Write(ours.clone(), error))?;
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
        let changed = self.change(&[KeyEdit::Add(Box::new(line))], (&kid, "next"));
        if matches!(changed, Ok(()) | Err(Error::Stuck(..))) {
            made.keep();
        }
        changed.map(|()| Step::Made { kid, old: old.kid.clone(), ours, theirs })
    }

    fn theirs(&self, kid: &Kid) -> PathBuf {
        self.args.out.clone().unwrap_or_else(|| PathBuf::from(format!("{kid}.json")))
    }

    /// The id that was asked for, or one of this day that neither a key nor a file has yet.
    fn new_kid(&self, workload: &Workload, beside: impl Fn(&Kid) -> PathBuf) -> Result<Kid, Error> {
        if let Some(kid) = &self.args.kid {
            return Ok(kid.clone());
        }
        let day = System.now().to_string();
        let name: String = workload.workload.name.as_str().chars().take(KID_NAME_MAX).collect();
        let name = format!("{name}-{}", day.get(..10).unwrap_or_default());
        let all = || self.config.workloads.iter().flat_map(|known| &known.keys);
        let is_free = |kid: &Kid| {
            let has_file = beside(kid).exists() || (self.args.out.is_none() && self.theirs(kid).exists());
            !has_file && !all().any(|key| key.kid == *kid)
        };
        let names = (1..=NAMES_MAX).map(|number| if number == 1 { name.clone() } else { format!("{name}-{number}") });
        let free = names.filter_map(|name| Kid::parse(&name)).find(is_free);
        free.ok_or_else(|| Error::Names(self.args.workload.clone()))
    }

    /// Makes the new key the active one, once somebody has signed with it.
    fn switch(&self, next: &Kid, old: &Kid) -> Result<Step, Error> {
        if self.uses(next)?.0 == 0 {
            return Ok(Step::WaitsForUse { kid: next.clone() });
        }
        let state = |kid: &Kid, state| KeyEdit::State(kid.as_str().to_owned(), state);
        self.change(&[state(old, KeyState::Retiring), state(next, KeyState::Active)], (next, "active"))?;
        Ok(Step::Switched { kid: next.clone(), old: old.clone() })
    }

    /// Revokes old keys, once nobody has used them for a while, and somebody has used another since.
    fn revoke(&self, old: Vec<Kid>, active: &[&TokenKeyFile]) -> Result<Step, Error> {
        let newest = active.first().ok_or_else(|| self.no_key())?;
        let now = System.now().unix_seconds();
        // Of what was before the process nothing is known.
        let since = time(&self.live["since"]).unwrap_or(now);
        let mut last_of_all = since;
        for kid in &old {
            let last = self.uses(kid)?.1.unwrap_or(since);
            last_of_all = last_of_all.max(last);
            let quiet = Duration::from_secs(u64::try_from(now.saturating_sub(last)).unwrap_or(0));
            if let Some(left) = self.args.quiet_for.checked_sub(quiet).filter(|left| !left.is_zero()) {
                return Ok(Step::WaitsForQuiet { old: kid.clone(), left });
            }
        }
        // One use may have been somebody's who has only tried it.
        let mut uses = active.iter().filter_map(|key| self.uses(&key.kid).ok());
        if !uses.any(|(count, last)| count > 1 && last.is_some_and(|last| last >= last_of_all)) {
            return Ok(Step::WaitsForUse { kid: newest.kid.clone() });
        }
        let edits: Vec<_> = old.iter().map(|kid| KeyEdit::State(kid.as_str().to_owned(), KeyState::Revoked)).collect();
        let first = old.first().ok_or_else(|| self.no_key())?;
        self.change(&edits, (first, "revoked"))?;
        Ok(Step::Revoked { old })
    }

    /// How often a key was used, and when last, as far as the process knows.
    fn uses(&self, kid: &Kid) -> Result<(u64, Option<UnixSeconds>), Error> {
        let known = self.find(self.live, kid).ok_or_else(|| Error::Unknown(kid.clone()))?;
        Ok((known["uses"].as_u64().unwrap_or(0), time(&known["last_used"])))
    }

    /// What the process tells of a key.
    fn find<'a>(&self, told: &'a Value, kid: &Kid) -> Option<&'a Value> {
        let owner = format!("workloads.{}", self.args.workload);
        let mut keys = told["keys"].as_array().into_iter().flatten();
        keys.find(|key| key["owner"] == *owner && key["name"] == *kid.as_str())
    }

    /// Changes the config, and has it read; then that key has that state. What is refused leaves the file as it was.
    fn change(&self, edits: &[KeyEdit], expected: (&Kid, &str)) -> Result<(), Error> {
        let (file, before) = (&self.config.file, &self.config.text);
        self.is_live()?;
        let text = config::edit_keys(before, &self.args.workload, edits).map_err(|source| {
            let lines = edits.iter().map(|edit| match edit {
                KeyEdit::Add(key) => config::line_of(key),
                KeyEdit::State(kid, state) => format!("kid: {kid} … state: {state:?}").to_lowercase(),
            });
            let line = lines.collect::<Vec<_>>().join("\n  ");
            Error::NotEdited { file: file.clone(), source, workload: self.args.workload.clone(), line }
        })?;
        let unwritten = |error| Error::Write(file.clone(), error);
        let locked = Locked::new(file).map_err(unwritten)?;
        locked.replace(before, &text).map_err(unwritten)?;
        let taken = self.reload(expected);
        if taken.is_err() {
            locked.replace(&text, before).map_err(|error| Error::Stuck(file.clone(), error))?;
        }
        taken
    }

    fn ask(&self, target: &str) -> Result<Value, Error> {
        self.args.socket.ask_json(target, self.terminal).map_err(Error::Asked)
    }

    /// What is changed is what is live: somebody may have changed the file, or have rolled it back.
    fn is_live(&self) -> Result<(), Error> {
        if self.ask("/approval")?.get("required").is_some_and(|required| required == true) {
            return Err(Error::Approvals(self.config.file.clone()));
        }
        let live = self.ask("/version")?.get("digest").and_then(|digest| Some(digest.as_str()?.to_owned()));
        let file = &self.config.file;
        // A digest names files by their ways from the config's folder, which the process may know by another name.
        let names = [Some(file.clone()), path::absolute(file).ok(), file.canonicalize().ok()];
        for name in names.into_iter().flatten() {
            if Some(self.digest_at(&name)?) == live {
                return Ok(());
            }
        }
        Err(Error::Differs(file.clone()))
    }

    /// The digest of what stands there, if the file is called so.
    fn digest_at(&self, file: &Path) -> Result<String, Error> {
        let checked = config::read(file, &self.config.text, filter::KINDS);
        let mut findings = checked.findings;
        let built = checked.config.and_then(|config| check::build(&Arc::new(config), &mut findings));
        built.map(|built| built.digest.to_string()).ok_or_else(|| {
            self.terminal.show(&findings);
            Error::Refused
        })
    }

    fn reload(&self, (kid, state): (&Kid, &str)) -> Result<(), Error> {
        let wish = json!({ "reason": format!("belay keys rotate {}", self.args.workload) });
        let mut answer = self.args.socket.order("/reload", &wish, self.terminal).map_err(Error::Asked)?;
        // Where the file is watched the process may have been faster.
        if !answer.get("result").is_some_and(|result| result == "applied" || result == "unchanged") {
            let findings = answer.get_mut("findings").map(Value::take);
            let findings = findings.and_then(|told| serde_json::from_value::<Vec<Finding>>(told).ok());
            self.terminal.show(&findings.unwrap_or_default());
            return Err(Error::Refused);
        }
        let told = self.ask("/keys")?;
        match self.find(&told, kid) {
            Some(known) if known["state"] == *state => Ok(()),
            Some(_) => Err(Error::NotTaken("the key has another state there")),
            None => Err(Error::NotTaken("it does not have the key: does it read another config?")),
        }
    }
}
