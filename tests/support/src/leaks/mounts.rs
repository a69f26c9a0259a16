//! Mounts of a namespace, and the namespaces that are kept alive by one.

use std::fs;

use anyhow::{Context, Result};

use super::Finding;

/// The mounts in the namespace of process `pid`.
pub(super) fn find(pid: u32) -> Result<Vec<Finding>> {
    let path = format!("/proc/{pid}/mountinfo");
    let text = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    Ok(text.lines().filter_map(parse).collect())
}

/// A line of proc_pid_mountinfo(5): its root, mount point, and behind the separator type and source.
fn parse(line: &str) -> Option<Finding> {
    let (before, after) = line.split_once(" - ")?;
    let mut before = before.split(' ').skip(3);
    let (root, point) = (before.next()?, before.next()?);
    let mut after = after.split(' ');
    let (kind, source) = (after.next()?, after.next()?);
    if kind == "nsfs" {
        return Some(Finding::new("namespace", format!("{root} kept at {point}")));
    }
    Some(Finding::new("mount", format!("{point} ({kind} {source} {root})")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_mountinfo() {
        let cases = [
            ("36 35 98:0 /r /mnt rw,noatime master:1 - ext4 /dev/root rw", "mount /mnt (ext4 /dev/root /r)"),
            ("36 35 0:3 / /a\\040b rw - tmpfs tmpfs rw", "mount /a\\040b (tmpfs tmpfs /)"),
            (
                "3 2 0:4 net:[4026532] /run/n rw shared:3 - nsfs nsfs rw",
                "namespace net:[4026532] kept at /run/n",
            ),
        ];
        for (line, expected) in cases {
            assert_eq!(parse(line).unwrap().to_string(), expected);
        }
        assert_eq!(parse("nonsense"), None);
    }
}
