//! Runs the command lines of `tests/docker/commands.txt` against `cleatd` and against Debian's dockerd, and compares what
//! they say, what they end with and what is there afterwards: `docker-compare [--only GROUP] [--output FILE]`.
//!
//! ```text
//! table     the command lines, in groups, each with the differences that are right
//! side      an engine and a shell beside it: runs one line after the other
//! plain     takes ids, times and folders out of what was said
//! verdict   compares two answers with the differences that were expected
//! report    the table as a page, with reasons
//! ```
//!
//! Both engines have namespaces, folders and a registry of their own, and work through the table at the same time.
#![forbid(unsafe_code)]

mod plain;
mod report;
mod side;
mod table;
mod verdict;

use std::path::PathBuf;
use std::thread;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use cleat_test_support::{Dockerd, repository};
use cleat_tests_docker::Engine;

use crate::side::{Answer, Side};
use crate::table::Table;
use crate::verdict::Verdict;

/// The address of our bridge: dockerd's gets the same, so that containers have the same addresses.
const GATEWAY: &str = "10.213.0.1/16";

#[derive(Parser)]
#[command(about = "Compares cleatd with Debian's dockerd, command line by command line (root)")]
struct Arguments {
    /// Run only the groups whose name has these words in it.
    #[arg(long)]
    only: Option<String>,
    /// Where the page goes when all is as expected.
    #[arg(long, conflicts_with = "only")]
    output: Option<PathBuf>,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let mut table = Table::read(&repository().join("tests/docker/commands.txt"))?;
    table.keep(arguments.only.as_deref().unwrap_or_default());
    let (theirs, ours) = answers(&table)?;
    let verdicts = table.rows().zip(theirs.iter().zip(&ours));
    let verdicts: Vec<Verdict<'_>> =
        verdicts.map(|(row, (theirs, ours))| Verdict::of(row, theirs, ours)).collect();
    let wrong: Vec<&Verdict<'_>> = verdicts.iter().filter(|verdict| !verdict.is_as_expected()).collect();
    for verdict in &wrong {
        println!("{verdict}");
    }
    ensure!(wrong.is_empty(), "{} of {} command lines are not as expected", wrong.len(), verdicts.len());
    println!("docker-compare: {} command lines are as expected", verdicts.len());
    match arguments.output {
        Some(path) => {
            std::fs::write(&path, report::page(&table)).with_context(|| format!("write {}", path.display()))
        }
        None => Ok(()),
    }
}

/// What dockerd and what cleatd answered to each row, in order.
fn answers(table: &Table) -> Result<(Vec<Answer>, Vec<Answer>)> {
    let dockerd = Dockerd::start(GATEWAY)?;
    let engine = Engine::start()?;
    let ours = Side::new("cleatd", engine.world(), engine.folder(), engine.socket())?;
    let theirs = Side::new("dockerd", dockerd.world(), dockerd.folder(), dockerd.socket())?;
    thread::scope(|scope| {
        let ours = scope.spawn(|| ours.answers(table).context("cleatd"));
        let theirs = theirs.answers(table).with_context(|| format!("dockerd:\n{}", dockerd.log_end()));
        let ours = ours.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        Ok((theirs?, ours?))
    })
}
