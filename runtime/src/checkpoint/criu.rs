//! The program criu: where it is, whether it works on this host, and a conversation with it.
//!
//! `criu swrk <number>` serves one request on a socket that it inherits. Its new process is ours until it executes the
//! program, so what fails before that is told in the same way: as an answer.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use cleat_sys::passing;
use cleat_sys::process::{Clone, Cloned, Ended, clone3, execute, exit_now};
use prost::Message;
use rustix::fs::{Access, access};

use super::complaint;
use super::rpc::{Kind, Notify, Request, Response};
use crate::Failure;
use crate::failure::Step;

const NAME: &str = "criu";
/// Where it is looked for when the environment does not say.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// The longest answer: a notification is a few bytes, a first error a line of a log.
const MAX_ANSWER_BYTES: usize = 64 << 10;

/// The program on this host.
#[derive(Debug)]
pub(super) struct Program(PathBuf);

/// A running `criu swrk`. Dropped before its end, it sees its caller go, gives up what it does and undoes it.
#[derive(Debug)]
pub(super) struct Criu {
    pub(super) pid: i32,
    process: OwnedFd,
    socket: OwnedFd,
}

impl Program {
    /// The program `asked` for, else the first of the name in PATH.
    pub(super) fn find(asked: Option<&Path>) -> Result<Self, Failure> {
        let step = || "look for criu";
        if let Some(path) = asked {
            return Ok(Self(path.to_owned()));
        }
        let path = std::env::var("PATH").unwrap_or_default();
        let folders = if path.is_empty() { DEFAULT_PATH } else { &path };
        // An empty entry means the working folder, a well-known trap.
        let mut candidates =
            folders.split(':').filter(|folder| !folder.is_empty()).map(|folder| Path::new(folder).join(NAME));
        candidates
            .find(|path| access(path, Access::EXEC_OK).is_ok())
            .map(Self)
            .ok_or_else(|| Failure::because(step(), format!("it is not installed: no {NAME} in {folders}")))
    }

    /// Has criu look whether it can work with this kernel. What it says else is the reason of the failure, whose number is
    /// `EOPNOTSUPP`, as where there is no criu.
    pub(super) fn check(&self) -> Result<(), Failure> {
        let step = || format!("ask {} whether it can work on this kernel", self.0.display());
        let output = Command::new(&self.0).arg("check").output().step(step)?;
        if output.status.success() {
            return Ok(());
        }
        let said =
            format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        let reason = complaint::errors(said.lines())
            .map_or_else(|| output.status.to_string(), |errors| format!("criu says: {errors}"));
        Err(cannot(step(), reason))
    }
}

/// There can be no checkpoint on this host, as callers know by the number.
fn cannot(step: String, reason: String) -> Failure {
    Failure { errno: Some(rustix::io::Errno::OPNOTSUPP.raw_os_error()), ..Failure::because(step, reason) }
}

