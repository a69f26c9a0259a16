//! What an inspection tells of things that the client said nothing about: clients of every language read all of Docker's
//! fields. Pure.

use serde_json::{Value, json};

/// Fills in what `told` lacks of `defaults`.
pub(super) fn fill(told: &mut Value, defaults: Value) {
    let (Value::Object(told), Value::Object(defaults)) = (told, defaults) else { return };
    for (key, value) in defaults {
        let present = told.entry(key).or_insert(Value::Null);
        if present.is_null() {
            *present = value;
        }
    }
}

/// All of `HostConfig`.
pub(super) fn host_config() -> Value {
    let mut all = namespaces_and_limits();
    fill(
        &mut all,
        json!({
            "AutoRemove": false, "Binds": null, "CapAdd": null, "CapDrop": null, "Cgroup": "", "CgroupnsMode": "private",
            "ConsoleSize": [0, 0], "ContainerIDFile": "", "Dns": [], "DnsOptions": [], "DnsSearch": [],
            "ExtraHosts": null, "GroupAdd": null, "Links": null, "LogConfig": {"Type": "json-file", "Config": {}},
            "PortBindings": {}, "Privileged": false, "PublishAllPorts": false, "ReadonlyRootfs": false,
            "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0}, "Runtime": "cleat", "SecurityOpt": null,
            "VolumeDriver": "", "VolumesFrom": null,
        }),
    );
    all
}

fn namespaces_and_limits() -> Value {
    json!({
        "BlkioDeviceReadBps": [], "BlkioDeviceReadIOps": [], "BlkioDeviceWriteBps": [],
        "BlkioDeviceWriteIOps": [], "BlkioWeight": 0, "BlkioWeightDevice": [], "CgroupParent": "", "CpuCount": 0,
        "CpuPercent": 0, "CpuPeriod": 0, "CpuQuota": 0, "CpuRealtimePeriod": 0, "CpuRealtimeRuntime": 0,
        "CpuShares": 0, "CpusetCpus": "", "CpusetMems": "", "DeviceCgroupRules": null, "DeviceRequests": null,
        "Devices": [], "IOMaximumBandwidth": 0, "IOMaximumIOps": 0, "IpcMode": "private", "Isolation": "",
        "Memory": 0, "MemoryReservation": 0, "MemorySwap": 0, "MemorySwappiness": null, "NanoCpus": 0,
        "OomKillDisable": false, "OomScoreAdj": 0, "PidMode": "", "PidsLimit": null, "UTSMode": "", "Ulimits": [],
        "UsernsMode": "",
    })
}

/// All of `Config`.
pub(super) fn config() -> Value {
    json!({
        "AttachStderr": false, "AttachStdin": false, "AttachStdout": false, "Cmd": null, "Domainname": "",
        "Entrypoint": null, "Env": [], "Labels": {}, "OnBuild": null, "User": "", "Volumes": null, "WorkingDir": "",
    })
}

/// What of `NetworkSettings` no network here has.
pub(super) fn network_settings() -> Value {
    json!({
        "EndpointID": "", "HairpinMode": false, "LinkLocalIPv6Address": "", "LinkLocalIPv6PrefixLen": 0,
        "MacAddress": "", "SecondaryIPAddresses": null, "SecondaryIPv6Addresses": null,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_said_stays() {
        let mut told = json!({"Memory": 5, "Binds": null, "Own": 1});
        fill(&mut told, host_config());
        assert_eq!((&told["Memory"], &told["Own"], &told["CapAdd"]), (&json!(5), &json!(1), &Value::Null));
        assert!(told.as_object().unwrap().contains_key("CapAdd") && told["Dns"] == json!([]));
    }
}
