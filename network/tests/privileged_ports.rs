//! Ports of the host that lead to pods, with real traffic from everywhere a client can be.

#![allow(clippy::unwrap_used, reason = "a test ends at what it does not expect")]

mod lab;

use std::{
    io::{Read, Write},
    net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    thread,
    time::Duration,
};

use cleat_network::{
    Attached,
    bridge::{Attachment, Bridge, BridgeConfig, BridgeError, Leads, host_ifname},
    cni::{PortMapping, PortProtocol},
};
use lab::{Lab, Pinned, isolated};

const LIMIT: Duration = Duration::from_secs(5);

/// Long enough for an answer inside one machine to come, short enough to wait for one that must not.
const SILENCE: Duration = Duration::from_secs(1);

fn bridge(name: &str) -> Bridge {
    let subnets = ["10.88.0.0/24", "fd00:88::/64"].map(|text| text.parse().unwrap());
    Bridge::new(BridgeConfig::new(name, &subnets, None, true).unwrap())
}

fn port(host_port: u16, protocol: PortProtocol, host_ip: Option<&str>) -> PortMapping {
    PortMapping { host_port, container_port: 80, protocol, host_ip: host_ip.map(|ip| ip.parse().unwrap()) }
}

fn tcp(host_port: u16) -> PortMapping {
    port(host_port, PortProtocol::Tcp, None)
}

fn udp(host_port: u16) -> PortMapping {
    port(host_port, PortProtocol::Udp, None)
}

/// Attaches pod `number`, which has the addresses that end in it.
fn attach(bridge: &Bridge, pod: &Pinned, number: u8, ports: &[PortMapping]) -> Result<Attached, BridgeError> {
    let id = number.to_string();
    let attachment = Attachment {
        host_ifname: host_ifname(&id),
        interface: "eth0".to_owned(),
        leads: Leads::ALL,
        container_id: id,
        addresses: vec![
            format!("10.88.0.{number}/24").parse().unwrap(),
            format!("fd00:88::{number}/64").parse().unwrap(),
        ],
        mac: None,
        ports: ports.to_vec(),
    };
    bridge.attach(&pod.netns, &attachment)
}

fn detach(bridge: &Bridge, number: u8, ports: &[PortMapping]) {
    bridge.unpublish(&number.to_string(), ports).unwrap();
    bridge.detach(&host_ifname(&number.to_string())).unwrap();
}

/// Serves port 80 of both families: tells `name` and the client's address. The threads end with the process.
fn serve(pod: &Pinned, name: &'static str) {
    pod.netns
        .run(|| {
            let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, 80)).unwrap();
            thread::spawn(move || {
                for client in listener.incoming() {
                    let mut client = client.unwrap();
                    let peer = client.peer_addr().unwrap().ip().to_canonical();
                    client.write_all(format!("{name} {peer}").as_bytes()).unwrap();
                }
            });
            let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 80)).unwrap();
            thread::spawn(move || {
                loop {
                    let (_, peer) = socket.recv_from(&mut [0; 64]).unwrap();
                    let answer = format!("{name} {}", peer.ip().to_canonical());
                    socket.send_to(answer.as_bytes(), peer).unwrap();
                }
            });
        })
        .unwrap();
}

