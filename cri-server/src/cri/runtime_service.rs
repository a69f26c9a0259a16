//! The CRI's RuntimeService: each RPC parses, calls the engine, and answers. In the order of the `.proto` file.

use std::sync::Arc;
use std::time::Duration;

use cleat_cri_api::v1::runtime_service_server::RuntimeService;
use cleat_cri_api::v1::*;
use cleat_streaming::{self as streaming, Server};
use tonic::Request;

use super::door::{Answer, answer};
use super::reads;
use super::series::{Events, Parts, events, parts};
use super::translate::{container, field, filter, metric, node, pod, stats, stream};
use crate::engine::{Engine, Streams};

/// The runtime service over an engine.
pub(super) struct RuntimeDoor {
    engine: Engine,
    streams: Arc<Server>,
}

impl RuntimeDoor {
    /// The service over `engine`; `streams` serves the clients of exec, attach and port forward.
    pub(super) fn new(engine: Engine, streams: Arc<Server>) -> Self {
        Self { engine, streams }
    }
}

#[tonic::async_trait]
impl RuntimeService for RuntimeDoor {
    type StreamPodSandboxesStream = Parts<StreamPodSandboxesResponse>;
    type StreamContainersStream = Parts<StreamContainersResponse>;
    type StreamContainerStatsStream = Parts<StreamContainerStatsResponse>;
    type StreamPodSandboxStatsStream = Parts<StreamPodSandboxStatsResponse>;
    type GetContainerEventsStream = Events;
    type StreamPodSandboxMetricsStream = Parts<StreamPodSandboxMetricsResponse>;

    async fn version(&self, _: Request<VersionRequest>) -> Answer<VersionResponse> {
        answer("Version", String::new(), async { Ok(node::version()) }).await
    }

    async fn run_pod_sandbox(&self, request: Request<RunPodSandboxRequest>) -> Answer<RunPodSandboxResponse> {
        let request = request.into_inner();
        let name = request.config.as_ref().and_then(|config| config.metadata.as_ref());
        let name = name.map(|name| format!("{}/{}", name.namespace, name.name)).unwrap_or_default();
        answer("RunPodSandbox", name, async {
            let config = pod::config(request.config, request.runtime_handler)?;
            let id = self.engine.run_pod(config).await?;
            Ok(RunPodSandboxResponse { pod_sandbox_id: id.into() })
        })
        .await
    }

    async fn stop_pod_sandbox(
        &self,
        request: Request<StopPodSandboxRequest>,
    ) -> Answer<StopPodSandboxResponse> {
        let id = request.into_inner().pod_sandbox_id;
        answer("StopPodSandbox", id.clone(), async {
            self.engine.stop_pod(field::filled("pod_sandbox_id", &id)?).await?;
            Ok(StopPodSandboxResponse {})
        })
        .await
    }

    async fn remove_pod_sandbox(
        &self,
        request: Request<RemovePodSandboxRequest>,
    ) -> Answer<RemovePodSandboxResponse> {
        let id = request.into_inner().pod_sandbox_id;
        answer("RemovePodSandbox", id.clone(), async {
            self.engine.remove_pod(field::filled("pod_sandbox_id", &id)?).await?;
            Ok(RemovePodSandboxResponse {})
        })
        .await
    }

    async fn pod_sandbox_status(
        &self,
        request: Request<PodSandboxStatusRequest>,
    ) -> Answer<PodSandboxStatusResponse> {
        let request = request.into_inner();
        let id = request.pod_sandbox_id;
        answer("PodSandboxStatus", id.clone(), reads::pod_status(&self.engine, &id, request.verbose)).await
    }

    async fn list_pod_sandbox(
        &self,
        request: Request<ListPodSandboxRequest>,
    ) -> Answer<ListPodSandboxResponse> {
        answer("ListPodSandbox", String::new(), async {
            Ok(ListPodSandboxResponse { items: reads::pods(&self.engine, request.into_inner().filter)? })
        })
        .await
    }

    async fn stream_pod_sandboxes(
        &self,
        request: Request<StreamPodSandboxesRequest>,
    ) -> Answer<Self::StreamPodSandboxesStream> {
        answer("StreamPodSandboxes", String::new(), async {
            let pods = reads::pods(&self.engine, request.into_inner().filter)?;
            Ok(parts(pods, |pod_sandboxes| StreamPodSandboxesResponse { pod_sandboxes }))
        })
        .await
    }

