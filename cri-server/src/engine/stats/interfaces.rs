//! The interfaces of a pod and their counters.

use std::fs;

use super::figures::Interface;
use crate::engine::pod::Pod;

/// The pod's interfaces as its pause process, or the process `alone` of a group without one, sees them;
/// `/proc/<pid>/net/dev` needs no change of namespace.
pub(in crate::engine) fn interfaces(pod: &Pod, alone: Option<i32>) -> Vec<Interface> {
    let pid = pod.pause_pid().or(alone).filter(|_| !pod.addresses.is_empty());
    let Some(pid) = pid else { return Vec::new() };
    let text = fs::read_to_string(format!("/proc/{pid}/net/dev")).unwrap_or_default();
    let mut interfaces = parse_interfaces(&text);
    interfaces.sort_by_key(|interface| interface.name != cleat_network::POD_INTERFACE);
    interfaces
}

/// The columns of proc(5)'s `/proc/net/dev`: eight of received, eight of sent; bytes, packets, errors, ...
fn parse_interfaces(text: &str) -> Vec<Interface> {
    let parse = |line: &str| {
        let (name, counters) = line.split_once(':')?;
        let counters: Vec<u64> =
            counters.split_whitespace().map(|field| field.parse().unwrap_or_default()).collect();
        let [received, sent] = [counters.get(..4)?, counters.get(8..12)?];
        let interface = Interface {
            name: name.trim().to_owned(),
            rx_bytes: received[0],
            rx_packets: received[1],
            rx_errors: received[2],
            rx_dropped: received[3],
            tx_bytes: sent[0],
            tx_packets: sent[1],
            tx_errors: sent[2],
            tx_dropped: sent[3],
        };
        (interface.name != "lo").then_some(interface)
    };
    text.lines().filter_map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_found_in_their_columns() {
        let text = "Inter-|   Receive                                                |  Transmit\n \
                    face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop\n    \
                    lo:     100       1    0    0    0     0          0         0      100       1    0    0 0 0 0 0\n  \
                    eth0:    1234      10    2    4    0     0          0         0      567       8    3    5 0 0 0 0\n";
        let expected = Interface {
            name: "eth0".into(),
            rx_bytes: 1234,
            rx_packets: 10,
            rx_errors: 2,
            rx_dropped: 4,
            tx_bytes: 567,
            tx_packets: 8,
            tx_errors: 3,
            tx_dropped: 5,
        };
        assert_eq!(parse_interfaces(text), [expected]);
    }
}
