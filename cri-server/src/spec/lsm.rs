//! Labels of the security modules: AppArmor's profile and SELinux's two contexts.

use super::{AppArmorSupport, Host, SpecError};
use crate::engine::model::{AppArmor, SeLinux, Security};

/// What an SELinux label lacks that states only some of its parts: the types of the reference policy for containers.
const SELINUX_USER: &str = "system_u";
const SELINUX_ROLE: &str = "system_r";
const SELINUX_PROCESS_TYPE: &str = "container_t";
const SELINUX_LEVEL: &str = "s0";
/// Role and type of the files of a container.
const SELINUX_FILE_ROLE: &str = "object_r";
const SELINUX_FILE_TYPE: &str = "container_file_t";

/// The two SELinux contexts of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SeLinuxContexts {
    /// Of its processes.
    pub(super) process: String,
    /// Of the files mounted for it.
    pub(super) mount: String,
}

/// The AppArmor profile to confine with. A privileged container is not confined unless it names a profile.
pub(super) fn app_armor_profile(host: &Host, security: &Security) -> Result<Option<String>, SpecError> {
    match &security.app_armor {
        AppArmor::Unconfined => Ok(None),
        AppArmor::RuntimeDefault if security.privileged => Ok(None),
        AppArmor::RuntimeDefault => match &host.app_armor {
            AppArmorSupport::Off | AppArmorSupport::NoDefault(_) => Ok(None),
            AppArmorSupport::Failed(why) => Err(SpecError::AppArmorDefault(why.clone())),
            AppArmorSupport::Default(name) => Ok(Some(name.clone())),
        },
        AppArmor::Localhost(name) if name.is_empty() || name.chars().any(char::is_control) => {
            Err(SpecError::AppArmorName(name.clone()))
        }
        AppArmor::Localhost(name) if host.app_armor == AppArmorSupport::Off => {
            Err(SpecError::AppArmorUnsupported(name.clone()))
        }
        AppArmor::Localhost(name) => Ok(Some(name.clone())),
    }
}

/// The SELinux contexts asked for; a label without any part asks for none.
pub(super) fn selinux_contexts(
    host: &Host,
    security: &Security,
) -> Result<Option<SeLinuxContexts>, SpecError> {
    let Some(label) = security.selinux.as_ref().filter(|label| **label != SeLinux::default()) else {
        return Ok(None);
    };
    for part in [&label.user, &label.role, &label.kind] {
        checked(part, &['_', '-', '.'])?;
    }
    checked(&label.level, &['_', '-', '.', ':', ','])?;
    let or = |part: &String, default: &str| if part.is_empty() { default.to_owned() } else { part.clone() };
    let (user, level) = (or(&label.user, SELINUX_USER), or(&label.level, SELINUX_LEVEL));
    let (role, kind) = (or(&label.role, SELINUX_ROLE), or(&label.kind, SELINUX_PROCESS_TYPE));
    let process = format!("{user}:{role}:{kind}:{level}");
    if !host.selinux {
        return Err(SpecError::SeLinuxUnsupported(process));
    }
    Ok(Some(SeLinuxContexts {
        process,
        mount: format!("{user}:{SELINUX_FILE_ROLE}:{SELINUX_FILE_TYPE}:{level}"),
    }))
}

/// A part must not be able to add parts, or a mount option where the label becomes one.
fn checked(part: &str, also: &[char]) -> Result<(), SpecError> {
    let sound = part.chars().all(|c| c.is_ascii_alphanumeric() || also.contains(&c));
    if sound { Ok(()) } else { Err(SpecError::SeLinuxLabel(part.to_owned())) }
}

#[cfg(test)]
mod tests {
    use super::super::fixture;
    use super::*;

    fn label(user: &str, role: &str, kind: &str, level: &str) -> Security {
        let label = SeLinux { user: user.into(), role: role.into(), kind: kind.into(), level: level.into() };
        Security { selinux: Some(label), ..Security::default() }
    }

    #[test]
    fn app_armor_follows_the_request_and_the_kernel() {
        let host = |app_armor| Host { app_armor, ..fixture::host() };
        let with = host(AppArmorSupport::Default("default".into()));
        let bare = host(AppArmorSupport::NoDefault("no parser".into()));
        let broken = host(AppArmorSupport::Failed("refused".into()));
        let without = host(AppArmorSupport::Off);
        let local = AppArmor::Localhost("mine".into());
        for (host, asked, privileged, expected) in [
            (&with, AppArmor::RuntimeDefault, false, Ok(Some("default".to_owned()))),
            (&with, AppArmor::RuntimeDefault, true, Ok(None)),
            (&with, AppArmor::Unconfined, false, Ok(None)),
            (&with, local.clone(), true, Ok(Some("mine".to_owned()))),
            (&bare, AppArmor::RuntimeDefault, false, Ok(None)),
            (&bare, local.clone(), false, Ok(Some("mine".to_owned()))),
            (&broken, AppArmor::RuntimeDefault, false, Err(SpecError::AppArmorDefault("refused".into()))),
            (&broken, AppArmor::RuntimeDefault, true, Ok(None)),
            (&broken, AppArmor::Unconfined, false, Ok(None)),
            (&broken, local.clone(), false, Ok(Some("mine".to_owned()))),
            (&without, AppArmor::RuntimeDefault, false, Ok(None)),
            (&without, AppArmor::Unconfined, false, Ok(None)),
            (&without, local, false, Err(SpecError::AppArmorUnsupported("mine".into()))),
            (&with, AppArmor::Localhost(String::new()), false, Err(SpecError::AppArmorName(String::new()))),
            (&with, AppArmor::Localhost("a\nb".into()), false, Err(SpecError::AppArmorName("a\nb".into()))),
        ] {
            let security = Security { app_armor: asked, privileged, ..Security::default() };
            assert_eq!(app_armor_profile(host, &security), expected, "{security:?}");
        }
    }

    #[test]
    fn a_label_is_completed() {
        let host = Host { selinux: true, ..fixture::host() };
        let contexts =
            |security: &Security| selinux_contexts(&host, security).unwrap().map(|c| (c.process, c.mount));
        let pair = |process: &str, mount: &str| Some((process.to_owned(), mount.to_owned()));
        assert_eq!(contexts(&Security::default()), None);
        assert_eq!(contexts(&label("", "", "", "")), None);
        assert_eq!(
            contexts(&label("", "", "", "s0:c1,c2")),
            pair("system_u:system_r:container_t:s0:c1,c2", "system_u:object_r:container_file_t:s0:c1,c2")
        );
        assert_eq!(
            contexts(&label("u", "r", "spc_t", "s0")),
            pair("u:r:spc_t:s0", "u:object_r:container_file_t:s0")
        );
    }

    #[test]
    fn a_label_cannot_smuggle_or_go_unheeded() {
        let host = Host { selinux: true, ..fixture::host() };
        for bad in [
            label("a:b", "", "", ""),
            label("", "", "t\n", ""),
            label("", "", "", "s0\",x=y"),
            label("", "r r", "", ""),
        ] {
            assert!(matches!(selinux_contexts(&host, &bad), Err(SpecError::SeLinuxLabel(_))), "{bad:?}");
        }
        assert_eq!(
            selinux_contexts(&fixture::host(), &label("", "", "", "s0:c1")),
            Err(SpecError::SeLinuxUnsupported("system_u:system_r:container_t:s0:c1".into()))
        );
    }
}
