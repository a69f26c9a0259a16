//! A container's name server: its sockets, its limits and its task.
//!
//! A query that we can answer is answered on the spot. One for somebody else's server is a task of its own, of which each
//! container has a bounded number; what is beyond is refused at once. While nobody asks there is one waiting task without
//! a buffer.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use cleat_network::names::NameSockets;
use domain::base::iana::Rcode;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::directory::Directory;
use super::judge::{Verdict, judge};
use super::query::{Carrier, Query};
use super::resolution::Resolution;
use super::{reply, stream, upstream};

/// Most queries of one container that wait for somebody else's server.
pub(super) const WAITING_LIMIT: usize = 100;

/// Most TCP connections of one container.
const CONNECTIONS_LIMIT: usize = 16;

/// How long a TCP connection may say nothing, or take nothing (RFC 7766, section 6.2.3: "in the order of seconds").
const IDLE_LIMIT: Duration = Duration::from_secs(10);

/// The longest query, bytes; no client sends more than a name and some options.
const QUERY_BYTES: usize = 4096;

/// Packets taken before somebody else's turn.
const PACKETS_AT_ONCE: usize = 32;

/// How long no connection is accepted after the daemon could not: it is out of descriptors, which no event tells the end of.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A server.
pub(super) struct Server {
    core: Arc<Core>,
    listener: TcpListener,
}

/// What the server's tasks share.
struct Core {
    udp: UdpSocket,
    directory: Arc<dyn Directory>,
    servers: Vec<SocketAddr>,
    has_dots_wanted: bool,
    turn: AtomicUsize,
    connections: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
    /// Of all containers.
    outside: Arc<Semaphore>,
}

/// Held by a query while it waits for somebody else's server.
type Turn = (OwnedSemaphorePermit, OwnedSemaphorePermit);

impl Server {
    /// Called within the executor, which watches the sockets from now on.
    pub(super) fn new(
        sockets: NameSockets,
        directory: Arc<dyn Directory>,
        resolution: &Resolution,
        outside: Arc<Semaphore>,
    ) -> io::Result<Self> {
        let core = Core {
            udp: UdpSocket::from_std(sockets.udp)?,
            directory,
            servers: resolution.servers.clone(),
            has_dots_wanted: resolution.has_dots_wanted,
            turn: AtomicUsize::new(0),
            connections: Arc::new(Semaphore::new(CONNECTIONS_LIMIT)),
            waiting: Arc::new(Semaphore::new(WAITING_LIMIT)),
            outside,
        };
        Ok(Self { core: Arc::new(core), listener: TcpListener::from_std(sockets.tcp)? })
    }

    /// Serves until `stop`; afterwards the sockets are closed.
    pub(super) async fn run(self, stop: CancellationToken) {
        let mut tasks = JoinSet::new();
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                ready = self.core.udp.readable() => match ready {
                    Ok(()) => self.core.take_packets(&mut tasks),
                    Err(error) => return tracing::error!(%error, "a name server's socket cannot be watched"),
                },
                accepted = self.listener.accept() => match accepted {
                    Ok((client, _)) => self.core.take_client(client, &mut tasks),
                    Err(error) => {
                        tracing::warn!(%error, "a name server could not accept a connection");
                        sleep(ACCEPT_PAUSE).await;
                    }
                },
                Some(ended) = tasks.join_next(), if !tasks.is_empty() => {
                    if let Err(error) = ended {
                        tracing::error!(%error, "a query was not answered");
                    }
                }
            }
        }
        tasks.shutdown().await;
    }
}

impl Core {
    fn take_packets(self: &Arc<Self>, tasks: &mut JoinSet<()>) {
        let mut room = [0; QUERY_BYTES];
        for _ in 0..PACKETS_AT_ONCE {
            let (length, client) = match self.udp.try_recv_from(&mut room) {
                Ok(received) => received,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => return tracing::debug!(%error, "a name server could not receive"),
            };
            let packet = &room[..length];
            match self.judge(packet, Carrier::Udp) {
                Verdict::Ignore => {}
                Verdict::Reply(reply) => self.send(&reply, client),
                Verdict::Forward => match self.turn_outside() {
                    Some(turn) => drop(tasks.spawn(self.clone().relay(packet.to_vec(), client, turn))),
                    None => self.send_some(failure(packet, Carrier::Udp, Rcode::REFUSED), client),
                },
            }
        }
    }

    fn judge(&self, packet: &[u8], carrier: Carrier) -> Verdict {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        judge(&*self.directory, packet, carrier, self.has_dots_wanted, turn)
    }

    fn turn_outside(&self) -> Option<Turn> {
        let own = self.waiting.clone().try_acquire_owned().ok()?;
        Some((own, self.outside.clone().try_acquire_owned().ok()?))
    }

    async fn relay(self: Arc<Self>, packet: Vec<u8>, client: SocketAddr, _turn: Turn) {
        self.send_some(self.ask_outside(&packet, Carrier::Udp).await, client);
    }

    async fn ask_outside(&self, packet: &[u8], carrier: Carrier) -> Option<Vec<u8>> {
        let answer = upstream::ask(&self.servers, packet, carrier).await;
        answer.or_else(|| failure(packet, carrier, Rcode::SERVFAIL))
    }

    fn send_some(&self, reply: Option<Vec<u8>>, client: SocketAddr) {
        if let Some(reply) = reply {
            self.send(&reply, client);
        }
    }

    /// Packets may be lost: a client asks again.
    fn send(&self, reply: &[u8], client: SocketAddr) {
        if let Err(error) = self.udp.try_send_to(reply, client) {
            tracing::debug!(%client, %error, "a name server could not answer");
        }
    }

    fn take_client(self: &Arc<Self>, client: TcpStream, tasks: &mut JoinSet<()>) {
        // Beyond the limit it is closed at once.
        if let Ok(connection) = self.connections.clone().try_acquire_owned() {
            tasks.spawn(self.clone().converse(client, connection));
        }
    }

    async fn converse(self: Arc<Self>, mut client: TcpStream, _connection: OwnedSemaphorePermit) {
        while let Ok(Ok(Some(packet))) = timeout(IDLE_LIMIT, stream::read(&mut client, QUERY_BYTES)).await {
            let Some(reply) = self.reply_by_tcp(&packet).await else { return };
            match timeout(IDLE_LIMIT, stream::write(&mut client, &reply)).await {
                Ok(Ok(())) => {}
                _ => return,
            }
        }
    }

    async fn reply_by_tcp(&self, packet: &[u8]) -> Option<Vec<u8>> {
        match self.judge(packet, Carrier::Tcp) {
            Verdict::Ignore => None,
            Verdict::Reply(reply) => Some(reply),
            Verdict::Forward => match self.turn_outside() {
                Some(_turn) => self.ask_outside(packet, Carrier::Tcp).await,
                None => failure(packet, Carrier::Tcp, Rcode::REFUSED),
            },
        }
    }
}

fn failure(packet: &[u8], carrier: Carrier, code: Rcode) -> Option<Vec<u8>> {
    Query::read(packet, carrier).ok().and_then(|query| reply::empty(&query, code))
}
