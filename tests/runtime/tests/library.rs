//! What the monitor uses of the library, by a caller of one thread.
#![forbid(unsafe_code)]

use std::path::Path;

use cleat_tests_runtime::{Bundle, Container, assert_nothing_left, limited, text};

/// Runs a scenario of `library-caller` with a container of `script`.
fn scenario(name: &str, script: &str) {
    let mut bundle = Bundle::script(script);
    let container = Container::new(&mut bundle);
    let caller = Path::new(env!("CARGO_BIN_EXE_library-caller"));
    let output = limited(caller).arg(name).arg(bundle.path()).arg(&container.id).output();
    let output = output.expect("the caller can be run");
    assert!(output.status.success(), "{name}: {}", text(&output));
    print!("{}", text(&output));
    assert_nothing_left(&container.id, bundle.path());
}

const IDLE: &str = "exec sleep 100";

#[test]
fn privileged_init_waits_at_the_gate() {
    scenario("start", "echo out; exit 7");
}

#[test]
fn privileged_a_dropped_gate_ends_init() {
    scenario("dropped-gate", "true");
}

#[test]
fn privileged_an_execs_whole_tree_is_killed() {
    scenario("kill-exec", IDLE);
}

#[test]
fn privileged_an_update_is_all_or_nothing() {
    scenario("update", IDLE);
}

#[test]
fn privileged_an_overlay_of_127_layers_is_seen_by_the_container_alone() {
    scenario("overlay", "cat /topmost; echo x > /written");
}

#[test]
fn privileged_an_overlay_has_its_owners_mapped() {
    let script = "cd /; stat -c '%u %g' bin theirs; echo x > written; stat -c '%u %g' written; chown 9:9 theirs; stat -c '%u %g' theirs";
    scenario("overlay-mapped", script);
}

#[test]
fn privileged_all_processes_are_the_callers_children() {
    scenario("children", IDLE);
}

#[test]
fn privileged_failures_leave_nothing() {
    scenario("failures", IDLE);
}

#[test]
fn privileged_what_hangs_ends_with_its_caller() {
    scenario("dead-caller", IDLE);
    scenario("dead-caller-of-init", IDLE);
}

#[test]
fn privileged_what_hangs_ends_when_its_caller_gives_up() {
    scenario("given-up", IDLE);
    scenario("given-up-builders-hook", IDLE);
    scenario("given-up-init", IDLE);
}

#[test]
fn privileged_the_kernel_gets_the_filters_flags() {
    scenario("seccomp-flags", IDLE);
}
