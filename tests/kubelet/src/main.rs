//! Runs the daemon under a real kubelet: `cleat-test-kubelet [--pods N] [--evented]`.
//!
//! The kubelet runs alone (standalone mode): what it reads are static pods, files in a folder; what it says is its
//! read-only port. Daemon, kubelet and registry have namespaces and folders of the test's own. Each step prints what held;
//! the first one that does not hold ends the run with its reason and the ends of both logs.
#![forbid(unsafe_code)]

mod kubelet;
mod manifest;
mod steps;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use cleat_tests_cri::{BUSYBOX, HTTPD, Node};

use crate::kubelet::{Kubelet, Settings};

/// How long everything may take.
const LIMIT: Duration = Duration::from_secs(1200);

#[derive(Parser)]
#[command(about = "Runs cleatd under a real kubelet with static pods (root)")]
struct Arguments {
    /// The kubelet; `hack/deps kubelet` builds it.
    #[arg(long)]
    kubelet: PathBuf,
    /// How many pods run at once in the last step.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=100))]
    pods: u32,
    /// Let the kubelet follow the daemon's events in place of asking every second (evented PLEG).
    #[arg(long)]
    evented: bool,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    // The kubelet asks for lists all the time: one line each would hide everything else.
    let mut node = Node::builder()
        .settings("log.level = \"info\"\n")
        .images(&[BUSYBOX, HTTPD])
        .shared_mounts()
        .limit(LIMIT)
        .start()?;
    let settings = Settings { program: arguments.kubelet, evented: arguments.evented };
    let mut kubelet = Kubelet::start(&node, settings)?;
    let outcome = run(&mut node, &mut kubelet, arguments.pods);
    // A panic while the guards exist makes them show the ends of their logs.
    if let Err(error) = outcome {
        panic!("{error:?}");
    }
    Ok(())
}

fn run(node: &mut Node, kubelet: &mut Kubelet, pods: u32) -> Result<()> {
    let before = node.snapshot()?;
    for (name, step) in steps::ALL {
        let begun = Instant::now();
        step(node, kubelet).with_context(|| (*name).to_owned())?;
        println!("kubelet: held after {:4.1} s: {name}", begun.elapsed().as_secs_f64());
    }
    steps::multitude(node, kubelet, pods).context("many pods")?;
    kubelet.stop().context("stop the kubelet")?;
    let leaks = before.leaks(&node.snapshot()?);
    let lost: Vec<_> = leaks.findings().iter().filter(|finding| !kubelet::keeps(finding)).collect();
    ensure!(lost.is_empty(), "left after all pods are gone: {lost:#?}");
    println!("kubelet: nothing leaked");
    Ok(())
}
