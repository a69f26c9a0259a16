//! Namespace options of pods and containers.

use cleat_cri_api::v1::{NamespaceMode, NamespaceOption, UserNamespace};

use super::field::{known, refused, unsupported};
use crate::engine::Result;
use crate::engine::model::{Id, Mode, Namespaces, PidMode};

/// Field names, as they are refused.
const NETWORK: &str = "namespace_options.network";
const IPC: &str = "namespace_options.ipc";
const PID: &str = "namespace_options.pid";
const TARGET: &str = "namespace_options.target_id";
const USER: &str = "namespace_options.userns_options.mode";

/// The namespaces of a pod. Without options every mode is POD, the CRI's default.
pub(super) fn of_pod(options: Option<NamespaceOption>) -> Result<Namespaces> {
    let options = options.unwrap_or_default();
    user(options.userns_options.as_ref())?;
    let pid = match known(PID, options.pid)? {
        NamespaceMode::Pod => PidMode::Pod,
        NamespaceMode::Container => PidMode::Container,
        NamespaceMode::Node => PidMode::Node,
        NamespaceMode::Target => {
            return Err(refused(PID, "TARGET", "only a container can join another one's"));
        }
    };
    Ok(Namespaces { network: mode(NETWORK, options.network)?, ipc: mode(IPC, options.ipc)?, pid })
}

/// The process namespace of a container. Its network and IPC namespaces are its pod's, whatever its options say; they
/// are looked at so that nonsense is refused.
pub(super) fn of_container(options: Option<NamespaceOption>) -> Result<PidMode> {
    let options = options.unwrap_or_default();
    user(options.userns_options.as_ref())?;
    mode(NETWORK, options.network)?;
    mode(IPC, options.ipc)?;
    Ok(match known(PID, options.pid)? {
        NamespaceMode::Pod => PidMode::Pod,
        NamespaceMode::Container => PidMode::Container,
        NamespaceMode::Node => PidMode::Node,
        NamespaceMode::Target => PidMode::Target(Id::try_from(options.target_id).map_err(|error| {
            refused(TARGET, error.to_string(), "the whole id of a container is expected")
        })?),
    })
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
        ipc: mode_name(namespaces.ipc) as i32,
        target_id,
        userns_options: None,
    }
}

fn mode(field: &str, number: i32) -> Result<Mode> {
    match known(field, number)? {
        NamespaceMode::Pod => Ok(Mode::Pod),
        NamespaceMode::Node => Ok(Mode::Node),
        other => Err(refused(field, other.as_str_name(), "it is POD or NODE")),
    }
}

fn mode_name(mode: Mode) -> NamespaceMode {
    match mode {
        Mode::Pod => NamespaceMode::Pod,
        Mode::Node => NamespaceMode::Node,
    }
}

/// A user namespace of the host's is no user namespace; one of the pod's would be security the client counts on.
fn user(options: Option<&UserNamespace>) -> Result<()> {
    let Some(options) = options else { return Ok(()) };
    match known(USER, options.mode)? {
        NamespaceMode::Node if options.uids.is_empty() && options.gids.is_empty() => Ok(()),
        NamespaceMode::Node => Err(refused(USER, "NODE", "the host's user namespace takes no mappings")),
        NamespaceMode::Pod => {
            Err(unsupported(USER, "user namespaces are not built yet; set hostUsers: true"))
        }
        other => Err(refused(USER, other.as_str_name(), "it is POD or NODE")),
    }
}

#[cfg(test)]
mod tests {
    use cleat_cri_api::v1::IdMapping;

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
        let host = Namespaces { network: Mode::Node, ipc: Mode::Node, pid: PidMode::Node };
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
            assert_eq!(of_container(options.clone()).ok(), expected, "{options:?}");
        }
    }

    #[test]
    fn what_was_asked_for_is_reported() {
        for options in [asked(POD, POD, POD), asked(NODE, CONTAINER, POD), asked(NODE, NODE, NODE)] {
            assert_eq!(super::options(&of_pod(Some(options.clone())).unwrap()), options);
        }
    }

    #[test]
    fn a_user_namespace_is_refused_until_there_are_any() {
        let with = |mode, uids| NamespaceOption {
            userns_options: Some(UserNamespace { mode, uids, gids: Vec::new() }),
            ..NamespaceOption::default()
        };
        assert!(of_pod(Some(with(NODE, Vec::new()))).is_ok());
        let error = of_pod(Some(with(POD, Vec::new()))).unwrap_err();
        assert!(matches!(&error, EngineError::Unsupported { what, .. } if what == USER), "{error}");
        for (mode, uids) in [(NODE, vec![IdMapping::default()]), (CONTAINER, Vec::new()), (7, Vec::new())] {
            let error = of_container(Some(with(mode, uids))).unwrap_err();
            assert!(matches!(error, EngineError::Invalid { .. }), "{error}");
        }
    }
}
