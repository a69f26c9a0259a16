//! Further processes in a container. An exec is known to the door from its creation until nobody asks for it any more.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hyper::StatusCode;
use nix::errno::Errno;
use serde::Deserialize;
use serde_json::{Value, json};

use super::pause::check_not_paused;
use super::request::{or_default, words};
use super::streams::{Client, Pipes, Place, content_type, switch};
use super::{noted, size, user};
use crate::docker::Door;
use crate::docker::dispatch::Ask;
use crate::docker::refusal::{Answer, Refusal};
use crate::docker::route::ExecAct;
use crate::docker::wire::{empty, json as in_json, read_json};
use crate::engine::model::Id;
use crate::engine::{EngineError, ExecCommand, One, Resizer, Session, Streams, TerminalSize, chain};

/// Ended execs that are still known; dockerd forgets them after five minutes.
const KEPT: usize = 1024;

/// What an exec is to be.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Request {
    #[serde(deserialize_with = "or_default")]
    attach_stdin: bool,
    #[serde(deserialize_with = "or_default")]
    attach_stdout: bool,
    #[serde(deserialize_with = "or_default")]
    attach_stderr: bool,
    #[serde(deserialize_with = "or_default")]
    tty: bool,
    #[serde(deserialize_with = "or_default")]
    privileged: bool,
    #[serde(deserialize_with = "or_default")]
    user: String,
    #[serde(deserialize_with = "or_default")]
    env: Vec<String>,
    #[serde(deserialize_with = "or_default")]
    working_dir: String,
    #[serde(deserialize_with = "words")]
    cmd: Vec<String>,
    #[serde(deserialize_with = "or_default")]
    console_size: Option<[u16; 2]>,
}

/// How it is to be started.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Start {
    #[serde(deserialize_with = "or_default")]
    detach: bool,
    #[serde(deserialize_with = "or_default")]
    console_size: Option<[u16; 2]>,
}

/// Where an exec is in its life.
enum Stage {
    Created,
    Running(Resizer),
    Ended(i32),
}

struct Exec {
    container: Id,
    request: Request,
    stage: Stage,
}

/// All execs, by id.
#[derive(Default)]
pub(in crate::docker) struct Execs(Mutex<BTreeMap<String, Exec>>);

impl Execs {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Exec>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, id: String, exec: Exec) {
        let mut all = self.lock();
        if all.len() >= KEPT {
            all.retain(|_, exec| !matches!(exec.stage, Stage::Ended(_)));
        }
        all.insert(id, exec);
    }

    /// Its exit code, if it has ended.
    fn code(&self, id: &str) -> Option<i32> {
        match self.lock().get(id)?.stage {
            Stage::Ended(code) => Some(code),
            _ => None,
        }
    }

    fn set(&self, id: &str, stage: Stage) {
        if let Some(exec) = self.lock().get_mut(id) {
            exec.stage = stage;
        }
    }
}

fn missing(id: &str) -> Refusal {
    Refusal::missing(format!("No such exec instance: {id}"))
}

/// `POST /containers/{id}/exec`.
pub(super) async fn create(door: &Door, one: &One, ask: Ask) -> Answer {
    let request: Request = read_json(ask.body).await?;
    if one.container.is_restarting() {
        let id = &one.container.id;
        return Err(Refusal::conflict(format!(
            "Container {id} is restarting, wait until the container is running"
        )));
    }
    if one.container.state.pid().is_none() {
        return Err(Refusal::conflict(format!("container {} is not running", one.container.id)));
    }
    check_not_paused(one, "exec")?;
    if request.cmd.is_empty() {
        return Err(Refusal::bad("no exec command specified"));
    }
    let id = Id::random().map_err(|error| Refusal::failed(format!("make an id: {error}")))?.to_string();
    let container = one.container.id.clone();
    noted::done(door, one, &action("exec_create", &request.cmd), &[("execID", id.clone())]);
    door.execs.add(id.clone(), Exec { container, request, stage: Stage::Created });
    Ok(in_json(StatusCode::CREATED, &json!({"Id": id})))
}

