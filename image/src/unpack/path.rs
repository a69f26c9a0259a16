//! What an entry's path means. Pure.

/// Prefix of a whiteout's name (OCI image specification, "Whiteouts").
const WHITEOUT_PREFIX: &[u8] = b".wh.";
/// Prefix of aufs's own records, of which only the opaque marker means anything outside aufs.
const AUFS_PREFIX: &[u8] = b".wh..wh.";
/// The opaque marker.
const OPAQUE: &[u8] = b".wh..wh..opq";

/// What a path asks for. Paths are relative to the layer's root, with single slashes and without dots; empty is the root.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// The layer's root itself.
    Root,
    /// An ordinary entry.
    Plain(Place),
    /// `.wh.name`: `name` in the lower layers is gone.
    Whiteout(Place),
    /// `.wh..wh..opq`: everything the lower layers have in this folder is gone.
    Opaque(Vec<u8>),
    /// A record of aufs.
    Ignored,
}

/// A name in a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The folder.
    pub(super) parent: Vec<u8>,
    /// The name.
    pub(super) name: Vec<u8>,
}

impl Place {
    /// Folder and name together.
    pub(super) fn path(&self) -> Vec<u8> {
        if self.parent.is_empty() { self.name.clone() } else { [&self.parent[..], b"/", &self.name].concat() }
    }
}

/// What is wrong with a path.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum PathFault {
    /// It climbs above the root.
    Escape,
    /// A whiteout without a name, or as a folder.
    Whiteout,
}

/// What `path`, as an archive has it, asks for.
pub(super) fn classify(path: &[u8]) -> Result<Role, PathFault> {
    let mut components = components(path)?;
    let Some(name) = components.pop() else { return Ok(Role::Root) };
    if name.starts_with(AUFS_PREFIX) && name != OPAQUE
        || components.iter().any(|part| part.starts_with(AUFS_PREFIX))
    {
        return Ok(Role::Ignored);
    }
    if components.iter().any(|part| part.starts_with(WHITEOUT_PREFIX)) {
        return Err(PathFault::Whiteout);
    }
    let parent = components.join(&b'/');
    if name == OPAQUE {
        return Ok(Role::Opaque(parent));
    }
    match name.strip_prefix(WHITEOUT_PREFIX) {
        None => Ok(Role::Plain(Place { parent, name: name.to_vec() })),
        // ".wh..." would be a whiteout of "..", the parent itself.
        Some(b"" | b"." | b"..") => Err(PathFault::Whiteout),
        Some(hidden) => Ok(Role::Whiteout(Place { parent, name: hidden.to_vec() })),
    }
}

/// The parts of a path, `.` and empty ones left out and `..` resolved by the text, absolute paths being relative to the
/// root. No symbolic link is looked at: what a prefix resolves to is the kernel's business at the time of use.
pub(super) fn components(path: &[u8]) -> Result<Vec<&[u8]>, PathFault> {
    let mut parts = Vec::new();
    for part in path.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => drop(parts.pop().ok_or(PathFault::Escape)?),
            part => parts.push(part),
        }
    }
    Ok(parts)
}

/// Where a symbolic link in the folder `parent` leads by its text; climbing above the root stays there, as in a chroot.
pub(super) fn follow(parent: &[u8], target: &[u8]) -> Vec<u8> {
    let base: &[u8] = if target.starts_with(b"/") { b"" } else { parent };
    let mut parts = Vec::new();
    for part in base.split(|byte| *byte == b'/').chain(target.split(|byte| *byte == b'/')) {
        match part {
            b"" | b"." => {}
            b".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join(&b'/')
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever a path is: a name is one name, and no part climbs.
    #[test]
    fn no_path_leads_anywhere_but_below() {
        let seeds: [&[u8]; 5] =
            [b"a/b/../c", b"/a/.wh.b", b"a/.wh..wh..opq", b".wh..wh.plnk/1", b"../x/.wh..."];
        let climbs = |part: &[u8]| part == b"." || part == b".." || part.contains(&b'/') || part.is_empty();
        crate::fuzz::run("whiteout path", &seeds, |input| {
            let parent = match classify(input) {
                Ok(Role::Plain(place) | Role::Whiteout(place)) => {
                    assert!(!climbs(&place.name));
                    place.parent
                }
                Ok(Role::Opaque(parent)) => parent,
                Ok(Role::Root | Role::Ignored) | Err(_) => return,
            };
            assert!(parent.is_empty() || !parent.split(|byte| *byte == b'/').any(climbs));
        });
    }

    fn place(parent: &str, name: &str) -> Place {
        Place { parent: parent.into(), name: name.into() }
    }

    #[test]
    fn paths_are_classified() {
        let cases = [
            ("./", Ok(Role::Root)),
            ("/", Ok(Role::Root)),
            ("a/..", Ok(Role::Root)),
            ("a", Ok(Role::Plain(place("", "a")))),
            ("/etc//./passwd", Ok(Role::Plain(place("etc", "passwd")))),
            ("a/../b/c/", Ok(Role::Plain(place("b", "c")))),
            ("..", Err(PathFault::Escape)),
            ("../etc/passwd", Err(PathFault::Escape)),
            ("a/../../b", Err(PathFault::Escape)),
            ("a/.wh.b", Ok(Role::Whiteout(place("a", "b")))),
            (".wh..b", Ok(Role::Whiteout(place("", ".b")))),
            ("a/.wh..wh..opq", Ok(Role::Opaque(b"a".to_vec()))),
            (".wh..wh..opq", Ok(Role::Opaque(Vec::new()))),
            (".wh..wh.plnk/1.2", Ok(Role::Ignored)),
            (".wh..wh.aufs", Ok(Role::Ignored)),
            (".wh.", Err(PathFault::Whiteout)),
            ("a/.wh..", Err(PathFault::Whiteout)),
            ("a/.wh...", Err(PathFault::Whiteout)),
            (".wh.a/b", Err(PathFault::Whiteout)),
        ];
        for (path, expected) in cases {
            assert_eq!(classify(path.as_bytes()), expected, "{path}");
        }
    }

    #[test]
    fn links_stay_below_the_root() {
        for (parent, target, expected) in [
            ("a/b", "c", "a/b/c"),
            ("a/b", "../c", "a/c"),
            ("a", "/run/x", "run/x"),
            ("a", "../../../etc", "etc"),
            ("", "..", ""),
        ] {
            assert_eq!(
                follow(parent.as_bytes(), target.as_bytes()),
                expected.as_bytes(),
                "{parent} {target}"
            );
        }
    }

    #[test]
    fn any_path_is_classified_and_none_climbs() {
        let seeds: [&[u8]; 4] = [b"a/../.wh.b", b"./a//b/.wh..wh..opq", b"../..", b".wh..wh.plnk/x"];
        crate::fuzz::run("whiteouts", &seeds, |input| {
            let parts =
                |path: &[u8]| path.split(|byte| *byte == b'/').map(<[u8]>::to_vec).collect::<Vec<_>>();
            let plain = |name: &[u8]| !matches!(name, b"" | b"." | b"..") && !name.contains(&b'/');
            match classify(input) {
                Ok(Role::Plain(place) | Role::Whiteout(place)) => {
                    assert!(plain(&place.name));
                    assert!(place.parent.is_empty() || parts(&place.parent).iter().all(|part| plain(part)));
                }
                Ok(Role::Opaque(path)) => {
                    assert!(path.is_empty() || parts(&path).iter().all(|part| plain(part)));
                }
                Ok(Role::Root | Role::Ignored) | Err(_) => {}
            }
        });
    }
}
