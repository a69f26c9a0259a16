//! The built-in network.

use std::fs;
use std::net::{IpAddr, TcpListener};
use std::os::fd::AsFd;
use std::sync::mpsc::channel;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use cleat_cri_api::v1::*;
use cleat_test_support::{Propagation, World};
use cleat_tests_cri::{BUSYBOX, HTTPD, Node, Pod, check, configs};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tonic::Code;

/// The page of the HTTP server's image.
pub(crate) const PAGE: &str = "served by a container of cleat";

/// The addresses of a pod: its first one is what the kubelet shows.
fn addresses(node: &Node, pod: &Pod) -> Result<Vec<IpAddr>> {
    let network = node.cri().pod_status(&pod.id)?.network.context("network")?;
    let all = [network.ip].into_iter().chain(network.additional_ips.into_iter().map(|each| each.ip));
    all.map(|ip| ip.parse().with_context(|| format!("{ip:?} is no address"))).collect()
}

/// Starts the HTTP server in a pod and waits until it is about to serve.
pub(crate) fn serve(node: &Node, pod: &Pod) -> Result<String> {
    let id = node.start(pod, &configs::container("httpd", HTTPD))?;
    node.await_log(&id, "httpd starts")?;
    node.until("the server listens", || {
        let sockets = node.cri().shell(&id, "cat /proc/net/tcp /proc/net/tcp6")?;
        // Port 80, state LISTEN.
        Ok(sockets.lines().any(|line| line.contains(":0050 ") && line.contains(" 0A ")).then_some(()))
    })?;
    Ok(id)
}

/// A script that fetches the page from `address` in a container. Debian's static busybox has a wget that crashes in its
/// resolver wherever it runs, also in a plain chroot.
fn fetch(address: &str) -> String {
    format!("printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 5 {address} 80 | tail -n 1")
}

/// `http://ADDRESS/`.
fn url(address: &IpAddr) -> String {
    match address {
        IpAddr::V4(address) => format!("http://{address}/"),
        IpAddr::V6(address) => format!("http://[{address}]/"),
    }
}

#[test]
fn privileged_pods_reach_each_other_and_the_host_reaches_them() {
    check(Node::builder().images(&[BUSYBOX, HTTPD]), |node| {
        let server = node.run_pod(configs::pod("server"))?;
        let client = node.run_pod(configs::pod("client"))?;
        serve(node, &server)?;
        let target = addresses(node, &server)?;
        ensure!(matches!(target[..], [IpAddr::V4(_), IpAddr::V6(_)]), "{target:?}");
        ensure!(addresses(node, &client)?.iter().all(|address| !target.contains(address)), "{target:?}");
        let inside = node.start(&client, &configs::sleeper("inside"))?;
        for address in &target {
            let page = node.cri().shell(&inside, &fetch(&address.to_string()))?;
            assert_eq!(page, PAGE, "from a pod to {address}");
            let fetch = format!("curl --max-time 5 -sS {}", url(address));
            assert_eq!(node.cleat().world().shell(&fetch)?.trim(), PAGE, "from the host to {address}");
        }
        Ok(())
    });
}

#[test]
fn privileged_containers_of_a_pod_talk_over_its_loopback() {
    check(Node::builder().images(&[BUSYBOX, HTTPD]), |node| {
        let pod = node.run_pod(configs::pod("loopback"))?;
        serve(node, &pod)?;
        for (name, address) in [("v4", "127.0.0.1"), ("v6", "::1")] {
            assert_eq!(node.output(&pod, &configs::script(name, &fetch(address)))?, PAGE, "{address}");
        }
        Ok(())
    });
}

