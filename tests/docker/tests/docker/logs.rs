//! Logs that are rotated by their monitor: no line that is kept is lost, whoever reads meanwhile.

use std::time::Duration;

use anyhow::{Result, ensure};
use cleat_tests_docker::{BUSYBOX, check};

/// How long a follower may take.
const LIMIT: Duration = Duration::from_secs(60);

/// What counts to `last` in lines of its own.
fn counting(last: u32) -> String {
    format!("i=0; while [ $i -lt {last} ]; do i=$((i+1)); echo $i; done")
}

/// The numbers of a log, which have to follow each other.
fn numbers(log: &str) -> Result<Vec<u32>> {
    let all: Vec<u32> = log.lines().map(str::parse).collect::<Result<_, _>>()?;
    ensure!(all.windows(2).all(|pair| pair[0] + 1 == pair[1]), "lines are missing: {log}");
    Ok(all)
}

#[test]
fn privileged_docker_logs_rotate_without_losing_a_line() {
    check(|engine| {
        let options = ["--log-opt", "max-size=4k", "--log-opt", "max-file=100"];
        let script = format!("until test -e /go; do sleep 0.1; done; {}", counting(5_000));
        let run = [&["run", "-d", "--name", "all"], &options[..], &[BUSYBOX, "sh", "-c", &script]];
        engine.run(&run.concat())?;
        // The monitor rotates, whether or not there is a daemon.
        engine.cleat().kill()?;
        engine.cleat().start()?;
        let follower = engine.spawn(&["logs", "-f", "all"])?;
        engine.run(&["exec", "all", "touch", "/go"])?;
        let told = String::from_utf8(follower.finish(LIMIT)?.stdout)?;
        ensure!(numbers(&told)?.len() == 5_000, "{told}");
        let kept = engine.run(&["logs", "all"])?;
        ensure!(numbers(&kept)? == numbers(&told)?, "{kept}");
        ensure!(engine.run(&["logs", "-n", "321", "all"])?.starts_with("4680\n"));
        Ok(())
    });
}

#[test]
fn privileged_docker_logs_keep_no_more_than_they_may() {
    check(|engine| {
        for (files, most) in [("1", 40), ("3", 120)] {
            let (max_file, name) = (format!("max-file={files}"), format!("most-{files}"));
            let options = ["--log-opt", "max-size=1k", "--log-opt", &max_file];
            let run = [&["run", "--name", &name], &options[..], &[BUSYBOX, "sh", "-c", &counting(1_000)]];
            engine.run(&run.concat())?;
            let kept = numbers(&engine.run(&["logs", &name])?)?;
            ensure!(kept.last() == Some(&1_000) && kept.len() <= most, "{files}: {kept:?}");
            // It goes on where it stopped.
            engine.run(&["start", "-a", &name])?;
            ensure!(engine.run(&["logs", "-n", "1", &name])? == "1000");
        }
        Ok(())
    });
}
