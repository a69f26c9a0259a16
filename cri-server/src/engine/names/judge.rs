//! What becomes of a packet that a container sent to its name server.

use std::net::IpAddr;

use domain::base::Rtype;
use domain::base::iana::Rcode;

use super::directory::{Directory, find};
use super::query::{Carrier, Fault, Query, Wanted};
use super::reply;

/// What is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing.
    Ignore,
    /// It is answered by this.
    Reply(Vec<u8>),
    /// Somebody else's server is asked.
    Forward,
}

/// Judges `packet`. `has_dots_wanted` says that a bare name is nothing to ask outside for: the client will ask for it with
/// a search domain. `turn` is another number for each query, by which those of one name take turns at being the first.
pub(super) fn judge(
    directory: &dyn Directory,
    packet: &[u8],
    carrier: Carrier,
    has_dots_wanted: bool,
    turn: usize,
) -> Verdict {
    let query = match Query::read(packet, carrier) {
        Ok(query) => query,
        Err(Fault::NoQuery) => return Verdict::Ignore,
        Err(Fault::OtherOperation) => return answer(reply::refusal(packet, Rcode::NOTIMP)),
        Err(Fault::Malformed) => return answer(reply::refusal(packet, Rcode::FORMERR)),
    };
    let wanted = query.wanted();
    if let Some(known) = about_neighbours(directory, &query, &wanted, turn) {
        return answer(known);
    }
    let is_bare = |name: &str| !name.contains('.');
    match wanted {
        _ if !directory.leads_outside() => answer(reply::empty(&query, Rcode::SERVFAIL)),
        Wanted::Name(name, Rtype::A | Rtype::AAAA) if has_dots_wanted && is_bare(&name) => {
            answer(reply::empty(&query, Rcode::NOERROR))
        }
        _ => Verdict::Forward,
    }
}

/// The answer where it is about somebody on a network of the asker's; the inner none is an answer that cannot be written.
///
/// The name of a neighbour is ours to answer for, whatever is asked about it: to ask others for the address of the other
/// family, or for a mail server, would tell them the name and could bring another's answer.
fn about_neighbours(
    directory: &dyn Directory,
    query: &Query<'_>,
    wanted: &Wanted,
    turn: usize,
) -> Option<Option<Vec<u8>>> {
    match wanted {
        Wanted::Name(name, kind) => {
            let all = find(directory, name);
            let fits = |address: &IpAddr| match *kind {
                Rtype::A => address.is_ipv4(),
                Rtype::AAAA => address.is_ipv6(),
                _ => false,
            };
            let mut fitting: Vec<_> = all.iter().copied().filter(fits).collect();
            let first = turn.checked_rem(fitting.len()).unwrap_or_default();
            fitting.rotate_left(first);
            (!all.is_empty()).then(|| reply::addresses(query, &fitting))
        }
        Wanted::Address(address) => {
            let (name, network) = directory.name_of(*address)?;
            Some(reply::name(query, &format!("{name}.{network}.")))
        }
        Wanted::Other => None,
    }
}

fn answer(reply: Option<Vec<u8>>) -> Verdict {
    reply.map_or(Verdict::Ignore, Verdict::Reply)
}

#[cfg(test)]
mod tests {
    use domain::base::Message;
    use domain::rdata::AllRecordData;
    use proptest::prelude::*;

    use super::super::directory::fixed::Fixed;
    use super::super::query::sample;
    use super::*;

    /// The code of the answer to a question and its records in words, or what else becomes of it.
    fn judged(directory: &Fixed, name: &str, kind: Rtype, turn: usize) -> String {
        match judge(directory, &sample(name, kind), Carrier::Udp, false, turn) {
            Verdict::Ignore => "ignored".to_owned(),
            Verdict::Forward => "forwarded".to_owned(),
            Verdict::Reply(reply) => words(&reply),
        }
    }

