//! User, groups, and the home folder that goes with the user.

use std::ffi::CString;
use std::path::Path;

use rustix::process::{Gid, Uid};

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
    rustix::thread::set_thread_groups(&groups).step(|| "set supplementary groups")?;
    rustix::thread::set_thread_res_gid(gid, gid, gid).step(|| format!("become group {}", plan.gid))?;
    rustix::thread::set_thread_res_uid(uid, uid, uid).step(|| format!("become user {}", plan.uid))?;
    rustix::thread::set_keep_capabilities(false).step(|| "drop capabilities at the next change of user")?;
    // A change of user has undone it, and may have set the other as fs.suid_dumpable says.
    cleat_sys::process::die_with_parent().step(|| "tie the process to its caller")?;
    cleat_sys::process::become_undumpable().step(|| "hide from the container")
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
