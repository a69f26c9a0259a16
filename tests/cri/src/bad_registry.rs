//! A registry that serves one good image with one flaw: what a test wants to see refused.

use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use cleat_test_support::{World, repository};
use rustix::net::Shutdown;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::Value;

/// The port it listens on, on 127.0.0.1 in the node's world; plain HTTP is allowed there.
pub(crate) const BAD_REGISTRY_PORT: u16 = 5001;

/// How long a client may take to send its request.
const READ_LIMIT: Duration = Duration::from_secs(10);

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// Nothing: the image can be pulled.
    None,
    /// The connection ends in the middle of the layer, each time.
    TruncatedLayer,
    /// A byte of the layer is another one.
    CorruptLayer,
    /// A manifest asked for by digest is not the one with this digest.
    OtherManifest,
    /// The layer has a media type nobody knows.
    UnknownMediaType,
    /// The layer does not exist.
    MissingLayer,
    /// Everything wants credentials.
    Unauthorized,
    /// Everything fails.
    Broken,
}

/// The registry; it ends when it is dropped.
pub struct BadRegistry {
    listener: TcpListener,
    server: Option<JoinHandle<()>>,
}

/// What it serves.
struct Content {
    flaw: Flaw,
    manifest: Vec<u8>,
    layer: String,
    blobs: PathBuf,
}

impl BadRegistry {
    /// Starts it in `world`; the images of `hack/test-images` have to exist.
    ///
    /// # Errors
    /// Fails when the port is taken.
    pub fn start(world: &World, flaw: Flaw) -> Result<Self> {
        let content = Arc::new(Content::new(flaw)?);
        let namespace =
            fs::File::open(format!("/proc/{}/ns/net", world.pid())).context("open the namespace")?;
        let (send, receive) = channel();
        let server = std::thread::spawn(move || {
            let bound = bind(&namespace);
            let accept = bound.as_ref().ok().and_then(|listener| listener.try_clone().ok());
            let sent = send.send(bound).is_ok();
            for client in accept.iter().filter(|_| sent).flat_map(TcpListener::incoming) {
                // Drop shuts the listener down.
                let Ok(client) = client else { break };
                if let Err(error) = content.serve(client) {
                    eprintln!("bad registry: {error:#}");
                }
            }
        });
        let listener = receive.recv().context("the server's thread ended")??;
        Ok(Self { listener, server: Some(server) })
    }

    /// The reference of the image it serves.
    #[must_use]
    pub fn image(&self) -> String {
        format!("127.0.0.1:{BAD_REGISTRY_PORT}/bad/image:1")
    }
}

fn bind(namespace: &fs::File) -> Result<TcpListener> {
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
        .context("enter the world")?;
    TcpListener::bind(("127.0.0.1", BAD_REGISTRY_PORT)).context("bind the port")
}

impl Drop for BadRegistry {
    fn drop(&mut self) {
        if let Err(error) = rustix::net::shutdown(&self.listener, Shutdown::Both) {
            eprintln!("bad registry: shut down: {error}");
        }
        if let Some(Err(_)) = self.server.take().map(JoinHandle::join) {
            eprintln!("bad registry: its thread panicked");
        }
    }
}

impl Content {
    fn new(flaw: Flaw) -> Result<Self> {
        let blobs = repository().join("target/images/busybox/blobs/sha256");
        let index = read_json(&repository().join("target/images/busybox/index.json"))?;
        let list = read_json(&blobs.join(hex(&index["manifests"][0]["digest"])?))?;
        let own = match std::env::consts::ARCH {
            "aarch64" => "arm64",
            _ => "amd64",
        };
        let entries = list["manifests"].as_array().context("manifests")?;
        let entry = entries.iter().find(|entry| entry["platform"]["architecture"] == own);
        let digest = hex(&entry.context("no manifest for this machine")?["digest"])?;
        let mut manifest = read_json(&blobs.join(digest))?;
        let layer = hex(&manifest["layers"][0]["digest"])?.to_owned();
        if flaw == Flaw::UnknownMediaType {
            manifest["layers"][0]["mediaType"] = "application/vnd.example.unknown".into();
        }
        Ok(Self { flaw, manifest: serde_json::to_vec(&manifest).context("manifest")?, layer, blobs })
    }

