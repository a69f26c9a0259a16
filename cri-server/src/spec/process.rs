//! What is executed: arguments, environment, working folder, and the same for a process exec'd later.

use std::path::{Path, PathBuf};

use oci_spec::image::Config;
use oci_spec::runtime::{PosixRlimit, PosixRlimitBuilder, PosixRlimitType, Process, Spec, User};

use super::path::normalised;
use super::{ContainerFacts, Host, PodFacts, SpecError, capability};
use crate::engine::model::{ContainerConfig, Identity, Security};

/// Where programs are looked for when neither the image nor the client says.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The terminal type of a container with a terminal that does not say.
const DEFAULT_TERM: &str = "xterm";

/// Home folder of a user without one.
const DEFAULT_HOME: &str = "/";

/// The arguments, program first, by Kubernetes' rules: `command` replaces the image's entrypoint and cmd, `args` alone
/// replaces its cmd.
///
/// # Errors
/// When no program is named, or an argument contains a NUL.
pub(crate) fn process_args(config: &ContainerConfig, image: &Config) -> Result<Vec<String>, SpecError> {
    let of_image = |list: &Option<Vec<String>>| list.clone().unwrap_or_default();
    let mut args = match (config.command.is_empty(), config.args.is_empty()) {
        (false, _) => config.command.clone(),
        (true, _) => of_image(image.entrypoint()),
    };
    match (config.command.is_empty(), config.args.is_empty()) {
        (true, true) => args.extend(of_image(image.cmd())),
        _ => args.extend_from_slice(&config.args),
    }
    checked_args(args)
}

/// Where the init is in a container that has it: people look for it by this name.
pub(super) const INIT_DESTINATION: &str = "/sbin/docker-init";

/// The arguments of the init that starts `args`, in a container that has one.
fn with_init(facts: &ContainerFacts<'_>, args: Vec<String>) -> Vec<String> {
    match facts.init {
        Some(_) => [INIT_DESTINATION.to_owned(), "--".to_owned()].into_iter().chain(args).collect(),
        None => args,
    }
}

/// Refuses what no process can be given.
fn checked_args(args: Vec<String>) -> Result<Vec<String>, SpecError> {
    if args.first().is_none_or(String::is_empty) {
        return Err(SpecError::NoCommand);
    }
    match args.iter().position(|arg| arg.contains('\0')) {
        Some(index) => Err(SpecError::NulInArgument(index)),
        None => Ok(args),
    }
}

/// The environment: defaults, then the image's, then the client's; a later one replaces an earlier one of its name and
/// keeps its place. `HOME` is the user's unless somebody set it.
///
/// # Errors
/// When the client names a variable that no process can be given. Such a one of the image is left out, as the field's
/// runtimes do: the image may be nobody's to mend.
pub(crate) fn environment(
    config: &ContainerConfig,
    image: &Config,
    hostname: &str,
    identity: &Identity,
) -> Result<Vec<String>, SpecError> {
    let mut list = Variables::default();
    list.set("PATH", DEFAULT_PATH);
    if config.tty {
        list.set("TERM", DEFAULT_TERM);
    }
    if !hostname.is_empty() {
        list.set("HOSTNAME", hostname);
    }
    for variable in image.env().iter().flatten() {
        if let Some((name, value)) = variable.split_once('=')
            && is_variable(name, value)
        {
            list.set(name, value);
        }
    }
    for (name, value) in &config.envs {
        if !is_variable(name, value) {
            return Err(SpecError::Environment(name.clone()));
        }
        list.set(name, value);
    }
    if !list.has("HOME") {
        list.set("HOME", identity.home.as_deref().unwrap_or(DEFAULT_HOME));
    }
    Ok(list.into_strings())
}

/// The working folder: the client's, else the image's, else the root. An image's relative one starts at the root.
///
/// # Errors
/// When it contains a control character or is too long, or the client's is relative.
pub(crate) fn working_dir(config: &ContainerConfig, image: &Config) -> Result<PathBuf, SpecError> {
    let of_image = image.working_dir().as_deref().unwrap_or_default();
    let path = if config.working_dir.is_empty() {
        Path::new("/").join(of_image)
    } else {
        PathBuf::from(&config.working_dir)
    };
    normalised(&path).map_err(|source| SpecError::Path { what: "working folder", source })
}

