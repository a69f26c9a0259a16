//! Sessions over real sockets, with a backend made of pipes.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::io::Write;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use cleat_streaming::{
    AttachRequest, Backend, BoxFuture, Control, ExecRequest, Failure, Outcome, PortForwardRequest, Running,
    Server, Settings, Size,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// Prints its command, keeps the pipe open as a process left behind would, and ends with 3.
struct Fake;

struct Ended(#[allow(dead_code, reason = "holds the pipe open")] OwnedFd);

impl Control for Ended {
    fn resize(&mut self, _: Size) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }
    fn finished(&mut self) -> BoxFuture<'_, Result<Outcome, Failure>> {
        Box::pin(async { Ok(Outcome::Exited(3)) })
    }
}

impl Backend for Fake {
    fn exec(&self, request: ExecRequest) -> BoxFuture<'_, Result<Running, Failure>> {
        Box::pin(async move {
            let (reader, mut writer) = std::io::pipe().unwrap();
            writer.write_all(request.command.join(" ").as_bytes()).unwrap();
            let control = Box::new(Ended(writer.into()));
            Ok(Running { stdin: None, stdout: Some(reader.into()), stderr: None, control })
        })
    }
    fn attach(&self, _: AttachRequest) -> BoxFuture<'_, Result<Running, Failure>> {
        Box::pin(async { Err(Failure::new("gone")) })
    }
    fn connect<'a>(&'a self, _: &'a str, port: u16) -> BoxFuture<'a, Result<TcpStream, Failure>> {
        Box::pin(async move {
            let address = SocketAddr::from(([127, 0, 0, 1], port));
            TcpStream::connect(address).await.map_err(|error| Failure::new(error.to_string()))
        })
    }
}

/// Sends `headers` and `rest` to a new URL of the server and gives all that comes back until it closes.
async fn talk(url: impl FnOnce(&Server) -> String, headers: &str, rest: &[u8]) -> Vec<u8> {
    let server = Arc::new(Server::bind(Settings::default(), Arc::new(Fake)).await.unwrap());
    let url = url(&server);
    let stop = CancellationToken::new();
    let serving = tokio::spawn({
        let (server, stop) = (server.clone(), stop.clone());
        async move { server.serve(stop).await }
    });
    let (host, path) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let mut client = TcpStream::connect(host).await.unwrap();
    client.write_all(format!("POST /{path} HTTP/1.1\r\nHost: x\r\n{headers}\r\n").as_bytes()).await.unwrap();
    client.write_all(rest).await.unwrap();
    let mut answer = Vec::new();
    timeout(Duration::from_secs(20), client.read_to_end(&mut answer)).await.unwrap().unwrap();
    drop(client);
    stop.cancel();
    serving.await.unwrap();
    answer
}

fn exec(server: &Server) -> String {
    let (container_id, command) = ("c".into(), vec!["hello".into(), "there".into()]);
    let request =
        ExecRequest { container_id, command, tty: false, stdin: false, stdout: true, stderr: false };
    server.exec_url(request).unwrap()
}

fn contains(all: &[u8], part: &[u8]) -> bool {
    all.windows(part.len()).any(|window| window == part)
}

const WEBSOCKET: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: v5.channel.k8s.io\r\n";
const SPDY: &str =
    "Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: v4.channel.k8s.io\r\n";

#[tokio::test]
async fn an_unknown_token_is_not_found() {
    let answer = talk(|server| exec(server) + "0", WEBSOCKET, b"").await;
    assert!(answer.starts_with(b"HTTP/1.1 404 "));
}