    /// Answers one request and closes the connection.
    fn serve(&self, client: TcpStream) -> Result<()> {
        client.set_read_timeout(Some(READ_LIMIT)).context("set a limit")?;
        let mut lines = BufReader::new(&client).lines();
        let first = match lines.next().context("no request")? {
            // A client that tries TLS first.
            Err(error) if error.kind() == ErrorKind::InvalidData => return Ok(()),
            line => line.context("read a request")?,
        };
        for line in lines {
            if line.context("read a request")?.is_empty() {
                break;
            }
        }
        let path = first.split(' ').nth(1).unwrap_or_default();
        let head = first.starts_with("HEAD ");
        let answer = self.answer(path)?;
        // A client that has seen enough may hang up.
        match answer.write(&client, head) {
            Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error).context("answer"),
            _ => Ok(()),
        }
    }

    fn answer(&self, path: &str) -> Result<Answer> {
        match self.flaw {
            Flaw::Unauthorized => return Ok(Answer::status("401 Unauthorized")),
            Flaw::Broken => return Ok(Answer::status("500 Internal Server Error")),
            _ => {}
        }
        if path.contains("/manifests/") {
            let mut body = self.manifest.clone();
            if self.flaw == Flaw::OtherManifest && path.contains("/manifests/sha256:") {
                body.push(b'\n');
            }
            return Ok(Answer { kind: "application/vnd.oci.image.manifest.v1+json", ..Answer::body(body) });
        }
        let Some((_, digest)) = path.split_once("/blobs/sha256:") else {
            return Ok(Answer::status("200 OK"));
        };
        if digest == self.layer && self.flaw == Flaw::MissingLayer {
            return Ok(Answer::status("404 Not Found"));
        }
        ensure!(digest.bytes().all(|byte| byte.is_ascii_hexdigit()), "{digest:?} is no digest");
        let mut body = fs::read(self.blobs.join(digest)).with_context(|| format!("read blob {digest}"))?;
        let length = body.len();
        if digest == self.layer {
            match self.flaw {
                Flaw::TruncatedLayer => body.truncate(length / 2),
                Flaw::CorruptLayer => body.iter_mut().skip(length / 2).take(1).for_each(|byte| *byte ^= 0xff),
                _ => {}
            }
        }
        Ok(Answer { length, ..Answer::body(body) })
    }
}

/// An HTTP answer; its length may promise more than its body holds.
struct Answer {
    status: &'static str,
    kind: &'static str,
    length: usize,
    body: Vec<u8>,
}

impl Answer {
    fn body(body: Vec<u8>) -> Self {
        Self { status: "200 OK", kind: "application/octet-stream", length: body.len(), body }
    }

    fn status(status: &'static str) -> Self {
        Self { status, ..Self::body(Vec::new()) }
    }

    fn write(&self, mut client: &TcpStream, head: bool) -> std::io::Result<()> {
        let Self { status, kind, length, body } = self;
        let challenge =
            if status.starts_with("401") { "WWW-Authenticate: Basic realm=\"bad\"\r\n" } else { "" };
        write!(
            client,
            "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n{challenge}Connection: close\r\n\r\n"
        )?;
        if head { Ok(()) } else { client.write_all(body) }
    }
}

fn read_json(path: &std::path::Path) -> Result<Value> {
    let text = fs::read(path).with_context(|| format!("read {}", path.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("read {}", path.display()))
}

/// The hexadecimal part of a digest.
fn hex(digest: &Value) -> Result<&str> {
    digest
        .as_str()
        .and_then(|digest| digest.strip_prefix("sha256:"))
        .with_context(|| format!("digest {digest}"))
}
