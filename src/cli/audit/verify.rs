//! `belay audit verify`

use super::{Source, opened};
use crate::audit::{BadCheckpoint, Broken, CheckpointKey, Last, Lost, PublicKey, Taken, Verifier, read_checkpoint};
use crate::cli::run::load;
use crate::cli::terminal::Terminal;
use crate::cli::{DEFAULT_CONFIG, Exit};
use crate::config::Finding;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{PrivateKeyDer, SubjectPublicKeyInfoDer};
use serde_json::json;
use std::{
    fs,
    ops::ControlFlow,
    path::{Path, PathBuf},
};

/// Prove that no record of an audit log was altered, removed, added or moved.
///
/// Each record is chained to the one before it (`belay.chain`). Several files are taken as one log in that order; without
/// any, all files of the config's log are. Who can write the files could cut off their end, or make new ones as a whole:
/// that shows with the checkpoints, which only who has their key can make, and surely with copies of them that are kept
/// elsewhere. Of the key the public half is enough.
///
/// Ends with 0 if all is proven, with 1 at a record that was altered, with 2 where records are missing, and with 3 if more
/// of the last records are unsigned than the writer leaves (1,000, or those of 10 seconds).
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  belay audit verify -c /etc/belay/belay.yaml
  belay audit verify audit.jsonl.20261122T000000.000Z audit.jsonl --checkpoints copy-of-checkpoints --key audit.pub")]
pub(super) struct Args {
    /// The files, the oldest first.
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The config that names the files, if none are given.
    #[arg(short, long, value_name = "FILE", default_value = DEFAULT_CONFIG, conflicts_with = "files")]
    config: PathBuf,
    /// Files of checkpoints, the oldest first: the log's own, or copies that were kept elsewhere.
    #[arg(long, value_name = "FILE", requires = "key")]
    checkpoints: Vec<PathBuf>,
    /// PEM files with the public keys of the checkpoints. Where the key was replaced, older checkpoints need the older one.
    #[arg(long, value_name = "FILE")]
    key: Vec<PathBuf>,
    /// Older files are left out on purpose: that something came before the first one is no fault.
    #[arg(long)]
    part: bool,
    /// Nothing comes after: every process has stopped, and everything is signed.
    #[arg(long)]
    r#final: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// After so many records it is said how far it is.
const TOLD_EVERY: u64 = 1_000_000;

/// What is to be looked at.
struct Given {
    files: Vec<Source>,
    checkpoints: Vec<Source>,
    keys: Vec<PublicKey>,
}

/// Where it is broken: the file and the line, where there is one.
struct Fault {
    place: Option<(PathBuf, usize)>,
    what: String,
    exit: Exit,
}

impl Fault {
    fn of(broken: &Broken, place: Option<(PathBuf, usize)>) -> Self {
        let exit = if broken.is_gap() { Exit::Changes } else { Exit::Failed };
        Self { place, what: broken.to_string(), exit }
    }

