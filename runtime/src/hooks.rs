//! Running hooks (OCI runtime specification, config.md "POSIX-platform Hooks").
//!
//! Each gets the container's state as JSON on standard input, exactly the environment it was specified with, and is
//! killed when it takes longer than it may. What it writes is told when it fails.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Instant;

use cleat_sys::process::{Cloned, Ended, exit_now};
use oci_spec::runtime as oci;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::MemfdFlags;
use serde::Serialize;

use crate::Failure;
use crate::birth::read_json;
use crate::failure::Step;
use crate::spec::{self, Hook};

/// The exit code of a hook that could not be executed, as a shell has it.
const NOT_EXECUTED: i32 = 127;
/// How much of what a failed hook wrote is told, bytes.
const TOLD_BYTES: usize = 1024;

/// A point of a container's life after its creation, in the runtime's namespaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HookPoint {
    /// Its program was executed.
    Poststart,
    /// It was deleted.
    Poststop,
}

/// A container as its hooks are told of it (runtime.md, "State").
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HookState<'a> {
    /// The version of the specification.
    pub oci_version: &'a str,
    /// The container's id.
    pub id: &'a str,
    /// `creating`, `created`, `running` or `stopped`.
    pub status: &'a str,
    /// Init, as the hook's own pid namespace numbers it; none when it has ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<i32>,
    /// The bundle's folder, absolute.
    pub bundle: &'a Path,
    /// The container's annotations.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: &'a BTreeMap<String, String>,
}

/// Runs the hooks of a point, one after the other: the first failure ends that after the container's start; after its
/// end all are run, and every failure is given. The caller must be single-threaded (`EBUSY` otherwise).
pub fn run_hooks(point: HookPoint, hooks: &oci::Hooks, state: &HookState<'_>) -> Result<(), Vec<Failure>> {
    let (name, list) = match point {
        HookPoint::Poststart => ("poststart", hooks.poststart()),
        HookPoint::Poststop => ("poststop", hooks.poststop()),
    };
    let planned =
        spec::hooks(name, list.as_deref()).step(|| "read hooks").map_err(|failure| vec![failure])?;
    let mut failures = Vec::new();
    for hook in &planned {
        failures.extend(run_one(name, hook, state, None).err());
        if point == HookPoint::Poststart && !failures.is_empty() {
            break;
        }
    }
    if failures.is_empty() { Ok(()) } else { Err(failures) }
}

/// As [`run_hooks`], with what the `config.json` in `bundle` says; several failures are told as one.
pub(crate) fn run_of_bundle(
    point: HookPoint,
    id: &str,
    bundle: &Path,
    pid: Option<i32>,
) -> Result<(), Failure> {
    let spec: oci::Spec = read_json(&bundle.join("config.json"))?;
    let Some(hooks) = spec.hooks() else { return Ok(()) };
    let annotations = spec.annotations().clone().unwrap_or_default().into_iter().collect();
    let state = HookState {
        oci_version: crate::OCI_VERSION,
        id,
        status: if point == HookPoint::Poststart { "running" } else { "stopped" },
        pid,
        bundle,
        annotations: &annotations,
    };
    run_hooks(point, hooks, &state).map_err(|failures| {
        let reasons: Vec<_> = failures.iter().map(ToString::to_string).collect();
        Failure::because(format!("run the hooks of container {id}"), reasons.join("; "))
    })
}

/// Runs hooks to the first failure. While they run, `end` readable or hung up means that nobody wants them any more.
pub(crate) fn run(
    name: &str,
    hooks: &[Hook],
    state: &HookState<'_>,
    end: Option<PollFd<'_>>,
) -> Result<(), Failure> {
    hooks.iter().try_for_each(|hook| run_one(name, hook, state, end.clone()))
}

