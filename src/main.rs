//! The `belay` program.

/// A request takes some 130 allocations, some of them freed by another thread. Measured against the system's:
/// `docs/performance.md`.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    belay::cli::main()
}
