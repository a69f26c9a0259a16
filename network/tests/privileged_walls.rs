//! Networks that are kept apart: who reaches whom across them, and which way leads out of a pod that is on several.

#![allow(clippy::unwrap_used, reason = "a test ends at what it does not expect")]

mod lab;

use std::{
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    thread,
    time::Duration,
};

use cleat_network::{
    bridge::{Attachment, Bridge, BridgeConfig, BridgeError, Leads, Walls, host_ifname_on, remove_link},
    cni::{PortMapping, PortProtocol},
};
use lab::{Lab, Pinned, isolated};

/// Long enough for a connection inside one machine, short enough to wait for one that must not come about.
const SILENCE: Duration = Duration::from_millis(700);

const OPEN: &str = "br-open";

fn config(name: &str, number: u8) -> BridgeConfig {
    let subnets = [format!("10.88.{number}.0/24"), format!("fd00:{number}::/64")];
    BridgeConfig::new(name, &subnets.map(|text| text.parse().unwrap()), None, true).unwrap()
}

/// A network beside the open one, which has the number 0.
fn walled(open: &Bridge, name: &str, number: u8, walls: Walls) -> Bridge {
    Bridge::beside(open, config(name, number).walled(Walls { closed_to: vec![OPEN.to_owned()], ..walls }))
}

fn tcp(host_port: u16) -> PortMapping {
    PortMapping { host_port, container_port: 80, protocol: PortProtocol::Tcp, host_ip: None }
}

/// Attaches a pod as the second of network `number`, or as another one.
fn attach(bridge: &Bridge, pod: &Pinned, place: (u8, u8), ports: &[PortMapping]) -> Result<(), BridgeError> {
    link(bridge, pod, place, ("eth0", Leads::ALL), ports)
}

fn link(
    bridge: &Bridge,
    pod: &Pinned,
    (number, host): (u8, u8),
    (interface, leads): (&str, Leads),
    ports: &[PortMapping],
) -> Result<(), BridgeError> {
    let id = pod.path.file_name().unwrap().to_str().unwrap();
    let attachment = Attachment {
        host_ifname: host_ifname_on(id, bridge.config().name()),
        interface: interface.to_owned(),
        leads,
        container_id: id.to_owned(),
        addresses: vec![
            format!("10.88.{number}.{host}/24").parse().unwrap(),
            format!("fd00:{number}::{host}/64").parse().unwrap(),
        ],
        mac: None,
        ports: ports.to_vec(),
    };
    bridge.attach(&pod.netns, &attachment).map(drop)
}

/// Accepts at port 80 of both families.
fn serve(pod: &Pinned) {
    let listener = pod.netns.run(|| TcpListener::bind("[::]:80").unwrap()).unwrap();
    thread::spawn(move || listener.incoming().for_each(drop));
}

fn reaches(from: &Pinned, address: &str) -> bool {
    let address: SocketAddr = address.parse().unwrap();
    from.netns.run(|| TcpStream::connect_timeout(&address, SILENCE).is_ok()).unwrap()
}

/// A namespace behind this host that routes to it.
fn outside(lab: &Lab) -> Pinned {
    let outside = lab.netns("outside");
    let path = outside.path.to_str().unwrap().to_owned();
    lab.run("ip", &["link", "add", "up0", "type", "veth", "peer", "name", "up1", "netns", &path]);
    lab.run("ip", &["address", "add", "192.0.2.1/24", "dev", "up0"]);
    lab.run("ip", &["link", "set", "up0", "up"]);
    outside.run("ip", &["address", "add", "192.0.2.2/24", "dev", "up1"]);
    outside.run("ip", &["link", "set", "up1", "up"]);
    outside.run("ip", &["route", "add", "default", "via", "192.0.2.1"]);
    outside
}

#[test]
fn privileged_networks_meet_at_published_ports_only() {
    isolated(|lab| {
        let open = Bridge::new(config(OPEN, 0));
        let (one, two) =
            (walled(&open, "br-one", 1, Walls::default()), walled(&open, "br-two", 2, Walls::default()));
        let pods = ["of-open", "of-one", "of-two", "mate"].map(|name| lab.netns(name));
        let outside = outside(lab);
        for ((bridge, pod), number) in [&open, &one, &two].into_iter().zip(&pods).zip(0..) {
            attach(bridge, pod, (number, 2), &[tcp(8080 + u16::from(number))]).unwrap();
        }
        attach(&one, &pods[3], (1, 3), &[]).unwrap();
        [&pods[0], &pods[1], &pods[2], &outside].into_iter().for_each(serve);
        let addresses = ["10.88.0.2:80", "10.88.1.2:80", "10.88.2.2:80"];
        let addresses6 = ["[fd00:0::2]:80", "[fd00:1::2]:80", "[fd00:2::2]:80"];
        for (from, pod) in pods[..3].iter().enumerate() {
            for to in 0..3 {
                assert_eq!(reaches(pod, addresses[to]), from == to, "{from} to {to}");
                assert_eq!(reaches(pod, addresses6[to]), from == to, "{from} to {to} by IPv6");
                let published = format!("192.0.2.1:{}", 8080 + to);
                assert!(reaches(pod, &published), "{from} to {published}");
            }
            assert!(reaches(pod, "192.0.2.2:80"), "{from} to what is outside");
        }
        assert!(reaches(&pods[3], addresses[1]), "a neighbour");
        // Whoever routes to the host gets to an open network, and into others by published ports only.
        assert!(reaches(&outside, addresses[0]) && reaches(&outside, "192.0.2.1:8081"));
        assert!(!reaches(&outside, addresses[1]) && !reaches(&outside, addresses[2]));
        for bridge in [&open, &one, &two] {
            bridge.teardown().unwrap();
        }
        assert!(!lab.run("nft", &["list", "tables"]).contains("br-"));
    });
}

