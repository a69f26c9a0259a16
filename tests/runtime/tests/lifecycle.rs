//! From create to delete, and what failures leave behind.
#![forbid(unsafe_code)]

use std::fs;

use cleat_tests_runtime::{Bundle, Container, text};
use serde_json::json;

#[test]
fn privileged_run_gives_output_and_exit_code() {
    let mut bundle = Bundle::script("echo out; echo err >&2; exit 7");
    let output = Container::new(&mut bundle).run();
    assert_eq!(output.status.code(), Some(7), "{}", text(&output));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "out\n");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "err\n");
}

#[test]
fn privileged_a_signal_is_an_exit_code_above_128() {
    let mut bundle = Bundle::script("exec sleep 100");
    let container = Container::new(&mut bundle);
    container.start();
    assert_eq!(container.exec(&[], &["sh", "-c", "kill -9 $$"]).status.code(), Some(137));
    assert!(container.kill("KILL").status.success());
    container.await_status("stopped");
}

#[test]
fn privileged_statuses_follow_each_other() {
    let mut bundle = Bundle::script("echo started; exec sleep 100");
    let container = Container::new(&mut bundle);
    let created = container.create();
    assert!(created.status.success(), "{}", text(&created));
    let state = container.state();
    assert_eq!((&state["status"], &state["id"]), (&json!("created"), &json!(container.id)));
    assert!(state["pid"].as_i64().is_some_and(|pid| pid > 1));
    assert_eq!(container.output(), "", "nothing runs before start");

    assert!(container.simple("start").status.success());
    assert_eq!(container.state()["status"], "running");
    container.await_output("started");
    assert!(!container.simple("start").status.success(), "started twice");
    assert!(!container.simple("delete").status.success(), "a running container is not deleted without force");

    assert!(container.kill("KILL").status.success());
    container.await_status("stopped");
    assert!(!container.kill("TERM").status.success(), "nobody to signal");
    assert!(container.simple("delete").status.success());
    assert!(!container.simple("state").status.success());
}

#[test]
fn privileged_an_id_is_used_once() {
    let mut bundle = Bundle::script("exec sleep 100");
    let container = Container::new(&mut bundle);
    container.start();
    assert!(!container.create().status.success());
    assert_eq!(container.state()["status"], "running", "the first one is not touched");
}

#[test]
fn privileged_a_missing_program_fails_start_and_says_so() {
    for (program, reason) in
        [("/missing", "no such file"), ("missing", "not found|no such file"), ("/etc", "denied|directory")]
    {
        let mut bundle = Bundle::program(&[program]);
        let container = Container::new(&mut bundle);
        // The specification leaves open which of the two notices it.
        let created = container.create();
        let failed = if created.status.success() { container.simple("start") } else { created };
        let said = text(&failed).to_lowercase();
        assert!(!failed.status.success());
        assert!(said.contains(program) && reason.split('|').any(|reason| said.contains(reason)), "{said}");
    }
}

#[test]
fn privileged_a_program_that_is_none_fails_start() {
    let mut bundle = Bundle::program(&["/bin/text"]);
    fs::write(bundle.rootfs("bin/text"), "no program").unwrap();
    fs::set_permissions(bundle.rootfs("bin/text"), std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .unwrap();
    let output = Container::new(&mut bundle).run();
    assert!(!output.status.success());
    assert!(text(&output).to_lowercase().contains("exec format error"), "{}", text(&output));
}

/// What breaks a bundle.
type Change = fn(&mut Bundle);

/// Every failure of create undoes what was done: the check is in the container's drop.
#[test]
fn privileged_a_failed_create_leaves_nothing() {
    let broken: [(&str, Change); 4] = [
        ("no such source", |b| {
            b.mount(json!({"destination": "/x", "type": "bind", "source": "/no/such", "options": ["bind"]}))
        }),
        ("no such filesystem", |b| b.mount(json!({"destination": "/x", "type": "nofs", "source": "x"}))),
        ("nonsense limit", |b| b.spec["linux"]["resources"]["memory"] = json!({ "limit": -5 })),
        ("impossible cpus", |b| b.spec["linux"]["resources"]["cpu"] = json!({ "cpus": "4000" })),
    ];
    for (what, change) in broken {
        let mut bundle = Bundle::program(&["true"]);
        change(&mut bundle);
        let container = Container::new(&mut bundle);
        let created = container.create();
        assert!(!created.status.success(), "{what}");
        assert!(!container.simple("state").status.success(), "{what}: no state is kept");
        cleat_tests_runtime::assert_nothing_left(&container.id, bundle.path());
    }
}

#[test]
fn privileged_delete_by_force_ends_everything() {
    let mut bundle = Bundle::script("setsid sleep 100 & setsid sleep 100 & echo ready; exec sleep 100");
    let container = Container::new(&mut bundle);
    container.start();
    container.await_output("ready");
    let deleted = container.command("delete").args(["--force", &container.id]).output().unwrap();
    assert!(deleted.status.success(), "{}", text(&deleted));
}
