//! The options of a bridge, by Docker's keys. Pure.

use std::collections::BTreeMap;

use crate::docker::refusal::Refusal;
use crate::engine::model::Manners;

/// What begins the keys that mean something to the engine.
const OURS: &str = "com.docker.network.";

/// What a network's options come to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Chosen {
    /// The kernel's name of the bridge.
    pub bridge: Option<String>,
    /// How it behaves.
    pub manners: Manners,
}

/// Reads them. Keys of others are kept and mean nothing, as in dockerd; those of Docker's that are not built are refused.
pub(super) fn read(options: &BTreeMap<String, String>) -> Result<Chosen, Refusal> {
    let mut chosen = Chosen::default();
    for (key, value) in options {
        let Some(name) = key.strip_prefix(OURS) else { continue };
        let invalid = || Refusal::bad(format!("invalid value {value:?} for network option {key:?}"));
        match name {
            "bridge.name" => chosen.bridge = Some(value.clone()).filter(|name| !name.is_empty()),
            "bridge.enable_icc" => {
                chosen.manners.lets_containers_talk = flag(value).ok_or_else(invalid)?;
            }
            "bridge.enable_ip_masquerade" => chosen.manners.masquerade = flag(value).ok_or_else(invalid)?,
            "driver.mtu" => {
                let mtu: u32 = value.parse().map_err(|_| invalid())?;
                chosen.manners.mtu = Some(mtu).filter(|mtu| *mtu != 0);
            }
            "bridge.host_binding_ipv4" => {
                let address: std::net::Ipv4Addr = value.parse().map_err(|_| invalid())?;
                chosen.manners.publish_on = Some(address).filter(|ip| !ip.is_unspecified()).map(Into::into);
            }
            _ => return Err(Refusal::not_built(format!("the network option {key:?}"))),
        }
    }
    Ok(chosen)
}

/// A boolean as Go reads one.
fn flag(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: &[(&str, &str)]) -> Result<Chosen, u16> {
        let options = pairs.iter().map(|(key, value)| (format!("{OURS}{key}"), (*value).to_owned()));
        read(&options.collect()).map_err(|refusal| refusal.status().as_u16())
    }

    #[test]
    fn options_are_dockers() {
        assert_eq!(of(&[]).unwrap(), Chosen::default());
        let chosen = of(&[
            ("bridge.name", "br7"),
            ("bridge.enable_icc", "false"),
            ("bridge.enable_ip_masquerade", "0"),
            ("driver.mtu", "1400"),
            ("bridge.host_binding_ipv4", "127.0.0.1"),
        ]);
        let manners = Manners {
            lets_containers_talk: false,
            masquerade: false,
            mtu: Some(1400),
            publish_on: Some("127.0.0.1".parse().unwrap()),
            ..Manners::default()
        };
        assert_eq!(chosen.unwrap(), Chosen { bridge: Some("br7".into()), manners });
        assert_eq!(of(&[("bridge.host_binding_ipv4", "0.0.0.0")]).unwrap().manners.publish_on, None);
        for (key, value, status) in [
            ("bridge.enable_icc", "maybe", 400),
            ("driver.mtu", "much", 400),
            ("bridge.host_binding_ipv4", "::1", 400),
            ("bridge.gateway_mode_ipv4", "routed", 501),
            ("container_iface_prefix", "x", 501),
        ] {
            assert_eq!(of(&[(key, value)]), Err(status), "{key}={value}");
        }
        let others = [("com.example.a".to_owned(), "b".to_owned())].into();
        assert_eq!(read(&others).unwrap(), Chosen::default());
    }
}
