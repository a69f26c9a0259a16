//! A node under load: 500 containers listed while others are made, a thousand probes in a row, large streams.

use std::fmt::Write as _;
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use cleat_cri_api::v1::*;
use cleat_test_support::{Cleat, HungVolume};
use cleat_tests_cri::{Cri, configs};

use crate::figures::Samples;
use crate::memory;
use crate::streams;
use crate::subject::Subject;

const PODS: usize = 10;
const CONTAINERS_PER_POD: usize = 50;
/// Pods made while the containers are listed.
const MADE_MEANWHILE: usize = 20;
const PROBES: usize = 1000;
const STATS: usize = 30;
/// Time between two questions of a client that lists: what a node's kubelet and its agents ask together is less.
const LIST_INTERVAL: Duration = Duration::from_millis(2);

/// Measures, and prints each figure as soon as it is known.
pub(crate) fn measure(cleat: &Cleat, subject: &Subject) -> Result<()> {
    let config = subject.pod("load")?;
    let pod = subject.cri().run_pod(&config).context("RunPodSandbox")?;
    let target = start(subject.cri(), &pod, "target", &config)?;
    println!("{}", probes(subject, &target)?);
    for transport in ["spdy", "websocket"] {
        println!("{}", streams::stream(cleat, subject, &target, transport)?);
    }
    let mut containers = 1;
    for number in 0..PODS {
        containers += crowded_pod(subject, number)?;
    }
    println!("{}", lists(cleat, subject, containers)?);
    println!("{}", stats(subject, containers)?);
    Ok(())
}

fn start(cri: &Cri, pod: &str, name: &str, config: &PodSandboxConfig) -> Result<String> {
    let id = cri.create(pod, &configs::sleeper(name), config).context("CreateContainer")?;
    cri.start(&id).context("StartContainer")?;
    Ok(id)
}

fn crowded_pod(subject: &Subject, number: usize) -> Result<usize> {
    let config = subject.pod(&format!("crowded-{number}"))?;
    let pod = subject.cri().run_pod(&config).context("RunPodSandbox")?;
    for number in 0..CONTAINERS_PER_POD {
        start(subject.cri(), &pod, &format!("one-{number}"), &config)?;
    }
    Ok(CONTAINERS_PER_POD)
}

/// What a process holds.
struct Held {
    descriptors: usize,
    pss_kb: u64,
}

fn held(pid: u32) -> Result<Held> {
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).context("list descriptors")?.count();
    Ok(Held { descriptors, pss_kb: memory::pss_kb(pid)? })
}

fn probes(subject: &Subject, target: &str) -> Result<String> {
    let monitor = memory::parent(subject.init_pid(target)?)?;
    let probe = |samples: &mut Samples| -> Result<()> {
        let begun = Instant::now();
        let answer = subject.cri().exec_in(target, &["true"], 10)?;
        samples.add(begun.elapsed());
        ensure!(answer.exit_code == 0, "a probe ended with {}", answer.exit_code);
        Ok(())
    };
    // What the first ones allocate is there for good.
    let mut warm = Samples::default();
    for _ in 0..PROBES / 10 {
        probe(&mut warm)?;
    }
    let pids = [subject.daemon(), monitor];
    let before = pids.map(held);
    let busy = || pids.iter().map(|pid| memory::processor_time(*pid)).sum::<Result<Duration>>();
    let (mut samples, begun) = (Samples::default(), busy()?);
    for _ in 0..PROBES {
        probe(&mut samples)?;
    }
    let cpu = busy()?.saturating_sub(begun) / PROBES as u32;
    let mut text =
        format!("{PROBES} ExecSync of `true` in a row: {} ms (median / 95th percentile), ", samples.told());
    write!(text, "{:.2} ms of processor time each, the command's own included;", cpu.as_secs_f64() * 1000.0)?;
    for (name, (before, pid)) in ["daemon", "monitor"].iter().zip(before.into_iter().zip(pids)) {
        let (before, after) = (before?, held(pid)?);
        write!(text, " {name}: {} -> {} descriptors,", before.descriptors, after.descriptors)?;
        write!(text, " {} -> {} KB PSS;", before.pss_kb, after.pss_kb)?;
    }
    Ok(text.trim_end_matches(';').to_owned())
}

/// Lists while pods are made and one request hangs on a volume.
fn lists(cleat: &Cleat, subject: &Subject, containers: usize) -> Result<String> {
    let hung = HungVolume::mount(cleat.world(), &cleat.folder().join("hung"))?;
    let (maker, lister, victim) = (subject.connect()?, subject.connect()?, subject.connect()?);
    let configs = (0..MADE_MEANWHILE)
        .map(|number| subject.pod(&format!("meanwhile-{number}")))
        .collect::<Result<Vec<_>>>()?;
    let (hanging, path) = (subject.pod("hanging")?, hung.path().to_owned());
    let samples = thread::scope(|scope| {
        let making = scope.spawn(|| {
            let made = configs.iter().map(|config| {
                let pod = maker.run_pod(config).context("RunPodSandbox")?;
                start(&maker, &pod, "one", config).map(|_| pod)
            });
            made.collect::<Result<Vec<_>>>()
        });
        let waiting = scope.spawn(|| {
            let pod = victim.run_pod(&hanging).context("RunPodSandbox")?;
            let mut container = configs::sleeper("hanging");
            container.mounts.push(configs::mount(&path, "/hung"));
            // It fails in the end, or works once the volume is given up: not what is measured.
            let outcome = victim.create(&pod, &container, &hanging).and_then(|id| victim.start(&id));
            anyhow::Ok(outcome.is_ok())
        });
        let mut samples = Samples::default();
        while !making.is_finished() || samples.len() < 500 {
            let begun = Instant::now();
            let listed = lister.containers(ContainerFilter::default()).context("ListContainers")?;
            samples.add(begun.elapsed());
            ensure!(listed.len() >= containers, "{} of {containers} containers", listed.len());
            thread::sleep(LIST_INTERVAL);
        }
        ensure!(!waiting.is_finished(), "nothing hung");
        hung.give_up()?;
        for pod in making.join().map_err(|_| anyhow!("a client panicked"))?? {
            maker.remove_pod(&pod).context("RemovePodSandbox")?;
        }
        waiting.join().map_err(|_| anyhow!("a client panicked"))??;
        anyhow::Ok(samples)
    })?;
    Ok(format!(
        "ListContainers with {containers} containers, while {MADE_MEANWHILE} pods are made and a volume hangs: \
         {:.2} ms median, {:.2} ms 99th percentile of {}",
        samples.percentile(50).as_secs_f64() * 1000.0,
        samples.percentile(99).as_secs_f64() * 1000.0,
        samples.len()
    ))
}

fn stats(subject: &Subject, containers: usize) -> Result<String> {
    let mut samples = Samples::default();
    for _ in 0..STATS {
        let begun = Instant::now();
        let request = ListContainerStatsRequest { filter: None };
        let stats = subject.cri().list_container_stats(request).context("ListContainerStats")?.stats;
        samples.add(begun.elapsed());
        ensure!(stats.len() >= containers, "{} of {containers} statistics", stats.len());
    }
    Ok(format!(
        "ListContainerStats with {containers} containers: {} ms (median / 95th percentile)",
        samples.told()
    ))
}
