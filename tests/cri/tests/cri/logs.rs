//! Container logs.

use std::fs;
use std::path::PathBuf;

use anyhow::Context;
use cleat_cri_api::v1::*;
use cleat_tests_cri::{Line, Node, Stream, check, configs, parse, text};

#[test]
fn privileged_both_streams_are_logged_with_times_that_never_go_back() {
    check(Node::builder(), |node| {
        let pod = node.run_pod(configs::pod("streams"))?;
        let script = "echo one; echo two >&2; echo; printf 'tab\\there\\n'; printf 'no end'";
        let finished = node.run(&pod, &configs::script("streams", script))?;
        assert_eq!(text(&finished.lines, Stream::Stdout), "one\n\ntab\there\nno end");
        assert_eq!(text(&finished.lines, Stream::Stderr), "two\n");
        let last = finished.lines.last().context("a line")?;
        assert!(last.partial, "{last:?} ended without a line break");
        let times: Vec<&String> = finished
            .lines
            .iter()
            .filter(|line| line.stream == Stream::Stdout)
            .map(|line| &line.time)
            .collect();
        assert!(times.is_sorted(), "{times:?}");
        Ok(())
    });
}

#[test]
fn privileged_long_lines_are_cut_and_tagged_and_no_byte_is_lost() {
    check(Node::builder(), |node| {
        let pod = node.run_pod(configs::pod("long"))?;
        let script =
            "head -c 100000 /dev/zero | tr '\\0' x; echo; echo short; seq 1 20000 | tr '\\n' ' '; echo";
        let finished = node.run(&pod, &configs::script("long", script))?;
        let numbers: String = (1..=20_000).map(|number| format!("{number} ")).collect();
        let expected = format!("{}\nshort\n{numbers}\n", "x".repeat(100_000));
        assert!(text(&finished.lines, Stream::Stdout) == expected, "the log is not what was written");
        let whole = finished.lines.iter().filter(|line| !line.partial).count();
        assert_eq!(whole, 3);
        let partial: Vec<&Line> = finished.lines.iter().filter(|line| line.partial).collect();
        assert!(
            !partial.is_empty() && partial.iter().all(|line| line.text.len() <= 16 << 10),
            "{}",
            partial.len()
        );
        Ok(())
    });
}

#[test]
fn privileged_no_line_of_many_is_lost() {
    check(Node::builder(), |node| {
        let pod = node.run_pod(configs::pod("many"))?;
        let finished = node.run(&pod, &configs::script("many", "seq 1 200000"))?;
        let numbers = finished.lines.iter().filter(|line| !line.partial);
        assert!(
            numbers.map(|line| &*line.text).eq((1..=200_000).map(|each| each.to_string())),
            "lines differ"
        );
        Ok(())
    });
}

#[test]
fn privileged_a_log_goes_on_in_a_new_file_after_a_rotation() {
    check(Node::builder(), |node| {
        let pod = node.run_pod(configs::pod("rotated"))?;
        let script = "trap 'exit 0' TERM; n=0; while true; do n=$((n+1)); echo line $n; sleep 0.01; done";
        let id = node.start(&pod, &configs::script("rotated", script))?;
        let path = PathBuf::from(node.cri().container(&id)?.log_path);
        let old = path.with_extension("log.1");
        node.await_log(&id, "line 10")?;
        fs::rename(&path, &old).context("rotate")?;
        node.cri().reopen_container_log(ReopenContainerLogRequest { container_id: id.clone() })?;
        assert!(path.exists(), "the new file is there when the answer is");
        node.until("the new file has lines", || {
            let text = fs::read_to_string(&path).context("read the new log")?;
            Ok((text.lines().count() > 5).then_some(()))
        })?;
        node.cri().stop(&id, 10)?;
        let mut lines = parse(&fs::read_to_string(&old).context("old log")?)?;
        lines.extend(parse(&fs::read_to_string(&path).context("new log")?)?);
        let expected = (1..=lines.len()).map(|number| format!("line {number}"));
        assert!(
            lines.iter().map(|line| line.text.clone()).eq(expected),
            "lines are missing or doubled: {lines:#?}"
        );
        let refused = node.cri().reopen_container_log(ReopenContainerLogRequest { container_id: id });
        assert!(refused.is_err(), "a container that has ended has no log to reopen: {refused:?}");
        Ok(())
    });
}

#[test]
fn privileged_a_container_without_a_log_runs() {
    check(Node::builder(), |node| {
        let config = configs::pod("silent");
        let id = node.cri().run_pod(&config)?;
        let mut container = configs::script("silent", "seq 1 100000; exit 6");
        container.log_path = String::new();
        let container = node.cri().create(&id, &container, &config)?;
        node.cri().start(&container)?;
        let status = node.await_end(&container)?;
        assert_eq!((status.exit_code, &*status.log_path), (6, ""));
        Ok(())
    });
}
