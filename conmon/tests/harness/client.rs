//! The daemon's side of a connection.

use std::io::ErrorKind;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use cleat_conmon_proto::{
    Exec, ExecStdio, ExitRecord, ExitStatus, Failure, Message, Request, encode_header, frame_length,
};
use cleat_sys::passing;
use serde::Serialize;

use super::PATIENCE;

/// One connection.
pub(crate) struct Client {
    pub(crate) socket: UnixStream,
}

impl Client {
    pub(crate) fn new(socket: UnixStream) -> Self {
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { socket }
    }

    pub(crate) fn send(&self, message: &impl Serialize) {
        self.send_with(message, &[]);
    }

    pub(crate) fn send_with(&self, message: &impl Serialize, descriptors: &[BorrowedFd<'_>]) {
        let payload = serde_json::to_vec(message).unwrap();
        let frame = [encode_header(payload.len()).unwrap().as_slice(), &payload].concat();
        let mut sent = passing::send(&self.socket, &frame, descriptors).unwrap();
        while sent < frame.len() {
            sent += passing::send(&self.socket, &frame[sent..], &[]).unwrap();
        }
    }

    /// The next message; none once the monitor has closed the connection.
    pub(crate) fn receive(&self) -> Option<(Message, Vec<OwnedFd>)> {
        let mut header = [0; 4];
        let descriptors = self.fill(&mut header)?;
        let mut payload = vec![0; frame_length(header).unwrap()];
        self.fill(&mut payload)?;
        Some((serde_json::from_slice(&payload).unwrap(), descriptors))
    }

    fn fill(&self, buffer: &mut [u8]) -> Option<Vec<OwnedFd>> {
        let (mut filled, mut all) = (0, Vec::new());
        while filled < buffer.len() {
            let (bytes, descriptors) = match passing::receive(&self.socket, &mut buffer[filled..]) {
                Ok(received) => received,
                // It ended with a request of ours unread.
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("no answer in time: {error}"),
            };
            if bytes == 0 {
                return None;
            }
            filled += bytes;
            all.extend(descriptors);
        }
        Some(all)
    }

    pub(crate) fn expect(&self) -> Message {
        self.receive().expect("a message, not the connection's end").0
    }

    /// Asks, and takes the next message as the answer.
    pub(crate) fn ask(&self, request: &Request) -> Message {
        self.send(request);
        self.expect()
    }

    pub(crate) fn ask_done(&self, request: &Request) {
        assert_eq!(self.ask(request), Message::Done, "{request:?}");
    }

    pub(crate) fn ask_failed(&self, request: &Request) -> Failure {
        match self.ask(request) {
            Message::Failed(failure) => failure,
            other => panic!("{request:?} should fail, but: {other:?}"),
        }
    }

    /// Waits for the container's end, past messages about memory.
    pub(crate) fn expect_exited(&self) -> ExitRecord {
        loop {
            match self.expect() {
                Message::Exited(record) => return record,
                Message::Oom => {}
                other => panic!("expected the end of the container, got {other:?}"),
            }
        }
    }

    /// Runs `script` in the container with `streams`; gives its process id.
    pub(crate) fn exec(
        &self,
        id: &str,
        script: &str,
        streams: [BorrowedFd<'_>; 3],
        kill_on_disconnect: bool,
    ) -> i32 {
        let request = exec_request(id, script, kill_on_disconnect);
        self.send_with(&request, &streams);
        match self.expect() {
            Message::Created { pid } => pid,
            other => panic!("exec {id} should have been created, but: {other:?}"),
        }
    }

    pub(crate) fn expect_exec_exited(&self) -> ExitStatus {
        match self.expect() {
            Message::ExecExited { status } => status,
            other => panic!("expected the end of an exec, got {other:?}"),
        }
    }
}

/// A request for `script` with passed descriptors.
pub(crate) fn exec_request(id: &str, script: &str, kill_on_disconnect: bool) -> Request {
    Request::Exec(Exec {
        id: id.into(),
        process: super::process(script).to_string(),
        stdio: ExecStdio::Descriptors,
        kill_on_disconnect,
    })
}

/// A pipe's two ends: reading, writing.
pub(crate) fn pipe() -> (std::fs::File, OwnedFd) {
    let (read_end, write_end) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    (read_end.into(), write_end)
}

/// `/dev/null` three times.
pub(crate) fn null_streams() -> [OwnedFd; 3] {
    let open =
        || OwnedFd::from(std::fs::OpenOptions::new().read(true).write(true).open("/dev/null").unwrap());
    [open(), open(), open()]
}

/// `streams` as [`Client::exec`] takes them.
pub(crate) fn borrow(streams: &[OwnedFd; 3]) -> [BorrowedFd<'_>; 3] {
    streams.each_ref().map(AsFd::as_fd)
}