    /// The pod's configuration in the request is not looked at: the pod is what it was made as.
    async fn create_container(
        &self,
        request: Request<CreateContainerRequest>,
    ) -> Answer<CreateContainerResponse> {
        let request = request.into_inner();
        let pod = request.pod_sandbox_id;
        answer("CreateContainer", pod.clone(), async {
            let config = container::config(request.config)?;
            let id = self.engine.create_container(field::filled("pod_sandbox_id", &pod)?, config).await?;
            Ok(CreateContainerResponse { container_id: id.into() })
        })
        .await
    }

    async fn start_container(
        &self,
        request: Request<StartContainerRequest>,
    ) -> Answer<StartContainerResponse> {
        let id = request.into_inner().container_id;
        answer("StartContainer", id.clone(), async {
            self.engine.start_container(field::filled("container_id", &id)?).await?;
            Ok(StartContainerResponse {})
        })
        .await
    }

    async fn stop_container(&self, request: Request<StopContainerRequest>) -> Answer<StopContainerResponse> {
        let request = request.into_inner();
        let id = request.container_id;
        answer("StopContainer", id.clone(), async {
            let grace = field::seconds("timeout", request.timeout)?;
            self.engine.stop_container(field::filled("container_id", &id)?, grace).await?;
            Ok(StopContainerResponse {})
        })
        .await
    }

    async fn remove_container(
        &self,
        request: Request<RemoveContainerRequest>,
    ) -> Answer<RemoveContainerResponse> {
        let id = request.into_inner().container_id;
        answer("RemoveContainer", id.clone(), async {
            self.engine.remove_container(field::filled("container_id", &id)?).await?;
            Ok(RemoveContainerResponse {})
        })
        .await
    }

    async fn list_containers(
        &self,
        request: Request<ListContainersRequest>,
    ) -> Answer<ListContainersResponse> {
        answer("ListContainers", String::new(), async {
            let containers = reads::containers(&self.engine, request.into_inner().filter)?;
            Ok(ListContainersResponse { containers })
        })
        .await
    }

    async fn stream_containers(
        &self,
        request: Request<StreamContainersRequest>,
    ) -> Answer<Self::StreamContainersStream> {
        answer("StreamContainers", String::new(), async {
            let containers = reads::containers(&self.engine, request.into_inner().filter)?;
            Ok(parts(containers, |containers| StreamContainersResponse { containers }))
        })
        .await
    }

    async fn container_status(
        &self,
        request: Request<ContainerStatusRequest>,
    ) -> Answer<ContainerStatusResponse> {
        let request = request.into_inner();
        let id = request.container_id;
        answer("ContainerStatus", id.clone(), reads::container_status(&self.engine, &id, request.verbose))
            .await
    }

    async fn update_container_resources(
        &self,
        request: Request<UpdateContainerResourcesRequest>,
    ) -> Answer<UpdateContainerResourcesResponse> {
        let request = request.into_inner();
        let id = request.container_id.clone();
        answer("UpdateContainerResources", id.clone(), async {
            let change = container::change(request)?;
            self.engine.update_container(field::filled("container_id", &id)?, change).await?;
            Ok(UpdateContainerResourcesResponse {})
        })
        .await
    }

    async fn reopen_container_log(
        &self,
        request: Request<ReopenContainerLogRequest>,
    ) -> Answer<ReopenContainerLogResponse> {
        let id = request.into_inner().container_id;
        answer("ReopenContainerLog", id.clone(), async {
            self.engine.reopen_log(field::filled("container_id", &id)?).await?;
            Ok(ReopenContainerLogResponse {})
        })
        .await
    }

    /// A timeout of 0 is none.
    async fn exec_sync(&self, request: Request<ExecSyncRequest>) -> Answer<ExecSyncResponse> {
        let request = request.into_inner();
        let id = request.container_id;
        answer("ExecSync", id.clone(), async {
            let limit = Some(field::seconds("timeout", request.timeout)?).filter(|limit| !limit.is_zero());
            let command = container::command(request.cmd)?;
            let id = field::filled("container_id", &id)?;
            let mut output = self.engine.exec_sync(id, command, limit).await?;
            let stderr = stream::stderr_of(&mut output);
            Ok(ExecSyncResponse { stdout: output.stdout, stderr, exit_code: output.code })
        })
        .await
    }

