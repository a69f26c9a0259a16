//! The container as its monitor sees it: what state it is in, and what its end is recorded as.
//!
//! ```text
//! Created ──Start──▶ Starting ──executed──▶ Running ─┐
//!    │                  └──────refused────▶ Refused ─┤
//!    └────────────────────init reaped────────────────┴▶ Draining ──▶ Ended
//!                                                          └──disk full──▶ Unsaved ──▶ Ended
//! ```

use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use cleat_conmon_proto::{ExitRecord, ExitStatus, Failure, VERSION};
use cleat_runtime::{
    Checkpoint, CriuOptions, DumpOptions, Foreign, PendingStart, PendingUpdate, StartGate, Target,
};
use rustix::io::Errno;

use crate::complaint::best_effort;
use crate::failure::refused;
use crate::hooks::Hooks;

/// How long the end of init waits for its output to end: a process outside the container may hold the pipe, and must not
/// hold the exit.
pub(crate) const DRAIN_LIMIT: Duration = Duration::from_secs(2);

/// How long the monitor stays for clients that have not read their last message.
pub(crate) const LINGER_LIMIT: Duration = Duration::from_secs(1);

/// Until an exit record that could not be written is tried again.
pub(crate) const SAVE_INTERVAL: Duration = Duration::from_secs(5);

/// Exit codes of a program that was never executed, as shells give them (POSIX, Shell Command Language 2.8.2).
const NOT_FOUND: i32 = 127;
const NOT_EXECUTABLE: i32 = 126;

/// The container.
pub(crate) struct Container {
    pub(crate) id: String,
    /// Init's process id in the monitor's pid namespace.
    pub(crate) pid: i32,
    pub(crate) target: Target,
    /// The runtime that made it, where it was not the built-in one.
    pub(crate) foreign: Option<Foreign>,
    /// None when there are none to run after its start and after its end.
    pub(crate) hooks: Option<Hooks>,
    pub(crate) stage: Stage,
}

/// What the container is doing.
pub(crate) enum Stage {
    /// Init waits at its gate.
    Created(StartGate),
    /// Init is about to execute its program; `client` waits for what comes of it.
    Starting { pending: PendingStart, client: u32 },
    /// The program runs.
    Running { started_at_ns: i64 },
    /// The program could not be executed, and init is ending.
    Refused { errno: Option<i32> },
    /// Init was reaped; its output, and the processes it left, are coming to their end.
    Draining { record: ExitRecord, until: Instant },
    /// All is over, but the record could not be written yet.
    Unsaved { record: ExitRecord, retry_at: Instant },
    /// All is over and on disk; the last messages are on their way.
    Ended { record: ExitRecord, until: Instant },
}

impl Container {
    /// Takes the gate of a created container. Until the runtime has said otherwise, its program counts as refused.
    pub(crate) fn take_gate(&mut self) -> Result<StartGate, Failure> {
        match std::mem::replace(&mut self.stage, Stage::Refused { errno: None }) {
            Stage::Created(gate) => Ok(gate),
            other => {
                self.stage = other;
                Err(refused("start container", "it was started before, or has ended"))
            }
        }
    }

    /// Starts taking a checkpoint. The program has to run; where it stands still, that is criu's business.
    pub(crate) fn checkpoint(
        &self,
        bundle: &Path,
        images: &Path,
        work: &Path,
    ) -> Result<Result<PendingUpdate, cleat_runtime::Failure>, Failure> {
        if !matches!(self.stage, Stage::Running { .. }) {
            return Err(refused("checkpoint container", "it does not run"));
        }
        if self.foreign.is_some() {
            return Err(refused("checkpoint container", "it was made by another OCI runtime"));
        }
        let criu = CriuOptions {
            images: images.into(),
            work: Some(work.into()),
            // A service has connections and locks: without these it could not be checkpointed at all.
            tcp_established: true,
            file_locks: true,
            ..CriuOptions::default()
        };
        Ok(cleat_runtime::spawn_checkpoint(&Checkpoint {
            id: &self.id,
            bundle,
            pid: self.pid,
            cgroup: self.target.cgroup(),
            streams: &[],
            criu: &criu,
            dump: &DumpOptions { leave_running: true, ..DumpOptions::default() },
            status: None,
        }))
    }

    /// Takes what is waited for while the program is about to be executed, and who waits for it.
    pub(crate) fn take_start(&mut self) -> Option<(PendingStart, u32)> {
        match std::mem::replace(&mut self.stage, Stage::Refused { errno: None }) {
            Stage::Starting { pending, client } => Some((pending, client)),
            other => {
                self.stage = other;
                None
            }
        }
    }

    /// Whether init is there for others to join.
    pub(crate) fn is_alive(&self) -> bool {
        match self.stage {
            Stage::Created(_) | Stage::Starting { .. } | Stage::Running { .. } | Stage::Refused { .. } => {
                true
            }
            Stage::Draining { .. } | Stage::Unsaved { .. } | Stage::Ended { .. } => false,
        }
    }

    /// Removes what is left of it after its end.
    pub(crate) fn dissolve(&self) {
        if let Some(foreign) = &self.foreign {
            best_effort("delete container", foreign.delete(&self.id));
        }
        best_effort("remove cgroup", self.target.remove_cgroup());
    }

    /// How it ended, once that can be told.
    pub(crate) fn record(&self) -> Option<&ExitRecord> {
        match &self.stage {
            Stage::Unsaved { record, .. } | Stage::Ended { record, .. } => Some(record),
            _ => None,
        }
    }

    /// When something is due though nothing happens.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        match self.stage {
            Stage::Draining { until, .. } => Some(until),
            // Attached clients may keep the monitor longer than that.
            Stage::Ended { until, .. } => Some(until).filter(|until| Instant::now() < *until),
            Stage::Unsaved { retry_at, .. } => Some(retry_at),
            _ => None,
        }
    }

    /// The record of an end with `status` in this stage, before OOM kills are counted.
    pub(crate) fn record_of(&self, status: ExitStatus) -> ExitRecord {
        let (status, started_at_ns) = match self.stage {
            Stage::Running { started_at_ns } => (status, started_at_ns),
            Stage::Refused { errno } => (ExitStatus::Exited(refused_code(errno)), 0),
            _ => (status, 0),
        };
        let (id, pid, finished_at_ns) = (self.id.clone(), self.pid, now_ns());
        ExitRecord { version: VERSION, id, pid, status, oom_killed: false, started_at_ns, finished_at_ns }
    }
}

/// The exit code of a program that execve(2) refused with `errno`.
fn refused_code(errno: Option<i32>) -> i32 {
    if errno == Some(Errno::NOENT.raw_os_error()) { NOT_FOUND } else { NOT_EXECUTABLE }
}

/// The present, in nanoseconds since the Unix epoch.
pub(crate) fn now_ns() -> i64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_epoch.as_nanos()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_have_the_codes_of_shells() {
        let table = [(Some(2), 127), (Some(13), 126), (Some(8), 126), (None, 126)];
        for (errno, code) in table {
            assert_eq!(refused_code(errno), code);
        }
    }
}
