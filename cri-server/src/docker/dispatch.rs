//! From a request to its endpoint, and what every answer has: headers, and one log line if it is a refusal.

use std::sync::Arc;

use hyper::body::Incoming;
use hyper::header::{CACHE_CONTROL, HeaderName, HeaderValue, PRAGMA, SERVER};
use hyper::upgrade::OnUpgrade;
use hyper::{HeaderMap, Request, Response, StatusCode};
use serde_json::json;

use super::refusal::{Answer, Refusal};
use super::route::{ContainerAct, ImageAct, Route, route};
use super::version::{ApiVersion, LATEST, split};
use super::wire::{Body, Query, Sent, Upload, empty, json as in_json, read_whole, text};
use super::{Door, containers, events, images, networks, system, volumes};

/// A request on its way to its endpoint.
pub(super) struct Ask {
    /// The version of the API it speaks.
    pub version: ApiVersion,
    /// Its query.
    pub query: Query,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Sent,
    /// Its connection, if the answer makes it something else than HTTP.
    pub upgrade: OnUpgrade,
}

/// Answers a request.
pub(super) async fn answer(door: Arc<Door>, request: Request<Incoming>) -> Response<Body> {
    let line = format!("{} {}", request.method(), request.uri().path());
    let mut response = match handle(&door, request).await {
        Ok(response) => {
            tracing::debug!(request = line, status = response.status().as_u16(), "answered");
            response
        }
        Err(refusal) => {
            refuse(&line, &refusal);
            refusal.response()
        }
    };
    add_headers(response.headers_mut());
    response
}

/// Logs a refusal, here and nowhere else: what this node's operator has to look at is a warning.
fn refuse(request: &str, refusal: &Refusal) {
    let (status, message) = (refusal.status(), refusal.message());
    if status == StatusCode::INTERNAL_SERVER_ERROR {
        tracing::warn!(request, status = status.as_u16(), "failed: {message}");
    } else {
        tracing::info!(request, status = status.as_u16(), "refused: {message}");
    }
}

/// What dockerd tells in every answer, so that a client knows from the first one whom it speaks to.
fn add_headers(headers: &mut HeaderMap) {
    let version = HeaderValue::try_from(LATEST.to_string()).expect("digits and a dot");
    headers.insert(HeaderName::from_static("api-version"), version);
    headers.insert(HeaderName::from_static("ostype"), HeaderValue::from_static("linux"));
    headers.insert(HeaderName::from_static("docker-experimental"), HeaderValue::from_static("false"));
    headers
        .insert(SERVER, HeaderValue::from_static(concat!("Cleat/", env!("CARGO_PKG_VERSION"), " (linux)")));
}

async fn handle(door: &Arc<Door>, mut request: Request<Incoming>) -> Answer {
    let upgrade = hyper::upgrade::on(&mut request);
    let (head, body) = request.into_parts();
    let found = split(head.uri.path()).and_then(|(version, path)| {
        let found = route(&head.method, path).ok_or_else(|| Refusal::missing("page not found"));
        found.map(|found| (version, found))
    });
    // A body that is not read breaks the connection before its client has read why: each is read, or reads itself on.
    let is_archive = |found: &Route| {
        matches!(found, Route::ImageCreate | Route::ImageLoad | Route::Container(_, ContainerAct::CopyIn))
    };
    let streams = found.as_ref().is_ok_and(|(_, found)| is_archive(found));
    let body =
        if streams { Sent::Streaming(Upload::new(body)) } else { Sent::Whole(read_whole(body).await?) };
    let (version, found) = found?;
    let query = Query::parse(head.uri.query().unwrap_or_default());
    carry_out(door, found, Ask { version, query, headers: head.headers, body, upgrade }).await
}

async fn carry_out(door: &Arc<Door>, route: Route, ask: Ask) -> Answer {
    match route {
        Route::Ping => Ok(ping()),
        Route::Version => Ok(in_json(StatusCode::OK, &system::version())),
        Route::Info => Ok(in_json(StatusCode::OK, &system::info(door))),
        Route::DiskUsage => Ok(in_json(StatusCode::OK, &system::disk_usage(door).await?)),
        Route::Events => events::events(door, &ask),
        Route::Auth => images::auth(door, ask).await,
        Route::ImageList => images::list(door, &ask),
        Route::ImageCreate if ask.query.get("fromSrc").is_empty() => images::pull(door, &ask).await,
        Route::ImageCreate => images::import(door, ask).await,
        Route::ImageLoad => images::load(door, ask).await,
        Route::ImageSave => images::save(door, ask.query.all("names")).await,
        Route::ImagePrune => images::prune(door, &ask).await,
        Route::Image(name, act) => image(door, &name, act, &ask).await,
        Route::ContainerList => containers::list(door, &ask),
        Route::ContainerCreate => containers::create(door, ask).await,
        Route::ContainerPrune => containers::prune(door, &ask).await,
        Route::Container(name, act) => containers::act(door, &name, act, ask).await,
        Route::Exec(id, act) => containers::exec(door, &id, act, ask).await,
        Route::NetworkList => networks::list(door, &ask),
        Route::NetworkCreate => networks::create(door, ask).await,
        Route::NetworkPrune => networks::prune(door, &ask).await,
        Route::NetworkRemove(name) => networks::remove(door, &name).await,
        Route::NetworkConnect(name) => networks::connect(door, &name, ask).await,
        Route::NetworkDisconnect(name) => networks::disconnect(door, &name, ask).await,
        Route::Network(name) => networks::inspect(door, &name),
        Route::VolumeList => volumes::list(door, &ask).await,
        Route::VolumeCreate => volumes::create(door, ask).await,
        Route::VolumePrune => volumes::prune(door, &ask).await,
        Route::Volume(name) => volumes::inspect(door, &name).await,
        Route::VolumeRemove(name) => volumes::remove(door, &name, &ask).await,
        Route::PluginList => Ok(in_json(StatusCode::OK, &json!([]))),
        Route::Plugin(name) => Err(Refusal::missing(format!("plugin {name:?} not found"))),
        Route::NothingToPrune(list) => Ok(in_json(StatusCode::OK, &json!({list: null, "SpaceReclaimed": 0}))),
        Route::Swarm => Err(Refusal::no_swarm()),
        Route::NotBuilt(what) => Err(Refusal::not_built(what)),
    }
}

async fn image(door: &Arc<Door>, name: &str, act: ImageAct, ask: &Ask) -> Answer {
    match act {
        ImageAct::Inspect => images::inspect(door, name).await,
        ImageAct::History => images::history(door, name).await,
        ImageAct::Push => images::push(door, name, ask).await,
        ImageAct::Tag => images::tag(door, name, ask).await.map(|()| empty(StatusCode::CREATED)),
        ImageAct::Save => images::save(door, std::iter::once(name)).await,
        ImageAct::Remove => images::remove(door, name, ask).await,
    }
}

/// `Builder-Version: 1` keeps clients from BuildKit, which is not spoken.
fn ping() -> Response<Body> {
    let mut response = text(StatusCode::OK, "OK");
    let headers = response.headers_mut();
    headers.insert(HeaderName::from_static("builder-version"), HeaderValue::from_static("1"));
    headers.insert(HeaderName::from_static("swarm"), HeaderValue::from_static("inactive"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, no-store, must-revalidate"));
    headers.insert(PRAGMA, HeaderValue::from_static("no-cache"));
    response
}
