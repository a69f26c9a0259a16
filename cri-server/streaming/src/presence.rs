//! Whether a client is still there, told by the kernel while nobody reads from its connection.
//!
//! Who reads notices the end of a connection by reading it. While a process takes no input nothing is read, and what the
//! client sent before it left stands in front of the end. The kernel knows of the end all the same (`EPOLLRDHUP`).

use std::io;
use std::net::TcpStream as Duplicate;
use std::os::fd::AsFd;

use tokio::io::Interest;
use tokio::net::TcpStream;

/// A client's presence.
pub(crate) struct Presence(Option<Duplicate>);

impl Presence {
    /// That of the client of `stream`.
    pub(crate) fn of(stream: &TcpStream) -> io::Result<Self> {
        Ok(Self(Some(stream.as_fd().try_clone_to_owned()?.into())))
    }

    /// That of a client inside another connection: whoever serves that one notices.
    pub(crate) fn unknown() -> Self {
        Self(None)
    }

    /// Waits until the client has closed or broken the connection.
    pub(crate) async fn gone(&self) {
        let Some(duplicate) = &self.0 else { return std::future::pending().await };
        if let Err(error) = watch(duplicate).await {
            tracing::debug!(%error, "cannot watch a streaming client");
            std::future::pending().await
        }
    }
}

/// A registration of its own, for as long as it is looked: it would wake with every packet.
async fn watch(duplicate: &Duplicate) -> io::Result<()> {
    let stream = TcpStream::from_std(duplicate.try_clone()?)?;
    loop {
        let ready = stream.ready(Interest::PRIORITY | Interest::ERROR).await?;
        if ready.is_read_closed() || ready.is_error() {
            return Ok(());
        }
        // Urgent data, which no protocol here has.
        match stream.try_io(Interest::PRIORITY, || Err::<(), _>(io::ErrorKind::WouldBlock.into())) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            other => return other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;
    use tokio::time::timeout;

    #[tokio::test]
    async fn an_end_behind_unread_bytes_is_noticed() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (served, _) = listener.accept().await.unwrap();
        let presence = Presence::of(&served).unwrap();
        client.write_all(b"input that nobody takes").await.unwrap();
        assert!(timeout(Duration::from_millis(50), presence.gone()).await.is_err(), "it is there");
        drop(client);
        timeout(Duration::from_secs(20), presence.gone()).await.unwrap();
    }
}
