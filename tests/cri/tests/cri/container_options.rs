//! What a container can be asked to be: its program, its environment, its user, its streams.

use anyhow::{Context, Result};
use cleat_cri_api::v1::*;
use cleat_tests_cri::{BUSYBOX, HTTPD, Node, check, configs};

/// What a case changes.
type Change = fn(&mut ContainerConfig);

/// Runs each script in a container changed in its way and compares what it writes.
fn compare(node: &Node, cases: &[(&str, Change, &str, &str)]) -> Result<()> {
    let pod = node.run_pod(configs::pod("cases"))?;
    for (number, (what, change, script, expected)) in cases.iter().enumerate() {
        let mut config = configs::script(&format!("case-{number}"), script);
        change(&mut config);
        let output = node.output(&pod, &config).with_context(|| format!("case {what:?}"))?;
        assert_eq!(output, *expected, "case {what:?}");
    }
    Ok(())
}

#[test]
fn privileged_command_and_arguments_replace_the_images() {
    check(Node::builder().images(&[BUSYBOX, HTTPD]), |node| {
        let pod = node.run_pod(configs::pod("commands"))?;
        let words = |words: &[&str]| words.iter().map(ToString::to_string).collect::<Vec<_>>();
        // busybox has the command `sh`, httpd the entrypoint `/bin/serve`, a script.
        let cases: &[(&str, &[&str], &[&str], &str)] = &[
            (BUSYBOX, &[], &["sleep", "1000"], "sleep 1000 "),
            (BUSYBOX, &["sleep"], &["1001"], "sleep 1001 "),
            (BUSYBOX, &["sleep", "1002"], &[], "sleep 1002 "),
            (HTTPD, &[], &[], "/bin/sh /bin/serve "),
            (HTTPD, &[], &["more"], "/bin/sh /bin/serve more "),
            (HTTPD, &["sleep", "1003"], &[], "sleep 1003 "),
        ];
        for (number, (image, command, args, expected)) in cases.iter().enumerate() {
            let mut config = configs::container(&format!("case-{number}"), image);
            (config.command, config.args) = (words(command), words(args));
            // Each listens on a port of its own: they share a network.
            config.envs = vec![configs::env("PORT", &format!("{}", 8000 + number))];
            configs::namespaces(&mut config).pid = NamespaceMode::Container.into();
            let id = node.start(&pod, &config)?;
            let line = node.cri().shell(&id, "tr '\\0' ' ' </proc/1/cmdline")?;
            assert_eq!(line, *expected, "{image} {command:?} {args:?}");
        }
        Ok(())
    });
}

#[test]
fn privileged_environment_and_working_directory() {
    check(Node::builder().images(&[BUSYBOX, HTTPD]), |node| {
        let image: Change = |config| config.image = configs::container("", HTTPD).image;
        compare(
            node,
            &[
                ("of the image", image, "echo $PORT; pwd", "80\n/www"),
                (
                    "of the request",
                    |config| {
                        config.image = configs::container("", HTTPD).image;
                        config.envs = vec![
                            configs::env("PORT", "81"),
                            configs::env("EMPTY", ""),
                            configs::env("SPACED", "a b=c"),
                        ];
                        config.working_dir = "/etc".to_owned();
                    },
                    "echo \"$PORT [${EMPTY-unset}] [$SPACED]\"; pwd",
                    "81 [] [a b=c]\n/etc",
                ),
                (
                    "a folder that is not there",
                    |config| config.working_dir = "/made/here".to_owned(),
                    "pwd",
                    "/made/here",
                ),
                ("a terminal's kind", |config| config.tty = true, "echo $TERM", "xterm\r"),
                ("no terminal", |_| {}, "echo ${TERM-unset} $HOME", "unset /root"),
            ],
        )
    });
}

fn merge_or_strict(config: &mut ContainerConfig, policy: SupplementalGroupsPolicy) {
    let security = configs::security(config);
    security.supplemental_groups = vec![4242];
    security.supplemental_groups_policy = policy.into();
}

#[test]
fn privileged_users_and_groups() {
    let ids = "echo $(id -u) $(id -g) $(id -G)";
    check(Node::builder(), |node| {
        compare(
            node,
            &[
                ("the image's", |_| {}, ids, "0 0 0 10"),
                (
                    "a number nobody has",
                    |config| configs::security(config).run_as_user = Some(Int64Value { value: 1234 }),
                    ids,
                    "1234 0 0",
                ),
                (
                    "a number of the image's passwd",
                    |config| configs::security(config).run_as_user = Some(Int64Value { value: 33 }),
                    ids,
                    "33 33 33",
                ),
                (
                    "a name",
                    |config| configs::security(config).run_as_username = "www-data".to_owned(),
                    ids,
                    "33 33 33",
                ),
                (
                    "user and group",
                    |config| {
                        configs::security(config).run_as_user = Some(Int64Value { value: 1000 });
                        configs::security(config).run_as_group = Some(Int64Value { value: 2000 });
                    },
                    ids,
                    "1000 2000 2000",
                ),
                (
                    "groups of the request and of the image",
                    |config| merge_or_strict(config, SupplementalGroupsPolicy::Merge),
                    ids,
                    "0 0 0 10 4242",
                ),
                (
                    "groups of the request only",
                    |config| merge_or_strict(config, SupplementalGroupsPolicy::Strict),
                    ids,
                    "0 0 0 4242",
                ),
            ],
        )
    });
}

