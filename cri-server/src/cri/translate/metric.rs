//! Metrics as the kubelet's endpoint `/metrics/cadvisor` takes them from a runtime.

use cleat_cri_api::v1::{
    ContainerMetrics, Metric, MetricDescriptor, MetricType, PodSandboxMetrics, UInt64Value,
};

use crate::engine::metrics::{self, Kind, PodMetrics, Sample};

/// Labels that say whom a figure is about, as cAdvisor has them below a kubelet.
const WHOSE: [&str; 6] = ["container", "id", "image", "name", "namespace", "pod"];

/// What the pause process is called where a container's name is expected.
const POD: &str = "POD";

/// What there is.
pub(in crate::cri) fn descriptors() -> Vec<MetricDescriptor> {
    let descriptor = |metric: &&metrics::Metric| MetricDescriptor {
        name: metric.name.to_owned(),
        help: metric.help.to_owned(),
        label_keys: WHOSE.iter().chain(metric.labels).map(ToString::to_string).collect(),
    };
    metrics::ALL.iter().map(descriptor).collect()
}

/// The figures of a pod.
pub(in crate::cri) fn pod(figures: &PodMetrics) -> PodSandboxMetrics {
    let pod = &figures.pod;
    let name = &pod.config.name;
    let of_pod = [POD, &pod.cgroup, "", pod.id.as_str(), &name.namespace, &name.name];
    let containers = figures.containers.iter().map(|of| {
        let container = &of.container;
        let (config, id) = (&container.config, container.id.as_str());
        let whose =
            [&config.name, &container.cgroup, &container.image.reference, id, &name.namespace, &name.name];
        ContainerMetrics { container_id: id.to_owned(), metrics: samples(&of.samples, whose) }
    });
    PodSandboxMetrics {
        pod_sandbox_id: pod.id.to_string(),
        metrics: samples(&figures.samples, of_pod),
        container_metrics: containers.collect(),
    }
}

fn samples(samples: &[Sample], whose: [&str; WHOSE.len()]) -> Vec<Metric> {
    let metric = |sample: &Sample| Metric {
        name: sample.metric.name.to_owned(),
        // Just taken.
        timestamp: 0,
        metric_type: match sample.metric.kind {
            Kind::Counter => MetricType::Counter,
            Kind::Gauge => MetricType::Gauge,
        } as i32,
        label_values: whose.iter().map(ToString::to_string).chain(sample.labels.iter().cloned()).collect(),
        value: Some(UInt64Value { value: sample.value }),
    };
    samples.iter().map(metric).collect()
}
