//! A backend made of pipes and local sockets, and a client of it that speaks raw bytes.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use cleat_streaming::{
    AttachRequest, Backend, BoxFuture, Control, ExecRequest, Failure, Outcome, Running, Server, Settings,
    Size,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// How long anything may take.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

/// What happens to a process, told to the test.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Resized(Size),
    /// Its client is gone, or the session over.
    Left,
}

/// What a command does is its name:
///
/// * `cat` gives its input back, to the end of it, and ends with 0;
/// * `deaf` reads nothing and does not end;
/// * everything else is printed, and the process ends with 3 while something left behind holds its pipe.
pub(crate) struct Fake {
    events: mpsc::UnboundedSender<Event>,
}

struct Process {
    events: mpsc::UnboundedSender<Event>,
    ended: Option<JoinHandle<i32>>,
    /// What holds pipes open.
    _left: Vec<OwnedFd>,
}

impl Drop for Process {
    fn drop(&mut self) {
        // A test that does not listen is none of its business.
        drop(self.events.send(Event::Left));
    }
}

impl Control for Process {
    fn resize(&mut self, size: Size) -> BoxFuture<'_, ()> {
        self.events.send(Event::Resized(size)).unwrap();
        Box::pin(async {})
    }

    fn finished(&mut self) -> BoxFuture<'_, Result<Outcome, Failure>> {
        Box::pin(async {
            match &mut self.ended {
                Some(ended) => Ok(Outcome::Exited(ended.await.unwrap())),
                None => std::future::pending().await,
            }
        })
    }
}

impl Fake {
    /// One whose events nobody listens to.
    pub(crate) fn quiet() -> Self {
        Self { events: mpsc::unbounded_channel().0 }
    }

    fn start(&self, command: &str) -> Running {
        let ((their_in, our_in), (our_out, mut their_out)) =
            (std::io::pipe().unwrap(), std::io::pipe().unwrap());
        let mut left: Vec<OwnedFd> = Vec::new();
        let ended = match command {
            "cat" => {
                let mut input = their_in;
                Some(tokio::task::spawn_blocking(move || {
                    let mut buffer = vec![0; 64 * 1024];
                    loop {
                        match input.read(&mut buffer).unwrap() {
                            0 => return 0,
                            // A client that is gone.
                            length => match their_out.write_all(&buffer[..length]) {
                                Ok(()) => {}
                                Err(_) => return 1,
                            },
                        }
                    }
                }))
            }
            "deaf" => {
                left.extend([their_in.into(), their_out.into()]);
                None
            }
            words => {
                their_out.write_all(words.as_bytes()).unwrap();
                left.push(their_out.into());
                Some(tokio::spawn(async { 3 }))
            }
        };
        let control = Box::new(Process { events: self.events.clone(), ended, _left: left });
        Running { stdin: Some(our_in.into()), stdout: Some(our_out.into()), stderr: None, control }
    }
}

impl Backend for Fake {
    fn exec(&self, request: ExecRequest) -> BoxFuture<'_, Result<Running, Failure>> {
        Box::pin(async move { Ok(self.start(&request.command.join(" "))) })
    }

    fn attach(&self, request: AttachRequest) -> BoxFuture<'_, Result<Running, Failure>> {
        Box::pin(async move {
            if request.container_id == "gone" { Err(Failure::new("gone")) } else { Ok(self.start("cat")) }
        })
    }

    fn connect<'a>(&'a self, _: &'a str, port: u16) -> BoxFuture<'a, Result<TcpStream, Failure>> {
        Box::pin(async move {
            let address = SocketAddr::from(([127, 0, 0, 1], port));
            TcpStream::connect(address).await.map_err(|error| Failure::new(error.to_string()))
        })
    }
}

/// An exec of one command, with the streams that are named.
pub(crate) fn exec(command: &str, streams: &str) -> impl FnOnce(&Server) -> String {
    let has = |name| streams.contains(name);
    let (stdin, stdout, stderr, tty) = (has("in"), has("out"), has("err"), has("tty"));
    let (container_id, command) = ("c".into(), command.split(' ').map(ToOwned::to_owned).collect());
    move |server| server.exec_url(ExecRequest { container_id, command, tty, stdin, stdout, stderr }).unwrap()
}

