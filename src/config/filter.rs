//! The seam by which filters bring their own settings, although they live above this module.

use super::fault::Fault;
use super::node::{Node, Place};
use schemars::Schema;
use std::{any::Any, fmt};

/// A kind of filter, as far as a config can know it.
pub trait FilterKind: Send + Sync {
    /// Its key in `filters:`.
    fn name(&self) -> &'static str;

    /// The schema of its settings, with descriptions.
    fn schema(&self) -> Schema;

    /// Reads settings whose shape fits the schema.
    ///
    /// # Errors
    /// What is wrong with them, at its place.
    fn parse(&self, settings: &Node, place: &Place) -> Result<Box<dyn FilterSpec>, Vec<Fault>>;
}

/// Settings that were read, and that only their filter understands.
pub trait FilterSpec: Any + fmt::Debug + Send + Sync {}
