//! ExecSync.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use cleat_cri_api::v1::*;
use cleat_tests_cri::{Node, check, configs};
use tonic::Code;

/// What is kept of an output by default: what leaves room for the rest of an answer of 16 MiB.
const KEPT_BYTES: usize = (16 << 20) - 4096;

#[test]
fn privileged_an_exec_tells_code_and_both_streams() {
    check(Node::builder(), |node| {
        let pod = node.run_pod(configs::pod("exec"))?;
        let id = node.start(&pod, &configs::sleeper("target"))?;
        let run = |script: &str| node.cri().exec_in(&id, &["sh", "-c", script], 10);
        let answer = run("echo out; echo err >&2; exit 5")?;
        assert_eq!((&*answer.stdout, &*answer.stderr, answer.exit_code), (&b"out\n"[..], &b"err\n"[..], 5));
        let answer = run("kill -9 $$")?;
        assert_eq!(answer.exit_code, 137);
        let answer = run("readlink /proc/self/fd/0; cat; ls /proc/self/fd")?;
        // The fourth is the folder that ls itself reads.
        assert_eq!(String::from_utf8_lossy(&answer.stdout), "/dev/null\n0\n1\n2\n3\n");
        Ok(())
    });
}

#[test]
fn privileged_an_exec_is_the_user_of_the_container_in_its_folder_with_its_privileges() {
    check(Node::builder(), |node| {
        let pod = node.run_pod(configs::pod("exec"))?;
        let mut config = configs::sleeper("target");
        config.envs = vec![configs::env("GIVEN", "value")];
        config.working_dir = "/tmp".to_owned();
        let security = configs::security(&mut config);
        security.run_as_user = Some(Int64Value { value: 1000 });
        security.supplemental_groups = vec![4242];
        security.no_new_privs = true;
        security.seccomp = Some(configs::profile(security_profile::ProfileType::RuntimeDefault, ""));
        let id = node.start(&pod, &config)?;
        let look = "id -u; id -G; pwd; echo $GIVEN; grep -E '^(Cap|NoNew|Seccomp:)' /proc/self/status; \
                    cat /proc/self/cgroup";
        let told = node.cri().shell(&id, look)?;
        let lines: Vec<&str> = told.lines().take(4).collect();
        assert_eq!(lines, ["1000", "0 4242", "/tmp", "value"]);
        for expected in
            ["CapEff:\t0000000000000000", "CapInh:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"]
        {
            assert!(told.contains(expected), "no {expected:?} in {told}");
        }
        Ok(())
    });
}

#[test]
fn privileged_a_limit_ends_an_exec_and_everything_it_started() {
    check(Node::builder(), |node| {
        let pod = node.run_pod(configs::pod("exec"))?;
        let id = node.start(&pod, &configs::sleeper("target"))?;
        let begun = Instant::now();
        let tree = "setsid sleep 4321 & sh -c 'sleep 4321 & sleep 4321' & trap '' TERM; sleep 4321";
        let status = node.cri().exec_in(&id, &["sh", "-c", tree], 1).expect_err("it outlives its limit");
        assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
        assert!(status.message().contains("took longer"), "{status:?}");
        let took = begun.elapsed();
        assert!(took >= Duration::from_secs(1) && took < Duration::from_secs(4), "{took:?}");
        assert!(node.cri().processes(&id, "sleep 4321")?.is_empty());
        assert_eq!(node.cri().container(&id)?.state(), ContainerState::ContainerRunning);
        Ok(())
    });
}

#[test]
fn privileged_a_process_left_behind_does_not_hold_the_answer() {
    check(Node::builder(), |node| {
        let pod = node.run_pod(configs::pod("exec"))?;
        let id = node.start(&pod, &configs::sleeper("target"))?;
        let begun = Instant::now();
        let answer = node.cri().exec_in(&id, &["sh", "-c", "sleep 30 & echo left"], 20)?;
        assert_eq!((&*answer.stdout, answer.exit_code), (&b"left\n"[..], 0));
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
        Ok(())
    });
}

