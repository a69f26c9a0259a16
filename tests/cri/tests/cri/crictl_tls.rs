//! `crictl exec` over TLS, with certificates on both sides.

use std::path::Path;

use anyhow::{Context, Result, anyhow};
use cleat_tests_cri::{Node, check};

use crate::crictl_exec::{TRANSPORTS, target};

/// Made by the script `make` beside them.
fn certificate(name: &str) -> Result<String> {
    let folder =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../cri-server/streaming/tests/sessions/certificates");
    // Settings take no path with `..` in it.
    let path = folder.join(name).canonicalize().with_context(|| format!("find the certificate {name}"))?;
    path.into_os_string().into_string().map_err(|path| anyhow!("{} is no text", path.display()))
}

/// The settings of a server with a certificate that asks its clients for one, and the authority of both.
fn settings() -> Result<(String, String)> {
    let (authority, cert, key) =
        (certificate("authority.pem")?, certificate("first.pem")?, certificate("first.key")?);
    let settings = format!(
        "streaming.tls_cert = \"{cert}\"\nstreaming.tls_key = \"{key}\"\nstreaming.tls_ca = \"{authority}\"\n"
    );
    Ok((settings, authority))
}

#[test]
fn privileged_crictl_exec_over_tls_needs_a_certificate_where_authorities_are_set() {
    let (settings, authority) = settings().expect("the certificates are in the tree");
    check(Node::builder().settings(&settings), |node| {
        let (crictl, id) = (node.cleat().crictl()?, target(node)?);
        for transport in TRANSPORTS {
            let exec = |name: &str| -> Result<_> {
                let (own, key) = (certificate(&format!("{name}.pem"))?, certificate(&format!("{name}.key"))?);
                let tls = ["--tls-ca", &authority, "--tls-cert", &own, "--tls-key", &key];
                let command = [&id, "sh", "-c", "echo out; exit 7"];
                crictl.output(&[&["exec", "-r", transport][..], &tls, &command].concat())
            };
            let output = exec("client")?;
            let errors = String::from_utf8_lossy(&output.stderr);
            assert_eq!(String::from_utf8_lossy(&output.stdout), "out\n", "{transport}: {errors}");
            assert!(errors.contains("exit code 7"), "{transport}: {errors}");
            let output = exec("stranger")?;
            let errors = String::from_utf8_lossy(&output.stderr);
            assert!(!output.status.success() && !errors.contains("exit code 7"), "{transport}: {errors}");
            assert_eq!(output.stdout, b"", "{transport}");
        }
        Ok(())
    });
}
