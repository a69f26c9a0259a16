//! Programs that cannot run.

use anyhow::Context;
use cleat_cri_api::v1::*;
use cleat_tests_cri::{BUSYBOX, Node, check, configs};
use tonic::Code;

use super::ground::{Case, Ground};

#[test]
fn privileged_programs_that_cannot_run_fail_the_start() {
    let command = |name: &str, words: &[&str]| ContainerConfig {
        command: words.iter().map(ToString::to_string).collect(),
        ..configs::container(name, BUSYBOX)
    };
    check(Node::builder(), |node| {
        let ground = Ground::new(node)?;
        let before = node.snapshot()?;
        let mut missing_source = configs::sleeper("source");
        missing_source.mounts = vec![configs::mount(&node.folder().join("nowhere"), "/x")];
        let cases = [
            (
                "a missing program",
                command("missing", &["/no/such/program"]),
                "/no/such/program",
                "No such file",
            ),
            ("a name not in PATH", command("path", &["no-such-program"]), "no-such-program", "No such file"),
            (
                "a file that is no program",
                command("plain", &["/etc/passwd"]),
                "/etc/passwd",
                "ermission denied",
            ),
            ("a folder", command("folder", &["/etc"]), "/etc", "ermission denied"),
        ];
        for (what, config, object, cause) in cases {
            let status = ground.start(config).expect_err("it cannot start");
            let message = status.message();
            assert!(matches!(status.code(), Code::Internal | Code::InvalidArgument), "{what}: {status:?}");
            for word in ["execute", "container", object, cause] {
                assert!(message.contains(word), "{what}: no {word:?} in {message:?}");
            }
            ground.unchanged(&before).with_context(|| what.to_owned())?;
        }
        let status = ground.start(missing_source).expect_err("its source is missing");
        for word in ["container", "nowhere", "No such file"] {
            assert!(status.message().contains(word), "no {word:?} in {status:?}");
        }
        ground.unchanged(&before)
    });
}

/// Execs that cannot run.
const REFUSED: &[Case] = &[
    Case {
        what: "no command",
        request: |ground| ground.exec(&ground.running, &[]),
        code: Code::InvalidArgument,
        words: &["cmd"],
    },
    Case {
        what: "a missing program",
        request: |ground| ground.exec(&ground.running, &["/no/such/program"]),
        code: Code::Internal,
        words: &["exec", "container", "/no/such/program", "No such file"],
    },
    Case {
        what: "a file that is no program",
        request: |ground| ground.exec(&ground.running, &["/etc/passwd"]),
        code: Code::Internal,
        words: &["exec", "container", "/etc/passwd", "ermission denied"],
    },
];

#[test]
fn privileged_execs_that_cannot_run_are_refused() {
    check(Node::builder(), |node| Ground::new(node)?.refuses(REFUSED));
}
