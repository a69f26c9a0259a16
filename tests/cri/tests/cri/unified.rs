//! Pods below systemd's slices in the unified hierarchy. Only in a machine where systemd is process 1.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use cleat_cri_api::v1::*;
use cleat_tests_cri::{Node, check, configs};

/// A property of a unit as systemd knows it.
fn property(unit: &str, name: &str) -> Result<String> {
    let output = Command::new("systemctl").args(["show", "--value", "--property", name, unit]).output();
    let output = output.context("run systemctl")?;
    ensure!(output.status.success(), "systemctl show {unit}: {}", output.status);
    Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
}

/// A slice in another one, made by somebody else, as the kubelet makes its pods'. Dropped, it ends with that other one.
struct Slice {
    outer: &'static str,
    name: &'static str,
}

impl Slice {
    fn start(outer: &'static str, name: &'static str) -> Result<Self> {
        let status = Command::new("systemctl").args(["start", name]).status().context("run systemctl")?;
        ensure!(status.success(), "systemctl start {name}: {status}");
        Ok(Self { outer, name })
    }
}

impl Drop for Slice {
    fn drop(&mut self) {
        match Command::new("systemctl").args(["stop", self.outer]).status() {
            Ok(status) if status.success() => {}
            other => eprintln!("systemctl stop {}: {other:?}", self.outer),
        }
    }
}

/// Waits for what systemd does by itself, a moment after the last scope in a slice has ended.
fn await_state(node: &Node, unit: &str, state: &str) -> Result<()> {
    node.until(&format!("{unit} is {state}"), || Ok((property(unit, "ActiveState")? == state).then_some(())))
}

#[test]
fn privileged_limits_reach_the_container_by_systemd() {
    check(Node::builder(), |node| {
        let slice = Slice::start("cleatkubelet.slice", "cleatkubelet-pod7.slice")?;
        let mut config = configs::pod("sliced");
        configs::pod_linux(&mut config).cgroup_parent = format!("/{}/{}", slice.outer, slice.name);
        let pod = node.run_pod(config)?;
        let mut config = configs::sleeper("scoped");
        let resources = configs::resources(&mut config);
        (resources.memory_limit_in_bytes, resources.memory_swap_limit_in_bytes) = (64 << 20, 64 << 20);
        (resources.cpu_period, resources.cpu_quota) = (100_000, 50_000);
        resources.unified.insert("memory.high".to_owned(), format!("{}", 48 << 20));
        let id = node.start(&pod, &config)?;
        let scope = format!("cleat-{id}.scope");
        let folder = node.cgroup(&id, "memory")?;
        ensure!(folder.ends_with(format!("{}/{}/{scope}", slice.outer, slice.name)), "{folder:?}");
        assert_eq!(property(&scope, "MemoryMax")?, format!("{}", 64 << 20));
        assert_eq!(property(&scope, "CPUQuotaPerSecUSec")?, "500ms");
        let high = fs::read_to_string(folder.join("memory.high")).context("read memory.high")?;
        assert_eq!(high.trim(), format!("{}", 48 << 20));

        let change = LinuxContainerResources {
            memory_limit_in_bytes: 96 << 20,
            memory_swap_limit_in_bytes: 96 << 20,
            cpu_period: 100_000,
            cpu_quota: 80_000,
            ..Default::default()
        };
        node.cri().update_container_resources(UpdateContainerResourcesRequest {
            container_id: id,
            linux: Some(change),
            ..Default::default()
        })?;
        assert_eq!(property(&scope, "MemoryMax")?, format!("{}", 96 << 20));
        assert_eq!(property(&scope, "CPUQuotaPerSecUSec")?, "800ms");
        let max = fs::read_to_string(folder.join("memory.max")).context("read memory.max")?;
        assert_eq!(max.trim(), format!("{}", 96 << 20));

        node.remove_pod(&pod.id)?;
        assert_eq!(property(&scope, "LoadState")?, "not-found");
        // It is not the daemon's to end.
        assert_eq!(property(slice.name, "ActiveState")?, "active");
        Ok(())
    });
}

#[test]
fn privileged_a_pods_own_slice_goes_with_it() {
    check(Node::builder(), |node| {
        let pod = node.run_pod(configs::pod("brief"))?;
        let id = node.start(&pod, &configs::sleeper("brief"))?;
        let folder = node.cgroup(&id, "memory")?;
        let slice = folder.parent().and_then(|slice| slice.file_name()?.to_str()).context("a slice")?;
        ensure!(slice.ends_with(&format!("-pod{}.slice", pod.id)), "{slice}");
        assert_eq!(property(slice, "ActiveState")?, "active");
        node.remove_pod(&pod.id)?;
        await_state(node, slice, "inactive")
    });
}

#[test]
fn privileged_what_waits_for_memory_and_processors_is_told() {
    check(Node::builder(), |node| {
        let pod = node.run_pod(configs::pod("pressed"))?;
        let mut config = configs::script("pressed", "while :; do :; done");
        let resources = configs::resources(&mut config);
        // A tenth of a processor for one that wants all of it.
        (resources.cpu_period, resources.cpu_quota) = (100_000, 10_000);
        let id = node.start(&pod, &config)?;
        node.until("it has waited for a processor", || {
            let request = ContainerStatsRequest { container_id: id.clone() };
            let stats = node.cri().container_stats(request)?.stats.context("stats")?;
            let psi = stats.cpu.and_then(|cpu| cpu.psi).context("pressure of processors")?;
            stats.memory.and_then(|memory| memory.psi).context("pressure of memory")?;
            stats.io.and_then(|io| io.psi).context("pressure of disks")?;
            Ok(psi.some.is_some_and(|some| some.total > 0).then_some(()))
        })?;
        let answer = node.cri().list_pod_sandbox_metrics(ListPodSandboxMetricsRequest {})?;
        let of_it = answer.pod_metrics.iter().flat_map(|pod| &pod.container_metrics);
        let of_it = of_it.filter(|one| one.container_id == id).flat_map(|one| &one.metrics);
        let names: Vec<&str> =
            of_it.map(|metric| &*metric.name).filter(|it| it.contains("pressure")).collect();
        assert_eq!(names.len(), 6, "{names:?}");
        Ok(())
    });
}
