//! Pausing, renaming, signals.

use std::thread;

use anyhow::{Result, ensure};
use cleat_tests_docker::{BUSYBOX, Engine, check};

/// Counts for as long as it goes on.
const COUNTER: &str = "i=0; while :; do i=$((i+1)); echo $i > /tmp/n; done";

fn refused(engine: &Engine, arguments: &[&str], words: &str) -> Result<()> {
    let said = engine.docker(arguments)?;
    ensure!(
        said.code == 1 && said.err.contains(words),
        "docker {arguments:?} should say {words:?}: {said:?}"
    );
    Ok(())
}

/// Waits until the program, which runs, has said by a file that its traps are set: process 1 ignores other signals.
fn await_traps(engine: &Engine, name: &str) -> Result<()> {
    engine.run(&["exec", name, "sh", "-c", "until test -e /tmp/set; do sleep 0.1; done"]).map(drop)
}

/// What the container's state is, as `inspect` and `ps` tell it.
fn state(engine: &Engine, name: &str) -> Result<(String, String)> {
    let format = "{{.State.Status}} {{.State.Running}} {{.State.Paused}}";
    let filter = format!("name={name}");
    let row = engine.run(&["ps", "-a", "--filter", &filter, "--format", "{{.State}} {{.Status}}"])?;
    Ok((engine.run(&["inspect", "-f", format, name])?, row))
}

/// The processor time, in ticks, that the container's init has had.
fn ticks(engine: &mut Engine, name: &str) -> Result<String> {
    let pid = engine.run(&["inspect", "-f", "{{.State.Pid}}", name])?;
    engine.cleat().world().shell(&format!("cut -d' ' -f14,15 /proc/{pid}/stat"))
}

#[test]
fn privileged_docker_paused_containers_stand_still_and_say_so() {
    check(|engine| {
        engine.run(&["run", "-d", "--name", "c1", BUSYBOX, "sh", "-c", COUNTER])?;
        ensure!(engine.run(&["pause", "c1"])? == "c1");
        let (inspected, row) = state(engine, "c1")?;
        ensure!(inspected == "paused true true", "{inspected}");
        ensure!(row.starts_with("paused Up ") && row.ends_with(" (Paused)"), "{row}");
        ensure!(engine.run(&["ps", "-q", "--filter", "status=paused"])?.len() == 12);
        let before = ticks(engine, "c1")?;
        engine.run(&["stats", "--no-stream", "c1"])?;
        ensure!(ticks(engine, "c1")? == before, "a paused container goes on");
        refused(engine, &["pause", "c1"], "is already paused")?;
        refused(engine, &["exec", "c1", "true"], "is paused, unpause the container before exec")?;
        refused(engine, &["attach", "c1"], "paused")?;
        refused(engine, &["start", "c1"], "cannot start a paused container, try unpause instead")?;
        refused(engine, &["rm", "c1"], "container is paused and must be unpaused first")?;
        // The freezer is the truth: what a daemon that died knew is found again.
        engine.cleat().kill()?;
        engine.cleat().start()?;
        ensure!(state(engine, "c1")?.0 == "paused true true");
        engine.run(&["unpause", "c1"])?;
        ensure!(state(engine, "c1")?.0 == "running true false");
        engine.run(&["exec", "c1", "true"])?;
        refused(engine, &["unpause", "c1"], "is not paused")?;
        engine.run(&["kill", "c1"])?;
        engine.run(&["wait", "c1"])?;
        refused(engine, &["pause", "c1"], "is not running")?;
        Ok(())
    });
}

