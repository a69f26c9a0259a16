//! Devices and disks: which a container may use, and how much of them.

use anyhow::{Result, ensure};
use cleat_tests_docker::{BUSYBOX, Engine, check};

/// What a container with these options ends with, and writes.
fn run(engine: &Engine, options: &[&str], script: &str) -> Result<(i32, String)> {
    let said = engine.docker(&[&["run", "--rm"], options, &[BUSYBOX, "sh", "-c", script]].concat())?;
    Ok((said.code, said.out + &said.err))
}

#[test]
fn privileged_docker_rules_for_devices_open_what_they_name() {
    check(|engine| {
        // A loop device's number: its node may be made by everybody and opened by nobody.
        let open = "mknod /tmp/l b 7 0; dd if=/tmp/l count=0 2>/dev/null && echo opened";
        ensure!(run(engine, &[], open)?.0 != 0);
        for rule in ["b 7:0 r", "b 7:* rw", "b *:* r", "a *:* rwm"] {
            let said = run(engine, &["--device-cgroup-rule", rule], open)?;
            ensure!(said == (0, "opened".to_owned()), "{rule}: {said:?}");
        }
        for rule in ["b 7:1 r", "c 7:0 r", "b 7:0 w"] {
            ensure!(run(engine, &["--device-cgroup-rule", rule], open)?.0 != 0, "{rule}");
        }
        let body =
            r#"{"Image":"IMAGE","HostConfig":{"DeviceCgroupRules":["c 1:7"]}}"#.replace("IMAGE", BUSYBOX);
        let (status, text) = engine.curl("POST", "/v1.50/containers/create", &body)?;
        ensure!(
            status == 400 && text.contains("invalid device cgroup rule format: 'c 1:7'"),
            "{status} {text}"
        );
        Ok(())
    });
}

#[test]
fn privileged_docker_limits_of_disks_are_the_cgroups() {
    check(|engine| {
        let disk = engine.world().shell("lsblk -dnpo NAME | grep -v -e loop -e zram | head -n 1")?;
        let disk = disk.trim();
        ensure!(disk.starts_with("/dev/"), "no disk: {disk:?}");
        let limit = |rate: &str| format!("{disk}:{rate}");
        let (read, write, reads, writes) = (limit("1mb"), limit("2mb"), limit("100"), limit("200"));
        let options = [
            ["--device-read-bps", &read],
            ["--device-write-bps", &write],
            ["--device-read-iops", &reads],
            ["--device-write-iops", &writes],
        ]
        .concat();
        let v1 = "cd /sys/fs/cgroup/blkio && cut -d' ' -f2 blkio.throttle.*_bps_device blkio.throttle.*_iops_device";
        let look = format!(
            "if test -e /sys/fs/cgroup/io.max; then cut -d' ' -f2- /sys/fs/cgroup/io.max; else {v1}; fi"
        );
        let (code, told) = run(engine, &options, &look)?;
        let v2 = "rbps=1048576 wbps=2097152 riops=100 wiops=200";
        ensure!(code == 0 && (told == v2 || told == "1048576\n2097152\n100\n200"), "{code} {told}");
        for (bad, words) in [("/dev/null:1mb", "no block device"), ("/dev/nosuch:1mb", "No such file")] {
            let said = run(engine, &["--device-read-bps", bad], "true")?;
            ensure!(said.0 == 125 && said.1.contains(words), "{bad}: {said:?}");
        }
        Ok(())
    });
}

#[test]
fn privileged_docker_what_this_storage_and_this_kernel_cannot_is_told() {
    check(|engine| {
        for (options, words) in [
            (["--storage-opt", "size=1g"], "supported only for overlay over xfs"),
            (["--storage-opt", "nosuch=1"], "Unknown option nosuch"),
            (["--blkio-weight", "9"], "Range of blkio weight is from 10 to 1000"),
        ] {
            let said = run(engine, &options, "true")?;
            // Where the kernel weighs no disks a weight is discarded, with a warning.
            ensure!(
                (said.0 == 125 && said.1.contains(words)) || said.1.contains("Weight discarded"),
                "{said:?}"
            );
        }
        // Without SELinux there are no labels; with it these are none.
        let labels = ["--security-opt", "label=type:x", "--security-opt", "label=disable"];
        ensure!(run(engine, &labels, "echo in")? == (0, "in".to_owned()));
        Ok(())
    });
}
