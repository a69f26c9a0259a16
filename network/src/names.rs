//! The sockets by which a container asks for the names on its networks.
//!
//! A resolver knows servers by address and port 53. A container is given 127.0.0.11 as Docker gives it; but port 53 of its
//! namespace is its own, a name server may be what it runs. So our sockets have ports that the kernel chooses, and a rule
//! in the container's namespace leads 127.0.0.11:53 to them.

use std::{
    io,
    net::{Ipv4Addr, SocketAddrV4, TcpListener, UdpSocket},
};

use crate::{
    Netns, conntrack,
    netlink::NetlinkError,
    netns::NetnsError,
    nft::{Nftables, Redirect},
};

/// Where a container finds its name server.
pub const ADDRESS: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(127, 0, 0, 11), 53);

/// The table with the rules, in the container's namespace.
const TABLE: &str = "cleat_names";

/// `IPPROTO_UDP`, `IPPROTO_TCP`.
const UDP: u8 = 17;
const TCP: u8 = 6;

/// The sockets. They belong to the container's namespace, whoever uses them, and hold it until they are closed.
#[derive(Debug)]
pub struct NameSockets {
    /// Queries and answers of one packet; does not block.
    pub udp: UdpSocket,
    /// Longer ones; does not block.
    pub tcp: TcpListener,
}

/// The sockets could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum NamesError {
    /// The namespace could not be entered.
    #[error("enter the namespace to open a name server's sockets")]
    Enter(#[source] NetnsError),
    /// A socket could not be made.
    #[error("open a name server's {protocol} socket")]
    Socket {
        /// `UDP` or `TCP`.
        protocol: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The rules could not be set.
    #[error("lead {ADDRESS} to a name server's sockets")]
    Redirect(#[source] NetlinkError),
}

impl NameSockets {
    /// Opens them in `netns`, in place of those that somebody had there before.
    pub fn open(netns: &Netns) -> Result<Self, NamesError> {
        netns.run(open).map_err(NamesError::Enter)?
    }
}

/// In the calling thread's namespace.
fn open() -> Result<NameSockets, NamesError> {
    let failed = |protocol| move |source| NamesError::Socket { protocol, source };
    let any_port = SocketAddrV4::new(*ADDRESS.ip(), 0);
    let udp = UdpSocket::bind(any_port).map_err(failed("UDP"))?;
    udp.set_nonblocking(true).map_err(failed("UDP"))?;
    let tcp = TcpListener::bind(any_port).map_err(failed("TCP"))?;
    tcp.set_nonblocking(true).map_err(failed("TCP"))?;
    let redirects = [
        Redirect { protocol: UDP, to_port: udp.local_addr().map_err(failed("UDP"))?.port() },
        Redirect { protocol: TCP, to_port: tcp.local_addr().map_err(failed("TCP"))?.port() },
    ];
    Nftables::open()
        .and_then(|nftables| nftables.redirect(TABLE, ADDRESS, &redirects))
        .map_err(NamesError::Redirect)?;
    // A program that keeps its socket goes on asking those of the daemon before.
    conntrack::forget_to(ADDRESS);
    Ok(NameSockets { udp, tcp })
}
