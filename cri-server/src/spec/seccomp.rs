//! Seccomp profiles in Docker's format (which contains the OCI's), and what one means for a given container.
//!
//! Docker's format adds conditions to rules: the capabilities a container holds, the architecture, the version of the
//! kernel. They are decided here, so that the runtime gets plain rules.

use oci_spec::runtime::{
    Arch, Capabilities, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompFilterFlag,
    LinuxSyscall,
};
use serde::{Deserialize, Deserializer};

use super::facts::{Architecture, KernelVersion};
use super::{Host, SpecError, capability};
use crate::engine::model::{Seccomp, Security};

/// The profile that `RuntimeDefault` means unless the administrator names another: the one Docker and Kubernetes users
/// expect.
const DEFAULT_PROFILE: &str = include_str!("seccomp-default.json");

/// The largest profile that is read, bytes; the default one has 13 thousand.
const MAX_PROFILE_BYTES: usize = 1 << 20;

/// A profile as its file has it, conditions undecided.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Profile {
    default_action: LinuxSeccompAction,
    #[serde(default)]
    default_errno_ret: Option<u32>,
    #[serde(default, deserialize_with = "or_empty")]
    architectures: Vec<Arch>,
    #[serde(default, deserialize_with = "or_empty")]
    arch_map: Vec<ArchGroup>,
    #[serde(default, deserialize_with = "or_empty")]
    flags: Vec<LinuxSeccompFilterFlag>,
    #[serde(default)]
    listener_path: Option<String>,
    #[serde(default)]
    listener_metadata: Option<String>,
    #[serde(default, deserialize_with = "or_empty")]
    syscalls: Vec<Rule>,
}

/// An architecture and those whose programs it can run too.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ArchGroup {
    architecture: Arch,
    #[serde(default, deserialize_with = "or_empty")]
    sub_architectures: Vec<Arch>,
}

/// What happens to some system calls, under conditions.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    /// A single name, as old profiles have it.
    #[serde(default)]
    name: Option<String>,
    #[serde(default, deserialize_with = "or_empty")]
    names: Vec<String>,
    action: LinuxSeccompAction,
    #[serde(default)]
    errno_ret: Option<u32>,
    #[serde(default, deserialize_with = "or_empty")]
    args: Vec<LinuxSeccompArg>,
    #[serde(default, deserialize_with = "or_empty")]
    includes: Condition,
    #[serde(default, deserialize_with = "or_empty")]
    excludes: Condition,
}

/// When a rule counts (or does not).
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Condition {
    #[serde(default, deserialize_with = "or_empty")]
    caps: Vec<String>,
    #[serde(default, deserialize_with = "or_empty")]
    arches: Vec<String>,
    #[serde(default)]
    min_kernel: Option<String>,
}

/// A profile that cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ProfileError {
    /// It is too large.
    #[error("seccomp profile of {0} bytes, at most {MAX_PROFILE_BYTES} are read")]
    TooLarge(usize),
    /// It is not a profile.
    #[error("read the seccomp profile: {0}")]
    Malformed(String),
    /// Two ways of naming architectures at once.
    #[error("seccomp profile has both architectures and archMap; one of them must go")]
    TwoArchitectureLists,
    /// Two ways of naming system calls at once.
    #[error("seccomp rule has both name {0:?} and names; one of them must go")]
    NameAndNames(String),
    /// A kernel version that is none.
    #[error("seccomp rule asks for kernel {0:?}, which is no version")]
    KernelVersion(String),
    /// A capability that is none.
    #[error("seccomp rule asks for capability {0:?}, which does not exist")]
    Capability(String),
}

/// What a rule's conditions are decided on.
struct Circumstances<'a> {
    held: &'a Capabilities,
    architecture: Architecture,
    kernel: KernelVersion,
}

impl Profile {
    /// Reads a profile in Docker's or the OCI's JSON.
    ///
    /// # Errors
    /// When it is too large, no profile, or contradicts itself. All conditions are read here, so that resolving a
    /// profile cannot fail.
    pub(crate) fn parse(json: &[u8]) -> Result<Self, ProfileError> {
        if json.len() > MAX_PROFILE_BYTES {
            return Err(ProfileError::TooLarge(json.len()));
        }
        let profile: Self =
            serde_json::from_slice(json).map_err(|error| ProfileError::Malformed(error.to_string()))?;
        if !profile.architectures.is_empty() && !profile.arch_map.is_empty() {
            return Err(ProfileError::TwoArchitectureLists);
        }
        profile.syscalls.iter().try_for_each(Rule::check)?;
        Ok(profile)
    }

