//! What can go wrong between us and the kernel.

use std::io;

use nix::errno::Errno;

/// A netlink exchange failed.
#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    /// No socket could be had.
    #[error("open a {protocol} netlink socket")]
    Open {
        /// `route` or `netfilter`.
        protocol: &'static str,
        /// Why.
        #[source]
        source: Errno,
    },
    /// No thread could be started to send the request.
    #[error("start a thread to {request}")]
    Spawn {
        /// The request.
        request: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The requests could not be handed to the kernel.
    #[error("send: {request}")]
    Send {
        /// The first request of the batch.
        request: String,
        /// Why.
        #[source]
        source: Errno,
    },
    /// No answer could be read.
    #[error("read the kernel's answer to: {request}")]
    Receive {
        /// The first request of the batch that was not answered.
        request: String,
        /// Why.
        #[source]
        source: Errno,
    },
    /// The kernel refused a request.
    #[error("{request}")]
    Refused {
        /// What was being done, to what: `add address 10.1.2.3/24 to eth0`.
        request: String,
        /// The kernel's reason.
        #[source]
        source: Errno,
    },
    /// The kernel's answer lacks something that it always has.
    #[error("the kernel's answer to {request:?} has no {missing}")]
    Incomplete {
        /// The request.
        request: String,
        /// What is missing.
        missing: &'static str,
    },
}

impl NetlinkError {
    /// The kernel's error number, where there is one.
    #[must_use]
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::Open { source, .. }
            | Self::Send { source, .. }
            | Self::Receive { source, .. }
            | Self::Refused { source, .. } => Some(*source),
            Self::Spawn { .. } | Self::Incomplete { .. } => None,
        }
    }
}
