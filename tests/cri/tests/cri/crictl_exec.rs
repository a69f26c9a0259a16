//! `crictl exec` with streams: pipes and terminals, over SPDY and over WebSocket.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use cleat_cri_api::v1::*;
use cleat_test_support::Crictl;
use cleat_tests_cri::{Node, check, configs};
use tonic::Code;

/// The protocols crictl speaks.
pub(crate) const TRANSPORTS: [&str; 2] = ["spdy", "websocket"];

/// How long one client may take.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// A container that runs, in a pod of its own.
pub(crate) fn target(node: &Node) -> Result<String> {
    let pod = node.run_pod(configs::pod("exec"))?;
    let id = node.start(&pod, &configs::sleeper("target"))?;
    node.await_log(&id, "up")?;
    Ok(id)
}

/// Waits until a process of the container runs `command`.
fn await_some(node: &Node, id: &str, command: &str) -> Result<()> {
    node.until(command, || Ok((!node.cri().processes(id, command)?.is_empty()).then_some(())))
}

/// Waits until no process of the container runs `command`.
fn await_none(node: &Node, id: &str, command: &str) -> Result<()> {
    node.until("the process has ended", || Ok(node.cri().processes(id, command)?.is_empty().then_some(())))
}

/// Kills the one process of the container that runs `command`.
fn kill(node: &Node, id: &str, command: &str) -> Result<()> {
    let found = node.cri().processes(id, command)?;
    let [pid] = found.as_slice() else { bail!("{command}: {found:?} in place of one process") };
    node.cri().shell(id, &format!("kill {pid}"))?;
    Ok(())
}

#[test]
fn privileged_crictl_exec_carries_both_outputs_and_the_code() {
    check(Node::builder(), |node| {
        let (crictl, id) = (node.cleat().crictl()?, target(node)?);
        for transport in TRANSPORTS {
            let script = "echo out; echo err >&2; exit 7";
            let output = crictl.output(&["exec", "-r", transport, &id, "sh", "-c", script])?;
            let errors = String::from_utf8_lossy(&output.stderr);
            assert_eq!(String::from_utf8_lossy(&output.stdout), "out\n", "{transport}: {errors}");
            assert!(errors.contains("err\n") && errors.contains("exit code 7"), "{transport}: {errors}");
            assert!(!output.status.success(), "{transport}");
            let output = crictl.output(&["exec", "-r", transport, &id, "sh", "-c", "kill -9 $$"])?;
            let errors = String::from_utf8_lossy(&output.stderr);
            assert!(errors.contains("exit code 137"), "{transport}: {errors}");
            let output = crictl.output(&["exec", "-r", transport, &id, "/no/such/program"])?;
            let errors = String::from_utf8_lossy(&output.stderr);
            assert!(!output.status.success() && errors.contains("no/such/program"), "{transport}: {errors}");
        }
        Ok(())
    });
}

