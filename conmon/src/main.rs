//! `cleat-conmon`: the monitor of one container.
//!
//! A small process that outlives the daemon: parent of everything in its container, owner of its standard streams, its
//! log, its execs and the record of its end. One thread, one epoll loop, no heap growth after start. It is started by
//! the daemon with a connected socket as its standard input and speaks the protocol of `cleat-conmon-proto`.
//!
//! Under another name it is the init of containers that ask for one (`init`).
//!
//! `launch` makes the container, `monitor` holds the loop, `requests` and `ending` are its two stories.
#![forbid(unsafe_code)]

mod attach;
mod children;
mod complaint;
mod connection;
mod container;
mod ending;
mod exec;
mod failure;
mod hooks;
mod init;
mod launch;
mod log;
mod monitor;
mod oom;
mod pace;
mod poller;
mod record;
mod requests;
mod setup;
mod stdio;

use std::ffi::OsString;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

use rustix::fs::OFlags;
use rustix::net::sockopt::socket_peercred;
use rustix::stdio::dup2_stdin;

use crate::complaint::{best_effort, complain};

#[global_allocator]
static HEAP: cleat_sys::heap::Heap = cleat_sys::heap::Heap;

const HELP: &str = "\
cleat-conmon: the monitor of one container

It is started by cleatd, once a container, and is of no use by hand: it expects a
connected Unix socket as its standard input and a launch message on it. It then
creates the container, writes its log, runs further processes in it, and records
its end in `exit.json` in the container's state folder. It ends with the container.

  see what it does    ls /run/cleat/containers/<id>/    (monitor.sock, exit.json)
  see what it says    monitor.log in the same folder
  end it              stop the container (crictl stop, docker stop); SIGTERM is not for it

Options:
  --version    print the program's and the protocol's version
  --help       print this
";

/// What the command line asks for.
#[derive(Debug, PartialEq, Eq)]
enum Command {
    Monitor,
    Version,
    Help,
    Unknown(OsString),
}

fn main() -> ExitCode {
    if let Some(stage) = init::stage(std::env::args_os()) {
        return init::run(stage);
    }
    match command(std::env::args_os().skip(1)) {
        Command::Monitor => monitor(),
        Command::Version => print(&format!(
            "cleat-conmon {} (protocol {})\n",
            env!("CARGO_PKG_VERSION"),
            cleat_conmon_proto::VERSION
        )),
        Command::Help => print(HELP),
        Command::Unknown(argument) => {
            complain(format_args!("argument {argument:?} is not known; see cleat-conmon --help"));
            ExitCode::from(2)
        }
    }
}

fn command(mut arguments: impl Iterator<Item = OsString>) -> Command {
    match (arguments.next(), arguments.next()) {
        (None, _) => Command::Monitor,
        // The container's id, for people who look at the process list; what to do comes over the socket.
        (Some(first), None) if !first.as_encoded_bytes().starts_with(b"-") => Command::Monitor,
        (Some(first), None) if first == "--version" => Command::Version,
        (Some(first), None) if first == "--help" || first == "-h" => Command::Help,
        (Some(first), second) => Command::Unknown(second.unwrap_or(first)),
    }
}

fn monitor() -> ExitCode {
    let connection = match take_connection() {
        Ok(connection) => connection,
        Err(error) => {
            complain(format_args!(
                "standard input is not cleatd's socket ({error}); see cleat-conmon --help"
            ));
            return ExitCode::from(2);
        }
    };
    if best_effort("set up", setup::become_monitor()).is_none() {
        return ExitCode::FAILURE;
    }
    let Some(monitor) = launch::launch(connection) else { return ExitCode::FAILURE };
    match monitor.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(format_args!("wait for events: {error}; the container is left alone"));
            ExitCode::FAILURE
        }
    }
}

/// Moves the connection away from standard input, which becomes `/dev/null`: its number must not come to mean some other
/// file once the connection is closed.
fn take_connection() -> io::Result<UnixStream> {
    let stdin = io::stdin();
    socket_peercred(stdin.as_fd())?;
    let connection = stdin.as_fd().try_clone_to_owned()?;
    dup2_stdin(stdio::dev_null(OFlags::RDONLY)?)?;
    Ok(connection.into())
}

fn print(text: &str) -> ExitCode {
    match io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(format_args!("write to standard output: {error}"));
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_understood_or_refused() {
        let table: [(&[&str], Command); 7] = [
            (&[], Command::Monitor),
            (&["--version"], Command::Version),
            (&["--help"], Command::Help),
            (&["-h"], Command::Help),
            (&["4f5a"], Command::Monitor),
            (&["--run"], Command::Unknown("--run".into())),
            (&["--version", "x"], Command::Unknown("x".into())),
        ];
        for (arguments, expected) in table {
            assert_eq!(command(arguments.iter().map(OsString::from)), expected);
        }
    }
}
