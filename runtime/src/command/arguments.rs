//! Parsing the command line: global options, the command's name, then the command's own.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use lexopt::{Arg, Parser, ValueExt};
use rustix::process::geteuid;

use super::CommandError;

/// The folder that containers' state folders are in, unless `--root` says otherwise.
const ROOT_NAME: &str = "cleat-runtime";

const HELP: &str = "\
usage: cleat-runtime [--root DIR] [--log FILE] [--log-format text|json] [--debug]
                     [--systemd-cgroup] [--criu PROGRAM] [--rootless auto|true|false] COMMAND [options] ...

  create   create a container: [--bundle DIR] [--pid-file FILE] [--console-socket PATH] [--pidfd-socket PATH]
           [--preserve-fds N] [--no-pivot] [--no-new-keyring] ID
  start    execute a created container's program: ID
  run      create and start, wait for the end unless detached: [create's options] [--detach] [--keep] ID
  exec     execute one more program: [--process FILE] [--tty] [--user UID[:GID]] [--cwd DIR] [--env K=V]
           [--cap CAP] [--no-new-privs] [--additional-gids GID] [--detach] [--pid-file FILE]
           [--console-socket PATH] [--pidfd-socket PATH] [--preserve-fds N] [--apparmor PROFILE]
           [--process-label LABEL] [--ignore-paused] [--cgroup [CONTROLLER,...:]PATH] ID [PROGRAM ARGUMENT...]
  state    print a container's state as JSON: ID
  kill     send a signal (TERM unless given): [--all] ID [SIGNAL]
  delete   remove a stopped container, with --force any: [--force] ID
  pause    make all processes stand still: ID
  resume   let them go on: ID
  ps       show the processes: [--format table|json] ID [OPTION OF PS...]
  update   change limits: [--resources FILE|-] [--memory BYTES] [--memory-reservation BYTES] [--memory-swap BYTES]
           [--cpu-share N] [--cpu-quota US] [--cpu-period US] [--cpu-burst US] [--cpu-rt-runtime US]
           [--cpu-rt-period US] [--cpuset-cpus LIST] [--cpuset-mems LIST] [--pids-limit N] [--blkio-weight N] ID
  events   print use of resources as JSON, once or at intervals, and kills for want of memory:
           [--stats] [--interval SECONDS] ID
  list     print all containers: [--format table|json] [--quiet]
  checkpoint
           write a container's processes into images, by criu, and remove it: [--image-path DIR] [--work-path DIR]
           [--parent-path DIR] [--leave-running] [--tcp-established] [--tcp-skip-in-flight] [--link-remap]
           [--ext-unix-sk] [--shell-job] [--lazy-pages] [--status-fd N] [--page-server ADDRESS:PORT] [--file-locks]
           [--pre-dump] [--manage-cgroups-mode soft|full|strict|ignore] [--empty-ns network] [--auto-dedup] ID
  restore  make a container from such images, running: [--bundle DIR] [--image-path DIR] [--work-path DIR] [--detach]
           [--pid-file FILE] [--console-socket PATH] [--tcp-established] [--ext-unix-sk] [--shell-job] [--lazy-pages]
           [--file-locks] [--manage-cgroups-mode soft|full|strict|ignore] [--empty-ns network] [--auto-dedup]
           [--lsm-profile TYPE:NAME] [--lsm-mount-context CONTEXT] [--no-pivot] [--no-subreaper] ID
  spec     write a config.json to begin with, for root or for the user who asks: [--bundle DIR] [--rootless]
  features print what this runtime supports as JSON
";

/// Options before the command.
#[derive(Debug)]
pub(super) struct Global {
    pub(super) root: PathBuf,
    pub(super) log: Option<PathBuf>,
    pub(super) log_json: bool,
    pub(super) debug: bool,
    pub(super) systemd_cgroup: bool,
    /// The program, unless it is to be looked for in PATH.
    pub(super) criu: Option<PathBuf>,
    /// Whether a container may do without a cgroup; none leaves it to who the caller is.
    pub(super) rootless: Option<bool>,
    pub(super) version: bool,
}

/// The arguments not looked at yet.
pub(super) struct Arguments {
    parser: Parser,
    command: Option<OsString>,
}

impl From<lexopt::Error> for CommandError {
    fn from(error: lexopt::Error) -> Self {
        Self::Usage(error.to_string())
    }
}

impl Arguments {
    pub(super) fn from_environment() -> Result<Self, CommandError> {
        Ok(Self { parser: Parser::from_env(), command: None })
    }

    /// Takes the global options, up to the command's name.
    pub(super) fn global(mut self) -> Result<(Self, Global), CommandError> {
        let mut global = Global {
            root: default_root(),
            log: None,
            log_json: false,
            debug: false,
            systemd_cgroup: false,
            criu: None,
            rootless: None,
            version: false,
        };
        while let Some(argument) = self.parser.next()? {
            match argument {
                Arg::Long("root") => global.root = self.parser.value()?.into(),
                Arg::Long("log") => global.log = Some(self.parser.value()?.into()),
                Arg::Long("log-format") => global.log_json = log_format(&self.parser.value()?.string()?)?,
                Arg::Long("debug") => global.debug = true,
                Arg::Long("systemd-cgroup") => global.systemd_cgroup = true,
                Arg::Long("rootless") => global.rootless = rootless(&self.parser.value()?.string()?)?,
                Arg::Long("criu") => global.criu = Some(self.parser.value()?.into()),
                Arg::Long("version") | Arg::Short('v') => global.version = true,
                Arg::Long("help") | Arg::Short('h') => self.command = Some("help".into()),
                Arg::Value(name) => {
                    self.command = Some(name);
                    break;
                }
                other => return Err(other.unexpected().into()),
            }
        }
        Ok((self, global))
    }

    /// The command's name.
    pub(super) fn command(&mut self) -> Result<String, CommandError> {
        match self.command.take() {
            Some(name) => Ok(name.string()?),
            None => Err(CommandError::Usage(format!("a command is missing\n{HELP}"))),
        }
    }

    /// Hands every option and every positional argument to `take`; what it does not know is an error. With `rest`, the
    /// arguments after that many positional ones are the program's and are not looked at.
    pub(super) fn each(
        &mut self,
        rest_after: Option<usize>,
        mut take: impl FnMut(Taken<'_>) -> Result<bool, CommandError>,
    ) -> Result<Vec<String>, CommandError> {
        let mut positional = Vec::new();
        loop {
            if rest_after.is_some_and(|count| positional.len() > count) {
                positional
                    .extend(self.parser.raw_args()?.map(ValueExt::string).collect::<Result<Vec<_>, _>>()?);
                return Ok(positional);
            }
            let name = match self.parser.next()? {
                None => return Ok(positional),
                Some(Arg::Value(value)) => {
                    positional.push(value.string()?);
                    continue;
                }
                Some(Arg::Long(name)) => name.to_owned(),
                Some(Arg::Short(letter)) => letter.to_string(),
            };
            if take(Taken { name: &name, parser: &mut self.parser })? {
                continue;
            }
            return Err(match name.as_str() {
                "help" | "h" => CommandError::HelpWanted,
                _ => CommandError::Usage(format!("unknown option {name:?}")),
            });
        }
    }

    /// The arguments of a command that takes a container's id and no option.
    pub(super) fn only_id(&mut self) -> Result<String, CommandError> {
        let positional = self.each(None, |_| Ok(false))?;
        one_id(positional)
    }
}

/// An option that was met, by its name without dashes.
pub(super) struct Taken<'a> {
    pub(super) name: &'a str,
    parser: &'a mut Parser,
}

impl Taken<'_> {
    /// The option's value.
    pub(super) fn value(&mut self) -> Result<String, CommandError> {
        Ok(self.parser.value()?.string()?)
    }
}

