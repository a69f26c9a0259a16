//! What a session asks of whoever owns the containers, and what it gets.

use std::future::Future;
use std::os::fd::OwnedFd;
use std::pin::Pin;

use tokio::net::TcpStream;

/// A future that a trait object gives.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// One more process in a container, as the CRI's `ExecRequest` asks for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecRequest {
    /// The container.
    pub container_id: String,
    /// Program and arguments.
    pub command: Vec<String>,
    /// Whether the process gets a terminal; then standard error is the terminal too.
    pub tty: bool,
    /// Whether the client sends input.
    pub stdin: bool,
    /// Whether the client gets standard output.
    pub stdout: bool,
    /// Whether the client gets standard error; never together with `tty`.
    pub stderr: bool,
}

/// The streams of a running container, as the CRI's `AttachRequest` asks for them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttachRequest {
    /// The container.
    pub container_id: String,
    /// Whether the container has a terminal.
    pub tty: bool,
    /// Whether the client sends input.
    pub stdin: bool,
    /// Whether the client gets standard output.
    pub stdout: bool,
    /// Whether the client gets standard error; never together with `tty`.
    pub stderr: bool,
}

/// Ports of a pod, as the CRI's `PortForwardRequest` asks for them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortForwardRequest {
    /// The pod.
    pub pod_id: String,
    /// The ports asked for. SPDY clients name the port of each connection themselves; only the old WebSocket protocol
    /// is bound to these.
    pub ports: Vec<u16>,
}

/// The size of a terminal, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Lines.
    pub rows: u16,
    /// Characters in a line.
    pub columns: u16,
}

/// How a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The process ended with this code (128 plus the signal's number when a signal ended it).
    Exited(i32),
    /// The container goes on without the client.
    Detached,
}

/// Why a session or a connection could not be had; the text is told to the client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    message: String,
}

impl Failure {
    /// A failure told to the client as `message`.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into() }
    }
}

/// A process (exec) or a container (attach) whose streams are the descriptors: pipes, sockets or the master side of a
/// terminal. For a terminal, `stdin` and `stdout` are duplicates of one another. The server makes them non-blocking.
pub struct Running {
    /// Where input goes; closed when the client ends its input.
    pub stdin: Option<OwnedFd>,
    /// Where output comes from.
    pub stdout: Option<OwnedFd>,
    /// Where standard error comes from.
    pub stderr: Option<OwnedFd>,
    /// What else can be done. Dropped when the session is over, however it ended.
    pub control: Box<dyn Control>,
}

/// The handle on a [`Running`] process. Dropping it before [`Control::finished`] has answered means that the client is
/// gone.
pub trait Control: Send {
    /// Sets the terminal's size. Best effort: a failure is the implementor's to log.
    fn resize(&mut self, size: Size) -> BoxFuture<'_, ()>;

    /// Waits for the end. The future is dropped and asked for again between other calls, so it must not lose the end.
    fn finished(&mut self) -> BoxFuture<'_, Result<Outcome, Failure>>;
}

/// Whoever owns the containers.
pub trait Backend: Send + Sync + 'static {
    /// Starts a process in a container.
    fn exec(&self, request: ExecRequest) -> BoxFuture<'_, Result<Running, Failure>>;

    /// Attaches to a container's streams.
    fn attach(&self, request: AttachRequest) -> BoxFuture<'_, Result<Running, Failure>>;

    /// Connects to a port of a pod, on its loopback address.
    fn connect<'a>(&'a self, pod_id: &'a str, port: u16) -> BoxFuture<'a, Result<TcpStream, Failure>>;
}
