//! What a setting may be, checked one value at a time.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use cleat_sys::capability;

use super::fault::Complaint;
use super::net;
use super::value::Value;

/// The kind of a setting.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    /// An absolute path.
    Path,
    /// Absolute paths.
    Paths,
    /// `unix://` and an absolute path.
    Socket,
    /// The same, or nothing.
    OptionalSocket,
    /// An IP address and a TCP port.
    SocketAddress,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A number within bounds, both included.
    Integer {
        /// Least.
        min: i64,
        /// Greatest.
        max: i64,
    },
    /// `true` or `false`.
    Switch,
    /// A driver for cgroups that exists.
    CgroupDriver,
    /// A cgroup below the root of the hierarchies.
    CgroupPath,
    /// A name of a network interface.
    InterfaceName,
    /// Address ranges.
    Subnets,
    /// Names of capabilities.
    Capabilities,
    /// Names of runtime handlers with the paths of their programs.
    Handlers,
}

/// Longest DNS label (RFC 1123).
const LABEL_BYTES: usize = 63;

/// Longest path of a Unix socket in bytes: `sun_path` less the final zero (unix(7)).
const SOCKET_PATH_BYTES: usize = 107;

impl Kind {
    /// Whether `value` is one of this kind.
    pub(crate) fn check(self, value: &Value) -> Result<(), Complaint> {
        match (self, value) {
            (Self::Path, Value::Text(text)) => check_path(text),
            (Self::Paths, Value::List(items)) => items.iter().try_for_each(|item| check_path(item)),
            (Self::Socket, Value::Text(text)) => parse_socket(text).map(drop),
            (Self::OptionalSocket, Value::Text(text)) => parse_optional_socket(text).map(drop),
            (Self::SocketAddress, Value::Text(text)) => net::parse_socket_address(text).map(drop),
            (Self::Choice(words), Value::Text(text)) => check_choice(words, text),
            (Self::Integer { min, max }, Value::Integer(number)) => check_range(*number, min, max),
            (Self::Switch, Value::Switch(_)) => Ok(()),
            (Self::CgroupDriver, Value::Text(text)) => check_cgroup_driver(text),
            (Self::CgroupPath, Value::Text(text)) => check_cgroup_path(text),
            (Self::InterfaceName, Value::Text(text)) => net::check_interface_name(text),
            (Self::Subnets, Value::List(items)) => net::parse_subnets(items).map(drop),
            (Self::Capabilities, Value::List(items)) => {
                items.iter().try_for_each(|item| check_capability(item))
            }
            (Self::Handlers, Value::List(items)) => parse_handlers(items).map(drop),
            (_, other) => {
                Err(Complaint::new(format!("{other} is of the wrong type"), format!("write {self}")))
            }
        }
    }
}

/// What a value of this kind looks like, for messages and the reference page.
impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Path => f.write_str("an absolute path"),
            Self::Paths => f.write_str("a list of absolute paths"),
            Self::Socket => f.write_str("`unix://` and an absolute path"),
            Self::OptionalSocket => f.write_str("`unix://` and an absolute path, or nothing"),
            Self::SocketAddress => f.write_str("an address and a port such as \"127.0.0.1:0\""),
            Self::Choice(words) => f.write_str(&one_of(words)),
            Self::Integer { min, max } => write!(f, "a number from {min} to {max}"),
            Self::Switch => f.write_str("`true` or `false`"),
            Self::CgroupDriver => f.write_str(&one_of(&["cgroupfs", "systemd", "auto"])),
            Self::CgroupPath => f.write_str("an absolute path other than \"/\""),
            Self::InterfaceName => f.write_str("a name of at most 15 bytes"),
            Self::Subnets => f.write_str("a list of address ranges"),
            Self::Capabilities => f.write_str("a list of names such as \"CAP_CHOWN\""),
            Self::Handlers => f.write_str("a list of names and programs such as \"runc=/usr/sbin/runc\""),
        }
    }
}

