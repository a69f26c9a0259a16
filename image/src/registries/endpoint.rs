//! What is particular about a registry's host: where its interface is, what is sent along, and whom to trust there.

use std::path::PathBuf;

/// How a host is reached, where that is not by its name alone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// Scheme, host and path in front of the repository's name, without a slash at its end; none leaves what the name
    /// says.
    pub(crate) base: Option<String>,
    /// The registry that is asked for through another host, which is told by the query `ns`.
    pub(crate) namespace: Option<String>,
    /// Sent with each request to the host.
    pub(crate) headers: Vec<(String, String)>,
    /// Whom to trust, and as whom.
    pub(crate) trust: Trust,
}

/// Files for TLS with one host; they are read when it is first asked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Trust {
    /// Certificates of authorities, besides the system's.
    pub(crate) authorities: Vec<PathBuf>,
    /// A certificate of ours and its key; both may be in one file.
    pub(crate) client: Option<(PathBuf, PathBuf)>,
    /// Trust whoever answers.
    pub(crate) anybody: bool,
}

impl Trust {
    /// Whether it is what every host gets.
    pub(crate) fn is_plain(&self) -> bool {
        *self == Self::default()
    }
}
