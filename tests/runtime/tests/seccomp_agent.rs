//! Calls that a filter notifies an agent of.
#![forbid(unsafe_code)]

use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;

use cleat_tests_runtime::{Bundle, Container, text};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::{Value, json};

/// How long the agent waits for what has to come, in seconds.
const PATIENCE_SECONDS: i64 = 20;

struct Agent(UnixListener);

impl Agent {
    /// The next process: what is told of it, and the listener.
    fn next(&self) -> (Value, OwnedFd) {
        assert!(is_readable(&self.0), "nobody tells the agent");
        let (stream, _) = self.0.accept().expect("somebody connects");
        let mut buffer = vec![0; 64 << 10];
        let (length, descriptors) = cleat_sys::passing::receive(&stream, &mut buffer).expect("a message");
        let state = serde_json::from_slice(&buffer[..length]).expect("the message is JSON");
        let listener = descriptors.into_iter().next().expect("a descriptor comes along");
        let kind = fs::read_link(format!("/proc/self/fd/{}", listener.as_raw_fd())).expect("it is open");
        assert_eq!(kind.to_string_lossy(), "anon_inode:seccomp notify");
        (state, listener)
    }
}

fn is_readable(descriptor: &impl std::os::fd::AsFd) -> bool {
    let patience = Timespec { tv_sec: PATIENCE_SECONDS, tv_nsec: 0 };
    poll(&mut [PollFd::new(descriptor, PollFlags::IN)], Some(&patience)).expect("it can be waited for") > 0
}

fn bundle(script: &str, no_new_privileges: bool) -> (Bundle, Agent) {
    let mut bundle = Bundle::script(script);
    let socket = bundle.path().join("agent.sock");
    let agent = Agent(UnixListener::bind(&socket).expect("the socket can be made"));
    bundle.spec["process"]["noNewPrivileges"] = no_new_privileges.into();
    bundle.spec["annotations"] = json!({ "from": "the test" });
    bundle.spec["linux"]["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ALLOW", "listenerPath": socket, "listenerMetadata": "told",
        "syscalls": [{ "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_NOTIFY" }],
    });
    (bundle, agent)
}

#[test]
fn privileged_an_agent_gets_the_listener_of_init_and_of_execs() {
    for no_new_privileges in [true, false] {
        let (mut bundle, agent) = bundle("mkdir /tmp/x; echo ended $?; exec sleep 100", no_new_privileges);
        let container = Container::new(&mut bundle);
        container.start();
        let (told, listener) = agent.next();
        assert_eq!((&told["fds"], &told["metadata"]), (&json!(["seccompFd"]), &json!("told")));
        assert_eq!(told["pid"], container.state()["pid"]);
        let state = &told["state"];
        assert_eq!((&state["id"], &state["status"]), (&json!(container.id), &json!("creating")));
        assert_eq!(state["bundle"], json!(bundle.path()));
        assert_eq!(state["annotations"]["from"], "the test");
        assert!(is_readable(&listener), "the call waits for the agent");
        assert!(!container.output().contains("ended"), "{}", container.output());
        // Without an agent the kernel refuses the call.
        drop(listener);
        container.await_output("ended 1");
        assert!(container.output().contains("Function not implemented"), "{}", container.output());
        let exec = std::thread::scope(|scope| {
            let exec = scope.spawn(|| container.exec(&[], &["mkdir", "/tmp/y"]));
            let (told, listener) = agent.next();
            assert_eq!(told["state"]["status"], "running");
            assert!(is_readable(&listener), "the call waits for the agent");
            drop(listener);
            exec.join().expect("it ends")
        });
        assert!(text(&exec).contains("Function not implemented"), "{}", text(&exec));
    }
}

#[test]
fn privileged_without_its_agent_a_container_is_not_made() {
    let (mut bundle, agent) = bundle("true", true);
    drop(agent);
    let output = Container::new(&mut bundle).run();
    assert!(!output.status.success() && text(&output).contains("agent.sock"), "{}", text(&output));
}