#[test]
fn privileged_an_internal_network_has_no_way_out() {
    isolated(|lab| {
        let open = Bridge::new(config(OPEN, 0));
        let inner = walled(&open, "br-inner", 1, Walls { is_internal: true, ..Walls::default() });
        let pods = ["of-open", "inside", "mate"].map(|name| lab.netns(name));
        attach(&open, &pods[0], (0, 2), &[tcp(8080)]).unwrap();
        for (pod, host) in [(&pods[1], 2), (&pods[2], 3)] {
            // With routes, as a container that has made its own.
            attach(&inner, pod, (1, host), &[]).unwrap();
        }
        let outside = outside(lab);
        [&pods[0], &pods[1], &outside].into_iter().for_each(serve);
        assert!(reaches(&pods[2], "10.88.1.2:80") && reaches(&pods[2], "[fd00:1::2]:80"));
        for address in ["10.88.0.2:80", "192.0.2.2:80", "192.0.2.1:8080", "[fd00:0::2]:80"] {
            assert!(!reaches(&pods[1], address), "{address}");
        }
        assert!(!reaches(&outside, "10.88.1.2:80") && !reaches(&pods[0], "10.88.1.2:80"));
    });
}

#[test]
fn privileged_members_that_are_parted_reach_the_world_and_not_one_another() {
    isolated(|lab| {
        let open = Bridge::new(config(OPEN, 0));
        let parted = walled(&open, "br-parted", 1, Walls { parts_members: true, ..Walls::default() });
        let pods = ["a", "b"].map(|name| lab.netns(name));
        attach(&parted, &pods[0], (1, 2), &[tcp(8080)]).unwrap();
        attach(&parted, &pods[1], (1, 3), &[]).unwrap();
        let outside = outside(lab);
        [&pods[0], &outside].into_iter().for_each(serve);
        assert!(!reaches(&pods[1], "10.88.1.2:80") && !reaches(&pods[1], "[fd00:1::2]:80"));
        assert!(reaches(&pods[1], "192.0.2.2:80") && reaches(&outside, "192.0.2.1:8080"));
    });
}

#[test]
fn privileged_a_port_of_the_host_is_given_once_on_all_networks() {
    isolated(|lab| {
        let open = Bridge::new(config(OPEN, 0));
        let one = walled(&open, "br-one", 1, Walls::default());
        let pods = ["a", "b"].map(|name| lab.netns(name));
        attach(&open, &pods[0], (0, 2), &[tcp(8080)]).unwrap();
        let taken = attach(&one, &pods[1], (1, 2), &[tcp(8080)]);
        assert!(matches!(taken, Err(BridgeError::PortTaken { .. })), "{taken:?}");
        open.unpublish("a", &[tcp(8080)]).unwrap();
        attach(&one, &pods[1], (1, 2), &[tcp(8080)]).unwrap();
    });
}

#[test]
fn privileged_the_way_out_of_a_pod_can_be_changed() {
    isolated(|lab| {
        let open = Bridge::new(config(OPEN, 0));
        let one = walled(&open, "br-one", 1, Walls::default());
        let pod = lab.netns("pod");
        link(&open, &pod, (0, 2), ("eth0", Leads::ALL), &[]).unwrap();
        link(&one, &pod, (1, 2), ("eth1", Leads::NONE), &[]).unwrap();
        let routes = || {
            let of = |family| pod.run("ip", &[family, "route", "show", "default"]);
            ["-4", "-6"]
                .map(|family| of(family).lines().map(|line| line.trim().to_owned()).collect::<Vec<_>>())
        };
        let leads = |gateways: [&str; 2], interface: &str| {
            let found = routes();
            let is_it = |lines: &[String], gateway: &str| {
                lines.len() == 1 && lines[0].starts_with(&format!("default via {gateway} dev {interface}"))
            };
            assert!(is_it(&found[0], gateways[0]) && is_it(&found[1], gateways[1]), "{found:?}");
        };
        leads(["10.88.0.1", "fd00::1"], "eth0");
        for gateway in ["10.88.1.1", "fd00:1::1"] {
            one.lead_out(&pod.netns, "eth1", gateway.parse::<IpAddr>().unwrap()).unwrap();
        }
        leads(["10.88.1.1", "fd00:1::1"], "eth1");
        for gateway in ["10.88.0.1", "fd00:0::1"] {
            open.lead_out(&pod.netns, "eth0", gateway.parse::<IpAddr>().unwrap()).unwrap();
        }
        remove_link(&host_ifname_on("pod", "br-one")).unwrap();
        leads(["10.88.0.1", "fd00::1"], "eth0");
        for is_ipv4 in [true, false, true, false] {
            one.lead_nowhere(&pod.netns, is_ipv4).unwrap();
        }
        assert_eq!(routes(), [Vec::<String>::new(), Vec::new()]);
    });
}
