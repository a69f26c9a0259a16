//! The handle of a cgroup, its files and its processes.

use std::fs;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{Mode as FileMode, OFlags};

use super::folder::read_record;
use super::remove::move_process;
use super::{CgroupError, Layout};

/// One cgroup: the same path in every hierarchy. A handle; the cgroup itself need not exist.
#[derive(Clone, Debug)]
pub struct Cgroup {
    pub(super) layout: Layout,
    /// Relative to a hierarchy's root; never empty, no `.` or `..` in it.
    pub(super) path: PathBuf,
}

impl Cgroup {
    /// A handle of the cgroup at `path` (`/pods/web`): absolute, not the root, without `.` and `..`. Touches nothing.
    pub fn open(layout: &Layout, path: &str) -> Result<Self, CgroupError> {
        let invalid = || CgroupError::Path(path.to_owned());
        let relative = path.strip_prefix('/').ok_or_else(invalid)?;
        let plain = Path::new(relative).components().all(|part| matches!(part, Component::Normal(_)));
        if relative.is_empty() || !plain || path.contains(['\0', '\n']) {
            return Err(invalid());
        }
        Ok(Self { layout: layout.clone(), path: Path::new(relative).components().collect() })
    }

    /// A child of this cgroup.
    pub fn child(&self, name: &str) -> Result<Self, CgroupError> {
        Self::open(&self.layout, &format!("{}/{name}", self.path()))
    }

    /// The absolute path within a hierarchy, as [`Cgroup::open`] takes it.
    #[must_use]
    pub fn path(&self) -> String {
        format!("/{}", self.path.display())
    }

    /// The hierarchies it lives in.
    #[must_use]
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Its folder in the hierarchy that has `controller` (a v1 one, else the cgroup2 one).
    pub fn dir(&self, controller: &str) -> Result<PathBuf, CgroupError> {
        let root = self.layout.root_of(controller);
        root.map(|root| root.join(&self.path)).ok_or_else(|| CgroupError::NoController(controller.to_owned()))
    }

    /// Its folder in the cgroup2 hierarchy, on hybrid hosts too.
    #[must_use]
    pub fn v2_dir(&self) -> Option<PathBuf> {
        self.layout.unified().map(|root| root.join(&self.path))
    }

    /// A descriptor of [`Cgroup::v2_dir`] for CLONE_INTO_CGROUP.
    pub fn v2_dir_fd(&self) -> Result<Option<OwnedFd>, CgroupError> {
        let Some(path) = self.v2_dir() else { return Ok(None) };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match rustix::fs::open(&path, flags, FileMode::empty()) {
            Ok(fd) => Ok(Some(fd)),
            Err(errno) => Err(CgroupError::Read { path, source: errno.into() }),
        }
    }

    /// The content of `file` in the hierarchy with `controller`. For lists of processes there is [`Cgroup::processes`].
    pub fn read(&self, controller: &str, file: &str) -> Result<String, CgroupError> {
        let path = self.dir(controller)?.join(file);
        let read = fs::File::open(&path).and_then(read_record);
        read.map_err(|source| CgroupError::Read { path, source })
    }

    /// Writes `value` to `file` in the hierarchy with `controller`, in one write(2).
    pub fn write(&self, controller: &str, file: &str, value: &str) -> Result<(), CgroupError> {
        write_value(self.dir(controller)?.join(file), value)
    }

    /// Writes values to `file` in the hierarchy with `controller`, one after the other, each in one write(2) of its own.
    pub fn write_each<'a>(
        &self,
        controller: &str,
        file: &str,
        values: impl IntoIterator<Item = &'a str>,
    ) -> Result<(), CgroupError> {
        let path = self.dir(controller)?.join(file);
        write_values(path, values)
    }

    /// Puts the calling process (all of it: it has to be single-threaded) into this cgroup in every v1 hierarchy. The
    /// cgroup2 hierarchy is left as it is: a process is born there.
    pub fn join_self(&self) -> Result<(), CgroupError> {
        self.tasks_paths().try_for_each(|path| write_value(path, "0"))
    }

    /// As [`Cgroup::join_self`], in the v1 hierarchy with `controller` alone.
    pub fn join_self_with(&self, controller: &str) -> Result<(), CgroupError> {
        let root = self.layout.v1_root(controller);
        let root = root.ok_or_else(|| CgroupError::NoController(controller.to_owned()))?;
        write_value(root.join(&self.path).join("tasks"), "0")
    }

    /// As [`Cgroup::join_self`] for one made by [`Cgroup::create_for_kill`]: the freezer alone, and that only where
    /// there is no cgroup2 hierarchy to be born in.
    pub fn join_self_for_kill(&self) -> Result<(), CgroupError> {
        match self.layout.v1_root("freezer").filter(|_| self.layout.unified().is_none()) {
            Some(root) => write_value(root.join(&self.path).join("tasks"), "0"),
            None => Ok(()),
        }
    }

    /// Puts another process into this cgroup in the cgroup2 hierarchy, or where there is none in the freezer's: enough to
    /// count and to kill it. One that has ended needs no place.
    pub fn adopt(&self, pid: i32) -> Result<(), CgroupError> {
        let root = self.layout.unified().or_else(|| self.layout.v1_root("freezer"));
        let root = root.ok_or_else(|| CgroupError::NoController("freezer".into()))?;
        move_process(&root.join(&self.path).join("cgroup.procs"), pid)
    }

    fn tasks_paths(&self) -> impl Iterator<Item = PathBuf> {
        self.layout.v1().iter().map(|hierarchy| hierarchy.dir.join(&self.path).join("tasks"))
    }

    /// How many processes of this cgroup (children included where the kernel counts them so) the OOM killer ended.
    pub fn oom_kills(&self) -> Result<u64, CgroupError> {
        let file = if self.layout.is_v1("memory") { "memory.oom_control" } else { "memory.events" };
        Ok(flat_value(&self.read("memory", file)?, "oom_kill").unwrap_or(0))
    }

    /// The process ids in this cgroup and everything beneath it. Empty when the cgroup is gone.
    pub fn processes(&self) -> Result<Vec<i32>, CgroupError> {
        let mut pids = Vec::new();
        if !self.layout.is_none() {
            collect_processes(&self.census_dir(), &mut pids)?;
        }
        Ok(pids)
    }

    /// Whether there is a process in this cgroup or beneath it. False when the cgroup is gone.
    pub fn is_populated(&self) -> Result<bool, CgroupError> {
        if let Some(dir) = self.v2_dir() {
            match read_if_present(dir.join("cgroup.events"))? {
                Some(events) => return Ok(flat_value(&events, "populated") == Some(1)),
                None if self.layout.v1().is_empty() => return Ok(false),
                None => {}
            }
        }
        Ok(!self.processes()?.is_empty())
    }

    /// The folder in whose hierarchy processes are counted: cgroup2, else the freezer, else any.
    pub(super) fn census_dir(&self) -> PathBuf {
        let present = self.v2_dir().filter(|dir| dir.exists());
        let root = || self.layout.v1_root("freezer").or_else(|| self.layout.roots().next());
        present.or_else(|| root().map(|root| root.join(&self.path))).unwrap_or_default()
    }
}

