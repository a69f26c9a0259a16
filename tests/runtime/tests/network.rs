//! A container's network devices: its loopback device, and those that become its own.
#![forbid(unsafe_code)]

use std::process::{Command, Output, Stdio};

use cleat_tests_runtime::{Bundle, Container, text};
use serde_json::json;

/// Runs a container in a network namespace of the test's own, which has a pair of devices, `one` and `two`.
fn run_with_devices(bundle: &mut Bundle) -> Output {
    let container = Container::new(bundle);
    let run = container.command("run");
    let words = std::iter::once(run.get_program()).chain(run.get_args());
    let words: Vec<_> = words.map(|word| word.to_string_lossy().into_owned()).collect();
    let script = format!(
        "set -e; ip link add one type veth peer two; ip link set one mtu 1400 address 02:00:00:00:00:07
         echo 0 >/proc/sys/net/ipv6/conf/one/accept_dad
         ip address add 10.9.8.7/24 dev one; ip address add fd00::7/64 dev one; ip link set two up
         exec {} --bundle {} {}",
        words.join(" "),
        bundle.path().display(),
        container.id
    );
    let mut outer = Command::new("unshare");
    outer.args(["--net", "sh", "-c", &script]).stdin(Stdio::null());
    outer.output().expect("unshare can be run")
}

#[test]
fn privileged_a_new_network_has_its_loopback_device_on() {
    let output = Container::new(&mut Bundle::script("cat /sys/class/net/lo/flags")).run();
    assert_eq!(text(&output), "0x9\n", "IFF_UP and IFF_LOOPBACK");
}

#[test]
fn privileged_a_device_is_moved_with_its_addresses() {
    for (name, found) in [("inside0", "inside0"), ("eth%d", "eth0"), ("", "one")] {
        let mut bundle = Bundle::script("busybox ip address show; busybox ip route show");
        bundle.spec["linux"]["netDevices"] = json!({ "one": { "name": name } });
        let output = run_with_devices(&mut bundle);
        assert!(output.status.success(), "{}", text(&output));
        let all = text(&output);
        for part in [
            &format!("{found}@"),
            "mtu 1400",
            "LOWER_UP",
            "02:00:00:00:00:07",
            "inet 10.9.8.7/24",
            "inet6 fd00::7/64",
            &format!("10.9.8.0/24 dev {found}"),
        ] {
            assert!(all.contains(part), "{part:?} in {all}");
        }
    }
}

#[test]
fn privileged_a_device_of_a_user_namespace_is_moved_too() {
    let mut bundle = Bundle::script("busybox ip address show inside0");
    let maps = json!([{ "containerID": 0, "hostID": 100_000, "size": 1000 }]);
    bundle.spec["linux"]["uidMappings"] = maps.clone();
    bundle.spec["linux"]["gidMappings"] = maps;
    bundle.spec["linux"]["namespaces"].as_array_mut().unwrap().push(json!({ "type": "user" }));
    bundle.spec["linux"]["netDevices"] = json!({ "one": { "name": "inside0" } });
    let output = run_with_devices(&mut bundle);
    assert!(text(&output).contains("inet 10.9.8.7/24"), "{}", text(&output));
}

#[test]
fn privileged_a_device_that_cannot_be_moved_is_named() {
    for (devices, reasons) in [
        (json!({ "three": {} }), ["three", "No such device"]),
        (json!({ "one": { "name": "lo" } }), ["one", "lo already"]),
    ] {
        let mut bundle = Bundle::program(&["true"]);
        bundle.spec["linux"]["netDevices"] = devices;
        let output = run_with_devices(&mut bundle);
        let said = text(&output);
        assert!(!output.status.success() && reasons.iter().all(|reason| said.contains(reason)), "{said}");
    }
}
