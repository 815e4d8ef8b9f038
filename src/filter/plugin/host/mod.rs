//! The host of plugins: WebAssembly in the ABI of proxy-wasm, on wasmtime.
//!
//! A plugin is compiled and configured when a config is built, never by a request. It sees what filters see, through the
//! functions in [`imports`]; each call into it has its fuel and its time ([`instance`]); an instance works on one request
//! at a time ([`pool`]), so that one that stops takes nobody else with it.

mod abi;
mod engine;
mod imports;
mod instance;
mod pool;
mod shared;
mod stream;
mod work;

pub(super) use imports::Imports;

use super::Plugging;
use crate::filter::{About, Filter, Running};
use crate::metrics::{Metrics, PluginFamilies};
use crate::refusal::Refusal;
use crate::upstream::{Errand, Pools};
use arc_swap::ArcSwapOption;
use instance::Failure;
use once_cell::sync::OnceCell;
use parking_lot::Mutex;
use pool::Plugin;
use shared::{Kept, Shared};
use std::{
    collections::HashMap,
    fmt, io,
    path::{Path, PathBuf},
    sync::{Arc, Weak},
    thread,
    time::{Duration, Instant},
};
use stream::Stream;
use tokio::runtime::Handle;
use wasmtime::{Engine, Linker, Module};

/// How often it is looked who wants to be woken.
const TICK: Duration = Duration::from_millis(10);
/// How often it is looked who has nothing to do.
const TRIM: Duration = Duration::from_secs(5);

/// All plugins of a process, which outlive generations. A copy is the same.
#[derive(Debug, Clone)]
pub struct Plugins(Arc<Inner>);

struct Inner {
    engine: OnceCell<Engine>,
    cache: Option<PathBuf>,
    metrics: PluginFamilies,
    kept: Mutex<HashMap<Arc<str>, Arc<Kept>>>,
    /// What runs, by what it was made of: the same goes on over a reload.
    running: Mutex<HashMap<Plugging, Weak<Plugin>>>,
    pools: Arc<ArcSwapOption<Pools>>,
    runtime: Arc<OnceCell<Handle>>,
}

/// Why there is no plugin.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoPlugin {
    #[error("{0}")]
    Engine(String),
    #[error("is no WebAssembly that can be run: {0}")]
    Module(String),
    #[error("imports what nobody provides: {0}")]
    Imports(String),
    #[error("cannot start: {0}")]
    Start(String),
    #[error("has no word for the version of proxy-wasm that it speaks (0.1.0, 0.2.0 or 0.2.1)")]
    Version,
    #[error("no thread can be had: {0}")]
    Thread(#[from] io::Error),
}

impl Plugins {
    /// None yet. What is compiled is kept in that folder.
    #[must_use]
    pub fn new(metrics: &Metrics, cache: Option<&Path>) -> Self {
        Self(Arc::new(Inner {
            engine: OnceCell::new(),
            cache: cache.map(Into::into),
            metrics: metrics.plugins(),
            kept: Mutex::default(),
            running: Mutex::default(),
            pools: Arc::default(),
            runtime: Arc::default(),
        }))
    }

    /// From now on calls that belong to no request go to these pools.
    pub fn use_pools(&self, pools: &Arc<Pools>) {
        self.0.pools.store(Some(Arc::clone(pools)));
        if let Ok(runtime) = Handle::try_current() {
            self.0.runtime.set(runtime).ok();
        }
    }

    /// A plugin, compiled and configured: the one that runs already, if nothing of it has changed.
    ///
    /// # Errors
    /// Why it cannot be.
    pub(super) fn plug(&self, plugging: &Plugging) -> Result<(Arc<dyn Filter>, Imports), NoPlugin> {
        let known = {
            let mut running = self.0.running.lock();
            running.retain(|_, plugin| plugin.strong_count() > 0);
            running.get(plugging).and_then(Weak::upgrade)
        };
        let plugin = match known {
            Some(plugin) => plugin,
            None => {
                // Those that run are woken meanwhile.
                let plugin = self.start(plugging)?;
                self.0.running.lock().insert(plugging.clone(), Arc::downgrade(&plugin));
                plugin
            }
        };
        let imports = plugin.imports.clone();
        Ok((Arc::new(Plugged(plugin)), imports))
    }

