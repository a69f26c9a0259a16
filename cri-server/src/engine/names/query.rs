//! What a packet asks: the one place that reads what a container sent (RFC 1035, section 4).
//!
//! The library reads in place and allocates nothing; its names are bounded and their compression cannot loop.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use domain::base::iana::{Class, Opcode};
use domain::base::name::ToLabelIter;
use domain::base::{Message, ParsedName, Question, Rtype};

/// What the domains of addresses end in (RFC 1035, section 3.5; RFC 3596, section 2.5).
const ADDRESSES_IPV4: &str = ".in-addr.arpa";
const ADDRESSES_IPV6: &str = ".ip6.arpa";

/// Bytes of an answer by UDP to who has not said that more is fine (RFC 1035, section 4.2.1).
const UDP_BYTES: usize = 512;
/// Bytes of an answer of our own by UDP at most, whatever is said to be fine. Longer ones go by TCP.
const UDP_BYTES_MAX: usize = 4096;

/// What a query came by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Carrier {
    Udp,
    Tcp,
}

/// A well-formed query with one question.
#[derive(Debug)]
pub(super) struct Query<'a> {
    /// All of it.
    pub(super) message: &'a Message<[u8]>,
    /// Its question.
    pub(super) question: Question<ParsedName<&'a [u8]>>,
    /// Bytes that the answer may have.
    pub(super) answer_limit: usize,
    /// Whether it says what it can do beyond RFC 1035 (EDNS, RFC 6891).
    pub(super) is_extended: bool,
}

/// A packet that is no query to be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// Too short for a header, or an answer: an answer to it could go round for ever.
    NoQuery,
    /// Something other than looking up.
    OtherOperation,
    /// Not one question that can be read.
    Malformed,
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// Something about who has this name, which is in lower case and without the closing dot.
    Name(String, Rtype),
    /// The name of who has this address.
    Address(IpAddr),
    /// What cannot be about a container.
    Other,
}

impl<'a> Query<'a> {
    /// Reads a packet.
    pub(super) fn read(packet: &'a [u8], carrier: Carrier) -> Result<Self, Fault> {
        let message = Message::from_slice(packet).map_err(|_| Fault::NoQuery)?;
        if message.header().qr() {
            return Err(Fault::NoQuery);
        }
        if message.header().opcode() != Opcode::QUERY {
            return Err(Fault::OtherOperation);
        }
        let question = message.sole_question().map_err(|_| Fault::Malformed)?;
        let extension = message.opt();
        let said = extension.as_ref().map_or(0, |opt| usize::from(opt.udp_payload_size()));
        let answer_limit = match carrier {
            Carrier::Udp => said.clamp(UDP_BYTES, UDP_BYTES_MAX),
            Carrier::Tcp => u16::MAX.into(),
        };
        Ok(Self { message, question, answer_limit, is_extended: extension.is_some() })
    }

    /// What it asks for.
    pub(super) fn wanted(&self) -> Wanted {
        if self.question.qclass() != Class::IN {
            return Wanted::Other;
        }
        let Some(name) = text(self.question.qname()) else { return Wanted::Other };
        match (self.question.qtype(), address(&name)) {
            (Rtype::PTR, Some(address)) => Wanted::Address(address),
            (Rtype::PTR, None) => Wanted::Other,
            (kind, _) => Wanted::Name(name, kind),
        }
    }
}

/// A name as people write it, in lower case; none where it has what no container's name has.
fn text(name: &ParsedName<&[u8]>) -> Option<String> {
    let mut text = String::new();
    for label in name.iter_labels().filter(|label| !label.is_root()) {
        let label = std::str::from_utf8(label.as_slice()).ok()?;
        if !label.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'.') {
            return None;
        }
        if !text.is_empty() {
            text.push('.');
        }
        text.push_str(label);
    }
    text.make_ascii_lowercase();
    Some(text)
}

/// The address that a name of the domains of addresses stands for.
fn address(name: &str) -> Option<IpAddr> {
    if let Some(reversed) = name.strip_suffix(ADDRESSES_IPV4) {
        let mut octets: Vec<u8> = reversed.split('.').map(str::parse).collect::<Result<_, _>>().ok()?;
        octets.reverse();
        return <[u8; 4]>::try_from(octets).ok().map(|octets| Ipv4Addr::from(octets).into());
    }
    let reversed = name.strip_suffix(ADDRESSES_IPV6)?;
    let mut bits = 0_u128;
    let mut nibbles = 0;
    for digit in reversed.rsplit('.') {
        let mut characters = digit.chars();
        let (Some(character), None) = (characters.next(), characters.next()) else { return None };
        bits = bits << 4 | u128::from(character.to_digit(16)?);
        nibbles += 1;
    }
    (nibbles == 32).then(|| Ipv6Addr::from(bits).into())
}

