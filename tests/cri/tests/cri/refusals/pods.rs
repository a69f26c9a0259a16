//! Pods that cannot be.

use cleat_cri_api::v1::*;
use cleat_tests_cri::{Node, check, configs};
use tonic::Code;

use super::ground::{Case, Ground};

/// Requests for pods that cannot be.
const REFUSED: &[Case] = &[
    Case {
        what: "no configuration",
        request: |ground| ground.node.cri().run_pod_sandbox(RunPodSandboxRequest::default()).map(drop),
        code: Code::InvalidArgument,
        words: &["config"],
    },
    Case {
        what: "no metadata",
        request: |ground| ground.run_pod(|config| config.metadata = None),
        code: Code::InvalidArgument,
        words: &["metadata"],
    },
    Case {
        what: "a sysctl of the host",
        request: |ground| {
            ground.run_pod(|config| {
                let sysctls = [("vm.swappiness".to_owned(), "1".to_owned())];
                configs::pod_linux(config).sysctls = sysctls.into();
            })
        },
        code: Code::InvalidArgument,
        words: &["sysctl", "vm.swappiness"],
    },
    Case {
        what: "a sysctl whose value the kernel refuses",
        request: |ground| {
            ground.run_pod(|config| {
                let sysctls = [("net.ipv4.ip_forward".to_owned(), "much".to_owned())];
                configs::pod_linux(config).sysctls = sysctls.into();
            })
        },
        code: Code::Internal,
        words: &["pod", "ip_forward", "nvalid argument"],
    },
    Case {
        what: "an unknown runtime handler",
        request: |ground| {
            let config = Some(configs::pod("refused"));
            let request = RunPodSandboxRequest { config, runtime_handler: "no-such-handler".to_owned() };
            ground.node.cri().run_pod_sandbox(request).map(drop)
        },
        code: Code::InvalidArgument,
        words: &["no-such-handler"],
    },
    Case {
        what: "a port of an address of the host that cannot lead to a pod",
        request: |ground| {
            ground.run_pod(|config| {
                let (host_port, container_port) = (12_345, 80);
                config.port_mappings = vec![PortMapping {
                    host_port,
                    container_port,
                    host_ip: "::1".to_owned(),
                    ..Default::default()
                }];
            })
        },
        code: Code::Internal,
        words: &["host port 12345", "::1"],
    },
    Case {
        what: "a host name with a line break",
        request: |ground| ground.run_pod(|config| config.hostname = "a\nb".to_owned()),
        code: Code::InvalidArgument,
        words: &["hostname"],
    },
    Case {
        what: "a name server that is none",
        request: |ground| {
            ground.run_pod(|config| {
                let servers = vec!["192.0.2.1\nsearch evil".to_owned()];
                config.dns_config = Some(DnsConfig { servers, ..Default::default() });
            })
        },
        code: Code::InvalidArgument,
        words: &["dns"],
    },
    Case {
        what: "a cgroup parent that leads elsewhere",
        request: |ground| {
            ground.run_pod(|config| configs::pod_linux(config).cgroup_parent = "/a/../../b".to_owned())
        },
        code: Code::InvalidArgument,
        words: &["cgroup"],
    },
];

#[test]
fn privileged_pods_that_cannot_be_are_refused() {
    check(Node::builder(), |node| Ground::new(node)?.refuses(REFUSED));
}
