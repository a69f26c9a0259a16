//! Ethernet hardware addresses.

use std::{fmt, net::IpAddr, str::FromStr};

use serde::{Deserialize, Serialize};

/// An Ethernet hardware address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MacAddress(pub [u8; 6]);

/// The text is not six hexadecimal octets joined by colons.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a hardware address of the form 02:00:5e:10:00:01")]
pub struct ParseMacError(String);

impl MacAddress {
    /// The hardware address that goes with these addresses: derived from the first IPv4 one, else from the first IPv6
    /// one. A neighbour's cached entry so stays right when the address is handed to another pod.
    #[must_use]
    pub fn of_addresses(addresses: impl Iterator<Item = IpAddr> + Clone) -> Option<Self> {
        addresses.clone().find(IpAddr::is_ipv4).or_else(|| addresses.clone().next()).map(Self::of_address)
    }

    /// The hardware address that goes with one address. The first octet says that it is locally administered; an IPv6
    /// address gives the last four octets of its interface identifier.
    #[must_use]
    pub fn of_address(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(v4) => {
                let [a, b, c, d] = v4.octets();
                Self([0x02, 0x04, a, b, c, d])
            }
            IpAddr::V6(v6) => {
                let [.., a, b, c, d] = v6.octets();
                Self([0x02, 0x06, a, b, c, d])
            }
        }
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, f] = self.0;
        write!(out, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")
    }
}

impl FromStr for MacAddress {
    type Err = ParseMacError;

    fn from_str(text: &str) -> Result<Self, ParseMacError> {
        let refused = || ParseMacError(text.to_owned());
        let mut octets = [0; 6];
        let mut parts = text.split(':');
        for octet in &mut octets {
            let part = parts.next().filter(|part| part.len() == 2).ok_or_else(refused)?;
            *octet = u8::from_str_radix(part, 16).map_err(|_| refused())?;
        }
        if parts.next().is_some() { Err(refused()) } else { Ok(Self(octets)) }
    }
}

impl TryFrom<String> for MacAddress {
    type Error = ParseMacError;

    fn try_from(text: String) -> Result<Self, ParseMacError> {
        text.parse()
    }
}

impl From<MacAddress> for String {
    fn from(address: MacAddress) -> Self {
        address.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_reads_back_as_it_is_shown() {
        let address = MacAddress::of_address("10.88.0.7".parse().unwrap());
        assert_eq!(address.to_string(), "02:04:0a:58:00:07");
        assert_eq!(address.to_string().parse(), Ok(address));
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "",
            "02:04:0a:58:00",
            "02:04:0a:58:00:07:08",
            "2:04:0a:58:00:07",
            "02-04-0a-58-00-07",
            "zz:04:0a:58:00:07",
        ] {
            assert_eq!(text.parse::<MacAddress>(), Err(ParseMacError(text.to_owned())), "{text}");
        }
    }
}
