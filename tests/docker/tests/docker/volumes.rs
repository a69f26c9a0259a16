//! Volumes: what outlives a container, what goes with it, and what an image wants one for.

use anyhow::ensure;
use cleat_tests_docker::{BUSYBOX, check};

#[test]
fn privileged_docker_volumes_of_an_image_are_filled_and_go_with_the_container() {
    check(|engine| {
        engine.run(&["run", "--name", "base", BUSYBOX, "sh", "-c", "mkdir -p /data/sub; echo of-image > /data/sub/file; chown 5:6 /data; chmod 1750 /data; ln -s sub/file /data/link"])?;
        let tar = engine.folder().join("base.tar").display().to_string();
        engine.run(&["export", "-o", &tar, "base"])?;
        engine.run(&["import", "-c", "VOLUME /data", &tar, "kept:1"])?;
        let look = "cat /data/link; stat -c '%a %u %g' /data; echo more > /data/more";
        engine.run(&["run", "-d", "--name", "c1", "--read-only", "kept:1", "sh", "-c", "sleep 1000"])?;
        ensure!(engine.run(&["exec", "c1", "sh", "-c", look])? == "of-image\n1750 5 6");
        // It stays through a stop, and the death of the daemon.
        engine.run(&["stop", "-t", "0", "c1"])?;
        engine.cleat().kill()?;
        engine.cleat().start()?;
        engine.run(&["start", "c1"])?;
        ensure!(engine.run(&["exec", "c1", "cat", "/data/more"])? == "more");
        ensure!(engine.run(&["volume", "ls", "-q"])?.lines().count() == 1);
        engine.run(&["rm", "-f", "c1"])?;
        ensure!(engine.run(&["volume", "ls", "-q"])?.lines().count() == 1, "without -v it stays");
        engine.run(&["volume", "prune", "-f"])?;
        // --rm takes it along, also where nobody was there to see the end.
        engine.run(&["run", "-d", "--rm", "--name", "c2", "kept:1", "sh", "-c", "sleep 1000"])?;
        let pid = engine.run(&["inspect", "-f", "{{.State.Pid}}", "c2"])?;
        engine.cleat().kill()?;
        engine.cleat().world().shell(&format!("kill -9 {pid}"))?;
        engine.cleat().start()?;
        // The daemon follows the end up behind its first answers; a removal joins that, or finds nothing any more.
        let removed = engine.docker(&["rm", "-f", "c2"])?;
        ensure!(removed.code == 0 || removed.err.contains("No such container"), "{removed:?}");
        ensure!(engine.run(&["volume", "ls", "-q"])?.is_empty(), "--rm takes it along");
        engine.run(&["rm", "base"])?;
        Ok(())
    });
}

#[test]
fn privileged_docker_volumes_are_shared_and_kept_while_they_are_used() {
    check(|engine| {
        engine.run(&[
            "run",
            "-d",
            "--name",
            "c1",
            "-v",
            "shared:/a",
            "-v",
            "/own",
            BUSYBOX,
            "sleep",
            "1000",
        ])?;
        engine.run(&[
            "run",
            "--rm",
            "--volumes-from",
            "c1",
            BUSYBOX,
            "sh",
            "-c",
            "echo x > /a/f; echo y > /own/f",
        ])?;
        ensure!(engine.run(&["exec", "c1", "cat", "/a/f", "/own/f"])? == "x\ny", "the lender keeps its own");
        let used = engine.docker(&["volume", "rm", "shared"])?;
        ensure!(used.code == 1 && used.err.contains("volume is in use"), "{used:?}");
        engine.run(&["run", "-d", "--name", "c2", "--volumes-from", "c1:ro", BUSYBOX, "sleep", "1000"])?;
        engine.run(&["rm", "-f", "-v", "c1"])?;
        ensure!(engine.run(&["exec", "c2", "cat", "/own/f"])? == "y", "somebody else uses it");
        engine.run(&["rm", "-f", "c2"])?;
        engine.run(&["volume", "rm", "shared"])?;
        engine.run(&["volume", "prune", "-f", "-a"])?;
        ensure!(engine.run(&["volume", "ls", "-q"])?.is_empty());
        Ok(())
    });
}

