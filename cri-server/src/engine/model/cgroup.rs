//! Where the cgroups of pods and containers are: with the cgroupfs driver below the pod's parent by their ids, with
//! systemd's in scopes below slices, whose folders follow from their names (systemd.slice(5)).
//!
//! A cgroup is told by its path from the root of a hierarchy. What systemd has made shows in the path: its slices end in
//! `.slice`, its scopes in `.scope`.

use std::fmt::Display;

/// Who makes cgroups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Driver {
    /// The runtime, by making folders.
    Cgroupfs,
    /// systemd, asked by the runtime.
    Systemd,
}

/// What scopes' names begin with.
const SCOPE_PREFIX: &str = "cleat";

impl Driver {
    /// Its name, as the kubelet has to be told.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Cgroupfs => "cgroupfs",
            Self::Systemd => "systemd",
        }
    }

    /// The cgroup of the pod `id`: its `parent`'s, which the kubelet has made, or one of its own below `fallback`. None
    /// when the parent is of another driver's: a slice is systemd's, and everything else is not.
    pub(crate) fn of_pod(self, parent: Option<&str>, fallback: &str, id: impl Display) -> Option<String> {
        match (self, parent) {
            (Self::Cgroupfs, Some(parent)) if parent.trim_end_matches('/').ends_with(".slice") => None,
            (Self::Cgroupfs, Some(parent)) => Some(format!("/{}", parent.trim_matches('/'))),
            (Self::Cgroupfs, None) => Some(format!("{fallback}/{id}")),
            (Self::Systemd, Some(parent)) => slice_folder(parent.rsplit('/').next()?),
            (Self::Systemd, None) => {
                let stem = fallback.trim_matches('/').replace('-', "_").replace('/', "-");
                slice_folder(&format!("{}-pod{id}.slice", stem.trim_end_matches(".slice")))
            }
        }
    }
}

/// The cgroup of the container `id` (or the pause process) in the pod with the cgroup `pod`.
pub(crate) fn of_member(pod: &str, id: impl Display) -> String {
    match pod.trim_end_matches('/') {
        slice if is_slice(slice) => format!("{slice}/{SCOPE_PREFIX}-{id}.scope"),
        folder => format!("{folder}/{id}"),
    }
}

/// A cgroup as `linux.cgroupsPath` of the OCI specification tells it: `slice:prefix:name` for a scope of ours.
pub(crate) fn specified(path: &str) -> String {
    let scope = path.rsplit_once('/').and_then(|(folder, unit)| {
        let name = unit.strip_prefix(SCOPE_PREFIX)?.strip_prefix('-')?.strip_suffix(".scope")?;
        let slice = folder.rsplit('/').next()?;
        is_slice(folder).then(|| format!("{slice}:{SCOPE_PREFIX}:{name}"))
    });
    scope.unwrap_or_else(|| path.to_owned())
}

/// Whether a cgroup is a slice below the slices that its name begins with.
fn is_slice(path: &str) -> bool {
    path.rsplit('/').next().and_then(slice_folder).is_some_and(|folder| folder == path)
}

/// `/a.slice/a-b.slice` for `a-b.slice`; none for what names no slice, or the root.
fn slice_folder(slice: &str) -> Option<String> {
    let stem = slice.strip_suffix(".slice")?;
    let plain = |part: &str| {
        !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.:\\".contains(&byte))
    };
    if !stem.split('-').all(plain) {
        return None;
    }
    let ends = stem.match_indices('-').map(|(index, _)| index).chain([stem.len()]);
    Some(ends.map(|end| format!("/{}.slice", &stem[..end])).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kubelets_slice_is_a_folder_and_its_containers_are_scopes() {
        let pod = Driver::Systemd.of_pod(Some("kubepods-besteffort-pod1.slice"), "/cleat", "p").unwrap();
        assert_eq!(pod, "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod1.slice");
        assert_eq!(Driver::Systemd.of_pod(Some(&pod), "/cleat", "p").as_ref(), Some(&pod), "as a path, too");
        let container = of_member(&pod, "c");
        assert_eq!(container, format!("{pod}/cleat-c.scope"));
        assert_eq!(specified(&container), "kubepods-besteffort-pod1.slice:cleat:c");
    }

    #[test]
    fn without_systemd_the_parent_is_a_path() {
        for (parent, expected) in [(Some("/kubepods/pod1"), "/kubepods/pod1"), (None, "/cleat/p")] {
            let pod = Driver::Cgroupfs.of_pod(parent, "/cleat", "p").unwrap();
            assert_eq!(pod, expected);
            assert_eq!(of_member(&pod, "c"), format!("{expected}/c"));
            assert_eq!(specified(&of_member(&pod, "c")), format!("{expected}/c"));
        }
    }

    #[test]
    fn systemd_needs_a_slice_and_nobody_else_takes_one() {
        assert_eq!(Driver::Cgroupfs.of_pod(Some("kubepods-pod1.slice"), "/cleat", "p"), None);
        assert_eq!(Driver::Systemd.of_pod(None, "/cleat", "p").unwrap(), "/cleat.slice/cleat-podp.slice");
        assert_eq!(
            Driver::Systemd.of_pod(None, "/my-pods.slice", "p").unwrap(),
            "/my_pods.slice/my_pods-podp.slice"
        );
        for bad in ["/kubepods/pod1", "a--b.slice", "-.slice", ".slice", "a b.slice"] {
            assert_eq!(Driver::Systemd.of_pod(Some(bad), "/cleat", "p"), None, "{bad:?}");
        }
    }
}
