//! Output, input and logs.

use anyhow::ensure;
use cleat_tests_docker::{BUSYBOX, check};

#[test]
fn privileged_docker_run_and_exec_pass_each_stream_on() {
    check(|engine| {
        let both = engine.docker(&["run", "--rm", BUSYBOX, "sh", "-c", "echo out; echo err >&2"])?;
        ensure!((both.out.as_str(), both.err.as_str()) == ("out", "err"), "{both:?}");
        let copied = engine.docker_with(&["run", "--rm", "-i", BUSYBOX, "cat"], b"through\n")?;
        ensure!(copied.out == "through", "{copied:?}");
        engine.run(&["run", "-d", "--name", "c1", BUSYBOX, "sleep", "1000"])?;
        let copied = engine.docker_with(&["exec", "-i", "c1", "cat"], b"exec\n")?;
        ensure!(copied.out == "exec", "{copied:?}");
        for (command, code) in [("exit 5", 5), ("kill -9 $$", 137)] {
            let said = engine.docker(&["exec", "c1", "sh", "-c", command])?;
            ensure!(said.code == code, "{said:?}");
        }
        ensure!(engine.docker(&["exec", "c1", "nosuch"])?.code == 127);
        let chosen = engine.run(&["exec", "-e", "Q=1", "-w", "/tmp", "c1", "sh", "-c", "echo $Q; pwd"])?;
        ensure!(chosen == "1\n/tmp", "{chosen}");
        let top = engine.run(&["top", "c1"])?;
        ensure!(top.contains("sleep 1000"), "{top}");
        engine.run(&["stop", "-t", "0", "c1"])?;
        ensure!(engine.docker(&["exec", "c1", "true"])?.code == 1);
        Ok(())
    });
}

#[test]
fn privileged_docker_attach_gets_the_first_byte_and_the_exit_code() {
    check(|engine| {
        engine.run(&["create", "--name", "c1", BUSYBOX, "sh", "-c", "echo first; exit 4"])?;
        let attached = engine.docker(&["start", "-a", "c1"])?;
        ensure!((attached.out.as_str(), attached.code) == ("first", 4), "{attached:?}");
        Ok(())
    });
}

#[test]
fn privileged_docker_logs_are_whole_chosen_and_followed() {
    check(|engine| {
        let script = "for i in 1 2 3; do echo o$i; echo e$i >&2; done; printf part";
        engine.run(&["run", "--name", "l1", BUSYBOX, "sh", "-c", script])?;
        let all = engine.docker(&["logs", "l1"])?;
        ensure!((all.out.as_str(), all.err.as_str()) == ("o1\no2\no3\npart", "e1\ne2\ne3"), "{all:?}");
        let last = engine.docker(&["logs", "--tail", "1", "l1"])?;
        ensure!(last.out == "part", "{last:?}");
        let stamped = engine.run(&["logs", "-t", "l1"])?;
        ensure!(stamped.lines().all(|line| line.contains("Z ")), "{stamped}");
        ensure!(engine.run(&["logs", "--until", "2000-01-01T00:00:00Z", "l1"])?.is_empty());
        engine.run(&["run", "-d", "--name", "f1", BUSYBOX, "sh", "-c", "echo a; read x; echo b"])?;
        let followed = engine.run(&["logs", "-f", "f1"])?;
        ensure!(followed == "a\nb", "{followed}");
        Ok(())
    });
}
