//! The container's log: bytes from a pipe or a terminal become lines of the CRI's format in a file.
//!
//! ```text
//! read (64 KiB) ──▶ Splitter ──▶ pieces (line or part of one) ──▶ Batch ──▶ LogFile
//!                   holds an      borrow from the read              adds the     one write
//!                   open line     and from the held line            prefix       a batch
//! ```
//!
//! The splitter is pure and knows no file; the file knows only where a line ends, so that it can be rotated by size. The
//! formatted text is put together in one buffer and written at once: for lines of 100 bytes that takes a third less processor
//! time than `writev(2)` with two vectors a line, for lines of 20 bytes less than half.

mod batch;
mod file;
mod rotation;
mod splitter;
mod timestamp;

pub(crate) use batch::{BATCH_BYTES, Batch, StreamName};
pub(crate) use file::{LogError, LogFile};
pub(crate) use splitter::Splitter;
pub(crate) use timestamp::Timestamp;
