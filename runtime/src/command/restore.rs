//! `restore`: a container from a checkpoint, running; unless detached, wait for the end.

use std::fs;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::ExitCode;

use cleat_runtime::{CriuOptions, Restore, Restored};

use super::arguments::{Arguments, Global, Taken, one_id, set};
use super::create::{discard, remove_folder};
use super::store::{Configuration, Folder, Record};
use super::{CommandError, console, create, criu, hooks, supervise};

#[derive(Default)]
struct Options {
    criu: CriuOptions,
    bundle: Option<PathBuf>,
    pid_file: Option<PathBuf>,
    console_socket: Option<PathBuf>,
    detach: bool,
    lsm_profile: Option<String>,
    lsm_mount_context: Option<String>,
}

/// `restore`.
pub(super) fn command(arguments: &mut Arguments, global: &Global) -> Result<ExitCode, CommandError> {
    let mut options = Options::default();
    let id = one_id(arguments.each(None, |option| options.take(option))?)?;
    criu::complete(&mut options.criu, global);
    let configuration = Configuration::read(options.bundle.as_deref().unwrap_or(".".as_ref()))?;
    if configuration.terminal && options.detach != options.console_socket.is_some() {
        return Err(CommandError::Usage("a terminal needs --console-socket exactly when detached".into()));
    }
    let folder = Folder::create(&global.root, &id)?;
    // Before init can end: from here on its end and our own signals come by descriptor.
    let signals = if options.detach { None } else { Some(supervise::Signals::block()?) };
    let (restored, record) = restore(&id, configuration, &options, &folder, global)
        .inspect_err(|_| remove_folder(global, &folder))?;
    let handed_over = hand_over(&options, &restored);
    let Restored { pidfd, console, target, .. } = restored;
    if let Err(error) = handed_over {
        discard(global, &pidfd, &target, &record);
        remove_folder(global, &folder);
        hooks::after_end(global, &record);
        return Err(error);
    }
    let Some(signals) = signals else { return Ok(ExitCode::SUCCESS) };
    let code = supervise::until_end(&signals, &pidfd, console.as_ref())?;
    target.kill_all()?;
    target.remove_cgroup()?;
    folder.remove()?;
    hooks::after_end(global, &record);
    Ok(code)
}

/// Restores the container and records it.
fn restore(
    id: &str,
    configuration: Configuration,
    options: &Options,
    folder: &Folder,
    global: &Global,
) -> Result<(Restored, Record), CommandError> {
    let (stdin, stdout, stderr) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
    let restored = cleat_runtime::restore(&Restore {
        id,
        bundle: &configuration.bundle,
        streams: [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()],
        systemd_cgroup: global.systemd_cgroup,
        lsm_profile: options.lsm_profile.as_deref(),
        lsm_mount_context: options.lsm_mount_context.as_deref(),
        criu: &options.criu,
    });
    let restored = match restored {
        Ok(restored) => restored,
        Err(failure) => {
            hooks::after_end(global, &Record::never_born(id, configuration));
            return Err(failure.into());
        }
    };
    let streams = if configuration.terminal { Vec::new() } else { create::own_streams() };
    let record = Record::restored(id, &restored, configuration).with_streams(streams);
    match folder.write(&record) {
        Ok(()) => Ok((restored, record)),
        Err(error) => {
            discard(global, &restored.pidfd, &restored.target, &record);
            hooks::after_end(global, &record);
            Err(error)
        }
    }
}

fn hand_over(options: &Options, restored: &Restored) -> Result<(), CommandError> {
    if let (Some(socket), Some(master)) = (&options.console_socket, &restored.console) {
        console::send(socket, master)?;
    }
    match &options.pid_file {
        Some(path) => fs::write(path, restored.pid.to_string()).map_err(CommandError::file("write", path)),
        None => Ok(()),
    }
}

impl Options {
    fn take(&mut self, mut option: Taken<'_>) -> Result<bool, CommandError> {
        match option.name {
            "bundle" | "b" => self.bundle = Some(option.value()?.into()),
            "pid-file" => self.pid_file = Some(option.value()?.into()),
            "console-socket" => self.console_socket = Some(option.value()?.into()),
            "lsm-profile" => self.lsm_profile = Some(option.value()?),
            "lsm-mount-context" => self.lsm_mount_context = Some(option.value()?),
            "detach" | "d" => return set(&mut self.detach),
            // criu enters the root as it does; the command is no subreaper.
            "no-pivot" | "no-subreaper" => {}
            _ => return criu::take(&mut self.criu, &mut option),
        }
        Ok(true)
    }
}
