//! Reading D-Bus messages: what tells how a call ended, or which job did. Nothing in them is trusted.

use super::wire::{BYTE_ORDER, PROTOCOL_VERSION};

/// The longest message that is accepted, in bytes: answers are object paths and sentences.
const MAX_MESSAGE_BYTES: usize = 1 << 20;
/// What precedes a message's variable part.
pub(super) const FIXED_BYTES: usize = 16;

/// The kinds of received messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Reply,
    Error,
    Signal,
    /// Nothing that is waited for.
    Other,
}

/// A received message.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) kind: Kind,
    /// The serial number of the call it answers.
    pub(super) answers: Option<u32>,
    /// The name of the signal.
    pub(super) member: String,
    /// The name of the error.
    pub(super) error: String,
    /// The texts (of types `s` and `o`) among the arguments, up to the first of a type that is neither text nor `u`.
    pub(super) texts: Vec<String>,
}

/// How long a message is, from its first [`FIXED_BYTES`]. None when it is none, or too long.
pub(super) fn message_length(fixed: &[u8; FIXED_BYTES]) -> Option<usize> {
    if fixed[0] != BYTE_ORDER || fixed[3] != PROTOCOL_VERSION {
        return None;
    }
    let mut reader = Reader { bytes: fixed, at: 4 };
    let body = reader.u32()? as usize;
    reader.u32()?;
    let fields = reader.u32()? as usize;
    let total = FIXED_BYTES.checked_add(fields)?.checked_next_multiple_of(8)?.checked_add(body)?;
    (total <= MAX_MESSAGE_BYTES).then_some(total)
}

impl Message {
    /// Reads a whole message. None when it breaks the format.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let kind = match bytes.get(1)? {
            2 => Kind::Reply,
            3 => Kind::Error,
            4 => Kind::Signal,
            _ => Kind::Other,
        };
        let mut message =
            Self { kind, answers: None, member: String::new(), error: String::new(), texts: Vec::new() };
        let mut reader = Reader { bytes, at: 12 };
        let end = (reader.u32()? as usize).checked_add(FIXED_BYTES).filter(|end| *end <= bytes.len())?;
        let mut signature = String::new();
        while reader.at < end {
            reader.align(8);
            let (code, of) = (reader.byte()?, reader.signature()?);
            match (code, of.as_str()) {
                (3, "s") => message.member = reader.text()?,
                (4, "s") => message.error = reader.text()?,
                (5, "u") => message.answers = Some(reader.u32()?),
                (8, "g") => signature = reader.signature()?,
                (_, "s" | "o") => drop(reader.text()?),
                (_, "u") => drop(reader.u32()?),
                (_, "g") => drop(reader.signature()?),
                _ => return None,
            }
        }
        reader.align(8);
        for of in signature.chars() {
            match of {
                's' | 'o' => message.texts.push(reader.text()?),
                'u' => drop(reader.u32()?),
                _ => break,
            }
        }
        Some(message)
    }
}

/// Reads from bytes that nobody has checked.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn align(&mut self, to: usize) {
        self.at = self.at.next_multiple_of(to);
    }

    fn take(&mut self, count: usize) -> Option<&[u8]> {
        let taken = self.bytes.get(self.at..self.at.checked_add(count)?)?;
        self.at += count;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    fn u32(&mut self) -> Option<u32> {
        self.align(4);
        self.take(4)?.try_into().ok().map(u32::from_ne_bytes)
    }

    fn text(&mut self) -> Option<String> {
        let length = self.u32()? as usize;
        self.terminated(length)
    }

    fn signature(&mut self) -> Option<String> {
        let length = self.byte()?.into();
        self.terminated(length)
    }

    fn terminated(&mut self, length: usize) -> Option<String> {
        let text = String::from_utf8(self.take(length)?.to_vec()).ok()?;
        (self.byte()? == 0).then_some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::super::wire::{Value, align, length, put};
    use super::*;

    /// A message like a call, of another kind and with other fields.
    fn message(kind: u8, fields: Vec<(u8, Value)>, body: &[Value]) -> Vec<u8> {
        let mut bytes = Vec::new();
        body.iter().for_each(|value| value.write(&mut bytes));
        let field = |(code, value)| Value::Struct(vec![Value::Byte(code), Value::Variant(Box::new(value))]);
        let mut whole = vec![BYTE_ORDER, kind, 0, PROTOCOL_VERSION];
        put(&mut whole, &length(bytes.len()).to_ne_bytes());
        put(&mut whole, &7u32.to_ne_bytes());
        Value::Array("(yv)".into(), fields.into_iter().map(field).collect()).write(&mut whole);
        align(&mut whole, 8);
        whole.extend(bytes);
        whole
    }

    #[test]
    fn an_answer_is_told_by_its_call_and_a_signal_by_its_name() {
        let job = "/org/freedesktop/systemd1/job/9";
        let fields = vec![(5, Value::U32(7)), (8, Value::Signature("o".into()))];
        let reply = Message::read(&message(2, fields, &[Value::Path(job.into())])).unwrap();
        assert_eq!((reply.kind, reply.answers, reply.texts), (Kind::Reply, Some(7), vec![job.to_owned()]));

        let fields = vec![(3, Value::Text("JobRemoved".into())), (8, Value::Signature("uoss".into()))];
        let texts = ["unit".to_owned(), "done".to_owned()];
        let body = [
            Value::U32(9),
            Value::Path(job.into()),
            Value::Text(texts[0].clone()),
            Value::Text(texts[1].clone()),
        ];
        let signal = Message::read(&message(4, fields, &body)).unwrap();
        assert_eq!((signal.kind, signal.member.as_str()), (Kind::Signal, "JobRemoved"));
        assert_eq!(signal.texts[1..], texts);

        let fields = vec![(4, Value::Text("no.such".into())), (5, Value::U32(7))];
        let error = Message::read(&message(3, fields, &[])).unwrap();
        assert_eq!((error.kind, error.error.as_str(), error.texts.len()), (Kind::Error, "no.such", 0));
    }

    #[test]
    fn broken_messages_are_no_messages() {
        let whole = message(
            2,
            vec![(5, Value::U32(7)), (8, Value::Signature("s".into()))],
            &[Value::Text("x".into())],
        );
        for end in 0..whole.len() {
            // Whatever is cut off: an answer without its text, or none.
            assert!(Message::read(&whole[..end]).is_none(), "{end}");
        }
        let mut fixed: [u8; FIXED_BYTES] = whole[..FIXED_BYTES].try_into().unwrap();
        fixed[4..8].copy_from_slice(&u32::MAX.to_ne_bytes());
        assert_eq!(message_length(&fixed), None, "too long");
        fixed[0] = b'x';
        assert_eq!(message_length(&fixed), None, "another byte order");
    }
}
