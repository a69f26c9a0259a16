//! The bounded channel between a transfer, which is async, and the thread that unpacks.

use std::fs::File;
use std::io::{self, BufRead, Read, Write};

use bytes::{Buf, Bytes};
use tokio::sync::mpsc;

/// Pieces in flight between the two: a piece is what one read of the socket gave, at most some hundred KiB.
const PIECES: usize = 4;

/// What goes through.
enum Piece {
    Data(Bytes),
    /// All was sent, and its size and digest are right.
    End,
}

/// The transfer's side.
pub(super) struct Input(mpsc::Sender<Piece>);

/// The unpacking side: a blocking reader. It comes to an end only if the transfer said so; a transfer that broke off is
/// an error, so nothing unverified is ever taken for complete.
pub(super) struct Output {
    pieces: mpsc::Receiver<Piece>,
    current: Bytes,
    ended: bool,
    /// Gets all that comes through.
    copy: Option<File>,
}

/// The other side has gone.
#[derive(Debug)]
pub(super) struct Abandoned;

pub(super) fn pipe() -> (Input, Output) {
    let (sender, pieces) = mpsc::channel(PIECES);
    (Input(sender), Output { pieces, current: Bytes::new(), ended: false, copy: None })
}

impl Input {
    pub(super) async fn send(&self, data: Bytes) -> Result<(), Abandoned> {
        self.0.send(Piece::Data(data)).await.map_err(|_| Abandoned)
    }

    pub(super) async fn finish(self) -> Result<(), Abandoned> {
        self.0.send(Piece::End).await.map_err(|_| Abandoned)
    }
}

impl Output {
    /// Write a copy of everything to the file, if there is one.
    pub(super) fn copied_to(mut self, copy: Option<File>) -> Self {
        self.copy = copy;
        self
    }
}

impl BufRead for Output {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.current.is_empty() && !self.ended {
            match self.pieces.blocking_recv() {
                Some(Piece::Data(data)) => {
                    self.copy.as_mut().map_or(Ok(()), |copy| copy.write_all(&data))?;
                    self.current = data;
                }
                Some(Piece::End) => self.ended = true,
                None => {
                    return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the transfer broke off"));
                }
            }
        }
        Ok(&self.current)
    }

    fn consume(&mut self, count: usize) {
        self.current.advance(count);
    }
}

impl Read for Output {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let count = available.len().min(buffer.len());
        buffer[..count].copy_from_slice(&available[..count]);
        self.consume(count);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_broken_transfer_is_no_end() {
        for finished in [true, false] {
            let (input, mut output) = pipe();
            let reader = tokio::task::spawn_blocking(move || {
                let mut bytes = Vec::new();
                output.read_to_end(&mut bytes).map(|_| bytes)
            });
            input.send(Bytes::from_static(b"ab")).await.unwrap();
            input.send(Bytes::from_static(b"c")).await.unwrap();
            if finished {
                input.finish().await.unwrap();
            } else {
                drop(input);
            }
            let result = reader.await.unwrap();
            assert_eq!(result.ok(), finished.then(|| b"abc".to_vec()));
        }
    }
}