    fn engine(&self) -> Result<&Engine, NoPlugin> {
        self.0.engine.get_or_try_init(|| {
            let engine = engine::start(self.0.cache.as_deref()).map_err(|fault| NoPlugin::Engine(fault.to_string()))?;
            let inner = Arc::downgrade(&self.0);
            thread::Builder::new().name("plugin-ticks".into()).spawn(move || wake(&inner))?;
            Ok(engine)
        })
    }

    fn start(&self, plugging: &Plugging) -> Result<Arc<Plugin>, NoPlugin> {
        let engine = self.engine()?;
        let broken = |fault: wasmtime::Error| NoPlugin::Module(format!("{fault:#}").replace('\n', " "));
        let module = Module::new(engine, plugging.module.as_ref()).map_err(broken)?;
        if !module.exports().any(|export| export.name().starts_with("proxy_abi_version_0_")) {
            return Err(NoPlugin::Version);
        }
        let mut linker = Linker::new(engine);
        let imports = imports::link(&mut linker, &module).map_err(broken)?;
        if !imports.unknown.is_empty() {
            return Err(NoPlugin::Imports(imports.unknown.join(", ")));
        }
        let pre = linker.instantiate_pre(&module).map_err(broken)?;
        let name = &plugging.name;
        let kept = Arc::clone(self.0.kept.lock().entry(Arc::clone(name)).or_default());
        let errands = plugging.pools.iter().map(|pool| (pool.as_str().into(), Errand::to(pool.clone())));
        let shared = Shared {
            name: Arc::clone(name),
            root_id: Arc::clone(&plugging.root_id),
            configuration: plugging.configuration.clone(),
            vm_configuration: plugging.vm_configuration.clone(),
            limits: plugging.limits,
            errands: errands.collect(),
            kept,
            pools: Arc::clone(&self.0.pools),
            runtime: Arc::clone(&self.0.runtime),
            metrics: self.0.metrics.clone(),
        };
        if !imports.unimplemented.is_empty() {
            log::info!("plugin {name}: there is no {}", imports.unimplemented.join(", "));
        }
        let parts = (imports, plugging.is_optional, self.0.metrics.of(name));
        let start = |failure: Failure| NoPlugin::Start(failure.text);
        Plugin::new(pre, Arc::new(shared), parts).map_err(start)
    }
}

/// What a plugin can call and ask, as Markdown.
#[must_use]
pub fn reference() -> String {
    let names = |names: Vec<String>| names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    let properties = imports::PROPERTIES.iter().map(|(name, meaning)| format!("| `{name}` | {meaning} |\n"));
    format!(
        "## Functions\n\nThese work:\n\n{}.\n\nThese answer `UNIMPLEMENTED` (12), and a plugin that imports one is named at \
         its start:\n\n{}.\n\nOf WASI there is what guests need to start, without files and without an environment:\n\n{}.\n\n\
         ## Properties\n\nA path's steps are separated by a zero byte. What a plugin sets itself it can read again, for the \
         same request.\n\n| property | what it is |\n|---|---|\n{}",
        names(imports::names("env")),
        names(imports::UNIMPLEMENTED.iter().map(|name| (*name).to_owned()).collect()),
        names(imports::names(imports::WASI)),
        properties.collect::<String>(),
    )
}

/// Wakes plugins that want to be woken, and lets idle instances go, as long as there are plugins.
fn wake(inner: &Weak<Inner>) {
    let mut trimmed = Instant::now();
    while let Some(inner) = inner.upgrade() {
        let plugins: Vec<_> = inner.running.lock().values().filter_map(Weak::upgrade).collect();
        drop(inner);
        let trims = trimmed.elapsed() > TRIM;
        if trims {
            trimmed = Instant::now();
        }
        for plugin in plugins {
            plugin.ticks();
            if trims {
                plugin.trims();
            }
        }
        thread::sleep(TICK);
    }
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} plugins", self.running.lock().len())
    }
}

/// A plugin as a filter.
#[derive(Debug)]
struct Plugged(Arc<Plugin>);

impl Filter for Plugged {
    fn name(&self) -> &str {
        &self.0.shared.name
    }

    fn begin(&self, about: &About<'_>) -> Result<Option<Box<dyn Running>>, Refusal> {
        Ok(Stream::begin(&self.0, about)?.map(|stream| Box::new(stream) as Box<dyn Running>))
    }
}
