//! Amounts with their units, each in its range, with the fault that says what is wrong.

use super::fault::Fault;
use super::node::Place;
use super::value;
use std::{ops::RangeInclusive, time::Duration};

/// A time such as `30s`.
pub(super) fn duration(text: &str, place: &Place, range: &RangeInclusive<Duration>) -> Result<Duration, Fault> {
    let no_time =
        || Fault::new(place, format!("`{text}` is no time")).hint("a number and ms, s, m, h or d, for example 30s");
    let duration = value::duration(text).ok_or_else(no_time)?;
    if range.contains(&duration) {
        return Ok(duration);
    }
    let [first, last] = [*range.start(), *range.end()].map(humantime::format_duration);
    Err(Fault::new(place, format!("{text} is out of range")).hint(format!("from {first} to {last}")))
}

/// An amount of bytes such as `32KiB`, or of bytes each second, as it was read.
pub(super) fn bytes(
    (text, amount): (&str, Option<u64>),
    place: &Place,
    range: &RangeInclusive<u64>,
    example: &str,
) -> Result<u64, Fault> {
    match amount {
        Some(amount) if range.contains(&amount) => Ok(amount),
        Some(_) => Err(Fault::new(place, format!("{text} is out of range")).hint(format!(
            "from {} to {} bytes",
            range.start(),
            range.end()
        ))),
        None => Err(Fault::new(place, format!("`{text}` is no amount of bytes"))
            .hint(format!("a number and B, KiB, MiB, GiB or TiB, for example {example}"))),
    }
}