    /// The profile that `RuntimeDefault` means.
    ///
    /// # Errors
    /// Never with the profile this program is built with, which a test reads.
    pub(crate) fn runtime_default() -> Result<Self, ProfileError> {
        Self::parse(DEFAULT_PROFILE.as_bytes())
    }

    /// What this profile means for a container that holds these capabilities (its bounding set) on this machine.
    #[must_use]
    pub(crate) fn resolve(
        &self,
        held: &Capabilities,
        architecture: Architecture,
        kernel: KernelVersion,
    ) -> LinuxSeccomp {
        let circumstances = Circumstances { held, architecture, kernel };
        let rules =
            self.syscalls.iter().filter(|rule| rule.counts(&circumstances)).map(Rule::to_oci).collect();
        let mut resolved = LinuxSeccomp::default();
        resolved
            .set_default_action(self.default_action)
            .set_default_errno_ret(self.default_errno_ret)
            .set_architectures(Some(self.architectures_on(architecture)))
            .set_flags((!self.flags.is_empty()).then(|| self.flags.clone()))
            .set_listener_path(self.listener_path.as_ref().map(Into::into))
            .set_listener_metadata(self.listener_metadata.clone())
            .set_syscalls(Some(rules));
        resolved
    }

    fn architectures_on(&self, architecture: Architecture) -> Vec<Arch> {
        let native = scmp(architecture);
        match self.arch_map.iter().find(|group| group.architecture == native) {
            Some(group) => std::iter::once(native).chain(group.sub_architectures.iter().copied()).collect(),
            None => self.architectures.clone(),
        }
    }
}

impl Rule {
    fn check(&self) -> Result<(), ProfileError> {
        if let Some(name) = self.name.as_ref().filter(|_| !self.names.is_empty()) {
            return Err(ProfileError::NameAndNames(name.clone()));
        }
        self.includes.check()?;
        self.excludes.check()
    }

    fn counts(&self, circumstances: &Circumstances<'_>) -> bool {
        self.includes.all(circumstances) && !self.excludes.any(circumstances)
    }

    fn to_oci(&self) -> LinuxSyscall {
        let names = self.name.iter().chain(&self.names).cloned().collect();
        let mut syscall = LinuxSyscall::default();
        syscall
            .set_names(names)
            .set_action(self.action)
            .set_errno_ret(self.errno_ret)
            .set_args((!self.args.is_empty()).then(|| self.args.clone()));
        syscall
    }
}

impl Condition {
    fn check(&self) -> Result<(), ProfileError> {
        if let Some(name) = self.caps.iter().find(|name| capability::parse(name).is_err()) {
            return Err(ProfileError::Capability(name.clone()));
        }
        match &self.min_kernel {
            Some(text) if KernelVersion::parse(text).is_none() => {
                Err(ProfileError::KernelVersion(text.clone()))
            }
            _ => Ok(()),
        }
    }

    /// Whether every part that is stated holds.
    fn all(&self, circumstances: &Circumstances<'_>) -> bool {
        self.caps.iter().all(|name| holds(name, circumstances))
            && (self.arches.is_empty() || self.names_architecture(circumstances))
            && (self.min_kernel.is_none() || self.kernel_is_new_enough(circumstances))
    }

    /// Whether any part that is stated holds.
    fn any(&self, circumstances: &Circumstances<'_>) -> bool {
        self.caps.iter().any(|name| holds(name, circumstances))
            || self.names_architecture(circumstances)
            || self.kernel_is_new_enough(circumstances)
    }

    fn names_architecture(&self, circumstances: &Circumstances<'_>) -> bool {
        self.arches.iter().any(|name| name == go_name(circumstances.architecture))
    }

    fn kernel_is_new_enough(&self, circumstances: &Circumstances<'_>) -> bool {
        let wanted = self.min_kernel.as_deref().and_then(KernelVersion::parse);
        wanted.is_some_and(|wanted| circumstances.kernel >= wanted)
    }
}

fn holds(name: &str, circumstances: &Circumstances<'_>) -> bool {
    capability::parse(name).is_ok_and(|capability| circumstances.held.contains(&capability))
}

