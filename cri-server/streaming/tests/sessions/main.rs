//! Sessions over real sockets, with a backend made of pipes.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod fake;
mod forward;
mod frames;
mod remote;
mod tls;

use crate::fake::{Client, contains, exec};
use crate::frames::{control, ping, reset, spdy, stream, websocket};

/// What a client gets that asks for a session so.
async fn answer(method: &str, headers: &str) -> Vec<u8> {
    Client::new(exec("hello", "out"), method, headers).await.rest().await
}

#[tokio::test]
async fn requests_are_refused_by_what_is_wrong_with_them() {
    let unknown = Client::new(|server| exec("x", "out")(server) + "0", "GET", &websocket("")).await;
    assert!(unknown.rest().await.starts_with(b"HTTP/1.1 404 "));
    let old = websocket("").replace("Version: 13", "Version: 8");
    let keyless = websocket("").replace("dGhlIHNhbXBsZSBub25jZQ==", "c2hvcnQ=");
    let long = format!("X: {}\r\n", "x".repeat(20_000));
    for (method, headers, status) in [
        ("GET", "", "400"),
        ("PUT", &spdy("v4.channel.k8s.io"), "405"),
        ("POST", &spdy("v9.channel.k8s.io"), "403"),
        ("GET", &old, "426"),
        ("GET", &keyless, "400"),
        ("POST", &websocket(""), "400"),
        ("GET", &websocket("v9.channel.k8s.io"), "403"),
        ("GET", &long, "400"),
    ] {
        let answer = answer(method, headers).await;
        let expected = format!("HTTP/1.1 {status} ");
        assert!(answer.starts_with(expected.as_bytes()), "{headers}: {}", answer.escape_ascii());
    }
}

#[tokio::test]
async fn hostile_frames_end_the_connection() {
    let flood = [stream(1, "error"), reset(1, 5).repeat(1001)].concat();
    let bomb = control(1, &[&[0; 10][..], &[0x78, 0xbb, 0xe3, 0xc6, 0xa7, 0xc2, 0xff, 0xff]].concat());
    for frames in [
        flood,
        stream(2, "error"),
        bomb,
        vec![0x80, 3, 0, 1, 0, 0xff, 0xff, 0xff],
        vec![0x80, 2, 0, 1, 0, 0, 0, 0],
    ] {
        let mut client = Client::new(exec("hello", "out"), "POST", &spdy("v4.channel.k8s.io")).await;
        client.send(&frames).await;
        let answer = client.rest().await;
        assert!(answer.starts_with(b"HTTP/1.1 101 ") && !contains(&answer, b"Exit"));
    }
}

#[tokio::test]
async fn a_flood_of_pings_is_answered_as_fast_as_it_is_read() {
    let mut client = Client::new(exec("deaf", "out"), "POST", &spdy("v4.channel.k8s.io")).await;
    for _ in 0..100 {
        client.send(&ping(1).repeat(100)).await;
    }
    client.send(&ping(77)).await;
    client.expect(&ping(77)).await;
}
