//! The table.

use std::fmt::Write;
use std::fs;

use anyhow::{Context, Result};
use cleat_test_support::repository;

use crate::crowd::{Crowd, QUESTIONS};
use crate::cycle::{CALLS, Cycle};
use crate::subject::Subject;

/// The table of README.md goes between these.
const MARKERS: [&str; 2] = ["<!-- bench:begin -->", "<!-- bench:end -->"];

/// All that was measured, a column each.
pub(crate) struct Measured {
    /// PSS of the daemons before any pod, KB.
    pub(crate) idle: Vec<u64>,
    pub(crate) cycles: Vec<Cycle>,
    pub(crate) crowds: Vec<Crowd>,
}

/// The table as Markdown.
pub(crate) fn table(subjects: &[Subject], measured: &Measured, runs: u32) -> String {
    let mut rows = vec![vec!["| |".to_owned()], vec!["|---|".to_owned()]];
    for subject in subjects {
        rows[0].push(format!(" {} |", subject.name()));
        rows[1].push("---|".to_owned());
    }
    rows.extend(cycle_rows(&measured.cycles));
    rows.extend(crowd_rows(measured));
    let pods = measured.crowds.first().map_or(0, |crowd| crowd.pods);
    let mut text = format!(
        "Medians / 95th percentiles over {runs} runs, one call after the other on one connection; a pod has one \
         container. {pods} pods for the figures with many. {}.\n\n",
        machine()
    );
    for row in rows {
        // Writing to a String cannot fail.
        writeln!(text, "{}", row.concat()).expect("a String takes everything");
    }
    text
}

fn row<T>(name: &str, columns: &[T], cell: impl Fn(&T) -> String) -> Vec<String> {
    let cells = columns.iter().map(|column| format!(" {} |", cell(column)));
    [format!("| {name} |")].into_iter().chain(cells).collect()
}

fn cycle_rows(cycles: &[Cycle]) -> Vec<Vec<String>> {
    let calls = CALLS.iter().enumerate();
    let mut rows: Vec<_> = calls
        .map(|(index, name)| row(&format!("{name}, ms"), cycles, |cycle| cycle.calls[index].told()))
        .collect();
    rows.push(row("CreateContainer and StartContainer, ms", cycles, |cycle| cycle.create_and_start.told()));
    rows.push(row("a whole life with four execs, ms", cycles, |cycle| cycle.whole.told()));
    rows
}

fn crowd_rows(measured: &Measured) -> Vec<Vec<String>> {
    let crowds = &measured.crowds;
    let pods = crowds.first().map_or(0, |crowd| crowd.pods);
    let questions = QUESTIONS.iter().enumerate();
    let mut rows: Vec<_> = questions
        .map(|(index, name)| {
            row(&format!("{name} with {pods} pods, ms"), crowds, |it| it.questions[index].told())
        })
        .collect();
    rows.push(row(&format!("start {pods} pods, serially / 10 at once, s"), crowds, |crowd| {
        format!("{:.2} / {:.2}", crowd.start_serially.as_secs_f64(), crowd.start_at_once.as_secs_f64())
    }));
    rows.push(row(&format!("remove {pods} pods, serially / 10 at once, s"), crowds, |crowd| {
        format!("{:.2} / {:.2}", crowd.remove_serially.as_secs_f64(), crowd.remove_at_once.as_secs_f64())
    }));
    let daemons: Vec<(&u64, &Crowd)> = measured.idle.iter().zip(crowds).collect();
    rows.push(row(&format!("daemon, PSS idle / with {pods} pods, MB"), &daemons, |(idle, crowd)| {
        format!("{:.1} / {:.1}", **idle as f64 / 1024.0, crowd.memory.daemon_kb as f64 / 1024.0)
    }));
    rows.push(row("one monitor or shim of all, PSS, KB (how many a pod)", crowds, |crowd| {
        format!("{} ({:.0})", crowd.memory.helper_kb, crowd.memory.helpers_per_pod)
    }));
    rows.push(row("one pause process of all, PSS, KB", crowds, |crowd| {
        format!("{:.1}", crowd.memory.pause_kb)
    }));
    rows.push(row(&format!("daemon's idle CPU with {pods} pods, %"), crowds, |crowd| {
        format!("{:.2}", crowd.idle_percent)
    }));
    rows
}

/// Processors and kernel of this machine.
fn machine() -> String {
    let processors = std::thread::available_parallelism().map_or(0, usize::from);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{processors} processors, Linux {}", kernel.trim())
}

/// Puts `table` between the markers of README.md.
pub(crate) fn update_readme(table: &str) -> Result<()> {
    let path = repository().join("README.md");
    let text = fs::read_to_string(&path).context("read README.md")?;
    let text = between_markers(&text, table).with_context(|| format!("no {MARKERS:?} in README.md"))?;
    fs::write(&path, text).context("write README.md")
}

fn between_markers(text: &str, table: &str) -> Option<String> {
    let [begin, end] = MARKERS;
    let (before, rest) = text.split_once(begin)?;
    let (_, after) = rest.split_once(end)?;
    Some(format!("{before}{begin}\n{}\n{end}{after}", table.trim_end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_replaces_the_one_between_the_markers() {
        let text = "a\n<!-- bench:begin -->\nold\n<!-- bench:end -->\nb\n";
        let new = between_markers(text, "| new |\n").unwrap();
        assert_eq!(new, "a\n<!-- bench:begin -->\n| new |\n<!-- bench:end -->\nb\n");
        assert_eq!(between_markers("a\n", "new"), None);
    }
}
