//! Writing D-Bus messages (D-Bus specification, "Marshaling" and "Message Format"), in this machine's byte order, which
//! systemd's is, too.

pub(super) const BYTE_ORDER: u8 = if cfg!(target_endian = "little") { b'l' } else { b'B' };
pub(super) const PROTOCOL_VERSION: u8 = 1;
const METHOD_CALL: u8 = 1;

/// A value with its type.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Bool(bool),
    Byte(u8),
    I16(i16),
    U16(u16),
    I32(i32),
    U32(u32),
    I64(i64),
    U64(u64),
    Double(f64),
    Text(String),
    Path(String),
    Signature(String),
    /// The signature of its elements, and these.
    Array(String, Vec<Value>),
    Struct(Vec<Value>),
    Variant(Box<Value>),
}

impl Value {
    /// Its type's signature.
    pub(super) fn signature(&self) -> String {
        match self {
            Self::Bool(_) => "b".into(),
            Self::Byte(_) => "y".into(),
            Self::I16(_) => "n".into(),
            Self::U16(_) => "q".into(),
            Self::I32(_) => "i".into(),
            Self::U32(_) => "u".into(),
            Self::I64(_) => "x".into(),
            Self::U64(_) => "t".into(),
            Self::Double(_) => "d".into(),
            Self::Text(_) => "s".into(),
            Self::Path(_) => "o".into(),
            Self::Signature(_) => "g".into(),
            Self::Array(element, _) => format!("a{element}"),
            Self::Struct(fields) => format!("({})", fields.iter().map(Self::signature).collect::<String>()),
            Self::Variant(_) => "v".into(),
        }
    }

    /// Appends it, aligned from the start of `buffer`.
    pub(super) fn write(&self, buffer: &mut Vec<u8>) {
        match self {
            Self::Bool(value) => put(buffer, &u32::from(*value).to_ne_bytes()),
            Self::Byte(value) => buffer.push(*value),
            Self::I16(value) => put(buffer, &value.to_ne_bytes()),
            Self::U16(value) => put(buffer, &value.to_ne_bytes()),
            Self::I32(value) => put(buffer, &value.to_ne_bytes()),
            Self::U32(value) => put(buffer, &value.to_ne_bytes()),
            Self::I64(value) => put(buffer, &value.to_ne_bytes()),
            Self::U64(value) => put(buffer, &value.to_ne_bytes()),
            Self::Double(value) => put(buffer, &value.to_ne_bytes()),
            Self::Text(text) | Self::Path(text) => {
                put(buffer, &length(text.len()).to_ne_bytes());
                buffer.extend(text.as_bytes());
                buffer.push(0);
            }
            Self::Signature(text) => write_signature(text, buffer),
            Self::Array(element, values) => write_array(element, values, buffer),
            Self::Struct(fields) => {
                align(buffer, 8);
                fields.iter().for_each(|field| field.write(buffer));
            }
            Self::Variant(value) => {
                write_signature(&value.signature(), buffer);
                value.write(buffer);
            }
        }
    }
}

/// Properties as systemd takes them, `a(sv)`.
pub(super) fn properties(list: Vec<super::Property>) -> Value {
    let pair = |(name, value)| Value::Struct(vec![Value::Text(name), Value::Variant(Box::new(value))]);
    Value::Array("(sv)".into(), list.into_iter().map(pair).collect())
}

/// Units with their properties, `a(sa(sv))`.
pub(super) fn units(list: impl IntoIterator<Item = (String, Vec<super::Property>)>) -> Value {
    let pair = |(name, list)| Value::Struct(vec![Value::Text(name), properties(list)]);
    Value::Array("(sa(sv))".into(), list.into_iter().map(pair).collect())
}

/// Appends a number at a multiple of its own size.
pub(super) fn put(buffer: &mut Vec<u8>, bytes: &[u8]) {
    align(buffer, bytes.len());
    buffer.extend(bytes);
}

