//! `exec`.

use std::fs;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use cleat_runtime::{Exec, Executed, HookState, Stdio, SubCgroup, Target};
use oci_spec::runtime::{Capability, Process, Spec};

use super::arguments::{Arguments, Global, Taken};
use super::store::{Folder, Status};
use super::{CommandError, console, inherited, supervise};

/// The window of a terminal whose size nobody has told.
const UNKNOWN_SIZE: (u16, u16) = (24, 80);

#[derive(Default)]
struct Options {
    process: Option<PathBuf>,
    tty: bool,
    detach: bool,
    user: Option<String>,
    additional_gids: Vec<u32>,
    cwd: Option<String>,
    env: Vec<String>,
    capabilities: Vec<String>,
    no_new_privileges: bool,
    apparmor: Option<String>,
    ignore_paused: bool,
    process_label: Option<String>,
    preserve_fds: u32,
    pid_file: Option<PathBuf>,
    console_socket: Option<PathBuf>,
    pidfd_socket: Option<PathBuf>,
    cgroups: Vec<SubCgroup>,
}

impl Options {
    fn take(&mut self, mut option: Taken<'_>) -> Result<bool, CommandError> {
        match option.name {
            "process" | "p" => self.process = Some(option.value()?.into()),
            "tty" | "t" => self.tty = true,
            "detach" | "d" => self.detach = true,
            "user" | "u" => self.user = Some(option.value()?),
            "additional-gids" | "g" => {
                self.additional_gids.push(number("--additional-gids", &option.value()?)?)
            }
            "cwd" => self.cwd = Some(option.value()?),
            "env" | "e" => self.env.push(option.value()?),
            "cap" | "c" => self.capabilities.push(option.value()?),
            "apparmor" => self.apparmor = Some(option.value()?),
            "process-label" => self.process_label = Some(option.value()?),
            "preserve-fds" => self.preserve_fds = inherited::count(&option.value()?)?,
            "pidfd-socket" => self.pidfd_socket = Some(option.value()?.into()),
            "cgroup" => self.cgroups.push(sub_cgroup(&option.value()?)),
            "ignore-paused" => self.ignore_paused = true,
            // Orphans of an exec are adopted by the container's init, or by whoever adopts ours.
            "no-subreaper" => {}
            "no-new-privs" => self.no_new_privileges = true,
            "pid-file" => self.pid_file = Some(option.value()?.into()),
            "console-socket" => self.console_socket = Some(option.value()?.into()),
            _ => return Ok(false),
        }
        Ok(true)
    }
}

/// `exec`.
pub(super) fn command(arguments: &mut Arguments, global: &Global) -> Result<ExitCode, CommandError> {
    let mut options = Options::default();
    let mut positional = arguments.each(Some(0), |option| options.take(option))?;
    if positional.is_empty() {
        return Err(CommandError::Usage("a container id is missing".into()));
    }
    let id = positional.remove(0);
    inherited::check(options.preserve_fds)?;
    let folder = Folder::open(&global.root, &id)?;
    let record = folder.read()?;
    let status = folder.status(&record);
    let Some(init) = record.init() else {
        return Err(CommandError::Status { id, status: status.name(), wanted: "created or running" });
    };
    if status == Status::Paused && !options.ignore_paused {
        return Err(CommandError::Status { id, status: status.name(), wanted: "created or running" });
    }
    let spec: Spec = read(&record.bundle.join("config.json"))?;
    let process = process(&options, positional, &spec)?;
    let terminal = process.terminal().unwrap_or(false);
    if terminal && options.detach != options.console_socket.is_some() {
        return Err(CommandError::Usage("a terminal needs --console-socket exactly when detached".into()));
    }
    let profile = spec.linux().as_ref().and_then(|linux| linux.seccomp().as_ref());
    let state = HookState {
        oci_version: cleat_runtime::OCI_VERSION,
        id: &record.id,
        status: "running",
        pid: Some(record.pid),
        bundle: &record.bundle,
        annotations: &record.annotations,
    };
    let target = Target::reopen(&init, &record.open_cgroup()?, profile)?;
    let target =
        target.known_as(&state).sharing_mounts(record.shared_root.is_some()).in_groups(&record.resctrl);
    // Unique among the execs of the container: two processes with our number cannot be alive at once.
    let exec_id = format!("c{}", std::process::id());
    let signals = if options.detach { None } else { Some(supervise::Signals::block()?) };
    let executed = execute(&target, &exec_id, &process, &options)?;
    hand_over(&options, &executed)?;
    let Some(signals) = signals else {
        // Nobody will be there at its end: it goes on in the container's own cgroup.
        target.remove_exec(&exec_id)?;
        return Ok(ExitCode::SUCCESS);
    };
    let code = supervise::until_end(&signals, &executed.pidfd, executed.console.as_ref())?;
    target.remove_exec(&exec_id)?;
    Ok(code)
}

fn execute(
    target: &Target,
    exec_id: &str,
    process: &Process,
    options: &Options,
) -> Result<Executed, CommandError> {
    let process_json = serde_json::to_string(process)
        .map_err(|source| CommandError::Json { path: "the process".into(), source })?;
    let (stdin, stdout, stderr) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
    let stdio = if process.terminal().unwrap_or(false) {
        let (height, width) = cleat_sys::pty::size(&stdin).unwrap_or(UNKNOWN_SIZE);
        Stdio::Terminal { height, width }
    } else {
        Stdio::Descriptors([stdin.as_fd(), stdout.as_fd(), stderr.as_fd()])
    };
    let Options { preserve_fds, ref cgroups, .. } = *options;
    let request = Exec { id: exec_id, process_json: &process_json, stdio, preserve_fds, cgroups };
    Ok(cleat_runtime::spawn_exec(target, &request)?.finish()?)
}

