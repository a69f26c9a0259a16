//! The sockets of a container's name server, and the rules that lead to them.

#![allow(clippy::unwrap_used, reason = "a test ends at what it does not expect")]

mod lab;

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    time::Duration,
};

use cleat_network::names::{ADDRESS, NameSockets};
use lab::{Pinned, isolated};

/// Inside one namespace an answer is immediate or never comes.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// A socket of a program in `pod`.
fn client(pod: &Pinned) -> UdpSocket {
    let client = pod.netns.run(|| UdpSocket::bind("127.0.0.1:0")).unwrap().unwrap();
    client.set_read_timeout(Some(ANSWER_LIMIT)).unwrap();
    client
}

/// Has `client` ask, and `sockets` answer. Who answered, in the client's eyes.
fn answerer(client: &UdpSocket, sockets: &NameSockets) -> SocketAddr {
    sockets.udp.set_nonblocking(false).unwrap();
    sockets.udp.set_read_timeout(Some(ANSWER_LIMIT)).unwrap();
    client.send_to(b"who?", ADDRESS).unwrap();
    let mut buffer = [0; 16];
    let (length, peer) = sockets.udp.recv_from(&mut buffer).unwrap();
    sockets.udp.send_to(&buffer[..length], peer).unwrap();
    client.recv_from(&mut buffer).unwrap().1
}

#[test]
fn privileged_port_53_of_the_address_leads_to_the_sockets_by_udp_and_tcp() {
    isolated(|lab| {
        let pod = lab.netns("pod");
        let sockets = NameSockets::open(&pod.netns).unwrap();
        assert_eq!(answerer(&client(&pod), &sockets), ADDRESS.into());

        sockets.tcp.set_nonblocking(false).unwrap();
        let asking = pod.netns.run(|| TcpStream::connect_timeout(&ADDRESS.into(), ANSWER_LIMIT)).unwrap();
        sockets.tcp.accept().unwrap().0.write_all(b"here").unwrap();
        let mut text = String::new();
        asking.unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "here");
    });
}

#[test]
fn privileged_port_53_stays_the_containers_own() {
    isolated(|lab| {
        let pod = lab.netns("pod");
        let _sockets = NameSockets::open(&pod.netns).unwrap();
        let bound = pod.netns.run(|| (UdpSocket::bind("0.0.0.0:53"), TcpListener::bind("0.0.0.0:53")));
        let (own, listener) = bound.unwrap();
        listener.unwrap();
        let own = own.unwrap();
        own.set_read_timeout(Some(ANSWER_LIMIT)).unwrap();
        client(&pod).send_to(b"mine", "127.0.0.1:53").unwrap();
        let mut buffer = [0; 16];
        assert_eq!(own.recv(&mut buffer).unwrap(), 4);
    });
}

#[test]
fn privileged_a_client_that_keeps_its_socket_finds_the_successors() {
    isolated(|lab| {
        let pod = lab.netns("pod");
        let client = client(&pod);
        let before = NameSockets::open(&pod.netns).unwrap();
        answerer(&client, &before);
        drop(before);
        let after = NameSockets::open(&pod.netns).unwrap();
        assert_eq!(answerer(&client, &after), ADDRESS.into());
    });
}
