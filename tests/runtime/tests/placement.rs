//! Where a container's processes run, and as what machine.
#![forbid(unsafe_code)]

use cleat_tests_runtime::{Bundle, Container, text};
use serde_json::json;

#[test]
#[cfg(target_arch = "x86_64")]
fn privileged_a_personality_is_init_s_and_exec_s() {
    let mut bundle = Bundle::script("busybox uname -m; exec sleep 100");
    bundle.spec["linux"]["personality"] = json!({ "domain": "LINUX32" });
    let container = Container::new(&mut bundle);
    container.start();
    container.await_output("i686\n");
    assert_eq!(text(&container.exec(&[], &["busybox", "uname", "-m"])), "i686\n");
}

#[test]
fn privileged_an_execs_processors_are_set() {
    let mut bundle = Bundle::script("exec sleep 100");
    bundle.spec["process"]["execCPUAffinity"] = json!({ "initial": "0-1023", "final": "0" });
    let container = Container::new(&mut bundle);
    container.start();
    let list = ["grep", "Cpus_allowed_list", "/proc/self/status"];
    assert_eq!(text(&container.exec(&[], &list)), "Cpus_allowed_list:\t0\n");
    let mut bundle = Bundle::program(&["true"]);
    bundle.spec["process"]["execCPUAffinity"] = json!({ "final": "1-0" });
    let refused = Container::new(&mut bundle).run();
    assert!(!refused.status.success() && text(&refused).contains("execCPUAffinity"), "{}", text(&refused));
}

#[test]
fn privileged_memory_is_taken_where_the_policy_says() {
    let mut bundle = Bundle::script("grep -c bind:0 /proc/self/numa_maps");
    bundle.spec["linux"]["memoryPolicy"] = json!({ "mode": "MPOL_BIND", "nodes": "0" });
    let output = Container::new(&mut bundle).run();
    if std::path::Path::new("/proc/self/numa_maps").exists() {
        let lines: u32 = text(&output).trim().parse().unwrap();
        assert!(lines > 0, "{}", text(&output));
    } else {
        // A kernel without NUMA refuses; it is not left out silently.
        assert!(
            !output.status.success() && text(&output).contains("linux.memoryPolicy"),
            "{}",
            text(&output)
        );
    }
}
