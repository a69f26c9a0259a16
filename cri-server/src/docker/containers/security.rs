//! How a container that is to be created is confined: `--security-opt`, capabilities, the user. Pure.

use super::request::Create;
use super::user;
use crate::docker::refusal::Refusal;
use crate::engine::model::{AppArmor, Capabilities, SeLinux, Seccomp, Security};
use crate::spec::Host;

/// How the program is confined. Without SELinux there are no labels, and none are asked for, as with dockerd.
pub(super) fn security(request: &Create, machine: &Host) -> Result<Security, Refusal> {
    let host = &request.host_config;
    let mut security = Security {
        privileged: host.privileged,
        capabilities: Capabilities {
            add: host.cap_add.clone(),
            drop: host.cap_drop.clone(),
            add_ambient: Vec::new(),
        },
        user: user::choice(&request.user, &host.group_add),
        read_only_rootfs: host.readonly_rootfs,
        masked_paths: host.masked_paths.clone(),
        read_only_paths: host.readonly_paths.clone(),
        seccomp: if host.privileged { Seccomp::Unconfined } else { Seccomp::RuntimeDefault },
        ..Security::default()
    };
    for option in &host.security_opt {
        // Old clients write a colon; what is behind the first of the two is the client's own text.
        let (key, value) = option.split_once(['=', ':']).unwrap_or((option, ""));
        let written = if value.is_empty() { option.clone() } else { format!("{key}={value}") };
        match written.as_str() {
            "seccomp=unconfined" => security.seccomp = Seccomp::Unconfined,
            "seccomp=builtin" => {}
            "apparmor=unconfined" => security.app_armor = AppArmor::Unconfined,
            // What clients know the default profile by.
            "apparmor=docker-default" => security.app_armor = AppArmor::RuntimeDefault,
            "no-new-privileges" | "no-new-privileges=true" => security.no_new_privileges = true,
            "no-new-privileges=false" => {}
            other => match other.strip_prefix("label=") {
                Some(label) if machine.selinux => add_label(&mut security, label)?,
                Some(_) => {}
                None => named_option(&mut security, option, other)?,
            },
        }
    }
    Ok(security)
}

/// A security option with a value of the client's own.
fn named_option(security: &mut Security, written: &str, option: &str) -> Result<(), Refusal> {
    let invalid = || Refusal::bad(format!("invalid --security-opt 2: {written:?}"));
    let (key, value) = option.split_once('=').ok_or_else(invalid)?;
    match key {
        "apparmor" => security.app_armor = AppArmor::Localhost(value.to_owned()),
        // The profile itself: a client reads it from its own file.
        "seccomp" => security.seccomp = Seccomp::Inline(value.to_owned()),
        "credentialspec" | "writable-cgroups" => {
            return Err(Refusal::not_built(format!("the security option {written:?}")));
        }
        "no-new-privileges" => {
            return Err(Refusal::bad(format!(
                "invalid --security-opt 2: {written:?}: a yes or no is expected"
            )));
        }
        _ => return Err(invalid()),
    }
    Ok(())
}

/// A part of an SELinux label, `user:u`, or none at all, `disable`.
fn add_label(security: &mut Security, option: &str) -> Result<(), Refusal> {
    if option == "disable" {
        security.selinux = None;
        return Ok(());
    }
    let bad = || {
        Refusal::bad(format!(
            "Bad label option {option:?}, valid options 'disable' or 'user, role, level, type' followed by ':' and a value"
        ))
    };
    let (key, value) = option.split_once(':').ok_or_else(bad)?;
    let label = security.selinux.get_or_insert_with(SeLinux::default);
    let part = match key {
        "user" => &mut label.user,
        "role" => &mut label.role,
        "type" => &mut label.kind,
        "level" => &mut label.level,
        _ => return Err(bad()),
    };
    value.clone_into(part);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::fixture;

    fn with(options: &[&str], selinux: bool) -> Result<Security, Refusal> {
        let body = serde_json::json!({"HostConfig": {"SecurityOpt": options}});
        security(&serde_json::from_value(body).unwrap(), &Host { selinux, ..fixture::host() })
    }

    #[test]
    fn labels_are_for_machines_that_have_them() {
        let all = ["label=user:u", "label=role:r", "label:type:t", "label=level:s0:c1,c2"];
        assert_eq!(with(&all, false).unwrap().selinux, None);
        let SeLinux { user, role, kind, level } = with(&all, true).unwrap().selinux.unwrap();
        assert_eq!([user, role, kind, level], ["u", "r", "t", "s0:c1,c2"]);
        assert_eq!(with(&["label=disable"], true).unwrap().selinux, None);
        for bad in ["label=nosuch", "label=nosuch:x", "label=type"] {
            assert_eq!(with(&[bad], true).unwrap_err().status().as_u16(), 400, "{bad}");
            assert!(with(&[bad], false).is_ok(), "{bad}");
        }
    }

    #[test]
    fn an_option_nobody_knows_is_refused() {
        for (option, status) in [("nosuch=x", 400), ("credentialspec=x", 501), ("no-new-privileges=x", 400)] {
            assert_eq!(with(&[option], false).unwrap_err().status().as_u16(), status, "{option}");
        }
        assert!(with(&["no-new-privileges"], false).unwrap().no_new_privileges);
    }
}
