//! What is wrong with the configuration, where, and what would be right.

use std::fmt;

/// What is wrong with one value and what would be right, without the place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Complaint {
    /// What was found: `"loud" is no log level`.
    pub(crate) wrong: String,
    /// What to write instead: `one of "error", "warn"`.
    pub(crate) right: String,
}

impl Complaint {
    /// A complaint about `wrong` that asks for `right`.
    pub(crate) fn new(wrong: impl Into<String>, right: impl Into<String>) -> Self {
        Self { wrong: wrong.into(), right: right.into() }
    }
}

/// A complaint with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    /// `FILE:LINE`, a file, or a flag.
    pub(crate) place: String,
    /// The complaint.
    pub(crate) complaint: Complaint,
}

impl Fault {
    /// A fault at `place`.
    pub(crate) fn new(place: impl fmt::Display, complaint: Complaint) -> Self {
        Self { place: place.to_string(), complaint }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}", self.place, self.complaint.wrong, self.complaint.right)
    }
}

/// All faults of a configuration, in the order of their sources. Never empty.
#[derive(Debug, thiserror::Error)]
#[error("{}", self.report())]
pub(crate) struct Faults(Vec<Fault>);

impl Faults {
    /// The faults of a configuration that cannot be used.
    pub(crate) fn new(faults: Vec<Fault>) -> Self {
        Self(faults)
    }

    /// One line a fault under a line that counts them.
    fn report(&self) -> String {
        let count = self.0.len();
        let plural = if count == 1 { "" } else { "s" };
        let lines = self.0.iter().map(|fault| format!("\n  {fault}"));
        std::iter::once(format!("{count} fault{plural} in the configuration")).chain(lines).collect()
    }
}
