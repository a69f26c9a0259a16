//! Exec and attach.

use std::time::Duration;

use cleat_streaming::{AttachRequest, Server, Settings, Size};

use crate::fake::{Client, Event, contains, exec};
use crate::frames::{Streams, data, masked, message, reset, spdy, stream, websocket};

#[tokio::test]
async fn a_websocket_tells_output_then_status() {
    for (protocol, structured) in
        [("v5.channel.k8s.io", true), ("v4.channel.k8s.io", true), ("channel.k8s.io", false), ("", false)]
    {
        let answer = Client::new(exec("hello there", "out"), "GET", &websocket(protocol)).await.rest().await;
        assert!(contains(&answer, b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"));
        assert!(contains(&answer, b"\r\n\r\n\x82\x01\x01\x82\x0c\x01hello there\x82"), "{protocol}");
        assert_eq!(contains(&answer, b"\"reason\":\"NonZeroExitCode\""), structured, "{protocol}");
        assert!(contains(&answer, b"exit status 3"), "{protocol}");
        assert!(answer.ends_with(b"\x88\x02\x03\xe8"));
    }
}

#[tokio::test]
async fn base64_goes_both_ways() {
    let mut client = Client::new(exec("cat", "in out"), "GET", &websocket("v4.base64.channel.k8s.io")).await;
    // In two frames of one message.
    client.send(&masked(1, b"0aGVsb")).await;
    client.send(&masked(0x80, b"G8=")).await;
    client.expect(b"\x81\x01\x31").await;
    client.expect(b"\x81\x091aGVsbG8=").await;
}

#[tokio::test]
async fn spdy_tells_output_then_status() {
    for (protocol, structured) in [
        ("v4.channel.k8s.io", true),
        ("v3.channel.k8s.io", false),
        ("v2.channel.k8s.io", false),
        ("channel.k8s.io", false),
        ("", false),
    ] {
        let mut client = Client::new(exec("hello there", "out"), "POST", &spdy(protocol)).await;
        client.send(&[stream(1, "error"), stream(3, "stdout")].concat()).await;
        let answer = client.rest().await;
        let named = format!("X-Stream-Protocol-Version: {protocol}");
        assert_eq!(contains(&answer, named.as_bytes()), !protocol.is_empty(), "{protocol}");
        let streams = Streams::of(&answer);
        assert_eq!(streams.data[&3], b"hello there");
        assert_eq!(streams.ended, [3, 1]);
        let status = String::from_utf8_lossy(&streams.data[&1]);
        assert_eq!(status.contains("\"reason\":\"NonZeroExitCode\""), structured, "{status}");
        assert!(status.contains("exit status 3"), "{status}");
        assert!(contains(&answer, b"\x80\x03\0\x07"), "no goodbye");
    }
}

#[tokio::test]
async fn spdy_carries_input_to_its_end() {
    let mut client = Client::new(exec("cat", "in out"), "POST", &spdy("v4.channel.k8s.io")).await;
    client.send(&[stream(1, "error"), stream(3, "stdin"), stream(5, "stdout")].concat()).await;
    let sent: Vec<u8> = (0..3_000_000_u32).map(|number| (number % 251) as u8).collect();
    // More than all that lies between can hold, so that both directions have to flow.
    let (mut reader, mut writer) = client.stream.split();
    let frames: Vec<u8> = sent.chunks(100_000).flat_map(|chunk| data(3, false, chunk)).collect();
    let writing = async {
        tokio::io::AsyncWriteExt::write_all(&mut writer, &frames).await.unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut writer, &data(3, true, b"")).await.unwrap();
    };
    let mut received = Vec::new();
    let reading = tokio::io::AsyncReadExt::read_to_end(&mut reader, &mut received);
    let (_, read) = tokio::join!(writing, reading);
    read.unwrap();
    let streams = Streams::of(&received);
    assert!(streams.data[&5] == sent, "{} bytes of {}", streams.data[&5].len(), sent.len());
    assert!(contains(&streams.data[&1], b"Success"));
}

#[tokio::test]
async fn the_close_channel_of_v5_ends_input() {
    let mut client = Client::new(exec("cat", "in out"), "GET", &websocket("v5.channel.k8s.io")).await;
    client.send(&[message(b"\0bytes"), message(&[255, 0])].concat()).await;
    let answer = client.rest().await;
    assert!(contains(&answer, b"\x82\x06\x01bytes") && contains(&answer, b"\"Success\""));
}

#[tokio::test]
async fn sizes_of_a_terminal_are_told() {
    let expected = |columns, rows| Event::Resized(Size { rows, columns });
    let mut client = Client::new(exec("cat", "in out tty"), "POST", &spdy("v4.channel.k8s.io")).await;
    let opened = [stream(1, "error"), stream(3, "stdin"), stream(5, "stdout"), stream(7, "resize")];
    client.send(&opened.concat()).await;
    client.send(&data(7, false, br#"{"Width":80,"Height":24}{"Wid"#)).await;
    assert_eq!(client.event().await, expected(80, 24));
    client.send(&data(7, false, br#"th":132,"Height":43}"#)).await;
    assert_eq!(client.event().await, expected(132, 43));
    let mut client = Client::new(exec("cat", "in out tty"), "GET", &websocket("v5.channel.k8s.io")).await;
    client.send(&message(b"\x04{\"Width\":1,\"Height\":2}")).await;
    assert_eq!(client.event().await, expected(1, 2));
}

fn attach(id: &str) -> impl FnOnce(&Server) -> String {
    let container_id = id.to_owned();
    move |server| {
        let request = AttachRequest { container_id, tty: false, stdin: true, stdout: true, stderr: false };
        server.attach_url(request).unwrap()
    }
}

#[tokio::test]
async fn attach_carries_both_ways_and_tells_why_it_cannot() {
    let mut client = Client::new(attach("c"), "GET", &websocket("v5.channel.k8s.io")).await;
    client.send(&message(b"\0line\n")).await;
    client.expect(b"\x82\x06\x01line\n").await;
    let answer = Client::new(attach("gone"), "GET", &websocket("v5.channel.k8s.io")).await.rest().await;
    assert!(contains(&answer, b"Internal error occurred: gone"));
}

/// What is closed with it may still be under way: the end stands behind input that nobody takes, in the client's kernel.
#[tokio::test]
async fn a_client_that_vanishes_is_noticed_while_the_process_takes_no_input() {
    // More than the pipe, the queue, what is read ahead and the window hold.
    let input = vec![0; 1 << 20];
    let mut over_spdy = Client::new(exec("deaf", "in out"), "POST", &spdy("v4.channel.k8s.io")).await;
    let opened = [stream(1, "error"), stream(3, "stdin"), stream(5, "stdout"), data(3, false, &input)];
    over_spdy.send(&opened.concat()).await;
    over_spdy.until(|all| all.windows(4).filter(|head| head == b"\x80\x03\0\x02").count() == 3).await;
    let mut over_websocket =
        Client::new(exec("deaf", "in out"), "GET", &websocket("v5.channel.k8s.io")).await;
    over_websocket.send(&message(&input)).await;
    over_websocket.expect(b"\x82\x01\x01").await;
    for client in [&mut over_spdy, &mut over_websocket] {
        client.vanish();
    }
    for mut client in [over_spdy, over_websocket] {
        assert_eq!(client.event().await, Event::Left);
    }
}

#[tokio::test]
async fn a_client_that_vanishes_is_noticed_while_the_process_prints_nothing() {
    let mut client = Client::new(exec("deaf", "in out"), "GET", &websocket("v5.channel.k8s.io")).await;
    client.expect(b"\x82\x01\x01").await;
    client.vanish();
    assert_eq!(client.event().await, Event::Left);
}

#[tokio::test]
async fn an_idle_session_is_closed() {
    let settings = Settings { idle_limit: Some(Duration::from_millis(300)), ..Settings::default() };
    let headers = websocket("v5.channel.k8s.io");
    let mut client = Client::with(settings, exec("deaf", "in out"), "GET", &headers).await;
    assert_eq!(client.event().await, Event::Left);
    assert!(client.rest().await.ends_with(b"\x88\x02\x03\xe8"));
}

#[tokio::test]
async fn streams_that_nobody_asked_for_are_refused() {
    let mut client = Client::new(exec("deaf", "out"), "POST", &spdy("v4.channel.k8s.io")).await;
    client.send(&[stream(1, "error"), stream(3, "stdout"), data(3, false, b"nobody's")].concat()).await;
    for id in (5..200).step_by(2) {
        client.send(&stream(id, "stdout")).await;
    }
    client.expect(&reset(199, 3)).await;
}
