//! From creation to removal: states, ends and their reasons, repeated and simultaneous requests.

use std::fs::File;
use std::io::Read;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use cleat_cri_api::v1::*;
use cleat_tests_cri::{Node, Pod, check, configs};
use tonic::{Code, Status};

#[test]
fn privileged_a_container_goes_from_created_to_running_to_exited() {
    check(Node::builder(), |node| {
        let pod = node.run_pod(configs::pod("states"))?;
        let id = node.create(&pod, &configs::sleeper("states"))?;
        assert_eq!(node.cri().container(&id)?.state(), ContainerState::ContainerCreated);
        node.cri().start(&id)?;
        node.await_log(&id, " up")?;
        let running = node.cri().container(&id)?;
        assert_eq!(running.state(), ContainerState::ContainerRunning);
        let begun = Instant::now();
        node.cri().stop(&id, 20)?;
        assert!(begun.elapsed() < Duration::from_secs(5), "stopping took {:?}", begun.elapsed());
        let exited = node.cri().container(&id)?;
        assert_eq!(exited.state(), ContainerState::ContainerExited);
        assert_eq!((exited.exit_code, &*exited.reason), (0, "Completed"));
        assert_eq!(exited.started_at, running.started_at);
        assert!(exited.finished_at > exited.started_at, "{exited:?}");
        node.cri().remove(&id)?;
        assert_eq!(node.cri().container(&id).map_err(|status| status.code()), Err(Code::NotFound));
        Ok(())
    });
}

#[test]
fn privileged_ends_have_their_codes_and_reasons() {
    check(Node::builder(), |node| {
        let pod = node.run_pod(configs::pod("ends"))?;
        let table = [
            ("success", "true", 0, "Completed"),
            ("failure", "exit 3", 3, "Error"),
            ("high", "exit 255", 255, "Error"),
            ("abort", "kill -ABRT $$", 134, "Error"),
            ("killed", "kill -KILL $$", 137, "Error"),
        ];
        for (name, script, code, reason) in table {
            let mut config = configs::script(name, script);
            // As process 1 of a namespace the shell would be immune to its own signals.
            configs::namespaces(&mut config).pid = NamespaceMode::Pod.into();
            let status = node.run(&pod, &config)?.status;
            assert_eq!((status.exit_code, &*status.reason), (code, reason), "{name}");
        }
        let mut config = configs::script("memory", "tail /dev/zero");
        configs::resources(&mut config).memory_limit_in_bytes = 24 << 20;
        configs::resources(&mut config).memory_swap_limit_in_bytes = 24 << 20;
        let status = node.run(&pod, &config)?.status;
        assert_eq!((status.exit_code, &*status.reason), (137, "OOMKilled"));
        let mut config = configs::script("child", "tail /dev/zero; echo went on; exit 4");
        configs::resources(&mut config).memory_limit_in_bytes = 24 << 20;
        configs::resources(&mut config).memory_swap_limit_in_bytes = 24 << 20;
        let status = node.run(&pod, &config)?.status;
        assert_eq!((status.exit_code, &*status.reason), (4, "OOMKilled"));
        Ok(())
    });
}

#[test]
fn privileged_a_container_that_ignores_its_signal_is_killed_after_the_grace() {
    check(Node::builder(), |node| {
        let pod = node.run_pod(configs::pod("grace"))?;
        let config = configs::script("deaf", "trap '' TERM; echo up; while true; do sleep 1; done");
        let id = node.start(&pod, &config)?;
        node.await_log(&id, " up")?;
        let begun = Instant::now();
        node.cri().stop(&id, 1)?;
        let took = begun.elapsed();
        assert!(took >= Duration::from_secs(1) && took < Duration::from_secs(4), "{took:?}");
        assert_eq!(node.cri().container(&id)?.exit_code, 137);
        let config = ContainerConfig { metadata: configs::sleeper("deaf-2").metadata, ..config };
        let id = node.start(&pod, &config)?;
        let begun = Instant::now();
        node.cri().stop(&id, 0)?;
        assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
        assert_eq!(node.cri().container(&id)?.exit_code, 137);
        Ok(())
    });
}

#[test]
fn privileged_stop_and_remove_may_be_repeated() {
    check(Node::builder(), |node| {
        let cri = node.cri();
        let pod = node.run_pod(configs::pod("repeated"))?;
        let id = node.start(&pod, &configs::sleeper("repeated"))?;
        for _ in 0..2 {
            cri.stop(&id, 5)?;
        }
        for _ in 0..2 {
            cri.remove(&id)?;
        }
        cri.stop(&id, 5)?;
        for _ in 0..2 {
            cri.stop_pod(&pod.id)?;
        }
        assert_eq!(cri.pod_status(&pod.id)?.state(), PodSandboxState::SandboxNotready);
        for _ in 0..2 {
            cri.remove_pod(&pod.id)?;
        }
        cri.stop_pod(&pod.id)?;
        for _ in 0..2 {
            cri.remove_image_named("registry.k8s.io/never/there:1")?;
        }
        Ok(())
    });
}

