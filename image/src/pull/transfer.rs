//! A blob from its sources into a pipe: resumed where it broke off, given up where it stalls, counted and digested.

use std::time::{Duration, Instant};

use super::Limits;
use super::pipe::Input;
use super::refusal::{Refusal, Refusals};
use crate::reference::Hasher;
use crate::registries::Source;
use crate::registry::{BlobStream, Descriptor, RegistryError, Session};

/// What came of a transfer.
pub(super) struct Transferred {
    pub(super) end: TransferEnd,
    /// Of the sources that failed.
    pub(super) refusals: Refusals,
}

/// How a transfer ended.
pub(super) enum TransferEnd {
    /// It is complete and verified; this source gave the last of it.
    Complete(Source),
    /// The reader has gone and knows why; this source's bytes were its last.
    Abandoned(Source),
    /// All bytes came, and they are others than asked for.
    Wrong,
    /// No source is left to ask.
    Refused,
}

/// A transfer under way: what is through does not have to come again, whichever source it came from.
struct Transfer<'a, F> {
    blob: &'a Descriptor,
    input: Input,
    limits: &'a Limits,
    hasher: Hasher,
    done: u64,
    report: F,
}

/// How one connection ended.
enum End {
    /// It brought all that was missing.
    Complete,
    Abandoned,
    Failed(RegistryError),
}

/// Transfer `blob` from the first of `sessions` that has it into `input`. `report` gets the bytes done so far.
pub(super) async fn transfer(
    sessions: &[Session],
    blob: &Descriptor,
    input: Input,
    limits: &Limits,
    report: impl Fn(u64) + Send,
) -> Transferred {
    let hasher = Hasher::new(blob.digest.algorithm());
    let mut transfer = Transfer { blob, input, limits, hasher, done: 0, report };
    let mut refusals = Refusals::default();
    for session in sessions {
        let source = session.source().clone();
        match transfer.from(session).await {
            End::Complete => return transfer.finish(source, refusals).await,
            End::Abandoned => return Transferred { end: TransferEnd::Abandoned(source), refusals },
            End::Failed(error) => {
                tracing::debug!(blob = %blob.digest, host = session.host(), %error, "a source failed");
                refusals.record(Refusal { source, entry: None, fault: error.into() });
            }
        }
    }
    Transferred { end: TransferEnd::Refused, refusals }
}

impl<F: Fn(u64) + Send> Transfer<'_, F> {
    /// Everything from one source, again and again as long as that brings bytes.
    async fn from(&mut self, session: &Session) -> End {
        let mut fruitless = 0;
        loop {
            let before = self.done;
            let error = match self.connection(session).await {
                End::Failed(error) if error.is_transient() => error,
                end => return end,
            };
            fruitless = if self.done - before >= self.limits.stall_bytes { 1 } else { fruitless + 1 };
            if fruitless >= self.limits.attempts_at(session.source()) {
                return End::Failed(error);
            }
            tracing::debug!(blob = %self.blob.digest, %error, done = self.done, "resuming a transfer");
            tokio::time::sleep(self.limits.wait_after(&error, fruitless)).await;
        }
    }

    async fn connection(&mut self, session: &Session) -> End {
        if self.done == self.blob.size && self.done > 0 {
            return End::Complete;
        }
        let mut stream = match session.blob(self.blob, self.done).await {
            Ok(stream) => stream,
            Err(error) => return End::Failed(error),
        };
        let mut watchdog = Watchdog::new(self.limits);
        loop {
            let piece = match watchdog.next(&mut stream).await {
                Ok(Some(piece)) => piece,
                Ok(None) => return self.ended(&stream),
                Err(error) => return End::Failed(error),
            };
            let done = self.done + piece.len() as u64;
            if done > self.blob.size {
                return End::Failed(self.wrong_size(done));
            }
            self.hasher.update(&piece);
            if self.input.send(piece).await.is_err() {
                return End::Abandoned;
            }
            self.done = done;
            (self.report)(done);
        }
    }

    /// The server closed the body. HTTP tells a body cut short from a complete one only if it announced a length.
    fn ended(&self, stream: &BlobStream) -> End {
        if self.done == self.blob.size {
            return End::Complete;
        }
        tracing::debug!(url = stream.url(), done = self.done, "a blob ended early");
        End::Failed(self.wrong_size(self.done))
    }

    fn wrong_size(&self, actual: u64) -> RegistryError {
        RegistryError::Size { expected: self.blob.size, actual }
    }

    /// All bytes are through, the last of them from `source`.
    async fn finish(self, source: Source, mut refusals: Refusals) -> Transferred {
        let actual = self.hasher.finish();
        let end = if actual != self.blob.digest {
            refusals.record(Refusal { source, entry: None, fault: RegistryError::Digest { actual }.into() });
            TransferEnd::Wrong
        } else if self.input.finish().await.is_err() {
            TransferEnd::Abandoned(source)
        } else {
            TransferEnd::Complete(source)
        };
        Transferred { end, refusals }
    }
}

/// Watches that a stream moves at the least rate. Only time spent waiting for the network counts: a slow disk is not the
/// registry's fault.
struct Watchdog {
    window: Duration,
    least_bytes: u64,
    waited: Duration,
    bytes: u64,
}

impl Watchdog {
    fn new(limits: &Limits) -> Self {
        Self {
            window: limits.stall_window,
            least_bytes: limits.stall_bytes,
            waited: Duration::ZERO,
            bytes: 0,
        }
    }

    async fn next(&mut self, stream: &mut BlobStream) -> Result<Option<bytes::Bytes>, RegistryError> {
        let begun = Instant::now();
        let left = self.window.saturating_sub(self.waited);
        let result = tokio::time::timeout(left, stream.next()).await;
        self.waited += begun.elapsed();
        if let Ok(Ok(Some(piece))) = &result {
            self.bytes += piece.len() as u64;
        }
        if self.waited >= self.window {
            if self.bytes < self.least_bytes {
                let (bytes, seconds) = (self.bytes, self.window.as_secs());
                return Err(RegistryError::Stalled { url: stream.url(), bytes, seconds });
            }
            (self.waited, self.bytes) = (Duration::ZERO, 0);
        }
        match result {
            Ok(piece) => piece,
            // The window was full of bytes and is over: a new one begins, nothing was lost.
            Err(_) => Box::pin(self.next(stream)).await,
        }
    }
}
