//! Checkpoint and restore of a container, by criu.
//!
//! ```text
//! caller                                             criu swrk
//!   │ config.json ──plan──▶ request ──RPC──────────▶ freezes the cgroup, reads the processes, writes images
//!   │                                                lets them go on, or kills them (dump)
//!   │ cgroup, mount points, mount namespace, request ▶ makes the processes anew (restore)
//!   │ ◀── notify: the namespaces are there ── hooks; the terminal's master; init's pid
//! ```
//! What is asked of criu is decided by pure functions (`request`); a dump and a restore of the same specification have to
//! agree on names, so both come from there. criu is asked first whether it can work on this kernel, before there is any
//! effect: what it says is the error.
//!
//! A dump is never interrupted: criu has its own code in the container's processes until it has taken it out again. A
//! caller that goes away leaves criu to finish; it sees that nobody listens and lets the container go on.

mod complaint;
mod criu;
mod dump;
mod options;
mod request;
mod restore;
mod rpc;

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

pub use options::{CgroupsMode, Checkpoint, CriuOptions, DumpOptions, PageServer, Restore};
pub use restore::Restored;

use crate::failure::Step;
use crate::spec::{Mount, MountKind, MountNamespace, Plan};
use crate::{Failure, birth};
use rpc::{Kind, Response};

/// The file beside the images with what the standard streams were, as runc has it.
const DESCRIPTORS: &str = "descriptors.json";
/// What hides a masked file, on the host and as the name of such mounts in a dump.
const NULL: &str = "/dev/null";
/// So much of a log is read at most.
const MAX_LOG_BYTES: u64 = 64 << 20;

/// Takes a checkpoint of a container. It goes on afterwards if that is asked for, and in any case when this fails. The
/// caller must be single-threaded (`EBUSY` otherwise).
pub fn checkpoint(asked: &Checkpoint<'_>) -> Result<(), Failure> {
    dump::dump(asked)
}

/// Makes a container anew from a checkpoint. When this fails nothing is left of it. The caller must be single-threaded
/// (`EBUSY` otherwise).
pub fn restore(asked: &Restore<'_>) -> Result<Restored, Failure> {
    restore::restore(asked)
}

/// The plan of the container; one whose mounts are in a namespace of others, or of parts of folders, is refused.
fn plan(id: &str, bundle: &Path, systemd_cgroup: bool) -> Result<Plan, Failure> {
    let plan = birth::read_plan(id, bundle, systemd_cgroup)?;
    if plan.namespaces.mounts != MountNamespace::New {
        let reason = "criu takes no mount namespace apart in which others live";
        return Err(Failure::because("check linux.namespaces", reason));
    }
    let is_a_part = |mount: &&Mount| matches!(mount.kind, MountKind::Bind { beneath: Some(_), .. });
    if let Some(mount) = plan.mounts.iter().find(is_a_part) {
        let reason = "criu finds sources by their paths, which links in them could change";
        return Err(Failure::because(format!("check the mount {}", mount.target.display()), reason));
    }
    Ok(plan)
}

/// Removes an earlier log of the same name: what it says is not about now.
fn forget(log: &Path) -> Result<(), Failure> {
    match std::fs::remove_file(log) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).step(|| format!("remove the earlier {}", log.display()))
        }
        _ => Ok(()),
    }
}

/// What an answer, or the lack of one, comes to. Why criu failed is in its log, where it has come to write one.
fn verdict(
    answer: Result<Response, Failure>,
    asked: Kind,
    log: &Path,
    step: &str,
) -> Result<Response, Failure> {
    let without_log = match answer {
        Ok(answer) if answer.success && answer.kind == i32::from(asked) => return Ok(answer),
        Ok(answer) => {
            let said = answer.error.as_deref().map(str::trim);
            Failure::because(step, said.unwrap_or("criu failed without a word"))
        }
        Err(failure) => failure,
    };
    if !log.exists() {
        return Err(without_log);
    }
    let said = errors_of(log).map_or(without_log.reason, |errors| format!("criu says: {errors}"));
    Err(Failure::because(step, format!("{said} (its log: {})", log.display())))
}

/// The errors in a log; none when it cannot be read either.
fn errors_of(log: &Path) -> Option<String> {
    let lines = BufReader::new(File::open(log).ok()?.take(MAX_LOG_BYTES)).split(b'\n');
    let lines = lines.map_while(Result::ok).map(|line| String::from_utf8_lossy(&line).into_owned());
    complaint::errors(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_told_in_the_words_of_the_log_or_of_the_answer() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("dump.log");
        let said = |success, error: Option<&str>| {
            Ok(Response {
                kind: Kind::Dump.into(),
                success,
                error: error.map(str::to_owned),
                ..Response::default()
            })
        };
        assert!(verdict(said(true, None), Kind::Dump, &log, "x").is_ok());
        assert!(verdict(said(true, None), Kind::Restore, &log, "x").is_err(), "an answer to something else");
        let short = verdict(said(false, Some("no such program\n")), Kind::Dump, &log, "x").unwrap_err();
        assert_eq!(short.to_string(), "x: no such program");
        std::fs::write(&log, "(00.1) Error (a.c:1): too bad\n").unwrap();
        let told = verdict(said(false, Some("short")), Kind::Dump, &log, "x").unwrap_err();
        assert!(told.reason.starts_with("criu says: too bad (its log: /"), "{told}");
    }
}
