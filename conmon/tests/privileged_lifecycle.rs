//! A container's way from launch to record, as its daemon sees it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod harness;

use std::fs;
use std::time::Duration;

use cleat_conmon_proto::{ExitStatus, Message, Request};
use harness::{Bundle, Fixture, eventually, launch_of, sealed_monitor, spawn_monitor};
use serde_json::json;

fn now_ns() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    i64::try_from(now.as_nanos()).unwrap()
}

#[test]
fn privileged_an_exit_is_recorded_then_told() {
    let before = now_ns();
    let mut fixture = Fixture::start("sleep 0.3; exit 7");
    let record = fixture.client.expect_exited();
    assert_eq!(fixture.record().as_ref(), Some(&record), "on disk before it is told");
    assert_eq!((record.id.as_str(), record.pid), (fixture.bundle.id.as_str(), fixture.pid));
    assert_eq!((record.status, record.oom_killed), (ExitStatus::Exited(7), false));
    assert!(before < record.started_at_ns && record.started_at_ns + 50_000_000 <= record.finished_at_ns);
    assert!(record.finished_at_ns < now_ns());
    assert!(fixture.client.receive().is_none(), "the monitor ends after it has told");
    assert!(fixture.wait_monitor().success());
    fixture.assert_nothing_left();
    assert_eq!(fixture.complaints(), "");
}

#[test]
fn privileged_a_signal_is_recorded_as_one() {
    let fixture = Fixture::start("sleep 100");
    fixture.cgroup().kill().unwrap();
    assert_eq!(fixture.client.expect_exited().status, ExitStatus::Signaled(9));
}

#[test]
fn privileged_programs_that_cannot_be_executed_end_as_in_a_shell() {
    for (program, errno, code) in [("/bin/missing", 2, 127), ("/etc", 13, 126)] {
        let bundle = Bundle::new("").with("/process/args", json!([program]));
        let mut fixture = Fixture::launch(bundle, |_| {});
        assert_eq!(fixture.client.ask_failed(&Request::Start).errno, Some(errno), "{program}");
        let record = fixture.client.expect_exited();
        assert_eq!((record.status, record.started_at_ns), (ExitStatus::Exited(code), 0), "{program}");
        assert_eq!(fixture.record(), Some(record));
        fixture.assert_nothing_left();
    }
}

#[test]
fn privileged_an_end_before_the_start_is_recorded() {
    let mut fixture = Fixture::create("echo never");
    fixture.cgroup().kill().unwrap();
    let record = fixture.client.expect_exited();
    assert_eq!((record.status, record.started_at_ns), (ExitStatus::Signaled(9), 0));
    assert!(fixture.log().is_empty());
    fixture.assert_nothing_left();
}

#[test]
fn privileged_a_container_starts_once() {
    let fixture = Fixture::start("sleep 100");
    assert!(fixture.client.ask_failed(&Request::Start).reason.contains("started before"));
}

#[test]
fn privileged_the_container_outlives_its_daemon() {
    let mut fixture = Fixture::start("sleep 0.3; exit 3");
    fixture.hang_up();
    let later = fixture.connect();
    later.send(&Request::Watch);
    assert_eq!(later.expect_exited().status, ExitStatus::Exited(3));
    fixture.assert_nothing_left();
    assert_eq!(fixture.record().unwrap().status, ExitStatus::Exited(3));
}

#[test]
fn privileged_sigterm_is_not_for_the_monitor() {
    let mut fixture = Fixture::start("sleep 0.2; exit 4");
    let monitor = rustix::process::Pid::from_raw(fixture.monitor.id().cast_signed()).unwrap();
    rustix::process::kill_process(monitor, rustix::process::Signal::TERM).unwrap();
    assert_eq!(fixture.client.expect_exited().status, ExitStatus::Exited(4));
    assert!(fixture.wait_monitor().success());
}

/// What the container's program itself writes, without a shell that changes what it inherits.
fn output_of(arguments: &[&str]) -> String {
    let bundle =
        Bundle::new("").with("/process/args", json!(arguments)).with("/process/oomScoreAdj", json!(500));
    let fixture = Fixture::launch(bundle, |_| {});
    fixture.client.ask_done(&Request::Start);
    assert_eq!(fixture.client.expect_exited().status, ExitStatus::Exited(0));
    let log = String::from_utf8(fixture.log()).unwrap();
    log.lines().map(|line| format!("{}\n", line.splitn(4, ' ').nth(3).unwrap())).collect()
}

