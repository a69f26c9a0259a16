//! A small job through each of three libraries: docker-py and dockerode as programs of their own (`tests/docker/sdk`),
//! bollard here.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bollard::Docker;
use bollard::container::LogOutput;
use bollard::errors::Error;
use bollard::exec::StartExecResults;
use bollard::models::{ContainerCreateBody, EventMessage, ExecConfig};
use bollard::query_parameters::{
    AttachContainerOptionsBuilder, CreateContainerOptionsBuilder, CreateImageOptionsBuilder,
    EventsOptionsBuilder, InspectContainerOptions, KillContainerOptions, LogsOptionsBuilder,
    RemoveContainerOptions, StartContainerOptions, StatsOptionsBuilder, WaitContainerOptions,
};
use cleat_test_support::{repository, tool};
use cleat_tests_docker::{BUSYBOX, Engine, check};
use futures_util::{Stream, StreamExt as _, TryStreamExt as _};
use tokio::io::AsyncWriteExt as _;

/// How long one job may take.
const JOB_LIMIT: Duration = Duration::from_secs(120);

fn tools() -> PathBuf {
    repository().join("target/tools")
}

/// Runs `program job image` with the engine's socket and lets it judge. The libraries are those that hack/deps installed.
fn job(engine: &Engine, program: &Path, job: &str) -> Result<()> {
    let mut command = engine.world().command("timeout");
    command.arg(format!("{}", JOB_LIMIT.as_secs())).arg(program);
    command.arg(repository().join("tests/docker/sdk").join(job)).arg(BUSYBOX);
    command.env("DOCKER_HOST", format!("unix://{}", engine.socket().display()));
    command.env("NODE_PATH", tools().join("node/node_modules")).stdin(Stdio::null());
    let output = command.output().with_context(|| format!("run {job}"))?;
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success() && out.contains(": done"), "{job}: {}\n{out}{err}", output.status);
    Ok(())
}

#[test]
fn privileged_docker_py_does_a_job() {
    check(|engine| job(engine, &tools().join("python/bin/python"), "job.py"));
}

#[test]
fn privileged_dockerode_does_a_job() {
    check(|engine| job(engine, &tool("node")?, "job.js"));
}

#[test]
fn privileged_bollard_does_a_job() {
    check(|engine| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let socket = engine.socket().display().to_string();
        runtime.block_on(async {
            let done = tokio::time::timeout(JOB_LIMIT, bollard_job(&socket)).await;
            done.context("the job took too long")?
        })
    });
}

async fn bollard_job(socket: &str) -> Result<()> {
    let docker = Docker::connect_with_unix(socket, 60, bollard::API_DEFAULT_VERSION)?;
    let docker = docker.negotiate_version().await?;
    let pull = CreateImageOptionsBuilder::default().from_image(BUSYBOX).build();
    let lines: Vec<_> = docker.create_image(Some(pull), None, None).try_collect().await?;
    ensure!(
        lines.last().and_then(|line| line.status.as_deref()).is_some_and(|end| end.starts_with("Status: "))
    );

    let filters = [("label".to_owned(), vec!["job=bollard".to_owned()])].into();
    let mut events = docker.events(Some(EventsOptionsBuilder::default().filters(&filters).build()));
    listen(&docker, &mut events).await?;
    let created = create(&docker).await?;
    life(&docker, &created).await?;
    expect_events(&mut events, &["create", "start", "die", "destroy"]).await?;

    let missing = docker.inspect_container("nosuch", None::<InspectContainerOptions>).await;
    let is_404 = matches!(missing, Err(Error::DockerResponseServerError { status_code: 404, .. }));
    ensure!(is_404, "{missing:?}");
    Ok(())
}

/// Has `events` come: a stream of bollard's asks for nothing before it is read, so containers come and go until one is
/// told of.
async fn listen(
    docker: &Docker,
    events: &mut (impl Stream<Item = Result<EventMessage, Error>> + Unpin),
) -> Result<()> {
    loop {
        let ring = async {
            let id = create(docker).await?;
            anyhow::Ok(docker.remove_container(&id, None::<RemoveContainerOptions>).await?)
        };
        tokio::pin!(ring);
        tokio::select! {
            event = events.next() => {
                event.context("no events")??;
                return ring.await;
            }
            rung = &mut ring => rung?,
        }
    }
}

