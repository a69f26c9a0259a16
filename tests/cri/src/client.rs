//! A blocking client of the CRI.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use cleat_cri_api::v1::image_service_client::ImageServiceClient;
use cleat_cri_api::v1::runtime_service_client::RuntimeServiceClient;
use cleat_cri_api::v1::*;
use cleat_test_support::patience;
use tokio::runtime::Runtime;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

/// How long one test may take: every call it makes ends at this limit at the latest.
pub const TEST_LIMIT: Duration = Duration::from_secs(120);

/// How long one call may take.
const CALL_LIMIT: Duration = Duration::from_secs(60);

/// The largest answer that is read: ExecSync's 16 MiB of output and what is around them.
const MAX_ANSWER_BYTES: usize = 32 << 20;

/// A connection to one daemon, and the time by which the test that uses it has to be over.
pub struct Cri {
    executor: Runtime,
    runtime: RuntimeServiceClient<Channel>,
    image: ImageServiceClient<Channel>,
    deadline: Instant,
}

/// One method for each call, under the name it has in the CRI, which sends the request as it is.
macro_rules! calls {
    ($($client:ident: $($name:ident($request:ident) -> $response:ident)*;)*) => {
        impl Cri {
            $($(
                #[doc = concat!("Sends a [`", stringify!($request), "`].")]
                ///
                /// # Errors
                /// The daemon's status; `UNKNOWN` where it gave no answer in time.
                pub fn $name(&self, request: $request) -> Result<$response, Status> {
                    let mut client = self.$client.clone();
                    self.wait(async move { client.$name(request).await })
                }
            )*)*
        }
    };
}

calls! {
    runtime:
        version(VersionRequest) -> VersionResponse
        status(StatusRequest) -> StatusResponse
        runtime_config(RuntimeConfigRequest) -> RuntimeConfigResponse
        run_pod_sandbox(RunPodSandboxRequest) -> RunPodSandboxResponse
        stop_pod_sandbox(StopPodSandboxRequest) -> StopPodSandboxResponse
        remove_pod_sandbox(RemovePodSandboxRequest) -> RemovePodSandboxResponse
        pod_sandbox_status(PodSandboxStatusRequest) -> PodSandboxStatusResponse
        list_pod_sandbox(ListPodSandboxRequest) -> ListPodSandboxResponse
        create_container(CreateContainerRequest) -> CreateContainerResponse
        start_container(StartContainerRequest) -> StartContainerResponse
        stop_container(StopContainerRequest) -> StopContainerResponse
        remove_container(RemoveContainerRequest) -> RemoveContainerResponse
        list_containers(ListContainersRequest) -> ListContainersResponse
        container_status(ContainerStatusRequest) -> ContainerStatusResponse
        update_container_resources(UpdateContainerResourcesRequest) -> UpdateContainerResourcesResponse
        reopen_container_log(ReopenContainerLogRequest) -> ReopenContainerLogResponse
        exec_sync(ExecSyncRequest) -> ExecSyncResponse
        container_stats(ContainerStatsRequest) -> ContainerStatsResponse
        list_container_stats(ListContainerStatsRequest) -> ListContainerStatsResponse
        pod_sandbox_stats(PodSandboxStatsRequest) -> PodSandboxStatsResponse
        list_pod_sandbox_stats(ListPodSandboxStatsRequest) -> ListPodSandboxStatsResponse
        exec(ExecRequest) -> ExecResponse
        attach(AttachRequest) -> AttachResponse
        port_forward(PortForwardRequest) -> PortForwardResponse
        update_runtime_config(UpdateRuntimeConfigRequest) -> UpdateRuntimeConfigResponse
        checkpoint_container(CheckpointContainerRequest) -> CheckpointContainerResponse
        list_metric_descriptors(ListMetricDescriptorsRequest) -> ListMetricDescriptorsResponse
        list_pod_sandbox_metrics(ListPodSandboxMetricsRequest) -> ListPodSandboxMetricsResponse
        update_pod_sandbox_resources(UpdatePodSandboxResourcesRequest) -> UpdatePodSandboxResourcesResponse;
    image:
        list_images(ListImagesRequest) -> ListImagesResponse
        image_status(ImageStatusRequest) -> ImageStatusResponse
        pull_image(PullImageRequest) -> PullImageResponse
        remove_image(RemoveImageRequest) -> RemoveImageResponse
        image_fs_info(ImageFsInfoRequest) -> ImageFsInfoResponse;
}

