//! A pod's life, one call after the other on one connection.

use std::time::Instant;

use anyhow::{Context, Result, ensure};

use crate::figures::Samples;
use crate::subject::Subject;

/// The calls of a life, in their order.
pub(crate) const CALLS: [&str; 8] = [
    "RunPodSandbox",
    "CreateContainer",
    "StartContainer",
    "ExecSync true",
    "StopContainer (obeys TERM at once)",
    "RemoveContainer",
    "StopPodSandbox",
    "RemovePodSandbox",
];

/// Execs in one life: the first one is no other than the later ones, and a node runs many.
const EXECS: usize = 4;

/// How long each call took, in each life.
#[derive(Default)]
pub(crate) struct Cycle {
    pub(crate) calls: [Samples; CALLS.len()],
    /// CreateContainer and StartContainer together.
    pub(crate) create_and_start: Samples,
    pub(crate) whole: Samples,
}

impl Cycle {
    /// `runs` lives on each subject, one on each in turn; a first one of each is not counted.
    pub(crate) fn interleaved(subjects: &[Subject], runs: u32) -> Result<Vec<Self>> {
        let mut cycles: Vec<Self> = Vec::new();
        for subject in subjects {
            Self::default().live(subject, "warm-up").with_context(|| subject.name().to_owned())?;
            cycles.push(Self::default());
        }
        for run in 0..runs {
            for (subject, cycle) in subjects.iter().zip(&mut cycles) {
                cycle.live(subject, &format!("cycle-{run}")).with_context(|| subject.name().to_owned())?;
            }
        }
        Ok(cycles)
    }

    fn live(&mut self, subject: &Subject, name: &str) -> Result<()> {
        let cri = subject.cri();
        let config = subject.pod(name)?;
        let container = Subject::container();
        let whole = Instant::now();
        let pod = self.time(0, || cri.run_pod(&config))?;
        let begun = Instant::now();
        let id = self.time(1, || cri.create(&pod, &container, &config))?;
        self.time(2, || cri.start(&id))?;
        self.create_and_start.add(begun.elapsed());
        for _ in 0..EXECS {
            let answer = self.time(3, || cri.exec_in(&id, &["true"], 10))?;
            ensure!(answer.exit_code == 0, "exec of true: {answer:?}");
        }
        self.time(4, || cri.stop(&id, 10))?;
        self.time(5, || cri.remove(&id))?;
        self.time(6, || cri.stop_pod(&pod))?;
        self.time(7, || cri.remove_pod(&pod))?;
        self.whole.add(whole.elapsed());
        Ok(())
    }

    fn time<T, E>(&mut self, call: usize, work: impl FnOnce() -> Result<T, E>) -> Result<T>
    where
        E: std::error::Error + Send + Sync + 'static,
    {
        let begun = Instant::now();
        let answer = work().with_context(|| CALLS.get(call).copied().unwrap_or_default())?;
        if let Some(samples) = self.calls.get_mut(call) {
            samples.add(begun.elapsed());
        }
        Ok(answer)
    }
}
