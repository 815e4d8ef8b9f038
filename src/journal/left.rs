//! What an earlier process has left in the log: where its records end, and whether it said that it stops.

use super::file::older_files;
use crate::audit::{Left, Predecessor, STOP, place_of};
use serde::Deserialize;
use std::{
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom},
    path::Path,
};

/// How much of a file's end is looked at, in bytes.
const TAIL: u64 = 4 * 1024 * 1024;

/// What was found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Where the last records end.
    pub last: Option<Predecessor>,
    /// Which processes ended without a word.
    pub left: Vec<Left>,
}

/// What is known of a process.
struct Boot {
    at: Predecessor,
    has_ended: bool,
}

/// Looks at the end of a log, and of its checkpoints.
///
/// # Errors
/// If a file is there and cannot be read.
pub fn look(log: &Path, checkpoints: Option<&Path>) -> io::Result<Found> {
    let mut tail = tail(log)?;
    if !tail.contains(&b'\n') {
        // It was begun anew, and nobody has written into it; or a crash has torn its first line.
        let before = older_files(log).unwrap_or_default().pop();
        tail = [before.map(|older| self::tail(&older)).transpose()?.unwrap_or_default(), tail].concat();
    }
    let whole = tail.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at.saturating_add(1));
    let (whole, torn) = tail.split_at(whole);
    let mut boots: Vec<Boot> = Vec::new();
    for place in whole.split(|byte| *byte == b'\n').filter_map(place_of) {
        boots.retain(|boot| boot.at.boot != place.at.boot);
        if let Some(other) = boots.iter_mut().find(|boot| Some(&boot.at.boot) == place.recovered.as_ref()) {
            other.has_ended = true;
        }
        boots.push(Boot { has_ended: &*place.action == STOP, at: place.at });
    }
    let last = boots.last().map(|boot| boot.at.clone());
    let marks = checkpoints.map(self::tail).transpose()?.unwrap_or_default();
    let is_torn = |boot: &Boot| !torn.is_empty() && last.as_ref() == Some(&boot.at);
    let left = |boot: &Boot| Left {
        boot: boot.at.boot.clone(),
        sequence: boot.at.sequence,
        chain: boot.at.chain.clone(),
        torn_bytes: if is_torn(boot) { torn.len() } else { 0 },
        missing: marked(&marks, &boot.at.boot).saturating_sub(boot.at.sequence),
    };
    let left = boots.iter().filter(|boot| !boot.has_ended || is_torn(boot)).map(left).collect();
    Ok(Found { last, left })
}

fn tail(path: &Path) -> io::Result<Vec<u8>> {
    // To open a pipe would wait for somebody who writes into it.
    let found = match fs::metadata(path) {
        Ok(found) => found,
        Err(fault) if fault.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(fault) => return Err(fault),
    };
    if !found.is_file() {
        return Ok(Vec::new());
    }
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(found.len().saturating_sub(TAIL)))?;
    let mut tail = Vec::new();
    file.take(TAIL).read_to_end(&mut tail)?;
    Ok(tail)
}

/// How far the last checkpoint of a process says that its records go; 0 without one.
fn marked(checkpoints: &[u8], boot: &str) -> u64 {
    #[derive(Deserialize)]
    struct Mark<'a> {
        boot: &'a str,
        sequence: u64,
    }
    let marks = checkpoints.split(|byte| *byte == b'\n').rev();
    let mut marks = marks.filter_map(|line| serde_json::from_slice::<Mark<'_>>(line).ok());
    marks.find(|mark| mark.boot == boot).map_or(0, |mark| mark.sequence)
}

#[cfg(test)]
mod tests {
    use super::*;
    use test_case::test_case;

    fn line(boot: &str, sequence: u64, action: &str, more: &str) -> String {
        format!(
            r#"{{"@timestamp":"x","event":{{"sequence":{sequence},"action":"{action}"}},"belay":{{"boot":"{boot}"{more},"chain":"{}"}}}}"#,
            "a".repeat(64)
        ) + "\n"
    }

    fn found(log: &str, checkpoints: &str) -> Found {
        let folder = tempfile::tempdir().unwrap();
        let (path, marks) = (folder.path().join("audit.jsonl"), folder.path().join("checkpoints"));
        fs::write(&path, log).unwrap();
        fs::write(&marks, checkpoints).unwrap();
        look(&path, Some(&marks)).unwrap()
    }

    fn crashed(boot: &str, sequence: u64, torn_bytes: usize, missing: u64) -> Left {
        Left { boot: boot.into(), sequence, chain: Some("a".repeat(64).into()), torn_bytes, missing }
    }

    #[test_case("", None, &[]; "nothing")]
    #[test_case("garbage", None, &[]; "no log")]
    #[test_case(&(line("a", 1, "start", "") + &line("a", 2, "stop", "")), Some(("a", 2)), &[]; "it stopped")]
    #[test_case(&(line("a", 1, "start", "") + &line("a", 2, "decision", "")), Some(("a", 2)), &[("a", 2, 0)]; "it did not")]
    #[test_case(&(line("a", 1, "start", "") + "{\"@time"), Some(("a", 1)), &[("a", 1, 7)]; "in the middle of a line")]
    #[test_case(&(line("a", 1, "stop", "") + "{"), Some(("a", 1)), &[("a", 1, 1)]; "behind its end")]
    #[test_case(
        &(line("a", 1, "start", "") + &line("b", 1, "start", "") + &line("a", 2, "stop", "")),
        Some(("a", 2)), &[("b", 1, 0)]; "the one that came after it"
    )]
    #[test_case(
        &(line("a", 1, "start", "") + &line("b", 1, "audit.recovered", r#","recovered":{"boot":"a"}"#) + &line("b", 2, "stop", "")),
        Some(("b", 2)), &[]; "it is told already"
    )]
    fn what_a_process_leaves(log: &str, last: Option<(&str, u64)>, left: &[(&str, u64, usize)]) {
        let found = found(log, "");
        assert_eq!(found.last.map(|it| (it.boot, it.sequence)), last.map(|(boot, sequence)| (boot.into(), sequence)));
        let left: Vec<_> = left.iter().map(|(boot, sequence, torn)| crashed(boot, *sequence, *torn, 0)).collect();
        assert_eq!(found.left, left);
    }

    #[test]
    fn a_checkpoint_tells_what_is_missing() {
        let log = line("a", 1, "start", "") + &line("a", 2, "decision", "");
        let mark = |boot, sequence| format!("{{\"boot\":\"{boot}\",\"sequence\":{sequence}}}\n");
        assert_eq!(found(&log, &(mark("a", 2) + &mark("b", 9))).left, [crashed("a", 2, 0, 0)]);
        assert_eq!(found(&log, &(mark("a", 7) + &mark("b", 9))).left, [crashed("a", 2, 0, 5)]);
    }

    #[test]
    fn the_older_file_tells_where_the_new_one_is_empty() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        fs::write(folder.path().join("audit.jsonl.20261122T130000.000Z"), line("a", 7, "decision", "")).unwrap();
        fs::write(&path, "{\"tor").unwrap();
        let found = look(&path, None).unwrap();
        assert_eq!((found.last.unwrap().sequence, found.left), (7, vec![crashed("a", 7, 5, 0)]));
    }
}
