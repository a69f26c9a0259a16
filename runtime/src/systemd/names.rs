//! Names of scopes and slices, and the paths of their cgroups.

use super::{Property, Value};
use crate::spec::SpecError;

/// The slice of containers that name none.
const DEFAULT_SLICE: &str = "system.slice";
/// The prefix of scopes of containers that name none.
const DEFAULT_PREFIX: &str = "cleat";

/// A transient scope, and where its cgroup is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Scope {
    unit: String,
    slice: String,
    path: String,
}

impl Scope {
    /// Reads `slice:prefix:name`, as `linux.cgroupsPath` holds it for systemd. None when it is not of this form.
    pub(crate) fn parse(text: &str) -> Result<Option<Self>, SpecError> {
        let [slice, prefix, name] = text.split(':').collect::<Vec<_>>()[..] else { return Ok(None) };
        let slice = if slice.is_empty() { DEFAULT_SLICE } else { slice };
        let folder = folder_of(slice).ok_or_else(|| SpecError::value("linux.cgroupsPath", text))?;
        if name.ends_with(".slice") {
            return Err(SpecError::Unsupported(
                "a slice as a container's own unit in linux.cgroupsPath".into(),
            ));
        }
        let unit = format!("{prefix}-{name}.scope");
        if !unit.bytes().all(is_of_unit_name) {
            return Err(SpecError::value("linux.cgroupsPath", text));
        }
        Ok(Some(Self { path: format!("{folder}/{unit}"), unit, slice: slice.to_owned() }))
    }

    /// The scope of a container that names no cgroup.
    pub(crate) fn of_id(id: &str) -> Result<Self, SpecError> {
        let named = Self::parse(&format!("{DEFAULT_SLICE}:{DEFAULT_PREFIX}:{id}"))?;
        named.ok_or_else(|| SpecError::value("the container's id", id))
    }

    /// The scope whose cgroup this is: beneath slices that contain each other by their names.
    pub(crate) fn of_path(path: &str) -> Option<Self> {
        let (folder, unit) = path.rsplit_once('/')?;
        let slice = folder.rsplit_once('/')?.1;
        let is_scope =
            unit.ends_with(".scope") && folder_of(slice).is_some_and(|expected| expected == folder);
        is_scope.then(|| Self { unit: unit.to_owned(), slice: slice.to_owned(), path: path.to_owned() })
    }

    pub(crate) fn unit(&self) -> &str {
        &self.unit
    }

    /// The cgroup's path from the root of a hierarchy.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// The slices it is in, the outermost first: each one's unit, and the path of its cgroup.
    pub(super) fn slices(&self) -> Vec<(&str, &str)> {
        let folder = self.path.strip_suffix(&self.unit).unwrap_or_default();
        let ends = folder.match_indices('/').map(|(end, _)| end).skip(1);
        ends.map(|end| (folder[..end].rsplit('/').next().unwrap_or_default(), &folder[..end])).collect()
    }

    /// What makes the unit a scope around `pid` in its slice, with a cgroup that is ours to arrange. What ends badly is
    /// forgotten like what ends well.
    pub(super) fn properties(&self, pid: u32) -> Vec<Property> {
        let accounting =
            ["CPU", "Memory", "Tasks"].map(|what| (format!("{what}Accounting"), Value::Bool(true)));
        let text = |text: &str| Value::Text(text.to_owned());
        let own = [
            ("Description", text(&format!("Container {}", self.unit.trim_end_matches(".scope")))),
            ("Slice", text(&self.slice)),
            ("Delegate", Value::Bool(true)),
            ("PIDs", Value::Array("u".into(), vec![Value::U32(pid)])),
            ("DefaultDependencies", Value::Bool(false)),
            ("CollectMode", text("inactive-or-failed")),
        ];
        own.into_iter().map(|(name, value)| (name.to_owned(), value)).chain(accounting).collect()
    }
}

/// The folder of a slice: `/a.slice/a-b.slice` for `a-b.slice`. None for what names no slice (systemd.slice(5)), and for
/// the root slice, whose folder tells nothing of systemd.
fn folder_of(slice: &str) -> Option<String> {
    let stem = slice.strip_suffix(".slice")?;
    let plain = |part: &str| !part.is_empty() && part.bytes().all(is_of_unit_name);
    if !stem.split('-').all(plain) {
        return None;
    }
    let ends = stem.match_indices('-').map(|(index, _)| index).chain([stem.len()]);
    Some(ends.map(|end| format!("/{}.slice", &stem[..end])).collect())
}

/// The characters of a unit's name (systemd.unit(5)).
fn is_of_unit_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b":-_.\\".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_is_beneath_the_slices_its_name_begins_with() {
        let scope = Scope::parse("kubepods-burstable-pod1_2.slice:cleat:c1").unwrap().unwrap();
        assert_eq!(
            scope.path(),
            "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1_2.slice/cleat-c1.scope"
        );
        assert_eq!(
            (scope.unit(), scope.slice.as_str()),
            ("cleat-c1.scope", "kubepods-burstable-pod1_2.slice")
        );
        assert_eq!(
            scope.slices()[..2],
            [
                ("kubepods.slice", "/kubepods.slice"),
                ("kubepods-burstable.slice", "/kubepods.slice/kubepods-burstable.slice"),
            ]
        );
        assert_eq!(scope.slices().len(), 3);
        assert_eq!(Scope::of_path(scope.path()), Some(scope));
    }

    #[test]
    fn a_slice_that_is_not_named_is_the_systems() {
        assert_eq!(Scope::parse(":x:y").unwrap().unwrap().path(), "/system.slice/x-y.scope");
        assert_eq!(Scope::of_id("a").unwrap().path(), "/system.slice/cleat-a.scope");
        assert!(Scope::of_id("a+b").is_err(), "no character of a unit's name");
    }

    #[test]
    fn other_forms_are_paths_and_nonsense_is_refused() {
        for path in ["", "/a/b", "a:b", "/a:b:c:d"] {
            assert_eq!(Scope::parse(path), Ok(None), "{path:?}");
        }
        for bad in
            ["a:b:c", "/a.slice:b:c", "a--b.slice:b:c", "-.slice:b:c", "a.slice:b:../c", "a.slice:b:c/d"]
        {
            assert!(Scope::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn only_slices_all_the_way_and_a_scope_are_systemds() {
        for path in
            ["/a.scope", "/a/b.scope", "/a.slice/b", "/b.slice/a-b.slice/c.scope", "/a.slice/b/c.scope"]
        {
            assert_eq!(Scope::of_path(path), None, "{path:?}");
        }
    }
}
