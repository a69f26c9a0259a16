//! Credential helpers: `docker-credential-<name> get` (docker-credential-helpers' protocol).

use std::process::Stdio;
use std::time::Duration;

use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};

use crate::registry::{Credentials, Secret};

/// Longest a helper may take: some ask a cloud's service first.
const DEADLINE: Duration = Duration::from_secs(20);
/// Most bytes of its answer.
const MAX_ANSWER_BYTES: u64 = 64 << 10;
/// What a helper says when it has none for the host; part of the protocol.
const NOT_FOUND: &str = "credentials not found";
/// The user name that says that the secret is an identity token.
const TOKEN_USER: &str = "<token>";

/// Why a helper did not answer. No message shows what it wrote.
#[derive(Debug, thiserror::Error)]
pub enum HelperError {
    /// Its name could be a path.
    #[error("its name may hold letters, digits, '.', '_' and '-' only")]
    Name,
    /// It cannot be started, or not be talked to.
    #[error("run it")]
    Run(#[source] std::io::Error),
    /// It takes too long.
    #[error("it did not answer within {0} s")]
    Deadline(u64),
    /// It ended with a failure.
    #[error("it failed ({0})")]
    Failed(std::process::ExitStatus),
    /// Its answer is not of the protocol.
    #[error("its answer is not of the protocol")]
    Answer,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    username: String,
    secret: String,
}

/// Ask the helper `name` for the credentials of `host`; none if it has none.
pub(super) async fn ask(name: &str, host: &str) -> Result<Option<Credentials>, HelperError> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if !name.bytes().all(plain) {
        return Err(HelperError::Name);
    }
    run(&format!("docker-credential-{name}"), host, DEADLINE).await
}

async fn run(program: &str, host: &str, deadline: Duration) -> Result<Option<Credentials>, HelperError> {
    let child = Command::new(program)
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(HelperError::Run)?;
    let late = |_| Err(HelperError::Deadline(deadline.as_secs()));
    tokio::time::timeout(deadline, talk(child, host)).await.unwrap_or_else(late)
}

async fn talk(mut child: Child, host: &str) -> Result<Option<Credentials>, HelperError> {
    let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
    let mut answer = Vec::new();
    if let Some(mut stdin) = stdin {
        // A helper may answer without reading; whether it did is told by its answer.
        match stdin.write_all(format!("{host}\n").as_bytes()).await {
            Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
                return Err(HelperError::Run(error));
            }
            _ => {}
        }
    }
    if let Some(stdout) = stdout {
        stdout.take(MAX_ANSWER_BYTES + 1).read_to_end(&mut answer).await.map_err(HelperError::Run)?;
    }
    if answer.len() as u64 > MAX_ANSWER_BYTES {
        return Err(HelperError::Answer);
    }
    let status = child.wait().await.map_err(HelperError::Run)?;
    if !status.success() {
        let none = String::from_utf8_lossy(&answer).contains(NOT_FOUND);
        return if none { Ok(None) } else { Err(HelperError::Failed(status)) };
    }
    let Answer { username, secret } = serde_json::from_slice(&answer).map_err(|_| HelperError::Answer)?;
    Ok(Some(if username == TOKEN_USER {
        Credentials::IdentityToken(Secret::new(secret))
    } else {
        Credentials::Basic { username, password: Secret::new(secret) }
    }))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    async fn helper(script: &str, deadline: Duration) -> Result<Option<Credentials>, HelperError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("helper");
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        run(path.to_str().unwrap(), "a.example", deadline).await
    }

    #[tokio::test]
    async fn helpers_answer_in_time_and_bounds_or_not_at_all() {
        let ask = |script: &'static str| helper(script, Duration::from_secs(20));
        let basic = Credentials::Basic { username: "a.example".into(), password: Secret::new("get") };
        let echo = r#"read host; echo "{\"ServerURL\":\"$host\",\"Username\":\"$host\",\"Secret\":\"$1\"}""#;
        assert_eq!(ask(echo).await.unwrap(), Some(basic));
        let token = Some(Credentials::IdentityToken(Secret::new("t")));
        assert_eq!(ask(r#"echo '{"Username":"<token>","Secret":"t"}'"#).await.unwrap(), token);
        let none = ask("echo credentials not found in native keychain; exit 1").await.unwrap();
        assert_eq!(none, None);
        assert!(matches!(ask("exit 3").await, Err(HelperError::Failed(_))));
        assert!(matches!(ask("echo nonsense").await, Err(HelperError::Answer)));
        assert!(matches!(ask("yes").await, Err(HelperError::Answer)));
        let hanging = helper("exec sleep 1000", Duration::from_millis(50)).await;
        assert!(matches!(hanging, Err(HelperError::Deadline(_))));
        assert!(matches!(super::ask("../evil", "a").await, Err(HelperError::Name)));
        assert!(matches!(super::ask("never-installed", "a").await, Err(HelperError::Run(_))));
    }
}
