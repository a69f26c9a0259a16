//! Asking somebody else's server, on the host's network.
//!
//! An answer counts only if it is one: it comes from the address that was asked to the port that asked, which the kernel
//! chose for this query alone, with its random number and its question (RFC 5452).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use domain::base::Message;
use domain::base::iana::Rcode;
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use super::query::Carrier;
use super::stream;

/// How long one server may take: dockerd's limit. Clients give up after five seconds or ask again.
const ANSWER_LIMIT: Duration = Duration::from_secs(4);

/// The longest answer there can be, bytes.
const ANSWER_BYTES: usize = u16::MAX as usize;

/// Asks one server after another for the answer to `query`, until one has one. Where all refuse, what the last one said.
pub(super) async fn ask(servers: &[SocketAddr], query: &[u8], carrier: Carrier) -> Option<Vec<u8>> {
    let mut last = None;
    for server in servers {
        match ask_one(*server, query, carrier).await {
            Ok(answer) if is_final(&answer) => return Some(answer),
            Ok(answer) => last = Some(answer),
            Err(error) => tracing::debug!(%server, %error, "a resolver of the host did not answer"),
        }
    }
    last
}

/// Another server may know what this one cannot or will not tell.
fn is_final(answer: &[u8]) -> bool {
    let message = Message::from_octets(answer);
    message.is_ok_and(|message| !matches!(message.header().rcode(), Rcode::SERVFAIL | Rcode::REFUSED))
}

async fn ask_one(server: SocketAddr, query: &[u8], carrier: Carrier) -> io::Result<Vec<u8>> {
    let (asked, own) = numbered(query, getrandom::u32()?)?;
    let exchange = async {
        match carrier {
            Carrier::Udp => by_udp(server, &asked).await,
            Carrier::Tcp => by_tcp(server, &asked).await,
        }
    };
    let mut answer = timeout(ANSWER_LIMIT, exchange).await.map_err(|_| io::ErrorKind::TimedOut)??;
    answer[..own.len()].copy_from_slice(&own);
    Ok(answer)
}

/// The query with another number, and its own.
fn numbered(query: &[u8], number: u32) -> io::Result<(Vec<u8>, [u8; 2])> {
    let own = *query.first_chunk::<2>().ok_or(io::ErrorKind::InvalidInput)?;
    let mut asked = query.to_vec();
    asked[..2].copy_from_slice(&number.to_be_bytes()[..2]);
    Ok((asked, own))
}

async fn by_udp(server: SocketAddr, query: &[u8]) -> io::Result<Vec<u8>> {
    let any: IpAddr =
        if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    socket.send(query).await?;
    loop {
        socket.readable().await?;
        if let Some(answer) = receive(&socket, query)? {
            return Ok(answer);
        }
    }
}

/// What has come, if it is the answer. The room for the longest there can be is taken only while nothing is waited for.
fn receive(socket: &UdpSocket, query: &[u8]) -> io::Result<Option<Vec<u8>>> {
    let mut room = [0; ANSWER_BYTES];
    match socket.try_recv(&mut room) {
        Ok(length) => Ok(Some(&room[..length]).filter(|answer| is_answer(answer, query)).map(<[u8]>::to_vec)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}

async fn by_tcp(server: SocketAddr, query: &[u8]) -> io::Result<Vec<u8>> {
    let mut connection = TcpStream::connect(server).await?;
    stream::write(&mut connection, query).await?;
    let answer = stream::read(&mut connection, ANSWER_BYTES).await?;
    answer.filter(|answer| is_answer(answer, query)).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

fn is_answer(answer: &[u8], query: &[u8]) -> bool {
    match (Message::from_octets(answer), Message::from_octets(query)) {
        (Ok(answer), Ok(query)) => answer.is_answer(&query),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use domain::base::Rtype;

    use super::super::query::sample;
    use super::*;

    /// The query as an answer with this code.
    fn answered(query: &[u8], code: u8) -> Vec<u8> {
        let mut answer = query.to_vec();
        answer[2] |= 0x80;
        answer[3] |= code;
        answer
    }

    async fn server() -> (UdpSocket, SocketAddr) {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        (socket, address)
    }

    #[test]
    fn only_an_answer_to_the_query_is_one() {
        let query = sample("web.", Rtype::A);
        let good = answered(&query, 0);
        assert!(is_answer(&good, &query));
        let mut other_number = good.clone();
        other_number[0] ^= 1;
        let other_question = answered(&sample("wec.", Rtype::A), 0);
        for bad in [query.clone(), other_number, other_question, good[..11].to_vec(), Vec::new()] {
            assert!(!is_answer(&bad, &query), "{bad:?}");
        }
    }

    #[tokio::test]
    async fn forgeries_are_passed_over_and_the_client_gets_its_number_back() {
        let (socket, address) = server().await;
        let servers = [address];
        let query = sample("example.org.", Rtype::A);
        let answering = async {
            let mut buffer = [0; 512];
            let (length, peer) = socket.recv_from(&mut buffer).await.unwrap();
            let mut forged = answered(&buffer[..length], 0);
            forged[1] ^= 1;
            socket.send_to(&forged, peer).await.unwrap();
            socket.send_to(b"garbage", peer).await.unwrap();
            socket.send_to(&answered(&buffer[..length], 3), peer).await.unwrap();
        };
        let (answer, ()) = tokio::join!(ask(&servers, &query, Carrier::Udp), answering);
        assert_eq!(answer.unwrap(), answered(&query, 3));
    }

    #[tokio::test]
    async fn a_server_that_refuses_is_passed_over_unless_it_is_the_last() {
        let ((refusing, first), (knowing, second)) = (server().await, server().await);
        let query = sample("example.org.", Rtype::A);
        let serve = async |socket: &UdpSocket, code| {
            let mut buffer = [0; 512];
            let (length, peer) = socket.recv_from(&mut buffer).await.unwrap();
            socket.send_to(&answered(&buffer[..length], code), peer).await.unwrap();
        };
        let servers = [first, second];
        let (answer, (), ()) =
            tokio::join!(ask(&servers, &query, Carrier::Udp), serve(&refusing, 5), serve(&knowing, 0));
        assert_eq!(answer.unwrap(), answered(&query, 0));
        let (answer, ()) = tokio::join!(ask(&servers[..1], &query, Carrier::Udp), serve(&refusing, 5));
        assert_eq!(answer.unwrap(), answered(&query, 5));
        assert_eq!(ask(&[], &query, Carrier::Udp).await, None);
    }

    #[tokio::test]
    async fn a_long_answer_comes_by_tcp() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let servers = [listener.local_addr().unwrap()];
        let query = sample("example.org.", Rtype::TXT);
        let answering = async {
            let (mut client, _) = listener.accept().await.unwrap();
            let asked = stream::read(&mut client, 512).await.unwrap().unwrap();
            let long = [answered(&asked, 0), vec![0; 60_000]].concat();
            stream::write(&mut client, &long).await.unwrap();
        };
        let (answer, ()) = tokio::join!(ask(&servers, &query, Carrier::Tcp), answering);
        let answer = answer.unwrap();
        assert_eq!((answer.len(), &answer[..2]), (query.len() + 60_000, &query[..2]));
    }
}
