//! `filters`, of a listener or a route. What they say is theirs to read; which pools there are is known here.

use super::Check;
use crate::config::document::Pool;
use crate::config::fault::Fault;
use crate::config::filter::{FilterSpec, Reader};
use crate::config::node::{Node, Place};
use crate::name::PoolName;
use std::collections::BTreeMap;

/// The most filters of one listener or route.
const FILTERS_MAX: usize = 32;

/// Settings that were read, with the name of their kind.
pub(super) type Specs = Vec<(&'static str, Box<dyn FilterSpec>)>;

/// What stands there, and the pools that may be named.
#[derive(Clone, Copy)]
pub(super) struct Around<'a> {
    pub(super) root: &'a Node,
    pub(super) pools: &'a BTreeMap<String, Pool>,
}

pub(super) fn check(check: &mut Check<'_>, around: Around<'_>, count: usize, place: &Place) -> Specs {
    if count > FILTERS_MAX {
        check.fault(Fault::new(place, format!("{count} filters stand here, and {FILTERS_MAX} may")));
    }
    (0..count).filter_map(|index| one(check, around, &place.index(index))).collect()
}

/// A map of one key, the filter's kind.
fn one(check: &mut Check<'_>, around: Around<'_>, place: &Place) -> Option<(&'static str, Box<dyn FilterSpec>)> {
    let (name, settings) = around.root.at(place)?.entries().first()?;
    let kind = check.context.filters.iter().find(|kind| kind.name() == name.value)?;
    let folder = check.context.folder().to_owned();
    let mut reader = Reader::new(place.key(&name.value), &folder);
    let spec = kind.parse(settings, &mut reader).filter(|_| reader.is_content());
    reader.faults().into_iter().for_each(|fault| check.fault(fault));
    let spec = spec?;
    for (pool, place) in spec.pools() {
        known(check, pool, place, around.pools);
    }
    Some((kind.name(), spec))
}

fn known(check: &mut Check<'_>, pool: &PoolName, place: &Place, pools: &BTreeMap<String, Pool>) {
    if !pools.contains_key(pool.as_str()) {
        let fault = Fault::new(place, format!("there is no pool `{pool}`"));
        check.fault(fault.did_you_mean(pool.as_str(), pools.keys().map(String::as_str)));
    }
}