/// A further process in a running container: its user, groups, environment, capabilities, limits, labels and working
/// folder, with arguments and terminal of its own. `spec` is the container's.
///
/// # Errors
/// When no program is named, an argument contains a NUL, or `spec` has no process.
pub(crate) fn exec_process(spec: &Spec, command: &[String], tty: bool) -> Result<Process, SpecError> {
    let mut process = spec.process().clone().ok_or(SpecError::NoProcess)?;
    process.set_args(Some(checked_args(command.to_vec())?)).set_terminal(Some(tty)).set_console_size(None);
    let mut env = process.env().clone().unwrap_or_default();
    if tty && !env.iter().any(|variable| variable.starts_with("TERM=")) {
        env.push(format!("TERM={DEFAULT_TERM}"));
    }
    process.set_env(Some(env));
    Ok(process)
}

/// Makes `process`, which would run as `known`, run as `wanted`. The home folder follows the user, unless the container was
/// given one: then it is not that of `known`.
pub(crate) fn run_as(process: &mut Process, known: &Identity, wanted: &Identity) {
    let home = |identity: &Identity| format!("HOME={}", identity.home.as_deref().unwrap_or(DEFAULT_HOME));
    let (old, new) = (home(known), home(wanted));
    let mut environment = process.env().clone().unwrap_or_default();
    environment.iter_mut().filter(|variable| **variable == old).for_each(|variable| new.clone_into(variable));
    process.set_env(Some(environment)).set_user(user(wanted));
}

/// Gives `process` all that the daemon itself may do. The container's system call filter and devices stay.
pub(crate) fn make_privileged(process: &mut Process, host: &Host) -> Result<(), SpecError> {
    let security = Security { privileged: true, ..Security::default() };
    process.set_capabilities(Some(capability::sets(host, &security)?)).set_apparmor_profile(None);
    Ok(())
}

/// The container's own process, as far as it does not depend on confinement.
pub(super) fn process(
    host: &Host,
    pod: &PodFacts<'_>,
    facts: &ContainerFacts<'_>,
) -> Result<Process, SpecError> {
    let hostname = if pod.uses_host_uts() { &host.hostname } else { &pod.config.hostname };
    let mut process = Process::default();
    process
        .set_args(Some(with_init(facts, process_args(facts.config, facts.image)?)))
        .set_env(Some(environment(facts.config, facts.image, hostname, facts.identity)?))
        .set_cwd(working_dir(facts.config, facts.image)?)
        .set_terminal(Some(facts.config.tty))
        .set_user(user(facts.identity))
        .set_rlimits(Some(rlimits(host, facts.config)?));
    Ok(process)
}

/// The host's limits, but for those that the client states.
fn rlimits(host: &Host, config: &ContainerConfig) -> Result<Vec<PosixRlimit>, SpecError> {
    let mut all = host.rlimits.clone();
    for limit in &config.rlimits {
        let kind = rlimit_kind(&limit.name).ok_or_else(|| SpecError::UnknownRlimit(limit.name.clone()))?;
        if limit.soft > limit.hard {
            return Err(SpecError::RlimitAboveHard { soft: limit.soft, hard: limit.hard });
        }
        let wanted = PosixRlimitBuilder::default().typ(kind).soft(limit.soft).hard(limit.hard).build();
        all.retain(|known| known.typ() != kind);
        all.push(wanted.expect("every field is set"));
    }
    Ok(all)
}

/// The kernel's limit of this name, as ulimit(1p) and Docker write it.
fn rlimit_kind(name: &str) -> Option<PosixRlimitType> {
    use PosixRlimitType as Kind;
    Some(match name {
        "as" => Kind::RlimitAs,
        "core" => Kind::RlimitCore,
        "cpu" => Kind::RlimitCpu,
        "data" => Kind::RlimitData,
        "fsize" => Kind::RlimitFsize,
        "locks" => Kind::RlimitLocks,
        "memlock" => Kind::RlimitMemlock,
        "msgqueue" => Kind::RlimitMsgqueue,
        "nice" => Kind::RlimitNice,
        "nofile" => Kind::RlimitNofile,
        "nproc" => Kind::RlimitNproc,
        "rss" => Kind::RlimitRss,
        "rtprio" => Kind::RlimitRtprio,
        "rttime" => Kind::RlimitRttime,
        "sigpending" => Kind::RlimitSigpending,
        "stack" => Kind::RlimitStack,
        _ => return None,
    })
}