/// The name that `arches` in profiles has: the Go toolchain's.
fn go_name(architecture: Architecture) -> &'static str {
    match architecture {
        Architecture::Amd64 => "amd64",
        Architecture::Arm64 => "arm64",
        Architecture::Riscv64 => "riscv64",
        Architecture::S390x => "s390x",
        Architecture::Ppc64le => "ppc64le",
        Architecture::Loongarch64 => "loong64",
    }
}

fn scmp(architecture: Architecture) -> Arch {
    match architecture {
        Architecture::Amd64 => Arch::ScmpArchX86_64,
        Architecture::Arm64 => Arch::ScmpArchAarch64,
        Architecture::Riscv64 => Arch::ScmpArchRiscv64,
        Architecture::S390x => Arch::ScmpArchS390x,
        Architecture::Ppc64le => Arch::ScmpArchPpc64le,
        Architecture::Loongarch64 => Arch::ScmpArchLoongarch64,
    }
}

/// The filter of a container that holds these capabilities; none when privileged or unconfined. `localhost` is the
/// profile that `Seccomp::Localhost` names, or that came with the request, read by the caller.
pub(super) fn filter(
    host: &Host,
    security: &Security,
    localhost: Option<&Profile>,
    held: &Capabilities,
) -> Result<Option<LinuxSeccomp>, SpecError> {
    if security.privileged || security.seccomp == Seccomp::Unconfined {
        return Ok(None);
    }
    if !host.seccomp {
        return Err(SpecError::SeccompUnsupported);
    }
    let profile = match &security.seccomp {
        Seccomp::Localhost(path) => {
            localhost.ok_or_else(|| SpecError::SeccompProfileMissing(path.clone()))?
        }
        Seccomp::Inline(_) => {
            localhost.ok_or_else(|| SpecError::SeccompProfileMissing("of the request".into()))?
        }
        Seccomp::RuntimeDefault | Seccomp::Unconfined => &host.seccomp_profile,
    };
    Ok(Some(profile.resolve(held, host.architecture, host.kernel)))
}

