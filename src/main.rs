//! The `belay` program.

fn main() -> std::process::ExitCode {
    belay::cli::main()
}
