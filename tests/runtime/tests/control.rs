//! What is done with a running container: pause, resume, update, ps, events.
#![forbid(unsafe_code)]

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;

use cleat_tests_runtime::{Bundle, Container, text};
use serde_json::Value;

fn is_v1() -> bool {
    Path::new("/sys/fs/cgroup/memory/cgroup.procs").exists()
}

/// The processor time that the container's init has used, in ticks.
fn ticks(container: &Container) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{}/stat", container.state()["pid"])).expect("init runs");
    let fields: Vec<_> = stat.rsplit(')').next().expect("a name").split_whitespace().collect();
    fields[11].parse::<u64>().expect("utime") + fields[12].parse::<u64>().expect("stime")
}

#[test]
fn privileged_a_paused_container_stands_still_until_it_is_resumed() {
    let mut bundle = Bundle::script("while :; do :; done");
    let container = Container::new(&mut bundle);
    container.start();
    assert!(!container.simple("resume").status.success(), "it is not paused");
    let paused = container.simple("pause");
    assert!(paused.status.success(), "{}", text(&paused));
    assert_eq!(container.state()["status"], "paused");
    let before = ticks(&container);
    // A time that passes is what is tested: a running loop would use twenty ticks of it.
    std::thread::sleep(std::time::Duration::from_millis(200));
    assert_eq!(ticks(&container), before, "it uses no time");
    assert!(!container.exec(&[], &["true"]).status.success(), "nothing is executed in it");
    assert!(container.simple("resume").status.success());
    assert_eq!(container.state()["status"], "running");
    assert!(container.exec(&[], &["true"]).status.success());
}

#[test]
fn privileged_a_paused_container_can_be_deleted_by_force() {
    let mut bundle = Bundle::script("exec sleep 100");
    let container = Container::new(&mut bundle);
    container.start();
    assert!(container.simple("pause").status.success());
    let deleted = container.command("delete").args(["--force", &container.id]).output().unwrap();
    assert!(deleted.status.success(), "{}", text(&deleted));
}

