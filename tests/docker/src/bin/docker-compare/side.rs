//! An engine, and a shell beside it.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use cleat_test_support::{Client, World, tool};
use cleat_tests_docker::BUSYBOX;

use crate::plain::plain;
use crate::table::{Aspect, Table};

/// How long one command line may take.
const LINE_LIMIT: Duration = Duration::from_secs(60);

/// What is there at the beginning.
const BEGIN: &str = "docker pull -q $IMAGE && docker tag $IMAGE busybox && docker run --rm busybox true";

/// Removes what a group left.
const BETWEEN: &str = "docker ps -aq | xargs -r docker rm -f
    docker images --format '{{.Repository}}:{{.Tag}}' | grep -v -e busybox:1$ -e ^busybox:latest | xargs -r docker rmi -f
    docker image prune -f";

/// Tells what is there.
const STATE: &str =
    "docker ps -a --no-trunc --format '{{.Names}}, {{.Image}}, {{.Command}}, {{.Status}}, {{.Ports}}'
    docker images --format '{{.Repository}}:{{.Tag}}' | sort";

/// What one command line led to, without ids and times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    code: i32,
    out: String,
    err: String,
    /// What changed of what is there.
    state: String,
}

impl Answer {
    /// One aspect of it, as text.
    pub(crate) fn aspect(&self, aspect: Aspect) -> String {
        match aspect {
            Aspect::Code => self.code.to_string(),
            Aspect::Out => self.out.clone(),
            Aspect::Err => self.err.clone(),
            Aspect::State => self.state.clone(),
        }
    }
}

/// The lines that came (`+`) and went (`-`): a difference is told where it begins and where it ends.
fn change(before: &str, after: &str) -> String {
    let lines = |sign: char, of: &str, other: &str| -> Vec<String> {
        let new = of.lines().filter(|line| !other.lines().any(|known| known == *line));
        new.map(|line| format!("{sign} {line}")).collect()
    };
    [lines('-', before, after), lines('+', after, before)].concat().join("\n")
}

/// An engine that answers.
pub(crate) struct Side<'a> {
    name: &'static str,
    world: &'a World,
    /// What is the engine's own in an answer.
    folder: &'a Path,
    /// Where the lines run.
    work: PathBuf,
    socket: PathBuf,
    path: OsString,
}

impl<'a> Side<'a> {
    pub(crate) fn new(
        name: &'static str,
        world: &'a World,
        folder: &'a Path,
        socket: PathBuf,
    ) -> Result<Self> {
        let work = folder.join("work");
        fs::create_dir_all(&work).with_context(|| format!("make {}", work.display()))?;
        let docker = tool("docker")?;
        let path = std::env::var_os("PATH").unwrap_or_default();
        let first = docker.parent().map(Path::to_owned);
        let path = std::env::join_paths(first.into_iter().chain(std::env::split_paths(&path)))?;
        Ok(Self { name, world, folder, work, socket, path })
    }

    /// What it answers to each row of the table, in order.
    pub(crate) fn answers(&self, table: &Table) -> Result<Vec<Answer>> {
        self.must(BEGIN)?;
        let mut answers = Vec::new();
        for group in &table.groups {
            let mut before = self.must(STATE)?;
            for row in &group.rows {
                let answer = self.answer(&row.line, &mut before);
                answers.push(answer.with_context(|| format!("{}: {}", self.name, row.line))?);
            }
            self.must(BETWEEN).with_context(|| format!("{}: after {:?}", self.name, group.name))?;
        }
        Ok(answers)
    }

    /// Runs `line`. `state` is what was there before, and then what is there now.
    fn answer(&self, line: &str, state: &mut String) -> Result<Answer> {
        let said = self.shell(line)?;
        let text = |bytes: &[u8]| plain(&String::from_utf8_lossy(bytes), self.folder);
        let before = std::mem::replace(state, self.must(STATE)?);
        Ok(Answer {
            code: said.status.code().unwrap_or(-1),
            out: text(&said.stdout),
            err: text(&said.stderr),
            state: change(&text(before.as_bytes()), &text(state.as_bytes())),
        })
    }

    fn must(&self, script: &str) -> Result<String> {
        let said = self.shell(script)?;
        let errors = String::from_utf8_lossy(&said.stderr);
        ensure!(said.status.success(), "{script}: {}\n{errors}", said.status);
        Ok(String::from_utf8_lossy(&said.stdout).into_owned())
    }

    fn shell(&self, script: &str) -> Result<Output> {
        let mut command: Command = self.world.command("sh");
        // Entering a mount namespace leads to its root folder.
        command.arg("-c").arg(format!("cd {}\n{script}", self.work.display()));
        command.env("DOCKER_HOST", format!("unix://{}", self.socket.display()));
        command.env("DOCKER_CONFIG", self.folder.join("config"));
        command.env("PATH", &self.path).env("IMAGE", BUSYBOX).env("TZ", "UTC").env("LC_ALL", "C");
        command.env_remove("DOCKER_CONTEXT");
        Client::spawn(command)?.finish(LINE_LIMIT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_of_what_is_there() {
        for (before, after, expected) in
            [("a\nb", "a\nb", ""), ("a\nb", "b\nc", "- a\n+ c"), ("", "a", "+ a"), ("a", "", "- a")]
        {
            assert_eq!(change(before, after), expected);
        }
    }
}
