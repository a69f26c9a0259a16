//! The executed plugins of Debian's `containernetworking-plugins`, in `/usr/lib/cni`, and failing ones beside them.
#![allow(clippy::unwrap_used, reason = "a test ends at what it does not expect")]

mod lab;

use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf, time::Duration};

use cleat_network::{
    Attached, Network, NetworkError, PodNetwork, Route,
    bridge::{Bridge, BridgeConfig},
    cni::{CapabilityArgs, CniError, CniNetwork, PortMapping, PortProtocol},
};
use lab::{Lab, Pinned, isolated};

const PLUGINS: &str = "/usr/lib/cni";
const LIMIT: Duration = Duration::from_secs(20);

/// A network of `bridge` and `host-local` with these further plugins, whose programs are also looked for in the test's
/// own folder `bin`.
fn network(lab: &Lab, version: &str, further: &str) -> CniNetwork {
    let (conf, bin) = (lab.path().join("net.d"), lab.path().join("bin"));
    for dir in [&conf, &bin] {
        fs::create_dir_all(dir).unwrap();
    }
    let data = leases(lab);
    let text = format!(
        r#"{{"cniVersion":"{version}","name":"test","plugins":[
            {{"type":"bridge","bridge":"cni0","isGateway":true,"ipam":{{"type":"host-local","dataDir":"{}",
              "ranges":[[{{"subnet":"10.77.0.0/24"}}],[{{"subnet":"fd00:77::/64"}}]],
              "routes":[{{"dst":"0.0.0.0/0"}},{{"dst":"::/0"}}]}}}}{further}]}}"#,
        data.parent().unwrap().display()
    );
    fs::write(conf.join("10-test.conflist"), text).unwrap();
    CniNetwork::load(&conf, &[bin, PLUGINS.into()], LIMIT).unwrap()
}

/// Where `host-local` keeps a file for each address in use.
fn leases(lab: &Lab) -> PathBuf {
    lab.path().join("leases/test")
}

fn leased(lab: &Lab) -> usize {
    let Ok(entries) = fs::read_dir(leases(lab)) else { return 0 };
    entries
        .filter(|entry| fs::read_to_string(entry.as_ref().unwrap().path()).unwrap().contains("eth0"))
        .count()
}

/// A plugin that is a shell script.
fn script(lab: &Lab, name: &str, text: &str) {
    let path = lab.path().join("bin").join(name);
    fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
}

fn built_in() -> Network {
    let subnet = "10.88.0.0/24".parse().unwrap();
    Network::Bridge(Bridge::new(BridgeConfig::new("cleat0", &[subnet], None, true).unwrap()))
}

fn request(pod: &Pinned) -> PodNetwork {
    PodNetwork {
        pod_id: "0123456789abcdef".to_owned(),
        name: "web".to_owned(),
        namespace: "default".to_owned(),
        uid: "11-22".to_owned(),
        netns: pod.path.clone(),
        addresses: Vec::new(),
        capabilities: CapabilityArgs::default(),
    }
}

