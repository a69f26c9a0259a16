//! A layer's bytes in pieces, made on a blocking thread and digested on the way.

use std::fs::File;
use std::io::{self, Read, Write};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use tokio::sync::mpsc;

use crate::reference::{Algorithm, Digest, Hasher};
use crate::store::{LayerTar, StoreError};

/// What is uploaded.
pub(super) enum Content {
    /// The blob as it was pulled.
    Blob(File),
    /// The plain archive.
    Plain,
    /// The archive, compressed anew.
    Gzip,
}

/// What the pieces turned out to be together.
pub(super) struct Made {
    pub(super) digest: Digest,
    pub(super) bytes: u64,
}

/// Make the pieces, each of `piece_bytes` but the last, and send them. A receiver that has gone ends it with an error.
pub(super) fn make(
    tar: &LayerTar,
    content: Content,
    piece_bytes: usize,
    to: mpsc::Sender<Bytes>,
) -> Result<Made, StoreError> {
    let mut pieces =
        Pieces { to, piece_bytes, piece: Vec::new(), hasher: Hasher::new(Algorithm::Sha256), bytes: 0 };
    let failed = |error: io::Error| StoreError::Send { layer: tar.diff_id.clone(), source: error };
    match content {
        Content::Blob(file) => io::copy(&mut file.take(u64::MAX), &mut pieces).map(drop).map_err(failed)?,
        Content::Plain => tar.write(&mut pieces)?,
        Content::Gzip => {
            let mut encoder = GzEncoder::new(&mut pieces, Compression::default());
            tar.write(&mut encoder)?;
            encoder.finish().map(drop).map_err(failed)?;
        }
    }
    pieces.finish().map_err(failed)
}

struct Pieces {
    to: mpsc::Sender<Bytes>,
    piece_bytes: usize,
    piece: Vec<u8>,
    hasher: Hasher,
    bytes: u64,
}

impl Pieces {
    fn send(&mut self) -> io::Result<()> {
        let piece = std::mem::take(&mut self.piece);
        let gone = |_| io::Error::new(io::ErrorKind::BrokenPipe, "the upload broke off");
        self.to.blocking_send(piece.into()).map_err(gone)
    }

    fn finish(mut self) -> io::Result<Made> {
        if !self.piece.is_empty() {
            self.send()?;
        }
        Ok(Made { digest: self.hasher.finish(), bytes: self.bytes })
    }
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(self.piece_bytes - self.piece.len());
        self.piece.extend_from_slice(&bytes[..count]);
        self.hasher.update(&bytes[..count]);
        self.bytes += count as u64;
        if self.piece.len() == self.piece_bytes {
            self.send()?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
