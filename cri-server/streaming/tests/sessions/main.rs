//! Sessions over real sockets, with a backend made of pipes.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod fake;
mod forward;
mod frames;
mod remote;
mod tls;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::fake::{Client, LIMIT, ask, contains, exec};
use crate::frames::{Streams, control, data, masked, message, ping, reset, spdy, stream, websocket};

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

/// They say nothing, or begin a request and never end it.
#[tokio::test]
async fn strangers_keep_nobody_out() {
    let mut client = Client::new(exec("cat", "in out"), "GET", &websocket("v5.channel.k8s.io")).await;
    client.expect(b"\x82\x01\x01").await;
    let address = client.stream.peer_addr().unwrap();
    let mut crowd = Vec::new();
    for number in 0..600 {
        let mut stranger = TcpStream::connect(address).await.unwrap();
        if number % 2 == 0 {
            stranger.write_all(b"GET /exec/").await.unwrap();
        }
        crowd.push(stranger);
    }
    let url = exec("hello", "out")(&client.server);
    let mut other = ask(&url, "GET", &websocket("v5.channel.k8s.io")).await;
    let mut answer = Vec::new();
    while !contains(&answer, b"\x01hello") {
        assert_ne!(timeout(LIMIT, other.read_buf(&mut answer)).await.unwrap().unwrap(), 0, "{answer:?}");
    }
    // The first ones had to make room, and who has a session has not.
    timeout(LIMIT, crowd[0].read_to_end(&mut answer)).await.unwrap().unwrap();
    client.send(&message(b"\0still there")).await;
    client.expect(b"\x01still there").await;
}

/// A SYN_STREAM whose headers are `block`.
fn headers(block: &[u8]) -> Vec<u8> {
    control(1, &[&[0, 0, 0, 1][..], &[0; 6], block].concat())
}

/// What `plain` becomes, without the dictionary, which nobody has to use.
fn compressed(plain: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
    std::io::Write::write_all(&mut encoder, plain).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test]
async fn hostile_spdy_frames_end_the_connection() {
    let bomb = compressed(&vec![0; 10 << 20]);
    assert!(bomb.len() < 16_000, "it is refused for its compressed size: {}", bomb.len());
    for (what, frames) in [
        ("a flood of resets", [stream(1, "error"), reset(1, 5).repeat(1001)].concat()),
        ("an even stream", stream(2, "error")),
        ("a stream before the last", [stream(1, "error"), stream(5, "stdout"), stream(3, "stdin")].concat()),
        ("a stream twice", [stream(1, "error"), stream(1, "error")].concat()),
        ("a bomb", headers(&bomb)),
        ("more pairs than anybody needs", headers(&compressed(&[0xff; 4]))),
        ("a name longer than its block", headers(&compressed(&[0, 0, 0, 1, 0x7f, 0xff, 0xff, 0xff]))),
        ("a broken block", headers(&[0x78, 0xbb, 0xe3, 0xc6, 0xa7, 0xc2, 0xff, 0xff])),
        ("another dictionary", headers(&[0x78, 0xbb, 1, 2, 3, 4, 0, 0])),
        ("a stream that is cut short", control(1, &[0; 9])),
        ("a frame of 16 MiB", vec![0x80, 3, 0, 1, 0, 0xff, 0xff, 0xff]),
        ("another version", vec![0x80, 2, 0, 1, 0, 0, 0, 0]),
    ] {
        let mut client = Client::new(exec("hello", "out"), "POST", &spdy("v4.channel.k8s.io")).await;
        client.send(&frames).await;
        let answer = client.rest().await;
        assert!(answer.starts_with(b"HTTP/1.1 101 ") && !contains(&answer, b"Exit"), "{what}");
    }
}

#[tokio::test]
async fn hostile_websocket_frames_end_the_connection() {
    for (what, protocol, frames) in [
        ("a frame without a mask", "v5.channel.k8s.io", vec![0x82, 2, 0, b'x']),
        ("a continuation of nothing", "v5.channel.k8s.io", masked(0x80, b"\0x")),
        ("a message in another", "v5.channel.k8s.io", [masked(2, b"\0x"), masked(0x82, b"\0x")].concat()),
        ("a ping in pieces", "v5.channel.k8s.io", masked(9, b"x")),
        ("a long ping", "v5.channel.k8s.io", masked(0x89, &[b'x'; 126])),
        ("reserved bits", "v5.channel.k8s.io", masked(0xc2, b"\0x")),
        ("an unknown frame", "v5.channel.k8s.io", masked(0x83, b"\0x")),
        ("no base64", "v4.base64.channel.k8s.io", masked(0x81, b"0\xff\xff\xff\xff")),
        ("half a base64", "v4.base64.channel.k8s.io", masked(0x81, b"0aGVsb")),
    ] {
        let mut client = Client::new(exec("cat", "in out"), "GET", &websocket(protocol)).await;
        client.send(&frames).await;
        let answer = client.rest().await;
        assert!(answer.starts_with(b"HTTP/1.1 101 ") && !contains(&answer, b"Success"), "{what}");
    }
}

#[tokio::test]
async fn frames_for_nobody_are_forgotten() {
    let mut client = Client::new(exec("cat", "in out"), "POST", &spdy("v4.channel.k8s.io")).await;
    let opened = [stream(1, "error"), stream(3, "stdin"), stream(5, "stdout")];
    client.send(&[data(3, false, b"too early"), data(99, true, b"x"), reset(98, 5)].concat()).await;
    client.send(&opened.concat()).await;
    client
        .send(&[data(3, false, b"in time"), data(3, true, b""), data(3, false, b"too late")].concat())
        .await;
    let streams = Streams::of(&client.rest().await);
    assert_eq!(streams.data[&5], b"in time");
    let mut client = Client::new(exec("cat", "in out"), "GET", &websocket("v5.channel.k8s.io")).await;
    let early = [message(b"\x63nobody's"), message(&[255, 99]), message(&[255]), message(b"")].concat();
    client.send(&[early, message(b"\0in time"), message(&[255, 0]), message(b"\0too late")].concat()).await;
    let answer = client.rest().await;
    assert!(contains(&answer, b"\x82\x08\x01in time") && contains(&answer, b"\"Success\""));
    assert!(!contains(&answer, b"too late"));
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
