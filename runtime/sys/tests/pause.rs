//! The pause program: it ends when told to, and reaps what is orphaned.
#![forbid(unsafe_code)]

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

const PAUSE: &str = env!("CARGO_BIN_EXE_cleat-pause");

/// A process that is killed when a test fails.
struct Guard(Child);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.kill().and_then(|()| self.0.wait()).ok();
    }
}

fn wait_for(what: &str, mut reached: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !reached() {
        assert!(Instant::now() < deadline, "{what} takes too long");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Field `name` of `/proc/<pid>/status`.
fn status(pid: u32, name: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    text.lines().find_map(|line| line.strip_prefix(&format!("{name}:"))).unwrap_or_default().trim().to_owned()
}

/// Waits until the program waits.
fn await_begin(pid: u32) {
    wait_for("its begin", || status(pid, "Name") == "cleat-pause" && status(pid, "State").starts_with('S'));
}

#[test]
fn it_ends_on_term_and_int_with_success() {
    for signal in ["TERM", "INT"] {
        let mut pause = Guard(Command::new(PAUSE).spawn().unwrap());
        let pid = pause.0.id();
        await_begin(pid);
        assert!(pause.0.try_wait().unwrap().is_none(), "it ended by itself");
        assert!(Command::new("kill").args(["-s", signal, &pid.to_string()]).status().unwrap().success());
        let status = pause.0.wait().unwrap();
        assert_eq!((status.code(), status.signal()), (Some(0), None));
    }
}

#[test]
fn privileged_it_reaps_what_is_orphaned() {
    let unshare =
        Guard(Command::new("unshare").args(["--pid", "--fork", "--kill-child", PAUSE]).spawn().unwrap());
    let children =
        |pid: u32| fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    wait_for("the pause's birth", || !children(unshare.0.id()).is_empty());
    let pause: u32 = children(unshare.0.id()).trim().parse().unwrap();
    await_begin(pause);
    // Three orphans end in the same moment: their signals become one.
    let script = "for i in 1 2 3; do (sleep 0.2 &) ; done";
    let target = pause.to_string();
    let entered =
        Command::new("nsenter").args(["--pid", "--target", &target, "sh", "-c", script]).status().unwrap();
    assert!(entered.success());
    assert!(!children(pause).is_empty(), "the orphans are its children");
    wait_for("the reaping", || children(pause).is_empty());
}