/// A client whose server runs as long as it does.
pub(crate) struct Client {
    pub server: Arc<Server>,
    pub stream: TcpStream,
    pub events: mpsc::UnboundedReceiver<Event>,
    /// All that was received and not asked for yet.
    pub received: Vec<u8>,
    stop: CancellationToken,
    serving: JoinHandle<()>,
}

impl Client {
    /// Sends a request with `headers` to a new URL.
    pub(crate) async fn new(url: impl FnOnce(&Server) -> String, method: &str, headers: &str) -> Self {
        Self::with(Settings::default(), url, method, headers).await
    }

    pub(crate) async fn with(
        settings: Settings,
        url: impl FnOnce(&Server) -> String,
        method: &str,
        headers: &str,
    ) -> Self {
        let (sender, events) = mpsc::unbounded_channel();
        let server = Arc::new(Server::bind(settings, Arc::new(Fake { events: sender })).await.unwrap());
        let url = url(&server);
        let stop = CancellationToken::new();
        let serving = tokio::spawn({
            let (server, stop) = (server.clone(), stop.clone());
            async move { server.serve(stop).await }
        });
        let stream = ask(&url, method, headers).await;
        Self { server, stream, events, received: Vec::new(), stop, serving }
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        timeout(LIMIT, self.stream.write_all(bytes)).await.unwrap().unwrap();
    }

    /// Receives until `enough` says so; false if the server closes first.
    pub(crate) async fn until(&mut self, mut enough: impl FnMut(&[u8]) -> bool) -> bool {
        while !enough(&self.received) {
            let read = self.stream.read_buf(&mut self.received);
            if matches!(timeout(LIMIT, read).await.expect("nothing comes"), Ok(0) | Err(_)) {
                return false;
            }
        }
        true
    }

    /// Waits until `part` has come.
    pub(crate) async fn expect(&mut self, part: &[u8]) {
        let came = self.until(|all| contains(all, part)).await;
        assert!(came, "{:?} did not come: {:?}", part.escape_ascii(), self.received.escape_ascii());
    }

    /// All that comes until the server closes.
    pub(crate) async fn rest(mut self) -> Vec<u8> {
        while self.until(|_| false).await {}
        let all = std::mem::take(&mut self.received);
        drop(self.stream);
        self.stop.cancel();
        timeout(LIMIT, self.serving).await.unwrap().unwrap();
        all
    }

    /// Closes without a word.
    pub(crate) fn vanish(&mut self) {
        let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let elsewhere = std::net::TcpStream::connect(nobody.local_addr().unwrap()).unwrap();
        elsewhere.set_nonblocking(true).unwrap();
        self.stream = TcpStream::from_std(elsewhere).unwrap();
    }

    /// What happens to the process next.
    pub(crate) async fn event(&mut self) -> Event {
        timeout(LIMIT, self.events.recv()).await.expect("nothing happens").unwrap()
    }
}

/// Sends a request with `headers` to `url`.
pub(crate) async fn ask(url: &str, method: &str, headers: &str) -> TcpStream {
    let (host, path) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let mut stream = TcpStream::connect(host).await.unwrap();
    let request = format!("{method} /{path} HTTP/1.1\r\nHost: x\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

pub(crate) fn contains(all: &[u8], part: &[u8]) -> bool {
    all.windows(part.len()).any(|window| window == part)
}

/// A server in a pod, until it is dropped.
pub(crate) struct Echo {
    pub port: u16,
    serving: JoinHandle<()>,
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Echo {
    /// One that gives back what it gets.
    pub(crate) async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let serving = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut reader, mut writer) = stream.split();
                    // A client that breaks its connection is part of the tests.
                    drop(tokio::io::copy(&mut reader, &mut writer).await);
                });
            }
        });
        Self { port, serving }
    }

    /// One that accepts connections and sends without end, whether it is read or not.
    pub(crate) async fn flood() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let serving = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move { while stream.write_all(&[b'x'; 65_536]).await.is_ok() {} });
            }
        });
        Self { port, serving }
    }
}
