//! AppArmor on this host: the default profile is loaded at the start, others are looked for when a container names one.
//!
//! Policies are compiled by AppArmor's own `apparmor_parser`; the kernel takes nothing but its compiler's output. It runs
//! once a start, never on behalf of a container, on a text of this program's own. It keeps what it compiled beside the
//! text, so that only the first start compiles. A loaded profile stays when the daemon ends: containers run under it.

mod profile;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use super::error::{EngineError, Result};
use super::model::AppArmor;
use crate::spec::AppArmorSupport;

/// The program that compiles and loads policies.
const PARSER: &str = "apparmor_parser";

/// Where it is on systems that keep it out of an ordinary search path.
const SYSTEM_FOLDERS: [&str; 2] = ["/usr/sbin", "/sbin"];

/// How long it may take. It takes a second at most where processors are slow.
const PARSER_LIMIT: Duration = Duration::from_secs(60);

/// AppArmor's own folder: absent where nobody has mounted securityfs, as in containers with a daemon in them.
const FOLDER: &str = "/sys/kernel/security/apparmor";

/// The profiles that are loaded, one `name (mode)` a line.
const LOADED: &str = "/sys/kernel/security/apparmor/profiles";

/// What the installed AppArmor knows of its language's version 3.0.
const ABI: &str = "/etc/apparmor.d/abi/3.0";

/// Why the default profile could not be loaded.
#[derive(Debug, thiserror::Error)]
enum LoadError {
    /// Its text could not be put down.
    #[error("write the profile {path}")]
    Write {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The parser could not be run.
    #[error("run {program}")]
    Run {
        /// The parser.
        program: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The parser did not come back.
    #[error("{program} did not end within {} s", PARSER_LIMIT.as_secs())]
    Slow {
        /// The parser.
        program: PathBuf,
    },
    /// The parser or the kernel refused it.
    #[error("{program} failed: {message}")]
    Refused {
        /// The parser.
        program: PathBuf,
        /// What it said.
        message: String,
    },
}

/// Loads the default profile where the kernel has AppArmor; its text and what it is compiled to are kept in `folder`.
pub(super) async fn prepare(folder: &Path) -> AppArmorSupport {
    if !is_enabled() {
        return AppArmorSupport::Off;
    }
    let Some(parser) = parser() else {
        let why = format!("{PARSER} is not installed (package apparmor)");
        tracing::warn!(
            "AppArmor is enabled, but {why}: containers without a profile of their own are unconfined"
        );
        return AppArmorSupport::NoDefault(why);
    };
    match load(&parser, folder).await {
        Ok(()) => AppArmorSupport::Default(profile::NAME.to_owned()),
        Err(error) => {
            let why = super::chain(&error);
            tracing::error!(
                "load the AppArmor profile {}: {why}; containers that would run under it are refused",
                profile::NAME
            );
            AppArmorSupport::Failed(why)
        }
    }
}

/// Refuses a container that names a profile which is not loaded: it would fail to start later, with less to say.
pub(super) fn check_loaded(asked: &AppArmor) -> Result<()> {
    let AppArmor::Localhost(name) = asked else { return Ok(()) };
    // A kernel without AppArmor is the specification's to refuse.
    if !is_enabled() {
        return Ok(());
    }
    let loaded = fs::read_to_string(LOADED).map_err(|error| EngineError::step("read", LOADED, &error))?;
    if lists(&loaded, name) {
        return Ok(());
    }
    Err(EngineError::Invalid {
        what: format!("AppArmor profile {name:?}"),
        why: format!("it is not loaded; {PARSER} --replace FILE loads profiles, aa-status lists them"),
    })
}

fn is_enabled() -> bool {
    fs::read("/sys/module/apparmor/parameters/enabled").is_ok_and(|text| text.starts_with(b"Y"))
        && Path::new(FOLDER).is_dir()
}

/// Whether the kernel's list has the profile, or all profiles of a stack (`a//&b`).
fn lists(loaded: &str, name: &str) -> bool {
    let is_loaded = |name: &str| loaded.lines().any(|line| profile_of(line) == name);
    name.split("//&").all(is_loaded)
}

/// The profile on a line `name (mode)`; names may hold spaces.
fn profile_of(line: &str) -> &str {
    line.rsplit_once(" (").map_or(line, |(name, _)| name).trim()
}

fn parser() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(SYSTEM_FOLDERS.map(PathBuf::from))
        .filter(|folder| folder.is_absolute())
        .map(|folder| folder.join(PARSER))
        .find(|program| program.is_file())
}

async fn load(parser: &Path, folder: &Path) -> std::result::Result<(), LoadError> {
    let file = folder.join(profile::NAME);
    // Confined itself, the daemon has to be let signal containers.
    let own = fs::read_to_string("/proc/self/attr/apparmor/current").unwrap_or_default();
    let own = Some(profile_of(&own)).filter(|name| !name.is_empty() && !name.contains(['"', '\\']));
    put(&file, &profile::text(own.unwrap_or("unconfined"), Path::new(ABI).exists()))
        .map_err(|source| LoadError::Write { path: file.clone(), source })?;
    let run = Command::new(parser)
        .arg("--replace")
        .arg("--write-cache")
        .arg("--cache-loc")
        .arg(folder.join("cache"))
        .arg(&file)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let program = parser.to_owned();
    let output = match tokio::time::timeout(PARSER_LIMIT, run).await {
        Ok(Ok(output)) => output,
        Ok(Err(source)) => return Err(LoadError::Run { program, source }),
        Err(_) => return Err(LoadError::Slow { program }),
    };
    if output.status.success() {
        return Ok(());
    }
    let message = format!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    Err(LoadError::Refused { program, message })
}

/// Writes the file unless it says that already: the parser tells by its time whether what it compiled is still true.
fn put(file: &Path, text: &str) -> io::Result<()> {
    if fs::read(file).is_ok_and(|present| present == text.as_bytes()) {
        return Ok(());
    }
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder)?;
    }
    let fresh = file.with_extension("new");
    fs::write(&fresh, text)?;
    fs::rename(fresh, file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_is_loaded_when_the_kernel_lists_it() {
        let loaded =
            "cleat-default (enforce)\n/usr/bin/man (complain)\nman//filter (enforce)\nwith space (kill)\n";
        for (name, expected) in [
            ("cleat-default", true),
            ("/usr/bin/man", true),
            ("man//filter", true),
            ("with space", true),
            ("cleat-default//&man//filter", true),
            ("cleat-default//&other", false),
            ("cleat", false),
            ("with", false),
            ("unconfined", false),
            ("", false),
        ] {
            assert_eq!(lists(loaded, name), expected, "{name}");
        }
    }

    #[test]
    fn a_label_is_cut_from_its_mode() {
        for (line, name) in
            [("unconfined\n", "unconfined"), ("/usr/bin/cleatd (enforce)\n", "/usr/bin/cleatd"), ("", "")]
        {
            assert_eq!(profile_of(line), name);
        }
    }

    #[test]
    fn an_unchanged_profile_keeps_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a/p");
        let inode = || std::os::unix::fs::MetadataExt::ino(&fs::metadata(&file).unwrap());
        put(&file, "one").unwrap();
        let first = inode();
        put(&file, "one").unwrap();
        assert_eq!(inode(), first);
        put(&file, "two").unwrap();
        assert_ne!(inode(), first);
        assert_eq!(fs::read_to_string(&file).unwrap(), "two");
    }
}
