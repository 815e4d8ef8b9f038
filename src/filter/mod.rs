//! What is done to requests that may pass, and to their responses.
//!
//! A filter is one file: settings, schema, behaviour and tests. It runs after the permit, so it may tighten and never
//! widen, and the headers that carry identity or framing are out of its reach.

mod set_headers;

use crate::config::{FilterKind, FilterSpec};
use crate::refusal::Refusal;
use http::{HeaderName, HeaderValue};
use std::{fmt, sync::Arc};

/// The headers that a filter works on.
pub trait Headers {
    /// Sets a header to one value.
    ///
    /// # Errors
    /// [`Refusal::FilterFailed`] if it cannot be set.
    fn set(&mut self, name: &HeaderName, value: &HeaderValue) -> Result<(), Refusal>;
}

/// A filter, ready to run.
pub trait Filter: fmt::Debug + Send + Sync {
    /// Works on the head of a request that has its permit.
    ///
    /// # Errors
    /// The refusal that the client gets.
    fn request(&self, _headers: &mut dyn Headers) -> Result<(), Refusal> {
        Ok(())
    }

    /// Works on the head of a response.
    ///
    /// # Errors
    /// The refusal that the client gets instead.
    fn response(&self, _headers: &mut dyn Headers) -> Result<(), Refusal> {
        Ok(())
    }
}

/// A kind of filter, from its settings to its behaviour.
trait Kind: FilterKind {
    /// Makes the filter, if the settings are its own.
    fn build(&self, spec: &dyn FilterSpec) -> Option<Arc<dyn Filter>>;
}

const BUILDERS: [&dyn Kind; 1] = [&set_headers::SetHeadersKind];

/// Every kind of filter, for whoever reads a config.
pub const KINDS: [&dyn FilterKind; 1] = [&set_headers::SetHeadersKind];

/// Filters in order.
#[derive(Debug, Default)]
pub struct Chain(Box<[Arc<dyn Filter>]>);

impl Chain {
    /// Builds filters from their settings; an error names a kind that does not exist.
    ///
    /// # Errors
    /// The name of the kind.
    pub fn build<'a>(specs: &[(&'a str, Box<dyn FilterSpec>)]) -> Result<Self, &'a str> {
        let filter = |(name, spec): &(&'a str, Box<dyn FilterSpec>)| {
            let kind = BUILDERS.iter().find(|kind| kind.name() == *name);
            kind.and_then(|kind| kind.build(&**spec)).ok_or(*name)
        };
        specs.iter().map(filter).collect::<Result<_, _>>().map(Self)
    }

    /// Runs the filters on a request, as written.
    ///
    /// # Errors
    /// The first filter's refusal.
    pub fn request(&self, headers: &mut dyn Headers) -> Result<(), Refusal> {
        self.0.iter().try_for_each(|filter| filter.request(headers))
    }

    /// Runs the filters on a response, in reverse.
    ///
    /// # Errors
    /// The first filter's refusal.
    pub fn response(&self, headers: &mut dyn Headers) -> Result<(), Refusal> {
        self.0.iter().rev().try_for_each(|filter| filter.response(headers))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_known_and_built() {
        let names = |kinds: &[&dyn FilterKind]| kinds.iter().map(|kind| kind.name()).collect::<Vec<_>>();
        assert_eq!(names(&KINDS), names(&BUILDERS.map(|kind| kind as &dyn FilterKind)));
    }
}
