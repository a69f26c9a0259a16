//! What clients ask for, and the answers that come later.

use std::os::fd::OwnedFd;

use cleat_conmon_proto::{self as proto, Failure, Message, Request};
use cleat_runtime::PendingUpdate;

use crate::complaint::{best_effort, complain};
use crate::connection::{Frame, Owed, ReceiveError, Received, SendError, decode};
use crate::container::{Stage, now_ns};
use crate::exec::Asked;
use crate::failure::{caused, failed, refused};
use crate::monitor::Monitor;
use crate::poller::{Interest, Source};

/// Requests of one client before the others have their turn.
const FRAMES_PER_TURN: usize = 16;

/// How a request is answered.
enum Answer {
    /// `Done`, now.
    Done,
    /// By a message of its own that was sent, or comes with an event.
    Silent,
    /// Later; until then the client's next request is not read.
    Owed(Owed),
}

/// Whether a client stays.
#[derive(PartialEq, Eq)]
enum Stay {
    Yes,
    No,
}

/// A client has to go.
#[derive(Debug, thiserror::Error)]
enum ServeError {
    #[error("take its request")]
    Receive(#[from] ReceiveError),
    #[error("give its answer")]
    Send(#[from] SendError),
    #[error("wait for it")]
    Poll(#[source] std::io::Error),
}

impl Monitor {
    /// Sends what the client can take, reads and carries out what it asks for.
    pub(crate) fn serve(&mut self, number: u32, hung_up: bool) {
        let stay = best_effort("serve client", self.converse(number, hung_up));
        if stay != Some(Stay::Yes) {
            self.let_go(number);
        }
    }

    fn converse(&mut self, number: u32, hung_up: bool) -> Result<Stay, ServeError> {
        for _ in 0..FRAMES_PER_TURN {
            let Some(connection) = self.connections.get_mut(number) else { return Ok(Stay::Yes) };
            connection.outbox.flush(&connection.socket)?;
            if !connection.listens() {
                // Nobody is left for the answer that is owed.
                return Ok(if hung_up { Stay::No } else { self.keep(number)? });
            }
            match connection.inbox.receive(&connection.socket)? {
                Received::Frame(frame) => self.carry_out(number, frame),
                Received::Nothing => break,
                Received::Closed => return Ok(Stay::No),
            }
        }
        self.keep(number)
    }

    fn keep(&mut self, number: u32) -> Result<Stay, ServeError> {
        if let Some(connection) = self.connections.get_mut(number) {
            connection.update_interest(&self.poller).map_err(ServeError::Poll)?;
        }
        Ok(Stay::Yes)
    }

    fn carry_out(&mut self, number: u32, frame: Frame) {
        let answer = decode(&frame).and_then(|request| self.answer_to(number, &request, frame.descriptors));
        match answer {
            Ok(Answer::Done) => self.connections.send(&self.poller, number, &Message::Done, None),
            Ok(Answer::Silent) => {}
            Ok(Answer::Owed(owed)) => {
                if let Some(connection) = self.connections.get_mut(number) {
                    connection.owed = owed;
                }
            }
            Err(failure) => self.connections.send(&self.poller, number, &Message::Failed(failure), None),
        }
    }

    fn answer_to(
        &mut self,
        number: u32,
        request: &Request,
        descriptors: Vec<OwnedFd>,
    ) -> Result<Answer, Failure> {
        if !descriptors.is_empty() && !matches!(request, Request::Exec(_) | Request::Attach(_)) {
            return Err(refused("take descriptors", "only Exec and Attach come with any"));
        }
        match request {
            Request::Start => self.start(number),
            Request::Watch => Ok(self.watch(number)),
            Request::Exec(exec) => self.exec(number, exec, &descriptors),
            Request::KillExec => self.execs.kill_of(&self.container.target, number).map(|()| Answer::Silent),
            Request::Attach(attach) => self.attach(number, *attach, descriptors).map(|()| Answer::Done),
            Request::ReopenLog => {
                self.stdio.reopen_log().map_err(|error| caused("reopen log", &error)).map(|()| Answer::Done)
            }
            Request::Resize { height, width } => {
                let resized = self.stdio.resize(*height, *width);
                resized.map_err(|error| caused("resize terminal", &error)).map(|()| Answer::Done)
            }
            Request::Update { resources } => {
                let pending = cleat_runtime::spawn_update(self.container.target.cgroup(), resources);
                self.wait_for(number, pending)
            }
            Request::Checkpoint { bundle, images, work } => {
                let pending = self.container.checkpoint(bundle, images, work)?;
                self.wait_for(number, pending)
            }
        }
    }

    fn start(&mut self, number: u32) -> Result<Answer, Failure> {
        let released = self.container.take_gate()?.release().map_err(failed);
        let waited = released.and_then(|pending| {
            let added = self.poller.add(&pending, Source::Start, Interest::READABLE);
            added.map(|()| pending).map_err(|error| caused("wait for start", &error))
        });
        let pending = waited.inspect_err(|_| {
            best_effort("kill init that cannot start", self.container.target.kill_all());
        })?;
        self.container.stage = Stage::Starting { pending, client: number };
        Ok(Answer::Owed(Owed::Start))
    }

    /// Init executed its program, or said why it could not.
    pub(crate) fn settle_start(&mut self) {
        let Some((pending, client)) = self.container.take_start() else { return };
        best_effort("stop waiting for start", self.poller.remove(&pending));
        let message = match pending.finish() {
            Ok(()) => {
                self.container.stage = Stage::Running { started_at_ns: now_ns() };
                match self.begin_start_hooks(client) {
                    Ok(true) => return,
                    Ok(false) => Message::Done,
                    Err(failure) => self.refuse_start(failure),
                }
            }
            Err(failure) => {
                self.container.stage = Stage::Refused { errno: failure.errno };
                // It ends by itself, having said so; this is for an init that could not even say it.
                best_effort("kill refused init", self.container.target.kill_all());
                Message::Failed(failed(failure))
            }
        };
        self.connections.answer(&self.poller, client, &message, None);
    }

    fn watch(&mut self, number: u32) -> Answer {
        if let Some(connection) = self.connections.get_mut(number) {
            connection.watches = true;
        }
        if self.oom.any() {
            self.connections.send(&self.poller, number, &Message::Oom, None);
        }
        if let Some(record) = self.container.record() {
            self.connections.send(&self.poller, number, &Message::Exited(record.clone()), None);
        }
        Answer::Silent
    }

    fn exec(&mut self, number: u32, exec: &proto::Exec, descriptors: &[OwnedFd]) -> Result<Answer, Failure> {
        if !self.container.is_alive() {
            return Err(refused("start exec", "the container has ended"));
        }
        let foreign = self.container.foreign.as_ref().map(|foreign| (foreign, &*self.container.id));
        let asked = Asked { client: number, request: exec, descriptors, foreign };
        self.execs.start(&self.container.target, &self.poller, asked)?;
        Ok(Answer::Owed(Owed::Exec))
    }

    /// The runtime made an exec'd process, or said why it could not.
    pub(crate) fn settle_exec(&mut self, number: u32) {
        let Some(finished) = self.execs.finish(&self.container.target, &self.poller, number) else { return };
        if let Some(client) = finished.client {
            match finished.outcome {
                Ok((pid, console)) => {
                    self.connections.answer(&self.poller, client, &Message::Created { pid }, console);
                }
                Err(failure) => {
                    self.connections.answer(&self.poller, client, &Message::Failed(failure), None)
                }
            }
            if let Some(status) = finished.ended {
                self.connections.send(&self.poller, client, &Message::ExecExited { status }, None);
            }
        }
        if !self.container.is_alive() {
            best_effort("kill exec of an ended container", self.container.target.kill_all());
        }
        // Those that had to wait for this answer.
        self.reap_children();
    }

    /// Has the client wait for what the runtime's child is doing.
    fn wait_for(
        &mut self,
        number: u32,
        pending: Result<PendingUpdate, cleat_runtime::Failure>,
    ) -> Result<Answer, Failure> {
        let pending = pending.map_err(failed)?;
        self.poller
            .add(&pending, Source::Update(number), Interest::READABLE)
            .map_err(|error| caused("wait for the runtime", &error))?;
        Ok(Answer::Owed(Owed::Update(pending)))
    }

    /// The runtime set new limits, or took a checkpoint, or said why it could not.
    pub(crate) fn settle_update(&mut self, number: u32) {
        let Some(connection) = self.connections.get_mut(number) else { return };
        let Owed::Update(pending) = std::mem::replace(&mut connection.owed, Owed::Nothing) else {
            complain(format_args!("connection {number}: something was finished that nobody asked for"));
            return;
        };
        best_effort("stop waiting for the runtime", self.poller.remove(&pending));
        let message =
            pending.finish().map_or_else(|failure| Message::Failed(failed(failure)), |()| Message::Done);
        self.connections.answer(&self.poller, number, &message, None);
    }
}
