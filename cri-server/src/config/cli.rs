//! The command line of `cleatd`.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use super::DEFAULT_FILE;
use super::files::Found;
use super::origin::Origin;
use super::value::Value;

/// What `cleatd --help` says below the flags.
const AFTER_HELP: &str = "\
Examples:
  cleatd                                     serve with /etc/cleat/cleat.toml, if it is there
  cleatd --log-level debug                   the same, and tell more
  cleatd config                              what is in force, and which file or flag says so
  cleatd --root /a --state /b --listen unix:///b/cleat.sock
                                             a second daemon; give it a bridge and subnets of its own in --config

  cleatd --docker-listen unix:///run/cleat/docker.sock
                                             serve the Docker Engine API too

Try it: crictl --runtime-endpoint unix:///run/cleat/cleat.sock info

SIGTERM ends the daemon and leaves containers running; the next start finds them again.
SIGHUP has it read its settings again.";

/// cleatd: containers for Kubernetes over the CRI, and for people.
#[derive(Debug, Parser)]
#[command(name = "cleatd", version, about = "Runs pods and containers; speaks the Kubernetes CRI and the Docker Engine API", after_help = AFTER_HELP)]
pub(crate) struct Cli {
    /// Settings of the command line.
    #[command(flatten)]
    pub(crate) options: Options,
    /// What to do; serving when absent.
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

/// What `cleatd` does other than serving.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Subcommand)]
pub(crate) enum Command {
    /// Print the settings in force as TOML, each with its origin, and exit
    Config,
}

/// Settings of the command line; each goes before what files say.
#[derive(Args, Debug, Default)]
pub(crate) struct Options {
    /// Main configuration file; its drop-ins are FILE.d/*.toml in lexical order, the later wins
    #[arg(long, global = true, value_name = "FILE", help = config_help())]
    pub(crate) config: Option<PathBuf>,
    /// Folder of what survives a reboot: images, records, writable layers [root]
    #[arg(long, global = true, value_name = "DIR")]
    root: Option<String>,
    /// Folder of what a reboot may take: sockets, namespaces, exit records [state]
    #[arg(long, global = true, value_name = "DIR")]
    state: Option<String>,
    /// Where the CRI is served, such as unix:///run/cleat/cleat.sock [listen]
    #[arg(long, global = true, value_name = "ADDRESS")]
    listen: Option<String>,
    /// Where the Docker Engine API is served, such as unix:///run/cleat/docker.sock; empty for nowhere [docker.listen]
    #[arg(long, global = true, value_name = "ADDRESS")]
    docker_listen: Option<String>,
    /// The least important messages logged: error, warn, info, debug or trace [log.level]
    #[arg(long, global = true, value_name = "LEVEL")]
    log_level: Option<String>,
    /// Form of the log: text or json [log.format]
    #[arg(long, global = true, value_name = "FORMAT")]
    log_format: Option<String>,
}

fn config_help() -> String {
    format!(
        "Main configuration file, {DEFAULT_FILE} if absent; FILE.d/*.toml follow in lexical order, the later wins"
    )
}

impl Options {
    /// What the flags say, unchecked: the checks and their messages are those of the files.
    pub(crate) fn settings(&self) -> impl Iterator<Item = Found> {
        let given = [
            ("root", "--root", &self.root),
            ("state", "--state", &self.state),
            ("listen", "--listen", &self.listen),
            ("docker.listen", "--docker-listen", &self.docker_listen),
            ("log.level", "--log-level", &self.log_level),
            ("log.format", "--log-format", &self.log_format),
        ];
        given.into_iter().filter_map(|(key, flag, text)| {
            let value = Value::Text(text.clone()?);
            Some(Found { key, value, origin: Origin::Flag(flag) })
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::config::settings;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_flag_names_its_setting() {
        let line = "cleatd --root /a --state /b --listen unix:///c --docker-listen unix:///d --log-level warn --log-format json config";
        let cli = Cli::try_parse_from(line.split(' ')).unwrap();
        assert_eq!(cli.command, Some(Command::Config));
        let given: Vec<_> = cli.options.settings().collect();
        assert_eq!(given.len(), 6);
        for found in given {
            let setting = settings::find(found.key).unwrap();
            assert!(setting.kind.check(&found.value).is_ok(), "{}", found.key);
            let help = Cli::command().render_help().to_string();
            assert!(help.contains(&format!("[{}]", found.key)), "{help}");
        }
    }

    #[test]
    fn flags_are_accepted_behind_the_subcommand() {
        let cli = Cli::try_parse_from(["cleatd", "config", "--root", "/a"]).unwrap();
        assert_eq!(cli.options.settings().count(), 1);
    }

    #[test]
    fn a_flag_goes_before_a_file_and_its_faults_name_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("c.toml");
        std::fs::write(&file, "root = '/from-file'\nstate = '/st'\n").unwrap();
        let options =
            Options { config: Some(file.clone()), root: Some("/from-flag".to_owned()), ..Options::default() };
        let shown = crate::config::load(&options).unwrap().to_toml();
        assert!(shown.contains("root = \"/from-flag\" # from command line --root\n"), "{shown}");
        assert!(shown.contains(&format!("state = \"/st\" # from {}:2\n", file.display())), "{shown}");

        let bad = Options { listen: Some("tcp://x".to_owned()), root: Some("a".to_owned()), ..options };
        let report = crate::config::load(&bad).unwrap_err().to_string();
        assert!(report.starts_with("2 faults in the configuration\n"), "{report}");
        assert!(report.contains("command line --listen: listen: \"tcp://x\" is no Unix socket"), "{report}");
    }
}
