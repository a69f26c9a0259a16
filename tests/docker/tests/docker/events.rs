//! `docker events`.

use anyhow::ensure;
use cleat_tests_docker::{BUSYBOX, check};

#[test]
fn privileged_docker_events_of_the_past_are_told_in_order() {
    check(|engine| {
        ensure!(engine.docker(&["run", "--name", "c1", BUSYBOX, "sh", "-c", "exit 3"])?.code == 3);
        engine.run(&["run", "-d", "--name", "c2", BUSYBOX, "sleep", "1000"])?;
        engine.run(&["pause", "c2"])?;
        engine.run(&["unpause", "c2"])?;
        engine.run(&["rename", "c2", "c3"])?;
        engine.run(&["rm", "-f", "c3"])?;
        // The command line sends whole seconds: the end of this one is in the next.
        let past = |more: &[&str]| {
            let format = "{{.Actor.Attributes.name}} {{.Action}}";
            engine.run(&[&["events", "--since", "10m", "--until", "-1s", "--format", format], more].concat())
        };
        let ended = past(&["--filter", "container=c1"])?;
        ensure!(ended == "c1 create\nc1 attach\nc1 start\nc1 die", "{ended}");
        let all = past(&["--filter", "type=container"])?;
        let later = all.lines().skip_while(|line| *line != "c2 create").collect::<Vec<_>>();
        let expected =
            ["c2 create", "c2 start", "c2 pause", "c2 unpause", "c3 rename", "c3 die", "c3 destroy"];
        ensure!(later == expected, "{all}");
        ensure!(past(&["--filter", "event=die", "--filter", "container=c1"])? == "c1 die");
        let code = "{{.Actor.Attributes.exitCode}}";
        let died = [
            "events",
            "--since",
            "10m",
            "--until",
            "-1s",
            "--filter",
            "event=die",
            "--filter",
            "container=c1",
        ];
        ensure!(engine.run(&[&died[..], &["--format", code]].concat())? == "3");
        // Of a time before there was anything there is nothing.
        ensure!(engine.run(&["events", "--since", "20m", "--until", "10m"])?.is_empty());
        Ok(())
    });
}