async fn create(docker: &Docker) -> Result<String> {
    let script = "read word; echo out $word; echo err >&2; exec sleep 1000";
    let body = ContainerCreateBody {
        image: Some(BUSYBOX.to_owned()),
        cmd: Some(["sh", "-c", script].map(str::to_owned).into()),
        env: Some(vec!["A=1".to_owned()]),
        open_stdin: Some(true),
        labels: Some([("job".to_owned(), "bollard".to_owned())].into()),
        ..ContainerCreateBody::default()
    };
    let named = CreateContainerOptionsBuilder::default().name("bollard").build();
    Ok(docker.create_container(Some(named), body).await?.id)
}

/// From the start to the removal.
async fn life(docker: &Docker, id: &str) -> Result<()> {
    let streams = AttachContainerOptionsBuilder::default().stdin(true).stdout(true).stderr(true).stream(true);
    let mut attached = docker.attach_container(id, Some(streams.build())).await?;
    docker.start_container(id, None::<StartContainerOptions>).await?;
    attached.input.write_all(b"word\n").await?;
    let said = until(&mut attached.output, &["out word\n", "err\n"]).await?;
    ensure!(said.contains("out word\n"), "{said}");
    let follow = LogsOptionsBuilder::default().follow(true).stdout(true).stderr(true).build();
    until(&mut docker.logs(id, Some(follow)), &["out word\n", "err\n"]).await?;

    let (code, said) = exec(docker, id, &["sh", "-c", "echo $A; exit 3"]).await?;
    ensure!((code, said.as_str()) == (Some(3), "1\n"), "{code:?} {said}");
    let once = StatsOptionsBuilder::default().stream(false).build();
    let stats = docker.stats(id, Some(once)).next().await.context("no figures")??;
    ensure!(stats.pids_stats.and_then(|pids| pids.current) == Some(1));

    let mut end = docker.wait_container(id, None::<WaitContainerOptions>);
    docker.kill_container(id, None::<KillContainerOptions>).await?;
    // What bollard makes of an exit code other than 0.
    match end.next().await {
        Some(Err(Error::DockerContainerWaitError { code: 137, .. })) => {}
        other => bail!("the wait gave {other:?}"),
    }
    Ok(docker.remove_container(id, None::<RemoveContainerOptions>).await?)
}

async fn exec(docker: &Docker, id: &str, command: &[&str]) -> Result<(Option<i64>, String)> {
    let config = ExecConfig {
        cmd: Some(command.iter().map(|word| (*word).to_owned()).collect()),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        ..ExecConfig::default()
    };
    let exec = docker.create_exec(id, config).await?.id;
    let StartExecResults::Attached { output, .. } = docker.start_exec(&exec, None).await? else {
        bail!("the exec has no output");
    };
    let pieces: Vec<LogOutput> = output.try_collect().await?;
    let said = pieces.iter().map(ToString::to_string).collect();
    Ok((docker.inspect_exec(&exec).await?.exit_code, said))
}

/// Reads until all of `words` were there.
async fn until(
    output: &mut (impl Stream<Item = Result<LogOutput, Error>> + Unpin),
    words: &[&str],
) -> Result<String> {
    let mut said = String::new();
    while !words.iter().all(|word| said.contains(word)) {
        said += &output.next().await.with_context(|| format!("it ended after {said:?}"))??.to_string();
    }
    Ok(said)
}

/// Reads events until these came, in this order.
async fn expect_events(
    events: &mut (impl Stream<Item = Result<EventMessage, Error>> + Unpin),
    actions: &[&str],
) -> Result<()> {
    let mut wanted = actions.iter().peekable();
    while let Some(next) = wanted.peek() {
        let event = events.next().await.with_context(|| format!("no {next}"))??;
        if event.action.as_deref() == Some(**next) {
            wanted.next();
        }
    }
    Ok(())
}
