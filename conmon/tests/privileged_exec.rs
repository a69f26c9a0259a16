//! Further processes in a container.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod harness;

use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};

use cleat_conmon_proto::{Exec, ExecStdio, ExitStatus, Message, Request};
use harness::{Fixture, borrow, eventually, exec_request, null_streams, pipe, process};

/// Runs `script` to its end: what it wrote to standard output and error, and how it ended.
fn run(fixture: &Fixture, id: &str, script: &str) -> (Vec<u8>, Vec<u8>, ExitStatus) {
    let client = fixture.connect();
    let [input, _, _] = null_streams();
    let ((mut output, output_end), (mut error, error_end)) = (pipe(), pipe());
    client.exec(id, script, [input.as_fd(), output_end.as_fd(), error_end.as_fd()], true);
    drop((output_end, error_end));
    let (mut out, mut err) = (Vec::new(), Vec::new());
    output.read_to_end(&mut out).unwrap();
    error.read_to_end(&mut err).unwrap();
    (out, err, client.expect_exec_exited())
}

#[test]
fn privileged_output_and_status_reach_the_client() {
    let fixture = Fixture::start("sleep 100");
    let (out, err, status) = run(&fixture, "one", "printf 'a\\000b'; echo c >&2; exit 42");
    assert_eq!(
        (out.as_slice(), err.as_slice(), status),
        (b"a\0b".as_slice(), b"c\n".as_slice(), ExitStatus::Exited(42))
    );
    assert_eq!(run(&fixture, "two", "kill -9 $$").2, ExitStatus::Signaled(9));
    assert!(fixture.log().is_empty(), "an exec is not logged");
}

#[test]
fn privileged_input_reaches_the_process() {
    let fixture = Fixture::start("sleep 100");
    let client = fixture.connect();
    let (input_end, input) = pipe();
    let (mut output, output_end) = pipe();
    client.exec("cat", "cat", [input_end.as_fd(), output_end.as_fd(), output_end.as_fd()], true);
    drop((input_end, output_end));
    rustix::io::write(&input, b"hello").unwrap();
    drop(input);
    let mut text = String::new();
    output.read_to_string(&mut text).unwrap();
    assert_eq!((text.as_str(), client.expect_exec_exited()), ("hello", ExitStatus::Exited(0)));
}

#[test]
fn privileged_execs_that_cannot_be_are_refused_and_leave_no_descriptor() {
    let fixture = Fixture::start("sleep 100");
    let client = fixture.connect();
    client.ask_done(&Request::ReopenLog);
    let before = fixture.descriptors();
    let streams = null_streams();
    let all = borrow(&streams);
    let requests: [(Request, &[_]); 5] = [
        (exec_request("none", "true", false), &[]),
        (exec_request("two", "true", false), &all[..2]),
        (exec_request("four", "true", false), &[all[0], all[1], all[2], all[0]]),
        (exec_request("Bad/Id", "true", false), &all),
        (Request::ReopenLog, &all[..1]),
    ];
    for (request, descriptors) in requests {
        client.send_with(&request, descriptors);
        assert!(matches!(client.expect(), Message::Failed(_)), "{request:?}");
    }
    assert!(matches!(client.ask(&Request::KillExec), Message::Failed(_)), "none to kill");
    assert_eq!(fixture.descriptors(), before);
    client.exec("good", "true", all, false);
    assert_eq!(client.expect_exec_exited(), ExitStatus::Exited(0), "the connection is still of use");
}

#[test]
fn privileged_a_missing_program_is_told_with_its_number() {
    let fixture = Fixture::start("sleep 100");
    let client = fixture.connect();
    let mut process = process("");
    process["args"] = serde_json::json!(["/bin/missing"]);
    let exec = Exec {
        id: "missing".into(),
        process: process.to_string(),
        stdio: ExecStdio::Descriptors,
        kill_on_disconnect: false,
    };
    client.send_with(&Request::Exec(exec), &borrow(&null_streams()));
    let Message::Failed(failure) = client.expect() else { panic!("should have failed") };
    assert_eq!(failure.errno, Some(2));
}

