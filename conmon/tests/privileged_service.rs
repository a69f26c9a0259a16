//! What else a monitor does for its daemon: limits, memory events, many clients, strangers.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod harness;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;

use cleat_conmon_proto::{ExitStatus, Message, Request, SOCKET_NAME};
use harness::{Bundle, Client, Fixture, eventually};
use serde_json::json;

const MIB: u64 = 1 << 20;

#[test]
fn privileged_oom_kills_are_told_and_recorded() {
    let script =
        "head -c 200000000 /dev/zero | /bin/busybox tail -c 200000000 >/dev/null; echo $?; sleep 1000";
    let bundle = Bundle::new(script).with("/linux/resources", json!({ "memory": { "limit": 24 * MIB } }));
    let fixture = Fixture::launch(bundle, |_| {});
    fixture.client.ask_done(&Request::Start);
    assert_eq!(fixture.client.expect(), Message::Oom, "while the container goes on");
    let later = fixture.connect();
    assert_eq!(later.ask(&Request::Watch), Message::Oom, "to those who come later as well");
    fixture.cgroup().kill().unwrap();
    assert!(fixture.client.expect_exited().oom_killed);
    assert!(fixture.record().unwrap().oom_killed);
}

#[test]
fn privileged_limits_change_or_stay() {
    let bundle =
        Bundle::new("sleep 100").with("/linux/resources", json!({ "memory": { "limit": 64 * MIB } }));
    let fixture = Fixture::launch(bundle, |_| {});
    fixture.client.ask_done(&Request::Start);
    let v1 = fixture.cgroup().layout().is_v1("memory");
    let limit = || {
        let file = if v1 { "memory.limit_in_bytes" } else { "memory.max" };
        fixture.cgroup().read("memory", file).unwrap().trim().parse::<u64>().unwrap()
    };
    let update = |resources: serde_json::Value| Request::Update { resources: resources.to_string() };
    fixture.client.ask_done(&update(json!({ "memory": { "limit": 32 * MIB } })));
    assert_eq!(limit(), 32 * MIB);
    fixture.client.ask_failed(&update(json!({ "memory": { "limit": "much" } })));
    fixture.client.ask_failed(&Request::Update { resources: "{".into() });
    assert_eq!(limit(), 32 * MIB);
}

#[test]
fn privileged_more_clients_than_there_is_room_for_are_turned_away() {
    let fixture = Fixture::start("sleep 100");
    // One more is the launch connection.
    let mut clients: Vec<Client> = (0..127).map(|_| fixture.connect()).collect();
    clients.last().unwrap().ask_done(&Request::ReopenLog);
    assert!(fixture.connect().receive().is_none());
    clients[0].ask_done(&Request::ReopenLog);
    drop(clients.pop());
    eventually("there is room again", || {
        let client = fixture.connect();
        // Turned away, it may already be closed: then there is nobody to write to.
        let request = serde_json::to_vec(&Request::ReopenLog).unwrap();
        let frame = [(request.len() as u32).to_le_bytes().as_slice(), &request].concat();
        cleat_sys::passing::send(&client.socket, &frame, &[]).is_ok() && client.receive().is_some()
    });
    assert!(fixture.complaints().contains("too many"));
}

#[test]
fn privileged_other_users_are_not_listened_to() {
    let fixture = Fixture::start("sleep 100");
    let socket = fixture.bundle.state_dir().join(SOCKET_NAME);
    for (path, mode) in
        [(fixture.bundle.path(), 0o755), (&fixture.bundle.state_dir(), 0o755), (&socket, 0o777)]
    {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
    let answer = std::thread::spawn(move || {
        let nobody = rustix::process::Uid::from_raw(65_534);
        // Of this thread alone: the system call knows no processes.
        rustix::thread::set_thread_res_uid(nobody, nobody, nobody).unwrap();
        Client::new(UnixStream::connect(socket).unwrap()).receive()
    });
    assert!(answer.join().unwrap().is_none());
    fixture.connect().ask_done(&Request::ReopenLog);
}

#[test]
fn privileged_an_unknown_request_is_refused_and_the_next_one_served() {
    let fixture = Fixture::start("sleep 0.5; exit 3");
    fixture.client.send(&json!("fly"));
    assert!(matches!(fixture.client.expect(), Message::Failed(_)));
    fixture.client.send(&json!({ "resize": { "height": -1, "width": 0 } }));
    assert!(matches!(fixture.client.expect(), Message::Failed(_)));
    fixture.client.ask_done(&Request::ReopenLog);
    assert_eq!(fixture.client.expect_exited().status, ExitStatus::Exited(3));
}