#[test]
fn a_pod_is_attached_checked_and_detached() {
    isolated(|lab| {
        let network =
            Network::Cni(network(lab, "1.0.0", r#",{"type":"tuning","sysctl":{"net.ipv4.ip_forward":"1"}}"#));
        network.status().unwrap();
        let pod = lab.netns("pod");
        let attached = network.attach(&request(&pod)).unwrap();
        let addresses: Vec<_> = attached.addresses.iter().map(ToString::to_string).collect();
        assert_eq!(addresses, ["10.77.0.2/24", "fd00:77::2/64"]);
        assert!(attached.routes.contains(&Route { destination: "::/0".parse().unwrap(), gateway: None }));
        let eth0 = pod.run("ip", &["address", "show", "eth0"]);
        assert!(eth0.contains(&attached.mac.unwrap().to_string()) && eth0.contains("10.77.0.2/24"), "{eth0}");
        assert_eq!(pod.run("sysctl", &["-n", "net.ipv4.ip_forward"]).trim(), "1");
        assert_eq!(leased(lab), 2);
        // It survives the engine's database.
        let stored = serde_json::to_string(&attached).unwrap();
        let attached: Attached = serde_json::from_str(&stored).unwrap();
        network.check(&request(&pod), &attached).unwrap();
        for _ in 0..2 {
            network.detach(&request(&pod), Some(&attached)).unwrap();
        }
        assert_eq!(leased(lab), 0);
        assert!(!pod.run("ip", &["-o", "link"]).contains("eth0"));
        let missing = network.check(&request(&pod), &attached);
        assert!(matches!(missing, Err(NetworkError::Cni(CniError::Plugin { .. }))), "{missing:?}");
    });
}

#[test]
fn port_mappings_reach_the_plugin_that_declares_them() {
    isolated(|lab| {
        let portmap = r#",{"type":"portmap","capabilities":{"portMappings":true}}"#;
        let network = Network::Cni(network(lab, "1.0.0", portmap));
        let pod = lab.netns("pod");
        let mut request = request(&pod);
        request.capabilities.port_mappings = vec![PortMapping {
            host_port: 18_080,
            container_port: 80,
            protocol: PortProtocol::Tcp,
            host_ip: None,
        }];
        let attached = network.attach(&request).unwrap();
        assert!(lab.run("iptables", &["-t", "nat", "-S"]).contains("18080"));
        network.detach(&request, Some(&attached)).unwrap();
        assert!(!lab.run("iptables", &["-t", "nat", "-S"]).contains("18080"));
    });
}

#[test]
fn a_detach_works_after_the_namespace_and_the_configuration_have_gone() {
    isolated(|lab| {
        let network = Network::Cni(network(lab, "0.4.0", ""));
        let pod = lab.netns("pod");
        let attached = network.attach(&request(&pod)).unwrap();
        let request = request(&pod);
        drop(pod);
        let subnet = "10.88.0.0/24".parse().unwrap();
        let built_in =
            Network::Bridge(Bridge::new(BridgeConfig::new("cleat0", &[subnet], None, true).unwrap()));
        built_in.detach(&request, Some(&attached)).unwrap();
        assert_eq!(leased(lab), 0);
    });
}

#[test]
fn an_intent_is_enough_for_a_detach_by_another_network() {
    isolated(|lab| {
        let network = Network::Cni(network(lab, "1.0.0", ""));
        let pod = lab.netns("pod");
        let intent = network.intent(&request(&pod));
        network.attach(&request(&pod)).unwrap();
        built_in().detach(&request(&pod), Some(&intent)).unwrap();
        assert_eq!(leased(lab), 0);
        let refused = network.check(&request(&pod), &intent);
        assert!(matches!(refused, Err(NetworkError::Cni(CniError::NotAttached { .. }))), "{refused:?}");
    });
}

#[test]
fn a_detach_works_without_a_result() {
    isolated(|lab| {
        let network = Network::Cni(network(lab, "1.0.0", ""));
        let pod = lab.netns("pod");
        network.attach(&request(&pod)).unwrap();
        network.detach(&request(&pod), None).unwrap();
        assert_eq!(leased(lab), 0);
    });
}

#[test]
fn a_plugin_that_is_missing_is_found_before_anything_is_made() {
    isolated(|lab| {
        let network = Network::Cni(network(lab, "1.0.0", r#",{"type":"absent"}"#));
        let pod = lab.netns("pod");
        for refused in [network.status(), network.attach(&request(&pod)).map(drop)] {
            let Err(NetworkError::Cni(CniError::NotFound { plugin, .. })) = refused else {
                panic!("{refused:?}")
            };
            assert_eq!(plugin, "absent");
        }
        assert_eq!(leased(lab), 0);
    });
}

#[test]
fn a_detach_goes_on_past_failing_and_missing_plugins_and_tells_of_both() {
    isolated(|lab| {
        let network = network(lab, "1.0.0", r#",{"type":"failing"},{"type":"absent"}"#);
        script(lab, "absent", "cat >/dev/null; exit 0");
        let refusal = r#"cat >/dev/null; echo '{"cniVersion":"1.0.0","code":100,"msg":"no","details":"because"}'; exit 1"#;
        script(lab, "failing", refusal);
        let network = Network::Cni(network);
        let pod = lab.netns("pod");
        let refused = network.attach(&request(&pod));
        let Err(NetworkError::Cni(CniError::Plugin { plugin, command, source })) = refused else {
            panic!("{refused:?}")
        };
        assert_eq!((plugin.as_str(), command, source.code), ("failing", "ADD", 100));
        assert_eq!(leased(lab), 2);
        fs::remove_file(lab.path().join("bin/absent")).unwrap();
        let refused = network.detach(&request(&pod), None);
        let Err(NetworkError::Cni(CniError::Several { failures, .. })) = &refused else {
            panic!("{refused:?}")
        };
        assert!(
            matches!(failures.as_slice(), [CniError::NotFound { .. }, CniError::Plugin { .. }]),
            "{failures:?}"
        );
        assert_eq!(leased(lab), 0, "the plugins behind the failing ones have done their part");
    });
}

#[test]
fn status_and_gc_reach_the_plugins_of_version_1_1() {
    isolated(|lab| {
        let log = lab.path().join("log");
        let conf = lab.path().join("net.d");
        fs::create_dir_all(&conf).unwrap();
        fs::create_dir_all(lab.path().join("bin")).unwrap();
        fs::write(conf.join("10.conf"), r#"{"cniVersion":"1.1.0","name":"n","type":"recorder"}"#).unwrap();
        let network = Network::Cni(CniNetwork::load(&conf, &[lab.path().join("bin")], LIMIT).unwrap());
        script(lab, "recorder", &format!("(echo $CNI_COMMAND; cat; echo) >>{}", log.display()));
        network.status().unwrap();
        network.gc(&["abc".to_owned()]).unwrap();
        let log = fs::read_to_string(log).unwrap();
        let lines: Vec<_> = log.lines().collect();
        assert_eq!((lines[0], lines[2]), ("STATUS", "GC"));
        let input: serde_json::Value = serde_json::from_str(lines[3]).unwrap();
        let valid = serde_json::json!([{"containerID": "abc", "ifname": "eth0"}]);
        assert_eq!(input["cni.dev/valid-attachments"], valid);
        let unavailable = r#"cat >/dev/null; echo '{"cniVersion":"1.1.0","code":50,"msg":"no"}'; exit 1"#;
        script(lab, "recorder", unavailable);
        let refused = network.status();
        let Err(NetworkError::Cni(CniError::Plugin { source, .. })) = refused else { panic!("{refused:?}") };
        assert_eq!(source.code, cleat_network::cni::PluginError::NOT_AVAILABLE);
    });
}
