//! How far a pull is, as Docker's progress bars and the CRI's verbose logs want to know it.

use crate::reference::Digest;

/// A pull's progress. Empty until the manifest is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PullProgress {
    /// Digest of what the reference stands for: the index, or the manifest where there is none.
    pub target: Option<Digest>,
    /// The layers, the lowest first.
    pub layers: Vec<LayerProgress>,
}

/// One layer's progress.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerProgress {
    /// The compressed blob's digest.
    pub blob: Digest,
    /// Bytes transferred.
    pub done_bytes: u64,
    /// Bytes to transfer.
    pub total_bytes: u64,
    /// Where it stands.
    pub state: LayerState,
}

/// Where a layer stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LayerState {
    /// Waiting for its turn.
    Waiting,
    /// Being transferred and unpacked at once.
    Pulling,
    /// Unpacked and verified.
    Done,
    /// It was in the store before.
    Exists,
}
