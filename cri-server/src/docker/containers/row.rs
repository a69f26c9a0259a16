//! A row of `docker ps`: written straight from the view, since scripts ask for long lists often.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use super::describe::{NS_PER_SECOND, command, mounts, ports, request, shown_command, status, word};
use super::endpoint::{Endpoint, endpoints, network_mode_of};
use crate::docker::Facts;
use crate::engine::One;

/// A container in a list.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Row<'a> {
    id: &'a str,
    names: [String; 1],
    image: &'a str,
    #[serde(rename = "ImageID")]
    image_id: &'a str,
    command: String,
    created: i64,
    ports: Vec<Value>,
    labels: &'a BTreeMap<String, String>,
    state: &'static str,
    status: String,
    host_config: HostConfig,
    network_settings: NetworkSettings,
    mounts: Vec<Value>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct HostConfig {
    network_mode: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct NetworkSettings {
    networks: BTreeMap<String, Endpoint>,
}

impl<'a> Row<'a> {
    /// Of a container whose image is called `image`.
    pub(super) fn of(one: &'a One, image: &'a str, facts: &Facts, now_ns: i64) -> Self {
        let (container, mode) = (&one.container, network_mode_of(one));
        // The request is read only where there is something to find in it: a list has to be quick.
        let mounts = match container.config.mounts.is_empty() {
            true => Vec::new(),
            false => mounts(one, &request(one)["HostConfig"], facts),
        };
        Self {
            id: container.id.as_str(),
            names: [format!("/{}", one.name())],
            image,
            image_id: &container.image.id,
            command: shown_command(&command(one)),
            created: container.created_at_ns / NS_PER_SECOND,
            ports: ports(one),
            labels: &container.config.labels,
            state: word(container),
            status: status(container, now_ns),
            host_config: HostConfig { network_mode: mode },
            network_settings: NetworkSettings { networks: endpoints(one) },
            mounts,
        }
    }
}
