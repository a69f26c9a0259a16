//! `docker commit`: what an image of a container has is compared with dockerd line by line (`commands.txt`); here is what
//! happens when the container, or the client, is not at rest.

use std::time::{Duration, Instant};

use anyhow::ensure;
use cleat_tests_docker::{BUSYBOX, check};

/// How long a container may take to go on.
const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn privileged_docker_commit_of_a_busy_container_is_of_its_own_files() {
    check(|engine| {
        // A folder becomes a link to everything and is a folder again; a file is called as what takes others away.
        let script = "mkdir /d; echo kept > /kept; touch /.wh.etc; touch /ready; while :; do
            mv /d /e; ln -s / /d; rm /d; mv /e /d; echo x > /d/f; truncate -s 1000000 /d/f; rm /d/f; done";
        engine.run(&["run", "-d", "--name", "c1", BUSYBOX, "sh", "-c", script])?;
        engine.run(&["exec", "c1", "sh", "-c", "until test -e /ready; do sleep 0.1; done"])?;
        for _ in 0..10 {
            engine.run(&["commit", "--pause=false", "c1", "busy:1"])?;
            let look = "cat /kept; test -e /etc/passwd; test ! -e /.wh.etc; find /d /e 2>/dev/null || true";
            let seen = engine.run(&["run", "--rm", "busy:1", "sh", "-ec", look])?;
            ensure!(seen.lines().all(|line| ["kept", "/d", "/e", "/d/f", "/e/f"].contains(&line)), "{seen}");
        }
        engine.run(&["rm", "-f", "c1"])?;
        Ok(())
    });
}

#[test]
fn privileged_docker_commit_goes_on_without_its_client_and_leaves_nothing_paused() {
    check(|engine| {
        let script = "dd if=/dev/urandom of=/large bs=1M count=64; touch /ready; sleep 1000";
        engine.run(&["run", "-d", "--name", "c1", BUSYBOX, "sh", "-c", script])?;
        engine.run(&["exec", "c1", "sh", "-c", "until test -e /ready; do sleep 0.1; done"])?;
        let socket = engine.socket().display().to_string();
        let leaves = "curl -s --max-time 0.1 -X POST 'http://d/commit?container=c1&repo=left&tag=1'";
        engine.cleat().world().shell(&format!("{leaves} --unix-socket {socket} || true"))?;
        let deadline = Instant::now() + LIMIT;
        while engine.run(&["images", "-q", "left:1"])?.is_empty() {
            ensure!(Instant::now() < deadline, "the commit did not go on");
        }
        while engine.run(&["inspect", "-f", "{{.State.Status}}", "c1"])? != "running" {
            ensure!(Instant::now() < deadline, "the container still stands");
        }
        engine.run(&["exec", "c1", "true"])?;
        engine.run(&["rm", "-f", "c1"])?;
        Ok(())
    });
}