/// Writes a cgroup file in one write(2), as the kernel expects it.
pub(super) fn write_value(path: PathBuf, value: &str) -> Result<(), CgroupError> {
    write_values(path, [value])
}

fn write_values<'a>(path: PathBuf, values: impl IntoIterator<Item = &'a str>) -> Result<(), CgroupError> {
    let mut file = None;
    for value in values {
        let opened = match file.take() {
            Some(file) => Ok(file),
            None => fs::OpenOptions::new().write(true).open(&path),
        };
        let written = opened.and_then(|mut file| file.write_all(value.as_bytes()).map(|()| file));
        match written {
            Ok(open) => file = Some(open),
            Err(source) => return Err(CgroupError::Write { path, value: value.to_owned(), source }),
        }
    }
    Ok(())
}

/// The file's content; none when it, or its cgroup, does not exist (any more).
pub(super) fn read_if_present(path: PathBuf) -> Result<Option<String>, CgroupError> {
    match fs::read_to_string(&path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if is_gone(&error) => Ok(None),
        Err(source) => Err(CgroupError::Read { path, source }),
    }
}

/// Whether `error` says that a cgroup or its file is not there. ENODEV: it was removed while the file was open.
pub(super) fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ENODEV)
}

/// The number after `key` in a file of `key number` lines.
pub(super) fn flat_value(text: &str, key: &str) -> Option<u64> {
    let value = |line: &str| line.split_once(' ').filter(|(name, _)| *name == key)?.1.trim().parse().ok();
    text.lines().find_map(value)
}

fn collect_processes(dir: &Path, pids: &mut Vec<i32>) -> Result<(), CgroupError> {
    let Some(text) = read_if_present(dir.join("cgroup.procs"))? else { return Ok(()) };
    pids.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()));
    for child in children(dir)? {
        collect_processes(&child, pids)?;
    }
    Ok(())
}

/// The child cgroups of a folder; none when it is gone.
pub(super) fn children(dir: &Path) -> Result<Vec<PathBuf>, CgroupError> {
    let failed = |source| CgroupError::Read { path: dir.to_path_buf(), source };
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if is_gone(&error) => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed)?;
        if entry.file_type().map_err(failed)?.is_dir() {
            found.push(entry.path());
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_found_by_its_whole_key() {
        let text = "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n";
        assert_eq!(flat_value(text, "oom_kill"), Some(3));
        assert_eq!(flat_value(text, "oom"), None);
    }

    #[test]
    fn without_hierarchies_there_is_nothing_to_do() {
        let cgroup = Cgroup::open(&Layout::none(), "/a").unwrap();
        cgroup.create().unwrap();
        cgroup.child("b").unwrap().create_for_kill().unwrap();
        cgroup.join_self().unwrap();
        assert!(cgroup.v2_dir_fd().unwrap().is_none() && cgroup.processes().unwrap().is_empty());
        cgroup.kill().unwrap();
        assert!(cgroup.wait_empty(std::time::Duration::ZERO).unwrap());
        cgroup.remove().unwrap();
        assert!(cgroup.read("memory", "memory.max").is_err());
    }

    #[test]
    fn only_plain_absolute_paths_are_accepted() {
        let layout = Layout::detect().unwrap();
        for bad in ["", "/", "a", "/a/../b", "/..", "/a/./../..", "//../x"] {
            assert!(Cgroup::open(&layout, bad).is_err(), "{bad:?}");
        }
        assert_eq!(Cgroup::open(&layout, "/a//b/").unwrap().path(), "/a/b");
    }
}
