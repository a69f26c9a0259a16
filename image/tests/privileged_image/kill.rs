//! A process that pulls is killed at a hundred moments; whoever opens the store afterwards finds the image or nothing.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use cleat_image::{Limits, Puller, Reference};

use super::fixture::image::TestImage;
use super::fixture::registry::Registry;
use super::fixture::tar::Tar;
use super::pull::noise;
use super::store::open_again;

const KILLS: u32 = 100;

/// `examples/pull`, which `cargo test` builds beside the tests.
pub(crate) fn program() -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    let program = tests.ancestors().nth(2).unwrap().join("examples/pull");
    assert!(program.exists(), "{} is missing: cargo build --examples", program.display());
    program
}

fn start(root: &Path, reference: &Reference, configuration: &Path) -> Child {
    let mut command = Command::new(program());
    command.arg(root).arg(reference.to_string()).arg(configuration);
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// The names in a folder of the store.
fn count(root: &Path, folder: &str) -> usize {
    fs::read_dir(root.join(folder)).unwrap().count()
}

#[test]
fn privileged_a_pull_killed_at_any_moment_leaves_the_image_or_nothing() {
    let registry = Registry::start();
    let many = (0..200).fold(Tar::new(), |tar, number| tar.file(&format!("many/{number}"), noise(500)));
    let image = TestImage::gzip(&[Tar::new().file("large", noise(2_000_000)).finish(), many.finish()]);
    let reference = registry.push("app:1", &image);
    let folder = tempfile::tempdir().unwrap();
    let (root, configuration) = (folder.path().join("store"), folder.path().join("registries.conf"));
    let text = format!("[[registry]]\nlocation = '{}'\ninsecure = true", registry.host());
    fs::write(&configuration, text).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();

    let begun = Instant::now();
    assert!(start(&root, &reference, &configuration).wait().unwrap().success());
    let whole = begun.elapsed();
    let (mut finished, mut nothing) = (0, 0);
    for kill in 0..KILLS {
        let store = open_again(&root, &[]);
        store.remove(&image.id()).unwrap();
        drop(store);
        let mut child = start(&root, &reference, &configuration);
        // Moments spread over the whole pull and a little more, in no order.
        let moment = whole.mul_f64(f64::from(kill * 37 % KILLS) / f64::from(KILLS) * 1.1);
        std::thread::sleep(moment.min(Duration::from_secs(10)));
        child.kill().unwrap();
        child.wait().unwrap();

        let store = open_again(&root, &[]);
        let found = store.get(&image.id());
        let layers = if found.is_some() { 2 } else { 0 };
        let holds = (count(&root, "layers/sha256"), count(&root, "tars/sha256"), count(&root, "tmp"));
        assert_eq!(holds, (layers, layers, 0), "kill {kill} at {moment:?}");
        if found.is_some() {
            finished += 1
        } else {
            nothing += 1
        }
        let puller = Puller::new(store.clone(), registry.registries(), Limits::default());
        let pulled = runtime.block_on(puller.pull(&reference, None)).unwrap();
        runtime.block_on(puller.shutdown());
        assert_eq!(store.verify(&pulled).unwrap(), [], "kill {kill} at {moment:?}");
        assert_eq!(count(&root, "tmp"), 0, "kill {kill} at {moment:?}");
    }
    assert!(nothing > 0, "no pull was hit: {finished} finished");
}