#[test]
fn privileged_a_removal_stops_first() {
    check(Node::builder(), |node| {
        let pod = node.run_pod(configs::pod("forced"))?;
        let id = node.start(&pod, &configs::sleeper("forced"))?;
        node.cri().remove(&id).context("RemoveContainer of a running container")?;
        node.start(&pod, &configs::script("deaf", "trap '' TERM; while true; do sleep 1; done"))?;
        node.create(&pod, &configs::sleeper("created"))?;
        node.cri().remove_pod(&pod.id).context("RemovePodSandbox of a ready pod")?;
        assert_eq!(node.cri().containers(ContainerFilter::default())?, []);
        node.no_leaks()
    });
}

#[test]
fn privileged_stopping_a_pod_ends_its_containers_and_keeps_them_to_be_looked_at() {
    check(Node::builder(), |node| {
        let pod = node.run_pod(configs::pod("stopped"))?;
        let id = node.start(&pod, &configs::sleeper("inside"))?;
        node.await_log(&id, " up")?;
        node.cri().stop_pod(&pod.id)?;
        let status = node.cri().container(&id)?;
        assert_eq!(status.state(), ContainerState::ContainerExited);
        assert!(matches!(status.exit_code, 0 | 137), "{status:?}");
        let of_pod = ContainerFilter { pod_sandbox_id: pod.id.clone(), ..Default::default() };
        assert_eq!(node.cri().containers(of_pod)?.len(), 1);
        Ok(())
    });
}

#[test]
fn privileged_a_patient_stop_holds_up_neither_the_pods_stop_nor_a_removal() {
    check(Node::builder(), |node| {
        let deaf =
            |name| configs::script(name, "trap 'echo asked' TERM; echo up; while :; do sleep 0.1; done");
        let pod = node.run_pod(configs::pod("patient"))?;
        let (first, second) = (node.start(&pod, &deaf("first"))?, node.start(&pod, &deaf("second"))?);
        node.await_log(&first, " up")?;
        node.await_log(&second, " up")?;
        let begun = Instant::now();
        let (patient, other) = (node.connect()?, node.connect()?);
        thread::scope(|scope| -> Result<()> {
            let (one, two) = (&first, &second);
            let stops =
                [scope.spawn(move || patient.stop(one, 600)), scope.spawn(move || other.stop(two, 600))];
            node.await_log(one, " asked")?;
            node.await_log(two, " asked")?;
            node.cri().remove(&second).context("RemoveContainer during its stop")?;
            node.cri().stop_pod(&pod.id).context("StopPodSandbox during a stop")?;
            for stop in stops {
                stop.join().map_err(|_| anyhow!("a caller panicked"))?.context("StopContainer")?;
            }
            Ok(())
        })?;
        assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
        assert_eq!(node.cri().container(&first)?.exit_code, 137);
        Ok(())
    });
}

/// What several threads get that send the same request at the same time.
fn at_once<T: Send>(
    node: &Node,
    count: usize,
    call: impl Fn(&cleat_tests_cri::Cri) -> Result<T, Status> + Sync,
) -> Result<Vec<Result<T, Status>>> {
    let clients = (0..count).map(|_| node.connect()).collect::<Result<Vec<_>>>()?;
    thread::scope(|scope| {
        let call = &call;
        // Clients go along: a connection belongs to the thread that drives it.
        let threads: Vec<_> = clients.into_iter().map(|cri| scope.spawn(move || call(&cri))).collect();
        threads.into_iter().map(|thread| thread.join().map_err(|_| anyhow!("a caller panicked"))).collect()
    })
}

#[test]
fn privileged_the_same_request_at_the_same_time_is_one() {
    check(Node::builder(), |node| {
        let config = node.with_logs(configs::pod("joined"))?;
        let ids = at_once(node, 4, |cri| cri.run_pod(&config))?.into_iter().collect::<Result<Vec<_>, _>>()?;
        assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
        let pod = Pod { id: ids[0].clone(), config };
        assert_eq!(node.cri().run_pod(&pod.config)?, pod.id, "a retry after the answer");
        let sleeper = configs::sleeper("joined");
        let created = at_once(node, 4, |cri| cri.create(&pod.id, &sleeper, &pod.config))?;
        let created = created.into_iter().collect::<Result<Vec<_>, _>>()?;
        assert!(created.iter().all(|id| *id == created[0]), "{created:?}");
        node.cri().start(&created[0])?;
        for results in [
            at_once(node, 4, |cri| cri.stop(&created[0], 10))?,
            at_once(node, 4, |cri| cri.remove(&created[0]))?,
            at_once(node, 4, |cri| cri.stop_pod(&pod.id))?,
            at_once(node, 4, |cri| cri.remove_pod(&pod.id))?,
        ] {
            results.into_iter().collect::<Result<Vec<_>, _>>()?;
        }
        assert_eq!(node.cri().pods(PodSandboxFilter::default())?, []);
        Ok(())
    });
}

