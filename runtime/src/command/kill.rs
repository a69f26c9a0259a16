//! `kill`.

use std::str::FromStr;

use cleat_sys::cgroup::Cgroup;
use nix::sys::signal::Signal;

use super::CommandError;
use super::arguments::{Arguments, Global, set};
use super::store::Folder;

/// `kill`.
pub(super) fn command(arguments: &mut Arguments, global: &Global) -> Result<(), CommandError> {
    let mut all = false;
    let positional = arguments.each(None, |option| match option.name {
        "all" | "a" => set(&mut all),
        _ => Ok(false),
    })?;
    let (id, signal) = match positional.as_slice() {
        [id] => (id, Signal::SIGTERM as i32),
        [id, signal] => (id, parse_signal(signal)?),
        _ => return Err(CommandError::Usage("a container id and at most a signal expected".into())),
    };
    let folder = Folder::open(&global.root, id)?;
    let record = folder.read()?;
    if all {
        return kill_all(&record.census()?, signal);
    }
    let Some(init) = record.init() else {
        return Err(CommandError::NotRunning(id.clone()));
    };
    cleat_sys::process::send_signal(&init, signal)
        .map_err(|error| CommandError::System("send the signal", error))
}

/// The kernel kills a whole cgroup at once; other signals are sent to one process after the other.
fn kill_all(cgroup: &Cgroup, signal: i32) -> Result<(), CommandError> {
    if signal == Signal::SIGKILL as i32 {
        return Ok(cgroup.kill()?);
    }
    for pid in cgroup.processes()? {
        let Ok(process) = cleat_sys::process::open_pidfd(pid) else { continue };
        match cleat_sys::process::send_signal(&process, signal) {
            Err(error) if error.raw_os_error() != Some(nix::Error::ESRCH as i32) => {
                return Err(CommandError::System("send the signal", error));
            }
            _ => {}
        }
    }
    Ok(())
}

/// `9`, `KILL` or `SIGKILL`; numbers of real-time signals too.
fn parse_signal(text: &str) -> Result<i32, CommandError> {
    if let Ok(number) = text.parse::<i32>() {
        let range = 1..=nix::libc::SIGRTMAX();
        return if range.contains(&number) { Ok(number) } else { Err(unknown(text)) };
    }
    let upper = text.to_uppercase();
    let name = if upper.starts_with("SIG") { upper } else { format!("SIG{upper}") };
    Signal::from_str(&name).map(|signal| signal as i32).map_err(|_| unknown(text))
}

fn unknown(text: &str) -> CommandError {
    CommandError::Usage(format!("unknown signal {text:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_numbers_or_names() {
        for (text, expected) in [("9", 9), ("KILL", 9), ("SIGTERM", 15), ("hup", 1), ("34", 34)] {
            assert_eq!(parse_signal(text).unwrap(), expected);
        }
        for bad in ["", "0", "-1", "65", "SIGNONE"] {
            assert!(parse_signal(bad).is_err(), "{bad:?}");
        }
    }
}