impl Cri {
    /// Connects to the daemon at `socket` for a test that has to be over in [`TEST_LIMIT`].
    ///
    /// # Errors
    /// Fails when nobody listens there.
    pub fn connect(socket: &Path) -> Result<Self> {
        Self::connect_until(socket, Instant::now() + patience(TEST_LIMIT))
    }

    /// Connects to the daemon at `socket`; no call goes on after `deadline`.
    ///
    /// # Errors
    /// Fails when nobody listens there.
    pub fn connect_until(socket: &Path, deadline: Instant) -> Result<Self> {
        let executor = tokio::runtime::Builder::new_current_thread().enable_all().build().context("tokio")?;
        let endpoint = Endpoint::try_from(format!("unix://{}", socket.display())).context("endpoint")?;
        let channel = executor
            .block_on(endpoint.connect())
            .with_context(|| format!("connect to {}", socket.display()))?;
        let runtime = RuntimeServiceClient::new(channel.clone()).max_decoding_message_size(MAX_ANSWER_BYTES);
        let image = ImageServiceClient::new(channel).max_decoding_message_size(MAX_ANSWER_BYTES);
        Ok(Self { executor, runtime, image, deadline })
    }

    /// When the test has to be over.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// The client of the runtime service, for the calls that stream.
    #[must_use]
    pub fn runtime_client(&self) -> RuntimeServiceClient<Channel> {
        self.runtime.clone()
    }

    /// The client of the image service, for the calls that stream.
    #[must_use]
    pub fn image_client(&self) -> ImageServiceClient<Channel> {
        self.image.clone()
    }

