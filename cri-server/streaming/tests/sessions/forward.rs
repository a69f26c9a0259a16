//! Port forward.

use cleat_streaming::{PortForwardRequest, Server};

use crate::fake::{Client, Echo};
use crate::frames::{Streams, data, message, pair, ping, reset, spdy, stream, websocket};

fn url(ports: &[u16]) -> impl FnOnce(&Server) -> String {
    let ports = ports.to_vec();
    move |server| server.port_forward_url(PortForwardRequest { pod_id: "p".into(), ports }).unwrap()
}

async fn client() -> Client {
    Client::new(url(&[]), "POST", &spdy("portforward.k8s.io")).await
}

/// Waits until `enough` holds of what has come.
async fn until(client: &mut Client, enough: impl Fn(&Streams) -> bool) -> Streams {
    let came = client.until(|all| enough(&Streams::of(all))).await;
    let streams = Streams::of(&client.received);
    assert!(came, "closed early: {streams:?}");
    streams
}

/// A port that nobody listens on.
fn closed_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

#[tokio::test]
async fn connections_carry_both_ways_to_both_ends() {
    let (echo, mut client) = (Echo::start().await, client().await);
    let ids = [1, 5, 9, 13];
    for id in ids {
        client.send(&pair(id, echo.port)).await;
    }
    for id in ids {
        client.send(&data(id + 2, false, format!("to {id}").as_bytes())).await;
    }
    for id in ids {
        client.send(&data(id + 2, true, b", the end")).await;
    }
    let streams = until(&mut client, |streams| streams.ended.len() == 8).await;
    for id in ids {
        assert_eq!(streams.data[&(id + 2)], format!("to {id}, the end").as_bytes());
        assert_eq!(streams.data[&id], b"", "something on the error stream");
    }
    assert_eq!(streams.resets, []);
}

#[tokio::test]
async fn a_connection_that_cannot_be_made_is_reset_and_the_session_goes_on() {
    let (echo, mut client) = (Echo::start().await, client().await);
    client.send(&[pair(1, closed_port()), pair(5, echo.port), data(7, false, b"still there")].concat()).await;
    let enough = |streams: &Streams| !streams.resets.is_empty() && streams.data.contains_key(&7);
    let streams = until(&mut client, enough).await;
    assert_eq!(streams.resets, [(3, 5)]);
    assert_eq!(streams.data[&7], b"still there");
    // A byte on the error stream would make kubectl end the session.
    assert!(streams.data.get(&1).is_none_or(Vec::is_empty));
}

#[tokio::test]
async fn a_connection_that_the_client_breaks_is_over_and_the_others_go_on() {
    let (flood, echo, mut client) = (Echo::flood().await, Echo::start().await, client().await);
    client.send(&pair(1, flood.port)).await;
    until(&mut client, |streams| streams.data.contains_key(&3)).await;
    client.send(&[reset(3, 5), pair(5, echo.port), data(7, true, b"still there")].concat()).await;
    // The error stream of the broken one ends when its connection is over.
    let streams = until(&mut client, |streams| [1, 7].iter().all(|id| streams.ended.contains(id))).await;
    assert_eq!(streams.data[&7], b"still there");
    assert!(!streams.ended.contains(&3));
}

#[tokio::test]
async fn streams_that_make_no_pair_are_refused() {
    let mut client = client().await;
    client.send(&stream(1, "data")).await;
    client.send(&pair(3, 0)).await;
    let twice = crate::frames::open(7, &[("streamtype", "data"), ("port", "80"), ("requestid", "x")]);
    client.send(&twice).await;
    client.send(&[&twice[..8], &9_u32.to_be_bytes(), &twice[12..]].concat()).await;
    let streams = until(&mut client, |streams| streams.resets.len() >= 5).await;
    assert_eq!(streams.resets, [(1, 3), (3, 3), (5, 3), (7, 3), (9, 3)]);
}

#[tokio::test]
async fn more_streams_than_allowed_are_refused_and_the_session_goes_on() {
    let (flood, mut client) = (Echo::start().await, client().await);
    for id in (1..4 * 600).step_by(4) {
        client.send(&pair(id, flood.port)).await;
    }
    client.send(&ping(9)).await;
    let streams = until(&mut client, |streams| streams.pongs.contains(&9)).await;
    assert!(!streams.resets.is_empty() && streams.resets.iter().all(|(_, status)| *status == 3));
}

#[tokio::test]
async fn a_tunnel_carries_the_same() {
    let echo = Echo::start().await;
    for protocol in ["SPDY/3.1+portforward.k8s.io", "v2.portforward.k8s.io"] {
        let mut client = Client::new(url(&[]), "GET", &websocket(protocol)).await;
        client.send(&message(&[pair(1, echo.port), data(3, true, b"through a tunnel")].concat())).await;
        client.expect(b"\0\0\0\x03\0\0\0\x10through a tunnel").await;
    }
}

#[tokio::test]
async fn ports_of_the_older_protocol_have_channels() {
    let (one, two, closed) = (Echo::start().await, Echo::start().await, closed_port());
    let ports = [one.port, two.port, closed];
    let mut client = Client::new(url(&ports), "GET", &websocket("v4.channel.k8s.io")).await;
    for (channel, port) in (0..).zip(ports.iter().flat_map(|port| [port, port])) {
        let [low, high] = port.to_le_bytes();
        client.expect(&[0x82, 3, channel, low, high]).await;
    }
    client.send(&[message(b"\x00first"), message(b"\x02second")].concat()).await;
    client.expect(b"\x82\x06\x00first").await;
    client.expect(b"\x82\x07\x02second").await;
    client.expect(b"\x05error forwarding port").await;
}
