//! Checks of what networks are given: interface names, address ranges, addresses to listen on.

use std::net::SocketAddr;

use ipnet::IpNet;

use super::fault::Complaint;

/// Longest name of an interface in bytes: `IFNAMSIZ` less the final zero.
const INTERFACE_NAME_BYTES: usize = 15;

/// Fewest bits of a range that are left for hosts: network, gateway, one pod and broadcast.
const HOST_BITS: u8 = 2;

/// Checks a name the kernel would accept for an interface (`dev_valid_name` in Linux).
pub(crate) fn check_interface_name(name: &str) -> Result<(), Complaint> {
    let right = format!("1 to {INTERFACE_NAME_BYTES} bytes without `/`, `:` and spaces are accepted");
    if name.is_empty() || name.len() > INTERFACE_NAME_BYTES {
        return Err(Complaint::new(format!("{name:?} has {} bytes", name.len()), right));
    }
    let bad = |c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control();
    if matches!(name, "." | "..") || name.contains(bad) {
        return Err(Complaint::new(format!("{name:?} is no name of an interface"), right));
    }
    Ok(())
}

/// The address and port in `text`.
pub(crate) fn parse_socket_address(text: &str) -> Result<SocketAddr, Complaint> {
    text.parse().map_err(|_| {
        Complaint::new(
            format!("{text:?} is no IP address with a port"),
            "write it as \"127.0.0.1:0\" or \"[::1]:0\"; port 0 takes one that is free",
        )
    })
}

/// The ranges in `items`: well formed, large enough, at most one of each family.
pub(crate) fn parse_subnets(items: &[String]) -> Result<Vec<IpNet>, Complaint> {
    let nets = items.iter().map(|item| parse_subnet(item)).collect::<Result<Vec<_>, _>>()?;
    let of_v4 = nets.iter().filter(|net| net.addr().is_ipv4()).count();
    if nets.is_empty() || of_v4 > 1 || nets.len() - of_v4 > 1 {
        let wrong = format!("{of_v4} ranges of IPv4 and {} of IPv6 are given", nets.len() - of_v4);
        return Err(Complaint::new(wrong, "one of IPv4, one of IPv6, or one of both is needed"));
    }
    Ok(nets)
}

fn parse_subnet(item: &str) -> Result<IpNet, Complaint> {
    let net: IpNet = item.parse().map_err(|_| {
        Complaint::new(format!("{item:?} is no address range"), "write it as \"10.213.0.0/16\"")
    })?;
    if net.addr() != net.network() {
        let wrong = format!("{item:?} has bits set behind its prefix");
        return Err(Complaint::new(wrong, format!("write \"{}\"", net.trunc())));
    }
    if net.max_prefix_len() - net.prefix_len() < HOST_BITS {
        let longest = net.max_prefix_len() - HOST_BITS;
        return Err(Complaint::new(
            format!("{item:?} has no room for pods"),
            format!("use a prefix of at most /{longest}"),
        ));
    }
    if net.addr().is_unspecified() || net.addr().is_multicast() || net.addr().is_loopback() {
        return Err(Complaint::new(format!("{item:?} holds no addresses for pods"), "use a private range"));
    }
    Ok(net)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interface_names() {
        let cases = [
            ("cleat0", true),
            ("exactly15bytes0", true),
            ("exactly16bytes00", false),
            ("", false),
            ("..", false),
            ("a/b", false),
            ("a:b", false),
            ("a b", false),
            ("a\nb", false),
        ];
        for (name, good) in cases {
            assert_eq!(check_interface_name(name).is_ok(), good, "{name:?}");
        }
    }

    #[test]
    fn subnets() {
        let cases: &[(&[&str], &str)] = &[
            (&["10.1.0.0/16"], ""),
            (&["fd00:1::/64"], ""),
            (&["fd00:1::/64", "10.1.0.0/30"], ""),
            (&[], "0 ranges"),
            (&["10.1.0.0/16", "10.2.0.0/16"], "2 ranges of IPv4"),
            (&["10.1.0.0"], "no address range"),
            (&["ten"], "no address range"),
            (&["10.1.0.1/16"], "bits set"),
            (&["10.1.0.0/31"], "no room"),
            (&["fd00:1::2/127"], "no room"),
            (&["0.0.0.0/0"], "no addresses"),
            (&["224.0.0.0/4"], "no addresses"),
            (&["127.0.0.0/8"], "no addresses"),
        ];
        for (items, wrong) in cases {
            let items: Vec<String> = items.iter().map(|&item| item.to_owned()).collect();
            match parse_subnets(&items) {
                Ok(nets) => assert!(wrong.is_empty() && nets.len() == items.len(), "{items:?}"),
                Err(complaint) => {
                    assert!(!wrong.is_empty() && complaint.wrong.contains(wrong), "{items:?}: {complaint:?}");
                }
            }
        }
    }

    #[test]
    fn bits_behind_the_prefix_are_answered_with_the_right_range() {
        let complaint = parse_subnets(&["10.1.2.3/16".to_owned()]).unwrap_err();
        assert_eq!(complaint.right, "write \"10.1.0.0/16\"");
    }
}
