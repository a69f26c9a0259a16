//! `features` (features.md of the OCI specification): what this runtime carries out, and nothing it refuses.

use cleat_sys::capability;
use serde_json::json;

use super::{CommandError, OCI_VERSION, list};

const ACTIONS: [&str; 9] = [
    "SCMP_ACT_ALLOW",
    "SCMP_ACT_ERRNO",
    "SCMP_ACT_KILL",
    "SCMP_ACT_KILL_PROCESS",
    "SCMP_ACT_KILL_THREAD",
    "SCMP_ACT_LOG",
    "SCMP_ACT_NOTIFY",
    "SCMP_ACT_TRACE",
    "SCMP_ACT_TRAP",
];
const OPERATORS: [&str; 7] = [
    "SCMP_CMP_EQ",
    "SCMP_CMP_GE",
    "SCMP_CMP_GT",
    "SCMP_CMP_LE",
    "SCMP_CMP_LT",
    "SCMP_CMP_MASKED_EQ",
    "SCMP_CMP_NE",
];
const ARCHITECTURES: [&str; 5] =
    ["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM", "SCMP_ARCH_X32", "SCMP_ARCH_X86", "SCMP_ARCH_X86_64"];
/// Those of a filter without a listener.
const FLAGS: [&str; 3] =
    ["SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_SPEC_ALLOW", "SECCOMP_FILTER_FLAG_LOG"];
const KNOWN_FLAGS: [&str; 4] = [FLAGS[0], FLAGS[1], FLAGS[2], "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"];

/// `features`.
pub(super) fn command() -> Result<(), CommandError> {
    list::print_json(&json!({
        "ociVersionMin": "1.0.0",
        "ociVersionMax": OCI_VERSION,
        "hooks": ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"],
        "mountOptions": [
            "async", "atime", "bind", "defaults", "dev", "diratime", "exec", "idmap", "lazytime", "noatime", "nodev",
            "nodiratime", "noexec", "norelatime", "nostrictatime", "nosuid", "nosymfollow", "private", "ratime",
            "rbind", "rdev", "rdiratime", "relatime", "rexec", "ridmap", "rnoatime", "rnodev", "rnodiratime", "rnoexec",
            "rnorelatime", "rnostrictatime", "rnosuid", "rnosymfollow", "ro", "rprivate", "rrelatime", "rro", "rrw",
            "rshared", "rslave", "rstrictatime", "rsuid", "rsymfollow", "runbindable", "rw", "shared", "slave",
            "strictatime", "suid", "symfollow", "sync", "tmpcopyup", "unbindable",
        ],
        "linux": {
            "namespaces": ["cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"],
            "cgroup": { "v1": true, "v2": true, "systemd": true, "systemdUser": false, "rdma": true },
            "capabilities": capability::NAMES.as_slice(),
            "seccomp": {
                "enabled": true, "actions": ACTIONS, "operators": OPERATORS, "archs": ARCHITECTURES,
                "knownFlags": KNOWN_FLAGS, "supportedFlags": FLAGS,
            },
            "apparmor": { "enabled": true },
            "selinux": { "enabled": true },
            "intelRdt": { "enabled": true, "schemata": true, "monitoring": true },
            "mountExtensions": { "idmap": { "enabled": true } },
        },
    }))
}

#[cfg(test)]
mod tests {
    use oci_spec::runtime::{Capability, LinuxSeccomp};

    use super::*;

    /// The filter of a section, or why there is none.
    fn compile(section: serde_json::Value) -> Result<cleat_runtime::seccomp::Filter, String> {
        let section: LinuxSeccomp = serde_json::from_value(section).map_err(|error| error.to_string())?;
        cleat_runtime::seccomp::compile(&section).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_told_of_seccomp_compiles() {
        for action in ACTIONS {
            for operator in OPERATORS {
                let rule = json!({ "names": ["read"], "action": action,
                                   "args": [{ "index": 0, "value": 1, "valueTwo": 1, "op": operator }] });
                let section = json!({ "defaultAction": "SCMP_ACT_ALLOW", "architectures": ARCHITECTURES, "syscalls": [rule],
                                      "listenerPath": "/run/agent" });
                compile(section).unwrap();
            }
        }
    }

    #[test]
    fn supported_flags_reach_the_kernel_and_the_others_are_known() {
        for flag in KNOWN_FLAGS {
            let filter = compile(json!({ "defaultAction": "SCMP_ACT_ALLOW", "flags": [flag] })).unwrap();
            assert_eq!(filter.flags != 0, FLAGS.contains(&flag), "{flag}");
        }
    }

    #[test]
    fn capabilities_are_those_a_specification_may_name() {
        for name in capability::NAMES {
            assert!(serde_json::from_value::<Capability>(name.into()).is_ok(), "{name}");
        }
    }
}
