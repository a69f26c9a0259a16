//! Containers that cannot be.

use cleat_cri_api::v1::*;
use cleat_tests_cri::{Node, check, configs};
use tonic::Code;

use super::ground::{Case, Ground, NOBODY};

/// Requests for containers that cannot be.
const REFUSED: &[Case] = &[
    Case {
        what: "no metadata",
        request: |ground| ground.create(ContainerConfig { metadata: None, ..configs::sleeper("x") }),
        code: Code::InvalidArgument,
        words: &["metadata"],
    },
    Case {
        what: "no image",
        request: |ground| ground.create(ContainerConfig { image: None, ..configs::sleeper("x") }),
        code: Code::InvalidArgument,
        words: &["image"],
    },
    Case {
        what: "an image that is not there",
        request: |ground| ground.create(configs::container("x", "registry.k8s.io/cleat-test/absent:1")),
        code: Code::NotFound,
        words: &["image", "cleat-test/absent:1"],
    },
    Case {
        what: "a user nobody knows",
        request: |ground| {
            let mut config = configs::sleeper("x");
            configs::security(&mut config).run_as_username = "nosuch".to_owned();
            ground.create(config)
        },
        code: Code::InvalidArgument,
        words: &["user", "nosuch"],
    },
    Case {
        what: "a group without a user",
        request: |ground| {
            let mut config = configs::sleeper("x");
            configs::security(&mut config).run_as_group = Some(Int64Value { value: 7 });
            ground.create(config)
        },
        code: Code::InvalidArgument,
        words: &["group", "7"],
    },
    Case {
        what: "a user beyond all numbers",
        request: |ground| {
            let mut config = configs::sleeper("x");
            configs::security(&mut config).run_as_user = Some(Int64Value { value: 1 << 32 });
            ground.create(config)
        },
        code: Code::InvalidArgument,
        words: &["4294967296"],
    },
    Case {
        what: "an unknown capability",
        request: |ground| {
            let mut config = configs::sleeper("x");
            configs::capabilities(&mut config).add_capabilities = vec!["FLY".to_owned()];
            ground.create(config)
        },
        code: Code::InvalidArgument,
        words: &["capability", "FLY"],
    },
    Case {
        what: "a privileged container in another pod",
        request: |ground| {
            let mut config = configs::sleeper("x");
            configs::security(&mut config).privileged = true;
            ground.create(config)
        },
        code: Code::InvalidArgument,
        words: &["privileged", "pod"],
    },
    Case {
        what: "a seccomp profile that is not there",
        request: |ground| {
            let mut config = configs::sleeper("x");
            let kind = security_profile::ProfileType::Localhost;
            configs::security(&mut config).seccomp = Some(configs::profile(kind, "/nowhere/profile.json"));
            ground.create(config)
        },
        code: Code::InvalidArgument,
        words: &["seccomp", "/nowhere/profile.json"],
    },
    Case {
        what: "a device that is not there",
        request: |ground| {
            let mut config = configs::sleeper("x");
            let (host_path, container_path) = ("/dev/nosuch".to_owned(), "/dev/x".to_owned());
            config.devices = vec![Device { host_path, container_path, permissions: "rw".to_owned() }];
            ground.create(config)
        },
        code: Code::InvalidArgument,
        words: &["device", "/dev/nosuch"],
    },
    Case {
        what: "a mount at a relative place",
        request: |ground| {
            let mut config = configs::sleeper("x");
            config.mounts = vec![configs::mount(ground.node.folder(), "relative")];
            ground.create(config)
        },
        code: Code::InvalidArgument,
        words: &["mount", "relative"],
    },
    Case {
        what: "a process namespace of nobody",
        request: |ground| {
            let mut config = configs::sleeper("x");
            configs::namespaces(&mut config).pid = NamespaceMode::Target.into();
            configs::namespaces(&mut config).target_id = NOBODY.to_owned();
            ground.create(config)
        },
        code: Code::NotFound,
        words: &[NOBODY],
    },
    Case {
        what: "a log path that leads elsewhere",
        request: |ground| {
            ground.create(ContainerConfig { log_path: "../../x.log".to_owned(), ..configs::sleeper("x") })
        },
        code: Code::InvalidArgument,
        words: &["log"],
    },
];

#[test]
fn privileged_containers_that_cannot_be_are_refused() {
    check(Node::builder(), |node| Ground::new(node)?.refuses(REFUSED));
}
