//! A name server with real clients in a network namespace of their own.

use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use cleat_network::Netns;
use cleat_network::names::{ADDRESS, NameSockets};
use domain::base::Rtype;

use super::directory::fixed::Fixed;
use super::query::sample;
use super::server::WAITING_LIMIT;
use super::{Id, Names, Resolution};
use crate::engine::model::Dns;

/// An answer of our own is immediate.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// A namespace with a name server that knows the sample.
struct Lab {
    netns: Netns,
    names: Names,
    group: Id,
    _folder: tempfile::TempDir,
}

impl Lab {
    /// The server asks `outside` for what it does not know.
    fn new(outside: &[SocketAddr]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let netns = Netns::create(&folder.path().join("netns")).expect("this test needs root");
        let resolution = Resolution { servers: outside.to_vec(), ..Resolution::new(Dns::default(), None) };
        let lab = Self { netns, names: Names::default(), group: Id::random().unwrap(), _folder: folder };
        let sockets = NameSockets::open(&lab.netns).unwrap();
        lab.names.serve(&lab.group, sockets, Arc::new(Fixed::sample()), &resolution).unwrap();
        lab
    }

    /// What busybox's client says of `name`.
    fn look_up(&self, kind: &str, name: &str) -> String {
        let mut command = Command::new("busybox");
        command.args(["nslookup", &format!("-type={kind}"), name, "127.0.0.11"]);
        let output = self.netns.run(|| command.output()).unwrap().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    fn client(&self) -> UdpSocket {
        let client = self.netns.run(|| UdpSocket::bind("127.0.0.1:0")).unwrap().unwrap();
        client.set_read_timeout(Some(ANSWER_LIMIT)).unwrap();
        client
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        Netns::remove(self.netns.path()).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn privileged_a_real_client_is_answered_for_neighbours_and_others() {
    let outside = UdpSocket::bind("127.0.0.1:0").unwrap();
    let lab = Lab::new(&[outside.local_addr().unwrap()]);
    let answering = std::thread::spawn(move || {
        outside.set_read_timeout(Some(ANSWER_LIMIT)).unwrap();
        let mut buffer = [0; 512];
        let (length, peer) = outside.recv_from(&mut buffer).unwrap();
        // One answer: the name of the question, class IN, 192.0.2.80 for a minute.
        buffer[2..8].copy_from_slice(&[0x81, 0x80, 0, 1, 0, 1]);
        let record = [0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 80];
        outside.send_to(&[&buffer[..length], &record].concat(), peer).unwrap();
    });
    for (kind, name, expected) in [
        ("a", "web", "Address: 172.18.0.2\n"),
        ("a", "WEB.n1", "Address: 172.18.0.2\n"),
        ("aaaa", "both", "Address: fd00::3\n"),
        ("ptr", "3.0.18.172.in-addr.arpa", "name = both.n1\n"),
        ("a", "www.example.org", "Address: 192.0.2.80\n"),
    ] {
        let said = lab.look_up(kind, name);
        assert!(said.contains(expected), "{kind} {name}: {said}");
    }
    answering.join().unwrap();
    lab.names.close_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn privileged_a_flood_is_refused_and_neighbours_are_still_answered_for() {
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let lab = Lab::new(&[silent.local_addr().unwrap()]);
    let client = lab.client();
    let outside = sample("www.example.org.", Rtype::A);
    let mut buffer = [0; 512];
    for _ in 0..WAITING_LIMIT {
        client.send_to(&outside, ADDRESS).unwrap();
    }
    client.send_to(&outside, ADDRESS).unwrap();
    // Of all these only one is answered by now, as refused (RFC 1035: 5).
    let length = client.recv(&mut buffer).unwrap();
    assert_eq!((length, buffer[3] & 0xf), (outside.len(), 5));
    client.send_to(&sample("web.", Rtype::A), ADDRESS).unwrap();
    let length = client.recv(&mut buffer).unwrap();
    assert_eq!(buffer[length - 4..length], [172, 18, 0, 2]);
    lab.names.close_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn privileged_nothing_is_left_of_a_server_that_was_closed() {
    let lab = Lab::new(&[]);
    let connect = || lab.netns.run(|| TcpStream::connect_timeout(&ADDRESS.into(), ANSWER_LIMIT)).unwrap();
    let held = connect().unwrap();
    tokio::task::block_in_place(|| lab.names.close(&lab.group));
    assert!(!lab.names.serves(&lab.group));
    assert!(connect().is_err());
    drop(held);
}