#[test]
fn privileged_a_pod_has_its_addresses_routes_and_no_more() {
    check(Node::builder(), |node| {
        let pod = node.run_pod(configs::pod("links"))?;
        let look = "ip -o link | cut -d: -f2 | cut -d@ -f1; ip -o -4 address show eth0 | awk '{ print $4 }'; \
                    ip route | head -1";
        let output = node.output(&pod, &configs::script("look", look))?;
        let lines: Vec<&str> = output.lines().map(str::trim).collect();
        let own = addresses(node, &pod)?;
        ensure!(lines.contains(&"lo") && lines.contains(&"eth0"), "{output}");
        ensure!(lines.contains(&&*format!("{}/16", own[0])), "{output} lacks {own:?}");
        ensure!(output.contains("default via 10.213.0.1 dev eth0"), "{output}");
        Ok(())
    });
}

/// A listener outside the node, and the node's uplink to it.
struct Outside {
    _world: World,
    listener: TcpListener,
}

impl Outside {
    /// 192.0.2.1 is the node, 192.0.2.2 the outside; nobody outside knows of the pods' addresses.
    fn new(node: &Node) -> Result<Self> {
        let world = World::new(Propagation::Private)?;
        let pid = world.pid();
        node.cleat().world().shell(&format!(
            "ip link add uplink type veth peer name up0 netns {pid} && ip address add 192.0.2.1/24 dev uplink && \
             ip link set uplink up"
        ))?;
        world.shell("ip address add 192.0.2.2/24 dev up0 && ip link set up0 up")?;
        let namespace = fs::File::open(format!("/proc/{pid}/ns/net")).context("open the namespace")?;
        let (send, receive) = channel();
        // A socket stays in the namespace it was made in; the thread that entered it does not come back.
        let thread = std::thread::spawn(move || {
            let entered = move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network));
            let bound =
                entered.context("enter").and_then(|()| TcpListener::bind("192.0.2.2:80").context("bind"));
            send.send(bound).is_ok()
        });
        let listener = receive.recv().context("the thread that binds ended")??;
        ensure!(thread.join().is_ok_and(|sent| sent), "the thread that binds failed");
        Ok(Self { _world: world, listener })
    }
}

#[test]
fn privileged_pods_reach_other_networks_under_the_nodes_address() {
    check(Node::builder(), |node| {
        let outside = Outside::new(node)?;
        let pod = node.run_pod(configs::pod("masqueraded"))?;
        let id =
            node.start(&pod, &configs::script("client", "nc -w 10 192.0.2.2 80 </dev/null; echo done"))?;
        outside.listener.set_nonblocking(true).context("do not block")?;
        let peer = node.until("somebody connects", || match outside.listener.accept() {
            Ok((_, peer)) => Ok(Some(peer)),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error).context("accept"),
        })?;
        assert_eq!(peer.ip().to_string(), "192.0.2.1");
        node.await_end(&id)?;
        node.cleat().world().shell("ip link delete uplink")?;
        Ok(())
    });
}

#[test]
fn privileged_addresses_are_given_back() {
    // Eight addresses: the network's, the broadcast's, the bridge's and five for pods.
    let small = "[network]\nsubnets = [\"10.99.0.0/29\"]\n";
    check(Node::builder().settings(small).limit(Duration::from_secs(180)), |node| {
        for round in 0..3 {
            let pods = (0..5)
                .map(|number| node.run_pod(configs::pod(&format!("pod-{number}"))))
                .collect::<Result<Vec<_>>>()
                .with_context(|| format!("round {round}"))?;
            let mut given: Vec<IpAddr> =
                pods.iter().map(|pod| addresses(node, pod)).collect::<Result<Vec<_>>>()?.concat();
            given.sort();
            given.dedup();
            assert_eq!(given.len(), 5, "{given:?}");
            let before = node.snapshot()?;
            let status = node.cri().run_pod(&configs::pod("one-too-many")).expect_err("no address is left");
            assert!(matches!(status.code(), Code::ResourceExhausted | Code::Internal), "{status:?}");
            assert!(status.message().contains("10.99.0.0/29"), "{status:?}");
            before.leaks(&node.snapshot()?).none()?;
            if round == 1 {
                node.crash_and_restart()?;
                for pod in &pods {
                    assert_eq!(addresses(node, pod)?.len(), 1);
                }
            }
            pods.iter().try_for_each(|pod| node.remove_pod(&pod.id))?;
        }
        Ok(())
    });
}

