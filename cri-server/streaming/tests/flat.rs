//! A thousand sessions leave nothing behind: descriptors and memory of the whole process, so nothing runs beside them.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[allow(dead_code, reason = "shared with the tests of single sessions")]
#[path = "sessions/fake.rs"]
mod fake;
#[allow(dead_code, reason = "shared with the tests of single sessions")]
#[path = "sessions/frames.rs"]
mod frames;

use std::sync::Arc;

use cleat_streaming::{PortForwardRequest, Server, Settings};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::fake::{Echo, Fake, LIMIT, ask, contains, exec};
use crate::frames::{data, message, pair, reset, spdy, stream, websocket};

/// Sessions before the first look: buffers, threads and the allocator are as they stay.
const WARM_UP: u32 = 200;
const SESSIONS: u32 = 1000;
/// What the allocator and a few more threads may hold on to. A kilobyte of each session would be more.
const SLACK_BYTES: u64 = 768 * 1024;

/// Reads until `part` has come.
async fn until(stream: &mut TcpStream, part: &[u8]) {
    let mut received = Vec::new();
    while !contains(&received, part) {
        let length = timeout(LIMIT, stream.read_buf(&mut received)).await.unwrap().unwrap();
        assert_ne!(length, 0, "{:?} did not come: {:?}", part.escape_ascii(), received.escape_ascii());
    }
}

/// One of each kind in turn, ended by the process, by the client, or in the middle of a frame.
async fn session(number: u32, server: &Server, echo: &Echo) {
    let forward =
        || server.port_forward_url(PortForwardRequest { pod_id: "p".into(), ports: vec![] }).unwrap();
    match number % 4 {
        0 => {
            let url = exec("hello", "in out")(server);
            let mut stream = ask(&url, "GET", &websocket("v5.channel.k8s.io")).await;
            until(&mut stream, b"exit status 3").await;
        }
        1 => {
            let url = exec("cat", "in out")(server);
            let mut client = ask(&url, "POST", &spdy("v4.channel.k8s.io")).await;
            let opened = [stream(1, "error"), stream(3, "stdin"), stream(5, "stdout"), data(3, false, b"x")];
            client.write_all(&opened.concat()).await.unwrap();
            until(&mut client, b"\0\0\0\x05\0\0\0\x01x").await;
        }
        2 => {
            let mut client = ask(&forward(), "POST", &spdy("portforward.k8s.io")).await;
            let opened = [pair(1, echo.port), pair(5, 1), pair(9, echo.port), data(3, false, b"there")];
            client.write_all(&opened.concat()).await.unwrap();
            until(&mut client, b"\0\0\0\x05there").await;
            client.write_all(&[reset(3, 5), vec![0, 0, 0, 11, 0, 0, 1, 0, 7]].concat()).await.unwrap();
        }
        _ => {
            let mut client = ask(&forward(), "GET", &websocket("SPDY/3.1+portforward.k8s.io")).await;
            let sent = [pair(1, echo.port), data(3, true, b"through a tunnel")].concat();
            client.write_all(&message(&sent)).await.unwrap();
            until(&mut client, b"through a tunnel").await;
        }
    }
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// What the process holds in memory that is its own.
fn memory_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

#[tokio::test]
async fn a_thousand_sessions_leave_nothing_behind() {
    let (server, echo) = (
        Arc::new(Server::bind(Settings::default(), Arc::new(Fake::quiet())).await.unwrap()),
        Echo::start().await,
    );
    let stop = CancellationToken::new();
    let serving = tokio::spawn({
        let (server, stop) = (server.clone(), stop.clone());
        async move { server.serve(stop).await }
    });
    // Descriptors go when the server has noticed that a client has gone.
    let settled = async |at_most: usize| {
        let flat = async {
            while descriptors() > at_most {
                tokio::task::yield_now().await;
            }
        };
        assert!(timeout(LIMIT, flat).await.is_ok(), "{} descriptors of {at_most}", descriptors());
    };
    let before = descriptors();
    for number in 0..WARM_UP {
        session(number, &server, &echo).await;
    }
    settled(before).await;
    let warm = memory_bytes();
    for number in 0..SESSIONS {
        session(number, &server, &echo).await;
    }
    settled(before).await;
    let grown = memory_bytes().saturating_sub(warm);
    println!("{SESSIONS} sessions: {before} descriptors, {grown} bytes more than {warm}");
    assert!(grown < SLACK_BYTES, "{grown} bytes more after {SESSIONS} sessions");
    stop.cancel();
    timeout(LIMIT, serving).await.unwrap().unwrap();
}
