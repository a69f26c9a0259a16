//! Which endpoint a method and a path mean.

use hyper::Method;
use percent_encoding::percent_decode_str;

/// An endpoint with the object it is asked about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// `/_ping`.
    Ping,
    /// `/version`.
    Version,
    /// `/info`.
    Info,
    /// `/system/df`.
    DiskUsage,
    /// `/auth`.
    Auth,
    /// `/events`.
    Events,
    /// `/images/json`.
    ImageList,
    /// `/images/create`: a pull or an import.
    ImageCreate,
    /// `/images/load`.
    ImageLoad,
    /// `/images/get`, the names in the query.
    ImageSave,
    /// `/images/prune`.
    ImagePrune,
    /// One image.
    Image(String, ImageAct),
    /// `/containers/json`.
    ContainerList,
    /// `/containers/create`.
    ContainerCreate,
    /// `/containers/prune`.
    ContainerPrune,
    /// One container.
    Container(String, ContainerAct),
    /// One exec.
    Exec(String, ExecAct),
    /// `/networks`.
    NetworkList,
    /// `/networks/create`.
    NetworkCreate,
    /// `/networks/prune`.
    NetworkPrune,
    /// One network.
    Network(String),
    /// `POST /networks/{name}/connect`.
    NetworkConnect(String),
    /// `POST /networks/{name}/disconnect`.
    NetworkDisconnect(String),
    /// `DELETE /networks/{name}`.
    NetworkRemove(String),
    /// `/volumes`.
    VolumeList,
    /// `/volumes/create`.
    VolumeCreate,
    /// `/volumes/prune`.
    VolumePrune,
    /// One volume.
    Volume(String),
    /// `DELETE /volumes/{name}`.
    VolumeRemove(String),
    /// `/plugins`.
    PluginList,
    /// One plugin.
    Plugin(String),
    /// The prune of objects of which this engine has none, by the name of its answer's list.
    NothingToPrune(&'static str),
    /// What only a manager of a swarm has.
    Swarm,
    /// Known and not built; what it is.
    NotBuilt(&'static str),
}

/// What is asked about one image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ImageAct {
    /// What it is.
    Inspect,
    /// How it was made.
    History,
    /// To a registry.
    Push,
    /// One more name.
    Tag,
    /// As an archive.
    Save,
    /// Away with it, or with a name of it.
    Remove,
}

/// What is asked about one container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ContainerAct {
    /// What it is.
    Inspect,
    /// Start it.
    Start,
    /// Ask it to end, then kill it.
    Stop,
    /// Stop it, if it runs, and start it.
    Restart,
    /// Send it a signal.
    Kill,
    /// Make its processes stand still.
    Pause,
    /// Let them go on.
    Resume,
    /// Another name.
    Rename,
    /// Tell its end.
    Wait,
    /// Away with it.
    Remove,
    /// What it has written.
    Logs,
    /// Its streams.
    Attach,
    /// The size of its terminal.
    Resize,
    /// Its processes.
    Top,
    /// Its figures.
    Stats,
    /// What it has changed of its image.
    Changes,
    /// Other limits.
    Update,
    /// One more process.
    Exec,
    /// What is at a path in it.
    Look,
    /// A path in it as an archive.
    CopyOut,
    /// An archive into a folder of it.
    CopyIn,
    /// All its files as an archive.
    Export,
    /// Not built; what it is.
    Missing(&'static str),
}

/// What is asked about one exec.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ExecAct {
    /// What it is.
    Inspect,
    /// Start it.
    Start,
    /// The size of its terminal.
    Resize,
}

/// The endpoint of `path`, which has no version any more; none where there is none.
pub(super) fn route(method: &Method, path: &str) -> Option<Route> {
    let decoded = percent_decode_str(path).decode_utf8().ok()?;
    let path = decoded.strip_prefix('/')?;
    let (first, rest) = path.split_once('/').unwrap_or((path, ""));
    let is_read = matches!(*method, Method::GET | Method::HEAD);
    match (first, rest) {
        ("_ping", "") if is_read => Some(Route::Ping),
        ("version", "") if *method == Method::GET => Some(Route::Version),
        ("info", "") if *method == Method::GET => Some(Route::Info),
        ("system", "df") if *method == Method::GET => Some(Route::DiskUsage),
        ("events", "") if *method == Method::GET => Some(Route::Events),
        ("auth", "") if *method == Method::POST => Some(Route::Auth),
        ("commit", "") if *method == Method::POST => Some(Route::NotBuilt("committing a container")),
        ("images", rest) => image(method, rest),
        ("distribution", _) => Some(Route::NotBuilt("asking a registry about an image")),
        ("build", rest) => build(method, rest),
        ("session" | "grpc", _) => Some(Route::NotBuilt("BuildKit")),
        ("networks", rest) => network(method, rest),
        ("volumes", rest) => volume(method, rest),
        ("plugins", rest) => plugin(method, rest),
        ("containers", rest) => container(method, rest),
        ("exec", rest) => exec(method, rest),
        ("swarm" | "nodes" | "services" | "tasks" | "secrets" | "configs", _) => Some(Route::Swarm),
        _ => None,
    }
}