/// Carries out what is asked about an exec.
pub(in crate::docker) async fn act(door: &Arc<Door>, id: &str, act: ExecAct, ask: Ask) -> Answer {
    match act {
        ExecAct::Inspect => inspect(door, id),
        ExecAct::Start => start(door, id, ask).await,
        ExecAct::Resize => {
            let resizer = match door.execs.lock().get(id).map(|exec| &exec.stage) {
                Some(Stage::Running(resizer)) => resizer.clone(),
                Some(_) => return Err(Refusal::conflict(format!("exec {id} is not running"))),
                None => return Err(missing(id)),
            };
            resizer.resize(size(&ask)?).await?;
            Ok(empty(StatusCode::OK))
        }
    }
}

fn inspect(door: &Door, id: &str) -> Answer {
    let all = door.execs.lock();
    let Exec { container, request, stage } = all.get(id).ok_or_else(|| missing(id))?;
    let code = match stage {
        Stage::Ended(code) => json!(code),
        _ => Value::Null,
    };
    let (program, arguments) =
        request.cmd.split_first().map_or(("", &[][..]), |(one, rest)| (one.as_str(), rest));
    Ok(in_json(
        StatusCode::OK,
        &json!({
            "ID": id, "ContainerID": container.as_str(), "Running": matches!(stage, Stage::Running(_)), "ExitCode": code,
            "OpenStdin": request.attach_stdin, "OpenStdout": request.attach_stdout,
            "OpenStderr": request.attach_stderr, "CanRemove": matches!(stage, Stage::Ended(_)), "Pid": 0,
            "DetachKeys": "",
            "ProcessConfig": {
                "tty": request.tty, "entrypoint": program, "arguments": arguments, "privileged": request.privileged,
                "user": request.user,
            },
        }),
    ))
}

/// `POST /exec/{id}/start`.
async fn start(door: &Arc<Door>, id: &str, ask: Ask) -> Answer {
    let how: Start = read_json(ask.body).await?;
    let (container, request) = match door.execs.lock().get(id) {
        Some(Exec { container, request, stage: Stage::Created }) => (container.clone(), request.clone()),
        Some(_) => return Err(Refusal::conflict(format!("exec {id} has been started already"))),
        None => return Err(missing(id)),
    };
    let (response, place) = if how.detach {
        (empty(StatusCode::OK), None)
    } else {
        let kind = content_type(ask.version, request.tty);
        let (response, place) = switch(&ask.headers, ask.upgrade, kind, request.attach_stdin)?;
        (response, Some(place))
    };
    let started = door.engine.exec(&container, command(&request, &how)).await;
    let (door_of_task, id) = (door.clone(), id.to_owned());
    match started {
        Ok(session) => {
            door.execs.set(&id, Stage::Running(session.resizer.clone()));
            note(door, &container, &action("exec_start", &request.cmd), &[("execID", id.clone())]);
            door.run(async move {
                follow(&door_of_task, &id, session, place, request.tty).await;
                let code = door_of_task.execs.code(&id).unwrap_or_default().to_string();
                note(&door_of_task, &container, "exec_die", &[("execID", id), ("exitCode", code)]);
            });
        }
        Err(error @ EngineError::WrongState { .. }) => return Err(error.into()),
        Err(error) => {
            let (code, words) = failure(&error);
            door.execs.set(&id, Stage::Ended(code));
            let Some(place) = place else { return Err(Refusal::bad(words)) };
            door.run(async move {
                let Ok(mut client) = Client::new(place).await else { return };
                let said = client.say(&format!("{words}\r\n"), request.tty).await;
                if let Err(error) = said.and(client.end().await) {
                    tracing::debug!(%error, "a client left before it was told why its command did not start");
                }
            });
        }
    }
    Ok(response)
}

