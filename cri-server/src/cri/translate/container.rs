//! A container's configuration.

use cleat_cri_api::v1::{self, ContainerMetadata, ImageSpec, KeyValue};

use super::field::{
    absolute_path, arguments, filled, name, optional_path_below, ordered, present, refused, unsupported,
};
use super::{cdi, mount, namespace, resources, security, signal};
use crate::engine::Result;
use crate::engine::model::{CgroupMode, ContainerConfig, ImageChoice, RestartPolicy};

/// What a CreateContainer request asks for.
pub(in crate::cri) fn config(config: Option<v1::ContainerConfig>) -> Result<ContainerConfig> {
    let config = present("config", config)?;
    if config.windows.is_some() {
        return Err(unsupported("config.windows", "this node runs Linux"));
    }
    let linux = config.linux.unwrap_or_default();
    let mut context = linux.security_context.unwrap_or_default();
    let metadata = present("config.metadata", config.metadata)?;
    let (pid, user) = namespace::of_container(context.namespace_options.take())?;
    let annotations = ordered(config.annotations);
    Ok(ContainerConfig {
        // The kubelet asks by itself.
        health: None,
        name: name("config.metadata.name", metadata.name)?,
        attempt: metadata.attempt,
        image: image(config.image)?,
        command: arguments("config.command", config.command)?,
        args: arguments("config.args", config.args)?,
        working_dir: working_dir(config.working_dir)?,
        envs: config.envs.into_iter().map(variable).collect::<Result<_>>()?,
        mounts: mount::mounts(config.mounts)?,
        devices: mount::devices(config.devices)?,
        cdi_devices: cdi::devices(config.cdi_devices, &annotations)?,
        labels: ordered(config.labels),
        annotations,
        log_path: optional_path_below("config.log_path", &config.log_path)?,
        log_rotation: None,
        device_rules: Vec::new(),
        disk_limits: Vec::new(),
        cgroup_namespace: CgroupMode::ByPrivilege,
        takes_volumes_along: false,
        stdin: config.stdin,
        stdin_once: config.stdin_once,
        tty: config.tty,
        resources: resources::limits(linux.resources)?,
        pid,
        user,
        security: security::of_container(context)?,
        stop_signal: signal::number("config.stop_signal", config.stop_signal)?,
        init: false,
        restart: RestartPolicy::No,
        rlimits: Vec::new(),
    })
}

/// What an UpdateContainerResources request changes. Its annotations are for plugins of the runtime, of which there are
/// none.
pub(in crate::cri) fn change(
    request: v1::UpdateContainerResourcesRequest,
) -> Result<crate::engine::model::Resources> {
    if request.windows.is_some() {
        return Err(unsupported("windows", "this node runs Linux"));
    }
    resources::stated(present("linux", request.linux)?)
}

/// The command of an ExecSync request.
pub(in crate::cri) fn command(cmd: Vec<String>) -> Result<Vec<String>> {
    filled("cmd", cmd.first().map_or("", String::as_str))?;
    arguments("cmd", cmd)
}

/// A container's name as the CRI's message.
pub(super) fn metadata(config: &ContainerConfig) -> ContainerMetadata {
    ContainerMetadata { name: config.name.clone(), attempt: config.attempt }
}

/// A container's image as the CRI's message: what the user wrote is what the user wants to read.
pub(super) fn image_spec(choice: &ImageChoice) -> ImageSpec {
    let written = if choice.user_specified.is_empty() { &choice.requested } else { &choice.user_specified };
    ImageSpec {
        image: written.clone(),
        user_specified_image: choice.user_specified.clone(),
        ..ImageSpec::default()
    }
}

fn image(spec: Option<ImageSpec>) -> Result<ImageChoice> {
    let spec = present("config.image", spec)?;
    filled("config.image.image", &spec.image)?;
    Ok(ImageChoice { requested: spec.image, user_specified: spec.user_specified_image })
}

fn working_dir(text: String) -> Result<String> {
    if !text.is_empty() {
        absolute_path("config.working_dir", &text)?;
    }
    Ok(text)
}

