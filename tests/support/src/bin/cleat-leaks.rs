//! The leak checker as a command, for scripts: prints what exists in a scope, one line a thing, or ends it.
//!
//! `cleat-leaks list|clean --world PID --cgroup PARENT --mention PATH [--folder DIR]... [--known PID]...`
//!
//! Two lists, compared with `comm -13`, are a leak check. `clean` kills the processes of the scope and removes its
//! cgroups. Whoever calls it, and the caller's own callers, do not belong to the scope.
#![forbid(unsafe_code)]

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use cleat_test_support::{Scope, Snapshot};

/// How long a process may take to end after SIGKILL.
const KILL_LIMIT: Duration = Duration::from_secs(10);

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let verb = arguments.next().context("list or clean?")?;
    let scope = parse(arguments)?;
    match verb.as_str() {
        "list" => {
            let mut output = io::stdout().lock();
            for finding in Snapshot::take(&scope)?.findings() {
                writeln!(output, "{finding}").context("write the list")?;
            }
            Ok(())
        }
        "clean" => {
            let killed = scope.kill_processes(KILL_LIMIT);
            scope.remove_cgroups().and(killed)
        }
        other => bail!("{other}: list or clean?"),
    }
}

fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Scope> {
    let (mut world, mut cgroup, mut mention) = (None, None, None);
    let (mut folders, mut known) = (Vec::new(), Vec::new());
    while let Some(flag) = arguments.next() {
        let value = arguments.next().with_context(|| format!("{flag} wants a value"))?;
        match flag.as_str() {
            "--world" => world = Some(value.parse().context("--world wants a process id")?),
            "--cgroup" => cgroup = Some(value),
            "--mention" => mention = Some(PathBuf::from(value)),
            "--folder" => folders.push(PathBuf::from(value)),
            "--known" => known.push(value.parse().context("--known wants a process id")?),
            other => bail!("{other} is not known"),
        }
    }
    Ok(Scope {
        world: world.context("--world is missing")?,
        cgroup_parent: cgroup.context("--cgroup is missing")?,
        folders,
        mention: mention.context("--mention is missing")?,
        known,
    })
}
