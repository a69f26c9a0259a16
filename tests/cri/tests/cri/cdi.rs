//! Devices that containers are given by name.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use cleat_cri_api::v1::*;
use cleat_tests_cri::{BUSYBOX, Node, check, configs};
use serde_json::json;
use tonic::Code;

/// A vendor's folders, with files in them: the first in JSON, the second, which wins, in YAML.
struct Vendor(tempfile::TempDir);

impl Vendor {
    fn new() -> Result<Self> {
        let vendor = Self(tempfile::tempdir().context("make a folder")?);
        for name in ["etc", "run", "library"] {
            fs::create_dir(vendor.path().join(name)).with_context(|| format!("make {name}"))?;
        }
        vendor.write(
            "library/hook",
            "#!/bin/sh\nread state\necho \"$1 $KEY\" >>\"$(dirname \"$0\")/told\"\n",
        )?;
        fs::set_permissions(vendor.path().join("library/hook"), fs::Permissions::from_mode(0o755))
            .context("make the hook a program")?;
        vendor.write("library/lib.so", "of the vendor\n")?;
        vendor.write("etc/whole.json", &vendor.whole())?;
        vendor.write("etc/low.json", &device("low", "LOW=1"))?;
        vendor.write(
            "run/low.yaml",
            "---\ncdiVersion: 0.5.0\nkind: vendor.com/low\ndevices:\n- name: one # the only one\n  containerEdits:\n    \
             env: [LOW=2]\n",
        )?;
        vendor.write("etc/twice-1.json", &device("twice", "TWICE=1"))?;
        vendor.write("etc/twice-2.json", &device("twice", "TWICE=2"))?;
        vendor.write("etc/broken.json", "{")?;
        Ok(vendor)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn write(&self, name: &str, content: &str) -> Result<()> {
        fs::write(self.path().join(name), content).with_context(|| format!("write {name}"))
    }

    /// A device with every kind of edit.
    fn whole(&self) -> String {
        let library = self.path().join("library");
        json!({
            "cdiVersion": "1.0.0",
            "kind": "vendor.com/whole",
            "containerEdits": {"env": ["FOR_ALL=1"]},
            "devices": [{"name": "0", "containerEdits": {
                "env": ["VISIBLE=0"],
                "deviceNodes": [
                    {"path": "/dev/vendor/zero", "hostPath": "/dev/zero", "fileMode": 0o640, "gid": 44},
                    {"path": "/dev/vendor/fuse", "hostPath": "/dev/fuse", "permissions": "r"},
                    // /dev/kmsg, whatever this host has it as.
                    {"path": "/dev/vendor/shut", "type": "c", "major": 1, "minor": 11, "permissions": "none"},
                ],
                "mounts": [{"hostPath": library, "containerPath": "/opt/vendor", "options": ["ro", "rbind", "rprivate"]}],
                "hooks": [{"hookName": "createRuntime", "path": library.join("hook"), "args": ["hook", "made"],
                           "env": ["KEY=value", "PATH=/usr/bin:/bin"], "timeout": 30}],
                "additionalGids": [44, 0],
            }}, {"name": "1", "containerEdits": {"env": ["VISIBLE=1"]}}],
        })
        .to_string()
    }

    fn settings(&self) -> String {
        let [etc, run] = ["etc", "run"].map(|name| self.path().join(name));
        format!("[runtime]\ncdi_spec_dirs = [{etc:?}, {run:?}]\n")
    }
}

fn device(class: &str, variable: &str) -> String {
    json!({
        "cdiVersion": "0.5.0",
        "kind": format!("vendor.com/{class}"),
        "devices": [{"name": "one", "containerEdits": {"env": [variable]}}],
    })
    .to_string()
}

fn with(config: ContainerConfig, names: &[&str]) -> ContainerConfig {
    let cdi_devices = names.iter().map(|name| CdiDevice { name: (*name).to_owned() }).collect();
    ContainerConfig { cdi_devices, ..config }
}

#[test]
fn privileged_crictl_gives_a_container_a_device_by_name() -> Result<()> {
    let vendor = Vendor::new()?;
    check(Node::builder().settings(&vendor.settings()), |node| {
        let crictl = node.cleat().crictl()?;
        let pod = crate::crictl_pods::run_pod(node, &crictl, "cdi")?;
        let script = "echo $FOR_ALL $VISIBLE; stat -c '%a %u %g %t %T' /dev/vendor/zero; \
                      head -c 4 /dev/vendor/zero | od -An -tx1; (: </dev/vendor/fuse) && \
                      (: >/dev/vendor/fuse) 2>&1; (: </dev/vendor/shut) 2>&1; cat /opt/vendor/lib.so; touch /opt/vendor/x 2>&1; id -G";
        let config = json!({
            "metadata": {"name": "given"},
            "image": {"image": BUSYBOX},
            "command": ["sh", "-c", script],
            "log_path": "given.log",
            "CDI_devices": [{"name": "vendor.com/whole=0"}],
        });
        let file = node.folder().join("given.json");
        fs::write(&file, config.to_string()).context("write the container's configuration")?;
        let pod_file = node.folder().join("pod-cdi.json");
        let [file, pod_file] = [file, pod_file].map(|path| path.display().to_string());
        let id = crictl.run(&["create", &pod, &file, &pod_file])?;
        assert_eq!(crictl.run(&["start", &id])?, id);
        assert_eq!(node.await_end(&id)?.exit_code, 0);
        let refused = |path: &str| format!("sh: can't open /dev/vendor/{path}: Operation not permitted");
        assert_eq!(
            crictl.run(&["logs", &id])?.lines().map(str::trim).collect::<Vec<_>>(),
            [
                "1 0",
                "640 0 44 1 5",
                "00 00 00 00",
                &refused("fuse").replace("open", "create"),
                &refused("shut"),
                "of the vendor",
                "touch: /opt/vendor/x: Read-only file system",
                "0 10 44",
            ]
        );
        let told = fs::read_to_string(vendor.path().join("library/told")).context("what the hook wrote")?;
        assert_eq!(told, "made value\n");
        let shown = crictl.json(&["inspect", &id])?;
        assert_eq!(shown["info"]["config"]["CDI_devices"], json!([{"name": "vendor.com/whole=0"}]));
        Ok(())
    });
    Ok(())
}

#[test]
fn privileged_devices_are_chosen_by_annotation_folder_and_name() -> Result<()> {
    let vendor = Vendor::new()?;
    check(Node::builder().settings(&vendor.settings()), |node| {
        let pod = node.run_pod(configs::pod("cdi"))?;
        let script = configs::script("annotated", "echo $FOR_ALL $VISIBLE $LOW");
        let mut config = with(script, &["vendor.com/low=one"]);
        let names = "vendor.com/whole=1,vendor.com/low=one".to_owned();
        config.annotations.insert("cdi.k8s.io/plugin".to_owned(), names);
        assert_eq!(node.output(&pod, &config)?, "1 1 2");
        for (number, (name, code, parts)) in [
            (
                "vendor.com/whole=2",
                Code::InvalidArgument,
                vec!["vendor.com/whole=2", "etc/broken.json is left out"],
            ),
            ("vendor.com/twice=one", Code::InvalidArgument, vec!["twice-1.json", "twice-2.json"]),
            ("/dev/zero", Code::InvalidArgument, vec!["config.CDI_devices", "vendor/class=device"]),
        ]
        .into_iter()
        .enumerate()
        {
            let config = with(configs::sleeper(&format!("refused-{number}")), &[name]);
            let status = node.cri().create(&pod.id, &config, &pod.config).err().context("it was created")?;
            assert_eq!(status.code(), code, "{status:?}");
            parts.iter().for_each(|part| assert!(status.message().contains(part), "{part:?} in {status:?}"));
        }
        // A vendor's file that comes later is seen, and one that goes is gone.
        vendor.write("run/new.json", &device("new", "NEW=1"))?;
        let created = with(configs::script("new", "echo $NEW"), &["vendor.com/new=one"]);
        assert_eq!(node.output(&pod, &created)?, "1");
        fs::remove_file(vendor.path().join("run/new.json")).context("remove a file")?;
        let late = with(configs::sleeper("late"), &["vendor.com/new=one"]);
        ensure!(node.cri().create(&pod.id, &late, &pod.config).is_err(), "its file is gone");
        Ok(())
    });
    Ok(())
}
