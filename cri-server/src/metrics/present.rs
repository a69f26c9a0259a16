//! What is there, counted when somebody asks.

use std::collections::BTreeMap;
use std::fmt;

use cleat_image::PullFigures;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;

use crate::engine::container::ContainerState;
use crate::engine::pod::PodState;
use crate::engine::{Engine, View};

/// Pods, containers, images and pulls of an engine.
pub(super) struct Present(pub(super) Engine);

impl fmt::Debug for Present {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Present")
    }
}

impl Collector for Present {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let view = self.0.view();
        by_state(&mut encoder, "pods", "Pods, by state", &pods(&view))?;
        by_state(&mut encoder, "containers", "Containers, by state", &containers(&view))?;
        let images = i64::try_from(self.0.images().list().len()).unwrap_or(i64::MAX);
        let images = ConstGauge::new(images);
        images.encode(encoder.encode_descriptor("images", "Images", None, MetricType::Gauge)?)?;
        pulls(&mut encoder, self.0.puller().figures())
    }
}

fn by_state(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    counts: &BTreeMap<&'static str, i64>,
) -> fmt::Result {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (state, count) in counts {
        ConstGauge::new(*count).encode(family.encode_family(&[("state", *state)])?)?;
    }
    Ok(())
}

fn pulls(encoder: &mut DescriptorEncoder<'_>, figures: PullFigures) -> fmt::Result {
    let help = "Pulls of images that have ended";
    let mut ended = encoder.encode_descriptor("image_pulls", help, None, MetricType::Counter)?;
    for (outcome, count) in [("success", figures.done), ("failure", figures.failed)] {
        ConstCounter::new(count).encode(ended.encode_family(&[("outcome", outcome)])?)?;
    }
    let help = "Bytes of layers that came from registries, as they are sent";
    let received = ConstCounter::new(figures.received_bytes);
    let name = "image_pull_received";
    received.encode(encoder.encode_descriptor(name, help, Some(&Unit::Bytes), MetricType::Counter)?)
}

/// How many pods of the CRI are in each state; states without any are there, too, so that no series comes and goes.
fn pods(view: &View) -> BTreeMap<&'static str, i64> {
    let mut counts = BTreeMap::from([("creating", 0), ("ready", 0), ("not_ready", 0), ("removing", 0)]);
    for pod in view.pods.values().filter(|pod| !pod.config.kind.is_one()) {
        let state = match pod.state {
            PodState::Creating => "creating",
            PodState::Ready { .. } => "ready",
            PodState::NotReady => "not_ready",
            PodState::Removing => "removing",
        };
        *counts.entry(state).or_default() += 1;
    }
    counts
}

/// How many containers, those without a pod among them, are in each state.
fn containers(view: &View) -> BTreeMap<&'static str, i64> {
    let states = ["creating", "created", "starting", "running", "paused", "exited"];
    let mut counts: BTreeMap<_, _> = states.into_iter().map(|state| (state, 0)).collect();
    for container in view.containers.values() {
        let state = match container.state {
            ContainerState::Creating => "creating",
            ContainerState::Created => "created",
            ContainerState::Starting => "starting",
            ContainerState::Running { .. } => "running",
            ContainerState::Paused { .. } => "paused",
            ContainerState::Exited(_) => "exited",
        };
        *counts.entry(state).or_default() += 1;
    }
    counts
}