#[tokio::test]
async fn exec_over_a_websocket_tells_output_then_status() {
    let answer = talk(exec, WEBSOCKET, b"").await;
    assert!(contains(&answer, b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"));
    assert!(contains(&answer, b"\r\n\r\n\x82\x01\x01\x82\x0c\x01hello there\x82"));
    assert!(contains(&answer, b"\"reason\":\"NonZeroExitCode\""));
    assert!(answer.ends_with(b"\x88\x02\x03\xe8"));
}

/// A SYN_STREAM with one header, in stored deflate blocks so that it can be read here.
fn syn_stream(id: u32, first: bool, kind: &str) -> Vec<u8> {
    let mut plain = b"\0\0\0\x01\0\0\0\x0astreamtype".to_vec();
    plain.extend_from_slice(&(kind.len() as u32).to_be_bytes());
    plain.extend_from_slice(kind.as_bytes());
    let mut block = if first { vec![0x78, 0xbb, 0xe3, 0xc6, 0xa7, 0xc2] } else { Vec::new() };
    block.push(0);
    block.extend_from_slice(&(plain.len() as u16).to_le_bytes());
    block.extend_from_slice(&(!(plain.len() as u16)).to_le_bytes());
    block.extend_from_slice(&plain);
    let mut frame = vec![0x80, 3, 0, 1, 0];
    frame.extend_from_slice(&(10 + block.len() as u32).to_be_bytes()[1..]);
    frame.extend_from_slice(&id.to_be_bytes());
    frame.extend_from_slice(&[0; 6]);
    frame.extend_from_slice(&block);
    frame
}

#[tokio::test]
async fn exec_over_spdy_tells_output_then_status() {
    let frames = [syn_stream(1, true, "error"), syn_stream(3, false, "stdout")].concat();
    let answer = talk(exec, SPDY, &frames).await;
    assert!(contains(&answer, b"X-Stream-Protocol-Version: v4.channel.k8s.io\r\n"));
    assert!(contains(&answer, b"\0\0\0\x03\0\0\0\x0bhello there\0\0\0\x03\x01\0\0\0"));
    assert!(contains(&answer, b"\"reason\":\"NonZeroExitCode\""));
    assert!(contains(&answer, b"\x80\x03\0\x07"));
}

#[tokio::test]
async fn hostile_frames_end_the_connection() {
    let flood =
        [syn_stream(1, true, "error"), [0x80, 3, 0, 3, 0, 0, 0, 8, 0, 0, 0, 1, 0, 0, 0, 5].repeat(1001)];
    let even = syn_stream(2, true, "error");
    for frames in
        [flood.concat(), even, vec![0x80, 3, 0, 1, 0, 0xff, 0xff, 0xff], vec![0x80, 2, 0, 1, 0, 0, 0, 0]]
    {
        let answer = talk(exec, SPDY, &frames).await;
        assert!(answer.starts_with(b"HTTP/1.1 101 ") && !contains(&answer, b"Exit"));
    }
}

/// RST_STREAM of stream 3 with the status CANCEL.
const RESET_OF_3: &[u8] = b"\x80\x03\0\x03\0\0\0\x08\0\0\0\x03\0\0\0\x05";

#[tokio::test]
async fn a_connection_that_cannot_be_made_is_reset_and_the_session_goes_on() {
    let url = |server: &Server| {
        let request = PortForwardRequest { pod_id: "p".into(), ports: vec![] };
        server.port_forward_url(request).unwrap()
    };
    let headers = SPDY.replace("v4.channel.k8s.io", "portforward.k8s.io");
    let mut frames = [syn_stream(1, true, "error"), syn_stream(3, false, "data")].concat();
    frames.extend_from_slice(&[0x80, 3, 0, 6, 0, 0, 0, 4, 0, 0, 0, 9]);
    let answer = timeout(Duration::from_secs(20), talk_and_go(url, &headers, &frames)).await.unwrap();
    assert!(contains(&answer, b"\x80\x03\0\x06\0\0\0\x04\0\0\0\x09"), "no answer to the ping");
    assert!(contains(&answer, RESET_OF_3));
    // A byte on the error stream would make kubectl end the session.
    assert!(!contains(&answer, b"\0\0\0\x01\0"));
}

/// As [`talk`], for sessions that the client ends: by a GOAWAY once it has said the rest.
async fn talk_and_go(url: impl FnOnce(&Server) -> String, headers: &str, rest: &[u8]) -> Vec<u8> {
    let server = Arc::new(Server::bind(Settings::default(), Arc::new(Fake)).await.unwrap());
    let url = url(&server);
    let stop = CancellationToken::new();
    tokio::spawn({
        let (server, stop) = (server.clone(), stop.clone());
        async move { server.serve(stop).await }
    });
    let (host, path) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let mut client = TcpStream::connect(host).await.unwrap();
    client.write_all(format!("GET /{path} HTTP/1.1\r\nHost: x\r\n{headers}\r\n").as_bytes()).await.unwrap();
    client.write_all(rest).await.unwrap();
    let mut answer = Vec::new();
    while !(contains(&answer, RESET_OF_3) && contains(&answer, b"\x80\x03\0\x06")) {
        assert!(client.read_buf(&mut answer).await.unwrap() > 0, "closed early");
    }
    stop.cancel();
    answer
}