#[test]
fn privileged_a_pull_asked_for_many_times_is_one() {
    check(Node::builder().images(&[]), |node| {
        let answers = at_once(node, 5, |cri| cri.pull(cleat_tests_cri::BUSYBOX))?;
        let answers = answers.into_iter().collect::<Result<Vec<_>, _>>()?;
        assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
        let log =
            std::fs::read_to_string(node.folder().join("registry/registry.log")).context("registry log")?;
        let layer_gets =
            log.lines().filter(|line| line.contains("\"GET /v2/") && line.contains("/blobs/")).count();
        // Configuration and layer, each once.
        assert_eq!(layer_gets, 2, "{log}");
        Ok(())
    });
}

#[test]
fn privileged_names_are_free_again_after_the_removal() {
    check(Node::builder(), |node| {
        for round in 0..3 {
            let pod = node.run_pod(configs::pod("again"))?;
            let id =
                node.start(&pod, &configs::sleeper("again")).with_context(|| format!("round {round}"))?;
            let mut other = configs::sleeper("again");
            other.envs = vec![configs::env("OTHER", "1")];
            let taken = node.cri().create(&pod.id, &other, &pod.config).expect_err("the name is taken");
            assert_eq!(taken.code(), Code::AlreadyExists, "{taken:?}");
            node.cri().remove(&id)?;
            node.remove_pod(&pod.id)?;
        }
        Ok(())
    });
}

#[test]
fn privileged_containers_are_listed_by_id_pod_state_and_labels() {
    check(Node::builder(), |node| {
        let one = node.run_pod(configs::pod("one"))?;
        let two = node.run_pod(configs::pod("two"))?;
        let labelled = |name: &str, label: &str| {
            let labels = [("app".to_owned(), label.to_owned())].into();
            ContainerConfig { labels, ..configs::sleeper(name) }
        };
        let running = node.start(&one, &labelled("running", "a"))?;
        let created = node.create(&one, &labelled("created", "b"))?;
        let exited = node.start(&two, &labelled("exited", "a"))?;
        node.cri().stop(&exited, 5)?;
        let filter = ContainerFilter::default;
        let state = |state: ContainerState| ContainerFilter {
            state: Some(ContainerStateValue { state: state.into() }),
            ..filter()
        };
        let label = [("app".to_owned(), "a".to_owned())];
        let table = [
            (filter(), vec![&running, &created, &exited]),
            (ContainerFilter { pod_sandbox_id: one.id.clone(), ..filter() }, vec![&running, &created]),
            (ContainerFilter { label_selector: label.into(), ..filter() }, vec![&running, &exited]),
            (ContainerFilter { id: created[..13].to_owned(), ..filter() }, vec![&created]),
            (state(ContainerState::ContainerRunning), vec![&running]),
            (state(ContainerState::ContainerCreated), vec![&created]),
            (state(ContainerState::ContainerExited), vec![&exited]),
        ];
        for (filter, mut expected) in table {
            let found = node.cri().containers(filter.clone())?;
            let mut ids: Vec<&String> = found.iter().map(|container| &container.id).collect();
            ids.sort();
            expected.sort();
            assert_eq!(ids, expected, "{filter:?}");
        }
        Ok(())
    });
}

#[test]
fn privileged_monitors_hold_nothing_of_whoever_started_the_daemon() {
    check(Node::builder(), |node| {
        node.cleat_mut().kill()?;
        // Open in the daemon, as a careless starter leaves it: this end is not close-on-exec.
        let (mut read_end, write_end) =
            rustix::pipe::pipe().map(|(read, write)| (File::from(read), write))?;
        rustix::io::fcntl_setfd(&read_end, rustix::io::FdFlags::CLOEXEC)?;
        node.start_again()?;
        drop(write_end);
        let pod = node.run_pod(configs::pod("holder"))?;
        node.start(&pod, &configs::sleeper("holder"))?;
        node.cleat_mut().kill()?;
        let mut nothing = Vec::new();
        // Ends only when nobody holds the other end any more.
        read_end.read_to_end(&mut nothing).context("read to the end")?;
        node.start_again()
    });
}
