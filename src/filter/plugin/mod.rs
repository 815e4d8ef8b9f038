//! `plugin`: a filter that somebody else has written, as WebAssembly in the ABI of proxy-wasm.
//!
//! In a build without the feature `wasm` nobody could run it, and it is an error of the config.

#[cfg(feature = "wasm")]
mod host;
mod limits;
#[cfg(not(feature = "wasm"))]
mod none;
#[cfg(feature = "wasm")]
pub mod trial;

#[cfg(feature = "wasm")]
pub use host::{Plugins, reference};
#[cfg(not(feature = "wasm"))]
pub use none::Plugins;

use super::Filter;
use super::kind::{Building, Settings, Spec};
use crate::config::document::{DurationText, SizeText};
use crate::config::{Fault, FilterSpec, Finding, Place, Reader};
use crate::name::PoolName;
use bytes::Bytes;
use limits::Limits;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use std::{path::PathBuf, sync::Arc, time::Duration};

/// The largest module, in bytes.
const MODULE_MAX: usize = 16 * 1024 * 1024;
/// The largest configuration.
const CONFIGURATION_MAX: usize = 1024 * 1024;

/// Runs a filter of your own, or one that was written for Envoy, Kong or APISIX: WebAssembly in the ABI of proxy-wasm
/// 0.2.1, 0.2.0 or 0.1.0. It may tighten and never widen: identity headers, the request line and framing are out of its
/// reach, and it calls only the pools that are named here. Only builds with the feature `wasm` have it.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PluginFilter {
    /// The module's file.
    wasm: String,
    /// What it is called in metrics, logs and records; the file's name without its end, unless said otherwise. Plugins of
    /// one name share their data and metrics.
    #[serde(default)]
    name: Option<String>,
    /// What the plugin is configured with: a text, `file:PATH`, or a map, which it gets as JSON.
    #[serde(default)]
    #[schemars(schema_with = "text_or_map")]
    config: Option<serde_json::Value>,
    /// The same for the virtual machine that it runs in, as Envoy has it.
    #[serde(default)]
    vm_config: Option<String>,
    /// Which of several plugins in the module it is, if there are several.
    #[serde(default)]
    root_id: String,
    /// The pools that it may call, each by its name.
    #[serde(default)]
    pools: Vec<String>,
    /// Whether requests go on without it when it stops, takes too long, or all its instances are at work. Else they are
    /// refused.
    #[serde(default)]
    optional: bool,
    /// What it may use.
    #[serde(default)]
    limits: PluginLimits,
}

/// What stands in a map is the plugin's to understand.
fn text_or_map(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "anyOf": [{ "type": "string" }, { "type": "object", "additionalProperties": true }] })
}

/// What a plugin may use.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct PluginLimits {
    /// Memory of an instance: 64KiB to 1GiB.
    memory: SizeText,
    /// How long one call of it may take: 1ms to 1s. Its start may take ten times as long.
    time: DurationText,
    /// How many instructions it may take, about: 10000 to 10000000000.
    #[schemars(range(min = 10_000, max = 10_000_000_000_u64))]
    fuel: u64,
    /// How many instances there may be, each of which works on one request at a time: 1 to 100000.
    #[schemars(range(min = 1, max = 100_000))]
    instances: usize,
    /// How much of a body may be held for it: 0B to 64MiB.
    body: SizeText,
    /// How long it may let a request wait: 10ms to 5m.
    wait: DurationText,
}

impl Default for PluginLimits {
    fn default() -> Self {
        Self {
            memory: SizeText("16MiB".into()),
            time: DurationText("20ms".into()),
            fuel: 50_000_000,
            instances: 1000,
            body: SizeText("1MiB".into()),
            wait: DurationText("5s".into()),
        }
    }
}

/// Where a configuration is.
#[derive(Debug, Clone)]
enum Configuration {
    Text(String),
    File(PathBuf),
}

#[derive(Debug)]
pub(super) struct Plug {
    wasm: PathBuf,
    name: Arc<str>,
    configuration: Configuration,
    vm_configuration: String,
    root_id: Arc<str>,
    pools: Vec<(PoolName, Place)>,
    is_optional: bool,
    limits: Limits,
}

/// All that a plugin is made of.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Plugging {
    /// The module.
    module: Bytes,
    /// Its name.
    name: Arc<str>,
    /// What it is configured with.
    configuration: Bytes,
    /// What its machine is.
    vm_configuration: Bytes,
    /// Which of the module's it is.
    root_id: Arc<str>,
    /// The pools that it may call.
    pools: Vec<PoolName>,
    /// Whether requests go on without it.
    is_optional: bool,
    /// What it may use.
    limits: Limits,
}

