//! What the resolv.conf of a container with a name server says, and whom that server asks.

use std::net::{IpAddr, SocketAddr};

use cleat_network::names::ADDRESS;

use crate::engine::model::Dns;

/// The port of name servers.
const PORT: u16 = 53;

/// Servers that are asked at most: one after another, they have to be done before the client gives up.
const SERVERS_MAX: usize = 3;

/// The option that says from how many dots on a name is asked for as it is first.
const DOTS: &str = "ndots:";

/// How a container resolves names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::engine) struct Resolution {
    /// What its resolv.conf says.
    pub(in crate::engine) file: Dns,
    /// Whom its server asks for what it does not know.
    pub(super) servers: Vec<SocketAddr>,
    /// Whether somebody wants dots in a name before it is asked for as it is.
    pub(super) has_dots_wanted: bool,
}

impl Resolution {
    /// What follows from the host's resolv.conf and what was asked for the container; as dockerd has it, each of the three
    /// lists that was asked for takes the place of the host's, and a search domain `.` means none.
    pub(in crate::engine) fn new(host: Dns, asked: Option<&Dns>) -> Self {
        let none = Dns::default();
        let asked = asked.unwrap_or(&none);
        let choose = |asked: &[String], host: Vec<String>| match asked {
            [] => host,
            asked => asked.to_vec(),
        };
        let servers = if asked.servers.is_empty() { host.servers } else { asked.servers.clone() };
        let mut searches = choose(&asked.searches, host.searches);
        if searches == ["."] {
            searches.clear();
        }
        let mut options = choose(&asked.options, host.options);
        let dots = options.iter().find_map(|option| option.strip_prefix(DOTS));
        let has_dots_wanted = dots.is_some_and(|dots| dots != "0");
        if dots.is_none() {
            // Names of containers have none: they are to be asked for before any search domain is tried.
            options.push(format!("{DOTS}0"));
        }
        Self {
            file: Dns { servers: vec![IpAddr::V4(*ADDRESS.ip())], searches, options },
            servers: servers.into_iter().take(SERVERS_MAX).map(|ip| SocketAddr::new(ip, PORT)).collect(),
            has_dots_wanted,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dns(servers: &[&str], searches: &[&str], options: &[&str]) -> Dns {
        let strings = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
        Dns {
            servers: servers.iter().map(|text| text.parse().unwrap()).collect(),
            searches: strings(searches),
            options: strings(options),
        }
    }

    #[test]
    fn what_was_asked_for_takes_the_place_of_the_hosts() {
        let host = || dns(&["192.0.2.1", "2001:db8::1"], &["example.org"], &["edns0"]);
        let own = ["127.0.0.11"];
        for (asked, file, servers, has_dots_wanted) in [
            (
                None,
                dns(&own, &["example.org"], &["edns0", "ndots:0"]),
                "192.0.2.1:53 [2001:db8::1]:53",
                false,
            ),
            (
                Some(dns(&["192.0.2.9"], &[], &[])),
                dns(&own, &["example.org"], &["edns0", "ndots:0"]),
                "192.0.2.9:53",
                false,
            ),
            (
                Some(dns(&[], &["."], &["ndots:2"])),
                dns(&own, &[], &["ndots:2"]),
                "192.0.2.1:53 [2001:db8::1]:53",
                true,
            ),
            (
                Some(dns(&["192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4"], &["a", "b"], &["ndots:0"])),
                dns(&own, &["a", "b"], &["ndots:0"]),
                "192.0.2.1:53 192.0.2.2:53 192.0.2.3:53",
                false,
            ),
        ] {
            let resolution = Resolution::new(host(), asked.as_ref());
            let found: Vec<_> = resolution.servers.iter().map(ToString::to_string).collect();
            assert_eq!((&resolution.file, found.join(" ").as_str()), (&file, servers), "{asked:?}");
            assert_eq!(resolution.has_dots_wanted, has_dots_wanted, "{asked:?}");
        }
        assert!(Resolution::new(Dns::default(), None).servers.is_empty());
    }
}
