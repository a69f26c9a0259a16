//! The seccomp agent: who decides about the calls that a filter notifies (config-linux.md, "The Container Process State").
//!
//! It gets the listener's descriptor with a description of the process, by the runtime's side that is on the host: the
//! process itself cannot reach the agent's socket, and every call it makes may wait for the agent.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompAction};
use serde::{Deserialize, Serialize};

use crate::Failure;
use crate::failure::Step;
use crate::hooks::HookState;
use crate::seccomp::Filter;

/// The call that hands the listener over: the agent cannot decide about it before it has that.
const HAND_OVER: &str = "sendmsg";

/// What is told of a container besides the status and the process.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Container {
    pub(crate) id: String,
    pub(crate) bundle: PathBuf,
    pub(crate) annotations: BTreeMap<String, String>,
}

/// The message of the specification; the descriptor comes with it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ContainerProcessState<'a> {
    oci_version: &'a str,
    fds: [&'a str; 1],
    pid: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<&'a str>,
    state: HookState<'a>,
}

/// Refuses a filter that would stop the container's own creation.
pub(crate) fn check(seccomp: &LinuxSeccomp) -> Result<(), Failure> {
    let stops = |rule: &oci_spec::runtime::LinuxSyscall| {
        rule.action() == LinuxSeccompAction::ScmpActNotify
            && rule.names().iter().any(|name| name == HAND_OVER)
    };
    if seccomp.syscalls().iter().flatten().any(stops) {
        let reason = format!("{HAND_OVER} hands the listener over to the agent and cannot wait for it");
        return Err(Failure::because("compile the seccomp filter", reason));
    }
    Ok(())
}

/// Hands the listener of the process `pid` to the filter's agent. `status` is that of the container.
pub(crate) fn tell(
    filter: &Filter,
    listener: &OwnedFd,
    container: &Container,
    status: &str,
    pid: i32,
) -> Result<(), Failure> {
    let path = filter.listener_path.as_deref().unwrap_or(Path::new(""));
    let step = || format!("hand the seccomp listener to the agent at {}", path.display());
    let state = HookState {
        oci_version: crate::OCI_VERSION,
        id: &container.id,
        status,
        pid: Some(pid),
        bundle: &container.bundle,
        annotations: &container.annotations,
    };
    let message = ContainerProcessState {
        oci_version: crate::OCI_VERSION,
        fds: ["seccompFd"],
        pid,
        metadata: filter.listener_metadata.as_deref(),
        state,
    };
    let bytes = serde_json::to_vec(&message).step(step)?;
    let agent = UnixStream::connect(path).step(step)?;
    send(&agent, &bytes, listener).step(step)
}

/// The descriptor goes with the first bytes; a stream may take the others later.
fn send(agent: &UnixStream, bytes: &[u8], listener: &OwnedFd) -> io::Result<()> {
    let sent = cleat_sys::passing::send(agent, bytes, &[listener.as_fd()])?;
    io::Write::write_all(&mut &*agent, &bytes[sent..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_that_would_stop_its_own_hand_over_is_refused() {
        let with = |name: &str, action: &str| {
            let rule = serde_json::json!({ "names": [name], "action": action });
            let json = serde_json::json!({
                "defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/run/agent", "syscalls": [rule],
            });
            check(&serde_json::from_value(json).unwrap())
        };
        assert!(with("sendmsg", "SCMP_ACT_NOTIFY").is_err());
        assert!(with("sendmsg", "SCMP_ACT_ERRNO").is_ok());
        assert!(with("mkdir", "SCMP_ACT_NOTIFY").is_ok());
    }
}
