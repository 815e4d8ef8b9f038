//! `audit`

use super::{Check, MINUTE};
use crate::config::document::{self, Durability, DurationText, OnFailure, SizeText};
use crate::config::fault::Fault;
use crate::config::model::{Audit, Checkpoints, Span};
use crate::config::node::Place;
use std::{ops::RangeInclusive, time::Duration};

const MIB: u64 = 1024 * 1024;
const TIB: u64 = MIB * MIB;
const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

pub(super) fn check(check: &mut Check<'_>, audit: &document::Audit) -> Option<Audit> {
    let top = Place::root().key("audit");
    let (rotate, keep) = (&audit.rotate, &audit.keep);
    let rotated = span(check, (&rotate.size, MIB..=TIB), (&rotate.age, MINUTE..=366 * DAY), &top.key("rotate"));
    let kept = span(check, (&keep.size, 2 * MIB..=1024 * TIB), (&keep.age, HOUR..=3660 * DAY), &top.key("keep"));
    if rotated.zip(kept).is_some_and(|(rotated, kept)| kept.size / 2 < rotated.size) {
        let fault = Fault::new(&top.key("keep").key("size"), "so much holds not even two files");
        check.fault(fault.hint(format!("twice `rotate.size`, which is {}, or more", rotate.size.0)));
    }
    let checkpoints = match &audit.checkpoints {
        Some(checkpoints) => Some(signed(check, checkpoints, audit, &top.key("checkpoints"))?),
        None => None,
    };
    let pseudonyms = match &audit.pseudonyms {
        Some(pseudonyms) => {
            Some(check.key_file((&pseudonyms.key, "key"), pseudonyms.created.as_deref(), &top.key("pseudonyms"))?)
        }
        None => None,
    };
    let by_default = match audit.on_failure {
        OnFailure::Refuse => Durability::Written,
        OnFailure::Continue => Durability::Queued,
    };
    Some(Audit {
        file: check.path(&audit.file),
        on_failure: audit.on_failure,
        durability: audit.durability.unwrap_or(by_default),
        rotate: rotated?,
        keep: kept?,
        checkpoints,
        pseudonyms,
    })
}

fn span(
    check: &mut Check<'_>,
    (size, sizes): (&SizeText, RangeInclusive<u64>),
    (age, ages): (&DurationText, RangeInclusive<Duration>),
    place: &Place,
) -> Option<Span> {
    let size = check.bytes(&size.0, &place.key("size"), sizes);
    let age = check.duration(&age.0, &place.key("age"), ages);
    Some(Span { size: size?, age: age? })
}

fn signed(
    check: &mut Check<'_>,
    checkpoints: &document::Checkpoints,
    audit: &document::Audit,
    place: &Place,
) -> Option<Checkpoints> {
    if check.path(&checkpoints.file) == check.path(&audit.file) {
        check.fault(Fault::new(&place.key("file"), "checkpoints have a file of their own"));
    }
    let key = check.key_file((&checkpoints.key, "key"), checkpoints.created.as_deref(), place);
    Some(Checkpoints { file: check.path(&checkpoints.file), key: key? })
}