#[test]
fn privileged_the_status_tells_the_user_labels_and_command() {
    check(Node::builder(), |node| {
        let pod = node.run_pod(configs::pod("told"))?;
        let mut config = configs::sleeper("told");
        configs::security(&mut config).run_as_user = Some(Int64Value { value: 1000 });
        configs::security(&mut config).run_as_group = Some(Int64Value { value: 2000 });
        configs::security(&mut config).supplemental_groups = vec![4242];
        config.labels = [("app".to_owned(), "told".to_owned())].into();
        config.annotations = [("note".to_owned(), "kept".to_owned())].into();
        let id = node.start(&pod, &config)?;
        let status = node.cri().container(&id)?;
        let user = status.user.clone().and_then(|user| user.linux).context("user")?;
        assert_eq!((user.uid, user.gid), (1000, 2000));
        assert!(user.supplemental_groups.contains(&4242), "{user:?}");
        assert_eq!((&status.labels, &status.annotations), (&config.labels, &config.annotations));
        assert_eq!(status.metadata, config.metadata);
        assert_eq!(status.log_path, format!("{}/told.log", pod.config.log_directory));
        assert!(status.created_at > 0 && status.started_at >= status.created_at, "{status:?}");
        assert_eq!((status.finished_at, status.exit_code, &*status.reason), (0, 0, ""));
        let image = node.cri().image(BUSYBOX)?.context("image")?;
        assert_eq!(status.image_id, image.id);
        assert!(image.repo_digests.contains(&status.image_ref), "{} in {image:?}", status.image_ref);
        Ok(())
    });
}

#[test]
fn privileged_a_terminal_is_one_for_all_three_streams() {
    check(Node::builder(), |node| {
        let pod = node.run_pod(configs::pod("tty"))?;
        let mut config = configs::script("tty", "tty; test -t 0 && test -t 1 && test -t 2 && echo all >&2");
        config.tty = true;
        let finished = node.run(&pod, &config)?;
        assert_eq!(finished.stdout(), "/dev/pts/0\r\nall\r");
        assert_eq!(finished.stderr(), "");
        Ok(())
    });
}

#[test]
fn privileged_standard_input_is_open_where_asked_for() {
    check(Node::builder(), |node| {
        let pod = node.run_pod(configs::pod("stdin"))?;
        let mut config = configs::script("open", "cat; echo ended");
        config.stdin = true;
        let open = node.start(&pod, &config)?;
        let closed =
            node.run(&pod, &configs::script("closed", "readlink /proc/self/fd/0; cat; echo ended"))?;
        assert_eq!(closed.stdout(), "/dev/null\nended");
        assert_eq!(node.cri().container(&open)?.state(), ContainerState::ContainerRunning);
        let parent =
            "for pid in /proc/[0-9]*; do [ \"$(cat $pid/comm)\" = cat ] && readlink $pid/fd/0; done; true";
        let found = node.cri().shell(&open, parent)?;
        assert!(found.lines().any(|line| line.starts_with("pipe:")), "{found:?}");
        Ok(())
    });
}

#[test]
fn privileged_the_stop_signal_is_the_requests_else_the_images() {
    check(Node::builder().images(&[BUSYBOX, HTTPD]), |node| {
        let pod = node.run_pod(configs::pod("signals"))?;
        let traps =
            "trap 'exit 7' USR1; trap 'exit 8' TERM; echo up; while true; do sleep 3600 & wait $!; done";
        let stop = |config: &ContainerConfig| -> Result<ContainerStatus> {
            let id = node.start(&pod, config)?;
            node.await_log(&id, " up")?;
            node.cri().stop(&id, 20)?;
            Ok(node.cri().container(&id)?)
        };
        let mut config = configs::script("usr1", traps);
        config.stop_signal = Signal::Sigusr1.into();
        let status = stop(&config)?;
        assert_eq!((status.exit_code, status.stop_signal()), (7, Signal::Sigusr1));
        let status = stop(&configs::script("term", traps))?;
        assert_eq!((status.exit_code, status.stop_signal()), (8, Signal::Sigterm));
        Ok(())
    });
}
