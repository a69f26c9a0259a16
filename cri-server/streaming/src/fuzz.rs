//! Connections that went wrong: what a client could send is made up, changed at random, and read.
//!
//! Nothing may panic, hang, or hand on more than was sent. What was not changed has to arrive byte for byte. A seed and the
//! number of an execution name a case. `CLEAT_FUZZ_EXECUTIONS` and `CLEAT_FUZZ_SEED` go further than a test run does.

use std::collections::BTreeMap;
use std::time::Duration;

use cleat_test_fuzz::{Campaign, Dice};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::wire::{Framing, Wire};
use crate::{spdy, websocket};

/// Executions of an ordinary test run, of each protocol: a second or two.
const EXECUTIONS: u64 = 300;
/// An ordinary test run is the same each time.
const SEED: u64 = 0x5eed_c1ea_7000_0002;
/// Most frames of one case.
const FRAMES: u64 = 24;
/// Longer than anything waits for (of time that stands still while something is done).
const HANG: Duration = Duration::from_secs(120);

/// What arrived, by channel.
type Arrived = BTreeMap<u32, Vec<u8>>;

/// A payload: often short, sometimes longer than what is handed on at once.
fn payload(dice: &mut Dice) -> Vec<u8> {
    let longest = [0, 8, 8, 200, 200, 200, 200, 70_000][dice.index(8)];
    let first = dice.byte();
    (0..dice.roll(longest + 1)).map(|at| first.wrapping_add(at as u8)).collect()
}

/// A case: what is sent, and what has to arrive of it if it is not changed.
struct Case {
    sent: Vec<u8>,
    expected: Arrived,
}

fn run(make: impl Fn(&mut Dice) -> Case, read: impl AsyncFn(&[u8]) -> (bool, Arrived)) {
    let campaign = Campaign::from_environment(EXECUTIONS, SEED);
    let Campaign { executions, seed } = campaign;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let mut read_to_the_end = 0_u64;
    for (execution, mut dice) in campaign.cases() {
        let Case { mut sent, expected } = make(&mut dice);
        let is_changed = dice.roll(8) != 0;
        if is_changed {
            change(&mut sent, &mut dice);
        }
        let case = format!("seed {seed}, execution {execution}");
        let (ended, arrived) = runtime.block_on(async { timeout(HANG, read(&sent)).await }).expect(&case);
        let bytes: usize = arrived.values().map(Vec::len).sum();
        assert!(bytes <= sent.len(), "{case}: {bytes} bytes of {}", sent.len());
        assert!(is_changed || (ended && arrived == expected), "{case}: {arrived:?} for {expected:?}");
        read_to_the_end += u64::from(ended);
    }
    println!("{executions} executions, {read_to_the_end} read to the end");
    // Cases that are all refused at the door test the door only.
    assert!(read_to_the_end > executions / 5, "{read_to_the_end} of {executions} read to the end");
}

/// Changes a few bytes, or the order or number of them.
fn change(sent: &mut Vec<u8>, dice: &mut Dice) {
    for _ in 0..=dice.roll(3) {
        if sent.is_empty() {
            return;
        }
        let (at, other) = (dice.index(sent.len()), dice.index(sent.len()));
        match dice.roll(8) {
            0 => sent.truncate(at),
            1 => drop(sent.remove(at)),
            2 => sent.insert(at, dice.byte()),
            3 => sent.extend_from_within(at.min(other)..at.max(other)),
            4 => sent[at] ^= 1 << dice.roll(8),
            _ => sent[at] = dice.byte(),
        }
    }
}

#[test]
fn no_spdy_client_breaks_the_receiver() {
    run(spdy_case, async |sent| {
        let (opened, mut streams) = mpsc::channel::<spdy::Opened>(spdy::QUEUE);
        let receiver = spdy::Receiver::new(sent, Wire::nowhere(Framing::Spdy));
        let collect = async {
            let mut readers = JoinSet::new();
            while let Some(stream) = streams.recv().await {
                readers.spawn(drained(stream.id, stream.input));
            }
            readers.join_all().await.into_iter().filter(|(_, bytes)| !bytes.is_empty()).collect()
        };
        let (ended, arrived) = tokio::join!(receiver.run(opened), collect);
        (ended.is_ok(), arrived)
    });
}

async fn drained(id: u32, mut input: mpsc::Receiver<Vec<u8>>) -> (u32, Vec<u8>) {
    let mut all = Vec::new();
    while let Some(chunk) = input.recv().await {
        all.extend(chunk);
    }
    (id, all)
}

