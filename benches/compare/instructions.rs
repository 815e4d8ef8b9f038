//! Instructions per request, counted by callgrind: a figure that does not depend on what else the machine does.

use super::contenders::{Contender, Launch, Running, Setup};
use super::jobs::Job;
use super::site::Site;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fs, path::Path, process::Command, time::Duration};

/// The repository.
const HERE: &str = env!("CARGO_MANIFEST_DIR");
/// What was counted when it was last looked at.
const KNOWN: &str = "benches/compare/instructions.json";
/// How a commit says that more are worth it.
const SAID_BY: &str = "Instructions:";
/// The jobs that are counted.
const JOBS: [&str; 4] = ["plain", "mtls", "es256", "http2"];
/// Requests that bring everything up that later ones find, and those that count.
const REQUESTS: [usize; 2] = [200, 1_000];
/// For a process that runs under callgrind to come up.
pub const WITHIN: Duration = Duration::from_secs(120);
/// How much more may be without a word.
const MORE_MAX: f64 = 1.05;

/// Whether callgrind is there.
pub fn can_count() -> bool {
    Command::new("valgrind").arg("--version").output().is_ok_and(|output| output.status.success())
}

/// Counts every job, and compares with what is known, or makes it known.
///
/// # Errors
/// What has grown too much, or why it cannot be counted.
pub async fn compare(site: &Site, origin: &str, is_blessed: bool, keep: Option<&Path>) -> Result<(), String> {
    let file = Path::new(HERE).join(KNOWN);
    let known = read(&fs::read_to_string(&file).unwrap_or_default())?;
    let here = super::processor();
    // Cryptography and copying have other ways on other processors.
    let is_comparable = known.processor == here;
    if !is_comparable && !is_blessed {
        println!("NOT COMPARED: {KNOWN} was counted on {:?}, and this is {here:?}", known.processor);
    }
    let mut counted = BTreeMap::new();
    let mut grown = Vec::new();
    for job in Job::all().into_iter().filter(|job| JOBS.contains(&job.name)) {
        let count = count(&job, site, origin, keep).await?;
        let before = known.counts.get(job.name).copied().filter(|_| is_comparable);
        let ratio = before.map(|before| count as f64 / before as f64);
        println!("{:10} {count:>8} instructions a request{}", job.name, shown(before, ratio));
        if ratio.is_some_and(|ratio| ratio > MORE_MAX) {
            grown.push(job.name);
        }
        counted.insert(job.name.to_owned(), count);
    }
    if is_blessed {
        let known = Known { processor: here, counts: counted };
        let text = serde_json::to_string_pretty(&known).unwrap() + "\n";
        return fs::write(&file, text).map_err(|error| format!("{}: {error}", file.display()));
    }
    if !grown.is_empty() {
        return Err(format!(
            "more than 5 % more than before: {}. Where it is worth it, write the new counts down (`--bless`), and say so \
             in the commit's message: `{SAID_BY} …`",
            grown.join(", ")
        ));
    }
    unsaid(&known)
}

/// What was counted, and where.
#[derive(Default, Serialize, Deserialize)]
struct Known {
    processor: String,
    counts: BTreeMap<String, u64>,
}

fn read(text: &str) -> Result<Known, String> {
    if text.is_empty() {
        return Ok(Known::default());
    }
    serde_json::from_str(text).map_err(|error| format!("{KNOWN}: {error}"))
}

/// Fails if the last commit that wrote counts down wrote larger ones, and says nothing of it. Without a history there
/// is nothing to compare.
fn unsaid(known: &Known) -> Result<(), String> {
    let git = |args: &[&str]| {
        let output = Command::new("git").arg("-C").arg(HERE).args(args).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let Some(last) = git(&["log", "-1", "--format=%H %B", "--", KNOWN]) else { return Ok(()) };
    let Some((commit, message)) = last.split_once(' ') else { return Ok(()) };
    let Some(before) = git(&["show", &format!("{commit}^:{KNOWN}")]) else { return Ok(()) };
    let before = read(&before)?;
    let has_grown = |(job, count): (&String, &u64)| {
        before.counts.get(job).is_some_and(|before| *count as f64 > *before as f64 * MORE_MAX)
    };
    if known.counts.iter().any(has_grown) && !message.contains(SAID_BY) {
        return Err(format!("commit {commit} wrote larger counts down and does not say so: `{SAID_BY} …`"));
    }
    Ok(())
}

fn shown(before: Option<u64>, ratio: Option<f64>) -> String {
    match before.zip(ratio) {
        Some((before, ratio)) => format!(", {ratio:.3} times the {before} of before"),
        None => ", not counted before".to_owned(),
    }
}

async fn count(job: &Job, site: &Site, origin: &str, keep: Option<&Path>) -> Result<u64, String> {
    let file = site.folder.path().join("callgrind.out");
    let running = Running::launch(Contender::Belay, Setup::Usual, site, origin, Launch::Counted(&file)).await?;
    job.is_done(&running, site).await?;
    let [warm_up, counted] = REQUESTS;
    job.ask_in_turn(warm_up, &running, site).await?;
    let zeroed =
        Command::new("callgrind_control").arg("--zero").args(running.workers.iter().map(u32::to_string)).output();
    zeroed.map_err(|error| format!("callgrind_control: {error}"))?;
    job.ask_in_turn(counted, &running, site).await?;
    drop(running);
    if let Some(folder) = keep {
        let kept = folder.join(format!("callgrind.{}", job.name));
        fs::copy(&file, &kept).map_err(|error| format!("{}: {error}", kept.display()))?;
    }
    Ok(total(&file)? / counted as u64)
}

/// All instructions of a run.
fn total(file: &Path) -> Result<u64, String> {
    let text = fs::read_to_string(file).map_err(|error| format!("callgrind has written nothing: {error}"))?;
    let total = text.lines().find_map(|line| line.strip_prefix("totals: "));
    total.and_then(|total| total.trim().parse().ok()).ok_or_else(|| "callgrind has written no total".to_owned())
}