/// A query for tests.
#[cfg(test)]
pub(super) fn sample(name: &str, kind: Rtype) -> Vec<u8> {
    use std::str::FromStr;

    use domain::base::{MessageBuilder, Name};
    let mut builder = MessageBuilder::new_vec();
    builder.header_mut().set_id(0x1234);
    builder.header_mut().set_rd(true);
    let mut builder = builder.question();
    builder.push((Name::<Vec<u8>>::from_str(name).unwrap(), kind)).unwrap();
    builder.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_in_lower_case_and_addresses_from_their_domains() {
        let name = |text: &str, kind| Wanted::Name(text.to_owned(), kind);
        let address = |text: &str| Wanted::Address(text.parse().unwrap());
        let v6 = "3.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.D.f.ip6.arpa.";
        for (asked, kind, expected) in [
            ("Web.", Rtype::A, name("web", Rtype::A)),
            ("my_web.N1.", Rtype::AAAA, name("my_web.n1", Rtype::AAAA)),
            (".", Rtype::NS, name("", Rtype::NS)),
            ("a\\032b.", Rtype::A, Wanted::Other),
            ("a\\.b.", Rtype::A, Wanted::Other),
            ("a\\000.", Rtype::A, Wanted::Other),
            ("2.0.18.172.in-addr.arpa.", Rtype::PTR, address("172.18.0.2")),
            ("2.0.18.172.in-addr.arpa.", Rtype::A, name("2.0.18.172.in-addr.arpa", Rtype::A)),
            ("0.18.172.in-addr.arpa.", Rtype::PTR, Wanted::Other),
            ("256.0.18.172.in-addr.arpa.", Rtype::PTR, Wanted::Other),
            ("1.2.0.18.172.in-addr.arpa.", Rtype::PTR, Wanted::Other),
            (v6, Rtype::PTR, address("fd00::3")),
            (&v6[2..], Rtype::PTR, Wanted::Other),
            ("web.", Rtype::PTR, Wanted::Other),
        ] {
            let packet = sample(asked, kind);
            assert_eq!(Query::read(&packet, Carrier::Udp).unwrap().wanted(), expected, "{asked} {kind}");
        }
    }

    #[test]
    fn what_is_no_query_is_told_from_what_is_a_bad_one() {
        let good = sample("web.", Rtype::A);
        let changed = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut packet = good.clone();
            change(&mut packet);
            packet
        };
        for (packet, fault) in [
            (Vec::new(), Fault::NoQuery),
            (good[..11].to_vec(), Fault::NoQuery),
            (changed(&|packet| packet[2] |= 0x80), Fault::NoQuery),
            (changed(&|packet| packet[2] |= 0x28), Fault::OtherOperation),
            (changed(&|packet| packet[5] = 0), Fault::Malformed),
            (changed(&|packet| packet[5] = 2), Fault::Malformed),
            (good[..good.len() - 1].to_vec(), Fault::Malformed),
            // A name that leads to itself.
            (changed(&|packet| packet.splice(12..17, [0xc0, 12]).for_each(drop)), Fault::Malformed),
        ] {
            assert_eq!(Query::read(&packet, Carrier::Udp).unwrap_err(), fault, "{packet:?}");
        }
    }

    #[test]
    fn an_answer_by_udp_is_as_long_as_the_client_says_within_bounds() {
        for (said, limit) in [(0_u16, 512), (511, 512), (1232, 1232), (65_535, 4096)] {
            let mut packet = sample("web.", Rtype::A);
            packet[11] = 1;
            packet.extend([0, 0, 41]);
            packet.extend(said.to_be_bytes());
            packet.extend([0; 6]);
            let query = Query::read(&packet, Carrier::Udp).unwrap();
            assert_eq!((query.answer_limit, query.is_extended), (limit, true), "{said}");
            assert_eq!(Query::read(&packet, Carrier::Tcp).unwrap().answer_limit, 65_535);
        }
        assert_eq!(Query::read(&sample("web.", Rtype::A), Carrier::Udp).unwrap().answer_limit, 512);
    }
}