impl Criu {
    /// Starts it. `prepare` has been run in the new process, which `how` says more of, when this returns; besides the
    /// standard streams it inherits `descriptors` under their numbers. The caller has to be single-threaded.
    pub(super) fn start(
        program: &Program,
        how: &Clone<'_>,
        descriptors: &[BorrowedFd<'_>],
        prepare: impl FnOnce() -> Result<(), Failure>,
    ) -> Result<Self, Failure> {
        let step = || format!("start {}", program.0.display());
        let (ours, theirs) = passing::message_pair().step(step)?;
        // Above the standard streams, which may be closed.
        let theirs = rustix::io::fcntl_dupfd_cloexec(&theirs, 3).step(step)?;
        match clone3(how).step(step)? {
            Cloned::Parent { pid, pidfd } => {
                drop(theirs);
                let criu = Self { pid, process: pidfd, socket: ours };
                let (prepared, _) = criu.receive()?;
                if prepared.success {
                    return Ok(criu);
                }
                criu.finish()?;
                Err(Failure::because(step(), prepared.error.unwrap_or_default()))
            }
            Cloned::Child => {
                drop(ours);
                let failed = prepare()
                    .and_then(|()| tell(&theirs, None).step(step))
                    .and_then(|()| become_criu(program, &theirs, descriptors).step(step))
                    .expect_err("a program that was executed does not come back");
                // A caller that is gone has nobody to tell.
                tell(&theirs, Some(failed)).ok();
                exit_now(1)
            }
        }
    }

    /// Asks for something, and answers criu's own questions by `notice`, which gets the descriptor that came along.
    /// The answer may say that criu failed.
    pub(super) fn ask(
        &self,
        request: &Request,
        mut notice: impl FnMut(&Notify, Option<OwnedFd>) -> Result<(), Failure>,
    ) -> Result<Response, Failure> {
        self.send(request)?;
        let mut refused = None;
        loop {
            let (response, descriptor) = self.receive()?;
            if response.kind != i32::from(Kind::Notify) {
                return refused.map_or(Ok(response), Err);
            }
            let heard = notice(&response.notify.unwrap_or_default(), descriptor);
            let answer = Request {
                kind: Kind::Notify.into(),
                notify_success: Some(heard.is_ok()),
                ..Request::default()
            };
            refused = refused.or(heard.err());
            self.send(&answer)?;
        }
    }

    fn send(&self, request: &Request) -> Result<(), Failure> {
        let sent = passing::send(&self.socket, &request.encode_to_vec(), &[]);
        match sent {
            // What it said before it ended is told by the next receive.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            other => other.map(drop).step(|| "tell criu what to do"),
        }
    }

    fn receive(&self) -> Result<(Response, Option<OwnedFd>), Failure> {
        let step = || "hear from criu";
        let length = match passing::next_length(&self.socket) {
            // It ended without having read all that it was told.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => 0,
            other => other.step(step)?,
        };
        if length > MAX_ANSWER_BYTES {
            return Err(Failure::because(step(), format!("its answer is {length} bytes long")));
        }
        if length == 0 {
            return Err(Failure::because(step(), "it ended without an answer"));
        }
        let mut buffer = vec![0; length];
        let (length, descriptors) = passing::receive(&self.socket, &mut buffer).step(step)?;
        let response = Response::decode(&buffer[..length]).step(step)?;
        Ok((response, descriptors.into_iter().next()))
    }

    /// Lets it go and waits for its end: whether that was a success.
    pub(super) fn finish(self) -> Result<bool, Failure> {
        let Self { process, socket, .. } = self;
        drop(socket);
        cleat_sys::process::reap(&process).map(|ended| ended == Ended::Exited(0)).step(|| "wait for criu")
    }
}

/// Tells the caller, in criu's place, that the new process is prepared, or why it has failed.
fn tell(socket: &OwnedFd, failed: Option<Failure>) -> io::Result<()> {
    let (success, error) = (failed.is_none(), failed.map(|failure| failure.to_string()));
    let answer = Response { kind: Kind::Empty.into(), success, error, ..Response::default() };
    passing::send(socket, &answer.encode_to_vec(), &[]).map(drop)
}

/// Executes the program. Returns on failure only.
fn become_criu(program: &Program, socket: &OwnedFd, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    cleat_sys::signal::reset()?;
    cleat_sys::descriptors::close_on_exec_from(3)?;
    rustix::io::fcntl_setfd(socket, rustix::io::FdFlags::empty())?;
    for descriptor in descriptors {
        rustix::io::fcntl_setfd(descriptor, rustix::io::FdFlags::empty())?;
    }
    let number = socket.as_raw_fd().to_string();
    let path = CString::new(program.0.as_os_str().as_bytes())?;
    let arguments = [NAME, "swrk", &number].map(CString::new).into_iter().collect::<Result<Vec<_>, _>>()?;
    let variable = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
        let bytes = [name.into_vec(), vec![b'='], value.into_vec()].concat();
        CString::new(bytes)
    };
    // It runs iptables and others, and a monitor has no environment.
    let path_variable = std::env::var_os("PATH").is_none().then(|| ("PATH".into(), DEFAULT_PATH.into()));
    let environment =
        std::env::vars_os().chain(path_variable).map(variable).collect::<Result<Vec<_>, _>>()?;
    Err(execute(&path, &arguments, &environment))
}
