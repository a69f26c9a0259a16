//! Which extended attributes of an image reach the disk.

use std::os::fd::BorrowedFd;

use rustix::fs::{XattrFlags, fsetxattr};
use rustix::io::Errno;

use super::error::UnpackError;
use super::tar::Xattr;

/// Marks a folder that hides everything below it (Documentation/filesystems/overlayfs.rst).
pub(super) const OVERLAY_OPAQUE: &str = "trusted.overlay.opaque";

/// What is done with an attribute.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// Set; failing to is an error.
    Require,
    /// Set where the file system can.
    Try,
    /// Left out: it would steer the host's kernel (overlayfs, SELinux, IMA) instead of the container.
    Drop,
}

fn verdict(name: &[u8]) -> Verdict {
    match name {
        b"security.capability" => Verdict::Require,
        b"system.posix_acl_access" | b"system.posix_acl_default" => Verdict::Try,
        name if name.starts_with(b"user.overlay.") => Verdict::Drop,
        name if name.starts_with(b"user.") => Verdict::Try,
        _ => Verdict::Drop,
    }
}

/// Whether an attribute of an image's file is the image's, not the host's or its file system's.
pub(crate) fn is_kept(name: &[u8]) -> bool {
    verdict(name) != Verdict::Drop
}

/// Set what may be set of `xattrs` on `file`, which is `path` in the layer.
pub(super) fn apply(file: BorrowedFd<'_>, xattrs: &[Xattr], path: &[u8]) -> Result<(), UnpackError> {
    for Xattr { name, value } in xattrs {
        let verdict = verdict(name);
        if verdict == Verdict::Drop {
            tracing::debug!(path = %path.escape_ascii(), name = %name.escape_ascii(), "attribute left out");
            continue;
        }
        match fsetxattr(file, &name[..], value, XattrFlags::empty()) {
            Ok(()) => {}
            Err(Errno::OPNOTSUPP) if verdict == Verdict::Try => {
                tracing::debug!(name = %name.escape_ascii(), "the file system has no such attributes");
            }
            Err(error) => return Err(UnpackError::io("set an extended attribute of", path, error)),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_cannot_steer_the_hosts_kernel() {
        let dropped = [
            "trusted.overlay.opaque",
            "trusted.overlay.redirect",
            "trusted.overlay.metacopy",
            "user.overlay.redirect",
            "trusted.x",
            "security.selinux",
            "security.ima",
            "security.evm",
            "system.nfs4_acl",
            "",
        ];
        for name in dropped {
            assert_eq!(verdict(name.as_bytes()), Verdict::Drop, "{name}");
        }
        assert_eq!(verdict(b"security.capability"), Verdict::Require);
        assert_eq!(verdict(b"user.mime_type"), Verdict::Try);
    }
}
