//! The server side of the Kubernetes streaming protocols: exec, attach and port forward.
//!
//! A CRI runtime answers `Exec`, `Attach` and `PortForward` with a URL; the kubelet (or crictl) sends the client's
//! connection there. This crate keeps the tokens of those URLs, speaks SPDY/3.1 and WebSocket on the connections, and
//! copies between their channels and the descriptors its [`Backend`] gives. It knows no container and no engine.
//!
//! ```text
//! server ── doorstep ── (tls) ── head (HTTP/1.1) ── tokens ── session ─┬─ over_spdy ────── spdy ──────┐
//!                                                                       └─ over_websocket ─ websocket ─┴─ remote, forward ── Backend
//! ```
//!
//! Each connection has one task that reads frames and one `Wire` that everything of the session sends on.

#![forbid(unsafe_code)]

mod activity;
mod backend;
mod connection;
mod delivery;
mod doorstep;
mod forward;
#[cfg(test)]
mod fuzz;
mod head;
mod over_spdy;
mod over_websocket;
mod presence;
mod remote;
mod server;
mod session;
mod spdy;
mod stage;
mod tls;
mod tokens;
mod websocket;
mod wire;

pub use backend::{
    AttachRequest, Backend, BoxFuture, Control, ExecRequest, Failure, Outcome, PortForwardRequest, Running,
    Size,
};
pub use server::{BindError, Server, Settings};
pub use tls::{TlsError, TlsFiles};
pub use tokens::TooMany;