    async fn exec(&self, request: Request<ExecRequest>) -> Answer<ExecResponse> {
        let ExecRequest { container_id: id, cmd, tty, stdin, stdout, stderr } = request.into_inner();
        answer("Exec", id.clone(), async {
            let Streams { stdin, stdout, stderr } = stream::streams(Streams { stdin, stdout, stderr }, tty)?;
            let command = container::command(cmd)?;
            let id = field::filled("container_id", &id)?;
            let container_id = self.engine.check_running(id, "execute a command in")?.id.to_string();
            let asked = streaming::ExecRequest { container_id, command, tty, stdin, stdout, stderr };
            let url = self.streams.exec_url(asked).map_err(|error| stream::no_url(id, &error))?;
            Ok(ExecResponse { url })
        })
        .await
    }

    async fn attach(&self, request: Request<AttachRequest>) -> Answer<AttachResponse> {
        let AttachRequest { container_id: id, stdin, tty, stdout, stderr } = request.into_inner();
        answer("Attach", id.clone(), async {
            let Streams { stdin, stdout, stderr } = stream::streams(Streams { stdin, stdout, stderr }, tty)?;
            let id = field::filled("container_id", &id)?;
            let container_id = self.engine.check_running(id, "attach to")?.id.to_string();
            let asked = streaming::AttachRequest { container_id, tty, stdin, stdout, stderr };
            let url = self.streams.attach_url(asked).map_err(|error| stream::no_url(id, &error))?;
            Ok(AttachResponse { url })
        })
        .await
    }

    async fn port_forward(&self, request: Request<PortForwardRequest>) -> Answer<PortForwardResponse> {
        let PortForwardRequest { pod_sandbox_id: id, port } = request.into_inner();
        answer("PortForward", id.clone(), async {
            let ports = stream::ports(&port)?;
            let id = field::filled("pod_sandbox_id", &id)?;
            let pod_id = self.engine.check_ready(id, "connect to a port of")?.id.to_string();
            let asked = streaming::PortForwardRequest { pod_id, ports };
            let url = self.streams.port_forward_url(asked).map_err(|error| stream::no_url(id, &error))?;
            Ok(PortForwardResponse { url })
        })
        .await
    }

    async fn container_stats(
        &self,
        request: Request<ContainerStatsRequest>,
    ) -> Answer<ContainerStatsResponse> {
        let id = request.into_inner().container_id;
        answer("ContainerStats", id.clone(), async {
            let container = self.engine.view().container(field::filled("container_id", &id)?)?;
            let figures = self.engine.container_stats(&container).await?;
            Ok(ContainerStatsResponse { stats: Some(stats::container(&container, &figures)) })
        })
        .await
    }

    async fn list_container_stats(
        &self,
        request: Request<ListContainerStatsRequest>,
    ) -> Answer<ListContainerStatsResponse> {
        let filter = filter::ContainerFilter::of_stats(request.into_inner().filter);
        answer("ListContainerStats", String::new(), async {
            Ok(ListContainerStatsResponse { stats: reads::container_stats(&self.engine, &filter).await? })
        })
        .await
    }

    async fn stream_container_stats(
        &self,
        request: Request<StreamContainerStatsRequest>,
    ) -> Answer<Self::StreamContainerStatsStream> {
        let filter = filter::ContainerFilter::of_stats(request.into_inner().filter);
        answer("StreamContainerStats", String::new(), async {
            let stats = reads::container_stats(&self.engine, &filter).await?;
            Ok(parts(stats, |container_stats| StreamContainerStatsResponse { container_stats }))
        })
        .await
    }

    async fn pod_sandbox_stats(
        &self,
        request: Request<PodSandboxStatsRequest>,
    ) -> Answer<PodSandboxStatsResponse> {
        let id = request.into_inner().pod_sandbox_id;
        answer("PodSandboxStats", id.clone(), async {
            let pod = self.engine.view().pod(field::filled("pod_sandbox_id", &id)?)?;
            let figures = self.engine.pod_stats(&pod).await?;
            Ok(PodSandboxStatsResponse { stats: Some(stats::pod(&pod, &figures)) })
        })
        .await
    }

    async fn list_pod_sandbox_stats(
        &self,
        request: Request<ListPodSandboxStatsRequest>,
    ) -> Answer<ListPodSandboxStatsResponse> {
        let filter = filter::PodFilter::of_stats(request.into_inner().filter);
        answer("ListPodSandboxStats", String::new(), async {
            Ok(ListPodSandboxStatsResponse { stats: reads::pod_stats(&self.engine, &filter).await? })
        })
        .await
    }

