//! `hooks`: programs of the engine's that run at points of a container's life.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use oci_spec::runtime as oci;

use super::{SpecError, process::strings};

/// The hooks of a container's creation and start. Those after it are the caller's to run.
#[derive(Debug, Default)]
pub(crate) struct Hooks {
    /// In the runtime's namespaces, once the container's are made: `prestart`, then `createRuntime`.
    pub(crate) create_runtime: Vec<Hook>,
    /// In the container's namespaces, before its root is entered.
    pub(crate) create_container: Vec<Hook>,
    /// In the container, before its program.
    pub(crate) start_container: Vec<Hook>,
    /// Whether there are any for after the start or the end.
    pub(crate) are_later: bool,
}

/// One hook.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Hook {
    /// Absolute.
    pub(crate) path: CString,
    /// With the program's name first; never empty.
    pub(crate) arguments: Vec<CString>,
    /// All of it: nothing of ours is passed on.
    pub(crate) environment: Vec<CString>,
    pub(crate) timeout: Option<Duration>,
}

impl Hooks {
    pub(super) fn new(specified: Option<&oci::Hooks>) -> Result<Self, SpecError> {
        let Some(hooks) = specified else { return Ok(Self::default()) };
        #[allow(deprecated)] // engines still send prestart hooks
        let mut create_runtime = planned("prestart", hooks.prestart().as_deref())?;
        create_runtime.extend(planned("createRuntime", hooks.create_runtime().as_deref())?);
        // Looked at by whoever runs them, but told before anything is made.
        let poststart = planned("poststart", hooks.poststart().as_deref())?;
        let poststop = planned("poststop", hooks.poststop().as_deref())?;
        Ok(Self {
            are_later: !poststart.is_empty() || !poststop.is_empty(),
            create_runtime,
            create_container: planned("createContainer", hooks.create_container().as_deref())?,
            start_container: planned("startContainer", hooks.start_container().as_deref())?,
        })
    }
}

/// Decides about the hooks of one point.
pub(crate) fn planned(point: &str, specified: Option<&[oci::Hook]>) -> Result<Vec<Hook>, SpecError> {
    specified.unwrap_or_default().iter().map(|hook| Hook::new(&format!("hooks.{point}"), hook)).collect()
}

impl Hook {
    fn new(field: &str, specified: &oci::Hook) -> Result<Self, SpecError> {
        let path = specified.path();
        let invalid = || SpecError::value(format!("{field}.path"), path.display());
        let path = CString::new(path.as_os_str().as_bytes()).map_err(|_| invalid())?;
        if !specified.path().is_absolute() {
            return Err(invalid());
        }
        let mut arguments =
            strings(&format!("{field}.args"), specified.args().as_deref().unwrap_or_default())?;
        if arguments.is_empty() {
            arguments.push(path.clone());
        }
        let timeout = specified.timeout().map(|seconds| match u64::try_from(seconds) {
            Ok(seconds @ 1..) => Ok(Duration::from_secs(seconds)),
            _ => Err(SpecError::value(format!("{field}.timeout"), seconds)),
        });
        Ok(Self {
            path,
            arguments,
            environment: strings(&format!("{field}.env"), specified.env().as_deref().unwrap_or_default())?,
            timeout: timeout.transpose()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hooks(json: &str) -> Result<Hooks, SpecError> {
        Hooks::new(Some(&serde_json::from_str(json).unwrap()))
    }

    #[test]
    fn deprecated_hooks_come_first_and_arguments_default_to_the_path() {
        let plan = hooks(
            r#"{"createRuntime":[{"path":"/b","args":["b","1"],"env":["A=1"],"timeout":2}],
                "prestart":[{"path":"/a"}]}"#,
        )
        .unwrap();
        let [first, second] = plan.create_runtime.as_slice() else { panic!("{plan:?}") };
        assert_eq!((first.path.as_c_str(), first.arguments.as_slice()), (c"/a", &[c"/a".to_owned()][..]));
        assert_eq!((first.timeout, second.timeout), (None, Some(Duration::from_secs(2))));
        assert_eq!(second.arguments, [c"b".to_owned(), c"1".to_owned()]);
    }

    #[test]
    fn nonsense_is_refused_by_the_name_of_its_field() {
        for (json, field) in [
            (r#"{"poststop":[{"path":"x"}]}"#, "hooks.poststop.path"),
            (r#"{"poststart":[{"path":"/x","timeout":0}]}"#, "hooks.poststart.timeout"),
            (r#"{"prestart":[{"path":"/x","timeout":-1}]}"#, "hooks.prestart.timeout"),
            (r#"{"startContainer":[{"path":"/x","args":["a\u0000"]}]}"#, "hooks.startContainer.args"),
            (r#"{"createContainer":[{"path":"/x","env":["a\u0000"]}]}"#, "hooks.createContainer.env"),
        ] {
            let error = hooks(json).unwrap_err().to_string();
            assert!(error.contains(field), "{error}");
        }
    }
}