#[test]
fn privileged_a_kill_takes_everything_the_exec_started() {
    let fixture = Fixture::start("sleep 100");
    let client = fixture.connect();
    let (mut output, output_end) = pipe();
    let [input, error, _] = null_streams();
    let script = "sleep 1000 & setsid sleep 1000 & echo ready; wait";
    client.exec("tree", script, [input.as_fd(), output_end.as_fd(), error.as_fd()], false);
    drop(output_end);
    let mut ready = [0; 6];
    output.read_exact(&mut ready).unwrap();
    client.send(&Request::KillExec);
    assert_eq!(client.expect_exec_exited(), ExitStatus::Signaled(9));
    // Every one of them held the pipe.
    assert_eq!(output.read(&mut [0; 1]).unwrap(), 0);
    eventually("init is alone", || fixture.cgroup().processes().unwrap() == [fixture.pid]);
}

#[test]
fn privileged_a_probe_ends_with_its_client_and_others_go_on() {
    let fixture = Fixture::start("sleep 100");
    let alone = fixture.descriptors();
    for (id, kill_on_disconnect) in [("probe", true), ("work", false)] {
        let client = fixture.connect();
        // Init, a sleep in the background, and one that takes the shell's place.
        client.exec(id, "sleep 1000 & exec sleep 1001", borrow(&null_streams()), kill_on_disconnect);
        eventually("both run", || fixture.cgroup().processes().unwrap().len() == 3);
        drop(client);
        let ask = fixture.connect();
        ask.ask_done(&Request::ReopenLog);
        if kill_on_disconnect {
            eventually("the probe is gone", || fixture.cgroup().processes().unwrap() == [fixture.pid]);
        } else {
            // The monitor has seen the client leave: it holds one connection less than while both were there.
            eventually("the client is gone", || fixture.descriptors() == alone + 1);
            assert_eq!(fixture.cgroup().processes().unwrap().len(), 3);
        }
    }
}

#[test]
fn privileged_what_an_exec_leaves_goes_on_and_is_forgotten_later() {
    let fixture = Fixture::start("sleep 100");
    let folders = || {
        let folder = fixture.cgroup().v2_dir().unwrap();
        std::fs::read_dir(folder).unwrap().filter(|entry| entry.as_ref().unwrap().path().is_dir()).count()
    };
    let client = fixture.connect();
    client.exec("daemon", "setsid sleep 1000 & exit 0", borrow(&null_streams()), true);
    assert_eq!(client.expect_exec_exited(), ExitStatus::Exited(0));
    drop(client);
    run(&fixture, "another", "true");
    assert_eq!(folders(), 1, "the cgroup of the one that left something");
    let left: Vec<i32> =
        fixture.cgroup().processes().unwrap().into_iter().filter(|pid| *pid != fixture.pid).collect();
    assert_eq!(left.len(), 1);
    let pid = rustix::process::Pid::from_raw(left[0]).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    eventually("it has ended", || fixture.cgroup().processes().unwrap() == [fixture.pid]);
    run(&fixture, "last", "true");
    assert_eq!(folders(), 0);
}

#[test]
fn privileged_a_terminal_of_its_own() {
    let fixture = Fixture::start("sleep 100");
    let client = fixture.connect();
    let mut process = process("stty size; read line; echo got $line");
    process["terminal"] = true.into();
    let exec = Exec {
        id: "tty".into(),
        process: process.to_string(),
        stdio: ExecStdio::Terminal { height: 40, width: 100 },
        kill_on_disconnect: true,
    };
    client.send(&Request::Exec(exec));
    let (answer, mut descriptors) = client.receive().unwrap();
    assert!(matches!(answer, Message::Created { .. }), "{answer:?}");
    assert_eq!(descriptors.len(), 1);
    let master: OwnedFd = descriptors.pop().unwrap();
    rustix::io::write(&master, b"hi\n").unwrap();
    assert_eq!(client.expect_exec_exited(), ExitStatus::Exited(0));
    let mut text = Vec::new();
    let mut buffer = [0_u8; 1024];
    while let Ok(bytes @ 1..) = rustix::io::read(&master, &mut buffer) {
        text.extend_from_slice(&buffer[..bytes]);
    }
    let text = String::from_utf8(text).unwrap();
    assert!(text.contains("40 100\r\n") && text.contains("got hi\r\n"), "{text:?}");
}