#[test]
fn privileged_the_program_inherits_nothing_of_the_monitor() {
    let status = output_of(&["/bin/busybox", "cat", "/proc/self/status"]);
    for field in ["SigBlk:\t", "SigIgn:\t"] {
        let mask = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
        let standard_signals = u64::from_str_radix(mask, 16).unwrap() & 0x7fff_ffff;
        assert_eq!(standard_signals, 0, "{field}{mask}");
    }
    assert_eq!(output_of(&["/bin/busybox", "cat", "/proc/self/oom_score_adj"]), "500\n");
    // The fourth is the folder that is listed.
    assert_eq!(output_of(&["/bin/busybox", "ls", "/proc/self/fd"]), "0\n1\n2\n3\n");
}

#[test]
fn privileged_what_the_container_left_ends_with_it() {
    // Without a pid namespace the kernel does not see to it.
    let bundle = Bundle::new("sleep 1000 & setsid sleep 1000 & exit 0").without_namespace("pid");
    let mut fixture = Fixture::launch(bundle, |_| {});
    fixture.client.ask_done(&Request::Start);
    let record = fixture.client.expect_exited();
    assert_eq!(record.status, ExitStatus::Exited(0));
    fixture.assert_nothing_left();
    assert_eq!(fixture.complaints(), "");
}

#[test]
fn privileged_a_launch_that_fails_leaves_nothing() {
    type Change = fn(&mut cleat_conmon_proto::Launch);
    let refused: [(&str, Change); 4] = [
        ("version", |launch| launch.version += 1),
        ("absolute", |launch| launch.bundle = "bundle".into()),
        ("state folder", |launch| launch.state_dir = "/nonexistent".into()),
        ("config.json", |launch| launch.bundle = "/nonexistent".into()),
    ];
    for (reason, change) in refused {
        let (mut fixture, answer) = Fixture::try_launch(Bundle::new(""), change);
        let Message::Failed(failure) = answer else { panic!("{reason}: {answer:?}") };
        assert!(failure.to_string().contains(reason), "{reason}: {failure}");
        assert!(!fixture.wait_monitor().success());
        fixture.assert_nothing_left();
    }
}

#[test]
fn privileged_a_daemon_that_dies_before_the_launch_leaves_no_monitor() {
    let folder = tempfile::tempdir().unwrap();
    let (mut monitor, client) = spawn_monitor(&sealed_monitor(), &folder.path().join("complaints"));
    drop(client);
    eventually("the monitor ends", || monitor.try_wait().unwrap().is_some());
}

#[test]
fn privileged_a_container_that_nobody_will_start_ends() {
    for has_been_told in [true, false] {
        let mut fixture = if has_been_told {
            Fixture::create("echo it ran")
        } else {
            Fixture::abandon(Bundle::new("echo it ran"))
        };
        fixture.hang_up();
        fixture.assert_nothing_left();
        let record = fixture.record().unwrap();
        assert_eq!((record.status, record.started_at_ns), (ExitStatus::Signaled(9), 0));
        assert!(fixture.log().is_empty());
    }
}

#[test]
fn privileged_a_record_that_cannot_be_written_is_not_lost() {
    let mut fixture = Fixture::start("sleep 0.1; exit 9");
    // A folder in the draft's place: the only way to keep root from writing there.
    let obstacle = fixture.bundle.state_dir().join("exit.json.draft");
    fs::create_dir(&obstacle).unwrap();
    let record = fixture.client.expect_exited();
    assert_eq!(fixture.record(), None);
    let late = fixture.connect();
    late.send(&Request::Watch);
    assert_eq!(late.expect_exited(), record, "the monitor stays to tell");
    fs::remove_dir(&obstacle).unwrap();
    fixture.assert_nothing_left();
    assert_eq!(fixture.record(), Some(record));
    assert!(fixture.complaints().contains("save exit record"));
}

