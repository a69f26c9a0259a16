//! Figures: of containers, pods, and file systems.
//!
//! `usage_nano_cores` stays unset: the kubelet and crictl compute it from two samples of their own.

use cleat_cri_api::v1::{
    ContainerStats, CpuUsage, FilesystemIdentifier, FilesystemUsage, IoUsage, LinuxPodSandboxStats,
    MemoryUsage, NetworkInterfaceUsage, NetworkUsage, PodSandboxStats, ProcessUsage, PsiData, PsiStats,
    SwapUsage, UInt64Value,
};

use super::{container_status, mount, pod_status};
use crate::engine::container::Container;
use crate::engine::pod::Pod;
use crate::engine::stats;

/// A container's figures.
pub(in crate::cri) fn container(container: &Container, figures: &stats::ContainerStats) -> ContainerStats {
    let at = figures.at_ns;
    ContainerStats {
        attributes: Some(container_status::attributes(container)),
        cpu: figures.cpu.as_ref().map(|figures| cpu(at, figures)),
        memory: figures.memory.as_ref().map(|figures| memory(at, figures)),
        writable_layer: figures.writable.as_ref().map(|writable| {
            filesystem(writable.at_ns, mount::text(&writable.mountpoint), writable.bytes, writable.inodes)
        }),
        swap: figures.swap.as_ref().map(|figures| swap(at, figures)),
        io: figures.io_pressure.as_ref().map(|pressure| io(at, pressure)),
    }
}

/// A pod's figures with those of its containers.
pub(in crate::cri) fn pod(pod: &Pod, figures: &stats::PodStats) -> PodSandboxStats {
    let at = figures.at_ns;
    let linux = LinuxPodSandboxStats {
        cpu: figures.cpu.as_ref().map(|figures| cpu(at, figures)),
        memory: figures.memory.as_ref().map(|figures| memory(at, figures)),
        network: network(at, &figures.interfaces),
        process: figures
            .process_count
            .map(|count| ProcessUsage { timestamp: at, process_count: number(count) }),
        containers: figures.containers.iter().map(|(of, figures)| container(of, figures)).collect(),
        io: figures.io_pressure.as_ref().map(|pressure| io(at, pressure)),
    };
    PodSandboxStats { attributes: Some(pod_status::attributes(pod)), linux: Some(linux), windows: None }
}

/// Space taken on a file system.
pub(in crate::cri) fn filesystem(at_ns: i64, mountpoint: String, bytes: u64, inodes: u64) -> FilesystemUsage {
    FilesystemUsage {
        timestamp: at_ns,
        fs_id: Some(FilesystemIdentifier { mountpoint }),
        used_bytes: number(bytes),
        inodes_used: number(inodes),
    }
}

fn number(value: u64) -> Option<UInt64Value> {
    Some(UInt64Value { value })
}

fn cpu(at_ns: i64, cpu: &stats::Cpu) -> CpuUsage {
    CpuUsage {
        timestamp: at_ns,
        usage_core_nano_seconds: number(cpu.usage_ns),
        usage_nano_cores: None,
        psi: cpu.pressure.as_ref().map(psi),
    }
}

fn memory(at_ns: i64, memory: &stats::Memory) -> MemoryUsage {
    MemoryUsage {
        timestamp: at_ns,
        working_set_bytes: number(memory.working_set_bytes),
        available_bytes: memory.available_bytes.and_then(number),
        usage_bytes: number(memory.usage_bytes),
        rss_bytes: number(memory.rss_bytes),
        page_faults: number(memory.page_faults),
        major_page_faults: number(memory.major_page_faults),
        psi: memory.pressure.as_ref().map(psi),
    }
}

fn swap(at_ns: i64, swap: &stats::Swap) -> SwapUsage {
    SwapUsage {
        timestamp: at_ns,
        swap_available_bytes: swap.available_bytes.and_then(number),
        swap_usage_bytes: number(swap.usage_bytes),
    }
}

fn io(at_ns: i64, pressure: &stats::Pressure) -> IoUsage {
    IoUsage { timestamp: at_ns, psi: Some(psi(pressure)) }
}

/// The engine lists the default interface first; a pod on the host's network has none of its own.
fn network(at_ns: i64, interfaces: &[stats::Interface]) -> Option<NetworkUsage> {
    let all = || interfaces.iter().map(interface);
    let default_interface = all().next()?;
    Some(NetworkUsage {
        timestamp: at_ns,
        default_interface: Some(default_interface),
        interfaces: all().skip(1).collect(),
    })
}

fn interface(interface: &stats::Interface) -> NetworkInterfaceUsage {
    NetworkInterfaceUsage {
        name: interface.name.clone(),
        rx_bytes: number(interface.rx_bytes),
        rx_errors: number(interface.rx_errors),
        tx_bytes: number(interface.tx_bytes),
        tx_errors: number(interface.tx_errors),
    }
}

