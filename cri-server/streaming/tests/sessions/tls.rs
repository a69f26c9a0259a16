//! TLS: with real handshakes, and certificates that `certificates/make` has made.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use cleat_streaming::{BindError, Server, Settings, TlsFiles};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::sync::CancellationToken;

use crate::fake::{Fake, LIMIT, contains, exec};
use crate::frames::{Streams, data, spdy, stream, websocket};

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sessions/certificates").join(name)
}

fn certificate(name: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(file(name).with_extension("pem")).unwrap()
}

/// A server that shows the certificate `first`, and asks for one of our authority if `is_particular`.
struct Served {
    folder: TempDir,
    server: Arc<Server>,
    stop: CancellationToken,
    serving: JoinHandle<()>,
}

impl Served {
    async fn start(is_particular: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let [certificate, key] = ["pem", "key"].map(|kind| folder.path().join(kind));
        let client_authorities = is_particular.then(|| file("authority.pem"));
        let settings =
            Settings { tls: Some(TlsFiles { certificate, key, client_authorities }), ..Settings::default() };
        for kind in ["pem", "key"] {
            install(folder.path(), "first", kind);
        }
        let server = Arc::new(Server::bind(settings, Arc::new(Fake::quiet())).await.unwrap());
        let stop = CancellationToken::new();
        let serving = tokio::spawn({
            let (server, stop) = (server.clone(), stop.clone());
            async move { server.serve(stop).await }
        });
        Self { folder, server, stop, serving }
    }

    fn install(&self, name: &str, kind: &str) {
        install(self.folder.path(), name, kind);
    }

    /// What comes after a request with `headers` and then `bytes`, from a client that calls itself `name`.
    async fn ask(
        &self,
        name: Option<&str>,
        command: &str,
        headers: &str,
        bytes: &[u8],
    ) -> std::io::Result<Vec<u8>> {
        let url = exec(command, "in out")(&self.server);
        let (host, path) = url.strip_prefix("https://").unwrap().split_once('/').unwrap();
        let mut stream = connect(host, name).await?;
        stream.write_all(format!("GET /{path} HTTP/1.1\r\nHost: x\r\n{headers}\r\n").as_bytes()).await?;
        let (mut reader, mut writer) = tokio::io::split(stream);
        let mut answer = Vec::new();
        let writing = async {
            writer.write_all(bytes).await?;
            writer.flush().await
        };
        let (wrote, read) =
            timeout(LIMIT, async { tokio::join!(writing, reader.read_to_end(&mut answer)) }).await?;
        wrote.and(read)?;
        Ok(answer)
    }

    /// The certificate that a new client sees.
    async fn shown(&self) -> CertificateDer<'static> {
        let url = exec("cat", "in out")(&self.server);
        let host = url.strip_prefix("https://").unwrap().split_once('/').unwrap().0;
        let stream = connect(host, None).await.unwrap();
        stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned()
    }

    async fn end(self) {
        self.stop.cancel();
        timeout(LIMIT, self.serving).await.unwrap().unwrap();
    }
}

/// Puts a new file in the place of an old one.
fn install(folder: &Path, name: &str, kind: &str) {
    std::fs::copy(file(name).with_extension(kind), folder.join("new")).unwrap();
    std::fs::rename(folder.join("new"), folder.join(kind)).unwrap();
}

/// A client that trusts our authority and has the certificate `name`, or none.
async fn connect(host: &str, name: Option<&str>) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate("authority")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.unwrap().with_root_certificates(roots);
    let config = match name {
        Some(name) => {
            let key = PrivateKeyDer::from_pem_file(file(name).with_extension("key")).unwrap();
            builder.with_client_auth_cert(vec![certificate(name)], key).unwrap()
        }
        None => builder.with_no_client_auth(),
    };
    let stream = TcpStream::connect(host).await?;
    TlsConnector::from(Arc::new(config)).connect(ServerName::try_from("localhost").unwrap(), stream).await
}

