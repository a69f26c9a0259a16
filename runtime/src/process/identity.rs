//! User, groups, and the home folder that goes with the user.

use std::ffi::CString;
use std::path::Path;

use rustix::io::Errno;
use rustix::process::{Gid, Uid};

use super::capabilities;
use crate::Failure;
use crate::failure::Step;
use crate::rootfs::Tree;
use crate::spec::ProcessPlan;

/// Becomes the plan's user. Permitted capabilities stay until they are set; supplementary groups are always replaced,
/// so that none of ours is left.
pub(super) fn change(plan: &ProcessPlan) -> Result<(), Failure> {
    let (uid, gid) = (Uid::from_raw(plan.uid), Gid::from_raw(plan.gid));
    let groups: Vec<Gid> = plan.additional_gids.iter().copied().map(Gid::from_raw).collect();
    rustix::thread::set_keep_capabilities(true).step(|| "keep capabilities across the change of user")?;
    // Those of the caller are what is left where groups are fixed: in the namespace they are nobody's.
    if !(plan.has_fixed_groups && groups.is_empty()) {
        rustix::thread::set_thread_groups(&groups).step(|| "set supplementary groups")?;
    }
    rustix::thread::set_thread_res_gid(gid, gid, gid).step(|| format!("become group {}", plan.gid))?;
    rustix::thread::set_thread_res_uid(uid, uid, uid).step(|| format!("become user {}", plan.uid))?;
    rustix::thread::set_keep_capabilities(false).step(|| "drop capabilities at the next change of user")?;
    tie_and_hide()
}

/// A change of user has undone the one, and may have set the other as fs.suid_dumpable says.
fn tie_and_hide() -> Result<(), Failure> {
    cleat_sys::process::die_with_parent().step(|| "tie the process to its caller")?;
    cleat_sys::process::become_undumpable().step(|| "hide from the container")
}

/// Becomes root of the user namespace that the caller is in: to whom what it makes will belong.
pub(crate) fn become_root(has_fixed_groups: bool) -> Result<(), Failure> {
    if !has_fixed_groups {
        rustix::thread::set_thread_groups(&[]).step(|| "drop supplementary groups")?;
    }
    let (uid, gid) = (Uid::ROOT, Gid::ROOT);
    rustix::thread::set_thread_res_gid(gid, gid, gid).step(|| "become the user namespace's group 0")?;
    rustix::thread::set_thread_res_uid(uid, uid, uid).step(|| "become the user namespace's root")?;
    tie_and_hide()
}

/// Does `work` with another owner of what is made in it, and with all our capabilities.
pub(crate) fn work_as<T>(
    uid: u32,
    gid: u32,
    work: impl FnOnce() -> Result<T, Failure>,
) -> Result<T, Failure> {
    let step = || format!("make files as user {uid}");
    let own = change_filesystem_user(uid, gid).step(step)?;
    let outcome = capabilities::raise_all().step(step).and_then(|()| work());
    change_filesystem_user(own.0, own.1).step(|| "make files as before")?;
    tie_and_hide()?;
    outcome
}

/// Gives the user and the group before; `EPERM` when it has changed nothing, which setfsuid(2) does not tell.
fn change_filesystem_user(uid: u32, gid: u32) -> Result<(u32, u32), Errno> {
    let (user, group) = (nix::unistd::Uid::from_raw(uid), nix::unistd::Gid::from_raw(gid));
    let own_group = nix::unistd::setfsgid(group);
    let own_user = nix::unistd::setfsuid(user);
    let now = (nix::unistd::setfsuid(user), nix::unistd::setfsgid(group));
    if now == (user, group) { Ok((own_user.as_raw(), own_group.as_raw())) } else { Err(Errno::PERM) }
}

/// The plan's environment; where it has no HOME, the one of the image's passwd(5), else `/`.
pub(super) fn environment(plan: &ProcessPlan, tree: &Tree) -> Result<Vec<CString>, Failure> {
    let mut environment = plan.environment.clone();
    if plan.variable("HOME").is_some_and(|home| !home.is_empty()) {
        return Ok(environment);
    }
    let passwd = tree.read_image_file(Path::new("/etc/passwd")).step(|| "read /etc/passwd")?;
    let home = passwd.as_deref().and_then(|text| home_of(text, plan.uid)).unwrap_or("/");
    environment.retain(|entry| !entry.as_bytes().starts_with(b"HOME="));
    environment.push(CString::new(format!("HOME={home}")).step(|| "set HOME")?);
    Ok(environment)
}

/// The sixth field of the first line whose third is `uid`.
fn home_of(passwd: &str, uid: u32) -> Option<&str> {
    passwd.lines().find_map(|line| {
        let fields: Vec<_> = line.split(':').collect();
        let is_user = fields.get(2).is_some_and(|field| field.parse() == Ok(uid));
        fields.get(5).filter(|home| is_user && home.starts_with('/') && !home.contains('\0')).copied()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_home_is_found_by_number_and_only_if_it_is_a_path() {
        let text =
            "1000:x:0:0::/root:/bin/sh\nuser:x:1000:1000:U:/home/user:/bin/sh\nbad:x:7:7::home:\nshort:x:8\n";
        assert_eq!(home_of(text, 0), Some("/root"));
        assert_eq!(home_of(text, 1000), Some("/home/user"));
        assert_eq!(home_of(text, 7), None);
        assert_eq!(home_of(text, 8), None);
    }
}
