//! The text of the files the daemon generates for a pod. One place writes them, from typed fields, and refuses whatever
//! could add a line or a word: the same injection has been found in other runtimes twice (CVE-2022-4318).

use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::engine::model::Dns;

/// The longest host name the kernel holds (`HOST_NAME_MAX`), bytes.
const HOST_NAME_MAX: usize = 64;
/// The longest domain name (RFC 1035), characters.
const DOMAIN_NAME_MAX: usize = 253;
/// The longest option of resolv.conf that is passed on, characters.
const OPTION_MAX: usize = 256;
/// Bounds of Kubernetes for a pod's DNS: 32 search domains of 2048 characters in all. C libraries read three
/// nameservers, others more.
const SEARCHES_MAX: usize = 32;
const SEARCH_TEXT_MAX: usize = 2048;
const SERVERS_MAX: usize = 32;
const OPTIONS_MAX: usize = 64;

/// Names of the loopback addresses and of IPv6's fixed ones.
const LOCAL: [(IpAddr, &str); 6] = [
    (IpAddr::V4(Ipv4Addr::LOCALHOST), "localhost"),
    (IpAddr::V6(Ipv6Addr::LOCALHOST), "localhost ip6-localhost ip6-loopback"),
    (IpAddr::V6(Ipv6Addr::new(0xfe00, 0, 0, 0, 0, 0, 0, 0)), "ip6-localnet"),
    (IpAddr::V6(Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0)), "ip6-mcastprefix"),
    (IpAddr::V6(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1)), "ip6-allnodes"),
    (IpAddr::V6(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2)), "ip6-allrouters"),
];

/// A field that cannot go into a file.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FileError {
    /// A host name.
    #[error("{0:?} is not a host name")]
    HostName(String),
    /// A search domain.
    #[error("{0:?} is not a domain name")]
    SearchDomain(String),
    /// An option of resolv.conf.
    #[error("{0:?} is not an option of resolv.conf")]
    ResolverOption(String),
    /// A list that is too long.
    #[error("{what}: {count} are too many, at most {limit} are possible")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many.
        count: usize,
        /// How many there may be.
        limit: usize,
    },
}

/// A line of /etc/hosts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HostsEntry<'a> {
    /// The address.
    pub address: IpAddr,
    /// Its names, the canonical one first; at least one.
    pub names: Vec<&'a str>,
}

/// The text of /etc/hosts: the local names, then the given ones (the pod's addresses with its name, and whatever a
/// client adds).
///
/// # Errors
/// When a name is none, or an entry has none.
pub(crate) fn hosts_file(entries: &[HostsEntry<'_>]) -> Result<String, FileError> {
    let mut text = String::new();
    for (address, names) in LOCAL {
        line(&mut text, &format!("{address}\t{names}"));
    }
    text.push_str(&host_lines(entries)?);
    Ok(text)
}

/// Lines of /etc/hosts.
///
/// # Errors
/// When a name is none, or an entry has none.
pub(crate) fn host_lines(entries: &[HostsEntry<'_>]) -> Result<String, FileError> {
    let mut text = String::new();
    for entry in entries {
        if entry.names.is_empty() {
            return Err(FileError::HostName(String::new()));
        }
        if let Some(bad) = entry.names.iter().find(|name| !is_domain_name(name)) {
            return Err(FileError::HostName((*bad).to_owned()));
        }
        line(&mut text, &format!("{}\t{}", entry.address, entry.names.join(" ")));
    }
    Ok(text)
}

/// The text of /etc/hostname.
///
/// # Errors
/// When it is not a host name the kernel can hold.
pub(crate) fn hostname_file(hostname: &str) -> Result<String, FileError> {
    if hostname.len() > HOST_NAME_MAX || !is_domain_name(hostname) {
        return Err(FileError::HostName(hostname.to_owned()));
    }
    Ok(format!("{hostname}\n"))
}

/// The text of /etc/resolv.conf.
///
/// # Errors
/// When a search domain or option is none, or a list is too long.
pub(crate) fn resolv_conf(dns: &Dns) -> Result<String, FileError> {
    check_limits(dns)?;
    let mut text = String::new();
    if let Some(bad) = dns.searches.iter().find(|domain| !is_search_domain(domain)) {
        return Err(FileError::SearchDomain(bad.clone()));
    }
    if let Some(bad) = dns.options.iter().find(|option| !is_option(option)) {
        return Err(FileError::ResolverOption(bad.clone()));
    }
    if !dns.searches.is_empty() {
        line(&mut text, &format!("search {}", dns.searches.join(" ")));
    }
    for server in &dns.servers {
        line(&mut text, &format!("nameserver {server}"));
    }
    if !dns.options.is_empty() {
        line(&mut text, &format!("options {}", dns.options.join(" ")));
    }
    Ok(text)
}

/// What the text of an /etc/resolv.conf says (resolv.conf(5)), as far as [`resolv_conf`] would write it again: what it would
/// refuse, and what goes beyond its limits, is left out.
pub(crate) fn read_resolv_conf(text: &str) -> Dns {
    let mut dns = Dns::default();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("nameserver") => {
                dns.servers.extend(words.next().and_then(|word| word.parse::<IpAddr>().ok()))
            }
            // The last one holds.
            Some("search" | "domain") => {
                dns.searches = words.filter(|word| is_search_domain(word)).map(str::to_owned).collect();
            }
            Some("options") => {
                dns.options.extend(words.filter(|word| is_option(word)).map(str::to_owned));
            }
            _ => {}
        }
    }
    dns.servers.truncate(SERVERS_MAX);
    dns.searches.truncate(SEARCHES_MAX);
    // One more may be added.
    dns.options.truncate(OPTIONS_MAX - 1);
    while search_characters(&dns) > SEARCH_TEXT_MAX {
        dns.searches.pop();
    }
    dns
}

