//! What clients send, byte by byte, and the frames of what they receive.

use std::collections::BTreeMap;

/// Headers of an upgrade to SPDY, with a protocol if one is named.
pub(crate) fn spdy(protocol: &str) -> String {
    let named = format!("X-Stream-Protocol-Version: {protocol}\r\n");
    format!("Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\n{}", if protocol.is_empty() { "" } else { &named })
}

/// Headers of an upgrade to a WebSocket, with a protocol if one is named.
pub(crate) fn websocket(protocol: &str) -> String {
    let named =
        if protocol.is_empty() { String::new() } else { format!("Sec-WebSocket-Protocol: {protocol}\r\n") };
    format!(
        "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{named}"
    )
}

/// A SYN_STREAM, in stored deflate blocks so that it can be read here. The first one of a connection is number 1.
pub(crate) fn open(id: u32, headers: &[(&str, &str)]) -> Vec<u8> {
    let mut plain = (headers.len() as u32).to_be_bytes().to_vec();
    for text in headers.iter().flat_map(|(name, value)| [name, value]) {
        plain.extend((text.len() as u32).to_be_bytes());
        plain.extend(text.bytes());
    }
    let mut block = if id == 1 { vec![0x78, 0xbb, 0xe3, 0xc6, 0xa7, 0xc2] } else { Vec::new() };
    block.push(0);
    block.extend_from_slice(&(plain.len() as u16).to_le_bytes());
    block.extend_from_slice(&(!(plain.len() as u16)).to_le_bytes());
    block.extend_from_slice(&plain);
    control(1, &[&id.to_be_bytes()[..], &[0; 6], &block].concat())
}

/// The SYN_STREAM of an exec's stream.
pub(crate) fn stream(id: u32, kind: &str) -> Vec<u8> {
    open(id, &[("streamtype", kind)])
}

/// The pair of streams of a forwarded connection: `id` and the next one.
pub(crate) fn pair(id: u32, port: u16) -> Vec<u8> {
    let (request, port) = (id.to_string(), port.to_string());
    let one = |id, kind| open(id, &[("streamtype", kind), ("port", &port), ("requestid", &request)]);
    [one(id, "error"), one(id + 2, "data"), data(id, true, b"")].concat()
}

/// A control frame of SPDY.
pub(crate) fn control(kind: u8, body: &[u8]) -> Vec<u8> {
    [&[0x80, 3, 0, kind, 0], &(body.len() as u32).to_be_bytes()[1..], body].concat()
}

/// An RST_STREAM with a status: 3 for refused, 5 for cancelled.
pub(crate) fn reset(id: u32, status: u8) -> Vec<u8> {
    control(3, &[&id.to_be_bytes()[..], &[0, 0, 0, status]].concat())
}

/// A ping, and its answer.
pub(crate) fn ping(number: u32) -> Vec<u8> {
    control(6, &number.to_be_bytes())
}

/// A data frame of SPDY.
pub(crate) fn data(id: u32, last: bool, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    [&id.to_be_bytes()[..], &[u8::from(last)], &length[1..], payload].concat()
}

/// A masked binary message of a WebSocket.
pub(crate) fn message(payload: &[u8]) -> Vec<u8> {
    masked(0x82, payload)
}

/// A masked frame of a WebSocket, whole.
pub(crate) fn masked(kind: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [1, 2, 3, 4];
    let mut frame = vec![kind];
    match u16::try_from(payload.len()) {
        Ok(length @ 0..126) => frame.push(0x80 | length as u8),
        Ok(length) => frame.extend([&[0x80 | 126][..], &length.to_be_bytes()].concat()),
        Err(_) => frame.extend([&[0x80 | 127][..], &(payload.len() as u64).to_be_bytes()].concat()),
    }
    frame.extend(mask);
    frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

/// What has come on each stream, and which have ended.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    pub data: BTreeMap<u32, Vec<u8>>,
    pub ended: Vec<u32>,
    pub resets: Vec<(u32, u8)>,
    pub pongs: Vec<u32>,
}

impl Streams {
    /// Takes the complete frames apart that follow an answer's head.
    pub(crate) fn of(received: &[u8]) -> Self {
        let mut streams = Self::default();
        let Some(start) = received.windows(4).position(|window| window == b"\r\n\r\n") else {
            return streams;
        };
        let mut rest = &received[start + 4..];
        let word = |bytes: &[u8]| u32::from_be_bytes(bytes[..4].try_into().unwrap());
        while rest.len() >= 8 {
            let (first, flags, length) = (word(rest), rest[4], (word(&rest[4..]) & 0x00ff_ffff) as usize);
            let Some(body) = rest.get(8..8 + length) else { break };
            match first {
                0x8003_0003 => streams.resets.push((word(body), body[7])),
                0x8003_0006 => streams.pongs.push(word(body)),
                id if id >> 31 == 0 => {
                    streams.data.entry(id).or_default().extend(body);
                    if flags & 1 != 0 {
                        streams.ended.push(id);
                    }
                }
                _ => {}
            }
            rest = &rest[8 + length..];
        }
        streams
    }
}
