//! Unknown objects and wrong states.

use cleat_cri_api::v1::*;
use cleat_tests_cri::{Node, check, configs};
use tonic::Code;

use super::ground::{Case, Ground, NOBODY};

/// Requests for what is not there or not in the state for it.
const REFUSED: &[Case] = &[
    Case {
        what: "the status of an unknown pod",
        request: |ground| ground.node.cri().pod_status(NOBODY).map(drop),
        code: Code::NotFound,
        words: &["pod", NOBODY],
    },
    Case {
        what: "the status of an unknown container",
        request: |ground| ground.node.cri().container(NOBODY).map(drop),
        code: Code::NotFound,
        words: &["container", NOBODY],
    },
    Case {
        what: "creating in an unknown pod",
        request: |ground| {
            ground.node.cri().create(NOBODY, &configs::sleeper("x"), &ground.pod.config).map(drop)
        },
        code: Code::NotFound,
        words: &["pod", NOBODY],
    },
    Case {
        what: "creating in a stopped pod",
        request: |ground| {
            let pod = &ground.stopped_pod;
            ground.node.cri().create(&pod.id, &configs::sleeper("x"), &pod.config).map(drop)
        },
        code: Code::FailedPrecondition,
        words: &["create", "pod"],
    },
    Case {
        what: "starting an unknown container",
        request: |ground| ground.node.cri().start(NOBODY),
        code: Code::NotFound,
        words: &["container", NOBODY],
    },
    Case {
        what: "starting twice",
        request: |ground| ground.node.cri().start(&ground.running),
        code: Code::FailedPrecondition,
        words: &["start", "container", "running"],
    },
    Case {
        what: "starting what has ended",
        request: |ground| ground.node.cri().start(&ground.exited),
        code: Code::FailedPrecondition,
        words: &["start", "container", "exited"],
    },
    Case {
        what: "exec in an unknown container",
        request: |ground| ground.exec(NOBODY, &["true"]),
        code: Code::NotFound,
        words: &["container", NOBODY],
    },
    Case {
        what: "exec in a container that was not started",
        request: |ground| ground.exec(&ground.created, &["true"]),
        code: Code::FailedPrecondition,
        words: &["exec", "container", "created"],
    },
    Case {
        what: "exec in a container that has ended",
        request: |ground| ground.exec(&ground.exited, &["true"]),
        code: Code::FailedPrecondition,
        words: &["exec", "container", "exited"],
    },
    Case {
        what: "changing the limits of an unknown container",
        request: |ground| {
            ground.update(NOBODY, LinuxContainerResources { cpu_shares: 2, ..Default::default() })
        },
        code: Code::NotFound,
        words: &["container", NOBODY],
    },
    Case {
        what: "statistics of an unknown container",
        request: |ground| {
            let request = ContainerStatsRequest { container_id: NOBODY.to_owned() };
            ground.node.cri().container_stats(request).map(drop)
        },
        code: Code::NotFound,
        words: &["container", NOBODY],
    },
    Case {
        what: "reopening the log of an unknown container",
        request: |ground| {
            let request = ReopenContainerLogRequest { container_id: NOBODY.to_owned() };
            ground.node.cri().reopen_container_log(request).map(drop)
        },
        code: Code::NotFound,
        words: &["container", NOBODY],
    },
];

#[test]
fn privileged_unknown_objects_and_wrong_states_are_refused() {
    check(Node::builder(), |node| Ground::new(node)?.refuses(REFUSED));
}