    fn words(reply: &[u8]) -> String {
        let message = Message::from_octets(reply).unwrap();
        let header = message.header();
        assert!(header.qr() && header.ra() && header.id() == 0x1234);
        let records = message.answer().unwrap().limit_to::<AllRecordData<_, _>>();
        let records = records.map(|record| record.unwrap().data().to_string());
        let cut = header.tc().then(|| "cut".to_owned());
        [header.rcode().to_string()].into_iter().chain(records).chain(cut).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn neighbours_are_answered_for_and_the_rest_is_forwarded() {
        let directory = Fixed::sample();
        for (name, kind, expected) in [
            ("web.", Rtype::A, "NOERROR 172.18.0.2"),
            ("WEB.N1.", Rtype::A, "NOERROR 172.18.0.2"),
            ("web.", Rtype::AAAA, "NOERROR"),
            ("web.", Rtype::MX, "NOERROR"),
            ("both.", Rtype::AAAA, "NOERROR fd00::3"),
            ("3.0.18.172.in-addr.arpa.", Rtype::PTR, "NOERROR both.n1."),
            ("9.0.18.172.in-addr.arpa.", Rtype::PTR, "forwarded"),
            ("example.org.", Rtype::A, "forwarded"),
            ("nobody.", Rtype::A, "forwarded"),
        ] {
            assert_eq!(judged(&directory, name, kind, 0), expected, "{name} {kind}");
        }
    }

    #[test]
    fn those_of_one_name_take_turns() {
        let directory = Fixed::sample();
        let first: Vec<_> = (0..4).map(|turn| judged(&directory, "many.", Rtype::A, turn)).collect();
        assert_eq!(first[0], "NOERROR 172.18.0.4 172.18.0.5 172.18.0.6");
        assert_eq!(first[1], "NOERROR 172.18.0.5 172.18.0.6 172.18.0.4");
        assert_eq!(first[3], first[0]);
    }

    #[test]
    fn networks_that_lead_nowhere_ask_nobody() {
        let directory = Fixed { leads_outside: false, ..Fixed::sample() };
        assert_eq!(judged(&directory, "example.org.", Rtype::A, 0), "SERVFAIL");
        assert_eq!(judged(&directory, "9.0.18.172.in-addr.arpa.", Rtype::PTR, 0), "SERVFAIL");
        assert_eq!(judged(&directory, "web.", Rtype::A, 0), "NOERROR 172.18.0.2");
    }

    #[test]
    fn a_bare_name_waits_for_its_search_domain_where_dots_are_wanted() {
        let directory = Fixed::sample();
        for (name, kind, is_forwarded) in
            [("nobody.", Rtype::A, false), ("nobody.", Rtype::TXT, true), ("nobody.example.", Rtype::A, true)]
        {
            let verdict = judge(&directory, &sample(name, kind), Carrier::Udp, true, 0);
            assert_eq!(verdict == Verdict::Forward, is_forwarded, "{name} {kind}");
        }
    }

    #[test]
    fn what_does_not_fit_is_cut_off_and_whole_by_tcp() {
        let mut directory = Fixed::sample();
        directory.entries = (0..100).map(|last| ("n1", "many", IpAddr::from([10, 0, 0, last]))).collect();
        let packet = sample("many.", Rtype::A);
        let Verdict::Reply(cut) = judge(&directory, &packet, Carrier::Udp, false, 0) else {
            panic!("no reply")
        };
        assert!(cut.len() <= 512 && words(&cut).ends_with(" cut"), "{}", words(&cut));
        let Verdict::Reply(whole) = judge(&directory, &packet, Carrier::Tcp, false, 0) else {
            panic!("no reply")
        };
        assert_eq!(words(&whole).split(' ').count(), 101);
    }

    #[test]
    fn faults_are_answered_by_their_codes() {
        let mut other = sample("web.", Rtype::A);
        other[2] |= 0x28;
        let mut malformed = sample("web.", Rtype::A);
        malformed.pop();
        for (packet, code) in [(other, "NOTIMP"), (malformed, "FORMERR")] {
            let Verdict::Reply(reply) = judge(&Fixed::sample(), &packet, Carrier::Udp, false, 0) else {
                panic!("no reply")
            };
            assert_eq!(words(&reply), code);
        }
    }

    proptest! {
        #[test]
        fn garbage_is_judged_and_never_answered_at_length(
            head in proptest::collection::vec(any::<u8>(), 0..64),
            at in 0_usize..40,
            name in "[a-z0-9.]{0,20}",
        ) {
            let directory = Fixed::sample();
            let mut packets = vec![head.clone()];
            // A good query with some of it overwritten.
            let mut changed = sample(&format!("{}.", name.replace('.', "x")), Rtype::A);
            for (offset, byte) in head.iter().take(4).enumerate() {
                let place = (at + offset) % changed.len();
                changed[place] = *byte;
            }
            packets.push(changed);
            for packet in packets {
                for carrier in [Carrier::Udp, Carrier::Tcp] {
                    if let Verdict::Reply(reply) = judge(&directory, &packet, carrier, false, at) {
                        prop_assert!(reply.len() >= 12 && reply.len() <= 512);
                        prop_assert_eq!(&reply[..2], &packet[..2]);
                        prop_assert!(reply[2] & 0x80 != 0);
                    }
                }
            }
        }
    }
}
