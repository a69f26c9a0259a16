//! Options of `docker run` and `docker exec`, each seen from inside the container.

use anyhow::{Context, Result, ensure};
use cleat_tests_docker::{BUSYBOX, Engine, check};

fn refused(engine: &Engine, arguments: &[&str], code: i32, words: &str) -> Result<()> {
    let said = engine.docker(arguments)?;
    ensure!(
        said.code == code && (said.out.clone() + &said.err).contains(words),
        "docker {arguments:?} should end with {code} and say {words:?}: {said:?}"
    );
    Ok(())
}

/// What `script` writes in a container with these options.
fn inside(engine: &Engine, options: &[&str], script: &str) -> Result<String> {
    let all = [&["run", "--rm"], options, &[BUSYBOX, "sh", "-c", script]].concat();
    engine.run(&all)
}

#[test]
fn privileged_docker_users_and_groups_are_names_or_numbers() {
    check(|engine| {
        let who = "id -u; id -g; id -G";
        ensure!(inside(engine, &["-u", "nobody:wheel"], who)?.starts_with("65534\n10\n"));
        ensure!(inside(engine, &["-u", "7:wheel"], who)?.starts_with("7\n10\n"));
        ensure!(inside(engine, &["-u", ":wheel"], who)?.starts_with("0\n10\n"));
        let groups = inside(engine, &["-u", "1:1", "--group-add", "wheel", "--group-add", "77"], "id -G")?;
        ensure!(groups == "1 10 77", "{groups}");
        refused(engine, &["run", "--rm", "-u", "nosuch", BUSYBOX, "true"], 125, "nosuch")?;
        refused(engine, &["run", "--rm", "-u", "0:nosuch", BUSYBOX, "true"], 125, "nosuch")?;
        Ok(())
    });
}

#[test]
fn privileged_docker_exec_as_somebody_else() {
    check(|engine| {
        engine.run(&["run", "-d", "--name", "c1", "-u", "1:1", BUSYBOX, "sleep", "1000"])?;
        let exec = |options: &[&str], script: &str| {
            engine.run(&[&["exec"], options, &["c1", "sh", "-c", script]].concat())
        };
        ensure!(exec(&[], "id -u; id -g")? == "1\n1");
        ensure!(exec(&["-u", "0"], "id -u; id -g; echo $HOME")? == "0\n0\n/root");
        ensure!(exec(&["-u", "nobody:wheel"], "id -u; id -g")? == "65534\n10");
        // Whom a name means is looked up in the container as it is now.
        exec(&["-u", "root"], "echo 'late:x:4321:10::/tmp:/bin/sh' >> /etc/passwd")?;
        ensure!(
            exec(&["-u", "late", "-e", "Q=1", "-w", "/etc"], "id -u; echo $HOME $Q; pwd")?
                == "4321\n/tmp 1\n/etc"
        );
        refused(engine, &["exec", "-u", "nosuch", "c1", "true"], 126, "nosuch")?;
        let held = |options: &[&str]| exec(options, "grep CapEff /proc/self/status | cut -f2");
        let (plain, root, all) = (held(&[])?, held(&["-u", "0"])?, held(&["-u", "0", "--privileged"])?);
        ensure!(plain == "0000000000000000" && root != plain && all > root, "{plain} {root} {all}");
        // What an account file is made of is the container's: one that cannot be one is not read.
        exec(&["-u", "0"], "rm /etc/passwd; mkfifo /etc/passwd")?;
        ensure!(exec(&["-u", "5"], "grep ^Uid: /proc/self/status | cut -f2")? == "5");
        refused(engine, &["exec", "-u", "late", "c1", "true"], 126, "late")?;
        Ok(())
    });
}

#[test]
fn privileged_docker_ulimits_and_extra_hosts() {
    check(|engine| {
        let limits = ["--ulimit", "nofile=100:200", "--ulimit", "core=0"];
        ensure!(inside(engine, &limits, "ulimit -Sn; ulimit -Hn; ulimit -c")? == "100\n200\n0");
        let hosts =
            ["--add-host", "db:10.1.2.3", "--add-host", "six=fd00::7", "--add-host", "up:host-gateway"];
        let file = inside(engine, &hosts, "cat /etc/hosts")?;
        for line in ["10.1.2.3\tdb", "fd00::7\tsix", "10.213.0.1\tup"] {
            ensure!(file.lines().any(|found| found == line), "{line:?} is not in {file}");
        }
        let on_host = inside(engine, &["--network", "host", "--add-host", "db:10.1.2.3"], "cat /etc/hosts")?;
        ensure!(on_host.lines().any(|line| line == "10.1.2.3\tdb"), "{on_host}");
        Ok(())
    });
}

