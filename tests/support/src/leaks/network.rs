//! Links, addresses and firewall rules of a network namespace.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::Finding;

/// What is in the network namespace of process `pid`.
pub(super) fn find(pid: u32) -> Result<Vec<Finding>> {
    let links = inside(pid, &["ip", "-json", "address", "show"])?;
    let links = serde_json::from_str(&links).context("read the output of ip")?;
    let mut found = links_and_addresses(&links);
    let routes = inside(pid, &["ip", "route", "show", "table", "all"])?;
    // The kernel marks a bridge's routes some time after its last port went.
    let routes = lines(&routes).filter(|line| !follows_an_address(line));
    found.extend(routes.map(|line| Finding::new("route", line.replace(" linkdown", ""))));
    let rules = inside(pid, &["nft", "--stateless", "list", "ruleset"])?;
    found.extend(firewall(&rules));
    Ok(found)
}

/// Whether the kernel made a route in the local table for an address, which is found by itself; those of IPv6 come when
/// duplicate address detection is over.
fn follows_an_address(route: &str) -> bool {
    route.contains(" table local ") && route.contains(" proto kernel ")
}

fn inside(pid: u32, command: &[&str]) -> Result<String> {
    let mut nsenter = Command::new("nsenter");
    nsenter.arg(format!("--net=/proc/{pid}/ns/net")).arg("--").args(command);
    let output = nsenter.output().with_context(|| format!("run {command:?}"))?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "{command:?} in the network of process {pid}: {}\n{errors}",
        output.status
    );
    String::from_utf8(output.stdout).with_context(|| format!("output of {command:?}"))
}

fn links_and_addresses(links: &Value) -> Vec<Finding> {
    let mut found = Vec::new();
    for link in links.as_array().into_iter().flatten() {
        let name = link["ifname"].as_str().unwrap_or("?");
        found.push(Finding::new("link", name));
        for address in link["addr_info"].as_array().into_iter().flatten() {
            let (local, prefix) = (address["local"].as_str().unwrap_or("?"), &address["prefixlen"]);
            found.push(Finding::new("address", format!("{local}/{prefix} on {name}")));
        }
    }
    found
}

/// Each line of the rule set with the table it is in; equal lines of a table are numbered.
fn firewall(rules: &str) -> Vec<Finding> {
    let mut table = String::new();
    let mut found: Vec<Finding> = Vec::new();
    for line in lines(rules).filter(|line| *line != "}") {
        if line.starts_with("table ") {
            table = line.trim_end_matches([' ', '{']).to_owned();
        }
        let name = format!("{table}: {line}");
        let copies = found.iter().filter(|finding| finding.name.starts_with(&name)).count();
        found.push(Finding::new(
            "firewall",
            if copies == 0 { name } else { format!("{name} (copy {copies})") },
        ));
    }
    found
}

fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_with_their_addresses() {
        let json = r#"[{"ifname":"lo","addr_info":[{"local":"::1","prefixlen":128}]},{"ifname":"cleat0"}]"#;
        let found = links_and_addresses(&serde_json::from_str(json).unwrap());
        let lines: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert_eq!(lines, ["link lo", "address ::1/128 on lo", "link cleat0"]);
    }

    #[test]
    fn rules_are_told_apart_by_table_and_copy() {
        let rules = "table ip a {\n chain c {\n  accept\n  accept\n }\n}\ntable ip b {\n chain c {\n  accept\n }\n}\n";
        let lines: Vec<String> = firewall(rules).iter().map(ToString::to_string).collect();
        assert!(lines.contains(&"firewall table ip a: accept (copy 1)".to_owned()), "{lines:?}");
        assert!(lines.contains(&"firewall table ip b: accept".to_owned()), "{lines:?}");
        assert_eq!(lines.len(), 7);
    }
}
