//! The init of a container that asks for one (`docker run --init`): process 1 that starts the program, passes signals on
//! to it and reaps what is orphaned. It is the monitor's program under another name, so that there is no further one to
//! install; it shares nothing else with the monitor.
//!
//! ```text
//! init -- PROGRAM ...     blocks every signal, so that none is lost; starts ▼; waits for signals
//! └─ exec -- PROGRAM ...  in a process group of its own, which has the terminal if there is one; becomes PROGRAM
//! ```

use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};

use nix::sys::signal::SigSet;
use rustix::io::Errno;
use rustix::process::{WaitOptions, WaitStatus, wait};

use crate::complaint::{best_effort, complain};

/// The file name by which the program knows that it is to be an init.
const NAME: &str = "docker-init";

/// What the second stage is called in its own arguments.
const SECOND_STAGE: &str = "exec";

/// The end of a child, as the kernel numbers it on every architecture Cleat runs on.
const SIGCHLD: i32 = nix::sys::signal::Signal::SIGCHLD as i32;

/// Exit code of a program that exists and cannot be executed, as shells and Docker report it.
const CODE_NOT_EXECUTABLE: u8 = 126;

/// Exit code of a program that does not exist.
const CODE_NOT_FOUND: u8 = 127;

/// What an init is to do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Be process 1.
    Init(Vec<OsString>),
    /// Become the program.
    Program(Vec<OsString>),
}

/// What the whole command line, program first, means for an init; none for a monitor.
pub(crate) fn stage(mut arguments: impl Iterator<Item = OsString>) -> Option<Stage> {
    let own = arguments.next()?;
    (Path::new(&own).file_name() == Some(OsStr::new(NAME))).then_some(())?;
    match arguments.next()?.to_str()? {
        "--" => Some(Stage::Init(arguments.collect())),
        SECOND_STAGE => Some(Stage::Program(arguments.collect())),
        _ => None,
    }
}

/// Carries a stage out.
pub(crate) fn run(stage: Stage) -> ExitCode {
    let code = match stage {
        Stage::Init(program) => serve(&program).unwrap_or_else(|error| failed(&program, &error)),
        Stage::Program(program) => become_program(&program),
    };
    ExitCode::from(code)
}

/// Starts the program and serves the container until the program has ended; its exit code.
fn serve(arguments: &[OsString]) -> io::Result<u8> {
    // Blocked signals wait even for a process 1, which the kernel spares the others.
    SigSet::all().thread_block()?;
    let own = std::env::args_os().next().unwrap_or_default();
    let child = Command::new(own).arg(SECOND_STAGE).args(arguments).process_group(0).spawn()?;
    let child = i32::try_from(child.id()).map_err(io::Error::other)?;
    // Nobody but this process reaps it: until then the id is its own.
    let program = cleat_sys::process::open_pidfd(child)?;
    loop {
        match cleat_sys::signal::wait_for_any() {
            Ok(SIGCHLD) => {
                if let Some(code) = reap(child)? {
                    return Ok(code);
                }
            }
            Ok(signal) => pass_on(&program, signal),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Reaps all that have ended; the program's exit code if it is among them.
fn reap(program: i32) -> io::Result<Option<u8>> {
    let mut code = None;
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) if pid.as_raw_nonzero().get() == program => code = code_of(status),
            Ok(None) | Err(Errno::CHILD) => return Ok(code),
            Ok(Some(_)) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// The exit code that stands for an end, as shells have it; none for one that was only stopped.
fn code_of(status: WaitStatus) -> Option<u8> {
    let by_signal = || Some(128 + status.terminating_signal()?);
    status.exit_status().or_else(by_signal).and_then(|code| u8::try_from(code).ok())
}

/// A program that has just ended is no fault: its end is about to be seen.
fn pass_on(program: &OwnedFd, signal: i32) {
    match cleat_sys::process::send_signal(program, signal) {
        Err(error) if error.raw_os_error() != Some(Errno::SRCH.raw_os_error()) => {
            complain(format_args!("pass signal {signal} on: {error}"));
        }
        _ => {}
    }
}

/// Becomes the program, with no signal blocked or ignored.
fn become_program(program: &[OsString]) -> u8 {
    let stdin = io::stdin();
    if rustix::termios::isatty(&stdin) {
        // Blocked signals let a group in the background take the terminal.
        best_effort("take the terminal", rustix::termios::tcsetpgrp(&stdin, rustix::process::getpid()));
    }
    if let Err(error) = cleat_sys::signal::reset() {
        return failed(program, &error);
    }
    let Some((name, arguments)) = program.split_first() else { return CODE_NOT_FOUND };
    failed(program, &Command::new(name).args(arguments).exec())
}

/// Tells whoever sees the container's output why there is no program.
fn failed(program: &[OsString], error: &io::Error) -> u8 {
    let name = program.first().map(|name| name.to_string_lossy()).unwrap_or_default();
    // Nobody is left to be told that even this cannot be said.
    let told = writeln!(io::stderr(), "{NAME}: exec {name} failed: {error}");
    match error.kind() {
        _ if told.is_err() => CODE_NOT_EXECUTABLE,
        io::ErrorKind::NotFound => CODE_NOT_FOUND,
        _ => CODE_NOT_EXECUTABLE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_init_is_known_by_its_name() {
        let words = |text: &str| text.split(' ').map(OsString::from).collect::<Vec<_>>();
        for (line, expected) in [
            ("/sbin/docker-init -- sh -c x", Some(Stage::Init(words("sh -c x")))),
            ("/sbin/docker-init exec sh", Some(Stage::Program(words("sh")))),
            ("/usr/bin/cleat-conmon -- sh", None),
            ("/sbin/docker-init --version", None),
            ("cleat-conmon 4f5a", None),
        ] {
            assert_eq!(stage(words(line).into_iter()), expected, "{line}");
        }
    }
}
