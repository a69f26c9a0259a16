//! Removing a link without waiting for the kernel to free it.
//!
//! `RTM_DELLINK` takes a link out of every table within a millisecond or two and then, before the system call returns,
//! waits some 15 to 30 ms for readers of freed memory (`netdev_run_todo` waits for RCU callbacks). The link is gone
//! when the kernel announces so: the caller goes on at the announcement.

use super::{
    Events, NetlinkError, Protocol, Request, Socket,
    events::names,
    flags,
    link::{RTM_DELLINK, delete_link},
};

/// How long the kernel may take to remove a link: it first takes its turn for the lock of all links.
const REMOVAL_LIMIT_SECONDS: i64 = 30;

/// Removes a link, and with it its peer, its addresses and its routes; done where there is none. No packet passes it
/// any more, and its name is free for the next request.
pub(crate) fn remove_link(name: &str) -> Result<(), NetlinkError> {
    let request = delete_link(name);
    // Since 6.2 the kernel announces a removal to others than its requester only, unless asked for an echo; before, the
    // requester hears it like any other listener.
    let request = Request { flags: request.flags | flags::ECHO, ..request };
    let removed = Events::of_links(REMOVAL_LIMIT_SECONDS)?
        .ask_until(&request, |kind, message| announces(kind, message, name));
    match removed {
        // A host out of threads must still be able to clean up: the wait is the lesser evil.
        Err(NetlinkError::Spawn { .. }) => Socket::open(Protocol::Route)?.ask(request).map(drop),
        other => other,
    }
}

/// Whether a message says that the link of this name is gone. A bridge's port that ceases to be one is announced the
/// same way, under the bridge's address family (`AF_BRIDGE`, 7) in place of none.
fn announces(kind: u16, message: &[u8], name: &str) -> bool {
    kind == RTM_DELLINK && message.first() == Some(&0) && names(message, name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::{
        Attributes,
        link::{IFLA_IFNAME, LINK_HEADER_BYTES},
    };

    fn message(family: u8, name: &str) -> Vec<u8> {
        let mut bytes = vec![0; LINK_HEADER_BYTES];
        bytes[0] = family;
        bytes.extend_from_slice(Attributes::new().bytes(1, &[0; 6]).text(IFLA_IFNAME, name).as_bytes());
        bytes
    }

    #[test]
    fn only_the_end_of_the_link_itself_counts() {
        assert!(announces(RTM_DELLINK, &message(0, "ct0"), "ct0"));
        assert!(!announces(RTM_DELLINK, &message(7, "ct0"), "ct0"), "it only left its bridge");
        assert!(!announces(RTM_DELLINK, &message(0, "ct01"), "ct0"));
        assert!(!announces(RTM_DELLINK - 1, &message(0, "ct0"), "ct0"));
        assert!(!announces(RTM_DELLINK, &[0; 3], "ct0"));
    }
}