#[test]
fn privileged_a_stopped_pod_has_no_namespace_and_no_address_in_use() {
    check(Node::builder(), |node| {
        let pod = node.run_pod(configs::pod("stopped"))?;
        let ip = addresses(node, &pod)?[0];
        node.cri().stop_pod(&pod.id)?;
        let snapshot = node.snapshot()?;
        let kept: Vec<String> = snapshot
            .findings()
            .map(ToString::to_string)
            .filter(|line| {
                line.starts_with("namespace ") && line.contains(" kept at ") && line.contains(&pod.id)
            })
            .collect();
        assert_eq!(kept, Vec::<String>::new());
        assert!(node.cleat().world().shell(&format!("! ping -c 1 -W 1 {ip} 2>/dev/null")).is_ok());
        let state = node.cri().pod_status(&pod.id)?.state();
        assert_eq!(state, PodSandboxState::SandboxNotready);
        Ok(())
    });
}

/// A pod whose HTTP server is behind this port of the host.
fn published(name: &str, host_port: i32) -> PodSandboxConfig {
    let mapping = PortMapping { host_port, container_port: 80, ..Default::default() };
    PodSandboxConfig { port_mappings: vec![mapping], ..configs::pod(name) }
}

#[test]
fn privileged_a_port_of_the_host_leads_to_its_pod_also_after_a_crash() {
    check(Node::builder().images(&[BUSYBOX, HTTPD]), |node| {
        let server = node.run_pod(published("published", 8088))?;
        serve(node, &server)?;
        let page = |node: &Node| node.cleat().world().shell("curl --max-time 5 -sS http://127.0.0.1:8088/");
        assert_eq!(page(node)?.trim(), PAGE);
        node.crash_and_restart()?;
        assert_eq!(page(node)?.trim(), PAGE, "after a crash");
        // Whatever makes the rules anew, they are made with the port.
        node.run_pod(configs::pod("another"))?;
        assert_eq!(page(node)?.trim(), PAGE, "after another pod");
        let status = node.cri().run_pod(&published("late", 8088)).expect_err("the port is taken");
        assert!(status.message().contains("host port 8088/tcp"), "{status:?}");
        assert!(status.message().contains(&server.id), "{status:?}");
        node.remove_pod(&server.id)?;
        assert!(page(node).is_err());
        let next = node.run_pod(published("next", 8088))?;
        serve(node, &next)?;
        assert_eq!(page(node)?.trim(), PAGE, "of the next pod");
        Ok(())
    });
}

#[test]
fn privileged_a_node_that_is_given_other_addresses_than_its_pods_get_says_so() {
    check(Node::builder(), |node| {
        let told = |pod_cidr: &str| {
            let network_config = Some(NetworkConfig { pod_cidr: pod_cidr.to_owned() });
            let runtime_config = Some(RuntimeConfig { network_config });
            node.cri().update_runtime_config(UpdateRuntimeConfigRequest { runtime_config })
        };
        told("").context("a kubelet that knows of no range")?;
        told("10.213.0.0/16,fdc4:8c1e:a7d5::/64").context("the ranges of the built-in network")?;
        let status = told("10.213.0.0/16,fd00:1::/64").err().context("other ranges were taken")?;
        assert_eq!(status.code(), Code::FailedPrecondition, "{status:?}");
        ensure!(status.message().contains("fd00:1::/64"), "{status:?}");
        ensure!(status.message().contains("network.subnets"), "{status:?}");
        assert_eq!(told("10.213.0.0").err().context("nonsense was taken")?.code(), Code::InvalidArgument);

        let crictl = node.cleat().crictl()?;
        crictl.run(&["update-runtime-config", "--pod-cidr", "10.213.0.0/16"])?;
        Ok(())
    });
}
