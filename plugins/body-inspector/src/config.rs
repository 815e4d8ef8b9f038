//! The configuration, with every number inside its bounds.

use crate::texts::Texts;
use serde::Deserialize;
use std::ops::RangeInclusive;

/// What is wanted.
pub struct Config {
    pub bytes_max: usize,
    pub response_bytes_max: usize,
    pub texts: Texts,
    pub redact_digits: Option<usize>,
}

impl Config {
    /// Reads the JSON text; the error says what is wrong.
    pub fn parse(text: &[u8]) -> Result<Self, String> {
        if text.trim_ascii().is_empty() {
            return Err("there is no configuration".into());
        }
        // The parser would also take a list, with what the keys stand for in the order of this file.
        if !text.trim_ascii().starts_with(b"{") {
            return Err("the configuration is not a JSON object".into());
        }
        let document: Document = serde_json::from_slice(text).map_err(|error| error.to_string())?;
        check_texts(&document.deny)?;
        Ok(Self {
            bytes_max: within("max_bytes", document.max_bytes, BYTES)?,
            response_bytes_max: within("max_response_bytes", document.max_response_bytes, BYTES)?,
            redact_digits: document
                .redact_response_digits
                .map(|digits| within("redact_response_digits", digits, DIGITS))
                .transpose()?,
            texts: Texts::new(document.deny),
        })
    }

    /// Whether there is any text to search for.
    pub fn searches(&self) -> bool {
        !self.texts.is_empty()
    }
}

fn within(key: &str, number: usize, bounds: RangeInclusive<usize>) -> Result<usize, String> {
    if !bounds.contains(&number) {
        return Err(format!("{key} has to be from {} to {}, and is {number}", bounds.start(), bounds.end()));
    }
    Ok(number)
}

fn check_texts(texts: &[String]) -> Result<(), String> {
    if texts.iter().any(String::is_empty) {
        return Err("deny has an empty text, which is in every body".into());
    }
    if texts.iter().map(String::len).sum::<usize>() > TEXTS_BYTES_MAX {
        return Err(format!("the texts of deny have more than {TEXTS_BYTES_MAX} bytes together"));
    }
    Ok(())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(default = "max_bytes")]
    max_bytes: usize,
    #[serde(default = "max_response_bytes")]
    max_response_bytes: usize,
    #[serde(default)]
    deny: Vec<String>,
    redact_response_digits: Option<usize>,
}

fn max_bytes() -> usize {
    64 * 1024
}

fn max_response_bytes() -> usize {
    1024 * 1024
}

/// A body is in the plugin's memory whole when it is starred, so that it has to fit there with room to spare.
const BYTES: RangeInclusive<usize> = 1..=8 * 1024 * 1024;
const DIGITS: RangeInclusive<usize> = 2..=1024;
/// The search's table has at most 2 bytes × 230 kinds of bytes for each of these: under 1 MiB.
const TEXTS_BYTES_MAX: usize = 2048;