#[test]
fn privileged_the_end_of_a_long_output_is_kept_and_the_rest_is_told_of() {
    check(Node::builder(), |node| {
        let pod = node.run_pod(configs::pod("exec"))?;
        let id = node.start(&pod, &configs::sleeper("target"))?;
        let exact = node.cri().exec_in(&id, &["head", "-c", "1048577", "/dev/zero"], 20)?;
        assert_eq!((exact.stdout.len(), exact.stderr.len(), exact.exit_code), (1_048_577, 0, 0));
        let before = peak_rss_kb(node)?;
        let flood = "echo first >&2; head -c 67108864 /dev/zero; echo last; exit 3";
        let much = node.cri().exec_in(&id, &["sh", "-c", flood], 30)?;
        assert_eq!(much.exit_code, 3);
        assert!(much.stdout.ends_with(b"\0last\n"));
        let dropped = 67_108_864 + "first\nlast\n".len() - KEPT_BYTES;
        let told = format!("first\ncleatd: the first {dropped} bytes of output were dropped\n");
        assert_eq!(String::from_utf8_lossy(&much.stderr), told);
        assert_eq!(much.stdout.len() + "first\n".len(), KEPT_BYTES);
        let grown = peak_rss_kb(node)?.saturating_sub(before);
        assert!(grown < 80 << 10, "the daemon's peak grew by {grown} KB");
        // crictl accepts answers up to 16 MiB, as the kubelet does.
        let crictl = node.cleat().crictl()?;
        let output =
            crictl.output(&["exec", "-s", &id, "sh", "-c", "head -c 67108864 /dev/zero; echo last"])?;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        // It shows standard error behind standard output, both on its own standard output, a line break after each.
        let end = output.stdout.rsplit(|&byte| byte == 0).next().context("an end")?;
        let end = String::from_utf8_lossy(end);
        assert!(end.starts_with("last\n") && end.contains("\ncleatd: the first "), "{end:?}");
        Ok(())
    });
}

/// The daemon's largest resident set so far.
fn peak_rss_kb(node: &Node) -> Result<u64> {
    let pid = node.cleat().pid().context("the daemon runs")?;
    let status = fs::read_to_string(format!("/proc/{pid}/status")).context("read the daemon's status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("VmHWM")?;
    line.trim().trim_end_matches(" kB").parse().context("VmHWM")
}

#[test]
fn privileged_execs_leave_no_descriptor_process_or_cgroup_behind() {
    check(Node::builder(), |node| {
        let pod = node.run_pod(configs::pod("exec"))?;
        let id = node.start(&pod, &configs::sleeper("target"))?;
        let daemon = node.cleat().pid().context("the daemon runs")?;
        let monitor = parent_of(node.init_pid(&id)?)?;
        let descriptors = |pid: u32| -> Result<usize> {
            Ok(fs::read_dir(format!("/proc/{pid}/fd")).context("list descriptors")?.count())
        };
        node.cri().shell(&id, "true")?;
        let (before, of_daemon, of_monitor) = (node.snapshot()?, descriptors(daemon)?, descriptors(monitor)?);
        for round in 0..100 {
            assert_eq!(node.cri().exec_in(&id, &["true"], 10)?.exit_code, 0, "round {round}");
            if round % 10 == 0 {
                let missing = node.cri().exec_in(&id, &["/no/such/program"], 10);
                assert!(missing.is_err(), "{missing:?}");
            }
        }
        before.leaks(&node.snapshot()?).none()?;
        assert_eq!((descriptors(daemon)?, descriptors(monitor)?), (of_daemon, of_monitor));
        Ok(())
    });
}

/// The parent of a process: a container's init's is its monitor.
fn parent_of(pid: u32) -> Result<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).context("read a process's stat")?;
    let rest = stat.rsplit_once(") ").context("stat")?.1;
    rest.split(' ').nth(1).context("stat")?.parse().context("stat")
}
