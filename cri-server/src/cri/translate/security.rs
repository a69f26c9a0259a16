//! The security contexts of pods and containers.

use cleat_cri_api::v1::{
    Capability, Int64Value, LinuxContainerSecurityContext, LinuxSandboxSecurityContext,
    SupplementalGroupsPolicy,
};

use super::field::{absolute_path, known, refused, user_or_group_id};
use super::profile::{app_armor, seccomp, selinux};
use crate::engine::Result;
use crate::engine::model::{Capabilities, GroupsPolicy, Security, UserChoice};

/// How a pod's own process is confined.
#[allow(deprecated, reason = "clients older than the typed seccomp profile send its text")]
pub(super) fn of_pod(context: LinuxSandboxSecurityContext) -> Result<Security> {
    let user = UserFields {
        uid: context.run_as_user,
        gid: context.run_as_group,
        name: String::new(),
        groups: context.supplemental_groups,
        policy: context.supplemental_groups_policy,
    };
    Ok(Security {
        privileged: context.privileged,
        user: user.choice()?,
        read_only_rootfs: context.readonly_rootfs,
        seccomp: seccomp(context.seccomp, &context.seccomp_profile_path)?,
        app_armor: app_armor(context.apparmor, "")?,
        selinux: selinux(context.selinux_options)?,
        ..Security::default()
    })
}

/// How a container is confined.
#[allow(deprecated, reason = "clients older than the typed profiles send their texts")]
pub(super) fn of_container(context: LinuxContainerSecurityContext) -> Result<Security> {
    let user = UserFields {
        uid: context.run_as_user,
        gid: context.run_as_group,
        name: context.run_as_username,
        groups: context.supplemental_groups,
        policy: context.supplemental_groups_policy,
    };
    Ok(Security {
        privileged: context.privileged,
        capabilities: capabilities(context.capabilities.unwrap_or_default())?,
        user: user.choice()?,
        read_only_rootfs: context.readonly_rootfs,
        no_new_privileges: context.no_new_privs,
        masked_paths: paths("security_context.masked_paths", context.masked_paths)?,
        read_only_paths: paths("security_context.readonly_paths", context.readonly_paths)?,
        seccomp: seccomp(context.seccomp, &context.seccomp_profile_path)?,
        app_armor: app_armor(context.apparmor, &context.apparmor_profile)?,
        selinux: selinux(context.selinux_options)?,
    })
}

/// What both contexts say about the user.
struct UserFields {
    uid: Option<Int64Value>,
    gid: Option<Int64Value>,
    name: String,
    groups: Vec<i64>,
    policy: i32,
}

impl UserFields {
    fn choice(self) -> Result<UserChoice> {
        const UID: &str = "security_context.run_as_user";
        const GID: &str = "security_context.run_as_group";
        const NAME: &str = "security_context.run_as_username";
        let id = |field: &str, value: Option<Int64Value>| {
            value.map(|number| user_or_group_id(field, number.value)).transpose()
        };
        let (uid, gid) = (id(UID, self.uid)?, id(GID, self.gid)?);
        let name = Some(self.name).filter(|name| !name.is_empty());
        match (&name, uid, gid) {
            (Some(name), Some(_), _) => {
                return Err(refused(NAME, name, "run_as_user is given too; only one of them can be meant"));
            }
            (None, None, Some(gid)) => {
                return Err(refused(GID, gid, "the CRI allows it only with run_as_user or run_as_username"));
            }
            // A name is looked up in /etc/passwd, whose fields a colon separates.
            (Some(name), ..) if name.contains(':') || name.chars().any(char::is_control) => {
                return Err(refused(
                    NAME,
                    name,
                    "a user's name without colons and control characters is expected",
                ));
            }
            _ => {}
        }
        let groups = self.groups.into_iter();
        Ok(UserChoice {
            uid,
            gid,
            name,
            group: None,
            supplemental_names: Vec::new(),
            supplemental_groups: groups
                .map(|group| user_or_group_id("security_context.supplemental_groups", group))
                .collect::<Result<_>>()?,
            groups_policy: match known("security_context.supplemental_groups_policy", self.policy)? {
                SupplementalGroupsPolicy::Merge => GroupsPolicy::Merge,
                SupplementalGroupsPolicy::Strict => GroupsPolicy::Strict,
            },
        })
    }
}

/// Which names the kernel knows is judged where capabilities are decided; here they only have to look like names.
fn capabilities(capability: Capability) -> Result<Capabilities> {
    let checked = |field: &str, names: Vec<String>| -> Result<Vec<String>> {
        let is_name = |name: &str| {
            !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        };
        match names.iter().find(|name| !is_name(name)) {
            Some(name) => Err(refused(field, name, "a capability such as NET_ADMIN, or ALL, is expected")),
            None => Ok(names),
        }
    };
    Ok(Capabilities {
        add: checked("security_context.capabilities.add_capabilities", capability.add_capabilities)?,
        drop: checked("security_context.capabilities.drop_capabilities", capability.drop_capabilities)?,
        add_ambient: checked(
            "security_context.capabilities.add_ambient_capabilities",
            capability.add_ambient_capabilities,
        )?,
    })
}