/// The kernel hands a program one text per variable, ended by the first zero byte and split by the first `=`. The CRI
/// allows any bytes for a value; the engine keeps text, so what is not UTF-8 is refused rather than altered.
fn variable(variable: KeyValue) -> Result<(String, String)> {
    const FIELD: &str = "config.envs";
    let key = variable.key;
    if key.is_empty() || key.contains(['=', '\0']) {
        return Err(refused(FIELD, key, "a variable's name without `=` and zero bytes is expected"));
    }
    // Values are often secrets: a refusal names the variable only.
    match String::from_utf8(variable.value) {
        Ok(value) if !value.contains('\0') => Ok((key, value)),
        Ok(_) => Err(refused(FIELD, key, "a zero byte would end its value early")),
        Err(_) => Err(refused(FIELD, key, "its value is not UTF-8")),
    }
}

#[cfg(test)]
mod tests {
    use cleat_cri_api::v1::{
        CdiDevice, LinuxContainerConfig, LinuxContainerResources, LinuxContainerSecurityContext,
        NamespaceMode, NamespaceOption, Signal, UpdateContainerResourcesRequest, WindowsContainerConfig,
        WindowsContainerResources,
    };

    use super::*;
    use crate::engine::EngineError;
    use crate::engine::model::{PidMode, Resources};

    fn image_named(image: &str) -> Option<ImageSpec> {
        Some(ImageSpec { image: image.into(), ..ImageSpec::default() })
    }

    fn request() -> v1::ContainerConfig {
        v1::ContainerConfig {
            metadata: Some(ContainerMetadata { name: "app".into(), attempt: 1 }),
            image: image_named("busybox"),
            ..v1::ContainerConfig::default()
        }
    }

    fn env(key: &str, value: &[u8]) -> KeyValue {
        KeyValue { key: key.into(), value: value.to_vec() }
    }

    #[test]
    fn a_bare_container_needs_a_name_and_an_image() {
        let container = config(Some(request())).unwrap();
        let expected = ContainerConfig {
            name: "app".into(),
            attempt: 1,
            image: ImageChoice { requested: "busybox".into(), user_specified: String::new() },
            pid: PidMode::Pod,
            resources: Resources { oom_score_adj: Some(0), ..Resources::default() },
            ..ContainerConfig::default()
        };
        assert_eq!(container, expected);
        assert_eq!(Some(metadata(&container)), request().metadata);
    }

    #[test]
    fn every_field_arrives() {
        let options = NamespaceOption { pid: NamespaceMode::Container as i32, ..NamespaceOption::default() };
        let context =
            LinuxContainerSecurityContext { namespace_options: Some(options), ..Default::default() };
        let limits = LinuxContainerResources { cpu_shares: 512, ..LinuxContainerResources::default() };
        let container = config(Some(v1::ContainerConfig {
            command: vec!["sh".into(), "-c".into()],
            args: vec!["echo \"a\nb\"".into()],
            working_dir: "/srv".into(),
            envs: vec![env("A", b"1=2\n"), env("A", b"")],
            labels: [("k".to_owned(), "v".to_owned())].into(),
            annotations: [("a".to_owned(), "b".to_owned())].into(),
            cdi_devices: vec![CdiDevice { name: "vendor.com/gpu=0".into() }],
            log_path: "app/1.log".into(),
            stdin: true,
            stdin_once: true,
            tty: true,
            linux: Some(LinuxContainerConfig { resources: Some(limits), security_context: Some(context) }),
            stop_signal: Signal::Sigrtminplus3 as i32,
            ..request()
        }))
        .unwrap();
        assert_eq!((container.command.len(), container.args[0].as_str()), (2, "echo \"a\nb\""));
        assert_eq!(container.envs, [("A".into(), "1=2\n".into()), ("A".into(), String::new())]);
        assert_eq!((container.labels["k"].as_str(), container.annotations["a"].as_str()), ("v", "b"));
        assert_eq!((container.working_dir.as_str(), container.log_path), ("/srv", Some("app/1.log".into())));
        assert!(container.stdin && container.stdin_once && container.tty);
        assert_eq!((container.pid, container.stop_signal), (PidMode::Container, Some(37)));
        assert_eq!(container.resources.cpu_shares, Some(512));
        assert_eq!(container.cdi_devices[0].to_string(), "vendor.com/gpu=0");
    }

