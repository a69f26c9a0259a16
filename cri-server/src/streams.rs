//! The engine's sessions for clients that come over the streaming server: an adapter, nothing more.

use std::time::Duration;

use cleat_streaming::{
    AttachRequest, Backend, BoxFuture, Control, ExecRequest, Failure, Outcome, Running, Size,
};
use tokio::net::TcpStream;

use crate::engine::{
    Ending, Engine, EngineError, ExecCommand, Resizer, Session, Streams, TerminalSize, chain,
};

/// How long an attached client may read nothing. Longer, and a laptop that was closed would stop the container it is
/// attached to.
const STALL_LIMIT: Duration = Duration::from_secs(10);

/// The backend of the streaming server.
pub(crate) struct Sessions(pub(crate) Engine);

impl Backend for Sessions {
    fn exec(&self, request: ExecRequest) -> BoxFuture<'_, Result<Running, Failure>> {
        let command = ExecCommand {
            arguments: request.command,
            streams: Streams { stdin: request.stdin, stdout: request.stdout, stderr: request.stderr },
            // Clients send the size as soon as they are connected.
            terminal: request.tty.then(TerminalSize::default),
            environment: Vec::new(),
            working_dir: None,
            user: None,
            privileged: false,
        };
        Box::pin(async move {
            self.0.exec(request.container_id.as_str(), command).await.map(running).map_err(told)
        })
    }

    fn attach(&self, request: AttachRequest) -> BoxFuture<'_, Result<Running, Failure>> {
        let streams = Streams { stdin: request.stdin, stdout: request.stdout, stderr: request.stderr };
        Box::pin(async move {
            let session = self.0.attach(request.container_id.as_str(), streams, Some(STALL_LIMIT)).await;
            session.map(running).map_err(told)
        })
    }

    fn connect<'a>(&'a self, pod_id: &'a str, port: u16) -> BoxFuture<'a, Result<TcpStream, Failure>> {
        Box::pin(async move { self.0.connect(pod_id, port).await.map_err(told) })
    }
}

fn told(error: EngineError) -> Failure {
    Failure::new(chain(&error))
}

fn running(session: Session) -> Running {
    let Session { stdin, stdout, stderr, resizer, ending } = session;
    Running { stdin, stdout, stderr, control: Box::new(Handle { resizer, ending }) }
}

/// What a session has besides its streams.
struct Handle {
    resizer: Resizer,
    ending: Ending,
}

impl Control for Handle {
    fn resize(&mut self, size: Size) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let size = TerminalSize { rows: size.rows, columns: size.columns };
            if let Err(error) = self.resizer.resize(size).await {
                tracing::debug!("could not resize: {}", chain(&error));
            }
        })
    }

    fn finished(&mut self) -> BoxFuture<'_, Result<Outcome, Failure>> {
        Box::pin(async move {
            let is_exec = matches!(self.ending, Ending::Exec(_));
            let code = self.ending.wait().await.map_err(told)?;
            // Who was attached is told that the streams have ended; how the container ended is its status.
            Ok(if is_exec { Outcome::Exited(code) } else { Outcome::Detached })
        })
    }
}
