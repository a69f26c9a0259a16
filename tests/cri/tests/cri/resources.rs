//! Limits, their change, and what containers and pods use.

use std::fs;

use anyhow::{Context, Result, ensure};
use cleat_cri_api::v1::*;
use cleat_tests_cri::{Node, check, configs};
use serde_json::Value;
use tonic::Code;

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

/// What a verbose status tells of a pod's own resources: memory of the overhead, and memory and quota of the sum.
fn needs(node: &Node, pod: &str) -> Result<[i64; 3]> {
    let request = PodSandboxStatusRequest { pod_sandbox_id: pod.to_owned(), verbose: true };
    let answer = node.cri().pod_sandbox_status(request)?;
    let info: Value = serde_json::from_str(answer.info.get("info").context("info")?).context("parse info")?;
    let number = |whose: &str, what: &str| {
        info[whose][what].as_i64().with_context(|| format!("no {what} of {whose} in {info}"))
    };
    let memory = "memory_limit_in_bytes";
    Ok([number("overhead", memory)?, number("resources", memory)?, number("resources", "cpu_quota")?])
}

#[test]
fn privileged_a_pods_own_resources_are_kept_told_and_changed() {
    check(Node::builder(), |node| {
        let memory = |memory_limit_in_bytes| {
            Some(LinuxContainerResources { memory_limit_in_bytes, ..Default::default() })
        };
        let mut config = configs::pod("resized");
        let linux = configs::pod_linux(&mut config);
        (linux.overhead, linux.resources) = (memory(8 << 20), memory(64 << 20));
        let pod = node.run_pod(config)?;
        let update = |id: &str, overhead, resources| {
            let pod_sandbox_id = id.to_owned();
            let request = UpdatePodSandboxResourcesRequest { pod_sandbox_id, overhead, resources };
            node.cri().update_pod_sandbox_resources(request)
        };
        assert_eq!(needs(node, &pod.id)?, [8 << 20, 64 << 20, 0]);
        let more = LinuxContainerResources {
            memory_limit_in_bytes: 128 << 20,
            cpu_quota: 50_000,
            ..Default::default()
        };
        update(&pod.id, None, Some(more))?;
        assert_eq!(needs(node, &pod.id)?, [8 << 20, 128 << 20, 50_000]);
        update(&pod.id, memory(16 << 20), memory(96 << 20))?;
        assert_eq!(needs(node, &pod.id)?, [16 << 20, 96 << 20, 0]);

        let nonsense = Some(LinuxContainerResources { cpu_quota: -2, ..Default::default() });
        let unknown = "0".repeat(64);
        for (id, resources, code) in [
            (pod.id.as_str(), nonsense, Code::InvalidArgument),
            ("", memory(1 << 20), Code::InvalidArgument),
            (&unknown, memory(1 << 20), Code::NotFound),
        ] {
            let status = update(id, None, resources).err().with_context(|| format!("{code} is expected"))?;
            assert_eq!(status.code(), code, "{status:?}");
        }

        node.crash_and_restart()?;
        assert_eq!(needs(node, &pod.id)?, [16 << 20, 96 << 20, 0]);
        assert_eq!(node.cri().run_pod(&pod.config)?, pod.id, "a repeated request means the same pod");
        node.cri().stop_pod(&pod.id)?;
        assert_eq!(needs(node, &pod.id)?, [16 << 20, 96 << 20, 0]);
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