#[test]
fn privileged_docker_a_free_port_is_found_and_told() {
    check(|engine| {
        let server = "echo served > /tmp/page; exec httpd -f -p 80 -h /tmp";
        for (name, options) in
            [("c1", &["-p", "80", "-p", "127.0.0.1::81/udp"][..]), ("c2", &["-P", "--expose", "80"])]
        {
            engine
                .run(&[&["run", "-d", "--name", name], options, &[BUSYBOX, "sh", "-c", server]].concat())?;
        }
        let port = |engine: &Engine, name: &str| -> Result<String> {
            let told = engine.run(&["port", name, "80/tcp"])?;
            let first = told.lines().next().context("a port")?;
            Ok(first.rsplit_once(':').context("a number")?.1.to_owned())
        };
        let (one, two) = (port(engine, "c1")?, port(engine, "c2")?);
        ensure!(one != two && one.parse::<u16>()? > 1024, "{one} {two}");
        ensure!(engine.run(&["port", "c1", "81/udp"])?.starts_with("127.0.0.1:"));
        let row = engine.run(&["ps", "--filter", "name=c1", "--format", "{{.Ports}}"])?;
        ensure!(row.contains(&format!("{one}->80/tcp")), "{row}");
        for port in [&one, &two] {
            let url = format!("http://127.0.0.1:{port}/page");
            let fetch =
                format!("curl -sS --max-time 30 --retry 30 --retry-delay 1 --retry-connrefused {url}");
            ensure!(engine.cleat().world().shell(&fetch)?.trim() == "served", "{url}");
        }
        engine.run(&["stop", "-t", "0", "c1"])?;
        ensure!(engine.run(&["port", "c1"])?.is_empty());
        Ok(())
    });
}

#[test]
fn privileged_docker_the_network_of_another_container() {
    check(|engine| {
        engine.run(&[
            "run",
            "-d",
            "--name",
            "c1",
            "--hostname",
            "first",
            BUSYBOX,
            "nc",
            "-ll",
            "-p",
            "80",
            "-e",
            "echo",
            "in",
        ])?;
        let joined = ["--network", "container:c1"];
        let address = engine.run(&["exec", "c1", "ip", "-4", "-o", "addr", "show", "eth0"])?;
        ensure!(inside(engine, &joined, "ip -4 -o addr show eth0")? == address);
        ensure!(inside(engine, &joined, "hostname")? == "first");
        ensure!(
            inside(engine, &joined, "cat /etc/hosts")? == engine.run(&["exec", "c1", "cat", "/etc/hosts"])?
        );
        let ask =
            "for i in 1 2 3 4 5 6 7 8 9 10; do nc -w 5 127.0.0.1 80 </dev/null && break; sleep 0.2; done";
        ensure!(inside(engine, &joined, ask)? == "in");
        // Whoever used it, it is still the other's.
        ensure!(engine.run(&["exec", "c1", "ip", "-4", "-o", "addr", "show", "eth0"])? == address);
        refused(
            engine,
            &["run", "--network", "container:nosuch", BUSYBOX],
            125,
            "No such container: nosuch",
        )?;
        refused(
            engine,
            &["run", "--network", "container:c1", "-p", "80:80", BUSYBOX],
            125,
            "conflicting options",
        )?;
        engine.run(&["create", "--name", "c2", "--network", "container:c1", BUSYBOX, "true"])?;
        let id = engine.run(&["inspect", "-f", "{{.Id}}", "c1"])?;
        ensure!(
            engine.run(&["inspect", "-f", "{{.HostConfig.NetworkMode}}", "c2"])? == format!("container:{id}")
        );
        engine.run(&["stop", "-t", "0", "c1"])?;
        refused(engine, &["start", "c2"], 1, "join the network")?;
        engine.run(&["start", "c1"])?;
        engine.run(&["start", "-a", "c2"])?;
        Ok(())
    });
}

#[test]
fn privileged_docker_without_a_log() {
    check(|engine| {
        let out = engine.run(&["run", "--name", "c1", "--log-driver", "none", BUSYBOX, "echo", "seen"])?;
        ensure!(out == "seen", "{out}");
        refused(engine, &["logs", "c1"], 1, "configured logging driver does not support reading")?;
        ensure!(engine.run(&["inspect", "-f", "{{.HostConfig.LogConfig.Type}}", "c1"])? == "none");
        Ok(())
    });
}