#[tokio::test]
async fn sessions_are_the_same_over_tls() {
    let served = Served::start(false).await;
    let answer = served.ask(None, "hello there", &websocket("v5.channel.k8s.io"), b"").await.unwrap();
    assert!(contains(&answer, b"\x82\x0c\x01hello there") && contains(&answer, b"exit status 3"));
    // More than all that lies between can hold, so that both directions have to flow.
    let sent: Vec<u8> = (0..3_000_000_u32).map(|number| (number % 251) as u8).collect();
    let mut frames = [stream(1, "error"), stream(3, "stdin"), stream(5, "stdout")].concat();
    sent.chunks(100_000).for_each(|chunk| frames.extend(data(3, false, chunk)));
    frames.extend(data(3, true, b""));
    let answer = served.ask(None, "cat", &spdy("v4.channel.k8s.io"), &frames).await.unwrap();
    let streams = Streams::of(&answer);
    assert!(streams.data[&5] == sent, "{} bytes of {}", streams.data[&5].len(), sent.len());
    assert!(contains(&streams.data[&1], b"Success"));
    served.end().await;
}

#[tokio::test]
async fn certificates_that_change_are_used_once_they_are_whole() {
    let served = Served::start(false).await;
    assert_eq!(served.shown().await, certificate("first"));
    served.install("second", "pem");
    assert_eq!(served.shown().await, certificate("first"), "the new key is missing");
    served.install("second", "key");
    assert_eq!(served.shown().await, certificate("second"));
    std::fs::remove_file(served.folder.path().join("pem")).unwrap();
    assert_eq!(served.shown().await, certificate("second"), "it is better than none");
    served.end().await;
}

#[tokio::test]
async fn clients_without_a_certificate_of_the_authorities_are_refused() {
    let served = Served::start(true).await;
    let headers = websocket("v5.channel.k8s.io");
    for name in [None, Some("stranger"), Some("second")] {
        let refused = served.ask(name, "hello", &headers, b"").await;
        assert!(refused.is_err(), "{name:?}: {refused:?}");
    }
    let answer = served.ask(Some("client"), "hello", &headers, b"").await.unwrap();
    assert!(contains(&answer, b"\x01hello"));
    served.end().await;
}

#[tokio::test]
async fn clients_without_tls_are_turned_away() {
    let served = Served::start(false).await;
    let url = exec("hello", "out")(&served.server);
    let (host, path) = url.strip_prefix("https://").unwrap().split_once('/').unwrap();
    let mut stream = TcpStream::connect(host).await.unwrap();
    let request = format!("GET /{path} HTTP/1.1\r\nHost: x\r\n{}\r\n", websocket(""));
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    // Closed with the rest of the request unread: an error, or an end after the alert.
    drop(timeout(LIMIT, stream.read_to_end(&mut answer)).await.unwrap());
    assert!(!contains(&answer, b"HTTP/1.1 101"));
    served.end().await;
}

#[tokio::test]
async fn files_that_are_of_no_use_are_told_at_the_start() {
    let files = |certificate, key, authorities: Option<&str>| TlsFiles {
        certificate: file(certificate),
        key: file(key),
        client_authorities: authorities.map(file),
    };
    for (files, about) in [
        (files("first.pem", "missing.key", None), "missing.key"),
        (files("first.pem", "second.key", None), "first.pem"),
        (files("make", "first.key", None), "make"),
        (files("first.pem", "first.key", Some("missing.pem")), "missing.pem"),
        (files("first.pem", "first.key", Some("make")), "make"),
    ] {
        let settings = Settings { tls: Some(files), ..Settings::default() };
        let Err(BindError::Tls(error)) = Server::bind(settings, Arc::new(Fake::quiet())).await else {
            panic!("{about} is good enough")
        };
        assert!(error.to_string().ends_with(about), "{error}");
    }
}
