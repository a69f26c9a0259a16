//! Limits on the host's cgroups.
#![forbid(unsafe_code)]

use std::fs;
use std::path::Path;

use cleat_tests_runtime::{Bundle, Container, text};
use serde_json::json;

/// Whether the host has v1 controllers.
fn is_v1() -> bool {
    std::path::Path::new("/sys/fs/cgroup/memory/cgroup.procs").exists()
}

#[test]
fn privileged_limits_are_in_the_cgroups_files() {
    let mut bundle = Bundle::script("exec sleep 100");
    bundle.spec["linux"]["resources"]["cpu"] =
        json!({ "shares": 2048, "quota": 50000, "period": 100000, "cpus": "0" });
    bundle.spec["linux"]["resources"]["memory"] = json!({ "limit": 67_108_864, "reservation": 33_554_432 });
    bundle.spec["linux"]["resources"]["pids"] = json!({ "limit": 55 });
    let container = Container::new(&mut bundle);
    container.start();
    let v1 = [
        ("cpu", "cpu.shares", "2048"),
        ("cpu", "cpu.cfs_quota_us", "50000"),
        ("cpuset", "cpuset.cpus", "0"),
        ("memory", "memory.limit_in_bytes", "67108864"),
        ("memory", "memory.soft_limit_in_bytes", "33554432"),
        ("pids", "pids.max", "55"),
    ];
    let v2 = [
        ("cpu", "cpu.weight", "174"),
        ("cpu", "cpu.max", "50000 100000"),
        ("cpuset", "cpuset.cpus", "0"),
        ("memory", "memory.max", "67108864"),
        ("memory", "memory.low", "33554432"),
        ("pids", "pids.max", "55"),
    ];
    for (controller, file, value) in if is_v1() { v1 } else { v2 } {
        let path = container.cgroup(controller).join(file);
        assert_eq!(fs::read_to_string(&path).unwrap().trim(), value, "{}", path.display());
    }
    let output = container.exec(&[], &["sh", "-c", "for i in $(seq 60); do sleep 1 & done"]);
    assert!(
        !output.status.success() || text(&output).contains("fork"),
        "the pids limit holds: {}",
        text(&output)
    );
}

#[test]
fn privileged_nonsense_is_refused_by_its_name() {
    for (name, value) in [
        ("memory", json!({ "limit": -2 })),
        ("memory", json!({ "limit": 1000, "swap": 10 })),
        ("cpu", json!({ "cpus": "0;1" })),
        ("cpu", json!({ "quota": -7 })),
        ("pids", json!({ "limit": -9 })),
        ("blockIO", json!({ "weight": 5000 })),
        ("hugepageLimits", json!([{ "pageSize": "../../2MB", "limit": 0 }])),
    ] {
        let mut bundle = Bundle::program(&["true"]);
        bundle.spec["linux"]["resources"][name] = value;
        let output = Container::new(&mut bundle).run();
        assert!(!output.status.success(), "{name}");
        assert!(text(&output).contains(name), "{name} in {}", text(&output));
    }
}

#[test]
fn privileged_a_container_is_killed_for_want_of_memory() {
    let mut bundle =
        Bundle::script("dd if=/dev/zero of=/dev/shm/x bs=1M count=60 2>/dev/null; echo $?; exec sleep 100");
    bundle.spec["linux"]["resources"]["memory"] = json!({ "limit": 16 << 20 });
    let container = Container::new(&mut bundle);
    container.start();
    container.await_output("137");
    let control = if is_v1() { "memory.oom_control" } else { "memory.events" };
    let counts = fs::read_to_string(container.cgroup("memory").join(control)).unwrap();
    assert!(counts.contains("oom_kill 1"), "{counts}");
}

/// What this host has no controller for is refused by its name, and what it has one for is set.
#[test]
fn privileged_rare_limits_are_set_or_refused_by_name() {
    for (resources, controller, name) in [
        (json!({ "network": { "classID": 1_048_577 } }), "net_cls", "net"),
        (json!({ "network": { "priorities": [{ "name": "lo", "priority": 5 }] } }), "net_prio", "net"),
        (json!({ "rdma": { "mlx5_1": { "hcaHandles": 3 } } }), "rdma", "rdma"),
        (json!({ "cpu": { "realtimePeriod": 900_000 } }), "cpu", "cpu.r"),
    ] {
        let mut bundle = Bundle::program(&["true"]);
        for (key, value) in resources.as_object().unwrap() {
            bundle.spec["linux"]["resources"][key] = value.clone();
        }
        let output = Container::new(&mut bundle).run();
        let has_controller = Path::new("/sys/fs/cgroup").join(controller).is_dir();
        assert!(
            output.status.success() && has_controller || text(&output).contains(name),
            "{controller}: {}",
            text(&output)
        );
    }
}

/// A host has groups of caches and memory bandwidth, or a container that asks for one is refused.
#[test]
fn privileged_intel_rdt_is_there_or_refused_by_name() {
    let mut bundle = Bundle::program(&["sleep", "100"]);
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mount = mounts.lines().find(|line| line.contains(" - resctrl "));
    // What may be asked for is each processor's own.
    let asked = if mount.is_some() { json!({}) } else { json!({ "l3CacheSchema": "L3:0=f" }) };
    bundle.spec["linux"]["intelRdt"] = asked;
    let container = Container::new(&mut bundle);
    let created = container.create();
    let Some(mount) = mount else {
        assert!(!created.status.success() && text(&created).contains("Intel RDT"), "{}", text(&created));
        return;
    };
    assert!(created.status.success(), "{}", text(&created));
    let group = Path::new(mount.split(' ').nth(4).unwrap()).join(&container.id);
    let tasks = fs::read_to_string(group.join("tasks")).unwrap();
    let pid = container.state()["pid"].to_string();
    assert!(tasks.lines().any(|task| task == pid), "{tasks}");
    assert!(container.kill("KILL").status.success());
    container.await_status("stopped");
    assert!(container.simple("delete").status.success());
    assert!(!group.exists());
}
