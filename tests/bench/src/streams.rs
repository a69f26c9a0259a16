//! How fast large streams are: what the real crictl takes out of a container, over each of its protocols.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use cleat_test_support::{Cleat, Crictl};

use crate::figures::Samples;
use crate::memory;
use crate::subject::Subject;

const STREAM_MIB: u64 = 200;
/// How often each is taken.
const STREAMS: usize = 7;

/// Measures each protocol in turn, and prints the figure as soon as it is known.
pub(crate) fn measure(cleat: &Cleat, subject: &Subject) -> Result<()> {
    let config = subject.pod("streams")?;
    let pod = subject.cri().run_pod(&config).context("RunPodSandbox")?;
    let target = subject.cri().create(&pod, &Subject::container(), &config).context("CreateContainer")?;
    subject.cri().start(&target).context("StartContainer")?;
    for transport in ["spdy", "websocket"] {
        // A peer may know one of them only.
        match stream(cleat, subject, &target, transport) {
            Ok(told) => println!("{}: {told}", subject.name()),
            Err(error) => println!("{}: crictl exec -r {transport}: {error:#}", subject.name()),
        }
    }
    subject.cri().remove_pod(&pod).context("RemovePodSandbox")
}

/// What crictl takes out of a container into nothing, its own start and end included.
pub(crate) fn stream(cleat: &Cleat, subject: &Subject, target: &str, transport: &str) -> Result<String> {
    let crictl = crictl(cleat, subject)?;
    let count = format!("count={STREAM_MIB}");
    let arguments =
        ["exec", "-r", transport, target, "dd", "if=/dev/zero", "bs=1048576", &count, "status=none"];
    let mut samples = Samples::default();
    let pids = [subject.daemon(), std::process::id()];
    let (mut busy, mut before) = ([Samples::default(), Samples::default()], busy_times(pids)?);
    for _ in 0..STREAMS {
        let mut command = crictl.command(&arguments);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::inherit());
        let begun = Instant::now();
        let status = command.status().context("run crictl")?;
        samples.add(begun.elapsed());
        let after = busy_times(pids)?;
        for (samples, (before, after)) in busy.iter_mut().zip(before.into_iter().zip(after)) {
            samples.add(after.saturating_sub(before));
        }
        before = after;
        ensure!(status.success(), "crictl exec: {status}");
    }
    let rate = |time: Duration| STREAM_MIB as f64 / time.as_secs_f64();
    Ok(format!(
        "{STREAM_MIB} MiB out of `crictl exec -r {transport}`: {:.0} MiB/s median, {:.0} MiB/s best of {STREAMS}; \
         processor time: {:.0} ms of the daemon, {:.0} ms of crictl",
        rate(samples.percentile(50)),
        rate(samples.percentile(1)),
        busy[0].percentile(50).as_secs_f64() * 1000.0,
        busy[1].percentile(50).as_secs_f64() * 1000.0,
    ))
}

/// The processor time of the daemon, and of this program with the clients that it has run.
fn busy_times(pids: [u32; 2]) -> Result<[Duration; 2]> {
    Ok([memory::processor_time(pids[0])?, memory::processor_time(pids[1])?])
}

/// crictl for the daemon that is measured.
fn crictl<'c>(cleat: &'c Cleat, subject: &Subject) -> Result<Crictl<'c>> {
    let folder: &Path = subject.logs();
    Crictl::new(cleat.world(), subject.socket(), folder)
}