/// What the server at `address` says to us. The first packet of a new link may be lost and sent again.
fn ask(address: &str) -> std::io::Result<String> {
    let address: SocketAddr = address.parse().unwrap();
    let mut stream = TcpStream::connect_timeout(&address, LIMIT)?;
    stream.set_read_timeout(Some(LIMIT))?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

/// Whether a connection to `address` comes about.
fn is_open(address: &str) -> bool {
    TcpStream::connect_timeout(&address.parse().unwrap(), SILENCE).is_ok()
}

fn ask_udp(socket: &UdpSocket, address: &str, limit: Duration) -> std::io::Result<String> {
    socket.set_read_timeout(Some(limit))?;
    socket.send_to(b"hello", address)?;
    let mut buffer = [0; 64];
    let (length, peer) = socket.recv_from(&mut buffer)?;
    assert_eq!(peer.to_string(), address, "the answer comes from the address that was asked");
    Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
}

/// A namespace behind this host, which knows no way to the pods.
fn outside(lab: &Lab) -> Pinned {
    let outside = lab.netns("outside");
    let path = outside.path.to_str().unwrap().to_owned();
    lab.run("ip", &["link", "add", "up0", "type", "veth", "peer", "name", "up1", "netns", &path]);
    for address in ["192.0.2.1/24", "192.0.2.3/24", "2001:db8::1/64"] {
        lab.run("ip", &["address", "add", address, "dev", "up0", "nodad"]);
    }
    lab.run("ip", &["link", "set", "up0", "up"]);
    for address in ["192.0.2.2/24", "2001:db8::2/64"] {
        outside.run("ip", &["address", "add", address, "dev", "up1", "nodad"]);
    }
    outside.run("ip", &["link", "set", "up1", "up"]);
    outside
}

#[test]
fn privileged_a_port_leads_to_its_pod_from_everywhere() {
    isolated(|lab| {
        let bridge = bridge("cleat0");
        let (server, other, outside) = (lab.netns("server"), lab.netns("other"), outside(lab));
        attach(&bridge, &server, 2, &[tcp(8080)]).unwrap();
        attach(&bridge, &other, 3, &[]).unwrap();
        serve(&server, "server");

        // From elsewhere the client's own address is seen.
        let from_outside = |address| outside.netns.run(|| ask(address)).unwrap().unwrap();
        assert_eq!(from_outside("192.0.2.1:8080"), "server 192.0.2.2");
        assert_eq!(from_outside("[2001:db8::1]:8080"), "server 2001:db8::2");

        for (address, seen) in [
            ("192.0.2.1:8080", "192.0.2.1"),
            ("10.88.0.1:8080", "10.88.0.1"),
            ("127.0.0.1:8080", "10.88.0.1"),
            ("127.1.2.3:8080", "10.88.0.1"),
            ("[2001:db8::1]:8080", "2001:db8::1"),
            ("[fd00:88::1]:8080", "fd00:88::1"),
        ] {
            assert_eq!(ask(address).unwrap(), format!("server {seen}"), "from the host to {address}");
        }

        for (who, pod) in [("another pod", &other), ("the pod itself", &server)] {
            for (address, seen) in [
                ("192.0.2.1:8080", "10.88.0.1"),
                ("10.88.0.1:8080", "10.88.0.1"),
                ("[2001:db8::1]:8080", "fd00:88::1"),
                ("[fd00:88::1]:8080", "fd00:88::1"),
            ] {
                let said = pod.netns.run(|| ask(address)).unwrap();
                let said = said.unwrap_or_else(|error| panic!("from {who} to {address}: {error}"));
                assert_eq!(said, format!("server {seen}"), "from {who} to {address}");
            }
        }
        // Without a port of the host, pods still see each other as they are.
        assert_eq!(other.netns.run(|| ask("10.88.0.2:80")).unwrap().unwrap(), "server 10.88.0.3");
        detach(&bridge, 2, &[tcp(8080)]);
        assert!(ask("127.0.0.1:8080").is_err());
        assert!(outside.netns.run(|| ask("192.0.2.1:8080")).unwrap().is_err());
    });
}

#[test]
fn privileged_a_port_of_one_address_is_open_on_no_other() {
    isolated(|lab| {
        let bridge = bridge("cleat0");
        let (one, two, three) = (lab.netns("one"), lab.netns("two"), lab.netns("three"));
        let outside = outside(lab);
        attach(&bridge, &one, 2, &[port(8080, PortProtocol::Tcp, Some("192.0.2.1"))]).unwrap();
        attach(&bridge, &two, 3, &[port(8080, PortProtocol::Tcp, Some("127.0.0.1"))]).unwrap();
        attach(&bridge, &three, 4, &[port(8080, PortProtocol::Tcp, Some("2001:db8::1"))]).unwrap();
        serve(&one, "one");
        serve(&two, "two");
        serve(&three, "three");
        let from_outside = |address| outside.netns.run(|| ask(address)).unwrap();
        assert_eq!(from_outside("192.0.2.1:8080").unwrap(), "one 192.0.2.2");
        assert_eq!(from_outside("[2001:db8::1]:8080").unwrap(), "three 2001:db8::2");
        assert!(from_outside("192.0.2.3:8080").is_err());
        assert!(from_outside("10.88.0.1:8080").is_err());
        assert_eq!(ask("127.0.0.1:8080").unwrap(), "two 10.88.0.1");
        assert!(ask("127.0.0.2:8080").is_err());
    });
}

#[test]
fn privileged_the_hosts_loopback_stays_the_hosts() {
    isolated(|lab| {
        let bridge = bridge("cleat0");
        let (pod, outside) = (lab.netns("pod"), outside(lab));
        attach(&bridge, &pod, 2, &[port(8080, PortProtocol::Tcp, Some("127.0.0.1"))]).unwrap();
        serve(&pod, "pod");
        assert_eq!(lab.run("sysctl", &["-n", "net.ipv4.conf.cleat0.route_localnet"]).trim(), "1");
        let secret = TcpListener::bind("127.0.0.1:9090").unwrap();
        secret.set_nonblocking(true).unwrap();
        // A neighbour that sends packets to 127.0.0.1 over the wire, as only root can.
        for (who, from, device, gateway) in
            [("a pod", &pod, "eth0", "10.88.0.1"), ("a neighbour", &outside, "up1", "192.0.2.1")]
        {
            from.run("sysctl", &["-qw", &format!("net.ipv4.conf.{device}.route_localnet=1")]);
            from.run("ip", &["route", "replace", "127.0.0.1/32", "via", gateway, "dev", device]);
            for address in ["127.0.0.1:9090", "127.0.0.1:8080"] {
                assert!(!from.netns.run(|| is_open(address)).unwrap(), "{who} reached {address}");
            }
        }
        assert!(secret.accept().is_err(), "somebody reached the host's loopback");
        assert_eq!(ask("127.0.0.1:8080").unwrap(), "pod 10.88.0.1");
    });
}

#[test]
fn privileged_a_udp_client_follows_the_port_to_the_next_pod() {
    isolated(|lab| {
        let bridge = bridge("cleat0");
        let (a, b, outside) = (lab.netns("a"), lab.netns("b"), outside(lab));
        bridge.ensure().unwrap();
        serve(&a, "a");
        serve(&b, "b");
        let bind = |address: &'static str| move || UdpSocket::bind(address).unwrap();
        let v4 = outside.netns.run(bind("192.0.2.2:4000")).unwrap();
        let v6 = outside.netns.run(bind("[2001:db8::2]:4000")).unwrap();
        let own = UdpSocket::bind("127.0.0.1:4000").unwrap();
        let cases = [
            (&v4, "192.0.2.1:5353", "192.0.2.2"),
            (&v6, "[2001:db8::1]:5353", "2001:db8::2"),
            (&own, "127.0.0.1:5353", "10.88.0.1"),
        ];
        let nobody = || {
            for (socket, address, _) in &cases {
                assert!(ask_udp(socket, address, SILENCE).is_err(), "somebody answers at {address}");
            }
        };
        // The links are ready when this has come through.
        for address in ["192.0.2.1:9", "[2001:db8::1]:9"] {
            let refused = outside.netns.run(|| ask(address)).unwrap().unwrap_err();
            assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
        }
        nobody();
        for (number, pod, name) in [(2, &a, "a"), (3, &b, "b")] {
            attach(&bridge, pod, number, &[udp(5353)]).unwrap();
            for (socket, address, seen) in &cases {
                let said = ask_udp(socket, address, LIMIT)
                    .unwrap_or_else(|error| panic!("{name} at {address}: {error}"));
                assert_eq!(said, format!("{name} {seen}"), "{address}");
            }
            detach(&bridge, number, &[udp(5353)]);
            nobody();
        }
    });
}

#[test]
fn privileged_a_taken_port_is_refused_and_nothing_is_left() {
    isolated(|lab| {
        let bridge = bridge("cleat0");
        let (a, b) = (lab.netns("a"), lab.netns("b"));
        attach(&bridge, &a, 2, &[tcp(8080)]).unwrap();
        serve(&a, "a");
        let (rules, links) = (lab.run("nft", &["list", "ruleset"]), lab.links());
        let refused = attach(&bridge, &b, 3, &[tcp(8081), tcp(8080)]).unwrap_err();
        assert_eq!(refused.to_string(), "host port 8080/tcp for 3 is taken: it leads to pod 2 already");
        assert_eq!((lab.run("nft", &["list", "ruleset"]), lab.links()), (rules, links));
        // What it never had, it cannot give back.
        detach(&bridge, 3, &[tcp(8081), tcp(8080)]);
        assert_eq!(ask("127.0.0.1:8080").unwrap(), "a 10.88.0.1");
        detach(&bridge, 2, &[tcp(8080)]);
        attach(&bridge, &b, 3, &[tcp(8081), tcp(8080)]).unwrap();
    });
}

#[test]
fn privileged_ports_outlive_the_daemon_and_a_flush() {
    isolated(|lab| {
        let (a, b, c) = (lab.netns("a"), lab.netns("b"), lab.netns("c"));
        let first = bridge("cleat0");
        first.ensure().unwrap();
        let empty = lab.run("nft", &["list", "ruleset"]);
        let of_a = attach(&first, &a, 2, &[tcp(8080), udp(5353)]).unwrap();
        attach(&first, &b, 3, &[tcp(9090)]).unwrap();
        serve(&a, "a");
        drop(first);
        // The daemon died before it had written down the second pod's attachment: its undo knows the pod alone.
        let second = bridge("cleat0");
        second.restore("2", &of_a).unwrap();
        assert_eq!(ask("127.0.0.1:8080").unwrap(), "a 10.88.0.1");
        detach(&second, 3, &[tcp(9090)]);
        assert!(!lab.run("nft", &["list", "ruleset"]).contains("9090"));
        let refused = attach(&second, &b, 3, &[tcp(8080)]);
        assert!(matches!(refused, Err(BridgeError::PortTaken { .. })), "{refused:?}");
        let whole = lab.run("nft", &["list", "ruleset"]);
        for loss in [&["flush", "ruleset"][..], &["flush", "map", "inet", "cleat_cleat0", "ports4"]] {
            lab.run("nft", loss);
            assert!(ask("127.0.0.1:8080").is_err());
            second.ensure().unwrap();
            assert_eq!(lab.run("nft", &["list", "ruleset"]), whole, "after {loss:?}");
            assert_eq!(ask("127.0.0.1:8080").unwrap(), "a 10.88.0.1");
        }
        attach(&second, &c, 4, &[]).unwrap();
        for _ in 0..2 {
            detach(&second, 2, &[tcp(8080), udp(5353)]);
        }
        assert_eq!(lab.run("nft", &["list", "ruleset"]), empty);
    });
}

#[test]
fn privileged_many_ports_come_and_go_whole() {
    isolated(|lab| {
        let bridge = bridge("cleat0");
        bridge.ensure().unwrap();
        let empty = lab.run("nft", &["list", "ruleset"]);
        let pod = lab.netns("pod");
        serve(&pod, "pod");
        let ports: Vec<_> = (1000..2000).map(tcp).collect();
        attach(&bridge, &pod, 2, &ports).unwrap();
        for host_port in [1000, 1255, 1256, 1999] {
            let address: IpAddr = "127.0.0.1".parse().unwrap();
            assert_eq!(ask(&SocketAddr::new(address, host_port).to_string()).unwrap(), "pod 10.88.0.1");
        }
        bridge.ensure().unwrap();
        detach(&bridge, 2, &ports);
        assert_eq!(lab.run("nft", &["list", "ruleset"]), empty);
    });
}
