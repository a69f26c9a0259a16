//! Which files' edits the devices asked for need.

use std::path::PathBuf;

use super::error::CdiError;
use super::file::{Content, Edits};
use crate::engine::model::CdiName;

/// A file that was found.
#[derive(Debug)]
pub(crate) struct SpecFile {
    /// Where it is.
    pub(crate) path: PathBuf,
    /// The place of its folder among the folders; the later wins.
    pub(crate) priority: usize,
    /// What it says, or why it could not be read.
    pub(crate) content: Result<Content, String>,
}

/// The edits of the devices `names`, in their order; what a file says for all its devices comes once, before the first of
/// them. `folders` are for the message only.
///
/// # Errors
/// When a device is not described, or by two files of the same folder.
pub(crate) fn choose<'a>(
    files: &'a [SpecFile],
    folders: &[PathBuf],
    names: &[CdiName],
) -> Result<Vec<&'a Edits>, CdiError> {
    let mut chosen: Vec<&Edits> = Vec::new();
    let mut seen: Vec<&PathBuf> = Vec::new();
    for name in names {
        let (file, content, own) = find(files, name)?.ok_or_else(|| unknown(files, folders, name))?;
        if !seen.contains(&&file.path) {
            seen.push(&file.path);
            chosen.push(&content.container_edits);
        }
        chosen.push(own);
    }
    Ok(chosen)
}

type Found<'a> = (&'a SpecFile, &'a Content, &'a Edits);

fn find<'a>(files: &'a [SpecFile], name: &CdiName) -> Result<Option<Found<'a>>, CdiError> {
    let mut best: Option<Found<'a>> = None;
    let mut rival: Option<&SpecFile> = None;
    for file in files {
        let Some((content, edits)) = described(file, name) else { continue };
        match best {
            Some((other, ..)) if other.priority > file.priority => {}
            Some((other, ..)) if other.priority == file.priority => rival = Some(file),
            _ => (best, rival) = (Some((file, content, edits)), None),
        }
    }
    match (best, rival) {
        (Some((first, ..)), Some(second)) => Err(CdiError::Conflict {
            name: name.clone(),
            first: first.path.clone(),
            second: second.path.clone(),
        }),
        (best, _) => Ok(best),
    }
}

fn described<'a>(file: &'a SpecFile, name: &CdiName) -> Option<(&'a Content, &'a Edits)> {
    let content = file.content.as_ref().ok().filter(|content| content.kind == name.kind())?;
    let device = content.devices.iter().find(|device| device.name == name.device())?;
    Some((content, &device.container_edits))
}

fn unknown(files: &[SpecFile], folders: &[PathBuf], name: &CdiName) -> CdiError {
    let broken =
        files.iter().filter_map(|file| Some((file.path.clone(), file.content.as_ref().err()?.clone())));
    CdiError::Unknown { name: name.clone(), folders: folders.to_vec(), broken: broken.collect() }
}

#[cfg(test)]
mod tests {
    use super::super::file::{Format, parse};
    use super::*;

    fn file(path: &str, priority: usize, kind: &str, devices: &[&str]) -> SpecFile {
        let devices: Vec<String> = devices
            .iter()
            .map(|name| format!(r#"{{"name": "{name}", "containerEdits": {{"env": ["{name}={path}"]}}}}"#))
            .collect();
        let text = format!(
            r#"{{"cdiVersion": "0.5.0", "kind": "{kind}", "devices": [{}], "containerEdits": {{"env": ["all={path}"]}}}}"#,
            devices.join(",")
        );
        let content = Ok(parse(Format::Json, text.as_bytes()).unwrap());
        SpecFile { path: path.into(), priority, content }
    }

    fn variables(files: &[SpecFile], names: &[&str]) -> Result<Vec<String>, CdiError> {
        let names: Vec<_> = names.iter().map(|name| CdiName::try_from((*name).to_owned()).unwrap()).collect();
        let edits = choose(files, &["/etc/cdi".into(), "/run/cdi".into()], &names)?;
        Ok(edits.into_iter().flat_map(|edits| edits.env.clone()).collect())
    }

    #[test]
    fn a_files_own_edits_come_once_before_its_first_device() {
        let files = [file("/a", 0, "v.com/c", &["x", "y"]), file("/b", 0, "v.com/d", &["x"])];
        assert_eq!(
            variables(&files, &["v.com/c=y", "v.com/d=x", "v.com/c=x"]).unwrap(),
            ["all=/a", "y=/a", "all=/b", "x=/b", "x=/a"]
        );
        assert_eq!(variables(&files, &[]).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn a_later_folder_wins_and_two_files_of_one_are_a_conflict() {
        let [low, high] = [file("/low", 0, "v.com/c", &["x"]), file("/high", 1, "v.com/c", &["x"])];
        assert_eq!(variables(&[high, low], &["v.com/c=x"]).unwrap(), ["all=/high", "x=/high"]);
        let both = [file("/1", 0, "v.com/c", &["x", "y"]), file("/2", 0, "v.com/c", &["x"])];
        let refused = variables(&both, &["v.com/c=x"]).unwrap_err().to_string();
        assert_eq!(refused, "/1 and /2 both describe device v.com/c=x");
        assert!(variables(&both, &["v.com/c=y"]).is_ok(), "only what both have is in conflict");
        let settled = [
            file("/1", 0, "v.com/c", &["x"]),
            file("/2", 0, "v.com/c", &["x"]),
            file("/3", 1, "v.com/c", &["x"]),
        ];
        assert_eq!(variables(&settled, &["v.com/c=x"]).unwrap(), ["all=/3", "x=/3"]);
    }

    #[test]
    fn what_is_not_found_is_told_with_what_was_not_read() {
        let broken =
            SpecFile { path: "/etc/cdi/x.yaml".into(), priority: 0, content: Err("it is empty".into()) };
        let files = [file("/a", 0, "v.com/c", &["x"]), broken];
        assert!(variables(&files, &["v.com/c=x"]).is_ok(), "a broken file is no fault of another's devices");
        assert_eq!(
            variables(&files, &["v.com/c=z"]).unwrap_err().to_string(),
            "no device v.com/c=z is described in /etc/cdi, /run/cdi; /etc/cdi/x.yaml is left out: it is empty"
        );
    }
}
