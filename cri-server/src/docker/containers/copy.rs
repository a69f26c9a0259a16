//! `docker cp` and `docker export`: files of a container as archives, both ways.

use std::ffi::OsStr;
use std::io::{BufReader, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cleat_image::unpack::LayerStream;
use hyper::header::{HeaderName, HeaderValue};
use hyper::{Response, StatusCode};
use rustix::fs::FileType;
use serde_json::{Value, json};

use crate::docker::Door;
use crate::docker::dispatch::Ask;
use crate::docker::refusal::{Answer, Refusal};
use crate::docker::wire::{Body, BodyReader, archive, empty, rfc3339};
use crate::engine::files::{Crossing, FilesError, Found, Packer, Unpacking, unpack};
use crate::engine::{Access, ContainerFiles, One, chain};

/// What tells of the path that was asked for.
const STAT: HeaderName = HeaderName::from_static("x-docker-container-path-stat");

/// The most an archive may decompress to, bytes: more than any disk, since whoever sends it may fill the disk anyway.
const MAX_ARCHIVE_BYTES: u64 = 1 << 50;

const NS_PER_SECOND: i64 = 1_000_000_000;

/// `HEAD /containers/{id}/archive`.
pub(super) async fn look(door: &Door, one: &One, ask: &Ask) -> Answer {
    let path = path(ask)?;
    let files = door.engine.files_of(one, Access::Read).await?;
    let found = on_files(one, path.clone(), move |path| files.root.look(path)).await?;
    let mut response = empty(StatusCode::OK);
    add_stat(&mut response, &path, &found);
    Ok(response)
}

/// `GET /containers/{id}/archive`.
pub(super) async fn out(door: &Arc<Door>, one: &One, ask: &Ask) -> Answer {
    let path = path(ask)?;
    let files = door.engine.files_of(one, Access::Read).await?;
    let opened =
        on_files(one, path.clone(), move |path| Ok((files.root.look(path)?, files.root.place(path)?, files)));
    let (found, place, files) = opened.await?;
    let (writer, mut response) = archive();
    add_stat(&mut response, &path, &found);
    let name = base(&path);
    door.run_blocking(move || {
        let _files = files;
        let mut packer = Packer::new(writer, Crossing::Yes);
        let packed = packer.add(place.folder.as_fd(), &place.name, Path::new(&name));
        end(packer, packed);
    });
    Ok(response)
}

/// `GET /containers/{id}/export`.
pub(super) async fn export(door: &Arc<Door>, one: &One) -> Answer {
    let files = door.engine.files_of(one, Access::Read).await?;
    let (writer, response) = archive();
    door.run_blocking(move || {
        let mut packer = Packer::new(writer, Crossing::No);
        let packed = files
            .root
            .folder(Path::new("/"))
            .and_then(|root| packer.add_beneath(root.as_fd(), Path::new("")));
        end(packer, packed);
    });
    Ok(response)
}

/// Ends an archive, or breaks it off so that its reader does not take it for whole.
fn end(packer: Packer<crate::docker::wire::BodyWriter>, packed: Result<(), FilesError>) {
    let log = |reason: &str| tracing::info!("copying out of a container broke off: {reason}");
    let mut writer = match packer.finish() {
        Ok(writer) => writer,
        Err(error) => return log(&chain(&error)),
    };
    if let Err(error) = packed.and_then(|()| writer.flush().map_err(FilesError::Write)) {
        let reason = chain(&error);
        log(&reason);
        writer.abort(std::io::Error::other(reason));
    }
}

/// `PUT /containers/{id}/archive`.
pub(super) async fn into(door: &Door, one: &One, ask: Ask) -> Answer {
    let path = path(&ask)?;
    let owner = ask.query.is_on("copyUIDGID").then(|| {
        let identity = &one.container.identity;
        (identity.uid, identity.gid)
    });
    let files = door.engine.files_of(one, Access::Write).await?;
    // A resting container's layers can be written to; what it sees itself cannot.
    if one.container.config.security.read_only_rootfs && !files.runs {
        return Err(read_only());
    }
    let body = BodyReader::new(ask.body);
    on_files(one, path, move |path| put(&files, path, body, Unpacking { owner })).await?;
    Ok(empty(StatusCode::OK))
}

fn put(files: &ContainerFiles, path: &Path, body: BodyReader, how: Unpacking) -> Result<(), FilesError> {
    let body = BufReader::new(body);
    let stream = LayerStream::new(body, cleat_image::reference::Algorithm::Sha256, MAX_ARCHIVE_BYTES);
    unpack(&files.root, path, stream.map_err(FilesError::Archive)?, how)
}

/// The path in the query.
fn path(ask: &Ask) -> Result<PathBuf, Refusal> {
    match ask.query.get("path") {
        "" => Err(Refusal::bad("Bad parameters: missing path")),
        path if path.contains('\0') => Err(Refusal::bad("the path has a NUL in it")),
        path => Ok(path.into()),
    }
}

/// Runs `work` on files, which may be slow or never answer, on a thread of its own.
async fn on_files<T: Send + 'static>(
    one: &One,
    path: PathBuf,
    work: impl FnOnce(&Path) -> Result<T, FilesError> + Send + 'static,
) -> Result<T, Refusal> {
    let asked = path.clone();
    match tokio::task::spawn_blocking(move || work(&asked)).await {
        Ok(done) => done.map_err(|error| refused(one, &path, &error)),
        Err(error) => Err(Refusal::failed(format!("work on files: {error}"))),
    }
}

