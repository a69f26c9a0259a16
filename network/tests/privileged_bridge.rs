//! The built-in bridge on hosts of its own: what pods can reach, and that nothing is left behind.

#![allow(clippy::unwrap_used, reason = "a test ends at what it does not expect")]

mod lab;

use std::{
    collections::BTreeSet,
    net::IpAddr,
    time::{Duration, Instant},
};

use cleat_network::bridge::{Attachment, Bridge, BridgeConfig, BridgeError, Leads, host_ifname};
use ipnet::IpNet;
use lab::{Lab, Pinned, isolated};

/// A connection within this lost no packet: TCP and neighbour discovery try again after a second.
const FIRST_TRY: Duration = Duration::from_millis(900);

const SUBNETS: [&str; 2] = ["10.88.0.0/24", "fd00:88::/64"];

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn bridge(name: &str, subnets: &[&str]) -> Bridge {
    let subnets: Vec<_> = subnets.iter().map(|text| net(text)).collect();
    Bridge::new(BridgeConfig::new(name, &subnets, None, true).unwrap())
}

fn attachment(id: &str, addresses: &[&str]) -> Attachment {
    Attachment {
        container_id: id.to_owned(),
        host_ifname: host_ifname(id),
        interface: "eth0".to_owned(),
        leads: Leads::ALL,
        addresses: addresses.iter().map(|text| net(text)).collect(),
        mac: None,
        ports: Vec::new(),
    }
}

fn tables(lab: &Lab) -> BTreeSet<String> {
    lab.run("nft", &["list", "tables"]).lines().map(str::to_owned).collect()
}

#[test]
fn pods_reach_each_other_and_the_gateway_over_both_families() {
    isolated(|lab| {
        let bridge = bridge("cleat0", &SUBNETS);
        bridge.ensure().unwrap();
        let (a, b) = (lab.netns("a"), lab.netns("b"));
        let of_a = bridge.attach(&a.netns, &attachment("a", &["10.88.0.2/24", "fd00:88::2/64"])).unwrap();
        bridge.attach(&b.netns, &attachment("b", &["10.88.0.3/24", "fd00:88::3/64"])).unwrap();
        for (from, to) in [("10.88.0.2", "10.88.0.3"), ("fd00:88::2", "fd00:88::3")] {
            assert_eq!(a.seen_by(b.echo_peer(ip(to))).unwrap(), ip(from));
            assert_eq!(b.seen_by(a.echo_peer(ip(from))).unwrap(), ip(to));
        }
        for (pod, gateway) in [("10.88.0.2", "10.88.0.1"), ("fd00:88::2", "fd00:88::1")] {
            assert_eq!(a.seen_by(lab::echo_peer(ip(gateway))).unwrap(), ip(pod));
            assert_eq!(lab::seen_by(a.echo_peer(ip(pod))).unwrap(), ip(gateway));
        }
        assert_eq!(a.seen_by(a.echo_peer(ip("127.0.0.1"))).unwrap(), ip("127.0.0.1"));
        let link = a.run("ip", &["link", "show", "eth0"]);
        assert!(link.contains(&of_a.mac.unwrap().to_string()), "{link}");
    });
}

