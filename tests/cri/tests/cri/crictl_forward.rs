//! `crictl port-forward`, over SPDY and over WebSocket.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::time::Duration;

use anyhow::{Context, Result};
use cleat_test_support::{Client, Crictl};
use cleat_tests_cri::{BUSYBOX, HTTPD, Node, check, configs};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::crictl_exec::TRANSPORTS;
use crate::network::{PAGE, serve};

/// How long one read or write may take.
const IO_LIMIT: Duration = Duration::from_secs(20);

/// Connections at a time.
const CROWD: usize = 24;

/// Starts `crictl port-forward` and waits until it listens.
fn forward(node: &Node, crictl: &Crictl<'_>, transport: &str, pod: &str, ports: &str) -> Result<Client> {
    let client = crictl.spawn(&["port-forward", "-r", transport, pod, ports])?;
    let local: u16 = ports.split(':').next().and_then(|port| port.parse().ok()).context("a local port")?;
    let listening = format!(":{local:04X} ");
    node.until("crictl listens", || {
        let sockets = fs::read_to_string(format!("/proc/{}/net/tcp", node.cleat().world().pid()))
            .context("read the sockets")?;
        Ok(sockets.lines().any(|line| line.contains(&listening) && line.contains(" 0A ")).then_some(()))
    })?;
    Ok(client)
}

/// A connection made inside the node's namespace, on a thread that ends there.
fn connect(node: &Node, port: u16) -> Result<TcpStream> {
    let path = format!("/proc/{}/ns/net", node.cleat().world().pid());
    let namespace = fs::File::open(path).context("open the namespace")?;
    let thread = std::thread::spawn(move || {
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
            .context("enter the namespace")?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        TcpStream::connect_timeout(&address, IO_LIMIT).context("connect")
    });
    let stream = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
    stream.set_read_timeout(Some(IO_LIMIT)).context("limit reads")?;
    stream.set_write_timeout(Some(IO_LIMIT)).context("limit writes")?;
    Ok(stream)
}

/// Fetches the server's page over one connection.
fn fetch(mut stream: TcpStream) -> Result<String> {
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").context("send a request")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).context("read the answer")?;
    Ok(answer.lines().last().unwrap_or_default().to_owned())
}

#[test]
fn privileged_crictl_port_forward_serves_a_crowd_and_outlives_broken_connections() {
    check(Node::builder().images(&[BUSYBOX, HTTPD]), |node| {
        let (crictl, pod) = (node.cleat().crictl()?, node.run_pod(configs::pod("forward"))?);
        serve(node, &pod)?;
        for (transport, local) in TRANSPORTS.into_iter().zip([18_080_u16, 18_081]) {
            let client = forward(node, &crictl, transport, &pod.id, &format!("{local}:80"))?;
            assert_eq!(fetch(connect(node, local)?)?, PAGE, "{transport}");
            let streams = (0..CROWD).map(|_| connect(node, local)).collect::<Result<Vec<_>>>()?;
            let pages = std::thread::scope(|scope| {
                let fetching: Vec<_> = streams.into_iter().map(|each| scope.spawn(|| fetch(each))).collect();
                let join = |thread: std::thread::ScopedJoinHandle<'_, _>| {
                    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
                };
                fetching.into_iter().map(join).collect::<Result<Vec<_>>>()
            })?;
            assert!(pages.iter().all(|page| page == PAGE), "{transport}: {pages:?}");
            let mut broken = connect(node, local)?;
            broken.write_all(b"GET / HT").context("send half a request")?;
            // Closed with bytes unread by anybody: a reset.
            drop(broken);
            assert_eq!(fetch(connect(node, local)?)?, PAGE, "{transport}, after a broken connection");
            client.kill()?;
        }
        Ok(())
    });
}

#[test]
fn privileged_crictl_port_forward_closes_a_connection_nobody_listens_for_and_no_other() {
    check(Node::builder(), |node| {
        // An echo on IPv6 alone: the other loopback is tried first.
        let mut config = configs::pod("forward");
        configs::pod_linux(&mut config).sysctls.insert("net.ipv6.bindv6only".to_owned(), "1".to_owned());
        let (crictl, pod) = (node.cleat().crictl()?, node.run_pod(config)?);
        let script = "exec nc -ll -p 7 -e cat";
        let id = node.start(&pod, &configs::script("echo", script))?;
        node.until("the echo listens", || {
            let sockets = node.cri().shell(&id, "cat /proc/net/tcp6")?;
            Ok(sockets.lines().any(|line| line.contains(":0007 ") && line.contains(" 0A ")).then_some(()))
        })?;
        let client = crictl.spawn(&["port-forward", &pod.id, "17007:7", "17008:8"])?;
        let mut open = node.until("crictl listens", || Ok(connect(node, 17_007).ok()))?;
        let mut refused = connect(node, 17_008)?;
        let mut nothing = Vec::new();
        // Its end, by whatever name: no byte comes.
        assert!(refused.read_to_end(&mut nothing).is_err() || nothing.is_empty(), "{nothing:?}");
        let mut echoed = [0; 5];
        open.write_all(b"hello").context("write")?;
        open.read_exact(&mut echoed).context("read")?;
        assert_eq!(&echoed, b"hello");
        client.kill()
    });
}
