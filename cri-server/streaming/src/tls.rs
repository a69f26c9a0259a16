//! TLS, where it is configured: who we are and whom we serve, from files that are read again when they change.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{VerifierBuilderError, WebPkiClientVerifier, danger::ClientCertVerifier};
use rustls::{RootCertStore, ServerConfig};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// What clients may be offered besides an upgrade to SPDY or WebSocket: nothing.
const APPLICATION: &[u8] = b"http/1.1";

/// The files of TLS, all in PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// Our certificate, and those that lead to its root.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// Authorities of clients. Without them any client is served that has a token; with them it needs a certificate, too.
    pub client_authorities: Option<PathBuf>,
}

/// The files do not make up TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read, or is not in PEM.
    #[error("read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: pem::Error,
    },
    /// There is no use for what is in a file.
    #[error("use {path}")]
    Use {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: rustls::Error,
    },
    /// Clients cannot be verified with what is in a file.
    #[error("verify clients by {path}")]
    Verify {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: VerifierBuilderError,
    },
}

/// TLS as the files are now.
pub(crate) struct Tls {
    files: TlsFiles,
    current: Mutex<Current>,
}

struct Current {
    acceptor: TlsAcceptor,
    /// The files that `acceptor` is made of.
    stamps: Vec<Stamp>,
    /// Newer ones that are of no use, which was told.
    refused: Option<Vec<Stamp>>,
}

/// What changes when a file is written or replaced: device, inode, size, and time in seconds and nanoseconds. `None` where
/// there is no file.
type Stamp = Option<(u64, u64, u64, i64, i64)>;

impl Tls {
    /// Reads the files.
    pub(crate) fn new(files: TlsFiles) -> Result<Self, TlsError> {
        let stamps = files.stamps();
        let current = Mutex::new(Current { acceptor: files.acceptor()?, stamps, refused: None });
        Ok(Self { files, current })
    }

    /// Agrees on TLS with a client.
    pub(crate) async fn accept(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        self.acceptor().accept(stream).await
    }

    /// What new clients get. While one of the files is written and the other is not yet, that is what it was before.
    fn acceptor(&self) -> TlsAcceptor {
        // Held while three small files of the node's own disk are read, at most.
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        // Taken before they are read: what changes meanwhile is noticed the next time.
        let stamps = self.files.stamps();
        if stamps != current.stamps {
            match self.files.acceptor() {
                Ok(acceptor) => {
                    tracing::info!("the certificates for streaming have changed, and are used");
                    *current = Current { acceptor, stamps, refused: None };
                }
                Err(error) if current.refused.as_ref() != Some(&stamps) => {
                    let error: &dyn std::error::Error = &error;
                    tracing::warn!(error, "the certificates for streaming have changed, but are of no use");
                    current.refused = Some(stamps);
                }
                Err(_) => {}
            }
        }
        current.acceptor.clone()
    }
}

impl TlsFiles {
    fn stamps(&self) -> Vec<Stamp> {
        let files = [Some(&self.certificate), Some(&self.key), self.client_authorities.as_ref()];
        files.into_iter().flatten().map(|path| stamp(path)).collect()
    }

    fn acceptor(&self) -> Result<TlsAcceptor, TlsError> {
        let using = |source| TlsError::Use { path: self.certificate.clone(), source };
        let builder = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(using)?;
        let builder = match &self.client_authorities {
            Some(path) => builder.with_client_cert_verifier(clients_of(path)?),
            None => builder.with_no_client_auth(),
        };
        let key = PrivateKeyDer::from_pem_file(&self.key);
        let key = key.map_err(|source| TlsError::Read { path: self.key.clone(), source })?;
        // A key that is not this certificate's is refused.
        let mut config = builder.with_single_cert(certificates(&self.certificate)?, key).map_err(using)?;
        config.alpn_protocols.push(APPLICATION.to_vec());
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}

fn stamp(path: &Path) -> Stamp {
    let file = std::fs::metadata(path).ok()?;
    Some((file.dev(), file.ino(), file.size(), file.mtime(), file.mtime_nsec()))
}

/// Those who have a certificate of one of the authorities in a file.
fn clients_of(path: &Path) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|source| TlsError::Use { path: path.to_owned(), source })?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
    verifier.map_err(|source| TlsError::Verify { path: path.to_owned(), source })
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    certificates.map_err(|source| TlsError::Read { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::Connection;
    use crate::presence::Presence;
    use rustls::ClientConfig;
    use rustls::pki_types::ServerName;
    use std::time::Duration;
    use tokio::io::AsyncReadExt;
    use tokio::time::timeout;
    use tokio_rustls::TlsConnector;

    fn file(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sessions/certificates").join(name)
    }

    fn connector() -> TlsConnector {
        let mut roots = RootCertStore::empty();
        roots.add(certificates(&file("authority.pem")).unwrap().remove(0)).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = builder.unwrap().with_root_certificates(roots).with_no_client_auth();
        TlsConnector::from(Arc::new(config))
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_connection_does_not_take_at_once_needs_nothing_more_to_be_sent() {
        let files =
            TlsFiles { certificate: file("first.pem"), key: file("first.key"), client_authorities: None };
        let tls = Tls::new(files).unwrap();
        let (near, far) = tokio::io::duplex(1000);
        let serve = async {
            let stream = tls.acceptor().accept(far).await.unwrap();
            let mut client = Connection::inside(Box::new(stream), Presence::unknown());
            client.sink.write_all(&[7; 10_000]).await.unwrap();
            client
        };
        let ask = async {
            let name = ServerName::try_from("localhost").unwrap();
            let mut stream = connector().connect(name, near).await.unwrap();
            let mut all = [0; 10_000];
            timeout(Duration::from_secs(60), stream.read_exact(&mut all)).await.unwrap().unwrap();
            all
        };
        let (_open, all) = tokio::join!(serve, ask);
        assert_eq!(all, [7; 10_000]);
    }
}