fn one_of(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("\"{word}\"")).collect();
    format!("one of {}", quoted.join(", "))
}

fn check_path(text: &str) -> Result<(), Complaint> {
    let path = Path::new(text);
    if !path.is_absolute() {
        return Err(Complaint::new(format!("{text:?} is not absolute"), "write a path that begins with `/`"));
    }
    if path.components().any(|part| part == Component::ParentDir) || text.contains('\0') {
        return Err(Complaint::new(
            format!("{text:?} is no plain path"),
            "write it without `..` and zero bytes",
        ));
    }
    Ok(())
}

/// Handlers by name, each written `NAME=PATH`. Names are those that Kubernetes lets a RuntimeClass have: DNS labels.
pub(crate) fn parse_handlers(items: &[String]) -> Result<BTreeMap<String, PathBuf>, Complaint> {
    let mut handlers = BTreeMap::new();
    for item in items {
        let right = "write it as \"runc=/usr/sbin/runc\", each name once";
        let (name, path) = item.split_once('=').unwrap_or_default();
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let is_label = (1..=LABEL_BYTES).contains(&name.len()) && name.bytes().all(plain);
        if !is_label || name.starts_with('-') || name.ends_with('-') {
            return Err(Complaint::new(format!("{item:?} names no handler"), right));
        }
        check_path(path)?;
        if handlers.insert(name.to_owned(), PathBuf::from(path)).is_some() {
            return Err(Complaint::new(format!("handler {name:?} is named twice"), right));
        }
    }
    Ok(handlers)
}

/// The path of the socket in `unix://PATH`.
pub(crate) fn parse_socket(text: &str) -> Result<PathBuf, Complaint> {
    let Some(path) = text.strip_prefix("unix://") else {
        return Err(Complaint::new(
            format!("{text:?} is no Unix socket"),
            "write it as \"unix:///run/cleat/cleat.sock\"",
        ));
    };
    check_path(path)?;
    if path.len() > SOCKET_PATH_BYTES || path.ends_with('/') {
        let right = format!("use a path of a file of at most {SOCKET_PATH_BYTES} bytes");
        return Err(Complaint::new(format!("{path:?} ({} bytes) cannot name a socket", path.len()), right));
    }
    Ok(PathBuf::from(path))
}

/// The path of the socket in `unix://PATH`; none for an empty text.
pub(crate) fn parse_optional_socket(text: &str) -> Result<Option<PathBuf>, Complaint> {
    if text.is_empty() { Ok(None) } else { parse_socket(text).map(Some) }
}

fn check_choice(words: &[&str], text: &str) -> Result<(), Complaint> {
    if words.contains(&text) {
        return Ok(());
    }
    Err(Complaint::new(format!("{text:?} is not known"), format!("write {}", one_of(words))))
}

fn check_range(number: i64, min: i64, max: i64) -> Result<(), Complaint> {
    if (min..=max).contains(&number) {
        return Ok(());
    }
    Err(Complaint::new(format!("{number} is out of bounds"), format!("write a number from {min} to {max}")))
}

fn check_cgroup_driver(text: &str) -> Result<(), Complaint> {
    match text {
        "cgroupfs" | "systemd" | "auto" => Ok(()),
        other => {
            let right = "write \"cgroupfs\", \"systemd\" or \"auto\"";
            Err(Complaint::new(format!("{other:?} is no cgroup driver"), right))
        }
    }
}

fn check_cgroup_path(text: &str) -> Result<(), Complaint> {
    check_path(text)?;
    if Path::new(text).parent().is_none() {
        return Err(Complaint::new("the root cgroup cannot hold pods", "write a path such as \"/cleat\""));
    }
    Ok(())
}