/// A namespace behind this host, which knows no way to the pods: it can only answer the host's own addresses.
fn outside(lab: &Lab) -> Pinned {
    let outside = lab.netns("outside");
    let path = outside.path.to_str().unwrap().to_owned();
    lab.run("ip", &["link", "add", "up0", "type", "veth", "peer", "name", "up1"]);
    lab.run("ip", &["link", "set", "up1", "netns", &path]);
    for address in ["192.0.2.1/24", "2001:db8::1/64"] {
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
fn leaving_traffic_gets_the_hosts_address() {
    isolated(|lab| {
        let bridge = bridge("cleat0", &SUBNETS);
        let pod = lab.netns("pod");
        bridge.attach(&pod.netns, &attachment("pod", &["10.88.0.2/24", "fd00:88::2/64"])).unwrap();
        let outside = outside(lab);
        for (target, host) in [("192.0.2.2", "192.0.2.1"), ("2001:db8::2", "2001:db8::1")] {
            assert_eq!(pod.seen_by(outside.echo_peer(ip(target))).unwrap(), ip(host));
        }
    });
}

#[test]
fn nft_reads_the_rules_as_they_are_meant() {
    isolated(|lab| {
        bridge("cleat0", &["10.88.0.0/20", "fd00:88::/61"]).ensure().unwrap();
        // nft does not show the look-ups of the chain `hairpin`, which load a value that nothing reads.
        let expected = "\
table inet cleat_cleat0 {
	map ports4_of_address {
		type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service
	}

	map ports4 {
		type inet_proto . inet_service : ipv4_addr . inet_service
	}

	map ports6_of_address {
		type ipv6_addr . inet_proto . inet_service : ipv6_addr . inet_service
	}

	map ports6 {
		type inet_proto . inet_service : ipv6_addr . inet_service
	}

	chain guard {
		type filter hook prerouting priority raw; policy accept;
		iifname \"cleat0\" ip daddr 127.0.0.0/8 drop
	}

	chain output_guard {
		type filter hook output priority raw; policy accept;
		oifname \"cleat0\" icmp type redirect drop
		oifname \"cleat0\" icmpv6 type nd-redirect drop
	}

	chain prerouting {
		type nat hook prerouting priority dstnat; policy accept;
		ip daddr != 127.0.0.0/8 fib daddr type local jump ports
		meta nfproto ipv6 fib daddr type local jump ports
	}

	chain output {
		type nat hook output priority -100; policy accept;
		fib daddr type local jump ports
	}

	chain ports {
		dnat ip to ip daddr . meta l4proto . th dport map @ports4_of_address
		meta nfproto ipv4 dnat ip to meta l4proto . th dport map @ports4
		dnat ip6 to ip6 daddr . meta l4proto . th dport map @ports6_of_address
		meta nfproto ipv6 dnat ip6 to meta l4proto . th dport map @ports6
	}

	chain hairpin {
		meta nfproto ipv4 masquerade
		meta nfproto ipv4 masquerade
		meta nfproto ipv6 masquerade
		meta nfproto ipv6 masquerade
	}

	chain postrouting {
		type nat hook postrouting priority srcnat; policy accept;
		ip saddr 10.88.0.0/20 oifname != \"cleat0\" masquerade
		ip6 saddr fd00:88::/61 oifname != \"cleat0\" masquerade
		ip saddr 127.0.0.0/8 oifname \"cleat0\" masquerade
		ip saddr 10.88.0.0/20 oifname \"cleat0\" ct status dnat jump hairpin
		ip6 saddr fd00:88::/61 oifname \"cleat0\" ct status dnat jump hairpin
	}
}
";
        assert_eq!(lab.run("nft", &["list", "table", "inet", "cleat_cleat0"]), expected);
    });
}

#[test]
fn rules_that_were_flushed_are_back_with_the_next_attach() {
    isolated(|lab| {
        let bridge = bridge("cleat0", &SUBNETS);
        bridge.ensure().unwrap();
        let whole = lab.run("nft", &["list", "ruleset"]);
        let losses: [&[&str]; 3] = [
            &["flush", "ruleset"],
            &["flush", "table", "inet", "cleat_cleat0"],
            &["add", "table", "inet", "unrelated"],
        ];
        for (index, loss) in losses.iter().enumerate() {
            lab.run("nft", loss);
            let pod = lab.netns(&format!("pod{index}"));
            let id = format!("pod{index}");
            bridge.attach(&pod.netns, &attachment(&id, &["10.88.0.2/24"])).unwrap();
            bridge.detach(&host_ifname(&id)).unwrap();
            assert!(lab.run("nft", &["list", "ruleset"]).starts_with(&whole), "after {loss:?}");
        }
    });
}

#[test]
fn nothing_is_left_after_detach_and_teardown_which_can_be_repeated() {
    isolated(|lab| {
        let (links, tables_before) = (lab.links(), tables(lab));
        let bridge = bridge("cleat0", &SUBNETS);
        let pod = lab.netns("pod");
        bridge.attach(&pod.netns, &attachment("pod", &["10.88.0.2/24"])).unwrap();
        bridge.check(&host_ifname("pod")).unwrap();
        for _ in 0..2 {
            bridge.detach(&host_ifname("pod")).unwrap();
        }
        assert!(matches!(bridge.check(&host_ifname("pod")), Err(BridgeError::Check { .. })));
        assert!(!pod.run("ip", &["-o", "link"]).contains("eth0"));
        for _ in 0..2 {
            bridge.teardown().unwrap();
        }
        assert_eq!((lab.links(), tables(lab)), (links, tables_before));
    });
}

#[test]
fn a_pod_can_be_attached_again_at_once() {
    isolated(|lab| {
        let bridge = bridge("cleat0", &SUBNETS);
        let pod = lab.netns("pod");
        for _ in 0..20 {
            bridge.attach(&pod.netns, &attachment("pod", &["10.88.0.2/24", "fd00:88::2/64"])).unwrap();
            for (gateway, address) in [("10.88.0.1", "10.88.0.2"), ("fd00:88::1", "fd00:88::2")] {
                let start = Instant::now();
                assert_eq!(pod.seen_by(lab::echo_peer(ip(gateway))).unwrap(), ip(address));
                assert!(start.elapsed() < FIRST_TRY, "a packet was lost between {address} and {gateway}");
            }
            bridge.detach(&host_ifname("pod")).unwrap();
        }
    });
}

#[test]
fn a_failed_attach_is_undone() {
    isolated(|lab| {
        let bridge = bridge("cleat0", &SUBNETS);
        bridge.ensure().unwrap();
        let links = lab.links();
        let pod = lab.netns("pod");
        // The last request finds that the pod has a default route already: everything else has been made by then.
        pod.run("ip", &["route", "add", "blackhole", "default"]);
        let refused = bridge.attach(&pod.netns, &attachment("pod", &["10.88.0.2/24"])).unwrap_err();
        assert_eq!(
            std::error::Error::source(&refused).unwrap().to_string(),
            "add default route via 10.88.0.1 on eth0"
        );
        assert_eq!(lab.links(), links);
        assert!(!pod.run("ip", &["-o", "link"]).contains("eth0"));
    });
}

#[test]
fn a_second_attach_of_the_same_pod_leaves_the_first_alone() {
    isolated(|lab| {
        let bridge = bridge("cleat0", &SUBNETS);
        let pod = lab.netns("pod");
        bridge.attach(&pod.netns, &attachment("pod", &["10.88.0.2/24"])).unwrap();
        assert!(bridge.attach(&pod.netns, &attachment("pod", &["10.88.0.3/24"])).is_err());
        bridge.check(&host_ifname("pod")).unwrap();
        assert_eq!(pod.seen_by(lab::echo_peer(ip("10.88.0.1"))).unwrap(), ip("10.88.0.2"));
    });
}

#[test]
fn a_bridge_that_was_removed_is_made_anew() {
    isolated(|lab| {
        let bridge = bridge("cleat0", &SUBNETS);
        bridge.ensure().unwrap();
        lab.run("ip", &["link", "delete", "cleat0"]);
        let pod = lab.netns("pod");
        bridge.attach(&pod.netns, &attachment("pod", &["10.88.0.2/24"])).unwrap();
        assert_eq!(pod.seen_by(lab::echo_peer(ip("10.88.0.1"))).unwrap(), ip("10.88.0.2"));
    });
}

#[test]
fn a_bridge_that_was_set_down_fails_one_attach_and_not_the_next() {
    isolated(|lab| {
        let bridge = bridge("cleat0", &SUBNETS);
        bridge.ensure().unwrap();
        let links = lab.links();
        lab.run("ip", &["link", "set", "cleat0", "down"]);
        let pod = lab.netns("pod");
        let refused = bridge.attach(&pod.netns, &attachment("pod", &["10.88.0.2/24"]));
        assert!(
            matches!(refused, Err(BridgeError::Check { problem: "does not forward", .. })),
            "{refused:?}"
        );
        assert_eq!(lab.links(), links);
        bridge.attach(&pod.netns, &attachment("pod", &["10.88.0.2/24"])).unwrap();
        assert_eq!(pod.seen_by(lab::echo_peer(ip("10.88.0.1"))).unwrap(), ip("10.88.0.2"));
    });
}

#[test]
fn a_link_of_the_bridges_name_that_is_no_bridge_is_left_alone() {
    isolated(|lab| {
        lab.run("ip", &["link", "add", "cleat0", "type", "veth", "peer", "name", "other"]);
        let bridge = bridge("cleat0", &SUBNETS);
        assert!(matches!(bridge.ensure(), Err(BridgeError::NotABridge { .. })));
        assert!(matches!(bridge.teardown(), Err(BridgeError::NotABridge { .. })));
        assert!(lab.links().contains("cleat0"));
    });
}

#[test]
fn networks_side_by_side_do_not_touch_one_another() {
    isolated(|lab| {
        let (one, two) = (bridge("one", &["10.1.0.0/24"]), bridge("two", &["10.2.0.0/24"]));
        one.ensure().unwrap();
        two.ensure().unwrap();
        let pod = lab.netns("pod");
        one.attach(&pod.netns, &attachment("pod", &["10.1.0.2/24"])).unwrap();
        two.teardown().unwrap();
        assert_eq!(pod.seen_by(lab::echo_peer(ip("10.1.0.1"))).unwrap(), ip("10.1.0.2"));
        assert_eq!(tables(lab), BTreeSet::from(["table inet cleat_one".to_owned()]));
    });
}

#[test]
fn a_network_without_ipv6_has_no_ipv6_address_at_all() {
    isolated(|lab| {
        let bridge = bridge("cleat0", &["10.88.0.0/24"]);
        let pod = lab.netns("pod");
        bridge.attach(&pod.netns, &attachment("pod", &["10.88.0.2/24"])).unwrap();
        assert_eq!(pod.run("ip", &["-6", "address", "show", "dev", "eth0"]), "");
        assert_eq!(lab.run("ip", &["-6", "address", "show", "dev", "cleat0"]), "");
        assert_eq!(lab.run("ip", &["-6", "address", "show", "dev", &host_ifname("pod")]), "");
    });
}

#[test]
fn router_advertisements_are_refused_by_pods_and_kept_by_the_host() {
    isolated(|lab| {
        lab.run("ip", &["link", "add", "up0", "type", "veth", "peer", "name", "up1"]);
        let pod = lab.netns("pod");
        let bridge = bridge("cleat0", &SUBNETS);
        bridge.attach(&pod.netns, &attachment("pod", &["10.88.0.2/24", "fd00:88::2/64"])).unwrap();
        assert_eq!(pod.run("sysctl", &["-n", "net.ipv6.conf.eth0.accept_ra"]).trim(), "0");
        assert_eq!(lab.run("sysctl", &["-n", "net.ipv6.conf.cleat0.accept_ra"]).trim(), "0");
        assert_eq!(lab.run("sysctl", &["-n", "net.ipv6.conf.up0.accept_ra"]).trim(), "2");
        assert_eq!(lab.run("sysctl", &["-n", "net.ipv6.conf.all.forwarding"]).trim(), "1");
    });
}

#[test]
fn a_network_with_ipv6_has_it_also_where_the_host_comes_up_without() {
    isolated(|lab| {
        let pod = lab.netns("pod");
        lab.run("sysctl", &["-qw", "net.ipv6.conf.default.disable_ipv6=1"]);
        pod.run("sysctl", &["-qw", "net.ipv6.conf.default.disable_ipv6=1"]);
        let bridge = bridge("cleat0", &SUBNETS);
        bridge.attach(&pod.netns, &attachment("pod", &["fd00:88::2/64"])).unwrap();
        assert_eq!(pod.seen_by(lab::echo_peer(ip("fd00:88::1"))).unwrap(), ip("fd00:88::2"));
    });
}

#[test]
fn pods_come_and_go_at_the_same_time() {
    isolated(|lab| {
        let bridge = bridge("cleat0", &SUBNETS);
        std::thread::scope(|scope| {
            for worker in 0..6 {
                let bridge = &bridge;
                scope.spawn(move || {
                    for round in 0..5 {
                        let id = format!("pod-{worker}-{round}");
                        let pod = lab.netns(&id);
                        let v4 = format!("10.88.0.{}/24", worker + 10);
                        let v6 = format!("fd00:88::{}/64", worker + 10);
                        bridge.attach(&pod.netns, &attachment(&id, &[&v4, &v6])).unwrap();
                        let start = Instant::now();
                        assert!(pod.seen_by(lab::echo_peer(ip("10.88.0.1"))).is_ok());
                        assert!(start.elapsed() < FIRST_TRY, "a packet was lost");
                        bridge.detach(&host_ifname(&id)).unwrap();
                    }
                });
            }
        });
        bridge.teardown().unwrap();
        assert_eq!(lab.links(), BTreeSet::from(["lo".to_owned()]));
    });
}

#[test]
fn a_detach_is_done_when_the_namespace_has_gone_before() {
    isolated(|lab| {
        let bridge = bridge("cleat0", &SUBNETS);
        let pod = lab.netns("pod");
        bridge.attach(&pod.netns, &attachment("pod", &["10.88.0.2/24"])).unwrap();
        drop(pod);
        bridge.detach(&host_ifname("pod")).unwrap();
        assert!(!lab.links().contains(&host_ifname("pod")));
    });
}

#[test]
fn links_of_no_pod_are_collected_and_others_kept() {
    isolated(|lab| {
        let bridge = bridge("cleat0", &SUBNETS);
        let (kept, stale) = (lab.netns("kept"), lab.netns("stale"));
        bridge.attach(&kept.netns, &attachment("kept", &["10.88.0.2/24"])).unwrap();
        bridge.attach(&stale.netns, &attachment("stale", &["10.88.0.3/24"])).unwrap();
        lab.run(
            "ip",
            &["link", "add", "uplink", "master", "cleat0", "type", "veth", "peer", "name", "ct0000000000a"],
        );
        bridge.collect(&["kept".to_owned()]).unwrap();
        let expected = ["lo", "cleat0", "uplink", "ct0000000000a", &host_ifname("kept")].map(str::to_owned);
        assert_eq!(lab.links(), BTreeSet::from(expected));
    });
}