#[test]
fn privileged_output_held_from_outside_does_not_hold_the_exit() {
    let mut fixture = Fixture::start("sleep 0.2");
    // A process elsewhere that has the container's output open.
    let held = fs::OpenOptions::new().write(true).open(format!("/proc/{}/fd/1", fixture.pid)).unwrap();
    let started = std::time::Instant::now();
    assert_eq!(fixture.client.expect_exited().status, ExitStatus::Exited(0));
    assert!(started.elapsed() < Duration::from_secs(5));
    drop(held);
    fixture.assert_nothing_left();
    assert!(fixture.complaints().contains("outlast"));
}

#[test]
fn privileged_the_launch_reads_no_further_than_its_frame() {
    let bundle = Bundle::new("exit 5");
    bundle.write();
    let (monitor, client) = spawn_monitor(&sealed_monitor(), &bundle.path().join("complaints"));
    let mut fixture = Fixture { bundle, monitor, client, pid: 0 };
    fixture.client.send(&launch_of(&fixture.bundle));
    fixture.client.send(&Request::Start);
    assert!(matches!(fixture.client.expect(), Message::Created { .. }));
    assert_eq!(fixture.client.expect(), Message::Done);
    assert_eq!(fixture.client.expect_exited().status, ExitStatus::Exited(5));
    fixture.assert_nothing_left();
}

/// A hook that notes its point and the status it is told, and exits with a code.
fn hook(bundle: &Bundle, point: &str, code: u8) -> serde_json::Value {
    let told = bundle.path().join("told");
    let script = format!(
        "read -r state; case $state in *'\"status\":\"running\"'*) s=running;; *'\"status\":\"stopped\"'*) s=stopped;; esac
         echo {point} $s >> {}; exit {code}",
        told.display()
    );
    json!([{ "path": "/bin/sh", "args": ["sh", "-c", script] }])
}

fn told(fixture: &Fixture) -> String {
    fs::read_to_string(fixture.bundle.path().join("told")).unwrap_or_default()
}

#[test]
fn privileged_hooks_run_after_the_start_and_after_the_end() {
    let bundle = Bundle::new("sleep 100");
    let hooks =
        json!({ "poststart": hook(&bundle, "poststart", 0), "poststop": hook(&bundle, "poststop", 0) });
    let mut fixture = Fixture::launch(bundle.with("/hooks", hooks), |_| {});
    assert_eq!(told(&fixture), "");
    fixture.client.ask_done(&Request::Start);
    assert_eq!(told(&fixture), "poststart running\n", "before the start is answered");
    fixture.cgroup().kill().unwrap();
    assert_eq!(fixture.client.expect_exited().status, ExitStatus::Signaled(9));
    assert!(fixture.wait_monitor().success());
    assert_eq!(told(&fixture), "poststart running\npoststop stopped\n");
    fixture.assert_nothing_left();
    assert_eq!(fixture.complaints(), "");
}

#[test]
fn privileged_a_start_fails_with_its_hook() {
    let bundle = Bundle::new("sleep 100");
    let hooks =
        json!({ "poststart": hook(&bundle, "poststart", 3), "poststop": hook(&bundle, "poststop", 4) });
    let mut fixture = Fixture::launch(bundle.with("/hooks", hooks), |_| {});
    let failure = fixture.client.ask_failed(&Request::Start);
    assert!(failure.reason.contains("exit code 3"), "{failure:?}");
    assert_eq!(fixture.client.expect_exited().status, ExitStatus::Signaled(9));
    assert!(fixture.wait_monitor().success());
    assert_eq!(told(&fixture), "poststart running\npoststop stopped\n");
    assert!(fixture.complaints().contains("exit code 4"), "{}", fixture.complaints());
    fixture.assert_nothing_left();
}

#[test]
fn privileged_what_was_never_made_has_stopped_for_its_hooks() {
    let bundle = Bundle::new("true");
    let hooks =
        json!({ "createRuntime": hook(&bundle, "create", 5), "poststop": hook(&bundle, "poststop", 0) });
    let (mut fixture, answer) = Fixture::try_launch(bundle.with("/hooks", hooks), |_| {});
    assert!(
        matches!(&answer, Message::Failed(failure) if failure.reason.contains("exit code 5")),
        "{answer:?}"
    );
    assert!(!fixture.wait_monitor().success());
    assert!(told(&fixture).ends_with("poststop stopped\n"), "{}", told(&fixture));
}
