//! Messages of our own.

use std::net::IpAddr;
use std::str::FromStr;

use domain::base::iana::{Class, Rcode};
use domain::base::message_builder::{AnswerBuilder, PushError};
use domain::base::{MessageBuilder, Name, StaticCompressor, Ttl};
use domain::rdata::{A, Aaaa, Ptr};

use super::query::Query;

/// How long an answer may be kept, seconds: dockerd's. A container that comes back may have another address, but those
/// that keep answers ask for names of a cluster by ways of their own.
const LIFETIME: Ttl = Ttl::from_secs(600);

/// Bytes of the record that answers a query's extension (RFC 6891, section 6.1.2).
const EXTENSION_BYTES: usize = 11;
/// Bytes by UDP that we take.
const QUERY_BYTES: u16 = 4096;

/// Bytes of a header.
const HEADER_BYTES: usize = 12;

type Builder = AnswerBuilder<StaticCompressor<Vec<u8>>>;

/// An answer without records: there are none of the kind, or it could not be found out.
pub(super) fn empty(query: &Query<'_>, code: Rcode) -> Option<Vec<u8>> {
    begin(query, code).and_then(|answer| finish(query, answer)).ok()
}

/// The answer with these addresses, cut off where the client could not take them all.
pub(super) fn addresses(query: &Query<'_>, addresses: &[IpAddr]) -> Option<Vec<u8>> {
    let name = query.question.qname();
    let build = || {
        let mut answer = begin(query, Rcode::NOERROR)?;
        answer.set_push_limit(query.answer_limit - EXTENSION_BYTES);
        for address in addresses {
            let pushed = match address {
                IpAddr::V4(v4) => answer.push((name, Class::IN, LIFETIME, A::new(*v4))),
                IpAddr::V6(v6) => answer.push((name, Class::IN, LIFETIME, Aaaa::new(*v6))),
            };
            if pushed.is_err() {
                answer.header_mut().set_tc(true);
                break;
            }
        }
        answer.clear_push_limit();
        finish(query, answer)
    };
    build().ok()
}

/// The answer with this name; none where it is no name of the DNS.
pub(super) fn name(query: &Query<'_>, name: &str) -> Option<Vec<u8>> {
    let target = Name::<Vec<u8>>::from_str(name).ok()?;
    let build = || {
        let mut answer = begin(query, Rcode::NOERROR)?;
        answer.push((query.question.qname(), Class::IN, LIFETIME, Ptr::new(target)))?;
        finish(query, answer)
    };
    build().ok()
}

/// The answer to what cannot be read: the header alone.
pub(super) fn refusal(packet: &[u8], code: Rcode) -> Option<Vec<u8>> {
    let mut reply = packet.get(..HEADER_BYTES)?.to_vec();
    let header = domain::base::Header::for_message_slice_mut(&mut reply);
    header.set_qr(true);
    header.set_aa(false);
    header.set_tc(false);
    header.set_ra(true);
    header.set_rcode(code);
    reply[4..].fill(0);
    Some(reply)
}

fn begin(query: &Query<'_>, code: Rcode) -> Result<Builder, PushError> {
    let mut builder = MessageBuilder::from_target(StaticCompressor::new(Vec::new()))?;
    builder.header_mut().set_ra(true);
    builder.start_answer(query.message, code)
}

fn finish(query: &Query<'_>, answer: Builder) -> Result<Vec<u8>, PushError> {
    let mut rest = answer.additional();
    if query.is_extended {
        rest.opt(|extension| {
            extension.set_udp_payload_size(QUERY_BYTES);
            Ok(())
        })?;
    }
    Ok(rest.finish().into_target())
}