/// An image's name has slashes of its own: what is done with it is behind the last one.
fn image(method: &Method, rest: &str) -> Option<Route> {
    let named = |suffix: &str, act| {
        let name = rest.strip_suffix(suffix)?;
        (!name.is_empty()).then(|| Route::Image(name.to_owned(), act))
    };
    match *method {
        Method::GET => match rest {
            "json" => Some(Route::ImageList),
            "get" => Some(Route::ImageSave),
            "search" => Some(Route::NotBuilt("searching for images")),
            _ => named("/json", ImageAct::Inspect)
                .or_else(|| named("/history", ImageAct::History))
                .or_else(|| named("/get", ImageAct::Save))
                .or_else(|| {
                    rest.ends_with("/attestations").then_some(Route::NotBuilt("listing attestations"))
                }),
        },
        Method::POST => match rest {
            "create" => Some(Route::ImageCreate),
            "load" => Some(Route::ImageLoad),
            "prune" => Some(Route::ImagePrune),
            _ => named("/push", ImageAct::Push).or_else(|| named("/tag", ImageAct::Tag)),
        },
        Method::DELETE => named("", ImageAct::Remove),
        _ => None,
    }
}

fn container(method: &Method, rest: &str) -> Option<Route> {
    use ContainerAct as Act;
    let (name, what) = rest.split_once('/').unwrap_or((rest, ""));
    if name.is_empty() {
        return None;
    }
    let act = match (method, name, what) {
        (&Method::GET, "json", "") => return Some(Route::ContainerList),
        (&Method::POST, "create", "") => return Some(Route::ContainerCreate),
        (&Method::POST, "prune", "") => return Some(Route::ContainerPrune),
        (&Method::DELETE, _, "") => Act::Remove,
        (&Method::GET, _, "json") => Act::Inspect,
        (&Method::GET, _, "logs") => Act::Logs,
        (&Method::GET, _, "top") => Act::Top,
        (&Method::POST, _, "start") => Act::Start,
        (&Method::POST, _, "stop") => Act::Stop,
        (&Method::POST, _, "restart") => Act::Restart,
        (&Method::POST, _, "kill") => Act::Kill,
        (&Method::POST, _, "wait") => Act::Wait,
        (&Method::POST, _, "attach") => Act::Attach,
        (&Method::POST, _, "resize") => Act::Resize,
        (&Method::POST, _, "exec") => Act::Exec,
        (&Method::POST, _, "pause") => Act::Pause,
        (&Method::POST, _, "unpause") => Act::Resume,
        (&Method::POST, _, "rename") => Act::Rename,
        (&Method::POST, _, "update") => Act::Update,
        (&Method::GET, _, "stats") => Act::Stats,
        (&Method::GET, _, "changes") => Act::Changes,
        (&Method::GET, _, "export") => Act::Export,
        (&Method::GET, _, "attach/ws") => Act::Missing("attaching over a WebSocket"),
        (&Method::HEAD, _, "archive") => Act::Look,
        (&Method::GET, _, "archive") => Act::CopyOut,
        (&Method::PUT, _, "archive") => Act::CopyIn,
        (_, _, "checkpoints") => Act::Missing("checkpoints"),
        _ => return None,
    };
    Some(Route::Container(name.to_owned(), act))
}

fn exec(method: &Method, rest: &str) -> Option<Route> {
    let (id, what) = rest.split_once('/')?;
    let act = match (method, what) {
        (&Method::GET, "json") => ExecAct::Inspect,
        (&Method::POST, "start") => ExecAct::Start,
        (&Method::POST, "resize") => ExecAct::Resize,
        _ => return None,
    };
    Some(Route::Exec(id.to_owned(), act))
}

fn build(method: &Method, rest: &str) -> Option<Route> {
    match (method, rest) {
        (&Method::POST, "prune") => Some(Route::NothingToPrune("CachesDeleted")),
        (&Method::POST, _) => Some(Route::NotBuilt("building images")),
        _ => None,
    }
}

