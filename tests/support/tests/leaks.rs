//! The leak checker finds what is seeded, each kind by itself, and nothing where nothing is.
#![forbid(unsafe_code)]

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use cleat_test_support::{Propagation, Scope, Snapshot, World, kill_and_wait};

/// A world with a folder and a scope over both.
struct Ground {
    folder: tempfile::TempDir,
    world: World,
}

impl Ground {
    fn new() -> Result<Self> {
        Ok(Self { folder: tempfile::tempdir()?, world: World::new(Propagation::Private)? })
    }

    fn scope(&self) -> Scope {
        let name = self.folder.path().file_name().unwrap_or_default().to_string_lossy();
        Scope {
            world: self.world.pid(),
            cgroup_parent: format!("/cleat-test{name}"),
            folders: vec![self.folder.path().to_owned()],
            mention: self.folder.path().to_owned(),
            known: vec![self.world.pid()],
        }
    }

    /// The lines of what leaks between now and after `seed`.
    fn leaks(&self, seed: impl FnOnce() -> Result<()>) -> Result<Vec<String>> {
        let before = Snapshot::take(&self.scope())?;
        seed()?;
        let leaks = before.leaks(&Snapshot::take(&self.scope())?);
        assert_eq!(leaks.none().is_ok(), leaks.findings().is_empty());
        Ok(leaks.findings().iter().map(ToString::to_string).collect())
    }
}

/// A process that is killed at the end of a test.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        kill_and_wait(self.0.id(), Duration::from_secs(5)).expect("SIGKILL ends a sleeping process");
        self.0.wait().expect("a child can be waited for");
    }
}

/// Starts a shell behind `wrapper` that waits for ever, and returns when it does: its namespaces and its command line,
/// which holds `word`, will not change any more.
fn sleeper(wrapper: &mut Command, word: &str) -> Result<Killed> {
    let script = format!("echo ready; read forever # {word}");
    let command = wrapper.args(["sh", "-c", &script]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut killed = Killed(command.spawn().context("start a sleeper")?);
    let mut line = String::new();
    BufReader::new(killed.0.stdout.as_mut().context("its output")?).read_line(&mut line)?;
    ensure!(line == "ready\n", "the sleeper said {line:?}");
    Ok(killed)
}

#[track_caller]
fn assert_found(lines: &[String], expected: &[&str]) {
    for prefix in expected {
        assert!(lines.iter().any(|line| line.starts_with(prefix)), "no {prefix:?} in {lines:#?}");
    }
}

#[test]
fn privileged_nothing_is_found_where_nothing_leaks() -> Result<()> {
    let ground = Ground::new()?;
    let lines = ground.leaks(|| ground.world.shell("true").map(drop))?;
    assert_eq!(lines, Vec::<String>::new());
    Ok(())
}

#[test]
fn privileged_a_mount_a_namespace_and_a_file_are_found() -> Result<()> {
    let ground = Ground::new()?;
    let folder = ground.folder.path().display();
    let seed = format!(
        "mkdir {folder}/m && mount -t tmpfs leak {folder}/m && touch {folder}/n && unshare --net={folder}/n true"
    );
    let lines = ground.leaks(|| ground.world.shell(&seed).map(drop))?;
    let mount = format!("mount {folder}/m (tmpfs leak");
    let file = format!("file {folder}/n");
    assert_found(&lines, &[&mount, "namespace net:[", &file]);
    Ok(())
}

#[test]
fn privileged_links_addresses_routes_and_rules_are_found() -> Result<()> {
    let ground = Ground::new()?;
    let seed = "ip link add leak0 type bridge && ip address add 10.9.8.7/24 dev leak0 && ip link set leak0 up && \
                nft add table inet leak && nft add chain inet leak c && nft add rule inet leak c accept";
    let lines = ground.leaks(|| ground.world.shell(seed).map(drop))?;
    let rule = "firewall table inet leak: accept";
    assert_found(&lines, &["link leak0", "address 10.9.8.7/24 on leak0", "route 10.9.8.0/24", rule]);
    Ok(())
}

#[test]
fn privileged_processes_are_found_by_namespace_by_cgroup_and_by_name() -> Result<()> {
    let ground = Ground::new()?;
    let parent = ground.scope().cgroup_parent;
    let cgroup = hierarchy()?.join(parent.trim_start_matches('/')).join("pod");
    let mut sleepers = Vec::new();
    let lines = ground.leaks(|| {
        sleepers.push(sleeper(&mut ground.world.command("env"), "inside")?);
        sleepers.push(sleeper(Command::new("unshare").arg("--net"), "in a cgroup")?);
        fs::create_dir_all(&cgroup)?;
        let pid = sleepers.last().context("a sleeper")?.0.id();
        fs::write(cgroup.join("cgroup.procs"), pid.to_string())?;
        sleepers.push(sleeper(&mut Command::new("env"), &ground.folder.path().display().to_string())?);
        Ok(())
    });
    drop(sleepers);
    fs::remove_dir(&cgroup)?;
    fs::remove_dir(cgroup.parent().context("the parent cgroup")?)?;
    let lines = lines?;
    let found = format!("cgroup {}", cgroup.display());
    assert_found(&lines, &["namespace net:[", &found]);
    let processes = lines.iter().filter(|line| line.starts_with("process ")).count();
    assert_eq!(processes, 3, "{lines:#?}");
    Ok(())
}

/// A hierarchy in which a cgroup can be made.
fn hierarchy() -> Result<&'static Path> {
    ["/sys/fs/cgroup/pids", "/sys/fs/cgroup/unified", "/sys/fs/cgroup"]
        .into_iter()
        .map(Path::new)
        .find(|path| path.join("cgroup.procs").exists())
        .context("no cgroup hierarchy is mounted")
}
