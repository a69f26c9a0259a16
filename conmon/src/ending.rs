//! The end of the container, from the first reaped child to the monitor's own end.
//!
//! ```text
//! init reaped ─▶ kill what is left ─▶ output at its end, no child left (or the limit passed)
//!             ─▶ last lines ─▶ OOM counter ─▶ record on disk ─▶ clients are told ─▶ cgroup removed ─▶ end
//! ```

use std::os::fd::AsFd;
use std::time::Instant;

use cleat_conmon_proto::{ExitRecord, ExitStatus, Message};
use rustix::process::Signal;

use crate::children::{Reaped, reap};
use crate::complaint::{best_effort, complain};
use crate::container::{DRAIN_LIMIT, LINGER_LIMIT, SAVE_INTERVAL, Stage};
use crate::log::StreamName;
use crate::monitor::Monitor;
use crate::record::write_record;

impl Monitor {
    /// Deals with every child that has ended; whether none is left at all.
    pub(crate) fn reap_children(&mut self) -> bool {
        while self.execs.can_note_ends() {
            match best_effort("reap children", reap()) {
                Some(Reaped::Child { pid, status }) => self.note_end(pid, status),
                Some(Reaped::NoneLeft) => return true,
                Some(Reaped::NoneEnded) | None => return false,
            }
        }
        false
    }

    fn note_end(&mut self, pid: i32, status: ExitStatus) {
        if status == ExitStatus::Signaled(Signal::KILL.as_raw()) {
            self.tell_oom();
        }
        if pid == self.container.pid && self.container.is_alive() {
            self.begin_drain(status);
        } else if let Some(client) = self.execs.note_end(&self.container.target, pid, status) {
            self.connections.send(&self.poller, client, &Message::ExecExited { status }, None);
        }
    }

    /// Ends a container that waits to be started when the last client that watches it has gone: its daemon died or gave
    /// it up, and the next one, which cannot know whether it exists yet, counts on its end.
    pub(crate) fn end_if_forsaken(&mut self) {
        if matches!(self.container.stage, Stage::Created(_)) && !self.connections.any_watches() {
            best_effort("kill a container nobody will start", self.container.target.kill_all());
        }
    }

    fn begin_drain(&mut self, status: ExitStatus) {
        // What became of the start is known by now, if it was under way: that answer precedes init's end.
        self.settle_start();
        let record = self.container.record_of(status);
        self.pace.resume();
        best_effort("kill what the container left", self.container.target.kill_all());
        self.container.stage = Stage::Draining { record, until: Instant::now() + DRAIN_LIMIT };
    }

    /// Takes the steps of the end that are due.
    pub(crate) fn advance_end(&mut self) {
        let now = Instant::now();
        match &self.container.stage {
            Stage::Draining { record, until } => {
                let (record, is_late) = (record.clone(), now >= *until);
                if self.is_drained() {
                    self.conclude(record);
                } else if is_late {
                    complain(format_args!("container {}: output or processes outlast its end", record.id));
                    self.conclude(record);
                }
            }
            Stage::Unsaved { record, retry_at } if now >= *retry_at => self.save(record.clone()),
            _ => {}
        }
    }

    /// Whether all output has been read and nothing of the container is left to reap.
    fn is_drained(&mut self) -> bool {
        self.stdio.has_ended() && !self.execs.awaits_answer() && self.reap_children()
    }

    /// Nothing more comes: makes the record complete, writes it down, and tells.
    fn conclude(&mut self, mut record: ExitRecord) {
        self.stdio.finish(&self.poller, &mut self.outputs);
        for name in [StreamName::Stdout, StreamName::Stderr] {
            self.outputs.end(&self.poller, name);
        }
        self.tell_oom();
        self.oom.stop(&self.poller);
        record.oom_killed = self.oom.any();
        self.save(record.clone());
        self.connections.publish(&self.poller, &Message::Exited(record));
        self.container.dissolve();
    }

    fn save(&mut self, record: ExitRecord) {
        let now = Instant::now();
        let written = match write_record(self.folder.as_fd(), &record) {
            // A daemon has undone this container meanwhile: nobody is left to read the record.
            Err(error) if error.is_for_want_of_the_folder() => Some(()),
            written => best_effort("save exit record", written),
        };
        self.container.stage = match written {
            Some(()) => Stage::Ended { record, until: now + LINGER_LIMIT },
            None => Stage::Unsaved { record, retry_at: now + SAVE_INTERVAL },
        };
    }

    /// Whether nothing is left to do.
    pub(crate) fn is_done(&self) -> bool {
        match &self.container.stage {
            // Attached clients have the last output to take; those that never do have their limit, or their connection.
            Stage::Ended { until, .. } => {
                self.outputs.is_empty() && (self.connections.all_sent() || Instant::now() >= *until)
            }
            _ => false,
        }
    }
}
