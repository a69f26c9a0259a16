//! What `checkpoint` and `restore` are told for criu.

use std::path::PathBuf;

use cleat_runtime::{CgroupsMode, CriuOptions};

use super::CommandError;
use super::arguments::{Global, Taken, set};

/// Where images are unless `--image-path` says otherwise, in the working folder.
const DEFAULT_IMAGES: &str = "checkpoint";

/// Takes an option if it is one of those that both commands have.
pub(super) fn take(options: &mut CriuOptions, option: &mut Taken<'_>) -> Result<bool, CommandError> {
    match option.name {
        "image-path" => options.images = option.value()?.into(),
        "work-path" => {
            options.work = Some(option.value()?).filter(|path| !path.is_empty()).map(PathBuf::from)
        }
        "manage-cgroups-mode" => options.cgroups_mode = cgroups_mode(&option.value()?)?,
        // A network is restored empty in any case, what is in it is made by whoever made it; others cannot be.
        "empty-ns" => check_empty(&option.value()?)?,
        "tcp-established" => return set(&mut options.tcp_established),
        "ext-unix-sk" => return set(&mut options.external_unix_sockets),
        "shell-job" => return set(&mut options.shell_job),
        "file-locks" => return set(&mut options.file_locks),
        "auto-dedup" => return set(&mut options.auto_dedup),
        "lazy-pages" => return set(&mut options.lazy_pages),
        _ => return Ok(false),
    }
    Ok(true)
}

/// Fills in what was not said.
pub(super) fn complete(options: &mut CriuOptions, global: &Global) {
    options.program.clone_from(&global.criu);
    if options.images.as_os_str().is_empty() {
        options.images = DEFAULT_IMAGES.into();
    }
}

fn cgroups_mode(name: &str) -> Result<Option<CgroupsMode>, CommandError> {
    Ok(Some(match name {
        "" => return Ok(None),
        "soft" => CgroupsMode::Soft,
        "full" => CgroupsMode::Full,
        "strict" => CgroupsMode::Strict,
        "ignore" => CgroupsMode::Ignore,
        other => return Err(CommandError::Usage(format!("unknown cgroups mode {other:?}"))),
    }))
}

fn check_empty(namespace: &str) -> Result<(), CommandError> {
    if namespace == "network" {
        return Ok(());
    }
    Err(CommandError::Usage(format!("--empty-ns {namespace:?}: only network can be restored empty")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_and_namespaces_have_runcs_names() {
        assert_eq!(cgroups_mode("").unwrap(), None);
        assert_eq!(cgroups_mode("strict").unwrap(), Some(CgroupsMode::Strict));
        assert!(cgroups_mode("loose").is_err());
        assert!(check_empty("network").is_ok() && check_empty("pid").is_err());
    }
}