fn network(method: &Method, rest: &str) -> Option<Route> {
    match (method, rest) {
        (&Method::GET, "") => Some(Route::NetworkList),
        (&Method::GET, name) => Some(Route::Network(name.to_owned())),
        (&Method::POST, "create") => Some(Route::NetworkCreate),
        (&Method::POST, "prune") => Some(Route::NetworkPrune),
        (&Method::DELETE, name) if !name.is_empty() => Some(Route::NetworkRemove(name.to_owned())),
        (&Method::POST, rest) => match rest.rsplit_once('/') {
            Some((name, "connect")) => Some(Route::NetworkConnect(name.to_owned())),
            Some((name, "disconnect")) => Some(Route::NetworkDisconnect(name.to_owned())),
            _ => None,
        },
        _ => None,
    }
}

fn volume(method: &Method, rest: &str) -> Option<Route> {
    match (method, rest) {
        (&Method::GET, "") => Some(Route::VolumeList),
        (&Method::POST, "create") => Some(Route::VolumeCreate),
        (&Method::POST, "prune") => Some(Route::VolumePrune),
        (&Method::PUT, _) => Some(Route::NotBuilt("volumes of a cluster")),
        (&Method::GET, name) => Some(Route::Volume(name.to_owned())),
        (&Method::DELETE, name) if !name.is_empty() => Some(Route::VolumeRemove(name.to_owned())),
        _ => None,
    }
}

fn plugin(method: &Method, rest: &str) -> Option<Route> {
    match (method, rest.strip_suffix("/json")) {
        (&Method::GET, None) if rest.is_empty() => Some(Route::PluginList),
        (&Method::GET, Some(name)) => Some(Route::Plugin(name.to_owned())),
        _ => Some(Route::NotBuilt("plugins")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_slashes_and_colons_are_found() {
        let at = "127.0.0.1:5001/a/bb";
        for (method, path, expected) in [
            (Method::GET, format!("/images/{at}/json"), Route::Image(at.into(), ImageAct::Inspect)),
            (Method::GET, format!("/images/{at}/history"), Route::Image(at.into(), ImageAct::History)),
            (Method::GET, format!("/images/{at}/get"), Route::Image(at.into(), ImageAct::Save)),
            (Method::POST, format!("/images/{at}/push"), Route::Image(at.into(), ImageAct::Push)),
            (Method::POST, "/images/a%2Fb:1/tag".into(), Route::Image("a/b:1".into(), ImageAct::Tag)),
            (Method::DELETE, format!("/images/{at}:1"), Route::Image(format!("{at}:1"), ImageAct::Remove)),
            (Method::GET, "/images/json/json".into(), Route::Image("json".into(), ImageAct::Inspect)),
            (Method::GET, "/images/json".into(), Route::ImageList),
            (Method::POST, "/images/create".into(), Route::ImageCreate),
        ] {
            assert_eq!(route(&method, &path), Some(expected), "{path}");
        }
    }

    #[test]
    fn what_is_not_built_is_told_from_what_does_not_exist() {
        for (method, path, known) in [
            (Method::POST, "/build", true),
            (Method::PUT, "/volumes/v1", true),
            (Method::GET, "/nosuch", false),
            (Method::POST, "/version", false),
            (Method::GET, "version", false),
            (Method::DELETE, "/images/", false),
            (Method::GET, "/images/%ff/json", false),
        ] {
            let found = route(&method, path);
            assert_eq!(matches!(found, Some(Route::NotBuilt(_))), known, "{method} {path}: {found:?}");
            assert_eq!(found.is_some(), known, "{method} {path}: {found:?}");
        }
        let one = |act| Some(Route::Container("c1".into(), act));
        assert_eq!(route(&Method::POST, "/containers/c1/start"), one(ContainerAct::Start));
        assert_eq!(route(&Method::DELETE, "/containers/c1"), one(ContainerAct::Remove));
        assert!(matches!(
            route(&Method::GET, "/containers/c1/attach/ws"),
            Some(Route::Container(_, ContainerAct::Missing(_)))
        ));
        assert_eq!(route(&Method::GET, "/exec/e/json"), Some(Route::Exec("e".into(), ExecAct::Inspect)));
        let connected = Some(Route::NetworkConnect("n1".into()));
        assert_eq!(route(&Method::POST, "/networks/n1/connect"), connected);
        assert_eq!(route(&Method::POST, "/networks/n1"), None);
        assert_eq!(route(&Method::GET, "/nodes"), Some(Route::Swarm));
        assert_eq!(route(&Method::POST, "/swarm/init"), Some(Route::Swarm));
    }
}