fn psi(pressure: &stats::Pressure) -> PsiStats {
    PsiStats { full: pressure.full.as_ref().map(line), some: Some(line(&pressure.some)) }
}

/// The kernel counts microseconds stalled, the CRI nanoseconds.
fn line(line: &stats::PressureLine) -> PsiData {
    PsiData {
        total: line.total_us.saturating_mul(1_000),
        avg10: line.avg10,
        avg60: line.avg60,
        avg300: line.avg300,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::cri::translate::samples;

    fn pressure(total_us: u64) -> stats::Pressure {
        let some = stats::PressureLine { avg10: 1.5, avg60: 2.5, avg300: 3.5, total_us };
        stats::Pressure { some, full: None }
    }

    fn figures() -> stats::ContainerStats {
        stats::ContainerStats {
            at_ns: 77,
            cpu: Some(stats::Cpu { usage_ns: 1, pressure: Some(pressure(5)) }),
            memory: Some(stats::Memory {
                usage_bytes: 2,
                working_set_bytes: 3,
                available_bytes: None,
                rss_bytes: 4,
                page_faults: 5,
                major_page_faults: 6,
                pressure: None,
            }),
            swap: Some(stats::Swap { usage_bytes: 7, available_bytes: Some(8) }),
            io_pressure: Some(pressure(u64::MAX)),
            pids: Some(9),
            writable: Some(stats::Filesystem {
                at_ns: 4,
                bytes: 10,
                inodes: 11,
                mountpoint: "/var/lib/x".into(),
            }),
        }
    }

    fn interface_named(name: &str) -> stats::Interface {
        stats::Interface {
            name: name.into(),
            rx_bytes: 1,
            rx_errors: 2,
            tx_bytes: 3,
            tx_errors: 4,
            ..stats::Interface::default()
        }
    }

    #[test]
    fn a_running_container() {
        let stats = container(&samples::container(), &figures());
        assert_eq!(stats.attributes.unwrap().metadata.unwrap().name, "app");
        let cpu = stats.cpu.unwrap();
        assert_eq!((cpu.timestamp, cpu.usage_core_nano_seconds, cpu.usage_nano_cores), (77, number(1), None));
        let psi = cpu.psi.unwrap();
        assert_eq!(psi.some, Some(PsiData { total: 5_000, avg10: 1.5, avg60: 2.5, avg300: 3.5 }));
        assert_eq!(psi.full, None);
        let memory = stats.memory.unwrap();
        assert_eq!((memory.usage_bytes, memory.working_set_bytes), (number(2), number(3)));
        assert_eq!((memory.available_bytes, memory.rss_bytes), (None, number(4)));
        assert_eq!((memory.page_faults, memory.major_page_faults), (number(5), number(6)));
        let swap = stats.swap.unwrap();
        assert_eq!((swap.swap_usage_bytes, swap.swap_available_bytes), (number(7), number(8)));
        assert_eq!(stats.io.unwrap().psi.unwrap().some.unwrap().total, u64::MAX);
        let layer = stats.writable_layer.unwrap();
        assert_eq!(layer.timestamp, 4, "when it was measured, which is not when it was asked for");
        assert_eq!((layer.used_bytes, layer.inodes_used), (number(10), number(11)));
        assert_eq!(layer.fs_id.unwrap().mountpoint, "/var/lib/x");
    }

    #[test]
    fn what_is_not_known_is_absent_and_not_zero() {
        let none =
            stats::ContainerStats { cpu: None, memory: None, swap: None, io_pressure: None, ..figures() };
        let stats = container(&samples::container(), &stats::ContainerStats { writable: None, ..none });
        assert!(stats.cpu.is_none() && stats.memory.is_none() && stats.swap.is_none());
        assert!(stats.io.is_none() && stats.writable_layer.is_none() && stats.attributes.is_some());
    }

    #[test]
    fn a_pod() {
        let mut figures = stats::PodStats {
            at_ns: 78,
            cpu: figures().cpu,
            memory: figures().memory,
            io_pressure: None,
            process_count: Some(3),
            interfaces: vec![interface_named("eth0"), interface_named("net1")],
            containers: vec![(Arc::new(samples::container()), figures())],
        };
        let linux = pod(&samples::pod(), &figures).linux.unwrap();
        assert_eq!(linux.process.unwrap().process_count, number(3));
        assert_eq!((linux.containers.len(), linux.cpu.unwrap().timestamp), (1, 78));
        let network = linux.network.unwrap();
        assert_eq!(network.default_interface.unwrap().name, "eth0");
        assert_eq!((network.interfaces.len(), network.interfaces[0].tx_errors), (1, number(4)));
        figures.interfaces.clear();
        assert_eq!(pod(&samples::pod(), &figures).linux.unwrap().network, None);
    }
}