impl Settings for PluginFilter {
    const NAME: &'static str = "plugin";
    type Spec = Plug;

    fn read(self, reader: &mut Reader<'_>) -> Option<Plug> {
        let place = reader.place.clone();
        let wasm = reader.path(&self.wasm);
        let stem = wasm.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let name = self.name.unwrap_or(stem);
        let is_name = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
        if name.is_empty() || name.len() > crate::name::LENGTH_MAX || !name.bytes().all(is_name) {
            let fault = Fault::new(&place.key("name"), format!("`{name}` is no name"));
            reader.fault(fault.hint("1 to 63 letters, digits, `_`, `-` and `.`"));
        }
        let configuration = match self.config {
            None => Configuration::Text(String::new()),
            Some(serde_json::Value::String(text)) => match reader.file_reference(&text) {
                Some(file) => Configuration::File(file),
                None => Configuration::Text(text),
            },
            Some(map) => Configuration::Text(map.to_string()),
        };
        let pools = self.pools.iter().enumerate();
        let pools = pools.filter_map(|(index, text)| reader.pool(text, &place.key("pools").index(index))).collect();
        let limits = limits_of(&self.limits, &place.key("limits"), reader)?;
        Some(Plug {
            wasm,
            name: name.into(),
            configuration,
            vm_configuration: self.vm_config.unwrap_or_default(),
            root_id: self.root_id.into(),
            pools,
            is_optional: self.optional,
            limits,
        })
    }
}

fn limits_of(limits: &PluginLimits, place: &Place, reader: &mut Reader<'_>) -> Option<Limits> {
    const MIB: u64 = 1024 * 1024;
    let memory = reader.bytes(&limits.memory.0, &place.key("memory"), 64 * 1024..=1024 * MIB);
    let milliseconds = Duration::from_millis;
    let time = reader.duration(&limits.time.0, &place.key("time"), milliseconds(1)..=milliseconds(1000));
    let body = reader.bytes(&limits.body.0, &place.key("body"), 0..=64 * MIB);
    let wait = reader.duration(&limits.wait.0, &place.key("wait"), milliseconds(10)..=milliseconds(300_000));
    Some(Limits {
        memory: usize::try_from(memory?).ok()?,
        time: time?,
        fuel: limits.fuel,
        instances: limits.instances,
        body: usize::try_from(body?).ok()?,
        wait: wait?,
    })
}

/// What a plugin may use of which nothing is said.
#[cfg(feature = "wasm")]
fn limits_of_default() -> Option<Limits> {
    let mut reader = Reader::new(Place::root(), std::path::Path::new(""));
    limits_of(&PluginLimits::default(), &Place::root(), &mut reader)
}

impl FilterSpec for Plug {
    fn pools(&self) -> &[(PoolName, Place)] {
        &self.pools
    }
}

impl Plug {
    fn plugging(&self, building: &mut Building<'_>) -> Result<Plugging, Finding> {
        let module = building.files.page(&self.wasm, MODULE_MAX)?.into();
        let configuration = match &self.configuration {
            Configuration::Text(text) => Bytes::from(text.clone()),
            Configuration::File(file) => building.files.page(file, CONFIGURATION_MAX)?.into(),
        };
        Ok(Plugging {
            module,
            name: Arc::clone(&self.name),
            configuration,
            vm_configuration: Bytes::from(self.vm_configuration.clone()),
            root_id: Arc::clone(&self.root_id),
            pools: self.pools.iter().map(|(pool, _)| pool.clone()).collect(),
            is_optional: self.is_optional,
            limits: self.limits,
        })
    }
}

impl Spec for Plug {
    #[cfg(feature = "wasm")]
    fn build(&self, building: &mut Building<'_>) -> Result<Arc<dyn Filter>, Vec<Finding>> {
        let plugging = self.plugging(building).map_err(|finding| vec![finding])?;
        let hint = "`belay plugin check FILE` shows what it needs".to_owned();
        let fault = |fault: host::NoPlugin| vec![Finding::of_file(&self.wasm, fault.to_string(), Some(hint))];
        building.plugins.plug(&plugging).map(|(filter, _)| filter).map_err(fault)
    }

    #[cfg(not(feature = "wasm"))]
    fn build(&self, building: &mut Building<'_>) -> Result<Arc<dyn Filter>, Vec<Finding>> {
        self.plugging(building).map_err(|finding| vec![finding])?;
        let message = "this build of Belay knows no WebAssembly, so that nobody could run the plugin";
        let hint = "build it with `--features wasm`, or take a package".to_owned();
        Err(vec![Finding::of_file(&self.wasm, message, Some(hint))])
    }
}
