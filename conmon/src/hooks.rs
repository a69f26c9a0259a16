//! Hooks of the engine's for after the container's start and after its end (OCI runtime specification, runtime.md,
//! "Lifecycle"). Another runtime runs them itself.
//!
//! ```text
//! Start ─▶ program executed ─▶ poststart hooks ─▶ Done       one failed: the container is killed, Failed
//! exit recorded, clients told, cgroup removed ─▶ poststop hooks ─▶ the monitor's end
//! ```

use std::path::{Path, PathBuf};

use cleat_conmon_proto::{Failure, Message};
use cleat_runtime::{HookPoint, PendingUpdate, spawn_hooks};

use crate::complaint::best_effort;
use crate::container::Container;
use crate::failure::{caused, failed};
use crate::monitor::Monitor;
use crate::poller::{Interest, Source};

/// The container's hooks.
#[derive(Debug)]
pub(crate) struct Hooks {
    /// Where its `config.json` is.
    pub(crate) bundle: PathBuf,
    /// Those that run now, and the client that waits for what comes of its start.
    pub(crate) at_start: Option<(PendingUpdate, u32)>,
}

impl Monitor {
    /// Starts the poststart hooks, if there may be any: whether `client` has to wait for them.
    pub(crate) fn begin_start_hooks(&mut self, client: u32) -> Result<bool, Failure> {
        let Container { id, pid, hooks, .. } = &mut self.container;
        let Some(hooks) = hooks else { return Ok(false) };
        let pending = spawn_hooks(HookPoint::Poststart, id, &hooks.bundle, Some(*pid)).map_err(failed)?;
        self.poller
            .add(&pending, Source::Hooks, Interest::READABLE)
            .map_err(|error| caused("wait for hooks", &error))?;
        hooks.at_start = Some((pending, client));
        Ok(true)
    }

    /// The poststart hooks have ended, or one has failed.
    pub(crate) fn settle_hooks(&mut self) {
        let running = self.container.hooks.as_mut().and_then(|hooks| hooks.at_start.take());
        let Some((pending, client)) = running else { return };
        best_effort("stop waiting for hooks", self.poller.remove(&pending));
        let message = match pending.finish() {
            Ok(()) => Message::Done,
            Err(failure) => self.refuse_start(failed(failure)),
        };
        self.connections.answer(&self.poller, client, &message, None);
    }

    /// What is told of a start that failed after the program was executed, which ends with it.
    pub(crate) fn refuse_start(&self, failure: Failure) -> Message {
        best_effort("kill a container whose start failed", self.container.target.kill_all());
        Message::Failed(failure)
    }
}

/// Runs the poststop hooks, all of them; one that fails is complained of and changes nothing. Blocks.
pub(crate) fn run_stop_hooks(id: &str, bundle: &Path) {
    let run = spawn_hooks(HookPoint::Poststop, id, bundle, None).and_then(PendingUpdate::finish);
    best_effort("run poststop hooks", run);
}
