//! The daemon's own figures, as Prometheus reads them.

use anyhow::{Result, ensure};
use cleat_tests_cri::{Node, check, configs};

const ADDRESS: &str = "127.0.0.1:9537";

fn scrape(node: &Node) -> Result<String> {
    node.cleat().world().shell(&format!("curl --max-time 10 -sSf http://{ADDRESS}/metrics"))
}

/// The value behind a series' name and labels; none where the series is absent.
fn value(text: &str, series: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
}

#[test]
fn privileged_prometheus_reads_what_was_done_and_what_is_there() {
    check(Node::builder().settings(&format!("metrics.listen = \"{ADDRESS}\"\n")), |node| {
        let pod = node.run_pod(configs::pod("counted"))?;
        let id = node.start(&pod, &configs::script("one", "exec sleep 4321"))?;
        ensure!(node.cri().start("nosuch").is_err());
        let text = scrape(node)?;
        let is = |series: &str, expected: f64| {
            assert_eq!(value(&text, series), Some(expected), "{series}\n{text}");
        };
        is(r#"cleat_pods{state="ready"}"#, 1.0);
        is(r#"cleat_containers{state="running"}"#, 1.0);
        is(r#"cleat_containers{state="exited"}"#, 0.0);
        is(r#"cleat_operations_under_way{operation="start_container"}"#, 0.0);
        is(r#"cleat_operation_duration_seconds_count{operation="start_container",outcome="success"}"#, 1.0);
        is(r#"cleat_cri_request_duration_seconds_count{method="StartContainer",code="NotFound"}"#, 1.0);
        is(r#"cleat_image_pulls_total{outcome="failure"}"#, 0.0);
        for (series, least) in [
            (r#"cleat_operation_duration_seconds_count{operation="run_pod",outcome="success"}"#, 1.0),
            (r#"cleat_cri_request_duration_seconds_count{method="RunPodSandbox",code="Ok"}"#, 1.0),
            ("cleat_images", 1.0),
            (r#"cleat_image_pulls_total{outcome="success"}"#, 1.0),
            ("cleat_image_pull_received_bytes_total", 1000.0),
            ("process_resident_memory_bytes", 1e6),
            ("process_open_fds", 3.0),
        ] {
            assert!(value(&text, series).is_some_and(|value| value >= least), "{series}\n{text}");
        }
        assert!(text.ends_with("# EOF\n"), "{text}");

        node.cri().stop(&id, 0)?;
        let after = scrape(node)?;
        assert_eq!(value(&after, r#"cleat_containers{state="exited"}"#), Some(1.0), "{after}");
        let refused = node
            .cleat()
            .world()
            .shell(&format!("curl -sS -o /dev/null -w '%{{http_code}}' http://{ADDRESS}/"))?;
        assert_eq!(refused, "404");
        Ok(())
    });
}
