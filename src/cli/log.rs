//! The process's own log: lines on stderr, as text or JSON, and never more than somebody could read. A thread writes them:
//! whoever stops reading stderr must not stop the event loops.

use super::terminal::{Terminal, paint};
use crate::clock::{self, Clock, Timestamp, UnixSeconds};
use crate::config::LogFormat;
use log::{Level, LevelFilter, Log, Metadata, Record};
use parking_lot::Mutex;
use serde_json::json;
use std::{
    borrow::Cow,
    collections::HashMap,
    io::Write,
    sync::{
        OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

/// Lines of one place in the code that are written each second; what comes beyond is counted.
const LINES_MAX: u32 = 20;

/// Lines that wait to be written; what comes beyond is lost, and counted.
const WAITING_MAX: usize = 1_024;
/// How long the last lines may take to be written.
const LAST_WITHIN: Duration = Duration::from_secs(1);

static LINES: Lines = Lines::new();

struct Lines {
    colours: AtomicBool,
    json: AtomicBool,
    gate: Mutex<Option<Gate>>,
    writer: OnceLock<SyncSender<Task>>,
    lost: AtomicU64,
}

/// What the writing thread is given.
enum Task {
    Write(String),
    /// All that was given before is written.
    Tell(SyncSender<()>),
}

/// How many lines each place has written in the present second, and how many it could not.
#[derive(Default)]
struct Gate(HashMap<(&'static str, u32), Window>);

#[derive(Default)]
struct Window {
    second: UnixSeconds,
    written: u32,
    held_back: u32,
}

impl Gate {
    /// How many lines were held back before this one; none if it is held back itself.
    fn pass(&mut self, place: (&'static str, u32), now: Timestamp) -> Option<u32> {
        let window = self.0.entry(place).or_default();
        if window.second != now.unix_seconds() {
            window.second = now.unix_seconds();
            window.written = 0;
        }
        if window.written >= LINES_MAX {
            window.held_back = window.held_back.saturating_add(1);
            return None;
        }
        window.written = window.written.saturating_add(1);
        Some(std::mem::take(&mut window.held_back))
    }
}

/// Writes what Belay says from `info` on, and what its libraries say from `error` on.
pub(super) fn install(terminal: &Terminal) {
    LINES.colours.store(terminal.has_error_colours(), Ordering::Relaxed);
    let (writer, tasks) = sync_channel(WAITING_MAX);
    if thread::Builder::new().name("log".into()).spawn(move || write(&tasks)).is_ok() {
        // There is one already only if there is a logger already.
        LINES.writer.set(writer).ok();
    }
    // It fails only if there is a logger already, and then that one logs.
    if log::set_logger(&LINES).is_ok() {
        log::set_max_level(LevelFilter::Info);
    }
}

/// Writes in that format from now on.
pub(super) fn write_as(format: LogFormat) {
    LINES.json.store(format == LogFormat::Json, Ordering::Relaxed);
}

impl Log for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let target = metadata.target();
        // What Pingora says of single connections is for whoever connects to cause; the audit log and the metrics have it.
        !target.starts_with("pingora") && (target.starts_with("belay") || metadata.level() == Level::Error)
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let now = clock::System.now();
        let place = (record.file_static().unwrap_or_default(), record.line().unwrap_or_default());
        let passed = self.gate.lock().get_or_insert_default().pass(place, now);
        let Some(held_back) = passed else { return };
        let mut message = record.args().to_string();
        if held_back > 0 {
            message.push_str(&format!(" (and {held_back} more like it were held back)"));
        }
        let lost = self.lost.swap(0, Ordering::Relaxed);
        if lost > 0 {
            message.push_str(&format!(" ({lost} lines before it are lost: nobody took them)"));
        }
        let line = if self.json.load(Ordering::Relaxed) {
            as_json(record, now, &message)
        } else {
            as_text(record, now, &message, self.colours.load(Ordering::Relaxed))
        };
        if !self.give(line) {
            self.lost.fetch_add(lost.saturating_add(1), Ordering::Relaxed);
        }
    }

    /// Waits until all is written, but not for long.
    fn flush(&self) {
        let Some(writer) = self.writer.get() else { return };
        let (done, is_done) = sync_channel(1);
        let end = Instant::now() + LAST_WITHIN;
        let mut task = Task::Tell(done);
        while let Err(TrySendError::Full(back)) = writer.try_send(task) {
            if Instant::now() > end {
                return;
            }
            task = back;
            thread::sleep(LAST_WITHIN / 100);
        }
        // It says so, or it is too late.
        is_done.recv_timeout(end.saturating_duration_since(Instant::now())).ok();
    }
}

impl Lines {
    const fn new() -> Self {
        Self {
            colours: AtomicBool::new(false),
            json: AtomicBool::new(false),
            gate: Mutex::new(None),
            writer: OnceLock::new(),
            lost: AtomicU64::new(0),
        }
    }

    /// Whether the line will be written.
    fn give(&self, line: String) -> bool {
        match self.writer.get() {
            Some(writer) => writer.try_send(Task::Write(line)).is_ok(),
            None => {
                put(&line);
                true
            }
        }
    }
}

fn write(tasks: &Receiver<Task>) {
    for task in tasks {
        match task {
            Task::Write(line) => put(&line),
            // Whoever asked may have gone on.
            Task::Tell(done) => drop(done.try_send(())),
        }
    }
}

fn put(line: &str) {
    // Nobody can be told that the log cannot be written.
    writeln!(std::io::stderr(), "{line}").ok();
}

const fn word(level: Level) -> (&'static str, &'static str) {
    match level {
        Level::Error => ("error", "1;31"),
        Level::Warn => ("warning", "1;33"),
        Level::Info => ("info", "32"),
        Level::Debug | Level::Trace => ("debug", "2"),
    }
}

fn as_text(record: &Record<'_>, now: Timestamp, message: &str, colours: bool) -> String {
    let (word, code) = word(record.level());
    let time = now.to_string();
    let time = time.split_once('.').map_or(time.as_str(), |(seconds, _)| seconds);
    format!("{time}Z {} {}", paint(colours, code, word), visible(message))
}

/// A message may quote what a stranger has sent: it shall not steer the terminal.
fn visible(message: &str) -> Cow<'_, str> {
    let steers = |c: char| c.is_control() && c != '\n';
    if !message.contains(steers) {
        return message.into();
    }
    message.chars().map(|c| if steers(c) { c.escape_default().to_string() } else { c.into() }).collect()
}

/// <https://www.elastic.co/guide/en/ecs/current/ecs-log.html>
fn as_json(record: &Record<'_>, now: Timestamp, message: &str) -> String {
    let (word, _) = word(record.level());
    json!({ "@timestamp": now, "log": { "level": word, "logger": record.target() }, "message": message }).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twenty_a_second_and_then_how_many_more() {
        let mut gate = Gate::default();
        let at = |second| Timestamp::from_unix_seconds(second);
        let passed = (0..50).filter(|_| gate.pass(("a.rs", 1), at(100)).is_some()).count();
        assert_eq!(passed, 20);
        assert_eq!(gate.pass(("a.rs", 2), at(100)), Some(0), "another place has its own");
        assert_eq!(gate.pass(("a.rs", 1), at(101)), Some(30));
        assert_eq!(gate.pass(("a.rs", 1), at(101)), Some(0), "told once");
    }

    #[test]
    fn what_nobody_takes_is_lost_and_counted() {
        let (lines, (writer, tasks)) = (Lines::new(), sync_channel(1));
        lines.writer.set(writer).unwrap();
        let say = |word: &str| {
            let message = format_args!("{word}");
            lines.log(&Record::builder().level(Level::Info).target("belay").args(message).build());
        };
        let written = || match tasks.try_recv().unwrap() {
            Task::Write(line) => line,
            Task::Tell(_) => String::new(),
        };
        ["one", "two", "three"].iter().for_each(|word| say(word));
        assert!(written().ends_with(" info one"));
        say("four");
        assert!(written().ends_with(" info four (2 lines before it are lost: nobody took them)"));
        say("five");
        assert!(written().ends_with(" info five"), "told once");
    }

    #[test]
    fn no_message_steers_the_terminal() {
        assert_eq!(visible("a\u{1b}[2Jb\r\tc\nd\u{9b}e\u{e9}"), "a\\u{1b}[2Jb\\r\\tc\nd\\u{9b}e\u{e9}");
    }

    #[test]
    fn lines_are_text_or_json() {
        let now = Timestamp::from_unix_seconds(1_795_374_128);
        let record = Record::builder().level(Level::Warn).target("belay::server").build();
        assert_eq!(as_text(&record, now, "it is late", false), "2026-11-22T19:02:08Z warning it is late");
        let json: serde_json::Value = serde_json::from_str(&as_json(&record, now, "a \"b\"\n")).unwrap();
        assert_eq!(json["message"], "a \"b\"\n");
        assert_eq!(json["log"], json!({ "level": "warning", "logger": "belay::server" }));
    }
}
