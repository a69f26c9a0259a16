//! The server side of the Kubernetes streaming protocols: exec, attach and port forward.
//!
//! A CRI runtime answers `Exec`, `Attach` and `PortForward` with a URL; the kubelet (or crictl) sends the client's
//! connection there. This crate keeps the tokens of those URLs, speaks SPDY/3.1 and WebSocket on the connections, and
//! copies between their channels and the descriptors its [`Backend`] gives. It knows no container and no engine.
//!
//! ```text
//! server ── head (HTTP/1.1) ── tokens ── handshake ─┬─ spdy ──────┐
//!                                                   └─ websocket ─┴─ exec/attach, port forward ── Backend
//! ```

#![forbid(unsafe_code)]

mod backend;
mod forward;
mod head;
mod remote;
mod server;
mod session;
mod spdy;
mod tokens;
mod websocket;
mod wire;

pub use backend::{
    AttachRequest, Backend, BoxFuture, Control, ExecRequest, Failure, Outcome, PortForwardRequest, Running,
    Size,
};
pub use server::{BindError, Server, Settings};
pub use tokens::TooMany;