fn run_one(name: &str, hook: &Hook, state: &HookState<'_>, end: Option<PollFd<'_>>) -> Result<(), Failure> {
    let step = || format!("run {name} hook {}", hook.path.to_string_lossy());
    let input = memory_file(&serde_json::to_vec(state).step(step)?).step(step)?;
    let output = memory_file(&[]).step(step)?;
    let process = match cleat_sys::process::fork().step(step)? {
        Cloned::Child => execute(hook, &input, &output),
        Cloned::Parent { pidfd, .. } => pidfd,
    };
    let in_time = wait(&process, hook, end).step(step)?;
    if let Some(reason) = in_time {
        // ESRCH: it has ended just now.
        cleat_sys::process::send_signal(&process, rustix::process::Signal::KILL.as_raw()).ok();
        cleat_sys::process::reap(&process).step(step)?;
        return Err(Failure::because(step(), reason));
    }
    match cleat_sys::process::reap(&process).step(step)? {
        Ended::Exited(0) => Ok(()),
        Ended::Exited(code) => {
            Err(Failure::because(step(), with_output(format!("exit code {code}"), &output)))
        }
        Ended::Signaled(signal) => {
            Err(Failure::because(step(), with_output(format!("killed by signal {signal}"), &output)))
        }
    }
}

/// Waits for the hook's end: none when it came, else why it is not waited for.
fn wait(process: &OwnedFd, hook: &Hook, end: Option<PollFd<'_>>) -> io::Result<Option<String>> {
    let deadline = hook.timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    let mut ready = vec![PollFd::new(process, PollFlags::IN)];
    ready.extend(end);
    loop {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let timeout = left.map(Timespec::try_from).transpose().map_err(io::Error::other)?;
        match poll(&mut ready, timeout.as_ref()) {
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
            Ok(0) => {
                let limit = hook.timeout.unwrap_or_default().as_secs();
                return Ok(Some(format!("it took longer than its timeout of {limit} s")));
            }
            Ok(_) if !ready[0].revents().is_empty() => return Ok(None),
            Ok(_) => return Ok(Some("the caller gave up".to_owned())),
        }
    }
}

/// Becomes the hook, which does not outlive us. Never returns.
fn execute(hook: &Hook, input: &OwnedFd, output: &OwnedFd) -> ! {
    let prepared = cleat_sys::process::die_with_parent()
        .and_then(|()| cleat_sys::signal::reset())
        .and_then(|()| cleat_sys::descriptors::make_standard_stream(input, 0))
        .and_then(|()| cleat_sys::descriptors::make_standard_stream(output, 1))
        .and_then(|()| cleat_sys::descriptors::make_standard_stream(output, 2))
        .and_then(|()| cleat_sys::descriptors::close_on_exec_from(3));
    let error = match prepared {
        Ok(()) => cleat_sys::process::execute(&hook.path, &hook.arguments, &hook.environment),
        Err(error) => error,
    };
    // To where a hook complains, too.
    if let Ok(output) = output.try_clone() {
        File::from(output).write_all(error.to_string().as_bytes()).ok();
    }
    exit_now(NOT_EXECUTED)
}

/// A file in memory, at its beginning. Unlike a pipe it never keeps a writer waiting.
fn memory_file(content: &[u8]) -> io::Result<OwnedFd> {
    let file = rustix::fs::memfd_create("hook", MemfdFlags::CLOEXEC)?;
    // Above the standard streams, which will be replaced.
    let file = rustix::io::fcntl_dupfd_cloexec(&file, 3)?;
    File::from(file.try_clone()?).write_all(content)?;
    rustix::fs::seek(&file, rustix::fs::SeekFrom::Start(0))?;
    Ok(file)
}

/// The reason, with the beginning of what the hook wrote.
fn with_output(reason: String, output: &OwnedFd) -> String {
    let mut buffer = [0; TOLD_BYTES];
    let length = rustix::io::pread(output, &mut buffer, 0).unwrap_or(0);
    match String::from_utf8_lossy(&buffer[..length]).trim() {
        "" => reason,
        said => format!("{reason}: {said}"),
    }
}