#[test]
fn privileged_two_hundred_execs_cost_the_monitor_nothing() {
    let fixture = Fixture::start("sleep 100");
    let alone = fixture.descriptors();
    let run_some = |round: usize, count: usize| {
        for number in 0..count {
            let (out, _, status) = run(&fixture, &format!("e{round}-{number}"), "echo x");
            assert_eq!((out.as_slice(), status), (b"x\n".as_slice(), ExitStatus::Exited(0)));
        }
    };
    let kib_when_settled = || {
        eventually("all clients are gone", || fixture.descriptors() == alone);
        fixture.private_kib()
    };
    run_some(0, 20);
    let before = kib_when_settled();
    run_some(1, 200);
    let after = kib_when_settled();
    assert!(after <= before + 8, "{before} KiB before, {after} KiB after");
    eventually("their cgroups are gone", || {
        let folder = fixture.cgroup().v2_dir().unwrap();
        std::fs::read_dir(folder).unwrap().filter(|entry| entry.as_ref().unwrap().path().is_dir()).count()
            == 0
    });
}

#[test]
fn privileged_a_large_request_is_not_kept() {
    let fixture = Fixture::start("sleep 100");
    let kib = fixture.private_kib();
    let client = fixture.connect();
    let mut process = process("true");
    process["env"] = serde_json::json!([format!("PATH=/bin"), format!("X={}", "x".repeat(3 << 20))]);
    for number in 0..3 {
        let exec = Exec {
            id: format!("large-{number}"),
            process: process.to_string(),
            stdio: ExecStdio::Descriptors,
            kill_on_disconnect: false,
        };
        client.send_with(&Request::Exec(exec), &borrow(&null_streams()));
        // One argument of more than 128 KiB is refused by execve(2): E2BIG.
        assert!(matches!(client.expect(), Message::Failed(_)));
    }
    drop(client);
    eventually("the memory is given back", || fixture.private_kib() <= kib + 64);
}

#[test]
fn privileged_execs_end_with_the_container() {
    let mut fixture = Fixture::start("sleep 0.5");
    let client = fixture.connect();
    client.exec("long", "sleep 1000", borrow(&null_streams()), false);
    assert_eq!(client.expect_exec_exited(), ExitStatus::Signaled(9));
    assert_eq!(fixture.client.expect_exited().status, ExitStatus::Exited(0));
    fixture.assert_nothing_left();
    assert_eq!(fixture.complaints(), "");
}

#[test]
fn privileged_many_clients_at_once() {
    let fixture = Fixture::start("sleep 100");
    std::thread::scope(|scope| {
        for worker in 0..8 {
            let fixture = &fixture;
            scope.spawn(move || {
                for number in 0..10 {
                    let expected = format!("{worker}-{number}");
                    let (out, _, status) =
                        run(fixture, &format!("w{expected}"), &format!("printf {expected}"));
                    assert_eq!((String::from_utf8(out).unwrap(), status), (expected, ExitStatus::Exited(0)));
                }
            });
        }
    });
}

#[test]
fn privileged_one_exec_at_a_time_on_a_connection() {
    let fixture = Fixture::start("sleep 100");
    let client = fixture.connect();
    let streams = null_streams();
    client.exec("first", "sleep 1000", borrow(&streams), false);
    client.send_with(&exec_request("second", "true", false), &borrow(&streams));
    let Message::Failed(failure) = client.expect() else { panic!("should have failed") };
    assert!(failure.reason.contains("one already"), "{failure}");
}

#[test]
fn privileged_a_half_sent_frame_stops_nobody() {
    let fixture = Fixture::start("sleep 100");
    let slow = fixture.connect();
    cleat_sys::passing::send(&slow.socket, &[200, 0, 0, 0, b'{'], &[]).unwrap();
    let garbage = fixture.connect();
    cleat_sys::passing::send(&garbage.socket, &[2, 0, 0, 0, b'{', b'}'], &[]).unwrap();
    assert!(matches!(garbage.expect(), Message::Failed(_)));
    let too_long = fixture.connect();
    cleat_sys::passing::send(&too_long.socket, &[255, 255, 255, 255], &[]).unwrap();
    assert!(too_long.receive().is_none());
    fixture.connect().ask_done(&Request::ReopenLog);
}
