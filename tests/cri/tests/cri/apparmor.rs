//! AppArmor profiles: the default one, and one of the host's. Only in a machine whose kernel has AppArmor.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use cleat_cri_api::v1::security_profile::ProfileType;
use cleat_cri_api::v1::*;
use cleat_tests_cri::{Node, check, configs};

/// What profile the shell is under, whether it may mount (it has the capability) and signal its neighbours.
const LOOK: &str = "cat /proc/self/attr/current; mount -t tmpfs none /tmp 2>/dev/null && echo mounted; \
    kill -0 1 && echo signalled; true";

fn with_profile(name: &str, script: &str, profile: Option<SecurityProfile>) -> ContainerConfig {
    let mut config = configs::script(name, script);
    configs::capabilities(&mut config).add_capabilities = vec!["SYS_ADMIN".to_owned()];
    configs::security(&mut config).apparmor = profile;
    config
}

fn localhost(name: &str) -> Option<SecurityProfile> {
    Some(configs::profile(ProfileType::Localhost, name))
}

/// A profile of the host's, unloaded in the end.
struct Loaded(PathBuf);

impl Loaded {
    fn load(node: &Node, text: &str) -> Result<Self> {
        let file = node.folder().join("profile");
        fs::write(&file, text).context("write a profile")?;
        let loaded = Self(file);
        loaded.parse("--replace")?;
        Ok(loaded)
    }

    fn parse(&self, action: &str) -> Result<()> {
        let status = Command::new("apparmor_parser").arg(action).arg(&self.0).status();
        ensure!(status.context("run apparmor_parser")?.success(), "apparmor_parser {action} failed");
        Ok(())
    }
}

impl Drop for Loaded {
    fn drop(&mut self) {
        if let Err(error) = self.parse("--remove") {
            eprintln!("unload {}: {error:#}", self.0.display());
        }
    }
}

#[test]
fn privileged_the_default_profile_confines_whoever_asks_for_nothing_else() {
    check(Node::builder(), |node| {
        let pod = node.run_pod(configs::pod("default"))?;
        let default = Some(configs::profile(ProfileType::RuntimeDefault, ""));
        for (name, profile) in [("absent", None), ("default", default)] {
            let output = node.output(&pod, &with_profile(name, LOOK, profile))?;
            assert_eq!(output, "cleat-default (enforce)\nsignalled", "{name}");
        }
        let unconfined = Some(configs::profile(ProfileType::Unconfined, ""));
        let output = node.output(&pod, &with_profile("unconfined", LOOK, unconfined))?;
        assert_eq!(output, "unconfined\nmounted\nsignalled");
        Ok(())
    });
}

#[test]
fn privileged_a_container_stays_confined_and_can_be_stopped_when_the_daemon_comes_back() {
    check(Node::builder(), |node| {
        let pod = node.run_pod(configs::pod("lasting"))?;
        let script = "trap 'exit 5' TERM; echo up; while :; do sleep 0.1; done";
        let id = node.start(&pod, &with_profile("lasting", script, None))?;
        node.await_log(&id, " up")?;
        node.crash_and_restart()?;
        assert_eq!(node.cri().shell(&id, LOOK)?, "cleat-default (enforce)\nsignalled");
        node.cri().stop(&id, 600)?;
        assert_eq!(node.cri().container(&id)?.exit_code, 5);
        Ok(())
    });
}

#[test]
fn privileged_a_profile_of_the_hosts_is_used_when_it_is_loaded() {
    check(Node::builder(), |node| {
        let pod = node.run_pod(configs::pod("own"))?;
        let name = "cleat-test-no-writes";
        let config = with_profile("own", "cat /proc/self/attr/current; touch /x 2>&1; true", localhost(name));
        let error = node.create(&pod, &config).err().context("a profile that is not loaded")?;
        ensure!(format!("{error:#}").contains("it is not loaded"), "{error:#}");
        let text = format!("profile {name} flags=(attach_disconnected) {{ file, deny /x w, }}\n");
        let loaded = Loaded::load(node, &text)?;
        let output = node.output(&pod, &config)?;
        assert_eq!(output, format!("{name} (enforce)\ntouch: /x: Permission denied"));
        drop(loaded);
        Ok(())
    });
}
