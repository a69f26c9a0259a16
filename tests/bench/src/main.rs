//! Measures the daemon's operations and memory: `cleat-bench [--runs N] [--pods N] [--peer containerd] ...`.
//!
//! It starts a daemon of its own in namespaces of its own, as the tests do, and a peer beside it where one is wanted.
//! Both get the same requests, one run of the one after one run of the other, so that a noisy machine is noisy for both.
//! Only the ratios inside one table count.
#![forbid(unsafe_code)]

mod crowd;
mod cycle;
mod docker;
mod figures;
mod load;
mod memory;
mod peer;
mod report;
mod streams;
mod subject;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};
use cleat_test_support::Cleat;

use crate::crowd::Crowd;
use crate::cycle::Cycle;
use crate::peer::Containerd;
use crate::subject::Subject;

/// How long everything may take.
const LIMIT: Duration = Duration::from_secs(1800);

/// How long the daemon is left alone while its idle processor time is measured.
const IDLE: Duration = Duration::from_secs(10);

#[derive(Parser)]
#[command(about = "Measures cleatd's operations and memory (root)")]
struct Arguments {
    /// How often each operation is measured.
    #[arg(long, default_value_t = 40, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// How many pods run at once.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=200))]
    pods: u32,
    /// A daemon to measure beside ours.
    #[arg(long)]
    peer: Option<Peer>,
    /// Where the table goes, besides standard output.
    #[arg(long)]
    output: Option<PathBuf>,
    /// Measure a node under load instead: 500 containers, probes in a row, large streams.
    #[arg(long, conflicts_with_all = ["peer", "update_readme", "output"])]
    load: bool,
    /// Measure large streams alone.
    #[arg(long, conflicts_with_all = ["load", "update_readme", "output"])]
    streams: bool,
    /// Put the table between the markers of README.md, too.
    #[arg(long)]
    update_readme: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Peer {
    /// Debian's containerd and runc.
    Containerd,
    /// Debian's dockerd, with the docker command line in place of the CRI.
    Docker,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let deadline = Instant::now() + LIMIT;
    if matches!(arguments.peer, Some(Peer::Docker)) {
        return tell(&docker::measure(arguments.runs, arguments.pods)?, &arguments);
    }
    // Logging more than a node does would be measured, too.
    let mut cleat = Cleat::builder().registry().settings("log.level = \"info\"\n").start()?;
    let containerd = match arguments.peer {
        Some(Peer::Containerd) => Some(Containerd::start(&cleat)?),
        Some(Peer::Docker) | None => None,
    };
    Subject::ours(&cleat, deadline)?.pull()?;
    // A daemon that has just pulled is not an idle one.
    cleat.crash_and_restart().context("restart for the idle figures")?;
    if arguments.load {
        return load::measure(&cleat, &Subject::ours(&cleat, deadline)?);
    }
    let mut subjects = vec![Subject::ours(&cleat, deadline)?];
    if let Some(containerd) = &containerd {
        subjects.push(containerd.subject(&cleat, deadline)?);
    }
    if arguments.streams {
        return subjects.iter().try_for_each(|subject| streams::measure(&cleat, subject));
    }
    let report = measure(&subjects, &arguments)?;
    tell(&report, &arguments)?;
    if arguments.update_readme {
        report::update_readme(&report)?;
    }
    Ok(())
}

fn tell(report: &str, arguments: &Arguments) -> Result<()> {
    println!("{report}");
    match &arguments.output {
        Some(path) => std::fs::write(path, report).with_context(|| format!("write {}", path.display())),
        None => Ok(()),
    }
}

fn measure(subjects: &[Subject], arguments: &Arguments) -> Result<String> {
    let idle = subjects.iter().map(|subject| memory::pss_kb(subject.daemon())).collect::<Result<Vec<_>>>()?;
    let cycles = Cycle::interleaved(subjects, arguments.runs)?;
    let crowds = subjects
        .iter()
        .map(|subject| Crowd::measure(subject, arguments.pods, arguments.runs))
        .collect::<Result<Vec<_>>>()?;
    Ok(report::table(subjects, &report::Measured { idle, cycles, crowds }, arguments.runs))
}
