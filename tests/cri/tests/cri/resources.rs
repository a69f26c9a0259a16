//! Limits, their change, and what containers and pods use.

use std::fs;

use anyhow::{Context, Result, ensure};
use cleat_cri_api::v1::*;
use cleat_tests_cri::{Node, check, configs};

/// A setting of a container's cgroup, by its name on cgroup v1 and on v2.
fn setting(node: &Node, id: &str, controller: &str, names: [&str; 2]) -> Result<String> {
    let folder = node.cgroup(id, controller)?;
    let file = names.iter().map(|name| folder.join(name)).find(|file| file.exists());
    let file = file.with_context(|| format!("none of {names:?} in {}", folder.display()))?;
    let text = fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
    Ok(text.trim().to_owned())
}

#[test]
fn privileged_limits_are_set_and_changed() {
    check(Node::builder(), |node| {
        let pod = node.run_pod(configs::pod("limits"))?;
        let mut config = configs::sleeper("limits");
        *configs::resources(&mut config) = LinuxContainerResources {
            cpu_period: 100_000,
            cpu_quota: 50_000,
            cpu_shares: 512,
            memory_limit_in_bytes: 64 << 20,
            memory_swap_limit_in_bytes: 64 << 20,
            cpuset_cpus: "0".to_owned(),
            oom_score_adj: 500,
            ..Default::default()
        };
        let id = node.start(&pod, &config)?;
        let memory = ["memory.limit_in_bytes", "memory.max"];
        assert_eq!(setting(node, &id, "memory", memory)?, format!("{}", 64 << 20));
        assert_eq!(setting(node, &id, "cpuset", ["cpuset.cpus", "cpuset.cpus"])?, "0");
        let quota = setting(node, &id, "cpu", ["cpu.cfs_quota_us", "cpu.max"])?;
        assert!(quota == "50000" || quota == "50000 100000", "{quota}");
        let of_init = fs::read_to_string(format!("/proc/{}/oom_score_adj", node.init_pid(&id)?));
        assert_eq!(of_init.context("read oom_score_adj")?, "500\n");
        assert_eq!(node.cri().shell(&id, "cat /proc/self/oom_score_adj")?, "500");
        let change = LinuxContainerResources {
            cpu_quota: 80_000,
            memory_limit_in_bytes: 128 << 20,
            memory_swap_limit_in_bytes: 128 << 20,
            ..Default::default()
        };
        node.cri().update_container_resources(UpdateContainerResourcesRequest {
            container_id: id.clone(),
            linux: Some(change),
            ..Default::default()
        })?;
        assert_eq!(setting(node, &id, "memory", memory)?, format!("{}", 128 << 20));
        let quota = setting(node, &id, "cpu", ["cpu.cfs_quota_us", "cpu.max"])?;
        assert!(quota == "80000" || quota == "80000 100000", "{quota}");
        let told = node.cri().container(&id)?.resources.and_then(|all| all.linux).context("resources")?;
        assert_eq!((told.memory_limit_in_bytes, told.cpu_quota, told.cpu_shares), (128 << 20, 80_000, 512));
        assert_eq!(told.cpuset_cpus, "0");
        Ok(())
    });
}

#[test]
fn privileged_a_change_before_the_start_counts() {
    check(Node::builder(), |node| {
        let pod = node.run_pod(configs::pod("early"))?;
        let id = node.create(&pod, &configs::sleeper("early"))?;
        let linux = LinuxContainerResources { memory_limit_in_bytes: 96 << 20, ..Default::default() };
        node.cri().update_container_resources(UpdateContainerResourcesRequest {
            container_id: id.clone(),
            linux: Some(linux),
            ..Default::default()
        })?;
        node.cri().start(&id)?;
        let limit = setting(node, &id, "memory", ["memory.limit_in_bytes", "memory.max"])?;
        assert_eq!(limit, format!("{}", 96 << 20));
        Ok(())
    });
}

#[test]
fn privileged_statistics_show_what_is_used() {
    check(Node::builder(), |node| {
        let pod = node.run_pod(configs::pod("stats"))?;
        let script = "head -c 33554432 /dev/zero >/dev/shm/file; head -c 4194304 /dev/zero >/written; \
                      i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done; echo ready; sleep 1000";
        let id = node.start(&pod, &configs::script("busy", script))?;
        node.await_log(&id, " ready")?;
        let request = ContainerStatsRequest { container_id: id.clone() };
        let stats = node.cri().container_stats(request)?.stats.context("stats")?;
        let attributes = stats.attributes.context("attributes")?;
        assert_eq!((attributes.id, attributes.metadata), (id.clone(), configs::sleeper("busy").metadata));
        let cpu = stats.cpu.and_then(|cpu| cpu.usage_core_nano_seconds).context("cpu")?.value;
        assert!(cpu > 10_000_000, "{cpu} ns");
        let memory = stats.memory.context("memory")?;
        let working_set = memory.working_set_bytes.context("working set")?.value;
        assert!((32 << 20..64 << 20).contains(&working_set), "{working_set} bytes");
        let layer = stats.writable_layer.context("writable layer")?;
        let used = layer.used_bytes.context("used bytes")?.value;
        assert!((4 << 20..6 << 20).contains(&used), "{used} bytes");
        let mountpoint = layer.fs_id.context("filesystem")?.mountpoint;
        assert!(fs::metadata(&mountpoint).is_ok_and(|it| it.is_dir()), "{mountpoint}");
        of_pod(node, &pod.id, &id)
    });
}

fn of_pod(node: &Node, pod: &str, container: &str) -> Result<()> {
    let request = PodSandboxStatsRequest { pod_sandbox_id: pod.to_owned() };
    let stats = node.cri().pod_sandbox_stats(request)?.stats.context("stats")?.linux.context("linux")?;
    let inside: Vec<String> =
        stats.containers.into_iter().filter_map(|each| Some(each.attributes?.id)).collect();
    assert_eq!(inside, [container]);
    let count = stats.process.and_then(|it| it.process_count).context("process count")?.value;
    // The pause process and the container.
    ensure!((2..20).contains(&count), "{count} processes");
    let network = stats.network.and_then(|it| it.default_interface).context("interface")?;
    assert_eq!(network.name, "eth0");
    let cpu = stats.cpu.and_then(|cpu| cpu.usage_core_nano_seconds).context("cpu")?.value;
    ensure!(cpu > 10_000_000, "{cpu} ns");
    let all = node.cri().list_pod_sandbox_stats(ListPodSandboxStatsRequest { filter: None })?.stats;
    assert_eq!(all.len(), 1);
    let none = ContainerStatsFilter { pod_sandbox_id: "0".repeat(64), ..Default::default() };
    let request = ListContainerStatsRequest { filter: Some(none) };
    assert_eq!(node.cri().list_container_stats(request)?.stats, []);
    let all = node.cri().list_container_stats(ListContainerStatsRequest { filter: None })?.stats;
    assert_eq!(all.len(), 1);
    Ok(())
}