/// proto3 cannot tell an empty list from none, so empty means the defaults: the safe reading, and the peers'.
fn paths(field: &str, paths: Vec<String>) -> Result<Option<Vec<String>>> {
    for path in &paths {
        absolute_path(field, path)?;
    }
    Ok(Some(paths).filter(|paths| !paths.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::EngineError;
    use crate::engine::model::{AppArmor, Seccomp};

    fn id(value: i64) -> Option<Int64Value> {
        Some(Int64Value { value })
    }

    fn user(uid: Option<Int64Value>, gid: Option<Int64Value>, name: &str) -> LinuxContainerSecurityContext {
        LinuxContainerSecurityContext {
            run_as_user: uid,
            run_as_group: gid,
            run_as_username: name.into(),
            ..LinuxContainerSecurityContext::default()
        }
    }

    #[test]
    fn users_are_numbers_or_names_and_groups_need_a_user() {
        let choice = |uid, gid, name: Option<&str>| {
            Some(UserChoice { uid, gid, name: name.map(Into::into), ..UserChoice::default() })
        };
        for (context, expected) in [
            (user(None, None, ""), choice(None, None, None)),
            (user(id(0), None, ""), choice(Some(0), None, None)),
            (user(id(1000), id(2000), ""), choice(Some(1000), Some(2000), None)),
            (user(None, id(2000), "www"), choice(None, Some(2000), Some("www"))),
            (user(None, None, "1000"), choice(None, None, Some("1000"))),
            (user(None, id(2000), ""), None),
            (user(id(1000), None, "www"), None),
            (user(id(-1), None, ""), None),
            (user(id(1 << 32), None, ""), None),
            (user(id(1), id(-2), ""), None),
            (user(None, None, "root:x"), None),
            (user(None, None, "root\n"), None),
        ] {
            let found = of_container(context.clone());
            assert_eq!(found.as_ref().ok().map(|security| &security.user), expected.as_ref(), "{context:?}");
            assert!(found.is_ok() || matches!(found, Err(EngineError::Invalid { .. })), "{context:?}");
        }
    }

    #[test]
    fn groups_and_their_policy() {
        let context = |groups: &[i64], policy| LinuxSandboxSecurityContext {
            supplemental_groups: groups.to_vec(),
            supplemental_groups_policy: policy,
            ..LinuxSandboxSecurityContext::default()
        };
        let strict = of_pod(context(&[10, 20], 1)).unwrap().user;
        assert_eq!((strict.supplemental_groups, strict.groups_policy), (vec![10, 20], GroupsPolicy::Strict));
        assert_eq!(of_pod(context(&[], 0)).unwrap().user.groups_policy, GroupsPolicy::Merge);
        assert!(of_pod(context(&[-1], 0)).is_err());
        assert!(of_pod(context(&[], 2)).is_err());
    }

    #[test]
    fn every_field_of_a_container_arrives() {
        let names = |name: &str| vec![name.to_owned()];
        let security = of_container(LinuxContainerSecurityContext {
            capabilities: Some(Capability {
                add_capabilities: names("NET_ADMIN"),
                drop_capabilities: names("ALL"),
                add_ambient_capabilities: names("CAP_CHOWN"),
            }),
            privileged: true,
            readonly_rootfs: true,
            no_new_privs: true,
            masked_paths: names("/proc/kcore"),
            readonly_paths: names("/proc/sys"),
            ..LinuxContainerSecurityContext::default()
        })
        .unwrap();
        let expected = Security {
            privileged: true,
            capabilities: Capabilities {
                add: names("NET_ADMIN"),
                drop: names("ALL"),
                add_ambient: names("CAP_CHOWN"),
            },
            read_only_rootfs: true,
            no_new_privileges: true,
            masked_paths: Some(names("/proc/kcore")),
            read_only_paths: Some(names("/proc/sys")),
            seccomp: Seccomp::Unconfined,
            app_armor: AppArmor::RuntimeDefault,
            ..Security::default()
        };
        assert_eq!(security, expected);
    }

    #[test]
    fn names_and_paths_that_are_none_are_refused() {
        for name in ["", "NET ADMIN", "NET_ADMIN,", "CAP\n"] {
            let capabilities =
                Some(Capability { add_capabilities: vec![name.into()], ..Capability::default() });
            let context = LinuxContainerSecurityContext { capabilities, ..Default::default() };
            assert!(of_container(context).is_err(), "{name:?}");
        }
        let relative =
            LinuxContainerSecurityContext { masked_paths: vec!["proc".into()], ..Default::default() };
        assert!(of_container(relative).is_err());
        assert_eq!(of_container(Default::default()).unwrap().masked_paths, None);
    }
}
