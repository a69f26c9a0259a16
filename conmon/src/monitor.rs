//! The monitor: everything it owns, and the loop that deals with what happens, one thing at a time.
//!
//! ```text
//!             ┌──────────────── Poller::wait ◀───────────────┐
//!             ▼                                              │
//!   Start, Exec, Update   the runtime's answers   requests.rs│
//!   Hooks                 hooks of the start     hooks.rs  │
//!   Children, Oom         ends of processes       ending.rs  │
//!   Output                bytes for log, clients  stdio.rs   │
//!   Input, Attached*      attached clients        attach/    │
//!   Connection, Listener  clients                 requests.rs│
//!             └── what is due: drained? saved? sent? ending.rs┘
//! ```

use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use cleat_conmon_proto::{Message, SOCKET_NAME};

use crate::attach::{Inputs, Outputs};
use crate::children::ChildSignals;
use crate::complaint::{best_effort, complain};
use crate::connection::{Connections, Listener};
use crate::container::Container;
use crate::exec::Execs;
use crate::hooks;
use crate::log::StreamName;
use crate::oom::OomKills;
use crate::pace::Pace;
use crate::poller::{Happened, Poller, Source};
use crate::stdio::{Flow, Stdio};

/// All that one container's monitor owns.
pub(crate) struct Monitor {
    pub(crate) poller: Poller,
    pub(crate) signals: ChildSignals,
    pub(crate) listener: Listener,
    /// The container's state folder.
    pub(crate) folder: OwnedFd,
    pub(crate) container: Container,
    pub(crate) stdio: Stdio,
    /// Those who read the container's output beside the log.
    pub(crate) outputs: Outputs,
    /// The container's input and those who write it.
    pub(crate) inputs: Inputs,
    pub(crate) pace: Pace,
    pub(crate) oom: OomKills,
    pub(crate) connections: Connections,
    pub(crate) execs: Execs,
}

impl Monitor {
    /// Serves until the container has ended, its end is on disk, and those who watch have been told.
    pub(crate) fn run(mut self) -> io::Result<()> {
        while !self.is_done() {
            for happened in self.poller.wait(self.time_left())? {
                self.deal_with(happened);
            }
            if self.pace.resume_at().is_some_and(|due| due <= Instant::now()) {
                self.pace.resume();
            }
            if self.outputs.deadline().is_some_and(|due| due <= Instant::now()) {
                self.outputs.drop_stalled(&self.poller, Instant::now());
            }
            if self.oom.look_at().is_some_and(|due| due <= Instant::now()) {
                self.tell_oom();
            }
            self.regulate_output();
            self.advance_end();
        }
        let Self { container, listener, connections, .. } = self;
        // Nobody is served any more; all have been told.
        drop((listener, connections));
        if let Some(hooks) = &container.hooks {
            hooks::run_stop_hooks(&container.id, &hooks.bundle);
        }
        Ok(())
    }

    /// Until something is due though nothing happens.
    fn time_left(&self) -> Option<Duration> {
        let dues =
            [self.container.deadline(), self.pace.resume_at(), self.outputs.deadline(), self.oom.look_at()];
        let due = dues.into_iter().flatten().min();
        due.map(|due| due.saturating_duration_since(Instant::now()))
    }

    fn deal_with(&mut self, happened: Happened) {
        match happened.source {
            Source::Start => self.settle_start(),
            Source::Hooks => self.settle_hooks(),
            Source::Exec(number) => self.settle_exec(number),
            Source::Update(number) => self.settle_update(number),
            Source::Children => {
                best_effort("read signals", self.signals.acknowledge());
                self.reap_children();
            }
            Source::Oom => {
                self.oom.acknowledge();
                self.tell_oom();
            }
            Source::Output(name) => self.read_output(name),
            Source::Input => self.inputs.go_on(&self.poller, happened.hung_up),
            Source::AttachedOutput(number) => self.outputs.serve(&self.poller, number, happened.hung_up),
            Source::AttachedInput(number) => self.inputs.serve(&self.poller, number),
            Source::Connection(number) => self.serve(number, happened.hung_up),
            Source::Listener => self.accept(),
        }
    }

    fn read_output(&mut self, name: StreamName) {
        match self.stdio.read(&self.poller, name, &mut self.outputs) {
            Flow::Open { bytes } => {
                self.pace.note_read(Instant::now(), bytes);
            }
            Flow::Ended => {
                best_effort("stop waiting for output", self.stdio.deregister(&self.poller, name));
                self.outputs.end(&self.poller, name);
            }
        }
    }

    /// Reads a stream, or not: not during a pause, and not while a client has yet to take what it gave. The end waits
    /// for neither.
    fn regulate_output(&mut self) {
        let (is_alive, is_paused) = (self.container.is_alive(), self.pace.resume_at().is_some());
        let outputs = &self.outputs;
        let reads = |name| !is_alive || !is_paused && !outputs.holds(name);
        best_effort("pause or go on reading output", self.stdio.set_reading(&self.poller, reads));
    }

    fn accept(&mut self) {
        loop {
            match self.listener.accept() {
                Ok(None) => return,
                Ok(Some(client)) => match self.connections.add(&self.poller, client) {
                    Ok(Some(_)) => {}
                    Ok(None) => complain(format_args!(
                        "{SOCKET_NAME}: a client was turned away: too many are connected"
                    )),
                    Err(error) => complain(format_args!("{SOCKET_NAME}: take a client in: {error}")),
                },
                Err(error) => {
                    complain(format_args!("{SOCKET_NAME}: accept a client: {error}"));
                    return;
                }
            }
        }
    }

    /// Tells those who watch when the kernel has killed for want of memory.
    pub(crate) fn tell_oom(&mut self) {
        if self.oom.rose(&self.container.target) {
            self.connections.publish(&self.poller, &Message::Oom);
        }
    }

    /// Removes a client and what depended on it.
    pub(crate) fn let_go(&mut self, number: u32) {
        self.execs.disconnect(&self.container.target, number);
        self.inputs.let_go(&self.poller, number);
        self.outputs.disconnect(&self.poller, number);
        self.connections.remove(&self.poller, number);
        self.end_if_forsaken();
    }
}
