//! A connection to systemd: authentication, calls, answers.
//!
//! First to systemd's own socket, which needs no bus in between and is there before one; where that cannot be had, over
//! the system bus.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use super::message::{self, FIXED_BYTES, Kind, Message};
use super::wait_readable;
use super::wire::{self, Method, Value};

const PRIVATE_SOCKET: &str = "/run/systemd/private";
const SYSTEM_BUS_SOCKET: &str = "/run/dbus/system_bus_socket";

/// How long an answer may take.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);
/// The longest line of an authentication, in bytes (a status and an identifier of 32 characters).
const MAX_LINE_BYTES: usize = 512;
/// Signals that are kept for later: jobs of others end meanwhile.
const MAX_KEPT_SIGNALS: usize = 4096;

const MANAGER: Method<'static> = Method {
    destination: "org.freedesktop.systemd1",
    path: "/org/freedesktop/systemd1",
    interface: "org.freedesktop.systemd1.Manager",
    name: "",
};
const BUS: Method<'static> = Method {
    destination: "org.freedesktop.DBus",
    path: "/org/freedesktop/DBus",
    interface: "org.freedesktop.DBus",
    name: "",
};
/// Which signals the bus is to pass on.
const MATCH: &str = "type='signal',interface='org.freedesktop.systemd1.Manager',member='JobRemoved',\
                     path='/org/freedesktop/systemd1'";

