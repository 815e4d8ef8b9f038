//! What people read: colours where there is a terminal, and nothing that is a secret.

use crate::config::{Finding, Part, Severity};
use serde::Serialize;
use std::io::{IsTerminal, Write, stderr, stdout};

/// The two streams, and whether they want colours.
#[derive(Debug)]
pub(super) struct Terminal {
    colours: bool,
    error_colours: bool,
}

impl Terminal {
    /// <https://no-color.org>: colours on a terminal, unless `NO_COLOR` is set.
    pub(super) fn new() -> Self {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self { colours: wanted && stdout().is_terminal(), error_colours: wanted && stderr().is_terminal() }
    }

    /// One without colours.
    #[cfg(test)]
    pub(super) const fn plain() -> Self {
        Self { colours: false, error_colours: false }
    }

    /// What empties the standard output's screen, if it is one.
    pub(super) const fn clear(&self) -> &'static str {
        if self.colours { "\x1b[2J\x1b[H" } else { "" }
    }

    /// Writes a line of results.
    pub(super) fn say(&self, text: &str) {
        // Whoever closed the pipe does not want to read on.
        writeln!(stdout(), "{}", text.trim_end_matches('\n')).ok();
    }

    /// Writes results for programs, one line.
    pub(super) fn say_json(&self, value: &impl Serialize) {
        self.say(&serde_json::to_string(value).unwrap_or_default());
    }

    /// Writes a line about the work.
    pub(super) fn tell(&self, text: &str) {
        writeln!(stderr(), "{text}").ok();
    }

    /// Writes an error with its causes.
    pub(super) fn fail(&self, error: &dyn std::error::Error) {
        let causes = std::iter::successors(error.source(), |cause| cause.source());
        let text = causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"));
        self.tell(&format!("{}{text}", paint(self.error_colours, "1;31", "error: ")));
    }

    /// Writes findings, as a compiler would.
    pub(super) fn show(&self, findings: &[Finding]) {
        for finding in findings {
            self.tell(&format!("{}\n", finding.render(&|part, text| self.paint_part(part, text))));
        }
        let errors = findings.iter().filter(|finding| finding.severity == Severity::Error).count();
        if errors > 0 {
            self.tell(&format!("{errors} error{}", if errors == 1 { "" } else { "s" }));
        }
    }

    /// Makes text on the standard output stand out.
    pub(super) fn bold(&self, text: &str) -> String {
        paint(self.colours, "1", text)
    }

    /// Makes text on the standard output step back.
    pub(super) fn dim(&self, text: &str) -> String {
        paint(self.colours, "2", text)
    }

    /// Whether lines about the work have colours.
    pub(super) const fn has_error_colours(&self) -> bool {
        self.error_colours
    }

    fn paint_part(&self, part: Part, text: &str) -> String {
        let code = match part {
            Part::Error => "1;31",
            Part::Warning => "1;33",
            Part::Message => "1",
            Part::Frame => "34",
        };
        paint(self.error_colours, code, text)
    }
}

pub(super) fn paint(colours: bool, code: &str, text: &str) -> String {
    if colours { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
}

/// Lines up columns, two spaces apart.
pub(super) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<_> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}
