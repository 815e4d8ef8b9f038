//! The one engine of the process: how modules are compiled, and the clock by which calls are cut off.

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::Path,
    thread,
    time::Duration,
};
use wasmtime::{Cache, CacheConfig, Config, Engine, OptLevel};

/// By so much a call may run longer than it may.
pub(super) const EPOCH: Duration = Duration::from_millis(2);
/// A plugin's stack, in bytes.
const STACK_MAX: usize = 512 * 1024;
/// Address space that is set aside for one instance's memory, in bytes: a memory that fits needs no checks of its own.
const RESERVED: u64 = 4 * 1024 * 1024 * 1024;

/// Why there is no engine.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoEngine {
    #[error("the folder of compiled plugins cannot be used: {0}")]
    Folder(#[from] io::Error),
    #[error("others may write into the folder of compiled plugins, and what stands there runs as part of Belay")]
    Open,
    #[error("{0}")]
    Engine(#[from] wasmtime::Error),
}

/// Makes the engine, and starts its clock. What it compiles is kept in a folder, if one is named.
pub(super) fn start(cache: Option<&Path>) -> Result<Engine, NoEngine> {
    let mut config = Config::new();
    config.consume_fuel(true).epoch_interruption(true).max_wasm_stack(STACK_MAX).memory_reservation(RESERVED);
    config.cranelift_opt_level(OptLevel::Speed).wasm_backtrace_max_frames(None);
    if let Some(folder) = cache {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        if fs::metadata(folder)?.permissions().mode() & 0o022 != 0 {
            return Err(NoEngine::Open);
        }
        let mut settings = CacheConfig::new();
        settings.with_directory(fs::canonicalize(folder)?);
        config.cache(Some(Cache::new(settings)?));
    }
    let engine = Engine::new(&config)?;
    let clock = engine.weak();
    thread::Builder::new().name("plugin-clock".into()).spawn(move || {
        while let Some(engine) = clock.upgrade() {
            engine.increment_epoch();
            drop(engine);
            thread::sleep(EPOCH);
        }
    })?;
    Ok(engine)
}

/// After so many beats of the clock that time has passed.
pub(super) fn beats(time: Duration) -> u64 {
    let beats = time.as_micros().div_ceil(EPOCH.as_micros());
    u64::try_from(beats).unwrap_or(u64::MAX).saturating_add(1)
}