pub(super) fn align(buffer: &mut Vec<u8>, to: usize) {
    buffer.resize(buffer.len().next_multiple_of(to), 0);
}

/// Lengths of what is sent: names and limits, which are far below 4 GiB.
pub(super) fn length(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

fn write_signature(text: &str, buffer: &mut Vec<u8>) {
    buffer.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
    buffer.extend(text.as_bytes());
    buffer.push(0);
}

/// The length counts the elements, without the padding before the first of them.
fn write_array(element: &str, values: &[Value], buffer: &mut Vec<u8>) {
    align(buffer, 4);
    let at = buffer.len();
    buffer.extend([0; 4]);
    let alignment = match element.as_bytes().first() {
        Some(b'y' | b'g' | b'v') => 1,
        Some(b'n' | b'q') => 2,
        Some(b'x' | b't' | b'd' | b'(' | b'{') => 8,
        _ => 4,
    };
    align(buffer, alignment);
    let start = buffer.len();
    values.iter().for_each(|value| value.write(buffer));
    let bytes = length(buffer.len() - start);
    buffer[at..at + 4].copy_from_slice(&bytes.to_ne_bytes());
}

/// Where a method is.
pub(super) struct Method<'a> {
    pub(super) destination: &'a str,
    pub(super) path: &'a str,
    pub(super) interface: &'a str,
    pub(super) name: &'a str,
}

/// A method call as bytes.
pub(super) fn call(serial: u32, method: &Method<'_>, arguments: &[Value]) -> Vec<u8> {
    let mut body = Vec::new();
    arguments.iter().for_each(|argument| argument.write(&mut body));
    let signature: String = arguments.iter().map(Value::signature).collect();
    let text = |text: &str| Value::Text(text.to_owned());
    let mut fields = vec![
        (1, Value::Path(method.path.to_owned())),
        (2, text(method.interface)),
        (3, text(method.name)),
        (6, text(method.destination)),
    ];
    if !signature.is_empty() {
        fields.push((8, Value::Signature(signature)));
    }
    let field = |(code, value)| Value::Struct(vec![Value::Byte(code), Value::Variant(Box::new(value))]);
    let fields = Value::Array("(yv)".into(), fields.into_iter().map(field).collect());
    let mut message = vec![BYTE_ORDER, METHOD_CALL, 0, PROTOCOL_VERSION];
    put(&mut message, &length(body.len()).to_ne_bytes());
    put(&mut message, &serial.to_ne_bytes());
    fields.write(&mut message);
    align(&mut message, 8);
    message.extend(body);
    message
}

#[cfg(test)]
mod tests {
    use super::super::message::{FIXED_BYTES, Message, message_length};
    use super::*;

    fn written(value: &Value) -> Vec<u8> {
        let mut buffer = Vec::new();
        value.write(&mut buffer);
        buffer
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn values_are_aligned_and_counted() {
        let value = Value::Array("t".into(), vec![Value::U64(1)]);
        assert_eq!(written(&value), [8, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
        let value =
            Value::Struct(vec![Value::Text("ab".into()), Value::Variant(Box::new(Value::Bool(true)))]);
        assert_eq!(written(&value), [2, 0, 0, 0, b'a', b'b', 0, 1, b'b', 0, 0, 0, 1, 0, 0, 0]);
        assert_eq!(value.signature(), "(sv)");
        assert_eq!(written(&Value::Array("(sv)".into(), Vec::new())), [0; 8], "padding without an element");
    }

    #[test]
    fn a_call_is_as_long_as_it_says_and_aligned() {
        let method = Method { destination: "d", path: "/p", interface: "i", name: "M" };
        for arguments in [vec![], vec![Value::Text("x".into()), Value::Bool(true)]] {
            let call = call(1, &method, &arguments);
            let fixed: &[u8; FIXED_BYTES] = call[..FIXED_BYTES].try_into().unwrap();
            assert_eq!(message_length(fixed), Some(call.len()));
            assert_eq!(Message::read(&call).unwrap().member, "M");
        }
    }
}
