//! What the kernel announces.

use cleat_sys::netlink::{ERROR, messages};
use nix::errno::Errno;

use super::{
    NetlinkError, Request, Socket, attributes,
    link::{IFLA_IFNAME, LINK_HEADER_BYTES, RTM_NEWLINK},
    route::RTM_NEWROUTE,
    socket::{BUFFER_BYTES, judge},
};

/// `RTMGRP_LINK` and `RTMGRP_IPV6_ROUTE`.
const LINK_GROUP: u32 = 1;
const IPV6_ROUTE_GROUP: u32 = 0x400;

/// Announcements in the calling thread's namespace from now on.
pub(crate) struct Events(Socket);

impl Events {
    /// Listens to what becomes of links. No wait for one announcement lasts longer than `limit_seconds`.
    pub(crate) fn of_links(limit_seconds: i64) -> Result<Self, NetlinkError> {
        Socket::listen(LINK_GROUP, limit_seconds).map(Self)
    }

    /// Listens to what becomes of IPv6 routes, in the same way.
    pub(crate) fn of_ipv6_routes(limit_seconds: i64) -> Result<Self, NetlinkError> {
        Socket::listen(IPV6_ROUTE_GROUP, limit_seconds).map(Self)
    }

    /// Waits until a link of these names may have changed, or the limit has passed. The caller looks at it then.
    pub(crate) fn wait_for_links(&self, watched: [&str; 2]) -> Result<(), NetlinkError> {
        let concerns = |message: &[u8]| watched.iter().any(|name| names(message, name));
        self.wait("watch links", |kind, message| kind == RTM_NEWLINK && concerns(message))
    }

    /// Waits until there may be a new route, or the limit has passed. The caller looks at it then.
    pub(crate) fn wait_for_route(&self) -> Result<(), NetlinkError> {
        self.wait("watch routes", |kind, _| kind == RTM_NEWROUTE)
    }

    fn wait(&self, words: &str, is_wanted: impl Fn(u16, &[u8]) -> bool) -> Result<(), NetlinkError> {
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            let length = match self.0.receive(&mut buffer) {
                // Announcements were lost for want of room, perhaps the one awaited; or the limit has passed.
                Err(Errno::ENOBUFS | Errno::EAGAIN) => return Ok(()),
                other => other.map_err(|source| waiting(words.to_owned(), source))?,
            };
            if messages(&buffer[..length]).any(|(kind, _, message)| is_wanted(kind, message)) {
                return Ok(());
            }
        }
    }

    /// Carries out one request, and is done with it as soon as an announcement satisfies `is_done`, though the kernel
    /// may still be at it.
    pub(super) fn ask_until(
        &self,
        request: &Request,
        is_done: impl Fn(u16, &[u8]) -> bool,
    ) -> Result<(), NetlinkError> {
        let sequence = self.0.send_on_thread(request)?;
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            let length = match self.0.receive(&mut buffer) {
                // Announcements were lost for want of room. The answer to the request comes in any case.
                Err(Errno::ENOBUFS) => continue,
                other => other.map_err(|source| waiting(request.words.clone(), source))?,
            };
            for (kind, number, payload) in messages(&buffer[..length]) {
                match kind {
                    ERROR if number == sequence => return judge(request, payload),
                    _ if is_done(kind, payload) => return Ok(()),
                    _ => {}
                }
            }
        }
    }
}

/// Whether a message about a link is about the one of this name.
pub(super) fn names(message: &[u8], name: &str) -> bool {
    attributes(message.get(LINK_HEADER_BYTES..).unwrap_or_default()).any(|(kind, value)| {
        kind == IFLA_IFNAME && value.strip_suffix(&[0]).unwrap_or(value) == name.as_bytes()
    })
}

fn waiting(request: String, source: Errno) -> NetlinkError {
    NetlinkError::Receive { request, source }
}
