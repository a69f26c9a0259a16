//! cAdvisor's metrics, over gRPC and with crictl.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use cleat_cri_api::v1::*;
use cleat_tests_cri::{Node, check, configs};

/// Every metric that the kubelet's `/metrics/cadvisor` needs and that each kernel has.
const EVERYWHERE: [&str; 24] = [
    "container_cpu_system_seconds_total",
    "container_cpu_usage_seconds_total",
    "container_cpu_user_seconds_total",
    "container_file_descriptors",
    "container_fs_inodes_free",
    "container_fs_inodes_total",
    "container_fs_limit_bytes",
    "container_fs_usage_bytes",
    "container_last_seen",
    "container_memory_cache",
    "container_memory_failcnt",
    "container_memory_failures_total",
    "container_memory_mapped_file",
    "container_memory_max_usage_bytes",
    "container_memory_rss",
    "container_memory_usage_bytes",
    "container_memory_working_set_bytes",
    "container_oom_events_total",
    "container_processes",
    "container_sockets",
    "container_spec_memory_limit_bytes",
    "container_start_time_seconds",
    "container_threads",
    "container_ulimits_soft",
];

/// The figures called `name`, by the values of the labels behind the six that say whom they are about.
fn figures(metrics: &[Metric], name: &str) -> BTreeMap<Vec<String>, u64> {
    let of_name = metrics.iter().filter(|metric| metric.name == name);
    let value = |metric: &Metric| metric.value.as_ref().map(|value| value.value).unwrap_or_default();
    of_name.map(|metric| (metric.label_values[6..].to_vec(), value(metric))).collect()
}

#[test]
fn privileged_metrics_tell_what_a_pod_and_its_containers_use() {
    check(Node::builder(), |node| {
        let cri = node.cri();
        let pod = node.run_pod(configs::pod("measured"))?;
        let script =
            "echo up; sleep 4321 & dd if=/dev/zero of=/file bs=1024 count=300 2>/dev/null; exec sleep 4321";
        let mut config = configs::script("one", script);
        let limits = configs::resources(&mut config);
        limits.memory_limit_in_bytes = 64 << 20;
        (limits.cpu_period, limits.cpu_quota, limits.cpu_shares) = (100_000, 50_000, 512);
        let id = node.start(&pod, &config)?;
        node.until("both run", || Ok((cri.processes(&id, "sleep 4321")?.len() == 2).then_some(())))?;

        let request = ListMetricDescriptorsRequest {};
        let descriptors = cri.list_metric_descriptors(request).context("the descriptors")?.descriptors;
        let keys: BTreeMap<_, _> =
            descriptors.iter().map(|descriptor| (&*descriptor.name, &descriptor.label_keys)).collect();
        let answer = cri.list_pod_sandbox_metrics(ListPodSandboxMetricsRequest {}).context("the metrics")?;
        let of_pod = answer.pod_metrics.iter().find(|one| one.pod_sandbox_id == pod.id).context("the pod")?;
        let of_one = of_pod.container_metrics.iter().find(|one| one.container_id == id).context("it")?;
        for metric in of_pod.metrics.iter().chain(&of_one.metrics) {
            let keys =
                keys.get(&*metric.name).with_context(|| format!("{} is not described", metric.name))?;
            ensure!(keys.len() == metric.label_values.len(), "{metric:?} has labels {keys:?}");
        }
        let names: BTreeSet<_> = of_one.metrics.iter().map(|metric| &*metric.name).collect();
        for name in EVERYWHERE {
            ensure!(names.contains(name), "{name} is missing from {names:?}");
        }
        let labels = &of_one.metrics[0].label_values;
        assert_eq!((&*labels[0], &labels[3], &*labels[4], &*labels[5]), ("one", &id, "test", "measured"));

        let one = |name: &str| figures(&of_one.metrics, name).into_values().next().unwrap_or_default();
        assert_eq!(one("container_spec_memory_limit_bytes"), 64 << 20);
        assert_eq!(one("container_spec_cpu_quota"), 50_000);
        assert_eq!(one("container_spec_cpu_period"), 100_000);
        assert_eq!(one("container_spec_cpu_shares"), 512);
        assert_eq!(one("container_processes"), 2);
        assert!(
            (300 << 10..400 << 10).contains(&one("container_fs_usage_bytes")),
            "{}",
            one("container_fs_usage_bytes")
        );
        assert!(one("container_memory_working_set_bytes") > 0);
        let limits = figures(&of_one.metrics, "container_ulimits_soft");
        assert!(limits.contains_key(&vec!["max_open_files".to_owned()]), "{limits:?}");
        let received = figures(&of_pod.metrics, "container_network_receive_bytes_total");
        assert!(received.contains_key(&vec!["eth0".to_owned()]), "{received:?}");

        cri.stop(&id, 0)?;
        let answer = cri.list_pod_sandbox_metrics(ListPodSandboxMetricsRequest {}).context("the metrics")?;
        assert!(
            answer.pod_metrics.iter().all(|pod| pod.container_metrics.is_empty()),
            "of an ended container"
        );
        Ok(())
    });
}

#[test]
fn privileged_crictl_metrics() {
    check(Node::builder(), |node| -> Result<()> {
        let crictl = node.cleat().crictl()?;
        let pod = node.run_pod(configs::pod("shown"))?;
        node.start(&pod, &configs::sleeper("shown"))?;
        let descriptors = crictl.run(&["metricdescs"])?;
        assert!(descriptors.contains("container_pressure_memory_waiting_seconds_total"), "{descriptors}");
        let metrics = crictl.run(&["metricsp"])?;
        assert!(
            metrics.contains("container_memory_working_set_bytes") && metrics.contains(&pod.id),
            "{metrics}"
        );
        Ok(())
    });
}
