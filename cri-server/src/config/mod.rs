//! The daemon's settings: where they come from, what they may be, and what they are.
//!
//! ```text
//! settings (the table: name, kind, default, flag, meaning)
//!     │ default            files: cleat.toml, cleat.toml.d/*.toml            cli: flags
//!     └──────────────┬──────────────────┴───────────────────────────────────────┘
//!                 effective: one value and one origin per setting ──▶ show (`cleatd config`)
//!                    │
//!                 typed: `Config`, what the rest of the daemon reads
//! ```
//!
//! Later wins, key by key: default, main file, drop-ins in lexical order, command line. Every fault of every source is
//! collected before any is reported. A new setting is one row in [`settings`] and one field in [`typed`].

pub(crate) mod cli;
mod effective;
mod fault;
mod files;
mod kind;
mod net;
mod origin;
#[cfg(test)]
mod reference;
mod settings;
mod show;
mod typed;
mod value;

use std::path::{Path, PathBuf};

pub(crate) use effective::Effective;
pub(crate) use fault::Faults;
pub(crate) use typed::{CgroupDriver, Config, Image, Log, LogFormat, LogLevel};

/// The main file when `--config` names none; it may be absent.
pub(crate) const DEFAULT_FILE: &str = "/etc/cleat/cleat.toml";

/// Where helper programs are when they are not beside the daemon.
const LIBEXEC: &str = "/usr/libexec/cleat";

/// Reads all sources and returns the settings, or every fault found in any of them.
pub(crate) fn load(options: &cli::Options) -> Result<Effective, Faults> {
    let mut faults = Vec::new();
    let main = options.config.clone().unwrap_or_else(|| PathBuf::from(DEFAULT_FILE));
    let mut found = files::read_all(&main, options.config.is_some(), &mut faults);
    found.extend(options.settings());
    let effective = Effective::merge(found, &program_path, &mut faults);
    if faults.is_empty() { Ok(effective) } else { Err(Faults::new(faults)) }
}

/// Where the helper program `name` is: beside this executable if it is there, else in [`LIBEXEC`].
fn program_path(name: &str) -> PathBuf {
    let beside = std::env::current_exe().ok().map(|exe| exe.with_file_name(name));
    beside.filter(|path| path.is_file()).unwrap_or_else(|| Path::new(LIBEXEC).join(name))
}
