//! The systemd driver, seen from systemd. These tests need it as process 1: hack/vm-test runs them.
#![forbid(unsafe_code)]
#![cfg(feature = "systemd")]

use std::collections::HashMap;
use std::fs;
use std::process::{Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use cleat_tests_runtime::{Bundle, limited, runtime, text};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A container in a scope, deleted by force when dropped.
struct Scoped {
    id: String,
    bundle: Bundle,
    root: TempDir,
}

impl Scoped {
    /// Starts `sleep` with these changes of its configuration.
    fn start(id: &str, change: impl FnOnce(&mut Value)) -> (Self, Output) {
        let mut bundle = Bundle::script("exec sleep 100");
        change(&mut bundle.spec);
        bundle.write();
        let root = tempfile::tempdir().expect("a folder can be made");
        let container = Self { id: id.into(), bundle, root };
        // The container keeps the streams: they must not be pipes that are read to their end.
        let path = container.bundle.path().join("said");
        let file = fs::File::create(&path).expect("a file can be made");
        let mut run = container.command("run");
        run.args(["--detach", "--bundle"]).arg(container.bundle.path()).arg(id).stdin(Stdio::null());
        run.stdout(file.try_clone().expect("a file can be shared")).stderr(file);
        let status = run.status().expect("the runtime can be run");
        let output = Output { status, stdout: Vec::new(), stderr: fs::read(path).expect("it can be read") };
        (container, output)
    }

    fn command(&self, command: &str) -> Command {
        let mut runtime = limited(&runtime());
        runtime.args(["--systemd-cgroup", "--root"]).arg(self.root.path()).arg(command);
        runtime
    }
}

impl Drop for Scoped {
    fn drop(&mut self) {
        let deleted = self.command("delete").args(["--force", &self.id]).output().expect("it can be run");
        if !std::thread::panicking() {
            assert!(deleted.status.success(), "{}", text(&deleted));
        }
    }
}

fn properties(unit: &str) -> HashMap<String, String> {
    let shown = Command::new("systemctl").args(["show", unit]).output().expect("systemctl can be run");
    let lines = String::from_utf8_lossy(&shown.stdout).into_owned();
    lines.lines().filter_map(|line| line.split_once('=')).map(|(k, v)| (k.into(), v.into())).collect()
}

/// Fails unless a unit has these properties.
fn assert_properties(unit: &str, expected: &[(&str, &str)]) {
    let shown = properties(unit);
    for (name, value) in expected {
        assert_eq!(shown.get(*name).map(String::as_str), Some(*value), "{name} of {unit}");
    }
}

#[test]
fn privileged_a_container_is_a_scope_with_its_limits() {
    let (container, output) = Scoped::start("limits", |spec| {
        spec["linux"]["cgroupsPath"] = "cleat-test.slice:x:limits".into();
        spec["annotations"] = json!({ "org.systemd.property.TimeoutStopSec": "uint64 7" });
        spec["linux"]["resources"]["memory"] = json!({ "limit": 64 << 20, "reservation": 32 << 20 });
        spec["linux"]["resources"]["cpu"] =
            json!({ "shares": 1024, "quota": 50000, "period": 100000, "cpus": "0" });
        spec["linux"]["resources"]["pids"] = json!({ "limit": 55 });
    });
    assert!(output.status.success(), "{}", text(&output));
    assert_properties(
        "x-limits.scope",
        &[
            ("ActiveState", "active"),
            ("Slice", "cleat-test.slice"),
            ("ControlGroup", "/cleat.slice/cleat-test.slice/x-limits.scope"),
            ("Delegate", "yes"),
            ("MemoryMax", "67108864"),
            ("MemoryLow", "33554432"),
            ("CPUWeight", "100"),
            ("CPUQuotaPerSecUSec", "500ms"),
            ("AllowedCPUs", "0"),
            ("TasksMax", "55"),
            ("TimeoutStopUSec", "7s"),
            ("DevicePolicy", "strict"),
        ],
    );
    let procs = "/sys/fs/cgroup/cleat.slice/cleat-test.slice/x-limits.scope/cgroup.procs";
    assert_eq!(fs::read_to_string(procs).unwrap().lines().count(), 1, "init alone");
    drop(container);
    assert_properties("x-limits.scope", &[("LoadState", "not-found"), ("ActiveState", "inactive")]);
}

#[test]
fn privileged_an_update_outlives_a_reload_of_systemd() {
    let (container, output) = Scoped::start("reloaded", |spec| {
        spec["linux"]["cgroupsPath"] = "cleat-test.slice:x:reloaded".into();
        spec["linux"]["resources"]["memory"] = json!({ "limit": 64 << 20 });
    });
    assert!(output.status.success(), "{}", text(&output));
    let mut update = container.command("update");
    let updated = update.args(["--memory", "96m", "--pids-limit", "44", "reloaded"]).output().unwrap();
    assert!(updated.status.success(), "{}", text(&updated));
    assert!(Command::new("systemctl").arg("daemon-reload").status().unwrap().success());
    assert_properties("x-reloaded.scope", &[("MemoryMax", "100663296"), ("TasksMax", "44")]);
    let folder = "/sys/fs/cgroup/cleat.slice/cleat-test.slice/x-reloaded.scope";
    assert_eq!(fs::read_to_string(format!("{folder}/memory.max")).unwrap().trim(), "100663296");
    assert_eq!(fs::read_to_string(format!("{folder}/pids.max")).unwrap().trim(), "44");
}

#[test]
fn privileged_a_container_that_names_no_cgroup_is_in_the_systems_slice() {
    let (container, output) = Scoped::start("nameless", |_| {});
    assert!(output.status.success(), "{}", text(&output));
    assert_properties("cleat-nameless.scope", &[("ActiveState", "active"), ("Slice", "system.slice")]);
    drop(container);
}

#[test]
fn privileged_a_slice_of_its_own_goes_with_the_last_container() {
    let in_pod = |id: &str| {
        let path = format!("cleattest-pod1.slice:x:{id}");
        let (container, output) = Scoped::start(id, |spec| spec["linux"]["cgroupsPath"] = path.into());
        assert!(output.status.success(), "{}", text(&output));
        container
    };
    let (first, second) = (in_pod("first"), in_pod("second"));
    drop(first);
    assert_properties("cleattest-pod1.slice", &[("ActiveState", "active")]);
    drop(second);
    for slice in ["cleattest-pod1.slice", "cleattest.slice"] {
        await_gone(slice);
    }
}

#[test]
fn privileged_a_slice_that_was_there_stays() {
    let start = ["start", "cleatkept-pod1.slice"];
    assert!(Command::new("systemctl").args(start).status().unwrap().success());
    let (container, output) = Scoped::start("guest", |spec| {
        spec["linux"]["cgroupsPath"] = "cleatkept-pod1.slice:x:guest".into();
    });
    assert!(output.status.success(), "{}", text(&output));
    drop(container);
    assert_properties("x-guest.scope", &[("LoadState", "not-found")]);
    assert_properties("cleatkept-pod1.slice", &[("ActiveState", "active")]);
    assert!(Command::new("systemctl").args(["stop", "cleatkept.slice"]).status().unwrap().success());
}

/// Waits for what systemd does by itself, a moment after the last unit in a slice has ended.
fn await_gone(unit: &str) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while properties(unit).get("ActiveState").map(String::as_str) != Some("inactive") {
        assert!(Instant::now() < deadline, "{unit} is still there: {:?}", properties(unit));
        sleep(Duration::from_millis(50));
    }
}