fn check_capability(name: &str) -> Result<(), Complaint> {
    if capability::NAMES.contains(&name) {
        return Ok(());
    }
    let full = format!("CAP_{}", name.to_uppercase());
    let right = if capability::NAMES.contains(&full.as_str()) {
        format!("write \"{full}\"")
    } else {
        "write a name of capabilities(7) such as \"CAP_CHOWN\"".to_owned()
    };
    Err(Complaint::new(format!("{name:?} is no capability"), right))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Value {
        Value::Text(text.to_owned())
    }

    fn list(items: &[&str]) -> Value {
        Value::List(items.iter().map(|&item| item.to_owned()).collect())
    }

    #[test]
    fn each_kind_accepts_its_own_and_says_what_is_right() {
        let range = Kind::Integer { min: 1, max: 9 };
        let words = Kind::Choice(&["a", "b"]);
        let long = format!("unix:///{}", "x".repeat(SOCKET_PATH_BYTES));
        let cases = [
            (Kind::Path, text("/a/b"), ""),
            (Kind::Path, text("a/b"), "begins with `/`"),
            (Kind::Path, text(""), "begins with `/`"),
            (Kind::Path, text("/a/../b"), "without `..`"),
            (Kind::Path, Value::Integer(1), "an absolute path"),
            (Kind::Paths, list(&["/a", "/b"]), ""),
            (Kind::Paths, list(&["/a", "b"]), "begins with `/`"),
            (Kind::Socket, text("unix:///a"), ""),
            (Kind::Socket, text("tcp://a"), "unix:///"),
            (Kind::Socket, text("unix://a"), "begins with `/`"),
            (Kind::Socket, text("unix:///a/"), "of a file"),
            (Kind::Socket, text(&long), "107 bytes"),
            (Kind::SocketAddress, text("127.0.0.1:0"), ""),
            (Kind::SocketAddress, text("[::1]:10010"), ""),
            (Kind::SocketAddress, text("localhost:0"), "127.0.0.1:0"),
            (Kind::SocketAddress, text("127.0.0.1"), "127.0.0.1:0"),
            (words, text("b"), ""),
            (words, text("c"), "one of \"a\", \"b\""),
            (range, Value::Integer(9), ""),
            (range, Value::Integer(10), "from 1 to 9"),
            (range, Value::Integer(0), "from 1 to 9"),
            (Kind::Switch, Value::Switch(false), ""),
            (Kind::Switch, text("yes"), "`true` or `false`"),
            (Kind::CgroupDriver, text("cgroupfs"), ""),
            (Kind::CgroupDriver, text("systemd"), ""),
            (Kind::CgroupDriver, text("auto"), ""),
            (Kind::CgroupDriver, text("runc"), "\"systemd\""),
            (Kind::CgroupPath, text("/a"), ""),
            (Kind::CgroupPath, text("/"), "/cleat"),
            (Kind::CgroupPath, text("/a/../.."), "without `..`"),
            (Kind::Handlers, list(&["runc=/usr/sbin/runc", "kata-2=/k"]), ""),
            (Kind::Handlers, list(&["runc"]), "runc=/usr/sbin/runc"),
            (Kind::Handlers, list(&["=/x"]), "runc=/usr/sbin/runc"),
            (Kind::Handlers, list(&["Run=/x"]), "runc=/usr/sbin/runc"),
            (Kind::Handlers, list(&["a=/x", "a=/y"]), "each name once"),
            (Kind::Handlers, list(&["a=x"]), "begins with `/`"),
            (Kind::Capabilities, list(&[]), ""),
            (Kind::Capabilities, list(&["CAP_BPF"]), ""),
            (Kind::Capabilities, list(&["chown"]), "\"CAP_CHOWN\""),
            (Kind::Capabilities, list(&["CAP_FLY"]), "capabilities(7)"),
        ];
        for (kind, value, right) in cases {
            match kind.check(&value) {
                Ok(()) => assert_eq!(right, "", "{kind:?} {value}"),
                Err(found) => assert!(!right.is_empty() && found.right.contains(right), "{value}: {found:?}"),
            }
        }
    }
}