/// Go programs write `null` where they mean an empty list.
fn or_empty<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Option::<T>::deserialize(deserializer).map(Option::unwrap_or_default)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use oci_spec::runtime::{Capability, LinuxSeccompOperator};

    use super::super::fixture::{self, default_capabilities};
    use super::*;

    const NEW: KernelVersion = KernelVersion { major: 6, minor: 18 };

    fn rules<'a>(resolved: &'a LinuxSeccomp, name: &str) -> Vec<&'a LinuxSyscall> {
        let all = resolved.syscalls().as_ref().unwrap();
        all.iter().filter(|rule| rule.names().iter().any(|known| known == name)).collect()
    }

    fn parse(json: &str) -> Result<Profile, ProfileError> {
        Profile::parse(json.as_bytes())
    }

    #[test]
    fn the_default_profile_follows_the_capabilities() {
        let profile = Profile::runtime_default().unwrap();
        let plain = profile.resolve(&default_capabilities(), Architecture::Amd64, NEW);
        assert_eq!(
            (plain.default_action(), plain.default_errno_ret()),
            (LinuxSeccompAction::ScmpActErrno, Some(1))
        );
        assert_eq!(
            plain.architectures().as_deref(),
            Some(&[Arch::ScmpArchX86_64, Arch::ScmpArchX86, Arch::ScmpArchX32][..])
        );
        assert!(rules(&plain, "mount").is_empty());
        assert_eq!(rules(&plain, "clone3")[0].errno_ret(), Some(38));
        assert!(rules(&plain, "clone")[0].args().is_some());
        assert_eq!(rules(&plain, "chroot").len(), 1);
        assert_eq!(rules(&plain, "arch_prctl").len(), 1);
        assert!(rules(&plain, "riscv_flush_icache").is_empty());

        let mut capabilities = default_capabilities();
        capabilities.insert(Capability::SysAdmin);
        capabilities.remove(&Capability::SysChroot);
        let admin = profile.resolve(&capabilities, Architecture::Amd64, NEW);
        assert_eq!(rules(&admin, "mount").len(), 1);
        assert_eq!(rules(&admin, "clone").len(), 1);
        assert!(rules(&admin, "clone")[0].args().is_none());
        assert_eq!(rules(&admin, "clone3")[0].action(), LinuxSeccompAction::ScmpActAllow);
        assert!(rules(&admin, "chroot").is_empty());
    }

    #[test]
    fn the_default_profile_has_none_of_what_containers_were_left_by() {
        let profile = Profile::runtime_default().unwrap();
        for architecture in [Architecture::Amd64, Architecture::Arm64] {
            let plain = profile.resolve(&default_capabilities(), architecture, NEW);
            // Ways to the host that were found in the kernel, and what only an administrator of the host uses.
            for name in [
                "io_uring_setup",
                "io_uring_enter",
                "io_uring_register",
                "userfaultfd",
                "keyctl",
                "add_key",
                "request_key",
                "bpf",
                "perf_event_open",
                "open_by_handle_at",
                "mount",
                "move_mount",
                "open_tree",
                "setns",
                "unshare",
                "pivot_root",
                "kexec_load",
                "init_module",
                "finit_module",
            ] {
                assert!(rules(&plain, name).is_empty(), "{name} on {architecture:?}");
            }
            // CVE-2026-31431: AF_ALG (38), and AF_VSOCK (40), in none of the ranges that are let through.
            let sockets = rules(&plain, "socket");
            let ranges: Vec<_> = sockets.iter().map(|rule| rule.args().as_ref().unwrap()[0]).collect();
            let ranges: Vec<_> = ranges.iter().map(|arg| (arg.op(), arg.value())).collect();
            let expected = [
                (LinuxSeccompOperator::ScmpCmpLt, 38),
                (LinuxSeccompOperator::ScmpCmpEq, 39),
                (LinuxSeccompOperator::ScmpCmpGt, 40),
            ];
            assert_eq!(ranges, expected);
        }
    }

    #[test]
    fn the_default_profile_follows_architecture_and_kernel() {
        let profile = Profile::runtime_default().unwrap();
        let on = |architecture, kernel| profile.resolve(&default_capabilities(), architecture, kernel);
        let arm = on(Architecture::Arm64, NEW);
        assert_eq!(arm.architectures().as_deref(), Some(&[Arch::ScmpArchAarch64, Arch::ScmpArchArm][..]));
        assert_eq!((rules(&arm, "breakpoint").len(), rules(&arm, "arch_prctl").len()), (1, 0));
        let s390 = on(Architecture::S390x, NEW);
        assert_eq!(rules(&s390, "clone")[0].args().as_ref().unwrap()[0].index(), 1);
        let old = on(Architecture::Amd64, KernelVersion { major: 4, minor: 7 });
        assert!(rules(&old, "ptrace").is_empty());
        for minor in [8, 9, 10, 19] {
            let at = on(Architecture::Amd64, KernelVersion { major: 4, minor });
            assert_eq!(rules(&at, "ptrace").len(), 1, "4.{minor}");
        }
    }

    #[test]
    fn an_oci_profile_is_a_profile_too() {
        let profile = parse(
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"], "flags": ["SECCOMP_FILTER_FLAG_LOG"],
                "listenerPath": "/run/agent.sock", "listenerMetadata": "m",
                "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "errnoRet": 13,
                              "args": [{"index": 1, "value": 511, "valueTwo": 64, "op": "SCMP_CMP_MASKED_EQ"}]}]}"#,
        )
        .unwrap();
        let resolved = profile.resolve(&Capabilities::new(), Architecture::Amd64, NEW);
        assert_eq!(resolved.architectures().as_deref(), Some(&[Arch::ScmpArchX86_64][..]));
        assert_eq!(resolved.flags().as_deref(), Some(&[LinuxSeccompFilterFlag::SeccompFilterFlagLog][..]));
        assert_eq!(resolved.listener_path().as_deref(), Some(std::path::Path::new("/run/agent.sock")));
        let rule = rules(&resolved, "mkdir")[0];
        let arg = rule.args().as_ref().unwrap()[0];
        assert_eq!((rule.errno_ret(), arg.value(), arg.value_two()), (Some(13), 511, Some(64)));
    }

    #[test]
    fn what_go_writes_is_read() {
        let profile = parse(
            r#"{"defaultAction": "SCMP_ACT_ERRNO", "archMap": null, "syscalls": [
                {"name": "read", "names": null, "action": "SCMP_ACT_ALLOW", "args": null, "includes": null, "excludes": {"caps": null}}]}"#,
        );
        let resolved = profile.unwrap().resolve(&Capabilities::new(), Architecture::Amd64, NEW);
        assert_eq!(rules(&resolved, "read").len(), 1);
    }

    #[test]
    fn a_contradiction_or_a_mistake_is_an_error() {
        let rule = |rule: &str| format!(r#"{{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{rule}]}}"#);
        assert!(matches!(parse("{"), Err(ProfileError::Malformed(_))));
        assert!(matches!(parse(r#"{"syscalls": []}"#), Err(ProfileError::Malformed(_))));
        assert!(matches!(parse(r#"{"defaultAction": "ALLOW"}"#), Err(ProfileError::Malformed(_))));
        let both = r#"{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86"], "archMap": [{"architecture": "SCMP_ARCH_X86_64"}]}"#;
        assert_eq!(parse(both), Err(ProfileError::TwoArchitectureLists));
        for (text, expected) in [
            (
                r#"{"name": "a", "names": ["b"], "action": "SCMP_ACT_LOG"}"#,
                ProfileError::NameAndNames("a".into()),
            ),
            (
                r#"{"names": ["b"], "action": "SCMP_ACT_LOG", "includes": {"minKernel": "new"}}"#,
                ProfileError::KernelVersion("new".into()),
            ),
            (
                r#"{"names": ["b"], "action": "SCMP_ACT_LOG", "excludes": {"caps": ["CAP_X"]}}"#,
                ProfileError::Capability("CAP_X".into()),
            ),
        ] {
            assert_eq!(parse(&rule(text)), Err(expected));
        }
        let large = vec![b' '; MAX_PROFILE_BYTES + 1];
        assert_eq!(Profile::parse(&large), Err(ProfileError::TooLarge(MAX_PROFILE_BYTES + 1)));
    }

    #[test]
    fn exclusions_hold_if_any_part_does() {
        let profile = parse(
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["x"], "action": "SCMP_ACT_LOG",
                "excludes": {"caps": ["CAP_BPF", "SYSLOG"], "arches": ["arm64"], "minKernel": "6.18"}}]}"#,
        )
        .unwrap();
        let old = KernelVersion { major: 6, minor: 17 };
        for (capability, architecture, kernel, counts) in [
            (Capability::Chown, Architecture::Amd64, old, true),
            (Capability::Syslog, Architecture::Amd64, old, false),
            (Capability::Chown, Architecture::Arm64, old, false),
            (Capability::Chown, Architecture::Amd64, NEW, false),
        ] {
            let resolved = profile.resolve(&Capabilities::from([capability]), architecture, kernel);
            assert_eq!(
                rules(&resolved, "x").len(),
                usize::from(counts),
                "{capability} {architecture:?} {kernel:?}"
            );
        }
    }

    #[test]
    fn the_request_decides_which_profile_counts() {
        let mut host = fixture::host();
        let own = parse(r#"{"defaultAction": "SCMP_ACT_LOG"}"#).unwrap();
        let path = PathBuf::from("/p.json");
        let ask = |seccomp: Seccomp, privileged| Security { seccomp, privileged, ..Security::default() };
        let decide = |host: &Host, security: &Security, localhost| {
            filter(host, security, localhost, &Capabilities::new()).map(|f| f.map(|f| f.default_action()))
        };
        let (log, errno) = (LinuxSeccompAction::ScmpActLog, LinuxSeccompAction::ScmpActErrno);
        let local = Seccomp::Localhost(path.clone());
        assert_eq!(decide(&host, &ask(Seccomp::Unconfined, false), None), Ok(None));
        assert_eq!(decide(&host, &ask(Seccomp::RuntimeDefault, true), None), Ok(None));
        assert_eq!(decide(&host, &ask(Seccomp::RuntimeDefault, false), Some(&own)), Ok(Some(errno)));
        assert_eq!(decide(&host, &ask(local.clone(), false), Some(&own)), Ok(Some(log)));
        assert_eq!(decide(&host, &ask(local, false), None), Err(SpecError::SeccompProfileMissing(path)));
        host.seccomp = false;
        assert_eq!(
            decide(&host, &ask(Seccomp::RuntimeDefault, false), None),
            Err(SpecError::SeccompUnsupported)
        );
        assert_eq!(decide(&host, &ask(Seccomp::Unconfined, false), None), Ok(None));
    }
}