fn search_characters(dns: &Dns) -> usize {
    dns.searches.iter().map(|domain| domain.len() + 1).sum::<usize>().saturating_sub(1)
}

fn check_limits(dns: &Dns) -> Result<(), FileError> {
    for (what, count, limit) in [
        ("nameservers", dns.servers.len(), SERVERS_MAX),
        ("search domains", dns.searches.len(), SEARCHES_MAX),
        ("characters of search domains", search_characters(dns), SEARCH_TEXT_MAX),
        ("options", dns.options.len(), OPTIONS_MAX),
    ] {
        if count > limit {
            return Err(FileError::TooMany { what, count, limit });
        }
    }
    Ok(())
}

fn line(text: &mut String, content: &str) {
    writeln!(text, "{content}").expect("writing to a string cannot fail");
}

/// Letters, digits, `-` and `_` in parts of at most 63 characters, none empty. Laxer than RFC 1123 in the underscore,
/// which service names have, and in where `-` stands.
fn is_domain_name(name: &str) -> bool {
    let part = |part: &str| {
        (1..=63).contains(&part.len())
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    name.len() <= DOMAIN_NAME_MAX && name.split('.').all(part)
}

/// A domain name, with or without the closing dot, or the root alone.
fn is_search_domain(domain: &str) -> bool {
    domain == "." || is_domain_name(domain.strip_suffix('.').unwrap_or(domain))
}

/// One printable word.
fn is_option(option: &str) -> bool {
    (1..=OPTION_MAX).contains(&option.len())
        && option.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#')
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

    /// Everything that must never get from a field into a file.
    const INJECTIONS: [&str; 12] =
        ["", " ", "a b", "a\tb", "a\nb", "a\n", "\na", "a\0", "a\r", "a\u{85}b", "a\u{2028}b", "#"];

    #[test]
    fn hosts_lists_the_local_names_then_the_pods() {
        let entries = [
            HostsEntry {
                address: "10.1.2.3".parse().unwrap(),
                names: vec!["web-0.web.default.svc", "web-0"],
            },
            HostsEntry { address: "fd00::3".parse().unwrap(), names: vec!["web_0"] },
        ];
        let text = hosts_file(&entries).unwrap();
        assert!(text.starts_with("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"));
        assert!(
            text.ends_with(
                "ff02::2\tip6-allrouters\n10.1.2.3\tweb-0.web.default.svc web-0\nfd00::3\tweb_0\n"
            )
        );
        let back: Vec<_> =
            text.lines().skip(LOCAL.len()).map(|line| line.split_whitespace().collect::<Vec<_>>()).collect();
        assert_eq!(back, [vec!["10.1.2.3", "web-0.web.default.svc", "web-0"], vec!["fd00::3", "web_0"]]);
    }

    #[test]
    fn no_field_adds_a_line_or_a_word() {
        let address: IpAddr = "10.0.0.1".parse().unwrap();
        for bad in INJECTIONS {
            assert_eq!(hostname_file(bad), Err(FileError::HostName(bad.into())), "{bad:?}");
            let entry = HostsEntry { address, names: vec!["ok", bad] };
            assert_eq!(hosts_file(&[entry]), Err(FileError::HostName(bad.into())), "{bad:?}");
            assert_eq!(
                resolv_conf(&dns(&[], &["ok", bad], &[])),
                Err(FileError::SearchDomain(bad.into())),
                "{bad:?}"
            );
            assert_eq!(
                resolv_conf(&dns(&[], &[], &["ok", bad])),
                Err(FileError::ResolverOption(bad.into())),
                "{bad:?}"
            );
        }
        assert_eq!(
            hosts_file(&[HostsEntry { address, names: vec![] }]),
            Err(FileError::HostName(String::new()))
        );
    }

    #[test]
    fn no_byte_but_the_allowed_ones_gets_through() {
        for byte in 0..=u8::MAX {
            let name = format!("a{}b", char::from(byte));
            let allowed = byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
            assert_eq!(hostname_file(&name).is_ok(), allowed, "{name:?}");
            let option = resolv_conf(&dns(&[], &[], &[&name]));
            assert_eq!(option.is_ok(), byte.is_ascii_graphic() && byte != b'#', "{name:?}");
        }
    }

    #[test]
    fn a_resolv_conf_of_the_hosts_is_read_as_far_as_it_can_be_written() {
        let text = "# by hand\nnameserver 192.0.2.1\nnameserver fe80::1%eth0\n nameserver\t2001:db8::1 rest\n\
                    domain old.example\nsearch example.org a/b .\noptions edns0 #x ndots:2\noptions trust-ad\nbogus";
        let expected =
            dns(&["192.0.2.1", "2001:db8::1"], &["example.org", "."], &["edns0", "ndots:2", "trust-ad"]);
        assert_eq!(read_resolv_conf(text), expected);
        assert_eq!(read_resolv_conf(""), Dns::default());
        let long =
            format!("search {}\noptions {}", "a.long.domain.example.org. ".repeat(200), "o ".repeat(200));
        let read = read_resolv_conf(&long.replace("a.long", &"l".repeat(63)));
        assert!(resolv_conf(&read).is_ok() && !read.searches.is_empty());
    }

    #[test]
    fn resolv_conf_reads_back() {
        let text = resolv_conf(&dns(
            &["10.96.0.10", "fd00::10"],
            &["svc.cluster.local", "cluster.local."],
            &["ndots:5", "edns0"],
        ));
        assert_eq!(
            text.as_deref(),
            Ok(
                "search svc.cluster.local cluster.local.\nnameserver 10.96.0.10\nnameserver fd00::10\noptions ndots:5 edns0\n"
            )
        );
        assert_eq!(resolv_conf(&Dns::default()).as_deref(), Ok(""));
        assert_eq!(resolv_conf(&dns(&[], &["."], &[])).as_deref(), Ok("search .\n"));
    }

    #[test]
    fn lists_end_somewhere() {
        let many = |count: usize| vec!["a.example"; count];
        assert!(resolv_conf(&dns(&[], &many(SEARCHES_MAX), &[])).is_ok());
        assert!(matches!(
            resolv_conf(&dns(&[], &many(SEARCHES_MAX + 1), &[])),
            Err(FileError::TooMany { .. })
        ));
        assert!(matches!(
            resolv_conf(&dns(&[], &[], &vec!["a"; OPTIONS_MAX + 1])),
            Err(FileError::TooMany { .. })
        ));
        assert!(matches!(
            resolv_conf(&dns(&vec!["::1"; SERVERS_MAX + 1], &[], &[])),
            Err(FileError::TooMany { .. })
        ));
        let long = vec!["a".repeat(63); 4].join(".");
        assert!(matches!(resolv_conf(&dns(&[], &[&long[..250]; 10], &[])), Err(FileError::TooMany { .. })));
        assert!(hostname_file(&"a".repeat(63)).is_ok());
        assert!(hostname_file(&format!("{}.b", "a".repeat(63))).is_err());
    }
}
