//! `create`, and what `run` shares with it.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use cleat_runtime::{Create, CreateOptions, Created, Gate, Rootfs, Stdio, Target};

use super::arguments::{Arguments, Global, Taken, one_id};
use super::store::{Configuration, Folder, Record};
use super::{CommandError, console, hooks, inherited, log};

/// The window of a terminal whose size nobody has told; who attaches to it sets it.
const UNKNOWN_SIZE: (u16, u16) = (24, 80);

/// Options of `create` and `run`.
#[derive(Debug, Default)]
pub(super) struct Options {
    pub(super) bundle: Option<PathBuf>,
    pub(super) pid_file: Option<PathBuf>,
    pub(super) console_socket: Option<PathBuf>,
    pub(super) pidfd_socket: Option<PathBuf>,
    preserve_fds: u32,
    /// Not an option: a socket activation's.
    listen_fds: u32,
    no_pivot: bool,
    keep_keyring: bool,
}

impl Options {
    /// Takes an option if it is one of these.
    pub(super) fn take(&mut self, mut option: Taken<'_>) -> Result<bool, CommandError> {
        match option.name {
            "bundle" | "b" => self.bundle = Some(option.value()?.into()),
            "pid-file" => self.pid_file = Some(option.value()?.into()),
            "console-socket" => self.console_socket = Some(option.value()?.into()),
            "pidfd-socket" => self.pidfd_socket = Some(option.value()?.into()),
            "preserve-fds" => self.preserve_fds = inherited::count(&option.value()?)?,
            "no-pivot" => self.no_pivot = true,
            "no-new-keyring" => self.keep_keyring = true,
            // The command is no subreaper: a container's orphans are its init's.
            "no-subreaper" => {}
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// What the library is to do otherwise than usual.
    pub(super) fn of_create(&self, global: &Global) -> CreateOptions {
        CreateOptions {
            systemd_cgroup: global.systemd_cgroup,
            no_pivot: self.no_pivot,
            keep_keyring: self.keep_keyring,
            preserve_fds: self.preserve_fds,
            listen_fds: self.listen_fds,
            rootless: global.rootless,
        }
    }

    /// Counts the descriptors that the container inherits, and fails unless all are open.
    pub(super) fn count_inherited(&mut self) -> Result<(), CommandError> {
        self.listen_fds = inherited::listening()?;
        inherited::check(self.listen_fds + self.preserve_fds)
    }
}

/// `create`.
pub(super) fn command(arguments: &mut Arguments, global: &Global) -> Result<(), CommandError> {
    let mut options = Options::default();
    let positional = arguments.each(None, |option| options.take(option))?;
    let id = one_id(positional)?;
    options.count_inherited()?;
    let configuration = configuration(&options)?;
    if configuration.terminal && options.console_socket.is_none() {
        return Err(CommandError::Usage("process.terminal needs --console-socket".into()));
    }
    let folder = Folder::create(&global.root, &id)?;
    let created = folder
        .make_fifo()
        .and_then(|fifo| create(&id, configuration, Gate::Fifo(&fifo), &folder, (global, &options)));
    let finished = created.and_then(|(created, record)| {
        created.notes.iter().for_each(|note| log::note(global, note));
        hand_over(&options, &created).inspect_err(|_| {
            discard(global, &created.pidfd, &created.target, &record);
            hooks::after_end(global, &record);
        })
    });
    finished.inspect_err(|_| remove_folder(global, &folder))
}

/// Reads the bundle's configuration.
pub(super) fn configuration(options: &Options) -> Result<Configuration, CommandError> {
    Configuration::read(options.bundle.as_deref().unwrap_or(".".as_ref()))
}

/// Creates the container and records it. When that fails its poststop hooks are run: others may have been by then.
pub(super) fn create(
    id: &str,
    configuration: Configuration,
    gate: Gate<'_>,
    folder: &Folder,
    (global, options): (&Global, &Options),
) -> Result<(Created, Record), CommandError> {
    let (stdin, stdout, stderr) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
    let streams = if configuration.terminal { Vec::new() } else { own_streams() };
    let stdio = if configuration.terminal {
        let (height, width) = cleat_sys::pty::size(&stdin).unwrap_or(UNKNOWN_SIZE);
        Stdio::Terminal { height, width }
    } else {
        Stdio::Descriptors([stdin.as_fd(), stdout.as_fd(), stderr.as_fd()])
    };
    let bundle = configuration.bundle.clone();
    let options = options.of_create(global);
    let request = Create { id, bundle: &bundle, rootfs: Rootfs::Ready, stdio, gate, options };
    let created = match cleat_runtime::spawn_create(&request)?.finish() {
        Ok(created) => created,
        Err(failure) => {
            hooks::after_end(global, &Record::never_born(id, configuration));
            return Err(failure.into());
        }
    };
    let record = Record::new(id, &created, configuration).with_streams(streams);
    match folder.write(&record) {
        Ok(()) => Ok((created, record)),
        Err(error) => {
            discard(global, &created.pidfd, &created.target, &record);
            hooks::after_end(global, &record);
            Err(error)
        }
    }
}

/// What this command's standard streams are, which the container's are too; a closed one has no name.
pub(super) fn own_streams() -> Vec<String> {
    let name = |number| fs::read_link(format!("/proc/self/fd/{number}")).unwrap_or_default();
    (0..3).map(|number| name(number).to_string_lossy().into_owned()).collect()
}

/// Gives the caller what it asked for: the terminal, the process.
pub(super) fn hand_over(options: &Options, created: &Created) -> Result<(), CommandError> {
    if let (Some(socket), Some(master)) = (&options.console_socket, &created.console) {
        console::send(socket, master)?;
    }
    if let Some(socket) = &options.pidfd_socket {
        console::send_process(socket, &created.pidfd)?;
    }
    match &options.pid_file {
        Some(path) => fs::write(path, created.pid.to_string()).map_err(CommandError::file("write", path)),
        None => Ok(()),
    }
}

/// Undoes a creation. The failure that led here is the one to report; what fails here goes to the log.
pub(super) fn discard(global: &Global, init: &OwnedFd, target: &Target, record: &Record) {
    let undone = target.kill_all().and_then(|()| {
        // ECHILD is impossible here: init is our child and nobody else reaps.
        cleat_sys::process::reap(init).ok();
        target.remove_cgroup()
    });
    let undone = undone.map_err(CommandError::from).and_then(|()| record.release());
    if let Err(error) = undone {
        log::note(global, &error.to_string());
    }
}

pub(super) fn remove_folder(global: &Global, folder: &Folder) {
    if let Err(error) = folder.remove() {
        log::note(global, &error.to_string());
    }
}
