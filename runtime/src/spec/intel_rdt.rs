//! `linux.intelRdt`: the container's share of caches and memory bandwidth (config-linux.md, "IntelRdt").

use oci_spec::runtime::LinuxIntelRdt;

use super::SpecError;

/// What begins a line about memory bandwidth.
const BANDWIDTH: &str = "MB:";

/// A group of the resctrl filesystem that the container is to be in.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct IntelRdt {
    /// Its name.
    pub(crate) group: String,
    /// Whether it was asked for by this name: then it may be others' too.
    pub(crate) is_named: bool,
    /// Lines for its `schemata`; none leaves that as it is.
    pub(crate) schemata: Vec<String>,
    /// The name of the container's own monitoring group, if it is to have one.
    pub(crate) monitored_as: Option<String>,
}

/// Decides about the group of the container `id`.
pub(super) fn plan(id: &str, specified: &LinuxIntelRdt) -> Result<IntelRdt, SpecError> {
    let named = specified.clos_id().as_deref().filter(|name| !name.is_empty());
    if let Some(name) = named.filter(|name| matches!(*name, "." | "..") || name.contains(['/', '\0', '\n'])) {
        return Err(SpecError::value("linux.intelRdt.closID", name));
    }
    Ok(IntelRdt {
        group: named.unwrap_or(id).to_owned(),
        is_named: named.is_some(),
        schemata: schemata(specified)?,
        monitored_as: specified.enable_monitoring().unwrap_or(false).then(|| id.to_owned()),
    })
}

fn schemata(specified: &LinuxIntelRdt) -> Result<Vec<String>, SpecError> {
    let bandwidth = specified.mem_bw_schema().as_deref().filter(|line| !line.is_empty());
    if let Some(bad) = bandwidth.filter(|line| !line.starts_with(BANDWIDTH) || line.contains('\n')) {
        return Err(SpecError::value("linux.intelRdt.memBwSchema", bad));
    }
    let whole = specified.schemata().as_deref().unwrap_or_default();
    if let Some(bad) = whole.iter().find(|line| line.is_empty() || line.contains('\n')) {
        return Err(SpecError::value("linux.intelRdt.schemata", bad));
    }
    // What it says of memory bandwidth gives way to the field of that.
    let cache = specified.l3_cache_schema().as_deref().unwrap_or_default().lines();
    let is_dropped = |line: &str| line.is_empty() || bandwidth.is_some() && line.starts_with(BANDWIDTH);
    let cache = cache.filter(|line| !is_dropped(line));
    // The kernel takes the last line about a resource: the whole schemata have the last word.
    Ok(cache.chain(bandwidth).map(str::to_owned).chain(whole.iter().cloned()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(json: &str) -> Result<IntelRdt, SpecError> {
        plan("c1", &serde_json::from_str(json).unwrap())
    }

    #[test]
    fn a_group_is_the_containers_own_unless_it_is_named() {
        let own = planned("{}").unwrap();
        assert_eq!((own.group.as_str(), own.is_named, own.monitored_as), ("c1", false, None));
        let named = planned(r#"{"closID":"gold","enableMonitoring":true}"#).unwrap();
        assert_eq!((named.group.as_str(), named.is_named), ("gold", true));
        assert_eq!(named.monitored_as.as_deref(), Some("c1"));
        for bad in [".", "..", "a/b", "a\\n"] {
            assert!(planned(&format!(r#"{{"closID":"{bad}"}}"#)).is_err(), "{bad}");
        }
    }

    #[test]
    fn schemata_are_lines_and_the_whole_ones_come_last() {
        for (json, expected) in [
            ("{}", &[][..]),
            (r#"{"l3CacheSchema":"L3:0=f","memBwSchema":"MB:0=20"}"#, &["L3:0=f", "MB:0=20"]),
            (r#"{"l3CacheSchema":"L3:0=f\nMB:0=10\n","memBwSchema":"MB:0=20"}"#, &["L3:0=f", "MB:0=20"]),
            (r#"{"l3CacheSchema":"L3CODE:0=f\nL3DATA:0=f0"}"#, &["L3CODE:0=f", "L3DATA:0=f0"]),
            (r#"{"memBwSchema":"MB:0=20","schemata":["MB:0=30"]}"#, &["MB:0=20", "MB:0=30"]),
        ] {
            assert_eq!(planned(json).unwrap().schemata, expected, "{json}");
        }
        for bad in
            [r#"{"memBwSchema":"L3:0=f"}"#, r#"{"memBwSchema":"MB:0=1\nMB:1=1"}"#, r#"{"schemata":["a\nb"]}"#]
        {
            assert!(planned(bad).is_err(), "{bad}");
        }
    }
}
