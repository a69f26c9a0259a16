//! Why a registry did not give what was asked of it.

use super::manifest::ManifestError;
use crate::reference::Digest;

/// Why a registry did not give what was asked of it. URLs are without their query, which may hold a signature.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The host's certificates could not be set up for connections.
    #[error("set up TLS with the system's certificates")]
    Tls(#[source] rustls::Error),
    /// The HTTP client could not be set up.
    #[error("set up the HTTP client")]
    Client(#[source] reqwest::Error),
    /// Nothing of that name.
    #[error("{what} is not known to {host}")]
    NotFound {
        /// What was asked for.
        what: String,
        /// The registry.
        host: String,
    },
    /// Credentials are missing, wrong, or not enough.
    #[error("{host} denies access to {what}: {reason}")]
    Unauthorized {
        /// What was asked for.
        what: String,
        /// The registry or its token service.
        host: String,
        /// As far as is known.
        reason: String,
    },
    /// No connection, or it broke.
    #[error("reach {url}")]
    Unreachable {
        /// Where.
        url: String,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// No answer in time.
    #[error("{url} did not answer within {seconds} s")]
    Timeout {
        /// Where.
        url: String,
        /// How long was waited.
        seconds: u64,
    },
    /// Too few bytes in too much time.
    #[error("{url} sent {bytes} bytes in {seconds} s: the transfer has stalled")]
    Stalled {
        /// Where.
        url: String,
        /// What arrived in the last window.
        bytes: u64,
        /// Length of the window.
        seconds: u64,
    },
    /// An answer that is neither success nor one of the above.
    #[error("{url} answered {status}{message}")]
    Status {
        /// Where.
        url: String,
        /// The HTTP status.
        status: u16,
        /// The registry's own words, shortened, with a separator in front; may be empty.
        message: String,
    },
    /// A redirect that must not be followed.
    #[error("{url} redirects to {target}: {reason}")]
    Redirect {
        /// From where.
        url: String,
        /// To where.
        target: String,
        /// What speaks against it.
        reason: &'static str,
    },
    /// Fewer or more bytes than announced.
    #[error("{what} has {actual} bytes, {expected} were announced")]
    Size {
        /// What.
        what: Digest,
        /// As the descriptor says.
        expected: u64,
        /// As the registry sends.
        actual: u64,
    },
    /// An answer longer than is accepted.
    #[error("{url} sends more than {limit} bytes")]
    TooLarge {
        /// Where.
        url: String,
        /// The limit.
        limit: u64,
    },
    /// Other bytes than asked for.
    #[error("{what} was asked for, what {host} sent is {actual}")]
    Digest {
        /// As asked.
        what: Digest,
        /// As computed.
        actual: Digest,
        /// The registry.
        host: String,
    },
    /// An answer to a ranged request that is of another range.
    #[error("{url} answered a request for bytes from {offset} with another range")]
    Range {
        /// Where.
        url: String,
        /// The offset asked for.
        offset: u64,
    },
    /// An address, header or token answer that makes no sense.
    #[error("{url} sent {what} that cannot be used")]
    Malformed {
        /// Where.
        url: String,
        /// What.
        what: &'static str,
    },
    /// A manifest that is refused.
    #[error("the manifest of {what}")]
    Manifest {
        /// Of what.
        what: String,
        /// Why.
        #[source]
        source: ManifestError,
    },
}

impl RegistryError {
    /// Whether the same request may succeed a moment later.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Timeout { .. } | Self::Stalled { .. } | Self::Range { .. } => {
                true
            }
            Self::Status { status, .. } => *status == 429 || *status >= 500,
            _ => false,
        }
    }
}
