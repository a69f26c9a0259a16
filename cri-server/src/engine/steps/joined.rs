//! The namespaces of other containers that a container without a pod joins. Who holds them is another process after each of
//! the other's starts, so it is looked for at each start of the one that joins.

use oci_spec::runtime::Spec;

use super::run_pod::write_spec;
use crate::engine::container::Container;
use crate::engine::error::{EngineError, Result};
use crate::engine::model::{Id, PidMode};
use crate::engine::shared::Shared;
use crate::engine::view::View;
use crate::spec::{self, Joined};

/// Writes the processes by which `container` joins others' namespaces into its specification.
pub(super) fn refresh(shared: &Shared, container: &Container) -> Result<()> {
    let joins = joins(&shared.board.view(), container)?;
    if joins.is_empty() {
        return Ok(());
    }
    let path = shared.paths.container(&container.id).config();
    let mut specification = Spec::load(&path)
        .map_err(|error| EngineError::step("read the specification", path.display(), &error))?;
    for (joined, pid) in joins {
        spec::join(&mut specification, joined, pid);
    }
    write_spec(&path, &specification)
}

/// Which namespaces are joined, and of which processes.
fn joins(view: &View, container: &Container) -> Result<Vec<(Joined, i32)>> {
    let Some(group) = view.pods.get(&container.pod).filter(|group| group.config.kind.is_one()) else {
        return Ok(Vec::new());
    };
    let mut joins = Vec::new();
    if let PidMode::Target(other) = &container.config.pid {
        let member = view.containers.get(other).map(AsRef::as_ref);
        joins.push((Joined::Pid, process_of(member, other, "share the processes of")?));
    }
    if let Some(other) = &group.config.ipc_of {
        let member = view.containers_of(other).next().map(AsRef::as_ref);
        joins.push((Joined::Ipc, process_of(member, other, "join the IPC namespace of")?));
    }
    Ok(joins)
}

/// The first process of a container that has to run.
fn process_of(container: Option<&Container>, id: &Id, action: &'static str) -> Result<i32> {
    container.and_then(|container| container.state.pid()).ok_or_else(|| EngineError::WrongState {
        action,
        object: format!("container {}", container.map_or(id, |container| &container.id)),
        state: container.map_or("gone", |container| container.state.name()),
        remedy: "start it first",
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::engine::container::{ContainerState, sample};
    use crate::engine::model::Kind;
    use crate::engine::pod::{PodState, sample as sample_pod};

    /// A view with a container `other` in this state, and another one that joins it.
    fn scene(state: ContainerState) -> (View, Container) {
        let ids: [Id; 4] = std::array::from_fn(|_| Id::random().unwrap());
        let [other_group, other, group, id] = &ids;
        let mut view = View::default();
        let mut add = |group: &Id, container: Container, ipc_of: Option<Id>| {
            let mut pod = sample_pod(group, PodState::Ready { pause_pid: None });
            pod.config.kind = Kind::One { container: container.id.clone(), auto_remove: false };
            pod.config.ipc_of = ipc_of;
            view.pods.insert(group.clone(), Arc::new(pod));
            view.containers.insert(container.id.clone(), Arc::new(container));
        };
        add(other_group, Container { state, ..sample(other, other_group) }, None);
        let mut joining = sample(id, group);
        joining.config.pid = PidMode::Target(other.clone());
        add(group, joining.clone(), Some(other_group.clone()));
        (view, joining)
    }

    #[test]
    fn what_runs_is_joined_by_its_process_of_now() {
        let (view, joining) = scene(ContainerState::Running { pid: 7, started_at_ns: 1 });
        assert_eq!(joins(&view, &joining).unwrap(), [(Joined::Pid, 7), (Joined::Ipc, 7)]);
    }

    #[test]
    fn what_does_not_run_cannot_be_joined() {
        let (mut view, joining) = scene(ContainerState::Created);
        assert!(matches!(joins(&view, &joining), Err(EngineError::WrongState { .. })));
        view.containers.retain(|id, _| *id == joining.id);
        assert!(matches!(joins(&view, &joining), Err(EngineError::WrongState { state: "gone", .. })));
    }

    #[test]
    fn a_pods_containers_have_joined_what_they_join() {
        let (mut view, joining) = scene(ContainerState::Created);
        let pod = sample_pod(&joining.pod, PodState::Ready { pause_pid: Some(1) });
        view.pods.insert(joining.pod.clone(), Arc::new(pod));
        assert_eq!(joins(&view, &joining).unwrap(), []);
    }
}
