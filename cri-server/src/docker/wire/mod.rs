//! HTTP and Docker's conventions on it: bodies both ways, connections that leave HTTP, queries, filters, names, times,
//! credentials, the host's memory.

mod auth;
mod body;
mod filters;
mod handover;
mod host;
mod names;
mod query;
mod time;
mod upload;

pub(super) use auth::{Login, credentials};
pub(super) use body::{
    Body, BodyReader, BodyWriter, Lines, Sent, archive, empty, json, lines, raw_json, read_json, read_whole,
    streamed, text,
};
pub(super) use bytes::Bytes;
pub(super) use filters::{Filters, fits};
pub(super) use handover::{HandoverError, take_over};
pub(super) use host::memory_bytes;
pub(super) use names::{familiar, with_tag};
pub(super) use query::Query;
pub(super) use time::{ago, duration, from_rfc3339, now_ns, rfc3339, seconds};
pub(super) use upload::Upload;