fn refused(one: &One, path: &Path, error: &FilesError) -> Refusal {
    match error {
        FilesError::Missing(_) => Refusal::missing(format!(
            "Could not find the file {} in container {}",
            path.display(),
            one.name()
        )),
        FilesError::NotAFolder(_) => Refusal::bad("extraction point is not a directory"),
        FilesError::ReadOnly(_) => read_only(),
        FilesError::OtherKind(_) | FilesError::Climbs(_) | FilesError::Archive(_) => {
            Refusal::bad(chain(error))
        }
        FilesError::Write(_) | FilesError::Path { .. } => Refusal::failed(chain(error)),
    }
}

fn read_only() -> Refusal {
    Refusal::forbidden("container rootfs is marked read-only")
}

/// The name that what is at `path` has in an archive: its last one, where a trailing dot is one.
fn base(path: &Path) -> std::ffi::OsString {
    let text = path.as_os_str().as_bytes();
    if text == b"." || text.ends_with(b"/.") {
        return ".".into();
    }
    path.file_name().map_or_else(|| "/".into(), OsStr::to_owned)
}

fn add_stat(response: &mut Response<Body>, path: &Path, found: &Found) {
    let text = STANDARD.encode(describe(path, found).to_string());
    let value = HeaderValue::try_from(text).expect("base64 is plain text");
    response.headers_mut().insert(STAT, value);
}

fn describe(path: &Path, found: &Found) -> Value {
    let stat = &found.stat;
    let mtime = stat.st_mtime * NS_PER_SECOND + i64::try_from(stat.st_mtime_nsec).unwrap_or_default();
    json!({
        "name": base(path).to_string_lossy(), "size": stat.st_size, "mode": mode(stat.st_mode), "mtime": rfc3339(mtime),
        "linkTarget": found.target.as_ref().map(|target| target.display().to_string()).unwrap_or_default(),
    })
}

/// A mode with Go's bits for types (`os.FileMode`), which is what clients expect.
fn mode(mode: u32) -> u32 {
    let kind = match FileType::from_raw_mode(mode) {
        FileType::Directory => 1 << 31,
        FileType::Symlink => 1 << 27,
        FileType::BlockDevice => 1 << 26,
        FileType::CharacterDevice => 1 << 26 | 1 << 21,
        FileType::Fifo => 1 << 25,
        FileType::Socket => 1 << 24,
        _ => 0,
    };
    let special = [(0o4000, 1 << 23), (0o2000, 1 << 22), (0o1000, 1 << 20)];
    let set = special.iter().filter(|(bit, _)| mode & bit != 0).map(|(_, set)| set);
    set.fold(kind | mode & 0o777, |all, bit| all | bit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_has_a_last_name() {
        for (path, name) in
            [("/etc/passwd", "passwd"), ("/etc/", "etc"), ("/etc/.", "."), ("/", "/"), (".", "."), ("a", "a")]
        {
            assert_eq!(base(Path::new(path)), name, "{path}");
        }
    }

    #[test]
    fn modes_have_the_bits_that_clients_know() {
        for (kernel, told) in [
            (0o100_644, 0o644),
            (0o040_755, 1 << 31 | 0o755),
            (0o120_777, 1 << 27 | 0o777),
            (0o020_666, 1 << 26 | 1 << 21 | 0o666),
            (0o104_755, 1 << 23 | 0o755),
            (0o041_777, 1 << 31 | 1 << 20 | 0o777),
        ] {
            assert_eq!(mode(kernel), told, "{kernel:o}");
        }
    }
}
