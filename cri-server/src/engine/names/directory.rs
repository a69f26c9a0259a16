//! What a name server may know, and which of several meanings of a name holds.

use std::net::IpAddr;

/// What one container can see of the networks it is on, now. Names come in lower case.
pub(in crate::engine) trait Directory: Send + Sync {
    /// The addresses, of both families, of everybody who is called `name` on the first network that knows the name; on
    /// `network` alone where one is given.
    fn addresses(&self, name: &str, network: Option<&str>) -> Vec<IpAddr>;

    /// What the neighbour with this address is called, and on which network.
    fn name_of(&self, address: IpAddr) -> Option<(String, String)>;

    /// Whether one of the networks leads out of the host: else nobody else's server is asked, since a query could carry
    /// anything out.
    fn leads_outside(&self) -> bool;
}

/// The addresses of `name`, none where it is nobody's. It is the name itself, or one followed by the name of a network:
/// both may have dots in them, so of `a.b.c` the meanings `a.b` on `c` and `a` on `b.c` are tried in turn, as dockerd does.
pub(super) fn find(directory: &dyn Directory, name: &str) -> Vec<IpAddr> {
    let whole = directory.addresses(name, None);
    if !whole.is_empty() {
        return whole;
    }
    name.rmatch_indices('.')
        .map(|(dot, _)| directory.addresses(&name[..dot], Some(&name[dot + 1..])))
        .find(|addresses| !addresses.is_empty())
        .unwrap_or_default()
}

/// A directory of fixed entries.
#[cfg(test)]
pub(super) mod fixed {
    use super::{Directory, IpAddr};

    pub(crate) struct Fixed {
        /// Network, name and address.
        pub(crate) entries: Vec<(&'static str, &'static str, IpAddr)>,
        pub(crate) leads_outside: bool,
    }

    impl Fixed {
        /// On `n1`: `web` at 172.18.0.2, `both` at 172.18.0.3 and fd00::3, three of `many`; on `n.2`: `web` and `far`.
        pub(crate) fn sample() -> Self {
            let entry = |network, name, address: &str| (network, name, address.parse().unwrap());
            Self {
                entries: vec![
                    entry("n1", "web", "172.18.0.2"),
                    entry("n1", "both", "172.18.0.3"),
                    entry("n1", "both", "fd00::3"),
                    entry("n1", "many", "172.18.0.4"),
                    entry("n1", "many", "172.18.0.5"),
                    entry("n1", "many", "172.18.0.6"),
                    entry("n.2", "web", "172.19.0.2"),
                    entry("n.2", "far", "172.19.0.3"),
                ],
                leads_outside: true,
            }
        }
    }

    impl Directory for Fixed {
        fn addresses(&self, name: &str, network: Option<&str>) -> Vec<IpAddr> {
            let knows = |(on, called, _): &&(&str, &str, _)| {
                *called == name && network.is_none_or(|wanted| wanted == *on)
            };
            let first = self.entries.iter().find(knows).map(|(on, ..)| *on);
            self.entries
                .iter()
                .filter(knows)
                .filter(|(on, ..)| Some(*on) == first)
                .map(|entry| entry.2)
                .collect()
        }

        fn name_of(&self, address: IpAddr) -> Option<(String, String)> {
            let found = self.entries.iter().find(|(.., its)| *its == address);
            found.map(|(network, name, _)| ((*name).to_owned(), (*network).to_owned()))
        }

        fn leads_outside(&self) -> bool {
            self.leads_outside
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_itself_or_one_on_a_network() {
        let directory = fixed::Fixed::sample();
        for (name, expected) in [
            ("web", vec!["172.18.0.2"]),
            ("web.n1", vec!["172.18.0.2"]),
            ("web.n.2", vec!["172.19.0.2"]),
            ("far", vec!["172.19.0.3"]),
            ("far.n1", vec![]),
            ("far.2", vec![]),
            ("both", vec!["172.18.0.3", "fd00::3"]),
            ("nobody", vec![]),
            ("web.n3", vec![]),
            (".", vec![]),
            ("", vec![]),
            ("..web", vec![]),
        ] {
            let found: Vec<_> = find(&directory, name).iter().map(ToString::to_string).collect();
            assert_eq!(found, expected, "{name}");
        }
    }
}
