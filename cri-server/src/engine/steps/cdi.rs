//! Devices that a container was given by name: their files are found and read here, their meaning is decided in `spec`.
//!
//! Read anew by each creation that asks for such a device, and by no other: vendors write these files when drivers are
//! loaded or devices appear, and a watcher would cost every node for the few that have any.

use std::collections::HashMap;
use std::fs::{self, OpenOptions};
use std::io::Read;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::sys::stat::{major, minor};
use oci_spec::runtime::Spec;
use rustix::fs::OFlags;

use crate::engine::error::{EngineError, Result, chain};
use crate::engine::model::CdiName;
use crate::spec::cdi::{self, CdiError, Format, HostNode, NodeKind, SpecFile};

/// Most files of a folder that are looked at.
const MAX_FILES: usize = 1_000;

/// The largest file that is read: one with hundreds of partitioned devices has a tenth of it.
const FILE_LIMIT_BYTES: u64 = 4 << 20;

/// Puts what the devices `names` need into `spec`, as the files in `folders` tell it.
pub(super) fn add(spec: &mut Spec, folders: &[PathBuf], names: &[CdiName]) -> Result<()> {
    if names.is_empty() {
        return Ok(());
    }
    let files = files(folders)?;
    let edits = cdi::choose(&files, folders, names).map_err(|error| refused(names, &error))?;
    let nodes = cdi::host_nodes(&edits).map(|path| (path.to_owned(), look(path))).collect::<HashMap<_, _>>();
    cdi::apply(spec, &edits, &nodes).map_err(|error| refused(names, &error))
}

fn refused(names: &[CdiName], error: &CdiError) -> EngineError {
    let names = names.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    EngineError::invalid(format!("CDI device {names}"), error)
}

/// The files of all folders, in the order of their names; a folder may be absent.
fn files(folders: &[PathBuf]) -> Result<Vec<SpecFile>> {
    let mut files = Vec::new();
    for (priority, folder) in folders.iter().enumerate() {
        let mut names = names(folder)
            .map_err(|error| EngineError::step("read", format!("CDI folder {}", folder.display()), &error))?;
        names.sort_by(|(one, _), (other, _)| one.cmp(other));
        files.extend(names.into_iter().map(|(path, format)| {
            let content = read(&path)
                .map_err(|error| chain(&error))
                .and_then(|bytes| cdi::parse(format, &bytes).map_err(|error| chain(&error)));
            SpecFile { path, priority, content }
        }));
    }
    Ok(files)
}

fn names(folder: &Path) -> std::io::Result<Vec<(PathBuf, Format)>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let format = match path.extension().and_then(|extension| extension.to_str()) {
            Some("json") => Format::Json,
            Some("yaml") => Format::Yaml,
            _ => continue,
        };
        if names.len() == MAX_FILES {
            return Err(std::io::Error::other(format!("it has more than {MAX_FILES} files")));
        }
        names.push((path, format));
    }
    Ok(names)
}

/// A file's content. A pipe of that name must not keep anybody waiting.
fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(std::io::Error::other("it is no file"));
    }
    let mut bytes = Vec::new();
    file.take(FILE_LIMIT_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_LIMIT_BYTES {
        return Err(std::io::Error::other(format!("it has more than {FILE_LIMIT_BYTES} bytes")));
    }
    Ok(bytes)
}

/// What is at a path of this host.
fn look(path: &Path) -> std::result::Result<HostNode, String> {
    let metadata = fs::metadata(path).map_err(|error| error.to_string())?;
    let of_type = metadata.file_type();
    let kind = if of_type.is_char_device() {
        NodeKind::Character
    } else if of_type.is_block_device() {
        NodeKind::Block
    } else if of_type.is_fifo() {
        NodeKind::Fifo
    } else {
        return Err("it is neither a device nor a named pipe".to_owned());
    };
    let number = |number: u64| u32::try_from(number).map_err(|error| error.to_string());
    let numbers = match kind {
        NodeKind::Fifo => (0, 0),
        _ => (number(major(metadata.rdev()))?, number(minor(metadata.rdev()))?),
    };
    Ok(HostNode { kind, numbers, mode: metadata.mode() & 0o777 })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NULL: &str = r#"{"cdiVersion": "0.5.0", "kind": "vendor.com/class", "devices": [
        {"name": "null", "containerEdits": {"deviceNodes": [{"path": "/dev/other", "hostPath": "/dev/null"}]}}]}"#;

    fn names_of(texts: &[&str]) -> Vec<CdiName> {
        texts.iter().map(|text| CdiName::try_from((*text).to_owned()).unwrap()).collect()
    }

    #[test]
    fn only_files_of_the_two_forms_are_read_and_absent_folders_are_fine() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b.json", "a.yaml", "c.txt", "d"] {
            fs::write(folder.path().join(name), NULL).unwrap();
        }
        nix::unistd::mkfifo(&folder.path().join("pipe.json"), nix::sys::stat::Mode::S_IRUSR).unwrap();
        let large = fs::File::create(folder.path().join("large.json")).unwrap();
        large.set_len(FILE_LIMIT_BYTES + 1).unwrap();
        let files = files(&["/no/such/folder".into(), folder.path().to_owned()]).unwrap();
        let told: Vec<_> = files
            .iter()
            .map(|file| {
                (file.path.file_name().unwrap().to_str().unwrap(), file.priority, file.content.is_ok())
            })
            .collect();
        assert_eq!(
            told,
            [("a.yaml", 1, true), ("b.json", 1, true), ("large.json", 1, false), ("pipe.json", 1, false)]
        );
    }

    #[test]
    fn a_device_is_found_looked_at_and_put_in() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("vendor.json"), NULL).unwrap();
        let folders = [folder.path().to_owned()];
        let mut spec = Spec::default();
        add(&mut spec, &folders, &names_of(&["vendor.com/class=null"])).unwrap();
        let device = spec.linux().as_ref().unwrap().devices().as_ref().unwrap()[0].clone();
        assert_eq!(
            (device.path().as_path(), device.major(), device.minor()),
            (Path::new("/dev/other"), 1, 3)
        );
        let error = add(&mut spec, &folders, &names_of(&["vendor.com/class=x"])).unwrap_err();
        assert!(
            error.to_string().starts_with("CDI device vendor.com/class=x is refused: no device"),
            "{error}"
        );
    }

    #[test]
    fn a_container_without_such_devices_opens_no_folder() {
        let mut spec = Spec::default();
        // A file is no folder: looking would fail.
        add(&mut spec, &["/dev/null".into()], &[]).unwrap();
        assert_eq!(spec, Spec::default());
    }
}
