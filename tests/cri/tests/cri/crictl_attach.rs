//! `crictl attach`, over SPDY and over WebSocket.

use anyhow::{Context, Result};
use cleat_tests_cri::{Node, check, configs};

use crate::crictl_exec::{LIMIT, TRANSPORTS};

#[test]
fn privileged_crictl_attach_carries_input_and_both_outputs() {
    check(Node::builder(), |node| {
        let crictl = node.cleat().crictl()?;
        for (number, transport) in TRANSPORTS.into_iter().enumerate() {
            let pod = node.run_pod(configs::pod(transport))?;
            let script =
                "echo up; while read line; do echo out $line; echo err $line >&2; done; echo over; exit 4";
            let mut config = configs::script("reader", script);
            (config.stdin, config.stdin_once) = (true, true);
            let id = node.start(&pod, &config)?;
            node.await_log(&id, "up")?;
            let mut client = crictl.spawn(&["attach", "-r", transport, "-i", &id])?;
            client.write(b"one\n")?;
            node.await_log(&id, "err one")?;
            client.write(b"two\n")?;
            // The end of its input is the container's, once: it ends, and the client with it.
            let output = client.finish(LIMIT)?;
            let errors = String::from_utf8_lossy(&output.stderr);
            assert_eq!(String::from_utf8_lossy(&output.stdout), "out one\nout two\nover\n", "{errors}");
            assert!(errors.contains("err one\nerr two\n"), "{transport}: {errors}");
            let status = node.await_end(&id)?;
            assert_eq!(status.exit_code, 4, "{number} {transport}");
            let log = node.await_log(&id, "over")?;
            for words in ["out one", "err one", "out two", "err two"] {
                assert!(log.contains(words), "no {words:?} in {log}");
            }
        }
        Ok(())
    });
}

#[test]
fn privileged_crictl_attach_shows_what_comes_and_several_may_watch() {
    check(Node::builder(), |node| {
        let (crictl, pod) = (node.cleat().crictl()?, node.run_pod(configs::pod("watch"))?);
        let script = "echo before; mkfifo /tmp/go; read go </tmp/go; seq 1 20000; exit 0";
        let id = node.start(&pod, &configs::script("printer", script))?;
        node.await_log(&id, "before")?;
        let clients = TRANSPORTS.map(|transport| crictl.spawn(&["attach", "-r", transport, &id]));
        let clients: Vec<_> = clients.into_iter().collect::<Result<_>>()?;
        attached(node, 2)?;
        node.cri().shell(&id, "echo >/tmp/go")?;
        let expected: String = (1..=20_000).map(|number| format!("{number}\n")).collect();
        for client in clients {
            let output = client.finish(LIMIT)?;
            let errors = String::from_utf8_lossy(&output.stderr);
            assert!(
                String::from_utf8_lossy(&output.stdout) == expected,
                "{} bytes: {errors}",
                output.stdout.len()
            );
            assert!(output.status.success(), "{errors}");
        }
        Ok(())
    });
}

#[test]
fn privileged_a_container_survives_its_attached_clients() {
    check(Node::builder(), |node| {
        let (crictl, pod) = (node.cleat().crictl()?, node.run_pod(configs::pod("survive"))?);
        let mut config = configs::script("reader", "echo up; while read line; do echo out $line; done");
        config.stdin = true;
        let id = node.start(&pod, &config)?;
        node.await_log(&id, "up")?;
        for transport in TRANSPORTS {
            let mut client = crictl.spawn(&["attach", "-r", transport, "-i", &id])?;
            client.write(format!("{transport} one\n").as_bytes())?;
            node.await_log(&id, &format!("out {transport} one"))?;
            client.kill()?;
            attached(node, 0)?;
        }
        let mut client = crictl.spawn(&["attach", "-i", &id])?;
        client.write(b"last\n")?;
        node.await_log(&id, "out last")?;
        node.cri().stop(&id, 0)?;
        client.output(LIMIT)?;
        Ok(())
    });
}

#[test]
fn privileged_crictl_attach_at_a_terminal_has_its_size() {
    check(Node::builder(), |node| {
        let (crictl, pod) = (node.cleat().crictl()?, node.run_pod(configs::pod("terminal"))?);
        for transport in TRANSPORTS {
            let mut config = configs::script(transport, "echo up; exec sh");
            (config.stdin, config.tty) = (true, true);
            let id = node.start(&pod, &config)?;
            node.await_log(&id, "up")?;
            let command = ["attach", "-r", transport, "-i", "-t", &id];
            let mut terminal = crictl.spawn_at_terminal(&command, 33, 99)?;
            terminal.enter("until stty size | grep '33 99'; do sleep 0.1; done; echo seen-$?\r")?;
            terminal.await_text("seen-0", LIMIT)?;
            terminal.resize(41, 121)?;
            terminal.enter("until stty size | grep '41 121'; do sleep 0.1; done; echo seen-$?\r")?;
            terminal.await_text("seen-0", LIMIT)?;
            terminal.enter("exit 3\r")?;
            terminal.wait(LIMIT)?;
            assert_eq!(node.await_end(&id)?.exit_code, 3, "{transport}");
        }
        Ok(())
    });
}

/// Waits until `count` clients are attached: each is a connection to the socket of a monitor, which the daemon's own
/// connections are not, since they are pairs without a name.
fn attached(node: &Node, count: usize) -> Result<()> {
    node.until("the clients are attached", || {
        // Sockets are listed in the network namespace they were made in: the daemon's.
        let list = format!("/proc/{}/net/unix", node.cleat().world().pid());
        let sockets = std::fs::read_to_string(list).context("read the sockets")?;
        // Connected ones have state 03; those that a monitor accepted bear its name.
        let accepted =
            sockets.lines().filter(|line| line.ends_with("/monitor.sock") && line.contains(" 0001 03 "));
        Ok((accepted.count() == count).then_some(()))
    })
}
