//! What is wrong with a config, said like a compiler says it.

use super::node::{Node, Place, Span};
use crate::name::closest;
use serde::{Deserialize, Serialize};
use std::{fmt, path::PathBuf};

/// How much a fault weighs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The config cannot be used.
    Error,
    /// The config can be used; something in it is probably not meant.
    Warning,
}

/// A fault at a place of the config.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// How much it weighs.
    pub severity: Severity,
    /// Where.
    pub place: Place,
    /// Whether it is about the key rather than its value.
    pub at_key: bool,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// Whether what stands there may be a secret, and is not shown.
    pub is_secret: bool,
}

impl Fault {
    /// An error at a value.
    #[must_use]
    pub fn new(place: &Place, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            place: place.clone(),
            at_key: false,
            message: message.into(),
            hint: None,
            is_secret: false,
        }
    }

    /// A warning at a value.
    #[must_use]
    pub fn warning(place: &Place, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::new(place, message) }
    }

    /// The same, without showing what stands there.
    #[must_use]
    pub fn secret(self) -> Self {
        Self { is_secret: true, ..self }
    }

    /// The same, about the key.
    #[must_use]
    pub fn at_key(self) -> Self {
        Self { at_key: true, ..self }
    }

    /// The same, with what to do about it.
    #[must_use]
    pub fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// The same, with a hint if one of the known words is close to the one that was written.
    #[must_use]
    pub fn did_you_mean<'a>(self, written: &str, known: impl IntoIterator<Item = &'a str>) -> Self {
        match closest(written, known) {
            Some(word) => self.hint(format!("did you mean `{word}`?")),
            None => self,
        }
    }
}

/// Whether a line gives `key` or `secret` anything else than the name of its source.
fn may_hold_a_secret(line: &str) -> bool {
    let values = ["key", "secret"].into_iter().flat_map(|name| line.split(name).skip(1));
    let written = values.filter_map(|rest| rest.trim_start_matches(['"', '\'']).trim_start().strip_prefix(':'));
    let sources = ["file:", "env:", "credential:"];
    written.map(|value| value.trim_start().trim_start_matches(['"', '\''])).any(|value| {
        let is_text = value.starts_with(|c: char| c.is_ascii_alphanumeric() || "+/-_|>".contains(c));
        is_text && !sources.iter().any(|source| value.starts_with(source))
    })
}

/// A fault with its place in the text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// How much it weighs.
    pub severity: Severity,
    /// The file.
    pub file: PathBuf,
    /// The line, from 1; 0 where the fault is the file itself.
    pub line: usize,
    /// The column in characters, from 1; 0 where the fault is the file itself.
    pub column: usize,
    /// The place in words, for example `routes[0].allow`.
    pub place: String,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The line's text and how many characters the fault spans.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    snippet: Option<(String, usize)>,
}

impl Finding {
    /// A fault of a file as a whole.
    #[must_use]
    pub fn of_file(file: impl Into<PathBuf>, message: impl Into<String>, hint: Option<String>) -> Self {
        Self {
            severity: Severity::Error,
            file: file.into(),
            line: 0,
            column: 0,
            place: String::new(),
            message: message.into(),
            hint,
            snippet: None,
        }
    }

    /// The same, without being an error.
    #[must_use]
    pub fn as_warning(self) -> Self {
        Self { severity: Severity::Warning, ..self }
    }

    /// A fault at a line and column of a file.
    #[must_use]
    pub fn at(
        file: impl Into<PathBuf>,
        (line, column): (usize, usize),
        text: &str,
        message: impl Into<String>,
    ) -> Self {
        let shown = line.checked_sub(1).and_then(|index| text.lines().nth(index));
        // Whoever wrote a secret where its file belongs must not find it in a log as well.
        let shown = shown.filter(|line| !may_hold_a_secret(line)).map(|line| (line.to_owned(), 1));
        Self { line, column, snippet: shown, ..Self::of_file(file, message, None) }
    }

    /// The same, of so many characters of its line.
    #[must_use]
    pub fn wide(mut self, characters: usize) -> Self {
        if let Some((text, width)) = &mut self.snippet {
            let rest = text.chars().count().saturating_sub(self.column.saturating_sub(1));
            *width = characters.clamp(1, rest.max(1));
        }
        self
    }

    pub(super) fn locate(fault: Fault, source: &Source<'_>) -> Self {
        let span = source.root.and_then(|root| root.span(&fault.place, fault.at_key)).unwrap_or_default();
        let mut finding = Self::at(source.file, (span.line, span.column), source.text, fault.message);
        finding.snippet = finding.snippet.filter(|_| !fault.is_secret);
        let finding = finding.wide(span.width);
        Self { severity: fault.severity, place: fault.place.to_string(), hint: fault.hint, ..finding }
    }

    /// The finding as a compiler would show it, with a function that paints the parts.
    pub fn render(&self, paint: &dyn Fn(Part, &str) -> String) -> String {
        let (part, word) = match self.severity {
            Severity::Error => (Part::Error, "error"),
            Severity::Warning => (Part::Warning, "warning"),
        };
        let head = format!("{}{}", paint(part, word), paint(Part::Message, &format!(": {}", self.message)));
        let file = self.file.display();
        let Some((text, width)) = &self.snippet else {
            let line = match (self.line, self.place.as_str()) {
                (0, _) => String::new(),
                (line, "") => format!(":{line}"),
                (line, place) => format!(":{line}:{} ({place})", self.column),
            };
            let hint = self.hint.as_ref().map_or(String::new(), |hint| format!("\n   = {hint}"));
            if self.file.as_os_str().is_empty() {
                return format!("{head}{hint}");
            }
            return format!("{head}\n  {} {file}{line}{hint}", paint(Part::Frame, "-->"));
        };
        let number = self.line.to_string();
        let gutter = " ".repeat(number.len());
        let bar = paint(Part::Frame, "|");
        let marks = format!("{}{}", " ".repeat(self.column.saturating_sub(1)), "^".repeat(*width));
        let marks = paint(part, &format!("{marks} {}", self.hint.as_deref().unwrap_or_default()));
        let place = if self.place.is_empty() { String::new() } else { format!(" ({})", self.place) };
        format!(
            "{head}\n{gutter}{} {file}:{}:{}{place}\n{gutter} {bar}\n{} {bar} {text}\n{gutter} {bar} {}",
            paint(Part::Frame, "-->"),
            self.line,
            self.column,
            paint(Part::Frame, &number),
            marks.trim_end(),
        )
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(&|_, text| text.to_owned()))
    }
}

/// A part of a shown finding, for whoever paints it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The word `error` and its marks.
    Error,
    /// The word `warning` and its marks.
    Warning,
    /// The message.
    Message,
    /// Lines and numbers around it.
    Frame,
}

/// A text with its tree.
#[derive(Debug, Clone, Copy)]
pub(super) struct Source<'a> {
    pub(super) file: &'a std::path::Path,
    pub(super) text: &'a str,
    pub(super) root: Option<&'a Node>,
}

impl Default for Span {
    fn default() -> Self {
        Self { line: 1, column: 1, width: 1 }
    }
}