#[test]
fn privileged_crictl_exec_carries_input_byte_for_byte_to_its_end() {
    check(Node::builder(), |node| {
        let (crictl, id) = (node.cleat().crictl()?, target(node)?);
        let sent: Vec<u8> =
            (0..50_u32 << 18).flat_map(|word| word.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
        for transport in TRANSPORTS {
            let mut client = crictl.spawn(&["exec", "-r", transport, "-i", &id, "cat"])?;
            let mut input = client.take_stdin().context("its input")?;
            let output = std::thread::scope(|scope| {
                let writer = scope.spawn(|| {
                    let written = std::io::Write::write_all(&mut input, &sent);
                    drop(input);
                    written
                });
                let output = client.output(LIMIT)?;
                let written = writer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
                written.context("write the input")?;
                anyhow::Ok(output)
            })?;
            let errors = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{transport}: {errors}");
            assert_eq!(output.stdout.len(), sent.len(), "{transport}: {errors}");
            assert!(output.stdout == sent, "{transport}: other bytes came back");
        }
        Ok(())
    });
}

#[test]
fn privileged_crictl_exec_at_a_terminal_has_its_size_and_signals() {
    check(Node::builder(), |node| {
        let (crictl, id) = (node.cleat().crictl()?, target(node)?);
        for transport in TRANSPORTS {
            let command = ["exec", "-r", transport, "-i", "-t", &id, "sh"];
            let mut terminal = crictl.spawn_at_terminal(&command, 31, 101)?;
            terminal.enter("tty; echo [$TERM]\r")?;
            terminal.await_text("/dev/pts/0", LIMIT)?;
            terminal.await_text("[xterm]", LIMIT)?;
            // The first size comes right after the start, not with it.
            terminal.enter("until stty size | grep '31 101'; do sleep 0.1; done; echo seen-$?\r")?;
            terminal.await_text("seen-0", LIMIT)?;
            terminal.enter("trap 'stty size; echo resized-' WINCH; echo trap-$?\r")?;
            terminal.await_text("trap-0", LIMIT)?;
            terminal.resize(40, 120)?;
            terminal.enter("until stty size | grep '40 120'; do sleep 0.1; done; echo seen-$?\r")?;
            terminal.await_text("seen-0", LIMIT)?;
            terminal.enter("sleep 4321\r")?;
            await_some(node, &id, "sleep 4321")?;
            terminal.enter("\x03")?;
            await_none(node, &id, "sleep 4321")?;
            terminal.enter("echo interrupted-$?\r")?;
            terminal.await_text("interrupted-130", LIMIT)?;
            terminal.enter("exit 5\r")?;
            terminal.await_text("exit code 5", LIMIT)?;
            assert!(!terminal.wait(LIMIT)?.success(), "{transport}");
        }
        Ok(())
    });
}

#[test]
fn privileged_crictl_exec_does_not_wait_for_what_its_command_left_behind() {
    check(Node::builder(), |node| {
        let (crictl, id) = (node.cleat().crictl()?, target(node)?);
        for transport in TRANSPORTS {
            let script = "sleep 4321 & echo left";
            let output = crictl.spawn(&["exec", "-r", transport, &id, "sh", "-c", script])?.finish(LIMIT)?;
            assert_eq!(String::from_utf8_lossy(&output.stdout), "left\n", "{transport}");
            assert!(output.status.success(), "{transport}");
            // Its shell may have ended before it has become what it is.
            await_some(node, &id, "sleep 4321")?;
            kill(node, &id, "sleep 4321")?;
            await_none(node, &id, "sleep 4321")?;
        }
        Ok(())
    });
}

#[test]
fn privileged_a_client_that_vanishes_closes_the_pipes_and_hangs_up_the_terminal() {
    check(Node::builder(), |node| {
        let (crictl, id) = (node.cleat().crictl()?, target(node)?);
        let daemon = node.cleat().pid().context("the daemon runs")?;
        node.cri().shell(&id, "true")?;
        let (before, descriptors) = (node.snapshot()?, descriptors(daemon)?);
        for transport in TRANSPORTS {
            vanish(node, &crictl, &id, transport)?;
        }
        node.until("the daemon's descriptors are closed", || {
            Ok((self::descriptors(daemon)? <= descriptors).then_some(()))
        })?;
        before.leaks(&node.snapshot()?).none()
    });
}

#[test]
fn privileged_a_hundred_sessions_leave_nothing_behind() {
    check(Node::builder(), |node| {
        let (crictl, id) = (node.cleat().crictl()?, target(node)?);
        let daemon = node.cleat().pid().context("the daemon runs")?;
        let session = |round: usize| crictl.run(&["exec", "-r", TRANSPORTS[round % 2], &id, "echo", "out"]);
        session(0)?;
        let (before, descriptors) = (node.snapshot()?, descriptors(daemon)?);
        for round in 0..100 {
            assert_eq!(session(round)?, "out", "round {round}");
        }
        node.until("the daemon's descriptors are closed", || {
            Ok((self::descriptors(daemon)? <= descriptors).then_some(()))
        })?;
        before.leaks(&node.snapshot()?).none()
    });
}

fn vanish(node: &Node, crictl: &Crictl<'_>, id: &str, transport: &str) -> Result<()> {
    let mut piped = crictl.spawn(&["exec", "-r", transport, "-i", id, "sh", "-c", "cat; sleep 0"])?;
    piped.write(b"line\n")?;
    await_some(node, id, "cat")?;
    piped.kill()?;
    await_none(node, id, "cat")?;
    let mut terminal = crictl.spawn_at_terminal(&["exec", "-r", transport, "-i", "-t", id, "sh"], 24, 80)?;
    terminal.enter("sleep 4321\r")?;
    await_some(node, id, "sleep 4321")?;
    terminal.kill()?;
    await_none(node, id, "sleep 4321")
}

/// How many descriptors a process has.
fn descriptors(pid: u32) -> Result<usize> {
    Ok(fs::read_dir(format!("/proc/{pid}/fd")).context("list descriptors")?.count())
}

#[test]
fn privileged_a_daemon_that_dies_is_a_client_that_vanishes() {
    check(Node::builder(), |node| {
        let id = target(node)?;
        let crictl = node.cleat().crictl()?;
        let mut piped = crictl.spawn(&["exec", "-i", &id, "sh", "-c", "cat; sleep 0"])?;
        piped.write(b"line\n")?;
        let ignorant = "trap '' HUP PIPE; exec sleep 4321";
        let mut other = crictl.spawn(&["exec", &id, "sh", "-c", ignorant])?;
        await_some(node, &id, "cat")?;
        await_some(node, &id, "sleep 4321")?;
        node.cleat_mut().kill()?;
        // Each notices; what it makes of it is its own affair.
        piped.output(LIMIT)?;
        other.output(LIMIT)?;
        node.start_again()?;
        await_none(node, &id, "cat")?;
        // What takes no notice of its streams goes on.
        kill(node, &id, "sleep 4321")?;
        let crictl = node.cleat().crictl()?;
        assert_eq!(crictl.run(&["exec", &id, "echo", "again"])?, "again");
        Ok(())
    });
}

#[test]
fn privileged_exec_and_attach_refuse_what_makes_no_sense() {
    check(Node::builder(), |node| {
        let pod = node.run_pod(configs::pod("refuse"))?;
        let ended = node.run(&pod, &configs::script("ended", "true"))?.status.id;
        let id = node.start(&pod, &configs::sleeper("target"))?;
        let exec = |container_id: &str, cmd: &[&str], tty, stderr| {
            let cmd = cmd.iter().map(ToString::to_string).collect();
            let container_id = container_id.to_owned();
            node.cri().exec(ExecRequest { container_id, cmd, tty, stdin: false, stdout: stderr, stderr })
        };
        let attach = |container_id: &str, tty, stderr| {
            let container_id = container_id.to_owned();
            node.cri().attach(AttachRequest { container_id, tty, stdin: false, stdout: stderr, stderr })
        };
        let port = |pod: &str, port| {
            node.cri().port_forward(PortForwardRequest { pod_sandbox_id: pod.to_owned(), port: vec![port] })
        };
        for (wrong, code, words) in [
            (exec(&id, &["true"], true, true).err(), Code::InvalidArgument, "tty and stderr"),
            (exec(&id, &["true"], false, false).err(), Code::InvalidArgument, "at least one"),
            (exec(&id, &[], false, true).err(), Code::InvalidArgument, "cmd"),
            (exec("", &["true"], false, true).err(), Code::InvalidArgument, "container_id"),
            (exec("nobody", &["true"], false, true).err(), Code::NotFound, "nobody"),
            (exec(&ended, &["true"], false, true).err(), Code::FailedPrecondition, "exited"),
            (attach(&id, true, true).err(), Code::InvalidArgument, "tty and stderr"),
            (attach(&id, false, false).err(), Code::InvalidArgument, "at least one"),
            (attach("nobody", false, true).err(), Code::NotFound, "nobody"),
            (attach(&ended, false, true).err(), Code::FailedPrecondition, "exited"),
            (port(&pod.id, 65_536).err(), Code::InvalidArgument, "1 to 65535"),
            (port("nobody", 80).err(), Code::NotFound, "nobody"),
        ] {
            let status = wrong.with_context(|| format!("{words:?} was answered OK"))?;
            assert_eq!(status.code(), code, "{status:?}");
            assert!(status.message().contains(words), "{words:?}: {status:?}");
        }
        node.cri().stop_pod(&pod.id)?;
        let status = port(&pod.id, 80).err().context("a stopped pod has no ports")?;
        assert_eq!(status.code(), Code::FailedPrecondition, "{status:?}");
        Ok(())
    });
}
