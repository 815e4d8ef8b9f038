//! The process's own log: lines on stderr.

use super::terminal::{Terminal, paint};
use crate::clock::{self, Clock};
use log::{Level, LevelFilter, Log, Metadata, Record};
use std::io::Write;

struct Lines {
    colours: bool,
}

/// Writes what Belay says from `info` on, and what its libraries say from `error` on.
pub(super) fn install(terminal: &Terminal) {
    let lines = Box::new(Lines { colours: terminal.has_error_colours() });
    // It fails only if there is a logger already, and then that one logs.
    if log::set_boxed_logger(lines).is_ok() {
        log::set_max_level(LevelFilter::Info);
    }
}

impl Log for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let target = metadata.target();
        // What Pingora says of single connections is for whoever connects to cause; the audit log and the metrics have it.
        !target.starts_with("pingora")
            && metadata.level() <= if target.starts_with("belay") { Level::Info } else { Level::Error }
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let (word, code) = match record.level() {
            Level::Error => ("error", "1;31"),
            Level::Warn => ("warning", "1;33"),
            Level::Info | Level::Debug | Level::Trace => ("info", "32"),
        };
        let time = clock::System.now().to_string();
        let time = time.split_once('.').map_or(time.as_str(), |(seconds, _)| seconds);
        // Nobody can be told that the log cannot be written.
        writeln!(std::io::stderr(), "{time}Z {} {}", paint(self.colours, code, word), record.args()).ok();
    }

    fn flush(&self) {}
}