/// A part of a volume, found without leaving it, whatever those who write to it put there.
#[test]
fn privileged_docker_parts_of_volumes_stay_within_them() {
    check(|engine| {
        let make = "mkdir -p /v/a/b; echo in > /v/a/b/f; ln -s a/b /v/in; ln -s /etc /v/out; ln -s ../../../../../../etc /v/up; ln -s /proc/self/root/etc /v/magic";
        engine.run(&["run", "--rm", "-v", "v1:/v", BUSYBOX, "sh", "-c", make])?;
        let mounted = |part: &str, path: &str| {
            let mount = format!("type=volume,src=v1,dst=/x,volume-subpath={part}");
            engine.docker(&["run", "--rm", "--mount", &mount, BUSYBOX, "cat", path])
        };
        for (part, path) in [("a/b", "/x/f"), ("a/./b/f", "/x"), ("in", "/x/f")] {
            let said = mounted(part, path)?;
            ensure!(said.code == 0 && said.out == "in", "{part}: {said:?}");
        }
        for part in ["out", "up", "magic", "nosuch", "../v1", "/a", "a/../../../.."] {
            let said = mounted(part, "/x/passwd")?;
            ensure!(said.code == 125 && said.out.is_empty(), "{part}: {said:?}");
        }
        // Looked for at each start, not once.
        engine.run(&[
            "create",
            "--name",
            "c1",
            "--mount",
            "type=volume,src=v1,dst=/x,volume-subpath=a/b",
            BUSYBOX,
            "ls",
            "/x",
        ])?;
        ensure!(engine.run(&["start", "-a", "c1"])? == "f");
        engine.run(&[
            "run",
            "--rm",
            "-v",
            "v1:/v",
            BUSYBOX,
            "sh",
            "-c",
            "rm -r /v/a/b; ln -s /etc /v/a/b",
        ])?;
        let said = engine.docker(&["start", "-a", "c1"])?;
        ensure!(said.code != 0 && said.out.is_empty(), "{said:?}");
        engine.run(&["rm", "c1"])?;
        engine.run(&["volume", "rm", "v1"])?;
        Ok(())
    });
}

#[test]
fn privileged_docker_mounts_say_how_far_they_reach() {
    check(|engine| {
        let folder = engine.folder().join("tree");
        let tree = folder.display().to_string();
        engine
            .world()
            .shell(&format!("mkdir -p {tree}/sub && mount -t tmpfs sub {tree}/sub && touch {tree}/sub/f"))?;
        let run = |options: &str, script: &str| {
            let mount = format!("type=bind,src={tree},dst=/x{options}");
            engine.docker(&["run", "--rm", "--mount", &mount, BUSYBOX, "sh", "-c", script])
        };
        for (options, script, code) in [
            ("", "test -e /x/sub/f && touch /x/sub/g", 0),
            (",bind-recursive=disabled", "test -e /x/sub && ! test -e /x/sub/f", 0),
            // Read-only with all that is mounted below, unless somebody asks otherwise.
            (",readonly", "touch /x/sub/g", 1),
            (",readonly,bind-recursive=writable", "touch /x/sub/g", 0),
            (",readonly,bind-recursive=readonly,bind-propagation=rprivate", "touch /x/sub/g", 1),
        ] {
            let said = run(options, script)?;
            ensure!(said.code == code, "{options}: {said:?}");
        }
        let bind = format!("{tree}:/x:ro");
        ensure!(engine.docker(&["run", "--rm", "-v", &bind, BUSYBOX, "touch", "/x/sub/g"])?.code == 1);
        engine.world().shell(&format!("umount {tree}/sub"))?;
        let volume = "type=volume,src=v1,dst=/etc,volume-nocopy,volume-label=a=b,volume-label=c";
        ensure!(engine.run(&["run", "--rm", "--mount", volume, BUSYBOX, "ls", "/etc/passwd"]).is_err());
        ensure!(engine.run(&["volume", "inspect", "-f", "{{json .Labels}}", "v1"])? == r#"{"a":"b","c":""}"#);
        engine.run(&["volume", "rm", "v1"])?;
        let body = r#"{"Image":"IMAGE","Cmd":["sh","-c","cp /bin/busybox /x/busybox && /x/busybox echo ran"],
            "HostConfig":{"Mounts":[{"Type":"tmpfs","Target":"/x","TmpfsOptions":{"Options":[["exec"]]}}]}}"#;
        let (status, made) =
            engine.json("POST", "/v1.46/containers/create?name=c1", &body.replace("IMAGE", BUSYBOX))?;
        ensure!(status == 201, "{made}");
        ensure!(engine.run(&["start", "-a", "c1"])? == "ran");
        Ok(())
    });
}