#[test]
fn privileged_limits_are_updated_by_options_on_both_sides_of_the_id_and_by_a_file() {
    let mut bundle = Bundle::script("exec sleep 100");
    let container = Container::new(&mut bundle);
    container.start();
    let (memory, shares) = if is_v1() {
        (("memory", "memory.limit_in_bytes"), ("cpu", "cpu.shares"))
    } else {
        (("memory", "memory.max"), ("cpu", "cpu.weight"))
    };
    let read = |(controller, file): (&str, &str)| {
        fs::read_to_string(container.cgroup(controller).join(file)).unwrap().trim().to_owned()
    };
    let updated =
        container.command("update").args(["--pids-limit", "44", &container.id, "--memory", "64m"]).output();
    let updated = updated.unwrap();
    assert!(updated.status.success(), "{}", text(&updated));
    assert_eq!((read(("pids", "pids.max")), read(memory)), ("44".into(), (64 << 20).to_string()));
    let file = bundle.path().join("resources");
    fs::write(&file, r#"{"cpu":{"shares":512}}"#).unwrap();
    let updated = container.command("update").arg("-r").arg(&file).arg(&container.id).output().unwrap();
    assert!(updated.status.success(), "{}", text(&updated));
    assert_eq!(read(shares), if is_v1() { "512" } else { "59" });
    assert_eq!(read(("pids", "pids.max")), "44", "the rest stays");
    let refused = container.command("update").args(["--pids-limit", "x", &container.id]).output().unwrap();
    assert!(!refused.status.success());
}

#[test]
fn privileged_ps_shows_the_containers_processes_alone() {
    let mut bundle = Bundle::script("sleep 101 & exec sleep 102");
    let container = Container::new(&mut bundle);
    container.start();
    container.await_status("running");
    let json = || -> Vec<i64> {
        let output = container.command("ps").args(["--format", "json", &container.id]).output().unwrap();
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(5);
    while json().len() < 2 {
        assert!(std::time::Instant::now() < deadline, "two processes");
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    assert!(json().contains(&container.state()["pid"].as_i64().unwrap()));
    let table = container.simple("ps");
    assert!(table.status.success(), "{}", text(&table));
    let lines = String::from_utf8_lossy(&table.stdout).lines().count();
    assert_eq!(lines, 3, "{}", text(&table));
    let chosen = container.command("ps").args([&container.id, "-A", "-o", "pid,args"]).output().unwrap();
    assert!(text(&chosen).contains("sleep 101"), "{}", text(&chosen));
}

/// A script that waits for the file `go`, then does something.
fn when_told(act: &str) -> String {
    format!(
        "dd if=/dev/zero of=/dev/shm/y bs=1M count=4 2>/dev/null; echo used; while [ ! -e /go ]; do sleep 0.01; done; {act}"
    )
}

/// The events of a container from their beginning.
struct Events {
    process: std::process::Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Events {
    /// Follows; what happens from here on is told.
    fn follow(container: &Container) -> Self {
        let mut command = container.command("events");
        command.args(["--interval", "100ms", &container.id]).stdout(Stdio::piped());
        let mut process = command.spawn().expect("the runtime can be run");
        let lines = BufReader::new(process.stdout.take().expect("it is piped")).lines();
        let mut events = Self { process, lines };
        assert_eq!(events.next().expect("an event")["type"], "stats", "it watches from here on");
        events
    }

    fn next(&mut self) -> Option<Value> {
        let line = self.lines.next()?.expect("a line can be read");
        Some(serde_json::from_str(&line).expect("an event is JSON"))
    }

    /// Whether this is told before the end.
    fn tell(&mut self, kind: &str) -> bool {
        std::iter::from_fn(|| self.next()).any(|event| event["type"] == kind)
    }
}

#[test]
fn privileged_events_tell_what_is_used_and_who_was_killed() {
    // The one to kill has the most memory, and says so: the shell stays, and finds some free afterwards.
    let mut bundle = Bundle::script(&when_told(
        "sh -c 'echo 1000 >/proc/self/oom_score_adj; exec dd if=/dev/zero of=/dev/shm/x bs=4M count=15' 2>/dev/null; \
         while :; do sleep 0.01; done",
    ));
    bundle.spec["linux"]["resources"]["memory"] = serde_json::json!({ "limit": 16 << 20 });
    let container = Container::new(&mut bundle);
    container.start();
    container.await_output("used");
    let output = container.command("events").args(["--stats", &container.id]).output().unwrap();
    let stats: Value = serde_json::from_slice(&output.stdout).expect("one event");
    assert_eq!((&stats["type"], &stats["id"]), (&"stats".into(), &container.id.as_str().into()));
    let data = &stats["data"];
    assert!(data["memory"]["usage"]["usage"].as_u64().is_some_and(|bytes| bytes >= 4 << 20), "{data}");
    assert_eq!(data["memory"]["usage"]["limit"], 16 << 20);
    assert!(data["cpu"]["usage"]["total"].as_u64().is_some_and(|time| time > 0), "{data}");
    assert!(data["pids"]["current"].as_u64().is_some_and(|count| count >= 1), "{data}");

    let mut events = Events::follow(&container);
    fs::write(bundle.rootfs("go"), "").unwrap();
    assert!(events.tell("oom"));
    assert!(container.kill("KILL").status.success());
    while events.next().is_some() {}
    assert!(events.process.wait().unwrap().success(), "it ends with the container");
}

#[test]
fn privileged_a_kill_that_ends_the_container_is_told_before_its_end() {
    let mut bundle =
        Bundle::script(&when_told("exec dd if=/dev/zero of=/dev/shm/x bs=1M count=60 2>/dev/null"));
    bundle.spec["linux"]["resources"]["memory"] = serde_json::json!({ "limit": 16 << 20 });
    let container = Container::new(&mut bundle);
    container.start();
    container.await_output("used");
    let mut events = Events::follow(&container);
    fs::write(bundle.rootfs("go"), "").unwrap();
    assert!(events.tell("oom"));
    while events.next().is_some() {}
    assert!(events.process.wait().unwrap().success());
    assert_eq!(container.state()["status"], "stopped");
}
