//! Reads that several RPCs share or that take more than one question to the engine: lists, statuses, figures of many.

use cleat_cri_api::v1 as api;
use cleat_cri_api::v1::{ContainerStatusResponse, PodSandboxStatusResponse, StatusResponse};

use super::translate::field;
use super::translate::filter::{ContainerFilter, PodFilter};
use super::translate::{container_status, info, node, pod_status, stats};
use crate::engine::{Engine, EngineError, Result};
use crate::time::now_ns;

/// The status of the node.
pub(super) async fn status(engine: &Engine, verbose: bool) -> Result<StatusResponse> {
    let abilities = node::Abilities {
        recursive_read_only: engine.has_recursive_read_only(),
        user_namespaces: engine.has_user_namespaces(),
    };
    let status = node::status(engine.network_status().await, abilities, engine.settings().handlers.keys());
    let info = if verbose { node::info(&engine.host_report()) } else { Default::default() };
    Ok(StatusResponse { info, ..status })
}

/// The pods that `filter` accepts.
pub(super) fn pods(engine: &Engine, filter: Option<api::PodSandboxFilter>) -> Result<Vec<api::PodSandbox>> {
    let filter = PodFilter::new(filter)?;
    let view = engine.view();
    Ok(view.pods.values().filter(|pod| filter.accepts(pod)).map(|pod| pod_status::item(pod)).collect())
}

/// The containers that `filter` accepts.
pub(super) fn containers(
    engine: &Engine,
    filter: Option<api::ContainerFilter>,
) -> Result<Vec<api::Container>> {
    let filter = ContainerFilter::new(filter)?;
    let view = engine.view();
    let accepted = view.containers.values().filter(|container| filter.accepts(container));
    Ok(accepted.map(|container| container_status::item(container)).collect())
}

/// The status of a pod and its containers, all of one moment.
pub(super) async fn pod_status(engine: &Engine, id: &str, verbose: bool) -> Result<PodSandboxStatusResponse> {
    let timestamp = now_ns();
    let view = engine.view();
    let pod = view.pod(field::filled("pod_sandbox_id", id)?)?;
    let info = if verbose { info::pod(&pod, engine.pod_spec(&pod).await) } else { Default::default() };
    Ok(PodSandboxStatusResponse {
        status: Some(pod_status::status(&pod)),
        info,
        containers_statuses: container_status::statuses(view.containers_of(&pod.id)),
        timestamp,
    })
}

/// The status of a container.
pub(super) async fn container_status(
    engine: &Engine,
    id: &str,
    verbose: bool,
) -> Result<ContainerStatusResponse> {
    let view = engine.view();
    let container = view.container(field::filled("container_id", id)?)?;
    let info = if verbose {
        let handler = view.pods.get(&container.pod).map(|pod| pod.config.runtime_handler.as_str());
        info::container(&container, handler.unwrap_or_default(), engine.container_spec(&container).await)
    } else {
        Default::default()
    };
    Ok(ContainerStatusResponse { status: Some(container_status::status(&container)), info })
}

/// The figures of all containers that `filter` accepts.
pub(super) async fn container_stats(
    engine: &Engine,
    filter: &ContainerFilter,
) -> Result<Vec<api::ContainerStats>> {
    let view = engine.view();
    let accepted = view.containers.values().filter(|container| filter.accepts(container)).cloned().collect();
    let figures = engine.containers_stats(accepted).await?;
    Ok(figures.iter().map(|(container, figures)| stats::container(container, figures)).collect())
}

/// The figures of all pods that `filter` accepts.
pub(super) async fn pod_stats(engine: &Engine, filter: &PodFilter) -> Result<Vec<api::PodSandboxStats>> {
    let view = engine.view();
    let mut list = Vec::new();
    for pod in view.pods.values().filter(|pod| filter.accepts(pod)) {
        if let Some(figures) = unless_gone(engine.pod_stats(pod).await)? {
            list.push(stats::pod(pod, &figures));
        }
    }
    Ok(list)
}

/// What is removed while a list is made is not in it; any other failure is the list's.
fn unless_gone<T>(figures: Result<T>) -> Result<Option<T>> {
    match figures {
        Ok(figures) => Ok(Some(figures)),
        Err(EngineError::NotFound { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_gone_may_be_missing_from_a_list() {
        let gone = EngineError::NotFound { kind: "pod", name: "x".into(), list: "pods" };
        let failed = EngineError::Invalid { what: "x".into(), why: "y".into() };
        assert_eq!(unless_gone(Ok(1)).unwrap(), Some(1));
        assert_eq!(unless_gone::<()>(Err(gone)).unwrap(), None);
        assert!(unless_gone::<()>(Err(failed)).is_err());
    }
}
