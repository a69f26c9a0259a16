//! The processes that clients had started in the container.
//!
//! ```text
//! Pending ──the runtime answered──▶ Running ──reaped──▶ (gone; its cgroup goes with the last process in it)
//! ```
//!
//! A short program may have ended, and been reaped, before the runtime's answer tells its process id. While an answer is
//! awaited, ends that belong to nobody are therefore kept.

use std::os::fd::{AsFd, OwnedFd};

use cleat_conmon_proto::{self as proto, ExecStdio, ExitStatus, Failure};
use cleat_runtime::{Executed, Foreign, PendingExec, Stdio, Target};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::complaint::best_effort;
use crate::failure::{caused, failed, refused};
use crate::poller::{Interest, Poller, Source};

/// Execs at a time. Each costs some hundred bytes here, and a process and a cgroup in the container.
pub(crate) const MAX_EXECS: usize = 64;

/// Ends kept while an answer is awaited; no more are reaped until it has come.
const MAX_UNCLAIMED: usize = 1024;

/// The longest id, which names a cgroup.
const MAX_ID_BYTES: usize = 64;

/// One exec.
#[derive(Debug)]
struct Exec {
    /// Unlike any other's of this monitor, for as long as both exist.
    number: u32,
    id: String,
    /// The connection that asked for it, while it is open.
    client: Option<u32>,
    kill_on_disconnect: bool,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    Pending(PendingExec),
    Running { pid: i32 },
}

/// An exec as a client asks for it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked<'a> {
    pub(crate) client: u32,
    pub(crate) request: &'a proto::Exec,
    /// What came with the request.
    pub(crate) descriptors: &'a [OwnedFd],
    /// The runtime that made the container, and the container's id, where it was not the built-in one.
    pub(crate) foreign: Option<(&'a Foreign, &'a str)>,
}

/// What came of an exec that was pending.
#[derive(Debug)]
pub(crate) struct Finished {
    /// Who waits for the answer.
    pub(crate) client: Option<u32>,
    /// Its process id and its terminal, or why there is none.
    pub(crate) outcome: Result<(i32, Option<OwnedFd>), Failure>,
    /// How it ended, where that is known already.
    pub(crate) ended: Option<ExitStatus>,
}

/// All execs under way.
#[derive(Debug, Default)]
pub(crate) struct Execs {
    list: Vec<Exec>,
    last_number: u32,
    unclaimed: Vec<(i32, ExitStatus)>,
    /// Ids whose process has ended and left others behind: they go on, as after any shell, and so does their cgroup.
    left: Vec<String>,
}

impl Execs {
    /// Has the runtime start `request`, and waits for what comes of it.
    pub(crate) fn start(
        &mut self,
        target: &Target,
        poller: &Poller,
        asked: Asked<'_>,
    ) -> Result<(), Failure> {
        let Asked { client, request, descriptors, foreign } = asked;
        self.admit(&request.id, client)?;
        let stdio = standard_streams(request.stdio, descriptors)?;
        let exec = cleat_runtime::Exec {
            id: &request.id,
            process_json: &request.process,
            stdio,
            preserve_fds: 0,
            cgroups: &[],
        };
        let pending = match foreign {
            Some((foreign, container)) => foreign.spawn_exec(container, target, &exec),
            None => cleat_runtime::spawn_exec(target, &exec),
        };
        let pending = pending.map_err(failed)?;
        self.last_number = self.last_number.wrapping_add(1);
        let number = self.last_number;
        if let Err(error) = poller.add(&pending, Source::Exec(number), Interest::READABLE) {
            abandon(target, &request.id, pending);
            return Err(caused("wait for exec", &error));
        }
        self.list.push(Exec {
            number,
            id: request.id.clone(),
            client: Some(client),
            kill_on_disconnect: request.kill_on_disconnect,
            stage: Stage::Pending(pending),
        });
        Ok(())
    }

    /// Takes the runtime's answer for exec `number`, which has to be pending.
    pub(crate) fn finish(&mut self, target: &Target, poller: &Poller, number: u32) -> Option<Finished> {
        let awaited = |exec: &Exec| exec.number == number && matches!(exec.stage, Stage::Pending(_));
        let place = self.list.iter().position(awaited)?;
        let Exec { id, client, kill_on_disconnect, stage, .. } = self.list.swap_remove(place);
        let Stage::Pending(pending) = stage else { return None };
        best_effort("stop waiting for exec", poller.remove(&pending));
        let finished = match pending.finish() {
            Err(failure) => Finished { client, outcome: Err(failed(failure)), ended: None },
            Ok(executed) => {
                let ended = self.claim(&executed);
                if ended.is_some() {
                    self.retire(target, id);
                } else {
                    if client.is_none() && kill_on_disconnect {
                        best_effort("kill exec without a client", target.kill_exec(&id));
                    }
                    let stage = Stage::Running { pid: executed.pid };
                    self.list.push(Exec { number, id, client, kill_on_disconnect, stage });
                }
                Finished { client, outcome: Ok((executed.pid, executed.console)), ended }
            }
        };
        if !self.awaits_answer() {
            self.unclaimed = Vec::new();
        }
        Some(finished)
    }

    /// Process `pid` has ended and was reaped. Gives the client to tell, where it was an exec.
    pub(crate) fn note_end(&mut self, target: &Target, pid: i32, status: ExitStatus) -> Option<u32> {
        let running = |exec: &Exec| matches!(exec.stage, Stage::Running { pid: known } if known == pid);
        let Some(place) = self.list.iter().position(running) else {
            if self.awaits_answer() {
                self.unclaimed.push((pid, status));
            }
            self.sweep(target);
            return None;
        };
        let Exec { id, client, .. } = self.list.swap_remove(place);
        self.retire(target, id);
        client
    }

