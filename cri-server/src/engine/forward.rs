//! A connection to a port of a pod.
//!
//! A socket belongs to the network namespace it was made in, whoever uses it afterwards. So it is made on a thread that
//! enters the pod's namespace and ends, and connected from here, where waiting costs nothing.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use cleat_network::Netns;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use super::error::{EngineError, Result};
use super::model::Mode;
use super::pod::{Pod, PodState};
use super::shared::Shared;

/// How long a connection inside one namespace may take. It is made at once, or the listener's queue is full.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// Where a pod's ports are looked for, in this order: a program that listens inside one family only is reached too.
const LOOPBACKS: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];

/// Connects to `port` of the loopback interface of `pod`.
pub(super) async fn connect(shared: &Arc<Shared>, pod: &Arc<Pod>, port: u16) -> Result<TcpStream> {
    check_ready(pod, "connect to a port of")?;
    let mut refusal = None;
    for address in LOOPBACKS {
        let socket = match make_socket(shared, pod, address).await {
            // A kernel without IPv6: what the first address answered is the answer.
            Err(_) if refusal.is_some() => break,
            made => made?,
        };
        let connected = timeout(CONNECT_LIMIT, socket.connect(SocketAddr::new(address, port))).await;
        match connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok(stream) => return Ok(stream),
            // The first is told: that of IPv6 says nothing to whoever runs an ordinary server.
            Err(error) => drop(refusal.get_or_insert(error)),
        }
    }
    let refusal = refusal.unwrap_or_else(|| io::ErrorKind::AddrNotAvailable.into());
    Err(EngineError::step("connect to a port", format!("pod {}, port {port}", pod.id), &refusal))
}

/// Refuses a pod that is not ready, for `action`.
pub(super) fn check_ready(pod: &Pod, action: &'static str) -> Result<()> {
    match pod.state {
        PodState::Ready { .. } => Ok(()),
        _ => Err(EngineError::WrongState {
            action,
            object: format!("pod {}", pod.id),
            state: pod.state.name(),
            remedy: "only ready pods have a network",
        }),
    }
}

/// A TCP socket of the pod's network namespace.
async fn make_socket(shared: &Arc<Shared>, pod: &Arc<Pod>, address: IpAddr) -> Result<TcpSocket> {
    let (pod, object) = (pod.clone(), format!("pod {}", pod.id));
    let made = shared
        .blocking(move |shared| {
            let failed = |error: &(dyn std::error::Error + 'static)| {
                EngineError::step("make a socket", format!("pod {}", pod.id), error)
            };
            let socket = match pod.config.namespaces.network {
                Mode::Node => tcp_socket(address),
                Mode::Pod => Netns::open(&shared.paths.pod(&pod.id).netns)
                    .and_then(|netns| netns.run(|| tcp_socket(address)))
                    .map_err(|error| failed(&error))?,
            };
            socket.map_err(|error| failed(&error))
        })
        .await?;
    let socket = TcpSocket::from_std_stream(made.into());
    // What is forwarded is one side of a conversation as often as a bulk of data.
    socket.set_nodelay(true).map_err(|error| EngineError::step("set up a socket", object, &error))?;
    Ok(socket)
}

fn tcp_socket(address: IpAddr) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    Ok(socket(family, SockType::Stream, flags, None)?)
}
