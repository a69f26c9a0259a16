//! Why a registry did not give what was asked of it.

use std::path::PathBuf;
use std::time::Duration;

use super::manifest::ManifestError;
use crate::reference::Digest;

/// Why a registry did not give what was asked of it. What that was, and of whom, is the caller's to say: a text names
/// a host only where it may be another one than was asked, and then without the path, which would name the object again,
/// and without the query, which may hold a signature.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The host's certificates could not be set up for connections.
    #[error("set up TLS with the system's certificates")]
    Tls(#[source] rustls::Error),
    /// A certificate or key for the registry's host could not be read.
    #[error("read the certificate or key {path}")]
    TrustFile {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: rustls::pki_types::pem::Error,
    },
    /// The HTTP client could not be set up.
    #[error("set up the HTTP client")]
    Client(#[source] reqwest::Error),
    /// Setting up connections was broken off.
    #[error("set up connections")]
    SetUp(#[source] tokio::task::JoinError),
    /// Nothing of that name.
    #[error("it is not there (404)")]
    NotFound,
    /// Credentials are missing, wrong, or not enough.
    #[error("access denied: {reason}")]
    Unauthorized {
        /// As far as is known.
        reason: String,
    },
    /// The host's certificate leads to no authority that is trusted, or is another host's, or has expired.
    #[error(
        "{url} shows a certificate that is not accepted ({reason}): if it is the right host, put the certificate of \
         its authority as ca.crt into the folder certs.d/{host}"
    )]
    Untrusted {
        /// Where: scheme, host and port.
        url: String,
        /// Its folder's name: host and port.
        host: String,
        /// What is wrong with it.
        reason: Box<rustls::Error>,
    },
    /// The host wants to know who we are, and does not know it.
    #[error(
        "{url} does not accept who we are ({reason}): put a certificate that its administrator gives out, and its key, as \
         client.cert and client.key into the folder certs.d/{host}"
    )]
    Unknown {
        /// Where: scheme, host and port.
        url: String,
        /// Its folder's name: host and port.
        host: String,
        /// What the host said.
        reason: Box<rustls::Error>,
    },
    /// No connection, or it broke.
    #[error("reach {url}")]
    Unreachable {
        /// Where: scheme, host and port.
        url: String,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// No answer in time.
    #[error("no answer within {seconds} s")]
    Timeout {
        /// How long was waited.
        seconds: u64,
    },
    /// Too few bytes in too much time.
    #[error("{url} sent {bytes} bytes in {seconds} s: the transfer has stalled")]
    Stalled {
        /// Where: scheme, host and port.
        url: String,
        /// What arrived in the last window.
        bytes: u64,
        /// Length of the window.
        seconds: u64,
    },
    /// An answer that is neither success nor one of the above.
    #[error("{url} answered {status}{message}")]
    Status {
        /// Where: scheme, host and port.
        url: String,
        /// The HTTP status.
        status: u16,
        /// The registry's own words, shortened, with a separator in front; may be empty.
        message: String,
        /// How long it asks to be left alone.
        retry_after: Option<Duration>,
    },
    /// A redirect that must not be followed.
    #[error("{url} redirects to {target}: {reason}")]
    Redirect {
        /// From where: scheme, host and port.
        url: String,
        /// To where: likewise.
        target: String,
        /// What speaks against it.
        reason: &'static str,
    },
    /// Fewer or more bytes than announced.
    #[error("it has {actual} bytes, {expected} were announced")]
    Size {
        /// As the descriptor says.
        expected: u64,
        /// As the registry sends.
        actual: u64,
    },
    /// An answer longer than is accepted.
    #[error("{url} sends more than {limit} bytes")]
    TooLarge {
        /// Where: scheme, host and port.
        url: String,
        /// The limit.
        limit: u64,
    },
    /// Other bytes than asked for.
    #[error("what was sent has the digest {actual}")]
    Digest {
        /// As computed.
        actual: Digest,
    },
    /// Other bytes than the answer's own header promises.
    #[error("what was sent has the digest {actual}, its header promises {promised}")]
    Promise {
        /// As promised.
        promised: Digest,
        /// As computed.
        actual: Digest,
    },
    /// An answer to a ranged request that is of another range.
    #[error("{url} answered a request for bytes from {offset} with another range")]
    Range {
        /// Where: scheme, host and port.
        url: String,
        /// The offset asked for.
        offset: u64,
    },
    /// An address, header or token answer that makes no sense.
    #[error("{url} sent {what} that cannot be used")]
    Malformed {
        /// Where: scheme, host and port.
        url: String,
        /// What.
        what: &'static str,
    },
    /// A manifest that is refused.
    #[error("it is refused")]
    Manifest(#[from] ManifestError),
}

impl RegistryError {
    /// How long the registry asked to be left alone, if it did.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// Whether the same request may succeed a moment later.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Timeout { .. } | Self::Stalled { .. } | Self::Range { .. } => {
                true
            }
            Self::Status { status, .. } => matches!(status, 408 | 429 | 500..),
            _ => false,
        }
    }
}
