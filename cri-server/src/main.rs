//! `cleatd`: the daemon. It reads its settings, opens the engine, serves the front doors, and ends on SIGTERM without
//! touching a container.
#![forbid(unsafe_code)]

mod assemble;
mod config;
mod cri;
mod docker;
mod engine;
mod metrics;
mod news;
mod reload;
mod serve;
mod spec;
mod streams;
mod telemetry;
mod time;

use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::Parser;

use config::cli::{Cli, Command};
use reload::Reload;

/// Above the pieces in which a pull reads what a registry sends, 408 KiB at most: as pages of their own they would cost a tenth
/// of its processor time. What a pull leaves free it gives back at its end.
const LARGE_BYTES: u32 = 512 << 10;

fn main() -> ExitCode {
    // Hundreds of short tasks on a few threads: two heaps are never contended for long, and what one call frees serves
    // the next.
    cleat_sys::heap::keep_small(LARGE_BYTES);
    cleat_sys::heap::share(2);
    let cli = Cli::parse();
    let effective = match config::load(&cli.options) {
        Ok(effective) => effective,
        Err(faults) => {
            eprintln!("cleatd: {faults}");
            return ExitCode::from(2);
        }
    };
    if cli.command == Some(Command::Config) {
        return match io::stdout().write_all(effective.to_toml().as_bytes()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("cleatd: print the settings: {error}");
                ExitCode::FAILURE
            }
        };
    }
    // Monitors outlive the daemon: what its starter left open, a pipe that somebody reads to its end, is not for them.
    if let Err(error) = cleat_sys::descriptors::close_on_exec_from(3) {
        eprintln!("cleatd: mark inherited descriptors close-on-exec: {error}");
        return ExitCode::FAILURE;
    }
    let config = config::Config::from(&effective);
    let filter = match telemetry::start(config.log) {
        Ok(filter) => filter,
        Err(error) => {
            eprintln!("cleatd: {error}");
            return ExitCode::FAILURE;
        }
    };
    match serve::run(&config, Reload::new(cli.options, effective, filter)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("cleatd ends: {error:#}");
            ExitCode::FAILURE
        }
    }
}
