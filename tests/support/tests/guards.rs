//! The guards start what they promise and leave nothing behind.
#![forbid(unsafe_code)]

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use cleat_test_support::{Ended, Propagation, REGISTRY_PORT, Registry, World, wait_limited};

#[test]
fn privileged_a_world_has_a_network_and_mounts_of_its_own() -> Result<()> {
    let world = World::new(Propagation::Private)?;
    let links = world.shell("ip -brief link show")?;
    ensure!(links.lines().count() == 1 && links.starts_with("lo "), "more than a loopback: {links}");
    let folder = tempfile::tempdir()?;
    let path = folder.path().display().to_string();
    world.shell(&format!("mount -t tmpfs tmpfs {path} && touch {path}/inside"))?;
    ensure!(!folder.path().join("inside").exists(), "a mount of the world reached the host");
    Ok(())
}

#[test]
fn privileged_mounts_propagate_in_a_shared_world_only() -> Result<()> {
    for (propagation, expected) in [(Propagation::Private, false), (Propagation::Shared, true)] {
        let world = World::new(propagation)?;
        let root = world.shell("grep ' / / ' /proc/self/mountinfo")?;
        ensure!(root.contains("shared:") == expected, "{propagation:?}: {root}");
    }
    Ok(())
}

#[test]
fn privileged_a_world_ends_with_its_guard() -> Result<()> {
    let world = World::new(Propagation::Private)?;
    let pid = world.pid();
    drop(world);
    ensure!(wait_limited(pid, Duration::from_secs(5))? == Ended::Yes, "process {pid} is still there");
    Ok(())
}

#[test]
fn privileged_a_command_that_hangs_is_killed() -> Result<()> {
    let world = World::new(Propagation::Private)?;
    let hung = world.run("sleep", &["60".as_ref()], Duration::from_secs(1));
    let error = hung.err().context("a command outlived its limit")?.to_string();
    ensure!(error.contains("no end after 1 s"), "{error}");
    Ok(())
}

#[test]
fn privileged_the_registry_serves_every_test_image_and_ends_with_its_guard() -> Result<()> {
    let world = World::new(Propagation::Private)?;
    let folder = tempfile::tempdir()?;
    let registry = Registry::start(&world, folder.path())?;
    let address = format!("http://127.0.0.1:{REGISTRY_PORT}/v2/cleat-test");
    let accept = "application/vnd.oci.image.index.v1+json,application/vnd.oci.image.manifest.v1+json,\
                  application/vnd.docker.distribution.manifest.list.v2+json";
    for (name, kind) in [
        ("busybox/manifests/1", "vnd.oci.image.index.v1+json"),
        ("httpd/manifests/1", "vnd.docker.distribution.manifest.list.v2+json"),
        ("layers/manifests/gzip", "tar+gzip"),
        ("layers/manifests/zstd", "tar+zstd"),
    ] {
        let manifest = world.shell(&format!("curl -fsS -H 'Accept: {accept}' {address}/{name}"))?;
        ensure!(manifest.contains(kind), "{name} is not of type {kind}: {manifest}");
    }
    let pid: u32 = fs::read_to_string(folder.path().join("registry.pid"))?.trim().parse()?;
    drop(registry);
    ensure!(wait_limited(pid, Duration::from_secs(5))? == Ended::Yes, "the registry is still there");
    Ok(())
}
