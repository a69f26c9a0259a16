//! Compose, the real one: two services that find each other by name, one waiting for the other's health.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use cleat_tests_docker::{BUSYBOX, Engine, check};

/// What `web` serves is in a volume, and its environment's word at the beginning.
const PROJECT: &str = r#"
name: shop
services:
  web:
    image: $IMAGE
    command: ["sh", "-c", "test -e /data/index.html || echo $$WORD > /data/index.html; exec httpd -f -p 80 -h /data"]
    environment: {WORD: hello}
    volumes: ["data:/data"]
    ports: ["18080:80"]
    networks: {inner: {aliases: [site]}}
    stop_grace_period: 0s
    healthcheck:
      test: ["CMD", "wget", "-q", "-O", "/dev/null", "http://127.0.0.1/"]
      interval: 200ms
      retries: 100
  asker:
    image: $IMAGE
    command: ["sh", "-c", "wget -q -O - http://site/; wget -q -O - http://web/; exec sleep 1000"]
    depends_on: {web: {condition: service_healthy}}
    networks: [inner]
    stop_grace_period: 0s
networks:
  inner: {}
volumes:
  data: {}
"#;

fn project(engine: &Engine) -> Result<PathBuf> {
    let path = engine.folder().join("compose.yaml");
    fs::write(&path, PROJECT.replace("$IMAGE", BUSYBOX)).context("write the project")?;
    Ok(path)
}

/// What the host gets at the published port.
fn served(engine: &Engine) -> Result<String> {
    engine.world().shell("curl -sS --max-time 10 --retry 20 --retry-connrefused http://127.0.0.1:18080/")
}

#[test]
fn privileged_docker_compose_runs_a_project_from_up_to_down() {
    check(|engine| {
        let file = project(engine)?;
        engine.compose(&file, &["up", "-d"])?;
        let states = engine.compose(&file, &["ps", "--format", "{{.Service}} {{.State}} {{.Health}}"])?;
        let mut states: Vec<_> = states.lines().map(str::trim).collect();
        states.sort_unstable();
        ensure!(states == ["asker running", "web running healthy"], "{states:?}");
        engine.compose(&file, &["exec", "-T", "asker", "wget", "-q", "-O", "-", "http://web/"])?;
        let logs = engine.compose(&file, &["logs", "--no-log-prefix", "asker"])?;
        ensure!(logs.lines().all(|line| line == "hello") && !logs.is_empty(), "{logs}");
        ensure!(served(engine)?.trim() == "hello");
        ensure!(engine.compose(&file, &["exec", "-T", "web", "sh", "-c", "echo $WORD"])? == "hello");

        engine.compose(&file, &["exec", "-T", "web", "sh", "-c", "echo kept > /data/index.html"])?;
        engine.compose(&file, &["restart", "web"])?;
        ensure!(served(engine)?.trim() == "kept");
        // Nothing has changed: nothing is made anew.
        let before = engine.compose(&file, &["ps", "-q"])?;
        engine.compose(&file, &["up", "-d"])?;
        ensure!(engine.compose(&file, &["ps", "-q"])? == before);
        engine.compose(&file, &["stop"])?;
        engine.compose(&file, &["up", "-d", "--force-recreate"])?;
        ensure!(served(engine)?.trim() == "kept", "the volume's");

        engine.compose(&file, &["down", "-v"])?;
        ensure!(engine.run(&["ps", "-aq"])?.is_empty());
        ensure!(engine.run(&["volume", "ls", "-q"])?.is_empty());
        let networks = engine.run(&["network", "ls", "--format", "{{.Name}}"])?;
        ensure!(!networks.contains("shop"), "{networks}");
        Ok(())
    });
}
