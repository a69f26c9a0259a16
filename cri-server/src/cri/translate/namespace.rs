//! Namespace options of pods and containers.

use cleat_cri_api::v1::{NamespaceMode, NamespaceOption};

use super::field::{known, refused};
use super::user;
use crate::engine::Result;
use crate::engine::model::{Id, IpcMode, Mode, Namespaces, PidMode, UserMode};

/// Field names, as they are refused.
const NETWORK: &str = "namespace_options.network";
const IPC: &str = "namespace_options.ipc";
const PID: &str = "namespace_options.pid";
const TARGET: &str = "namespace_options.target_id";

/// The namespaces of a pod. Without options every mode is POD, the CRI's default, but the user namespace is the host's.
/// One of the pod's own is no use with the host's processes or IPC, whose filesystems it may not mount.
pub(super) fn of_pod(options: Option<NamespaceOption>) -> Result<Namespaces> {
    let options = options.unwrap_or_default();
    let pid = match known(PID, options.pid)? {
        NamespaceMode::Pod => PidMode::Pod,
        NamespaceMode::Container => PidMode::Container,
        NamespaceMode::Node => PidMode::Node,
        NamespaceMode::Target => {
            return Err(refused(PID, "TARGET", "only a container can join another one's"));
        }
    };
    let (network, ipc) = (mode(NETWORK, options.network)?, ipc_mode(options.ipc)?);
    let user = user::mode(options.userns_options)?.unwrap_or_default();
    if user != UserMode::Node {
        let why = "a pod with a user namespace of its own cannot use the host's";
        if pid == PidMode::Node {
            return Err(refused(PID, "NODE", why));
        }
        if ipc == IpcMode::Node {
            return Err(refused(IPC, "NODE", why));
        }
    }
    Ok(Namespaces { network, ipc, pid, user, ..Namespaces::default() })
}

/// The process namespace of a container, and the user namespace it expects its pod to have. Its network and IPC namespaces are its pod's, whatever its options say; they
/// are looked at so that nonsense is refused.
pub(super) fn of_container(options: Option<NamespaceOption>) -> Result<(PidMode, Option<UserMode>)> {
    let options = options.unwrap_or_default();
    let user = user::mode(options.userns_options)?;
    mode(NETWORK, options.network)?;
    mode(IPC, options.ipc)?;
    let pid = match known(PID, options.pid)? {
        NamespaceMode::Pod => PidMode::Pod,
        NamespaceMode::Container => PidMode::Container,
        NamespaceMode::Node => PidMode::Node,
        NamespaceMode::Target => PidMode::Target(Id::try_from(options.target_id).map_err(|error| {
            refused(TARGET, error.to_string(), "the whole id of a container is expected")
        })?),
    };
    Ok((pid, user))
}

/// The options a pod or container was made with, for its status.
pub(super) fn options(namespaces: &Namespaces) -> NamespaceOption {
    let (pid, target_id) = match &namespaces.pid {
        PidMode::Container => (NamespaceMode::Container, String::new()),
        PidMode::Pod => (NamespaceMode::Pod, String::new()),
        PidMode::Node => (NamespaceMode::Node, String::new()),
        PidMode::Target(id) => (NamespaceMode::Target, id.to_string()),
    };
    NamespaceOption {
        network: mode_name(namespaces.network) as i32,
        pid: pid as i32,
        ipc: match namespaces.ipc {
            IpcMode::Node => NamespaceMode::Node,
            // Pods have no other modes.
            IpcMode::Pod | IpcMode::Shareable | IpcMode::WithoutMemory => NamespaceMode::Pod,
        } as i32,
        target_id,
        userns_options: user::report(&namespaces.user),
    }
}

fn mode(field: &str, number: i32) -> Result<Mode> {
    match known(field, number)? {
        NamespaceMode::Pod => Ok(Mode::Pod),
        NamespaceMode::Node => Ok(Mode::Node),
        other => Err(refused(field, other.as_str_name(), "it is POD or NODE")),
    }
}

