//! What an attach and a detach cost, next to the executed plugins that do the same work. Run it alone, with
//! `cargo test --release -p cleat-network --test privileged_cost -- --nocapture`.
#![allow(clippy::unwrap_used, reason = "a test ends at what it does not expect")]

mod lab;

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use cleat_network::{
    Netns, Network, PodNetwork,
    bridge::{Bridge, BridgeConfig},
    cni::{CapabilityArgs, CniNetwork},
};
use lab::{Lab, isolated};

const ROUNDS: usize = 21;

/// A network under measurement.
struct Case {
    name: &'static str,
    network: Network,
    addresses: &'static [&'static str],
    costs: Costs,
}

#[derive(Default)]
struct Costs {
    create: Vec<Duration>,
    attach: Vec<Duration>,
    detach: Vec<Duration>,
    remove: Vec<Duration>,
}

impl Case {
    fn new(name: &'static str, network: Network, addresses: &'static [&'static str]) -> Self {
        network.status().unwrap();
        Self { name, network, addresses, costs: Costs::default() }
    }

    /// Gives one pod a network and takes it away.
    fn round(&mut self, lab: &Lab, round: usize) {
        let path = lab.path().join(format!("{}-{round}", self.name));
        timed(&mut self.costs.create, || Netns::create(&path).unwrap());
        let pod = pod(&path, round, self.addresses);
        let attached = timed(&mut self.costs.attach, || self.network.attach(&pod).unwrap());
        timed(&mut self.costs.detach, || self.network.detach(&pod, Some(&attached)).unwrap());
        timed(&mut self.costs.remove, || Netns::remove(&path).unwrap());
    }

    /// The medians of attach and detach, after printing all.
    fn report(&mut self) -> (Duration, Duration) {
        let costs = &mut self.costs;
        let all = [&mut costs.create, &mut costs.attach, &mut costs.detach, &mut costs.remove];
        let [create, attach, detach, remove] = all.map(|costs| median(costs));
        println!(
            "{}: namespace {create:.2?} + {remove:.2?}, attach {attach:.2?}, detach {detach:.2?}",
            self.name
        );
        (attach, detach)
    }
}

fn median(costs: &mut [Duration]) -> Duration {
    costs.sort();
    costs[costs.len() / 2]
}

fn timed<T>(costs: &mut Vec<Duration>, work: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let done = work();
    costs.push(start.elapsed());
    done
}

fn pod(path: &Path, round: usize, addresses: &[&str]) -> PodNetwork {
    PodNetwork {
        pod_id: format!("{round:016x}"),
        name: "web".to_owned(),
        namespace: "default".to_owned(),
        uid: "1".to_owned(),
        netns: path.to_owned(),
        addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
        capabilities: CapabilityArgs::default(),
    }
}

fn built_in(name: &str, subnets: &[&str]) -> Network {
    let subnets: Vec<_> = subnets.iter().map(|subnet| subnet.parse().unwrap()).collect();
    Network::Bridge(Bridge::new(BridgeConfig::new(name, &subnets, None, true).unwrap()))
}

fn executed(lab: &Lab) -> Network {
    let conf = lab.path().join("net.d");
    fs::create_dir(&conf).unwrap();
    let text = format!(
        r#"{{"cniVersion":"1.0.0","name":"test","type":"bridge","bridge":"cni0","isGateway":true,
            "ipam":{{"type":"host-local","dataDir":"{}","subnet":"10.77.0.0/24"}}}}"#,
        lab.path().join("leases").display()
    );
    fs::write(conf.join("10.conf"), text).unwrap();
    Network::Cni(CniNetwork::load(&conf, &["/usr/lib/cni".into()], Duration::from_secs(20)).unwrap())
}

#[test]
fn the_built_in_bridge_is_cheaper_than_executed_plugins() {
    isolated(|lab| {
        let both = built_in("both0", &["10.88.0.0/24", "fd00:88::/64"]);
        let v4 = built_in("four0", &["10.89.0.0/24"]);
        let mut cases = [
            Case::new("built-in, both families", both, &["10.88.0.5/24", "fd00:88::5/64"]),
            Case::new("built-in, IPv4", v4, &["10.89.0.5/24"]),
            Case::new("executed bridge and host-local, IPv4", executed(lab), &[]),
        ];
        // By turns, so that whatever else the machine does falls on all alike.
        for round in 0..ROUNDS {
            cases.iter_mut().for_each(|case| case.round(lab, round));
        }
        let [both, v4, executed] = cases.each_mut().map(Case::report);
        for (attach, detach) in [both, v4] {
            assert!(attach * 2 < executed.0, "attach {attach:?}, executed {:?}", executed.0);
            assert!(detach * 2 < executed.1, "detach {detach:?}, executed {:?}", executed.1);
        }
    });
}
