//! The kinds of filters that there are, from settings to behaviour.

use super::{
    Filter, Plugins, body_limit, compression, cors, error_pages, ext_authz, headers, maintenance, networks, plugin,
    redirect, respond, rewrite,
};
use crate::config::{FilterKind, FilterSpec, Finding, Node, Reader};
use crate::keys::Files;
use schemars::{JsonSchema, Schema, schema_for};
use serde::de::DeserializeOwned;
use std::{any::Any, fmt, marker::PhantomData, sync::Arc};

/// What filters are built with.
#[derive(Debug)]
pub struct Building<'a> {
    /// Reads files.
    pub files: &'a mut Files,
    /// Runs plugins.
    pub plugins: &'a Plugins,
}

/// Settings as they are written, of one kind of filter.
pub(super) trait Settings: DeserializeOwned + JsonSchema {
    /// Its key in `filters:`.
    const NAME: &'static str;
    type Spec: Spec;

    /// Understands them; what is wrong is said to the reader.
    fn read(self, reader: &mut Reader<'_>) -> Option<Self::Spec>;
}

/// Settings that were understood.
pub(super) trait Spec: FilterSpec {
    /// Makes the filter.
    ///
    /// # Errors
    /// What is wrong with which file.
    fn build(&self, building: &mut Building<'_>) -> Result<Arc<dyn Filter>, Vec<Finding>>;
}

/// What was understood is the filter itself.
impl<F: Filter + FilterSpec + Clone> Spec for F {
    fn build(&self, _: &mut Building<'_>) -> Result<Arc<dyn Filter>, Vec<Finding>> {
        Ok(Arc::new(self.clone()))
    }
}

/// A kind by its settings.
struct Of<S>(PhantomData<fn() -> S>);

impl<S: Settings> FilterKind for Of<S> {
    fn name(&self) -> &'static str {
        S::NAME
    }

    fn schema(&self) -> Schema {
        schema_for!(S)
    }

    fn parse(&self, settings: &Node, reader: &mut Reader<'_>) -> Option<Box<dyn FilterSpec>> {
        let settings: S = reader.settings(settings)?;
        settings.read(reader).map(|spec| Box::new(spec) as Box<dyn FilterSpec>)
    }
}

/// A kind of filter, up to its behaviour.
trait Kind: FilterKind {
    /// Makes the filter; none if the settings are another kind's.
    fn build(
        &self,
        spec: &dyn FilterSpec,
        building: &mut Building<'_>,
    ) -> Option<Result<Arc<dyn Filter>, Vec<Finding>>>;
}

impl<S: Settings> Kind for Of<S> {
    fn build(
        &self,
        spec: &dyn FilterSpec,
        building: &mut Building<'_>,
    ) -> Option<Result<Arc<dyn Filter>, Vec<Finding>>> {
        let spec: &dyn Any = spec;
        spec.downcast_ref::<S::Spec>().map(|spec| spec.build(building))
    }
}

macro_rules! kinds {
    ($($settings:ty),* $(,)?) => {
        const BUILDERS: &[&dyn Kind] = &[$(&Of::<$settings>(PhantomData)),*];

        /// Every kind of filter, for whoever reads a config.
        pub const KINDS: &[&dyn FilterKind] = &[$(&Of::<$settings>(PhantomData)),*];
    };
}

kinds![
    body_limit::BodyLimit,
    compression::Compression,
    cors::Cors,
    error_pages::ErrorPages,
    ext_authz::ExtAuthz,
    headers::HeadersFilter,
    maintenance::Maintenance,
    networks::NetworksFilter,
    plugin::PluginFilter,
    redirect::Redirect,
    respond::Respond,
    rewrite::Rewrite,
];

/// Makes a filter of settings.
///
/// # Errors
/// What is wrong with which file.
pub(super) fn build(
    (kind, spec): (&str, &dyn FilterSpec),
    building: &mut Building<'_>,
) -> Result<Arc<dyn Filter>, Vec<Finding>> {
    let kind_of_it = BUILDERS.iter().find(|known| known.name() == kind);
    let built = kind_of_it.and_then(|known| known.build(spec, building));
    built.unwrap_or_else(|| Err(vec![Finding::of_file("", format!("there is no filter `{kind}`"), None)]))
}

impl<S> fmt::Debug for Of<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Of")
    }
}