#[test]
fn privileged_an_id_can_be_used_again_at_once() {
    for _ in 0..3 {
        let (container, output) = Scoped::start("again", |spec| {
            spec["linux"]["cgroupsPath"] = "cleat-test.slice:x:again".into();
        });
        assert!(output.status.success(), "{}", text(&output));
        drop(container);
    }
}

#[test]
fn privileged_another_form_of_the_path_is_refused() {
    for path in ["/a/b", "a:b", "no-slice:a:b", "a--b.slice:c:d"] {
        let (_container, output) =
            Scoped::start("refused", |spec| spec["linux"]["cgroupsPath"] = path.into());
        assert!(!output.status.success(), "{path}");
        assert!(text(&output).contains("cgroupsPath"), "{}", text(&output));
    }
}

#[test]
fn privileged_a_property_that_systemd_does_not_know_fails_and_leaves_nothing() {
    let (_container, output) = Scoped::start("unknown", |spec| {
        spec["linux"]["cgroupsPath"] = "cleat-test.slice:x:unknown".into();
        spec["annotations"] = json!({ "org.systemd.property.NoSuchThing": "true" });
    });
    assert!(!output.status.success());
    assert!(text(&output).contains("NoSuchThing"), "{}", text(&output));
    assert_properties("x-unknown.scope", &[("LoadState", "not-found")]);
}