fn ipc_mode(number: i32) -> Result<IpcMode> {
    Ok(match mode(IPC, number)? {
        Mode::Pod => IpcMode::Pod,
        Mode::Node => IpcMode::Node,
    })
}

fn mode_name(mode: Mode) -> NamespaceMode {
    match mode {
        Mode::Pod => NamespaceMode::Pod,
        Mode::Node => NamespaceMode::Node,
    }
}

#[cfg(test)]
mod tests {
    use cleat_cri_api::v1::{IdMapping, UserNamespace};

    use super::*;
    use crate::engine::EngineError;

    const POD: i32 = NamespaceMode::Pod as i32;
    const CONTAINER: i32 = NamespaceMode::Container as i32;
    const NODE: i32 = NamespaceMode::Node as i32;
    const JOINED: i32 = NamespaceMode::Target as i32;

    fn asked(network: i32, pid: i32, ipc: i32) -> NamespaceOption {
        NamespaceOption { network, pid, ipc, ..NamespaceOption::default() }
    }

    #[test]
    fn a_pods_namespaces() {
        let own = Namespaces { pid: PidMode::Pod, ..Namespaces::default() };
        let host = Namespaces {
            network: Mode::Node,
            ipc: IpcMode::Node,
            pid: PidMode::Node,
            ..Namespaces::default()
        };
        for (options, expected) in [
            (None, Some(own.clone())),
            (Some(asked(POD, POD, POD)), Some(own)),
            (Some(asked(POD, CONTAINER, POD)), Some(Namespaces::default())),
            (Some(asked(NODE, NODE, NODE)), Some(host)),
            (Some(asked(CONTAINER, POD, POD)), None),
            (Some(asked(POD, POD, CONTAINER)), None),
            (Some(asked(POD, JOINED, POD)), None),
            (Some(asked(4, POD, POD)), None),
            (Some(asked(POD, -1, POD)), None),
        ] {
            assert_eq!(of_pod(options.clone()).ok(), expected, "{options:?}");
        }
    }

    #[test]
    fn a_containers_process_namespace() {
        let id = Id::try_from("ab".repeat(32)).unwrap();
        let target =
            |target_id: &str| NamespaceOption { target_id: target_id.into(), ..asked(POD, JOINED, POD) };
        for (options, expected) in [
            (None, Some(PidMode::Pod)),
            (Some(asked(POD, CONTAINER, POD)), Some(PidMode::Container)),
            (Some(asked(NODE, NODE, NODE)), Some(PidMode::Node)),
            (Some(target(id.as_str())), Some(PidMode::Target(id.clone()))),
            (Some(target("")), None),
            (Some(target("../x")), None),
            (Some(asked(JOINED, POD, POD)), None),
            (Some(asked(POD, 9, POD)), None),
        ] {
            let found = of_container(options.clone()).ok().map(|(pid, _)| pid);
            assert_eq!(found, expected, "{options:?}");
        }
    }

    #[test]
    fn what_was_asked_for_is_reported() {
        for options in [asked(POD, POD, POD), asked(NODE, CONTAINER, POD), asked(NODE, NODE, NODE)] {
            assert_eq!(super::options(&of_pod(Some(options.clone())).unwrap()), options);
        }
    }

    #[test]
    fn a_user_namespace_needs_processes_and_ipc_of_its_own() {
        let range = || vec![IdMapping { host_id: 65_536, container_id: 0, length: 65_536 }];
        let user = || Some(UserNamespace { mode: POD, uids: range(), gids: range() });
        let with = |network, pid, ipc| NamespaceOption { userns_options: user(), ..asked(network, pid, ipc) };
        for good in [with(POD, CONTAINER, POD), with(POD, POD, POD), with(NODE, POD, POD)] {
            assert_eq!(super::options(&of_pod(Some(good.clone())).unwrap()), good);
        }
        for bad in [with(POD, NODE, POD), with(POD, POD, NODE)] {
            let error = of_pod(Some(bad)).unwrap_err();
            assert!(matches!(error, EngineError::Invalid { .. }), "{error}");
        }
        assert!(of_container(Some(with(POD, POD, POD))).unwrap().1.is_some());
    }
}
