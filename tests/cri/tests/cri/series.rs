//! Answers in many messages: the streams of lists, and container events.

use std::time::Duration;

use anyhow::{Context, Result};
use cleat_cri_api::v1::*;
use cleat_tests_cri::{Node, check, configs};
use tonic::{Response, Status, Streaming};

/// How long one client may take.
const LIMIT: Duration = Duration::from_secs(60);

/// The next message of a stream; `None` at its end.
fn next<T>(node: &Node, stream: &mut Streaming<T>) -> Result<Option<T>, Status> {
    node.cri().wait(async { stream.message().await.map(Response::new) })
}

/// Everything in a stream that ends.
fn all<T>(node: &Node, mut stream: Streaming<T>) -> Result<Vec<T>> {
    let mut messages = Vec::new();
    while let Some(message) = next(node, &mut stream)? {
        messages.push(message);
    }
    Ok(messages)
}

/// More containers than there are in one message.
const MANY: usize = 70;

#[test]
fn privileged_a_stream_of_a_list_has_each_item_once_and_ends() {
    check(Node::builder(), |node| {
        let cri = node.cri();
        let (mut runtime, mut image) = (cri.runtime_client(), cri.image_client());
        let (pod, other) = (node.run_pod(configs::pod("many"))?, node.run_pod(configs::pod("other"))?);
        for number in 0..MANY {
            node.create(&pod, &configs::sleeper(&format!("many-{number}")))?;
        }
        let running = node.start(&other, &configs::sleeper("running"))?;

        let streamed = cri.wait(runtime.stream_pod_sandboxes(StreamPodSandboxesRequest::default()))?;
        let streamed: Vec<_> = all(node, streamed)?.into_iter().flat_map(|part| part.pod_sandboxes).collect();
        assert_eq!(streamed, cri.pods(PodSandboxFilter::default())?);

        let streamed = cri.wait(runtime.stream_containers(StreamContainersRequest::default()))?;
        let parts = all(node, streamed)?;
        assert!(parts.len() > 1, "{} parts", parts.len());
        let streamed: Vec<_> = parts.into_iter().flat_map(|part| part.containers).collect();
        assert_eq!(streamed, cri.containers(ContainerFilter::default())?);
        let filter = Some(ContainerFilter { id: running.clone(), ..ContainerFilter::default() });
        let streamed = all(node, cri.wait(runtime.stream_containers(StreamContainersRequest { filter }))?)?;
        assert_eq!(streamed.into_iter().flat_map(|part| part.containers).count(), 1);

        let streamed = cri.wait(runtime.stream_container_stats(StreamContainerStatsRequest::default()))?;
        let stats = all(node, streamed)?.into_iter().flat_map(|part| part.container_stats);
        let ids: Vec<_> = stats.filter_map(|stats| Some(stats.attributes?.id)).collect();
        assert_eq!(ids.iter().filter(|id| **id == running).count(), 1, "{ids:?}");
        let streamed = cri.wait(runtime.stream_pod_sandbox_stats(StreamPodSandboxStatsRequest::default()))?;
        let stats = all(node, streamed)?.into_iter().flat_map(|part| part.pod_sandbox_stats);
        let mut ids: Vec<_> = stats.filter_map(|stats| Some(stats.attributes?.id)).collect();
        let mut pods = vec![pod.id.clone(), other.id.clone()];
        ids.sort();
        pods.sort();
        assert_eq!(ids, pods);

        let streamed = cri.wait(image.stream_images(StreamImagesRequest::default()))?;
        let streamed: Vec<_> = all(node, streamed)?.into_iter().flat_map(|part| part.images).collect();
        assert_eq!(streamed, cri.wait(image.list_images(ListImagesRequest::default()))?.images);
        assert!(!streamed.is_empty());
        Ok(())
    });
}

#[test]
fn privileged_events_tell_every_change_with_the_statuses_it_led_to() {
    use ContainerEventType::*;
    check(Node::builder(), |node| {
        let cri = node.cri();
        let mut runtime = cri.runtime_client();
        let mut events = cri.wait(runtime.get_container_events(GetEventsRequest::default()))?;
        let pod = node.run_pod(configs::pod("told"))?;
        let ended = node.run(&pod, &configs::script("ended", "exit 3"))?.status.id;
        cri.remove(&ended)?;
        let left = node.start(&pod, &configs::sleeper("left"))?;
        cri.stop_pod(&pod.id)?;
        cri.remove_pod(&pod.id)?;
        let expected = [
            (&pod.id, ContainerCreatedEvent),
            (&pod.id, ContainerStartedEvent),
            (&ended, ContainerCreatedEvent),
            (&ended, ContainerStartedEvent),
            (&ended, ContainerStoppedEvent),
            (&ended, ContainerDeletedEvent),
            (&left, ContainerCreatedEvent),
            (&left, ContainerStartedEvent),
            (&left, ContainerStoppedEvent),
            (&pod.id, ContainerStoppedEvent),
            (&left, ContainerDeletedEvent),
            (&pod.id, ContainerDeletedEvent),
        ];
        let mut last = 0;
        for (id, kind) in expected {
            let event = next(node, &mut events)?.context("the stream ended")?;
            assert_eq!((&event.container_id, event.container_event_type()), (id, kind), "{event:?}");
            assert!(event.created_at >= last, "{event:?}");
            last = event.created_at;
            let status = event.pod_sandbox_status.as_ref().context("the pod's status")?;
            assert_eq!(
                status.metadata.as_ref().map(|metadata| &*metadata.uid),
                Some("uid-told"),
                "{status:?}"
            );
            let of_subject = event.containers_statuses.iter().find(|status| status.id == *id);
            match kind {
                ContainerStoppedEvent if *id == ended => {
                    assert_eq!(of_subject.context("its status")?.exit_code, 3);
                }
                ContainerStartedEvent if *id != pod.id => {
                    let state = of_subject.context("its status")?.state();
                    assert!(state >= ContainerState::ContainerRunning, "{state:?}");
                }
                ContainerDeletedEvent => assert!(of_subject.is_none(), "{event:?}"),
                _ => {}
            }
        }
        Ok(())
    });
}

#[test]
fn privileged_crictl_events() {
    check(Node::builder(), |node| {
        let crictl = node.cleat().crictl()?;
        let mut client = crictl.spawn_at_terminal(&["events"], 24, 500)?;
        node.until("crictl listens", || {
            let log = std::fs::read_to_string(node.folder().join("cleatd.log")).context("read the log")?;
            Ok(log.contains("GetContainerEvents").then_some(()))
        })?;
        let pod = node.run_pod(configs::pod("heard"))?;
        node.cri().remove_pod(&pod.id)?;
        for kind in ["CREATED", "STARTED", "STOPPED", "DELETED"] {
            client.await_text(&format!("CONTAINER_{kind}_EVENT"), LIMIT)?;
        }
        client.kill()
    });
}