    async fn stream_pod_sandbox_stats(
        &self,
        request: Request<StreamPodSandboxStatsRequest>,
    ) -> Answer<Self::StreamPodSandboxStatsStream> {
        let filter = filter::PodFilter::of_stats(request.into_inner().filter);
        answer("StreamPodSandboxStats", String::new(), async {
            let stats = reads::pod_stats(&self.engine, &filter).await?;
            Ok(parts(stats, |pod_sandbox_stats| StreamPodSandboxStatsResponse { pod_sandbox_stats }))
        })
        .await
    }

    async fn update_runtime_config(
        &self,
        request: Request<UpdateRuntimeConfigRequest>,
    ) -> Answer<UpdateRuntimeConfigResponse> {
        answer("UpdateRuntimeConfig", String::new(), async {
            let ranges = node::pod_ranges(request.into_inner().runtime_config)?;
            self.engine.check_pod_ranges(ranges).await?;
            Ok(UpdateRuntimeConfigResponse {})
        })
        .await
    }

    async fn status(&self, request: Request<StatusRequest>) -> Answer<StatusResponse> {
        let verbose = request.into_inner().verbose;
        answer("Status", String::new(), reads::status(&self.engine, verbose)).await
    }

    async fn checkpoint_container(
        &self,
        request: Request<CheckpointContainerRequest>,
    ) -> Answer<CheckpointContainerResponse> {
        let CheckpointContainerRequest { container_id: id, location, timeout } = request.into_inner();
        answer("CheckpointContainer", id.clone(), async {
            let limit = u64::try_from(timeout).ok().filter(|seconds| *seconds > 0).map(Duration::from_secs);
            let id = field::filled("container_id", &id)?;
            self.engine.checkpoint_container(id, location.into(), limit).await?;
            Ok(CheckpointContainerResponse {})
        })
        .await
    }

    async fn get_container_events(
        &self,
        _: Request<GetEventsRequest>,
    ) -> Answer<Self::GetContainerEventsStream> {
        answer("GetContainerEvents", String::new(), async { Ok(events(self.engine.subscribe())) }).await
    }

    async fn list_metric_descriptors(
        &self,
        _: Request<ListMetricDescriptorsRequest>,
    ) -> Answer<ListMetricDescriptorsResponse> {
        answer("ListMetricDescriptors", String::new(), async {
            Ok(ListMetricDescriptorsResponse { descriptors: metric::descriptors() })
        })
        .await
    }

    async fn list_pod_sandbox_metrics(
        &self,
        _: Request<ListPodSandboxMetricsRequest>,
    ) -> Answer<ListPodSandboxMetricsResponse> {
        answer("ListPodSandboxMetrics", String::new(), async {
            let pod_metrics = self.engine.metrics().await?.iter().map(metric::pod).collect();
            Ok(ListPodSandboxMetricsResponse { pod_metrics })
        })
        .await
    }

    async fn stream_pod_sandbox_metrics(
        &self,
        _: Request<StreamPodSandboxMetricsRequest>,
    ) -> Answer<Self::StreamPodSandboxMetricsStream> {
        answer("StreamPodSandboxMetrics", String::new(), async {
            let pods = self.engine.metrics().await?.iter().map(metric::pod).collect();
            Ok(parts(pods, |pod_sandbox_metrics| StreamPodSandboxMetricsResponse { pod_sandbox_metrics }))
        })
        .await
    }

    async fn runtime_config(&self, _: Request<RuntimeConfigRequest>) -> Answer<RuntimeConfigResponse> {
        answer("RuntimeConfig", String::new(), async {
            Ok(node::runtime_config(self.engine.settings().cgroup_driver.name()))
        })
        .await
    }

    async fn update_pod_sandbox_resources(
        &self,
        request: Request<UpdatePodSandboxResourcesRequest>,
    ) -> Answer<UpdatePodSandboxResourcesResponse> {
        let request = request.into_inner();
        let id = request.pod_sandbox_id;
        answer("UpdatePodSandboxResources", id.clone(), async {
            let change = pod::resources(request.overhead, request.resources)?;
            self.engine.resize_pod(field::filled("pod_sandbox_id", &id)?, change).await?;
            Ok(UpdatePodSandboxResourcesResponse {})
        })
        .await
    }
}
