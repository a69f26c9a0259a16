//! The third front door: figures of the daemon and of what it runs, for Prometheus.
//!
//! `GET /metrics` answers in the OpenMetrics text format, which Prometheus reads. Durations are counted where things happen
//! (`engine/activity.rs`, `cri/measured.rs`); what is present is counted when somebody asks. Figures of single containers
//! are the CRI's to give (`ListPodSandboxMetrics`), so that the kubelet's are the only ones.

mod present;
mod process;
mod server;

use std::sync::Arc;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::cri::Requests;
use crate::engine::Engine;
use present::Present;
use process::Process;

/// Everything that is shown.
pub(crate) struct Figures(Registry);

impl Figures {
    /// Those of `engine` and of the CRI's `requests`.
    pub(crate) fn new(engine: Engine, requests: &Requests) -> Self {
        let mut all = Registry::default();
        // These have names that all programs share.
        all.register_collector(Box::new(Process));
        let ours = all.sub_registry_with_prefix("cleat");
        engine.activity().register(ours);
        requests.register(ours);
        ours.register_collector(Box::new(Present(engine)));
        let version = ("version".into(), env!("CARGO_PKG_VERSION").into());
        ours.sub_registry_with_label(version).register(
            "build",
            "The program",
            Info::new(Vec::<(&str, &str)>::new()),
        );
        Self(all)
    }

    fn text(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.0)?;
        Ok(text)
    }
}

/// Serves `figures` to who connects to `listener`, until `shutdown`.
pub(crate) async fn serve(listener: TcpListener, figures: Figures, shutdown: CancellationToken) {
    server::serve(listener, Arc::new(figures), shutdown).await;
}