/// The action of an event, with the command as dockerd writes it: a blank behind the program, also without arguments.
pub(in crate::docker) fn action(action: &str, command: &[String]) -> String {
    let (program, arguments) =
        command.split_first().map_or(("", &[][..]), |(one, rest)| (one.as_str(), rest));
    format!("{action}: {program} {}", arguments.join(" "))
}

/// Tells of an exec, if its container is still there.
fn note(door: &Door, container: &Id, action: &str, details: &[(&str, String)]) {
    if let Ok(one) = door.engine.one(container.as_str()) {
        noted::done(door, &one, action, details);
    }
}

fn command(request: &Request, how: &Start) -> ExecCommand {
    let [rows, columns] = how.console_size.or(request.console_size).unwrap_or_default();
    ExecCommand {
        arguments: request.cmd.clone(),
        streams: Streams {
            stdin: request.attach_stdin && !how.detach,
            stdout: request.attach_stdout && !how.detach,
            stderr: request.attach_stderr && !how.detach,
        },
        terminal: request.tty.then_some(TerminalSize { rows, columns }),
        environment: request.env.iter().filter(|variable| variable.contains('=')).cloned().collect(),
        working_dir: Some(request.working_dir.clone()).filter(|folder| !folder.is_empty()),
        user: (!request.user.is_empty()).then(|| user::choice(&request.user, &[])),
        privileged: request.privileged,
    }
}

/// Why a command did not start: its exit code, and the words that go where its output would.
fn failure(error: &EngineError) -> (i32, String) {
    let reason = chain(error);
    let errno = match error {
        EngineError::Step { errno, .. } => errno.map(Errno::from_raw),
        _ => None,
    };
    match errno {
        Some(Errno::ENOENT) => (127, format!("exec failed: {reason}: executable file not found in $PATH")),
        Some(Errno::EACCES | Errno::ENOEXEC | Errno::EISDIR) => {
            (126, format!("exec failed: {reason}: permission denied"))
        }
        _ => (126, format!("exec failed: {reason}")),
    }
}

/// Stays with a process to its end: the code is known before its client is told that there is no more.
async fn follow(door: &Door, id: &str, session: Session, place: Option<Place>, is_terminal: bool) {
    let Session { stdin, stdout, stderr, mut ending, resizer: _ } = session;
    let mut client = None;
    if let Some(place) = place {
        match Client::new(place).await {
            Ok(mut arrived) => {
                let served = arrived.serve(Pipes { stdin, stdout, stderr, is_terminal }).await;
                if let Err(error) = served {
                    tracing::debug!(%error, "the client of an exec left");
                }
                client = Some(arrived);
            }
            Err(error) => tracing::debug!(%error, "the client of an exec left before it began"),
        }
    }
    let code = ending.wait().await.unwrap_or_else(|error| {
        tracing::info!(exec = id, "the end of an exec was not seen: {}", chain(&error));
        255
    });
    door.execs.set(id, Stage::Ended(code));
    if let Some(client) = client
        && let Err(error) = client.end().await
    {
        tracing::debug!(%error, "the client of an exec left");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_that_is_missing_has_a_shells_code() {
        let failed = |errno| EngineError::Step {
            step: "execute a command",
            object: "x".into(),
            reason: "r".into(),
            errno,
        };
        assert_eq!(failure(&failed(Some(2))).0, 127);
        assert_eq!(failure(&failed(Some(13))).0, 126);
        assert!(failure(&failed(Some(2))).1.contains("executable file not found"));
    }

    #[test]
    fn a_detached_command_has_no_streams() {
        let request =
            Request { attach_stdin: true, attach_stdout: true, cmd: vec!["a".into()], ..Request::default() };
        let how = Start { detach: true, console_size: None };
        assert_eq!(command(&request, &how).streams, Streams::default());
        assert!(command(&request, &Start::default()).streams.stdin);
    }
}