/// Sets a flag, for an option without a value.
pub(super) fn set(flag: &mut bool) -> Result<bool, CommandError> {
    *flag = true;
    Ok(true)
}

/// The only positional argument.
pub(super) fn one_id(positional: Vec<String>) -> Result<String, CommandError> {
    match <[String; 1]>::try_from(positional) {
        Ok([id]) => Ok(id),
        Err(other) => {
            Err(CommandError::Usage(format!("one container id expected, {} arguments given", other.len())))
        }
    }
}

/// Of a user who is not root, the folder of their session where they have one.
fn default_root() -> PathBuf {
    let session = std::env::var_os("XDG_RUNTIME_DIR").filter(|folder| !folder.is_empty());
    match session {
        Some(folder) if !geteuid().is_root() => Path::new(&folder).join(ROOT_NAME),
        _ => Path::new("/run").join(ROOT_NAME),
    }
}

fn rootless(value: &str) -> Result<Option<bool>, CommandError> {
    match value {
        "auto" => Ok(None),
        "true" | "1" | "yes" => Ok(Some(true)),
        "false" | "0" | "no" => Ok(Some(false)),
        other => Err(CommandError::Usage(format!("--rootless {other:?}: auto, true or false is expected"))),
    }
}

/// Whether the log is JSON.
fn log_format(name: &str) -> Result<bool, CommandError> {
    match name {
        "json" => Ok(true),
        "text" => Ok(false),
        other => Err(CommandError::Usage(format!("unknown log format {other:?}"))),
    }
}

/// `help`.
pub(super) fn print_help() -> Result<(), CommandError> {
    io::stdout().write_all(HELP.as_bytes()).map_err(|error| CommandError::System("print the help", error))
}