fn hand_over(options: &Options, executed: &Executed) -> Result<(), CommandError> {
    if let (Some(socket), Some(master)) = (&options.console_socket, &executed.console) {
        console::send(socket, master)?;
    }
    if let Some(socket) = &options.pidfd_socket {
        console::send_process(socket, &executed.pidfd)?;
    }
    match &options.pid_file {
        Some(path) => fs::write(path, executed.pid.to_string()).map_err(CommandError::file("write", path)),
        None => Ok(()),
    }
}

/// The process: a file's, or the container's own one with what the options change.
fn process(options: &Options, program: Vec<String>, spec: &Spec) -> Result<Process, CommandError> {
    if let Some(path) = &options.process {
        let mut process: Process = read(path)?;
        if options.tty {
            process.set_terminal(Some(true));
        }
        return Ok(process);
    }
    if program.is_empty() {
        return Err(CommandError::Usage("a program or --process is missing".into()));
    }
    let mut process =
        spec.process().clone().ok_or_else(|| CommandError::Usage("process is missing".into()))?;
    process.set_args(Some(program));
    process.set_terminal(Some(options.tty));
    change(&mut process, options)?;
    Ok(process)
}

fn read<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, CommandError> {
    let text = fs::read(path).map_err(CommandError::file("read", path))?;
    serde_json::from_slice(&text).map_err(|source| CommandError::Json { path: path.into(), source })
}

fn change(process: &mut Process, options: &Options) -> Result<(), CommandError> {
    if let Some(cwd) = &options.cwd {
        process.set_cwd(cwd.into());
    }
    process.env_mut().get_or_insert_default().extend(options.env.iter().cloned());
    if options.no_new_privileges {
        process.set_no_new_privileges(Some(true));
    }
    if options.process_label.is_some() {
        process.set_selinux_label(options.process_label.clone());
    }
    if options.apparmor.is_some() {
        process.set_apparmor_profile(options.apparmor.clone());
    }
    if let Some(user) = &options.user {
        let (uid, gid) = parse_user(user)?;
        process.user_mut().set_uid(uid);
        if let Some(gid) = gid {
            process.user_mut().set_gid(gid);
        }
    }
    if !options.additional_gids.is_empty() {
        process.user_mut().set_additional_gids(Some(options.additional_gids.clone()));
    }
    if !options.capabilities.is_empty() {
        let mut sets = process.capabilities().clone().unwrap_or_default();
        for name in &options.capabilities {
            let capability: Capability = serde_json::from_value(name.to_uppercase().into())
                .map_err(|_| CommandError::Usage(format!("unknown capability {name:?}")))?;
            let with = |set: &Option<std::collections::HashSet<Capability>>| {
                Some(set.iter().flatten().copied().chain([capability]).collect())
            };
            // Neither inheritable nor ambient: a program does not inherit what was given to another one (CVE-2022-29162).
            let (bounding, effective, permitted) =
                (with(sets.bounding()), with(sets.effective()), with(sets.permitted()));
            sets.set_bounding(bounding);
            sets.set_effective(effective);
            sets.set_permitted(permitted);
        }
        process.set_capabilities(Some(sets));
    }
    Ok(())
}

/// `[CONTROLLER[,CONTROLLER...]:]CGROUP`, beneath the container's.
fn sub_cgroup(text: &str) -> SubCgroup {
    let (controllers, path) = text.split_once(':').unwrap_or(("", text));
    let controllers = controllers.split(',').filter(|name| !name.is_empty());
    SubCgroup { controllers: controllers.map(ToOwned::to_owned).collect(), path: path.to_owned() }
}

/// `UID` or `UID:GID`, in digits only: never a name (CVE-2026-30892).
fn parse_user(text: &str) -> Result<(u32, Option<u32>), CommandError> {
    match text.split_once(':') {
        Some((uid, gid)) => Ok((number("--user", uid)?, Some(number("--user", gid)?))),
        None => Ok((number("--user", text)?, None)),
    }
}

fn number(option: &str, text: &str) -> Result<u32, CommandError> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let value = text.parse().ok().filter(|value| digits && *value != u32::MAX);
    value.ok_or_else(|| CommandError::Usage(format!("{option}: {text:?} is not a number of a user or group")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cgroup_may_be_meant_for_some_controllers() {
        let of = |controllers: &[&str], path: &str| {
            let controllers = controllers.iter().map(|name| (*name).to_owned()).collect();
            SubCgroup { controllers, path: path.into() }
        };
        assert_eq!(sub_cgroup("a/b"), of(&[], "a/b"));
        assert_eq!(sub_cgroup("pids,cpu:a"), of(&["pids", "cpu"], "a"));
        assert_eq!(sub_cgroup(":a"), of(&[], "a"));
    }

    #[test]
    fn users_are_numbers() {
        assert_eq!(parse_user("7:8").unwrap(), (7, Some(8)));
        assert_eq!(parse_user("7").unwrap(), (7, None));
        for bad in ["", "root", "+7", "7:", ":7", "4294967295", "4294967296", "65536:x", "-1", " 7"] {
            assert!(parse_user(bad).is_err(), "{bad:?}");
        }
    }
}
