//! A client's connection, taken apart into what reads and what writes: TCP, or anything in its place.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, BufReader, WriteHalf};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedWriteHalf;
use tokio_rustls::server::TlsStream;

use crate::presence::Presence;

/// What is read ahead: the largest message that client-go sends fits in two.
const READ_AHEAD_BYTES: usize = 32 * 1024;
/// How long a silent client's host is left alone, and then how often and how many times it is asked in vain. A host that
/// was switched off tells nobody.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_PROBES: u32 = 3;

/// Something that bytes are read from and written to.
pub(crate) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// The receiving side.
pub(crate) type Reader = BufReader<Box<dyn AsyncRead + Send + Unpin>>;

/// The sending side.
pub(crate) enum Sink {
    /// A socket: pipes can be spliced into it.
    Tcp(OwnedWriteHalf),
    /// Anything else.
    Other(WriteHalf<Box<dyn Io>>),
}

impl Sink {
    /// Writes all of `bytes`.
    pub(crate) async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Tcp(half) => half.write_all(bytes).await,
            Self::Other(half) => {
                half.write_all(bytes).await?;
                // TLS keeps what the socket does not take at once, until it is asked for it.
                half.flush().await
            }
        }
    }

    /// Ends the sending direction.
    pub(crate) async fn shutdown(&mut self) -> io::Result<()> {
        match self {
            Self::Tcp(half) => half.shutdown().await,
            Self::Other(half) => half.shutdown().await,
        }
    }
}

/// Both sides of a connection, and whether its client is there.
pub(crate) struct Connection {
    pub reader: Reader,
    pub sink: Sink,
    pub presence: Presence,
}

impl Connection {
    /// An accepted client.
    pub(crate) fn tcp(stream: TcpStream) -> io::Result<Self> {
        let presence = Presence::of(&stream)?;
        let (reader, sink) = stream.into_split();
        let reader = BufReader::with_capacity(READ_AHEAD_BYTES, Box::new(reader) as Box<_>);
        Ok(Self { reader, sink: Sink::Tcp(sink), presence })
    }

    /// A client that has agreed on TLS.
    pub(crate) fn tls(stream: TlsStream<TcpStream>) -> io::Result<Self> {
        let presence = Presence::of(stream.get_ref().0)?;
        Ok(Self::inside(Box::new(stream), presence))
    }

    /// What a client speaks inside something else, which `presence` is known of.
    pub(crate) fn inside(stream: Box<dyn Io>, presence: Presence) -> Self {
        let (reader, sink) = tokio::io::split(stream);
        let reader = BufReader::with_capacity(READ_AHEAD_BYTES, Box::new(reader) as Box<_>);
        Self { reader, sink: Sink::Other(sink), presence }
    }
}

/// Sets up an accepted socket: small frames go at once, and a host that is gone is noticed.
pub(crate) fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    rustix::net::sockopt::set_tcp_keepidle(stream, KEEPALIVE_IDLE)?;
    rustix::net::sockopt::set_tcp_keepintvl(stream, KEEPALIVE_INTERVAL)?;
    rustix::net::sockopt::set_tcp_keepcnt(stream, KEEPALIVE_PROBES)?;
    Ok(rustix::net::sockopt::set_socket_keepalive(stream, true)?)
}
