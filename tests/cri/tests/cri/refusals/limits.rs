//! Nonsense for limits.

use cleat_cri_api::v1::*;
use cleat_tests_cri::{Node, check, configs};
use tonic::Code;

use super::ground::{Case, Ground};

/// Requests with limits that make no sense.
const REFUSED: &[Case] = &[
    Case {
        what: "a negative limit",
        request: |ground| {
            let mut config = configs::sleeper("x");
            configs::resources(&mut config).memory_limit_in_bytes = -5;
            ground.create(config)
        },
        code: Code::InvalidArgument,
        words: &["memory", "-5"],
    },
    Case {
        what: "words for processors",
        request: |ground| {
            let mut config = configs::sleeper("x");
            configs::resources(&mut config).cpuset_cpus = "first".to_owned();
            ground.create(config)
        },
        code: Code::InvalidArgument,
        words: &["cpu", "first"],
    },
    Case {
        what: "a processor this machine has not",
        request: |ground| {
            let mut config = configs::sleeper("x");
            configs::resources(&mut config).cpuset_cpus = "4000".to_owned();
            ground.start(config)
        },
        code: Code::Internal,
        words: &["container", "cpuset", "4000"],
    },
    Case {
        what: "an adjustment out of range",
        request: |ground| {
            let mut config = configs::sleeper("x");
            configs::resources(&mut config).oom_score_adj = 5000;
            ground.create(config)
        },
        code: Code::InvalidArgument,
        words: &["oom_score_adj", "5000"],
    },
    Case {
        what: "a change to a negative limit",
        request: |ground| {
            let memory_limit_in_bytes = -5;
            ground.update(
                &ground.running,
                LinuxContainerResources { memory_limit_in_bytes, ..Default::default() },
            )
        },
        code: Code::InvalidArgument,
        words: &["memory", "-5"],
    },
    Case {
        what: "a change below what is used",
        request: |ground| {
            let memory_limit_in_bytes = 4096;
            ground.update(
                &ground.running,
                LinuxContainerResources { memory_limit_in_bytes, ..Default::default() },
            )
        },
        code: Code::Internal,
        words: &["container", "memory"],
    },
];

#[test]
fn privileged_nonsense_limits_are_refused() {
    check(Node::builder(), |node| Ground::new(node)?.refuses(REFUSED));
}
