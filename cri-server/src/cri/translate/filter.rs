//! Which pods and containers a list is about. Ids match by their start, labels by key and value; what a filter leaves
//! empty matches everything.

use std::collections::{BTreeMap, HashMap};

use cleat_cri_api::v1::{
    self, ContainerStatsFilter, PodSandboxFilter, PodSandboxState, PodSandboxStatsFilter,
};

use super::field::known;
use super::{container_status, pod_status};
use crate::engine::Result;
use crate::engine::container::Container;
use crate::engine::pod::Pod;

/// Which pods.
#[derive(Debug, Default)]
pub(in crate::cri) struct PodFilter {
    id: String,
    state: Option<PodSandboxState>,
    labels: HashMap<String, String>,
}

/// Which containers.
#[derive(Debug, Default)]
pub(in crate::cri) struct ContainerFilter {
    id: String,
    pod: String,
    state: Option<v1::ContainerState>,
    labels: HashMap<String, String>,
}

impl PodFilter {
    /// From a list request.
    pub(in crate::cri) fn new(filter: Option<PodSandboxFilter>) -> Result<Self> {
        let filter = filter.unwrap_or_default();
        let state = filter.state.map(|value| known("filter.state", value.state)).transpose()?;
        Ok(Self { id: filter.id, state, labels: filter.label_selector })
    }

    /// From a stats request.
    pub(in crate::cri) fn of_stats(filter: Option<PodSandboxStatsFilter>) -> Self {
        let filter = filter.unwrap_or_default();
        Self { id: filter.id, state: None, labels: filter.label_selector }
    }

    /// Whether the list is about `pod`.
    pub(in crate::cri) fn accepts(&self, pod: &Pod) -> bool {
        !pod.config.kind.is_one()
            && pod.id.as_str().starts_with(&self.id)
            && self.state.is_none_or(|state| state == pod_status::state(pod.state))
            && selected(&self.labels, &pod.config.labels)
    }
}

impl ContainerFilter {
    /// From a list request.
    pub(in crate::cri) fn new(filter: Option<v1::ContainerFilter>) -> Result<Self> {
        let filter = filter.unwrap_or_default();
        let state = filter.state.map(|value| known("filter.state", value.state)).transpose()?;
        Ok(Self { id: filter.id, pod: filter.pod_sandbox_id, state, labels: filter.label_selector })
    }

    /// From a stats request.
    pub(in crate::cri) fn of_stats(filter: Option<ContainerStatsFilter>) -> Self {
        let filter = filter.unwrap_or_default();
        Self { id: filter.id, pod: filter.pod_sandbox_id, state: None, labels: filter.label_selector }
    }

    /// Whether the list is about `container`.
    pub(in crate::cri) fn accepts(&self, container: &Container) -> bool {
        !container.is_alone
            && container.id.as_str().starts_with(&self.id)
            && container.pod.as_str().starts_with(&self.pod)
            && self.state.is_none_or(|state| state == container_status::state(&container.state))
            && selected(&self.labels, &container.config.labels)
    }
}

fn selected(selector: &HashMap<String, String>, labels: &BTreeMap<String, String>) -> bool {
    selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}

#[cfg(test)]
mod tests {
    use cleat_cri_api::v1::{ContainerStateValue, PodSandboxStateValue};

    use super::*;
    use crate::cri::translate::samples::{container, pod};

    fn label(key: &str, value: &str) -> HashMap<String, String> {
        [(key.to_owned(), value.to_owned())].into()
    }

    #[test]
    fn pods_are_chosen_by_id_state_and_labels() {
        let pod = pod();
        let state = |state| Some(PodSandboxStateValue { state });
        let none = PodSandboxFilter::default;
        for (filter, expected) in [
            (none(), true),
            (PodSandboxFilter { id: "aa".into(), ..none() }, true),
            (PodSandboxFilter { id: "a".repeat(64), ..none() }, true),
            (PodSandboxFilter { id: "b".into(), ..none() }, false),
            (PodSandboxFilter { state: state(0), ..none() }, true),
            (PodSandboxFilter { state: state(1), ..none() }, false),
            (PodSandboxFilter { label_selector: label("app", "web"), ..none() }, true),
            (PodSandboxFilter { label_selector: label("app", "we"), ..none() }, false),
            (PodSandboxFilter { label_selector: label("tier", ""), ..none() }, false),
        ] {
            assert_eq!(PodFilter::new(Some(filter.clone())).unwrap().accepts(&pod), expected, "{filter:?}");
        }
        assert!(PodFilter::new(None).unwrap().accepts(&pod));
        assert!(PodFilter::new(Some(PodSandboxFilter { state: state(2), ..none() })).is_err());
        let stats = PodSandboxStatsFilter { id: "b".into(), ..PodSandboxStatsFilter::default() };
        assert!(!PodFilter::of_stats(Some(stats)).accepts(&pod));
    }

    #[test]
    fn containers_are_chosen_by_id_pod_state_and_labels() {
        let container = container();
        let state = |state| Some(ContainerStateValue { state });
        let none = v1::ContainerFilter::default;
        for (filter, expected) in [
            (none(), true),
            (v1::ContainerFilter { id: "cc".into(), ..none() }, true),
            (v1::ContainerFilter { id: "ca".into(), ..none() }, false),
            (v1::ContainerFilter { pod_sandbox_id: "aaa".into(), ..none() }, true),
            (v1::ContainerFilter { pod_sandbox_id: "c".into(), ..none() }, false),
            (v1::ContainerFilter { state: state(1), ..none() }, true),
            (v1::ContainerFilter { state: state(0), ..none() }, false),
            (v1::ContainerFilter { label_selector: label("k", "v"), ..none() }, true),
            (v1::ContainerFilter { label_selector: label("k", "w"), ..none() }, false),
        ] {
            assert_eq!(
                ContainerFilter::new(Some(filter.clone())).unwrap().accepts(&container),
                expected,
                "{filter:?}"
            );
        }
        assert!(ContainerFilter::new(Some(v1::ContainerFilter { state: state(4), ..none() })).is_err());
        let stats = ContainerStatsFilter { pod_sandbox_id: "c".into(), ..ContainerStatsFilter::default() };
        assert!(!ContainerFilter::of_stats(Some(stats)).accepts(&container));
    }
}
