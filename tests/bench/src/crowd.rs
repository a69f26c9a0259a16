//! Many pods: starting and removing them, asking for them, and what they take.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use cleat_cri_api::v1::*;
use cleat_tests_cri::Cri;

use crate::IDLE;
use crate::figures::Samples;
use crate::memory;
use crate::subject::Subject;

/// How many clients work at once where several do.
const CLIENTS: usize = 10;

/// Questions asked while all pods run, in the order of [`Crowd::questions`].
pub(crate) const QUESTIONS: [&str; 4] =
    ["ListContainers", "ListPodSandbox", "PodSandboxStatus", "ListContainerStats"];

/// What was measured with many pods.
pub(crate) struct Crowd {
    pub(crate) pods: u32,
    pub(crate) start_serially: Duration,
    pub(crate) start_at_once: Duration,
    pub(crate) remove_serially: Duration,
    pub(crate) remove_at_once: Duration,
    pub(crate) questions: [Samples; QUESTIONS.len()],
    pub(crate) memory: memory::Crowded,
    /// Processor time of the daemon while nobody asks for anything, in percent of one processor.
    pub(crate) idle_percent: f64,
}

impl Crowd {
    pub(crate) fn measure(subject: &Subject, pods: u32, runs: u32) -> Result<Self> {
        let configs =
            (0..pods).map(|number| subject.pod(&format!("crowd-{number}"))).collect::<Result<Vec<_>>>()?;
        let (ids, start_serially) = timed(|| one_by_one(subject.cri(), &configs, start))?;
        let questions = ask(subject, &ids, runs)?;
        let memory = memory::Crowded::measure(subject, &ids)?;
        let idle_percent = memory::processor_percent(subject.daemon(), IDLE)?;
        let (_, remove_serially) = timed(|| one_by_one(subject.cri(), &ids, |cri, pod| remove(cri, pod)))?;
        let (ids, start_at_once) = timed(|| at_once(subject, &configs, start))?;
        let (_, remove_at_once) = timed(|| at_once(subject, &ids, |cri, pod| remove(cri, pod)))?;
        let left = subject.cri().pods(PodSandboxFilter::default()).context("ListPodSandbox")?;
        ensure!(left.is_empty(), "{} pods are left", left.len());
        Ok(Self {
            pods,
            start_serially,
            start_at_once,
            remove_serially,
            remove_at_once,
            questions,
            memory,
            idle_percent,
        })
    }
}

fn timed<T>(work: impl FnOnce() -> Result<T>) -> Result<(T, Duration)> {
    let begun = Instant::now();
    let answer = work()?;
    Ok((answer, begun.elapsed()))
}

/// A pod with one container.
fn start(cri: &Cri, config: &PodSandboxConfig) -> Result<String> {
    let pod = cri.run_pod(config).context("RunPodSandbox")?;
    let id = cri.create(&pod, &Subject::container(), config).context("CreateContainer")?;
    cri.start(&id).context("StartContainer")?;
    Ok(pod)
}

fn remove(cri: &Cri, pod: &str) -> Result<()> {
    cri.stop_pod(pod).context("StopPodSandbox")?;
    cri.remove_pod(pod).context("RemovePodSandbox")
}

fn one_by_one<T, R>(cri: &Cri, items: &[T], work: fn(&Cri, &T) -> Result<R>) -> Result<Vec<R>> {
    items.iter().map(|item| work(cri, item)).collect()
}

fn at_once<T: Sync, R: Send>(
    subject: &Subject,
    items: &[T],
    work: fn(&Cri, &T) -> Result<R>,
) -> Result<Vec<R>> {
    let share = items.len().div_ceil(CLIENTS).max(1);
    let clients = items.chunks(share).map(|_| subject.connect()).collect::<Result<Vec<_>>>()?;
    thread::scope(|scope| {
        let pairs = items.chunks(share).zip(clients);
        let threads: Vec<_> =
            pairs.map(|(part, cri)| scope.spawn(move || one_by_one(&cri, part, work))).collect();
        let parts =
            threads.into_iter().map(|thread| thread.join().map_err(|_| anyhow!("a client panicked"))?);
        Ok(parts.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
    })
}

fn ask(subject: &Subject, pods: &[String], runs: u32) -> Result<[Samples; QUESTIONS.len()]> {
    let cri = subject.cri();
    let mut samples: [Samples; QUESTIONS.len()] = Default::default();
    let one = pods.first().context("a pod")?;
    for _ in 0..runs {
        let begun = Instant::now();
        let containers = cri.containers(ContainerFilter::default()).context("ListContainers")?;
        samples[0].add(begun.elapsed());
        let begun = Instant::now();
        cri.pods(PodSandboxFilter::default()).context("ListPodSandbox")?;
        samples[1].add(begun.elapsed());
        let begun = Instant::now();
        cri.pod_status(one).context("PodSandboxStatus")?;
        samples[2].add(begun.elapsed());
        let begun = Instant::now();
        let request = ListContainerStatsRequest { filter: None };
        let stats = cri.list_container_stats(request).context("ListContainerStats")?.stats;
        samples[3].add(begun.elapsed());
        ensure!(stats.len() == containers.len(), "{} of {} statistics", stats.len(), containers.len());
    }
    Ok(samples)
}