fn spdy_case(dice: &mut Dice) -> Case {
    let (mut sent, mut expected, mut open, mut last) = (Vec::new(), Arrived::new(), Vec::new(), 0_u32);
    let mut names = spdy::Deflater::new();
    for _ in 0..dice.roll(FRAMES) {
        let control = |kind: u8, flags: u8, body: &[u8]| {
            [&[0x80, 3, 0, kind, flags], &u32::try_from(body.len()).unwrap().to_be_bytes()[1..], body]
                .concat()
        };
        match dice.roll(10) {
            0..3 => {
                last += 1 + 2 * u32::try_from(dice.roll(2)).unwrap() + last % 2;
                let block = names.block(&[("streamtype", "data"), ("port", "80")]);
                let body = [&last.to_be_bytes()[..], &[0; 6], &block].concat();
                sent.extend(control(1, 0, &body));
                open.push(last);
            }
            3 => sent.extend(control(6, 0, &[0, 0, 0, 1])),
            4 => sent.extend(control(4, 0, &[0; 4])),
            5 if !open.is_empty() => {
                let id = open.swap_remove(dice.index(open.len()));
                sent.extend(control(3, 0, &[&id.to_be_bytes()[..], &[0, 0, 0, 5]].concat()));
            }
            _ if !open.is_empty() => {
                let (at, is_last, payload) = (dice.index(open.len()), dice.roll(6) == 0, payload(dice));
                let id = if is_last { open.swap_remove(at) } else { open[at] };
                sent.extend(id.to_be_bytes());
                sent.push(u8::from(is_last));
                sent.extend(&u32::try_from(payload.len()).unwrap().to_be_bytes()[1..]);
                sent.extend(&payload);
                expected.entry(id).or_default().extend(payload);
            }
            _ => {}
        }
    }
    expected.retain(|_, bytes| !bytes.is_empty());
    Case { sent, expected }
}

#[test]
fn no_websocket_client_breaks_the_receiver() {
    for framing in [Framing::Channels, Framing::Base64, Framing::Tunnel] {
        let make = |dice: &mut Dice| websocket_case(dice, framing);
        run(make, async |sent| {
            let (senders, inputs): (Vec<_>, Vec<_>) = (0..5).map(|_| mpsc::channel(spdy::QUEUE)).unzip();
            let channels = senders.into_iter().map(Some).collect();
            let targets = websocket::Targets { channels, framing, can_close: framing == Framing::Channels };
            let receiver = websocket::Receiver::new(sent, Wire::nowhere(framing), targets);
            let readers: JoinSet<_> = (0..).zip(inputs).map(|(id, input)| drained(id, input)).collect();
            let (ended, arrived) = tokio::join!(receiver.run(), readers.join_all());
            (ended.is_ok(), arrived.into_iter().filter(|(_, bytes)| !bytes.is_empty()).collect())
        });
    }
}

fn websocket_case(dice: &mut Dice, framing: Framing) -> Case {
    use base64::Engine;
    let (mut sent, mut expected) = (Vec::new(), Arrived::new());
    for _ in 0..dice.roll(FRAMES) {
        if dice.roll(5) == 0 {
            frame(&mut sent, 0x89 + u8::try_from(dice.roll(2)).unwrap(), b"ping", dice);
            continue;
        }
        let (channel, payload) = (u8::try_from(dice.roll(5)).unwrap(), payload(dice));
        let (kind, message, channel) = match framing {
            Framing::Base64 => {
                let text = base64::engine::general_purpose::STANDARD.encode(&payload);
                (1, [&[b'0' + channel], text.as_bytes()].concat(), channel)
            }
            Framing::Tunnel => (2, payload.clone(), 0),
            _ => (2, [&[channel], payload.as_slice()].concat(), channel),
        };
        let (first, second) = message.split_at(dice.index(message.len() + 1));
        if dice.roll(2) == 0 {
            frame(&mut sent, kind, first, dice);
            frame(&mut sent, 0x80, second, dice);
        } else {
            frame(&mut sent, 0x80 | kind, &message, dice);
        }
        expected.entry(u32::from(channel)).or_default().extend(payload);
    }
    expected.retain(|_, bytes| !bytes.is_empty());
    Case { sent, expected }
}

fn frame(sent: &mut Vec<u8>, kind: u8, payload: &[u8], dice: &mut Dice) {
    sent.push(kind);
    match payload.len() {
        length @ 0..126 => sent.push(0x80 | u8::try_from(length).unwrap()),
        length @ 126..65_536 => {
            sent.push(0x80 | 126);
            sent.extend(u16::try_from(length).unwrap().to_be_bytes());
        }
        length => {
            sent.push(0x80 | 127);
            sent.extend((length as u64).to_be_bytes());
        }
    }
    let mask = [dice.byte(), dice.byte(), dice.byte(), dice.byte()];
    sent.extend(mask);
    sent.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
}
