//! Names of the host's ends of pods' links.

/// Before the id's part of the name.
const PREFIX: &str = "ct";

/// Hexadecimal digits of the id in the name: with the prefix, two short of the kernel's limit of 15 bytes.
const DIGITS: usize = 11;

/// The name of the host's end of a pod's link, the same for the same id at all times, so that a link can be removed by
/// a daemon that remembers nothing but the id. An id of hexadecimal digits gives its first eleven, which an operator
/// recognises; any other id gives eleven digits of a hash.
#[must_use]
pub fn host_ifname(pod_id: &str) -> String {
    match pod_id.get(..DIGITS) {
        Some(start) if start.bytes().all(is_hex_digit) => {
            format!("{PREFIX}{start}")
        }
        _ => format!("{PREFIX}{:011x}", fnv1a_64(pod_id.as_bytes()) >> 20),
    }
}

/// The name of the host's end of a pod's link to one of several networks, which is called `network`: eleven digits of a
/// hash of both.
#[must_use]
pub fn host_ifname_on(pod_id: &str, network: &str) -> String {
    format!("{PREFIX}{:011x}", fnv1a_64(format!("{pod_id} on {network}").as_bytes()) >> 20)
}

/// Whether a link's name has the form of those that [`host_ifname`] makes.
pub(super) fn is_of_pod(name: &str) -> bool {
    name.strip_prefix(PREFIX).is_some_and(|digits| digits.len() == DIGITS && digits.bytes().all(is_hex_digit))
}

fn is_hex_digit(byte: u8) -> bool {
    byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte)
}

/// The FNV-1a hash: names survive upgrades of the daemon, so it must never change, as the standard library's may.
fn fnv1a_64(bytes: &[u8]) -> u64 {
    const OFFSET_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    bytes.iter().fold(OFFSET_BASIS, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(PRIME))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bridge::config::MAX_IFNAME_BYTES;

    #[test]
    fn names_are_those_of_earlier_versions() {
        for (id, name) in [
            ("4f9a0c1d2e3b4f9a0c1d2e3b", "ct4f9a0c1d2e3"),
            ("", "ctcbf29ce4842"),
            ("web-1", "ct666fc22e095"),
            ("4F9A0C1D2E3B", "ct15ce894a24c"),
        ] {
            assert_eq!(host_ifname(id), name, "{id:?}");
            assert!(name.len() <= MAX_IFNAME_BYTES);
            assert!(is_of_pod(name));
        }
        let further = host_ifname_on("4f9a0c1d2e3b", "n1");
        assert_eq!(further, "ctfb7874f168a");
        assert!(is_of_pod(&further) && further != host_ifname_on("4f9a0c1d2e3b", "n2"));
        for other in ["cleat0", "ct", "ct4f9a0c1d2e", "ct4f9a0c1d2e3b", "ct4f9a0c1d2eg"] {
            assert!(!is_of_pod(other), "{other}");
        }
    }
}