#[test]
fn privileged_docker_an_init_of_its_own() {
    check(|engine| {
        let first = inside(engine, &["--init"], "tr '\\0' ' ' < /proc/1/cmdline")?;
        ensure!(first.starts_with("/sbin/docker-init -- sh -c"), "{first}");
        for (script, code) in [("exit 7", 7), ("kill -9 $$", 137)] {
            refused(engine, &["run", "--rm", "--init", BUSYBOX, "sh", "-c", script], code, "")?;
        }
        refused(engine, &["run", "--rm", "--init", BUSYBOX, "nosuch"], 127, "nosuch")?;
        refused(engine, &["run", "--rm", "--init", BUSYBOX, "/etc"], 126, "/etc")?;
        // A program that handles no signal ends by one all the same: it is not process 1.
        engine.run(&["run", "-d", "--init", "--name", "c1", BUSYBOX, "sleep", "1000"])?;
        engine.run(&["kill", "-s", "TERM", "c1"])?;
        ensure!(engine.run(&["wait", "c1"])? == "143");
        // What is orphaned is reaped.
        let orphan = "for i in 1 2 3; do sh -c 'sleep 0.1 & exec true'; done; exec sleep 1000";
        engine.run(&["run", "-d", "--init", "--name", "c2", BUSYBOX, "sh", "-c", orphan])?;
        let left = "ls -d /proc/[0-9]* | wc -l";
        let looks = format!(
            "for i in $(seq 100); do test $({left}) -le 5 && break; sleep 0.1; done; cat /proc/[0-9]*/comm"
        );
        let processes = engine.run(&["exec", "c2", "sh", "-c", &looks])?;
        ensure!(processes.lines().filter(|name| *name == "sleep").count() == 1, "{processes}");
        engine.run(&["stop", "-t", "60", "c2"])?;
        ensure!(engine.run(&["wait", "c2"])? == "143");
        Ok(())
    });
}

#[test]
fn privileged_docker_diff_tells_what_was_changed() {
    check(|engine| {
        let script = "echo x > /etc/new; rm /etc/group; mkdir /d2; touch /d2/f; chmod 700 /home";
        engine.run(&["run", "--name", "c1", "-v", "/usr:/hv:ro", BUSYBOX, "sh", "-c", script])?;
        let changes = engine.run(&["diff", "c1"])?;
        for line in ["C /etc", "A /etc/new", "D /etc/group", "A /d2", "A /d2/f", "C /home", "A /hv"] {
            ensure!(changes.lines().any(|found| found == line), "{line:?} is not in {changes}");
        }
        for path in ["/proc", "/sys", "/dev", "/etc/hosts", "/etc/resolv.conf", "/etc/hostname"] {
            ensure!(
                !changes.lines().any(|line| line.ends_with(&format!(" {path}"))),
                "{path} is in {changes}"
            );
        }
        engine.run(&["run", "--name", "c2", BUSYBOX, "true"])?;
        ensure!(engine.run(&["diff", "c2"])?.is_empty());
        Ok(())
    });
}

/// A container that cannot have what its start takes does not stay behind, and its client does not wait for its end.
#[test]
fn privileged_docker_containers_that_remove_themselves_do_so_where_the_start_fails() {
    check(|engine| {
        engine.run(&["run", "-d", "--name", "c1", "-p", "127.0.0.1:8471:80", BUSYBOX, "sleep", "1000"])?;
        refused(engine, &["run", "--rm", "-p", "127.0.0.1:8471:80", BUSYBOX, "true"], 125, "8471")?;
        refused(engine, &["run", "--rm", "-p", "127.0.0.1:8471-8471:80", BUSYBOX, "true"], 125, "8471")?;
        let free = engine.run(&["run", "-d", "-p", "127.0.0.1:8471-8473:80", BUSYBOX, "sleep", "1000"])?;
        ensure!(engine.run(&["port", &free, "80"])? == "127.0.0.1:8472");
        ensure!(engine.run(&["ps", "-aq"])?.lines().count() == 2);
        Ok(())
    });
}

/// What a client brings along or takes away of the confinement.
#[test]
fn privileged_docker_seccomp_profiles_and_masks_are_the_clients() {
    check(|engine| {
        let profile = engine.folder().join("profile.json");
        let text = r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO"}]}"#;
        std::fs::write(&profile, text)?;
        let option = format!("seccomp={}", profile.display());
        let script = "mkdir /x 2>/dev/null || echo refused; touch /y && echo done";
        ensure!(inside(engine, &["--security-opt", &option], script)? == "refused\ndone");
        std::fs::write(&profile, "{\"defaultAction\":\"NOSUCH\"}")?;
        refused(engine, &["run", "--rm", "--security-opt", &option, BUSYBOX, "true"], 125, "seccomp")?;
        let masks = "mount | grep -c ' /proc/[a-z]'; true";
        ensure!(inside(engine, &[], masks)? != "0");
        ensure!(inside(engine, &["--security-opt", "systempaths=unconfined"], masks)? == "0");
        Ok(())
    });
}

/// Signals that have numbers only go through an init, and end a program with the code that stands for them.
#[test]
fn privileged_docker_real_time_signals_pass_the_init() {
    check(|engine| {
        let options = ["--init", "--stop-signal", "RTMIN+3", "--stop-timeout", "60"];
        let script = "touch /up; exec sleep 1000";
        let run = [&["run", "-d", "--name", "c1"], &options[..], &[BUSYBOX, "sh", "-c", script]];
        engine.run(&run.concat())?;
        // A signal that comes before the init blocks it is lost, as any that a process 1 has no handler for.
        engine.run(&["exec", "c1", "sh", "-c", "while ! test -e /up; do :; done"])?;
        engine.run(&["stop", "c1"])?;
        ensure!(engine.run(&["inspect", "-f", "{{.State.ExitCode}}", "c1"])? == "165");
        Ok(())
    });
}