    fn finding(&self) -> Finding {
        match &self.place {
            Some((file, line)) => Finding::at(file.as_path(), (*line, 1), "", self.what.clone()),
            None => {
                let hint = "are all files of the log given, and in their order? (--part: the older ones are left out)";
                Finding::of_file("", self.what.clone(), Some(hint.into()))
            }
        }
    }
}

pub(super) fn main(args: &Args, terminal: &Terminal) -> Result<Exit, Finding> {
    let Some(given) = given(args, terminal)? else { return Ok(Exit::Config) };
    let mut verifier = Verifier::default();
    let fault = match expect(&given, &mut verifier)? {
        Some(fault) => Some(fault),
        None => prove(&given.files, &mut verifier, args.part, terminal)?,
    };
    let proven = verifier.proven();
    let is_signed = !given.keys.is_empty() && !given.checkpoints.is_empty();
    let open: Vec<_> = proven.iter().filter(|last| is_signed && is_unsigned(last, args.r#final)).collect();
    if args.json {
        let broken = fault.as_ref().map(|fault| {
            let (file, line) = fault.place.clone().unzip();
            json!({ "file": file, "line": line, "why": fault.what })
        });
        terminal.say_json(&json!({
            "records": verifier.records(),
            "signed": is_signed,
            "proven": proven,
            "lost": verifier.lost(),
            "broken": broken,
        }));
    } else {
        terminal.say(&told(verifier.records(), &proven, is_signed, verifier.lost()));
        terminal.show(&fault.iter().map(Fault::finding).collect::<Vec<_>>());
    }
    Ok(match fault {
        Some(fault) => fault.exit,
        None if open.is_empty() => Exit::Ok,
        None => {
            let all: Vec<_> = open.iter().map(|last| unsigned(last, args.r#final)).collect();
            terminal.show(&all);
            Exit::Unsigned
        }
    })
}

/// None if the config is broken, which is told then.
fn given(args: &Args, terminal: &Terminal) -> Result<Option<Given>, Finding> {
    let keys = args.key.iter().map(|file| public_key(file)).collect::<Result<Vec<_>, _>>()?;
    let each = |paths: &[PathBuf]| paths.iter().map(|path| Source::open(path)).collect::<Result<Vec<_>, _>>();
    if !args.files.is_empty() {
        let checkpoints = each(&args.checkpoints)?;
        return Ok(Some(Given { files: each(&args.files)?, checkpoints, keys }));
    }
    let Some(config) = load(&args.config, terminal) else { return Ok(None) };
    // Before the records, which go on meanwhile: none may be signed that is not there.
    let checkpoints = match &config.audit.checkpoints {
        _ if !args.checkpoints.is_empty() => each(&args.checkpoints)?,
        Some(marks) => opened(&marks.file)?,
        None => Vec::new(),
    };
    let files = opened(&config.audit.file)?;
    let own = config.audit.checkpoints.as_ref().filter(|_| keys.is_empty());
    let keys = own.map(|marks| own_key(&marks.key.path)).transpose()?.into_iter().chain(keys).collect();
    Ok(Some(Given { files, checkpoints, keys }))
}

fn public_key(file: &Path) -> Result<PublicKey, Finding> {
    let text = read(file)?;
    let no_key = |why: String| {
        let hint = "openssl pkey -in audit.key -pubout -out audit.pub".to_owned();
        Finding::of_file(file, why, Some(hint))
    };
    let der = SubjectPublicKeyInfoDer::from_pem_slice(&text).map_err(|_none| no_key("holds no public key".into()))?;
    PublicKey::from_spki(&der).map_err(|fault| no_key(fault.to_string()))
}

/// The public half of the key that signs here.
fn own_key(file: &Path) -> Result<PublicKey, Finding> {
    let text = read(file)?;
    let no_key = |why: String| Finding::of_file(file, why, Some("give the public one: --key audit.pub".into()));
    let der = PrivateKeyDer::from_pem_slice(&text).map_err(|_none| no_key("holds no private key".into()))?;
    let key = CheckpointKey::from_pkcs8(der.secret_der()).and_then(|key| key.public());
    key.map_err(|fault| no_key(fault.to_string()))
}

fn read(file: &Path) -> Result<Vec<u8>, Finding> {
    let hint = || Some("give the public key of the checkpoints: --key audit.pub".to_owned());
    fs::read(file).map_err(|error| Finding::of_file(file, format!("cannot be read: {error}"), hint()))
}

/// Reads the checkpoints.
fn expect(given: &Given, verifier: &mut Verifier) -> Result<Option<Fault>, Finding> {
    for file in &given.checkpoints {
        let mut is_torn = false;
        let found = file.find_line(|line| {
            if line.is_empty() {
                return ControlFlow::Continue(());
            }
            let checkpoint = match read_checkpoint(line, &given.keys) {
                Ok(checkpoint) => checkpoint,
                // What a crash has torn stands alone.
                Err(_) if !is_torn && !line.ends_with(b"}") => {
                    is_torn = true;
                    return ControlFlow::Continue(());
                }
                // Nobody says that it is forged.
                Err(bad @ BadCheckpoint::Key(_)) => {
                    return ControlFlow::Break((format!("{bad} (--key FILE)"), Exit::Unavailable));
                }
                Err(bad @ (BadCheckpoint::None | BadCheckpoint::Signature)) => {
                    return ControlFlow::Break((bad.to_string(), Exit::Failed));
                }
            };
            match verifier.expect(checkpoint) {
                Ok(()) => ControlFlow::Continue(()),
                Err(broken) => ControlFlow::Break((broken.to_string(), Exit::Changes)),
            }
        })?;
        if let Some((line, (what, exit))) = found {
            return Ok(Some(Fault { place: Some((file.path.clone(), line)), what, exit }));
        }
    }
    Ok(None)
}

/// Reads the records, twice: what they say of each other stands before or after.
fn prove(
    files: &[Source],
    verifier: &mut Verifier,
    is_part: bool,
    terminal: &Terminal,
) -> Result<Option<Fault>, Finding> {
    for file in files {
        file.find_line(|line| {
            verifier.look(line);
            ControlFlow::<()>::Continue(())
        })?;
    }
    let mut torn = None;
    for file in files {
        let mut number = 0_usize;
        verifier.begin_file();
        let found = file.find_line(|line| {
            number = number.saturating_add(1);
            match verifier.take(line) {
                Ok(Taken::Record) => {}
                Ok(Taken::Torn) => torn = Some((file.path.clone(), number)),
                Err(broken) => return ControlFlow::Break(broken),
            }
            if verifier.records().is_multiple_of(TOLD_EVERY) {
                terminal.tell(&format!("{} records so far", verifier.records()));
            }
            ControlFlow::Continue(())
        })?;
        if let Some((line, broken)) = found {
            return Ok(Some(Fault::of(&broken, Some((file.path.clone(), line)))));
        }
    }
    let place = |broken: &Broken| torn.filter(|_| *broken == Broken::NoRecord);
    Ok(verifier.finish(is_part).err().map(|broken| Fault::of(&broken, place(&broken))))
}

const fn is_unsigned(last: &Last<'_>, is_final: bool) -> bool {
    let is_open = matches!(last.end, crate::audit::End::Open);
    if is_final {
        return last.unsigned > 0 || is_open;
    }
    !last.may_be_unsigned
}

fn unsigned(last: &Last<'_>, is_final: bool) -> Finding {
    let Last { boot, unsigned, .. } = last;
    if is_final && *unsigned == 0 {
        let message = format!("boot {boot} has not said that it stops");
        return Finding::of_file("", message, Some("does it still run? then the log is not final".into()));
    }
    let hint = "they could be cut off or written anew; are there newer checkpoints?";
    Finding::of_file("", format!("the last {unsigned} records of boot {boot} are not signed"), Some(hint.into()))
}

fn told(records: u64, proven: &[Last<'_>], is_signed: bool, lost: Lost) -> String {
    let plural = if records == 1 { "record is" } else { "records are" };
    let mut lines = vec![format!("{records} {plural} proven")];
    for last in proven {
        lines.push(format!("  {last}"));
        if is_signed && last.unsigned > 0 {
            lines.push(format!("    the last {} are not signed yet", last.unsigned));
        }
    }
    let Lost { no_room, unwritten } = lost;
    if no_room > 0 {
        lines.push(format!("The log says that {no_room} records found no room, and are not in it (audit.gap)."));
    }
    if unwritten > 0 {
        lines.push(format!("The log says that {unwritten} records were lost with a process (audit.recovered)."));
    }
    if !is_signed && records > 0 {
        lines.push("No checkpoint was given: who can write the log could have cut it off, or written it anew.".into());
    }
    lines.join("\n")
}
