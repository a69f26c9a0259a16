//! A connection that has left HTTP, from hyper to the session it is for.

use std::io;

use bytes::Bytes;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use thiserror::Error;
use tokio::io::Interest;
use tokio::net::UnixStream;

/// Why a connection was not handed over.
#[derive(Debug, Error)]
pub(in crate::docker) enum HandoverError {
    /// It ended before the answer's head was sent.
    #[error("leave HTTP")]
    Upgrade(#[source] hyper::Error),
    /// It is none that the door's server accepted.
    #[error("take over a connection that is no Unix socket")]
    Foreign,
    /// The kernel does not tell what was read.
    #[error("wait until the answer's head is read")]
    Head(#[source] io::Error),
}

/// Waits until the head of the answer is sent and read; returns the connection, and what its client sent early.
///
/// Not a byte may follow the head before that. docker-py reads the head through a buffer, drops what else is in it, and reads
/// on from the socket: output that comes in the same read is lost to it. dockerd's output comes later only because
/// its processes start slower.
///
/// # Errors
/// When the client leaves before.
pub(in crate::docker) async fn take_over(upgrade: OnUpgrade) -> Result<(UnixStream, Bytes), HandoverError> {
    let upgraded = upgrade.await.map_err(HandoverError::Upgrade)?;
    let parts = Upgraded::downcast::<TokioIo<UnixStream>>(upgraded).map_err(|_| HandoverError::Foreign)?;
    let stream = parts.io.into_inner();
    all_read(&stream).await.map_err(HandoverError::Head)?;
    Ok((stream, parts.read_buf))
}

/// Waits until the peer has read all that was sent, or has gone.
///
/// The kernel reports a socket as writable each time a piece of what it sent was read or thrown away (`unix_write_space`), also
/// when it was writable before; tokio watches for such edges.
async fn all_read(stream: &UnixStream) -> io::Result<()> {
    let asked = || match cleat_sys::socket::unread_bytes(stream)? {
        // The report comes from within the release of a piece, of which the last byte is given back behind it (`sock_wfree`).
        0 | 1 => Ok(()),
        _ => Err(io::ErrorKind::WouldBlock.into()),
    };
    stream.async_io(Interest::WRITABLE, asked).await
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    const LIMIT: Duration = Duration::from_secs(30);

    /// A pair of which the near end has sent something; it has been seen to wait.
    async fn waiting() -> (UnixStream, UnixStream) {
        let (mut near, far) = UnixStream::pair().unwrap();
        near.write_all(b"head").await.unwrap();
        tokio::select! {
            biased;
            done = all_read(&near) => panic!("nobody has read: {done:?}"),
            () = tokio::task::yield_now() => {}
        }
        (near, far)
    }

    #[tokio::test]
    async fn it_goes_on_when_the_peer_has_read_all() {
        let (near, mut far) = waiting().await;
        let read = async {
            far.read_exact(&mut [0; 2]).await.unwrap();
            far.read_exact(&mut [0; 2]).await.unwrap();
        };
        let both = async { tokio::join!(all_read(&near), read) };
        tokio::time::timeout(LIMIT, both).await.unwrap().0.unwrap();
    }

    #[tokio::test]
    async fn a_peer_that_has_gone_holds_nobody() {
        let (near, far) = waiting().await;
        let gone = async { drop(far) };
        let both = async { tokio::join!(all_read(&near), gone) };
        tokio::time::timeout(LIMIT, both).await.unwrap().0.unwrap();
    }
}
