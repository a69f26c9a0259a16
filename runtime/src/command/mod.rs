//! The commands, one file each, and what they share: global options, errors, the log.

mod arguments;
mod checkpoint;
mod console;
mod create;
mod criu;
mod delete;
mod events;
mod exec;
mod features;
mod guard;
mod hooks;
mod inherited;
mod kill;
mod list;
mod log;
mod oom;
mod pause;
mod ps;
mod restore;
mod run;
mod spec;
mod start;
mod state;
mod store;
mod supervise;
mod time;
mod update;

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use cleat_runtime::{Failure, OCI_VERSION};
use cleat_sys::cgroup::CgroupError;

use arguments::{Arguments, Global};

/// The exit code of every failure that is not a container's own.
const FAILED: u8 = 1;
/// The same of an exec, as runc has it: programs seldom exit with it.
const EXEC_FAILED: u8 = 255;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
enum CommandError {
    #[error("{0}")]
    Usage(String),
    /// None: a command's options were asked for instead of it.
    #[error("see cleat-runtime --help")]
    HelpWanted,
    #[error("unknown command {0:?}; see cleat-runtime --help")]
    UnknownCommand(String),
    // Engines look for the words of runc in these three.
    #[error("container with given ID already exists: {0:?}")]
    Exists(String),
    #[error("container does not exist: {0:?}")]
    Absent(String),
    #[error("container not running: {0:?}")]
    NotRunning(String),
    #[error("container {0:?} has no cgroup, by which its processes would be known")]
    NoCgroup(String),
    #[error("container {id:?} is {status}; it has to be {wanted}")]
    Status { id: String, status: &'static str, wanted: &'static str },
    #[error("{action} {}", path.display())]
    File {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{0}")]
    System(&'static str, #[source] io::Error),
    #[error("read {}", path.display())]
    Json {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    #[error(transparent)]
    Runtime(#[from] Failure),
}

impl CommandError {
    fn file(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::File { action, path: path.into(), source }
    }
}

/// Runs the command of this process's arguments.
pub(crate) fn main() -> ExitCode {
    let (mut arguments, global) = match Arguments::from_environment().and_then(Arguments::global) {
        Ok(parsed) => parsed,
        Err(error) => {
            eprintln!("cleat-runtime: {error}");
            return ExitCode::from(FAILED);
        }
    };
    let command = match arguments.command() {
        Ok(command) => command,
        Err(_) if global.version => "version".into(),
        Err(error) => {
            log::report(&global, &error);
            return ExitCode::from(FAILED);
        }
    };
    let done = dispatch(&command, &mut arguments, &global).or_else(|error| match error {
        CommandError::HelpWanted => arguments::print_help().map(|()| ExitCode::SUCCESS),
        other => Err(other),
    });
    done.unwrap_or_else(|error| {
        log::report(&global, &error);
        let of_exec = command == "exec" && !matches!(error, CommandError::Usage(_));
        ExitCode::from(if of_exec { EXEC_FAILED } else { FAILED })
    })
}

fn dispatch(command: &str, arguments: &mut Arguments, global: &Global) -> Result<ExitCode, CommandError> {
    if global.version {
        let text = concat!("cleat-runtime version ", env!("CARGO_PKG_VERSION"));
        return list::print(&format!("{text}\nspec: {OCI_VERSION}\n")).map(|()| ExitCode::SUCCESS);
    }
    if matches!(command, "create" | "run" | "exec") {
        guard::protect_own_program()?;
    }
    let done = match command {
        "checkpoint" => checkpoint::command(arguments, global),
        "create" => create::command(arguments, global),
        "delete" => delete::command(arguments, global),
        "exec" => return exec::command(arguments, global),
        "events" => events::command(arguments, global),
        "features" => features::command(),
        "help" => arguments::print_help(),
        "kill" => kill::command(arguments, global),
        "list" => list::command(arguments, global),
        "pause" => pause::pause(arguments, global),
        "ps" => ps::command(arguments, global),
        "restore" => return restore::command(arguments, global),
        "resume" => pause::resume(arguments, global),
        "run" => return run::command(arguments, global),
        "spec" => spec::command(arguments),
        "start" => start::command(arguments, global),
        "state" => state::command(arguments, global),
        "update" => update::command(arguments, global),
        other => Err(CommandError::UnknownCommand(other.into())),
    };
    done.map(|()| ExitCode::SUCCESS)
}
