//! The `VOLUME`s of an image in a pod's container, by crictl; the Docker door makes the images, as hostile as they come.

use anyhow::{Result, ensure};
use cleat_tests_docker::{BUSYBOX, Engine, check};
use serde_json::{Value, json};

/// Makes an image `name` with these volumes of what `script` leaves in busybox.
fn image(engine: &Engine, name: &str, volumes: &Value, script: &str) -> Result<()> {
    engine.run(&["run", "--name", "base", BUSYBOX, "sh", "-c", script])?;
    let tar = engine.folder().join("base.tar").display().to_string();
    engine.run(&["export", "-o", &tar, "base"])?;
    engine.run(&["import", "-c", &format!("VOLUME {volumes}"), &tar, name])?;
    engine.run(&["rm", "base"]).map(drop)
}

/// Creates a container of `image` that runs `script`, in a pod of its own: what crictl said, and whether it could.
fn create(engine: &mut Engine, image: &str, script: &str, mounts: &Value) -> Result<(bool, String)> {
    let folder = engine.folder().to_owned();
    let (pod, container) = (folder.join("pod.json"), folder.join("container.json"));
    let uid = json!({"metadata": {"name": image, "namespace": "n", "uid": image}});
    std::fs::write(&pod, uid.to_string())?;
    let config = json!({
        "metadata": {"name": "c"}, "image": {"image": image}, "command": ["sh", "-c", script], "mounts": mounts,
        "linux": {"security_context": {"readonly_rootfs": true}},
    });
    std::fs::write(&container, config.to_string())?;
    let (pod_file, file) = (pod.display().to_string(), container.display().to_string());
    let crictl = engine.cleat().crictl()?;
    let pod = crictl.run(&["runp", &pod_file])?;
    let output = crictl.output(&["create", "--no-pull", &pod, &file, &pod_file])?;
    let text = if output.status.success() { output.stdout } else { output.stderr };
    Ok((output.status.success(), String::from_utf8_lossy(&text).trim().to_owned()))
}

/// Starts it; what a shell in it says.
fn say(engine: &mut Engine, id: &str, script: &str) -> Result<String> {
    let crictl = engine.cleat().crictl()?;
    Ok(crictl.run(&["exec", "-s", id, "sh", "-c", script])?.trim().to_owned())
}

fn start(engine: &mut Engine, image: &str, mounts: &Value) -> Result<String> {
    let (is_made, id) = create(engine, image, "sleep 1000", mounts)?;
    ensure!(is_made, "{id}");
    engine.cleat().crictl()?.run(&["start", &id])?;
    Ok(id)
}

/// Removes all pods.
fn clear(engine: &mut Engine) -> Result<()> {
    engine.cleat().crictl()?.run(&["rmp", "-a", "-f"]).map(drop)
}

#[test]
fn privileged_image_volumes_are_the_containers_own_and_go_with_it() {
    check(|engine| {
        let make =
            "mkdir -p /data/sub /more; echo of-image > /data/sub/file; chown 5:6 /data; chmod 1750 /data";
        image(engine, "kept:1", &json!(["/data", "/more/", "/new/deep"]), make)?;
        let id = start(engine, "kept:1", &json!([]))?;
        let look = "cat /data/sub/file; stat -c '%a %u %g' /data; touch /data/x /more/x /new/deep/x && ls /data; touch /y 2>&1; true";
        let seen = say(engine, &id, look)?;
        ensure!(seen == "of-image\n1750 5 6\nsub\nx\ntouch: /y: Read-only file system", "{seen}");
        let folder = engine.cleat().root().join("containers").join(&id).join("volumes");
        ensure!(std::fs::read_dir(&folder)?.count() == 3);
        // What it wrote is its own: the next one begins with what the image has.
        clear(engine)?;
        ensure!(!folder.exists(), "the volumes go with their container");
        let id = start(engine, "kept:1", &json!([]))?;
        ensure!(say(engine, &id, "ls /data")? == "sub");
        clear(engine)?;
        // What the pod mounts there is there.
        let host = engine.folder().join("mine");
        std::fs::create_dir(&host)?;
        std::fs::write(host.join("theirs"), "")?;
        let id = start(engine, "kept:1", &json!([{"host_path": host, "container_path": "/data"}]))?;
        ensure!(say(engine, &id, "ls /data; ls /more")? == "theirs");
        clear(engine)
    });
}

/// CVE-2022-23648 and its kin: paths of an image that lead out of it, or onto what is not the image's.
#[test]
fn privileged_image_volumes_stay_inside_and_cover_nothing_of_ours() {
    check(|engine| {
        let canary = engine.folder().join("canary");
        std::fs::write(&canary, "of the host")?;
        let up = format!("/..{}", "/..".repeat(12));
        let make = format!(
            "ln -s {up}{folder} /link; ln -s /proc /alias; ln -s {up}/etc /climb; mkdir /kernel; echo fake > /kernel/f",
            folder = engine.folder().display()
        );
        let climbing = format!("{up}{}", engine.folder().display());
        let volumes = json!([
            "/../../etc",
            "/link",
            "/alias",
            "/climb",
            climbing,
            "/proc",
            "/sys",
            "/dev",
            "/etc/hosts"
        ]);
        image(engine, "evil:1", &volumes, &make)?;
        let id = start(engine, "evil:1", &json!([]))?;
        let look = "cat /proc/self/comm; test -e /sys/kernel && test -c /dev/null && echo kernel; grep -c localhost /etc/hosts; \
                    ls -A /link 2>/dev/null | wc -l; grep -c root /etc/passwd";
        let seen = say(engine, &id, look)?;
        ensure!(seen.starts_with("cat\nkernel\n"), "{seen}");
        ensure!(seen.lines().nth(2) != Some("0") && seen.lines().nth(3) == Some("0"), "{seen}");
        ensure!(!say(engine, &id, "cat /link/canary /climb/shadow 2>&1; true")?.contains("of the host"));
        let masked = say(engine, &id, "cat /proc/keys | wc -c")?;
        ensure!(masked == "0", "what is masked stays so: {masked}");
        say(engine, &id, "echo changed > /link/canary; true")?;
        clear(engine)?;
        ensure!(std::fs::read_to_string(&canary)? == "of the host", "the host is untouched");
        for (name, path) in [("root:1", "/"), ("up:1", "/a/.."), ("plain:1", "data"), ("control:1", "/a\nb")]
        {
            image(engine, name, &json!([path]), "true")?;
            let (is_made, said) = create(engine, name, "true", &json!([]))?;
            ensure!(!is_made && said.contains("InvalidArgument"), "{path:?}: {said}");
            clear(engine)?;
        }
        Ok(())
    });
}