    #[test]
    fn malformed_containers_are_refused_by_field() {
        for (asked, field) in [
            (v1::ContainerConfig { metadata: None, ..request() }, "a request without config.metadata"),
            (v1::ContainerConfig { image: None, ..request() }, "a request without config.image"),
            (
                v1::ContainerConfig { image: image_named(""), ..request() },
                "a request without config.image.image",
            ),
            (v1::ContainerConfig { command: vec!["a\0".into()], ..request() }, "config.command"),
            (v1::ContainerConfig { args: vec!["a\0".into()], ..request() }, "config.args"),
            (v1::ContainerConfig { working_dir: "srv".into(), ..request() }, "config.working_dir"),
            (v1::ContainerConfig { envs: vec![env("", b"1")], ..request() }, "config.envs"),
            (v1::ContainerConfig { envs: vec![env("A=B", b"1")], ..request() }, "config.envs"),
            (v1::ContainerConfig { envs: vec![env("A", b"\0")], ..request() }, "config.envs"),
            (v1::ContainerConfig { envs: vec![env("A", b"\xff")], ..request() }, "config.envs"),
            (v1::ContainerConfig { log_path: "/x.log".into(), ..request() }, "config.log_path"),
            (v1::ContainerConfig { log_path: "../x.log".into(), ..request() }, "config.log_path"),
            (v1::ContainerConfig { stop_signal: 99, ..request() }, "config.stop_signal"),
        ] {
            let error = config(Some(asked)).unwrap_err();
            assert!(matches!(error, EngineError::Invalid { .. }), "{error}");
            assert!(error.to_string().starts_with(field), "{field}: {error}");
        }
    }

    #[test]
    fn a_refusal_does_not_show_a_variables_value() {
        for value in [b"s3cret\0".as_slice(), b"s3cret\xff"] {
            let asked = v1::ContainerConfig { envs: vec![env("TOKEN", value)], ..request() };
            let error = config(Some(asked)).unwrap_err().to_string();
            assert!(error.contains("TOKEN") && !error.contains("s3cret"), "{error}");
        }
    }

    #[test]
    fn what_is_not_built_is_unsupported() {
        let windows = Some(WindowsContainerConfig::default());
        let asked = v1::ContainerConfig { windows, ..request() };
        assert!(matches!(config(Some(asked)), Err(EngineError::Unsupported { .. })));
    }

    #[test]
    fn an_update_states_limits() {
        let linux = Some(LinuxContainerResources { cpu_shares: 512, ..LinuxContainerResources::default() });
        let request = UpdateContainerResourcesRequest { linux, ..UpdateContainerResourcesRequest::default() };
        assert_eq!(
            change(request.clone()).unwrap(),
            Resources { cpu_shares: Some(512), ..Resources::default() }
        );
        let windows = Some(WindowsContainerResources::default());
        assert!(change(UpdateContainerResourcesRequest { windows, ..request }).is_err());
        assert!(change(UpdateContainerResourcesRequest::default()).is_err());
    }

    #[test]
    fn a_command_has_a_program() {
        assert!(command(vec![]).is_err());
        assert!(command(vec![String::new(), "a".into()]).is_err());
        assert!(command(vec!["a".into(), "b\0".into()]).is_err());
        assert_eq!(command(vec!["a".into(), String::new()]).unwrap(), ["a", ""]);
    }

    #[test]
    fn the_image_is_shown_as_the_user_wrote_it() {
        let choice = |user_specified: &str| ImageChoice {
            requested: "sha256:1".into(),
            user_specified: user_specified.into(),
        };
        assert_eq!(image_spec(&choice("")).image, "sha256:1");
        assert_eq!(image_spec(&choice("busybox:1")).image, "busybox:1");
    }
}