    /// Waits for the answer to a call.
    ///
    /// # Errors
    /// The daemon's status; `UNKNOWN` where it gave no answer in time.
    pub fn wait<T>(
        &self,
        call: impl Future<Output = Result<tonic::Response<T>, Status>>,
    ) -> Result<T, Status> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        let limit = left.min(patience(CALL_LIMIT));
        let answer = self.executor.block_on(async { tokio::time::timeout(limit, call).await });
        match answer {
            Ok(answer) => answer.map(tonic::Response::into_inner),
            Err(_) => {
                Err(Status::new(Code::Unknown, format!("the test waited {limit:?} for an answer in vain")))
            }
        }
    }

    /// Runs a pod and returns its id.
    ///
    /// # Errors
    /// The daemon's status.
    pub fn run_pod(&self, config: &PodSandboxConfig) -> Result<String, Status> {
        let request = RunPodSandboxRequest { config: Some(config.clone()), ..Default::default() };
        self.run_pod_sandbox(request).map(|answer| answer.pod_sandbox_id)
    }

    /// Stops a pod.
    ///
    /// # Errors
    /// The daemon's status.
    pub fn stop_pod(&self, id: &str) -> Result<(), Status> {
        self.stop_pod_sandbox(StopPodSandboxRequest { pod_sandbox_id: id.to_owned() }).map(drop)
    }

    /// Removes a pod.
    ///
    /// # Errors
    /// The daemon's status.
    pub fn remove_pod(&self, id: &str) -> Result<(), Status> {
        self.remove_pod_sandbox(RemovePodSandboxRequest { pod_sandbox_id: id.to_owned() }).map(drop)
    }

    /// The status of a pod.
    ///
    /// # Errors
    /// The daemon's status.
    pub fn pod_status(&self, id: &str) -> Result<PodSandboxStatus, Status> {
        let request = PodSandboxStatusRequest { pod_sandbox_id: id.to_owned(), verbose: false };
        let answer = self.pod_sandbox_status(request)?;
        answer.status.ok_or_else(|| Status::unknown("the answer holds no status"))
    }

    /// The pods that `filter` lets through.
    ///
    /// # Errors
    /// The daemon's status.
    pub fn pods(&self, filter: PodSandboxFilter) -> Result<Vec<PodSandbox>, Status> {
        self.list_pod_sandbox(ListPodSandboxRequest { filter: Some(filter) }).map(|answer| answer.items)
    }

    /// Creates a container and returns its id.
    ///
    /// # Errors
    /// The daemon's status.
    pub fn create(
        &self,
        pod: &str,
        config: &ContainerConfig,
        pod_config: &PodSandboxConfig,
    ) -> Result<String, Status> {
        let request = CreateContainerRequest {
            pod_sandbox_id: pod.to_owned(),
            config: Some(config.clone()),
            sandbox_config: Some(pod_config.clone()),
        };
        self.create_container(request).map(|answer| answer.container_id)
    }

    /// Starts a container.
    ///
    /// # Errors
    /// The daemon's status.
    pub fn start(&self, id: &str) -> Result<(), Status> {
        self.start_container(StartContainerRequest { container_id: id.to_owned() }).map(drop)
    }

    /// Stops a container within `grace_s` seconds.
    ///
    /// # Errors
    /// The daemon's status.
    pub fn stop(&self, id: &str, grace_s: i64) -> Result<(), Status> {
        let request = StopContainerRequest { container_id: id.to_owned(), timeout: grace_s };
        self.stop_container(request).map(drop)
    }

    /// Removes a container.
    ///
    /// # Errors
    /// The daemon's status.
    pub fn remove(&self, id: &str) -> Result<(), Status> {
        self.remove_container(RemoveContainerRequest { container_id: id.to_owned() }).map(drop)
    }

    /// The status of a container.
    ///
    /// # Errors
    /// The daemon's status.
    pub fn container(&self, id: &str) -> Result<ContainerStatus, Status> {
        let request = ContainerStatusRequest { container_id: id.to_owned(), verbose: false };
        let answer = self.container_status(request)?;
        answer.status.ok_or_else(|| Status::unknown("the answer holds no status"))
    }

    /// The containers that `filter` lets through.
    ///
    /// # Errors
    /// The daemon's status.
    pub fn containers(&self, filter: ContainerFilter) -> Result<Vec<Container>, Status> {
        let answer = self.list_containers(ListContainersRequest { filter: Some(filter) })?;
        Ok(answer.containers)
    }

    /// Runs a command in a container for at most `limit_s` seconds; 0 sets no limit.
    ///
    /// # Errors
    /// The daemon's status.
    pub fn exec_in(&self, id: &str, command: &[&str], limit_s: i64) -> Result<ExecSyncResponse, Status> {
        let cmd = command.iter().map(ToString::to_string).collect();
        self.exec_sync(ExecSyncRequest { container_id: id.to_owned(), cmd, timeout: limit_s })
    }

    /// Runs `script` with a container's shell and returns what it wrote, without the last line break.
    ///
    /// # Errors
    /// Fails when it ends with a code other than 0.
    pub fn shell(&self, id: &str, script: &str) -> Result<String> {
        let answer = self.exec_in(id, &["sh", "-c", script], 20)?;
        let (out, err) = (String::from_utf8_lossy(&answer.stdout), String::from_utf8_lossy(&answer.stderr));
        ensure!(answer.exit_code == 0, "{script}: code {}, output {out:?}, errors {err:?}", answer.exit_code);
        Ok(out.trim_end_matches('\n').to_owned())
    }

    /// The processes of the container, by the pid it knows them by, whose whole command line is `command`.
    ///
    /// # Errors
    /// Fails when the container cannot be asked.
    pub fn processes(&self, id: &str, command: &str) -> Result<Vec<String>> {
        let script = "for each in /proc/[0-9]*; do echo ${each#/proc/} $(tr '\\0' ' ' <$each/cmdline); done 2>/dev/null";
        let list = self.shell(id, script)?;
        let split = list.lines().filter_map(|line| line.split_once(' '));
        Ok(split.filter(|(_, line)| line.trim_end() == command).map(|(pid, _)| pid.to_owned()).collect())
    }

    /// Pulls an image and returns the reference the daemon answers with.
    ///
    /// # Errors
    /// The daemon's status.
    pub fn pull(&self, image: &str) -> Result<String, Status> {
        let request = PullImageRequest { image: Some(image_spec(image)), ..Default::default() };
        self.pull_image(request).map(|answer| answer.image_ref)
    }

    /// The status of an image; none where there is no such image.
    ///
    /// # Errors
    /// The daemon's status.
    pub fn image(&self, image: &str) -> Result<Option<Image>, Status> {
        let request = ImageStatusRequest { image: Some(image_spec(image)), verbose: false };
        self.image_status(request).map(|answer| answer.image)
    }

    /// All images.
    ///
    /// # Errors
    /// The daemon's status.
    pub fn images(&self) -> Result<Vec<Image>, Status> {
        self.list_images(ListImagesRequest { filter: None }).map(|answer| answer.images)
    }

    /// Removes an image.
    ///
    /// # Errors
    /// The daemon's status.
    pub fn remove_image_named(&self, image: &str) -> Result<(), Status> {
        self.remove_image(RemoveImageRequest { image: Some(image_spec(image)) }).map(drop)
    }
}

fn image_spec(image: &str) -> ImageSpec {
    ImageSpec { image: image.to_owned(), ..Default::default() }
}
