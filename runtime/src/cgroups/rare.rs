//! Limits that few hosts have a controller for: real-time CPU, network classes and priorities (v1 alone), RDMA.

use oci_spec::runtime::{LinuxCpu, LinuxNetwork, LinuxRdma};

use super::ResourceError;
use super::settings::Setting;

/// Real-time CPU time, v1 alone. The period first: the runtime has to fit in it.
pub(super) fn realtime(cpu: &LinuxCpu, v1: bool) -> Result<Vec<Setting>, ResourceError> {
    let runtime = cpu.realtime_runtime().filter(|value| *value != 0);
    let period = cpu.realtime_period().filter(|value| *value != 0);
    if !v1 && (runtime.is_some() || period.is_some()) {
        return Err(ResourceError::Unsupported("cpu.realtimeRuntime and realtimePeriod"));
    }
    if let Some(value) = runtime.filter(|value| *value < -1) {
        return Err(ResourceError::Value { field: "cpu.realtimeRuntime", value: value.to_string() });
    }
    let period = period.map(|value| setting("cpu", "cpu.rt_period_us", value));
    let runtime = runtime.map(|value| setting("cpu", "cpu.rt_runtime_us", value));
    Ok(period.into_iter().chain(runtime).collect())
}

/// Marks on the container's packets; the controllers are of v1 alone.
pub(super) fn network(
    network: &LinuxNetwork,
    is_v1: impl Fn(&str) -> bool,
) -> Result<Vec<Setting>, ResourceError> {
    let mut list = Vec::new();
    if let Some(class) = network.class_id() {
        if !is_v1("net_cls") {
            return Err(ResourceError::Unsupported("network.classID"));
        }
        list.push(setting("net_cls", "net_cls.classid", class));
    }
    for interface in network.priorities().iter().flatten() {
        if !is_v1("net_prio") {
            return Err(ResourceError::Unsupported("network.priorities"));
        }
        let (name, priority) = (interface.name(), interface.priority());
        if name.is_empty() || name.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err(ResourceError::Value { field: "network.priorities.name", value: name.clone() });
        }
        list.push(setting("net_prio", "net_prio.ifpriomap", format!("{name} {priority}")));
    }
    Ok(list)
}

/// Handles and objects of one RDMA device.
pub(super) fn rdma(device: &str, limits: &LinuxRdma) -> Result<Setting, ResourceError> {
    if device.is_empty() || device.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err(ResourceError::Value { field: "rdma", value: device.to_owned() });
    }
    let shown = |value: Option<u32>| value.map_or("max".to_owned(), |value| value.to_string());
    let (handles, objects) = (shown(limits.hca_handles()), shown(limits.hca_objects()));
    Ok(setting("rdma", "rdma.max", format!("{device} hca_handle={handles} hca_object={objects}")))
}

fn setting(controller: &'static str, file: &str, value: impl ToString) -> Setting {
    Setting { controller, file: file.into(), value: value.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(list: &[Setting]) -> Vec<(String, String)> {
        list.iter().map(|setting| (setting.file.clone(), setting.value.clone())).collect()
    }

    #[test]
    fn real_time_is_for_v1_and_the_period_comes_first() {
        let cpu = |json: &str| serde_json::from_str::<LinuxCpu>(json).unwrap();
        let both = cpu(r#"{"realtimeRuntime":100,"realtimePeriod":1000}"#);
        assert_eq!(
            told(&realtime(&both, true).unwrap()),
            [("cpu.rt_period_us".into(), "1000".into()), ("cpu.rt_runtime_us".into(), "100".into())]
        );
        assert!(realtime(&both, false).is_err());
        assert!(realtime(&cpu(r#"{"realtimeRuntime":-2}"#), true).is_err());
        assert!(realtime(&cpu("{}"), false).unwrap().is_empty());
    }

    #[test]
    fn packets_are_marked_where_there_are_controllers_for_it() {
        let json = r#"{"classID":1048577,"priorities":[{"name":"eth0","priority":5}]}"#;
        let asked: LinuxNetwork = serde_json::from_str(json).unwrap();
        assert_eq!(
            told(&network(&asked, |_| true).unwrap()),
            [("net_cls.classid".into(), "1048577".into()), ("net_prio.ifpriomap".into(), "eth0 5".into())]
        );
        assert!(network(&asked, |_| false).is_err());
        assert!(network(&asked, |controller| controller == "net_cls").is_err());
        let odd = serde_json::from_str(r#"{"priorities":[{"name":"a b","priority":5}]}"#).unwrap();
        assert!(network(&odd, |_| true).is_err());
    }

    #[test]
    fn rdma_limits_are_one_line_for_each_device() {
        let limits = serde_json::from_str(r#"{"hcaHandles":3}"#).unwrap();
        assert_eq!(rdma("mlx5_1", &limits).unwrap().value, "mlx5_1 hca_handle=3 hca_object=max");
        assert!(rdma("a\nb", &limits).is_err());
    }
}