/// Why systemd was not heard, or did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BusError {
    #[error("connect to {PRIVATE_SOCKET} and {SYSTEM_BUS_SOCKET}")]
    Connect(#[source] io::Error),
    #[error("authenticate: the answer was {0:?}")]
    Authenticate(String),
    #[error("exchange messages")]
    Transfer(#[source] io::Error),
    #[error("a message breaks the D-Bus format")]
    Format,
    #[error("no answer within {} s", ANSWER_LIMIT.as_secs())]
    Timeout,
    #[error("{method}: {message} ({name})")]
    Refused { method: &'static str, name: String, message: String },
    #[error("{method}: the job ended as {result:?}")]
    Job { method: &'static str, result: String },
}

/// An ended job.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Signal {
    /// Its object path.
    pub(super) job: String,
    /// `done`, or how it failed.
    pub(super) result: String,
}

/// A connection.
#[derive(Debug)]
pub(crate) struct Bus {
    stream: UnixStream,
    serial: u32,
    ended: VecDeque<Signal>,
}

impl Bus {
    pub(super) fn connect() -> Result<Self, BusError> {
        if let Ok(stream) = UnixStream::connect(PRIVATE_SOCKET) {
            return Self::greet(stream);
        }
        let stream = UnixStream::connect(Path::new(SYSTEM_BUS_SOCKET)).map_err(BusError::Connect)?;
        let mut bus = Self::greet(stream)?;
        bus.call_at("Hello", &BUS, &[])?;
        bus.call_at("AddMatch", &BUS, &[Value::Text(MATCH.to_owned())])?;
        // On its own socket systemd tells everything without being asked.
        bus.call("Subscribe", &[])?;
        Ok(bus)
    }

    /// Authenticates as who the kernel says we are (D-Bus specification, "EXTERNAL").
    ///
    /// All in one piece, before the answer: systemd reads what comes along with BEGIN, and then looks at it no sooner
    /// than something else comes. Its own clients do the same, and send their first message after the answer.
    fn greet(stream: UnixStream) -> Result<Self, BusError> {
        let mut bus = Self { stream, serial: 0, ended: VecDeque::new() };
        let user = rustix::process::geteuid().as_raw().to_string();
        let user: String = user.bytes().map(|byte| format!("{byte:02x}")).collect();
        bus.send(format!("\0AUTH EXTERNAL {user}\r\nBEGIN\r\n").as_bytes())?;
        let line = bus.read_line()?;
        if !line.starts_with("OK ") {
            return Err(BusError::Authenticate(line));
        }
        Ok(bus)
    }

    /// Calls a method of systemd's manager: the first text of the answer.
    pub(super) fn call(&mut self, name: &'static str, arguments: &[Value]) -> Result<String, BusError> {
        self.call_at(name, &MANAGER, arguments)
    }

    fn call_at(
        &mut self,
        name: &'static str,
        object: &Method<'_>,
        arguments: &[Value],
    ) -> Result<String, BusError> {
        self.serial += 1;
        let serial = self.serial;
        self.send(&wire::call(serial, &Method { name, ..*object }, arguments))?;
        let deadline = Instant::now() + ANSWER_LIMIT;
        loop {
            let message = self.receive(deadline)?;
            match (message.kind, message.answers) {
                (Kind::Reply, Some(answered)) if answered == serial => {
                    return Ok(message.texts.into_iter().next().unwrap_or_default());
                }
                (Kind::Error, Some(answered)) if answered == serial => {
                    let text = message.texts.into_iter().next().unwrap_or_default();
                    return Err(BusError::Refused { method: name, name: message.error, message: text });
                }
                _ => self.keep(message),
            }
        }
    }

    /// The next job that has ended since the connection was made.
    pub(super) fn next_ended_job(&mut self, deadline: Instant) -> Result<Signal, BusError> {
        loop {
            if let Some(signal) = self.ended.pop_front() {
                return Ok(signal);
            }
            let message = self.receive(deadline)?;
            self.keep(message);
        }
    }

    /// Keeps what tells of an ended job: `JobRemoved(u id, o job, s unit, s result)`.
    fn keep(&mut self, message: Message) {
        if message.kind != Kind::Signal || message.member != "JobRemoved" {
            return;
        }
        if let Ok([job, _unit, result]) = <[String; 3]>::try_from(message.texts) {
            if self.ended.len() == MAX_KEPT_SIGNALS {
                self.ended.pop_front();
            }
            self.ended.push_back(Signal { job, result });
        }
    }

    fn send(&mut self, bytes: &[u8]) -> Result<(), BusError> {
        self.stream.write_all(bytes).map_err(BusError::Transfer)
    }

    fn receive(&mut self, deadline: Instant) -> Result<Message, BusError> {
        let mut fixed = [0; FIXED_BYTES];
        self.fill(&mut fixed, deadline)?;
        let mut message = vec![0; message::message_length(&fixed).ok_or(BusError::Format)?];
        message[..FIXED_BYTES].copy_from_slice(&fixed);
        self.fill(&mut message[FIXED_BYTES..], deadline)?;
        Message::read(&message).ok_or(BusError::Format)
    }

    fn fill(&mut self, mut buffer: &mut [u8], deadline: Instant) -> Result<(), BusError> {
        while !buffer.is_empty() {
            if !wait_readable(&self.stream, deadline).map_err(BusError::Transfer)? {
                return Err(BusError::Timeout);
            }
            match self.stream.read(buffer) {
                Ok(0) => return Err(BusError::Transfer(io::ErrorKind::UnexpectedEof.into())),
                Ok(count) => buffer = &mut buffer[count..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(BusError::Transfer(error)),
            }
        }
        Ok(())
    }

    /// A line of the authentication, byte by byte: nothing behind it may be read.
    fn read_line(&mut self) -> Result<String, BusError> {
        let deadline = Instant::now() + ANSWER_LIMIT;
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") && line.len() < MAX_LINE_BYTES {
            let mut byte = [0];
            self.fill(&mut byte, deadline)?;
            line.extend(byte);
        }
        Ok(String::from_utf8_lossy(&line).trim_end().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    /// What the other side answers, one after the other, to what it reads.
    fn server(answers: Vec<Vec<u8>>) -> Bus {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            for answer in answers {
                if theirs.read(&mut buffer).unwrap_or(0) == 0 || theirs.write_all(&answer).is_err() {
                    return;
                }
            }
        });
        Bus { stream: ours, serial: 0, ended: VecDeque::new() }
    }

    #[test]
    fn a_closed_connection_and_a_strange_message_are_errors() {
        assert!(matches!(server(vec![Vec::new()]).call("X", &[]), Err(BusError::Transfer(_))));
        assert!(matches!(server(vec![vec![7; 64]]).call("X", &[]), Err(BusError::Format)));
    }

    #[test]
    fn who_is_not_let_in_is_told() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.write_all(b"REJECTED EXTERNAL\r\n").unwrap();
        assert!(matches!(Bus::greet(ours), Err(BusError::Authenticate(line)) if line == "REJECTED EXTERNAL"));
    }
}
