//! Seccomp, AppArmor and SELinux as the CRI words them: typed profiles, and the texts they superseded.

use cleat_cri_api::v1::security_profile::ProfileType;
use cleat_cri_api::v1::{SeLinuxOption, SecurityProfile};

use super::field::{absolute_path, filled, known, line, refused, word};
use crate::engine::Result;
use crate::engine::model::{AppArmor, SeLinux, Seccomp};

/// In front of a name in the superseded texts; some clients still put it in front of a typed profile's.
const LOCALHOST: &str = "localhost/";

/// The seccomp profile: the typed one, else what the superseded text says, else none.
pub(super) fn seccomp(profile: Option<SecurityProfile>, superseded: &str) -> Result<Seccomp> {
    const FIELD: &str = "security_context.seccomp";
    let file =
        |path: &str| absolute_path("security_context.seccomp.localhost_ref", path).map(Seccomp::Localhost);
    match kind(FIELD, profile, superseded)? {
        None | Some(Kind::Unconfined) => Ok(Seccomp::Unconfined),
        Some(Kind::RuntimeDefault) => Ok(Seccomp::RuntimeDefault),
        Some(Kind::Localhost(path)) => file(&path),
    }
}

/// The AppArmor profile: the typed one, else what the superseded text says, else the default one.
pub(super) fn app_armor(profile: Option<SecurityProfile>, superseded: &str) -> Result<AppArmor> {
    const FIELD: &str = "security_context.apparmor";
    match kind(FIELD, profile, superseded)? {
        None | Some(Kind::RuntimeDefault) => Ok(AppArmor::RuntimeDefault),
        Some(Kind::Unconfined) => Ok(AppArmor::Unconfined),
        Some(Kind::Localhost(name)) => {
            line("security_context.apparmor.localhost_ref", name).map(AppArmor::Localhost)
        }
    }
}

/// The SELinux label; all parts empty means that none was asked for.
pub(super) fn selinux(option: Option<SeLinuxOption>) -> Result<Option<SeLinux>> {
    let Some(option) = option.filter(|option| *option != SeLinuxOption::default()) else { return Ok(None) };
    // A colon separates the parts of the label these are put into; only the level's categories contain one.
    let part = |field: &str, text: String| match text {
        text if text.is_empty() => Ok(text),
        text if text.contains(':') => {
            Err(refused(field, text, "a part of an SELinux label contains no colon"))
        }
        text => word(field, text),
    };
    let level = if option.level.is_empty() {
        String::new()
    } else {
        word("security_context.selinux_options.level", option.level)?
    };
    Ok(Some(SeLinux {
        user: part("security_context.selinux_options.user", option.user)?,
        role: part("security_context.selinux_options.role", option.role)?,
        kind: part("security_context.selinux_options.type", option.r#type)?,
        level,
    }))
}

/// What both kinds of profile are.
enum Kind {
    RuntimeDefault,
    Unconfined,
    Localhost(String),
}

fn kind(field: &str, profile: Option<SecurityProfile>, superseded: &str) -> Result<Option<Kind>> {
    let Some(profile) = profile else { return superseded_kind(field, superseded) };
    Ok(Some(match known(field, profile.profile_type)? {
        ProfileType::RuntimeDefault => Kind::RuntimeDefault,
        ProfileType::Unconfined => Kind::Unconfined,
        ProfileType::Localhost => {
            let reference = profile.localhost_ref;
            let name = reference.strip_prefix(LOCALHOST).unwrap_or(&reference);
            Kind::Localhost(filled("security_context's localhost_ref", name)?.to_owned())
        }
    }))
}

fn superseded_kind(field: &str, text: &str) -> Result<Option<Kind>> {
    match text {
        "" => Ok(None),
        "runtime/default" | "docker/default" => Ok(Some(Kind::RuntimeDefault)),
        "unconfined" => Ok(Some(Kind::Unconfined)),
        _ => match text.strip_prefix(LOCALHOST) {
            Some(name) if !name.is_empty() => Ok(Some(Kind::Localhost(name.to_owned()))),
            _ => Err(refused(
                field,
                text,
                "`runtime/default`, `unconfined` or `localhost/<profile>` is expected",
            )),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(profile_type: i32, localhost_ref: &str) -> Option<SecurityProfile> {
        Some(SecurityProfile { profile_type, localhost_ref: localhost_ref.into() })
    }

    #[test]
    fn seccomp_profiles() {
        let file = |path: &str| Some(Seccomp::Localhost(path.into()));
        for (profile, superseded, expected) in [
            (None, "", Some(Seccomp::Unconfined)),
            (typed(0, ""), "", Some(Seccomp::RuntimeDefault)),
            (typed(1, ""), "", Some(Seccomp::Unconfined)),
            (typed(2, "/p.json"), "", file("/p.json")),
            (typed(2, "localhost//p.json"), "", file("/p.json")),
            (typed(2, "p.json"), "", None),
            (typed(2, ""), "", None),
            (typed(3, ""), "", None),
            (typed(0, ""), "unconfined", Some(Seccomp::RuntimeDefault)),
            (None, "runtime/default", Some(Seccomp::RuntimeDefault)),
            (None, "docker/default", Some(Seccomp::RuntimeDefault)),
            (None, "unconfined", Some(Seccomp::Unconfined)),
            (None, "localhost//p.json", file("/p.json")),
            (None, "localhost/p.json", None),
            (None, "localhost/", None),
            (None, "nonsense", None),
        ] {
            assert_eq!(seccomp(profile.clone(), superseded).ok(), expected, "{profile:?} {superseded}");
        }
    }

    #[test]
    fn app_armor_profiles() {
        let named = |name: &str| Some(AppArmor::Localhost(name.into()));
        for (profile, superseded, expected) in [
            (None, "", Some(AppArmor::RuntimeDefault)),
            (typed(0, ""), "", Some(AppArmor::RuntimeDefault)),
            (typed(1, ""), "", Some(AppArmor::Unconfined)),
            (typed(2, "mine"), "", named("mine")),
            (typed(2, "mi\nne"), "", None),
            (typed(2, ""), "", None),
            (None, "unconfined", Some(AppArmor::Unconfined)),
            (None, "localhost/mine", named("mine")),
            (None, "mine", None),
        ] {
            assert_eq!(app_armor(profile.clone(), superseded).ok(), expected, "{profile:?} {superseded}");
        }
    }

    #[test]
    fn selinux_labels() {
        let option = |user: &str, level: &str| SeLinuxOption {
            user: user.into(),
            level: level.into(),
            ..SeLinuxOption::default()
        };
        assert_eq!(selinux(None).unwrap(), None);
        assert_eq!(selinux(Some(option("", ""))).unwrap(), None);
        let label = selinux(Some(option("u", "s0:c1,c2"))).unwrap().unwrap();
        assert_eq!((label.user.as_str(), label.level.as_str()), ("u", "s0:c1,c2"));
        assert!(selinux(Some(option("u:r", ""))).is_err());
        assert!(selinux(Some(option("", "s0\n"))).is_err());
    }
}