#[test]
fn privileged_docker_paused_containers_end_when_told_to() {
    check(|engine| {
        let script = "trap 'exit 5' TERM; touch /tmp/set; while :; do sleep 0.1; done";
        for (name, command) in [
            ("stopped", &["stop"][..]),
            ("killed", &["kill"]),
            ("asked", &["kill", "-s", "TERM"]),
            ("restarted", &["restart"]),
        ] {
            engine.run(&["run", "-d", "--name", name, BUSYBOX, "sh", "-c", script])?;
            await_traps(engine, name)?;
            engine.run(&["pause", name])?;
            engine.run(&[command, &[name]].concat())?;
            match name {
                "stopped" | "asked" => ensure!(engine.run(&["wait", name])? == "5", "{name}"),
                "killed" => ensure!(engine.run(&["wait", name])? == "137"),
                _ => ensure!(state(engine, name)?.0 == "running true false"),
            }
            engine.run(&["rm", "-f", name])?;
        }
        engine.run(&["run", "-d", "--name", "gone", BUSYBOX, "sleep", "1000"])?;
        engine.run(&["pause", "gone"])?;
        engine.run(&["rm", "-f", "gone"])?;
        ensure!(engine.run(&["ps", "-aq"])?.is_empty());
        Ok(())
    });
}

#[test]
fn privileged_docker_rename_takes_the_name_and_gives_the_old_one_back() {
    check(|engine| {
        let id = engine.run(&["run", "-d", "--name", "c1", BUSYBOX, "sleep", "1000"])?;
        engine.run(&["create", "--name", "c2", BUSYBOX])?;
        refused(
            engine,
            &["rename", "c1", "c2"],
            "The container name \"/c2\" is already in use by container",
        )?;
        refused(engine, &["rename", "c1", "c1"], "same name")?;
        refused(engine, &["rename", "c1", "x y"], "Invalid container name")?;
        engine.run(&["rename", "c1", "c3"])?;
        ensure!(engine.run(&["inspect", "-f", "{{.Name}} {{.Id}}", "c3"])? == format!("/c3 {id}"));
        refused(engine, &["stop", "c1"], "No such container: c1")?;
        engine.cleat().kill()?;
        engine.cleat().start()?;
        engine.run(&["exec", "c3", "true"])?;
        refused(engine, &["rename", "c2", "c3"], "already in use")?;
        // Names that are asked for at a time: the last one counts, and no other stays taken.
        for _ in 0..10 {
            let said = thread::scope(|scope| {
                let (engine, id) = (&*engine, id.as_str());
                let both = ["c4", "c5"].map(|name| scope.spawn(move || engine.docker(&["rename", id, name])));
                both.map(|one| one.join()).into_iter().all(|said| matches!(said, Ok(Ok(_))))
            });
            ensure!(said, "docker rename did not end");
            let kept = engine.run(&["inspect", "-f", "{{.Name}}", &id])?;
            let free = if kept == "/c4" { "c5" } else { "c4" };
            engine.run(&["create", "--name", free, BUSYBOX])?;
            engine.run(&["rm", free])?;
            engine.run(&["rename", &id, "c3"])?;
        }
        // The name that was given back is free.
        engine.run(&["rename", "c2", "c1"])?;
        engine.run(&["rm", "-f", "c1", "c3"])?;
        engine.run(&["create", "--name", "c3", BUSYBOX])?;
        Ok(())
    });
}

#[test]
fn privileged_docker_stop_sends_the_signal_that_is_asked_for() {
    check(|engine| {
        let script = "trap 'exit 1' TERM; trap 'exit 2' USR1; trap 'exit 3' USR2; touch /tmp/set; while :; do sleep 0.1; done";
        for (option, stop, code) in [
            (None, None, "1"),
            (Some("--stop-signal=USR1"), None, "2"),
            (Some("--stop-signal=USR1"), Some("--signal=SIGUSR2"), "3"),
        ] {
            let run = ["run", "-d", "--name", "c1"].into_iter().chain(option);
            let run: Vec<_> = run.chain([BUSYBOX, "sh", "-c", script]).collect();
            engine.run(&run)?;
            await_traps(engine, "c1")?;
            let stop: Vec<_> = ["stop"].into_iter().chain(stop).chain(["c1"]).collect();
            engine.run(&stop)?;
            ensure!(engine.run(&["wait", "c1"])? == code, "{option:?} {stop:?}");
            engine.run(&["rm", "c1"])?;
        }
        refused(engine, &["stop", "--signal", "NOSUCH", "none"], "No such container")?;
        Ok(())
    });
}