    /// Whether one more end can be dealt with before an answer has come.
    pub(crate) fn can_note_ends(&self) -> bool {
        self.unclaimed.len() < MAX_UNCLAIMED
    }

    /// Whether the runtime owes an answer.
    pub(crate) fn awaits_answer(&self) -> bool {
        self.list.iter().any(|exec| matches!(exec.stage, Stage::Pending(_)))
    }

    /// Kills what `client` had started.
    pub(crate) fn kill_of(&self, target: &Target, client: u32) -> Result<(), Failure> {
        let running =
            |exec: &&Exec| exec.client == Some(client) && matches!(exec.stage, Stage::Running { .. });
        let exec = self
            .list
            .iter()
            .find(running)
            .ok_or_else(|| refused("kill exec", "none of this connection's runs"))?;
        target.kill_exec(&exec.id).map_err(failed)
    }

    /// `client` is gone: what it had started goes on without it, or ends if that was asked for.
    pub(crate) fn disconnect(&mut self, target: &Target, client: u32) {
        for exec in self.list.iter_mut().filter(|exec| exec.client == Some(client)) {
            exec.client = None;
            if exec.kill_on_disconnect && matches!(exec.stage, Stage::Running { .. }) {
                best_effort("kill exec whose client is gone", target.kill_exec(&exec.id));
            }
        }
    }

    fn admit(&self, id: &str, client: u32) -> Result<(), Failure> {
        if !is_valid_id(id) {
            return Err(refused("check exec id", "it is not 1 to 64 characters of [a-z0-9-]"));
        }
        if self.list.len() >= MAX_EXECS {
            return Err(refused("start exec", "too many are under way in this container"));
        }
        if self.list.iter().any(|exec| exec.client == Some(client)) {
            return Err(refused("start exec", "this connection has one already"));
        }
        if self.list.iter().any(|exec| exec.id == id) || self.left.iter().any(|left| left == id) {
            return Err(refused("start exec", "another one has the same id"));
        }
        Ok(())
    }

    /// The process of exec `id` has ended: its cgroup goes with the last process in it.
    fn retire(&mut self, target: &Target, id: String) {
        self.left.push(id);
        self.sweep(target);
    }

    fn sweep(&mut self, target: &Target) {
        self.left.retain(|id| {
            if is_populated(target, id) {
                return true;
            }
            best_effort("remove cgroup of exec", target.remove_exec(id));
            false
        });
    }

    /// How the process of `executed` ended, if it was reaped before its process id was known. The descriptor tells an end
    /// of its own from that of another process that had the same id before.
    fn claim(&mut self, executed: &Executed) -> Option<ExitStatus> {
        let place = self.unclaimed.iter().position(|(pid, _)| *pid == executed.pid)?;
        has_ended(&executed.pidfd).then(|| self.unclaimed.swap_remove(place).1)
    }
}

fn has_ended(pidfd: &OwnedFd) -> bool {
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut [PollFd::new(pidfd, PollFlags::IN)], Some(&at_once)) == Ok(1)
}

/// For an exec whose answer cannot be waited for like others'.
fn abandon(target: &Target, id: &str, pending: PendingExec) {
    if best_effort("finish exec", pending.finish()).is_some() {
        best_effort("kill exec", target.kill_exec(id));
    }
}

/// Whether processes are left in the cgroup of exec `id`, as the runtime names it.
fn is_populated(target: &Target, id: &str) -> bool {
    let cgroup = target.cgroup().child(&format!("exec-{id}"));
    let populated = cgroup.and_then(|cgroup| cgroup.is_populated());
    best_effort("look for what an exec left", populated).unwrap_or(false)
}

fn is_valid_id(id: &str) -> bool {
    (1..=MAX_ID_BYTES).contains(&id.len())
        && id.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

fn standard_streams(stdio: ExecStdio, descriptors: &[OwnedFd]) -> Result<Stdio<'_>, Failure> {
    match (stdio, descriptors) {
        (ExecStdio::Descriptors, [input, output, error]) => {
            Ok(Stdio::Descriptors([input.as_fd(), output.as_fd(), error.as_fd()]))
        }
        (ExecStdio::Terminal { height, width }, []) => Ok(Stdio::Terminal { height, width }),
        (ExecStdio::Descriptors, _) => {
            Err(refused("take descriptors of exec", "not exactly three came with it"))
        }
        (ExecStdio::Terminal { .. }, _) => Err(refused("take descriptors of exec", "a terminal takes none")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_name_a_cgroup_and_nothing_else() {
        for good in ["a", "0", "probe-12", &"x".repeat(64)] {
            assert!(is_valid_id(good), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "A", "a b", "a\n", &"x".repeat(65)] {
            assert!(!is_valid_id(bad), "{bad}");
        }
    }

    #[test]
    fn descriptors_have_to_match_the_kind_of_streams() {
        let descriptors: Vec<OwnedFd> =
            (0..4).map(|_| std::fs::File::open("/dev/null").unwrap().into()).collect();
        for count in 0..=4 {
            let given = &descriptors[..count];
            assert_eq!(standard_streams(ExecStdio::Descriptors, given).is_ok(), count == 3);
            let terminal = ExecStdio::Terminal { height: 24, width: 80 };
            assert_eq!(standard_streams(terminal, given).is_ok(), count == 0);
        }
    }
}