/// The primary group is among the further ones, so that `setgroups(2)` gives what the kernel then reports.
fn user(identity: &Identity) -> User {
    let mut user = User::default();
    user.set_uid(identity.uid).set_gid(identity.gid).set_additional_gids(Some(identity.groups.clone()));
    user
}

fn is_variable(name: &str, value: &str) -> bool {
    !name.is_empty() && !name.contains(['=', '\0']) && !value.contains('\0')
}

/// Environment variables in the order of their first appearance.
#[derive(Default)]
struct Variables(Vec<(String, String)>);

impl Variables {
    fn set(&mut self, name: &str, value: &str) {
        match self.0.iter_mut().find(|(known, _)| known == name) {
            Some((_, old)) => value.clone_into(old),
            None => self.0.push((name.to_owned(), value.to_owned())),
        }
    }

    fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(known, _)| known == name)
    }

    fn into_strings(self) -> Vec<String> {
        self.0.into_iter().map(|(name, value)| format!("{name}={value}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::model::Rlimit;

    fn strings(list: &[&str]) -> Vec<String> {
        list.iter().map(|text| (*text).to_owned()).collect()
    }

    fn image(entrypoint: &[&str], cmd: &[&str]) -> Config {
        let mut image = Config::default();
        image.set_entrypoint(Some(strings(entrypoint))).set_cmd(Some(strings(cmd)));
        image
    }

    #[test]
    fn limits_are_the_clients_and_have_to_make_sense() {
        let host = crate::spec::fixture::host();
        let limit = |name: &str, soft, hard| {
            let rlimits = vec![Rlimit { name: name.into(), soft, hard }];
            super::rlimits(&host, &ContainerConfig { rlimits, ..ContainerConfig::default() })
        };
        let found = limit("nofile", 1, 2).unwrap();
        assert_eq!((found[0].typ(), found[0].soft(), found[0].hard()), (PosixRlimitType::RlimitNofile, 1, 2));
        assert_eq!(limit("nosuch", 1, 2), Err(SpecError::UnknownRlimit("nosuch".into())));
        assert_eq!(limit("core", 2, 1), Err(SpecError::RlimitAboveHard { soft: 2, hard: 1 }));
    }

    #[test]
    fn the_home_follows_the_user_unless_it_was_given() {
        let known = Identity { uid: 1, home: Some("/one".into()), ..Identity::default() };
        let wanted = Identity { uid: 2, gid: 3, home: Some("/two".into()), ..Identity::default() };
        for (before, after) in [("HOME=/one", "HOME=/two"), ("HOME=/given", "HOME=/given")] {
            let mut process = Process::default();
            process.set_env(Some(strings(&["A=1", before])));
            run_as(&mut process, &known, &wanted);
            assert_eq!(process.env().clone().unwrap(), strings(&["A=1", after]));
            assert_eq!((process.user().uid(), process.user().gid()), (2, 3));
        }
    }

    #[test]
    fn command_and_args_replace_entrypoint_and_cmd() {
        let image = image(&["/entry", "e"], &["c1", "c2"]);
        for (command, args, expected) in [
            (&[][..], &[][..], vec!["/entry", "e", "c1", "c2"]),
            (&["/cmd"], &[], vec!["/cmd"]),
            (&[], &["a"], vec!["/entry", "e", "a"]),
            (&["/cmd", "x"], &["a", ""], vec!["/cmd", "x", "a", ""]),
        ] {
            let config = ContainerConfig {
                command: strings(command),
                args: strings(args),
                ..ContainerConfig::default()
            };
            assert_eq!(process_args(&config, &image), Ok(strings(&expected)));
        }
    }

    #[test]
    fn cmd_alone_is_the_program_and_nothing_is_an_error() {
        let config = ContainerConfig::default();
        assert_eq!(process_args(&config, &image(&[], &["sh"])), Ok(strings(&["sh"])));
        assert_eq!(process_args(&config, &image(&[], &[])), Err(SpecError::NoCommand));
        assert_eq!(process_args(&config, &Config::default()), Err(SpecError::NoCommand));
        assert_eq!(process_args(&config, &image(&[""], &["sh"])), Err(SpecError::NoCommand));
        assert_eq!(process_args(&config, &image(&["sh"], &["a", "b\0c"])), Err(SpecError::NulInArgument(2)));
    }

    #[test]
    fn later_variables_replace_earlier_ones() {
        let mut image = Config::default();
        image.set_env(Some(strings(&["PATH=/image", "A=1", "B=2=3", "broken", "=x", "NUL=a\0b", "E="])));
        let config = ContainerConfig {
            envs: vec![
                ("A".into(), "9".into()),
                ("C".into(), "multi\nline".into()),
                ("A".into(), "10".into()),
            ],
            tty: true,
            ..ContainerConfig::default()
        };
        let identity = Identity { home: Some("/home/u".into()), ..Identity::default() };
        assert_eq!(
            environment(&config, &image, "pod-0", &identity),
            Ok(strings(&[
                "PATH=/image",
                "TERM=xterm",
                "HOSTNAME=pod-0",
                "A=10",
                "B=2=3",
                "E=",
                "C=multi\nline",
                "HOME=/home/u"
            ]))
        );
    }

    #[test]
    fn defaults_give_way() {
        let config = ContainerConfig {
            envs: vec![("HOME".into(), "/h".into()), ("TERM".into(), "vt100".into())],
            tty: true,
            ..ContainerConfig::default()
        };
        let env = environment(&config, &Config::default(), "", &Identity::default()).unwrap();
        assert_eq!(env, strings(&[&format!("PATH={DEFAULT_PATH}"), "TERM=vt100", "HOME=/h"]));
        let env =
            environment(&ContainerConfig::default(), &Config::default(), "", &Identity::default()).unwrap();
        assert_eq!(env, strings(&[&format!("PATH={DEFAULT_PATH}"), "HOME=/"]));
    }

    #[test]
    fn variables_no_process_can_have_are_refused() {
        for (name, value) in [("", "x"), ("A=B", "x"), ("A\0", "x"), ("A", "x\0y")] {
            let config =
                ContainerConfig { envs: vec![(name.into(), value.into())], ..ContainerConfig::default() };
            let result = environment(&config, &Config::default(), "", &Identity::default());
            assert_eq!(result, Err(SpecError::Environment(name.into())));
        }
    }

    #[test]
    fn the_working_folder_is_the_clients_then_the_images_then_the_root() {
        for (asked, of_image, expected) in [
            ("", None, Some("/")),
            ("", Some(""), Some("/")),
            ("", Some("/app/"), Some("/app")),
            ("", Some("app"), Some("/app")),
            ("", Some("../.."), Some("/")),
            ("/x/../y", Some("/app"), Some("/y")),
            ("x", Some("/app"), None),
            ("/x\n", None, None),
        ] {
            let config = ContainerConfig { working_dir: asked.into(), ..ContainerConfig::default() };
            let mut image = Config::default();
            image.set_working_dir(of_image.map(str::to_owned));
            assert_eq!(
                working_dir(&config, &image).ok(),
                expected.map(PathBuf::from),
                "{asked} {of_image:?}"
            );
        }
    }

    #[test]
    fn an_exec_takes_everything_but_its_arguments_from_the_container() {
        let mut process = Process::default();
        process.set_args(Some(strings(&["init"]))).set_env(Some(strings(&["A=1"]))).set_cwd("/work".into());
        process.set_no_new_privileges(Some(true)).set_oom_score_adj(Some(500));
        let mut spec = Spec::default();
        spec.set_process(Some(process.clone()));
        let exec = exec_process(&spec, &strings(&["ls", "-l"]), true).unwrap();
        let mut expected = process.clone();
        expected
            .set_args(Some(strings(&["ls", "-l"])))
            .set_terminal(Some(true))
            .set_env(Some(strings(&["A=1", "TERM=xterm"])));
        assert_eq!(exec, expected);
        assert_eq!(exec_process(&spec, &[], false), Err(SpecError::NoCommand));
        spec.set_process(None);
        assert_eq!(exec_process(&spec, &strings(&["ls"]), false), Err(SpecError::NoProcess));
    }
}
