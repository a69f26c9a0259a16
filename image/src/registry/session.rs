//! One repository at one source: requests, redirects, and proof of identity when it is asked for.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use reqwest::header::{
    ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RANGE, WWW_AUTHENTICATE,
};
use reqwest::{Method, Response, StatusCode, Url};

use super::answer::{error_message, read_all, redirect_target, retry_after, shown, unreachable_error};
use super::blob::BlobStream;
use super::challenge::{self, Challenge};
use super::connections::Connections;
use super::error::RegistryError;
use super::manifest::{self, Descriptor, MAX_MANIFEST_BYTES};
use super::{Credentials, token};
use crate::reference::{Algorithm, Digest};
use crate::registries::{Endpoint, Source, api_host};

/// Most redirects followed for one request.
const MAX_REDIRECTS: usize = 10;

/// One repository at one source. Clones share what was learnt.
#[derive(Clone)]
pub(crate) struct Session {
    inner: Arc<Inner>,
}

struct Inner {
    connections: Arc<Connections>,
    source: Source,
    credentials: Option<Credentials>,
    /// What a token has to allow.
    scope: String,
    learnt: Mutex<Learnt>,
}

/// What earlier requests have shown.
#[derive(Clone, Default)]
struct Learnt {
    scheme: Option<&'static str>,
    authorization: Option<HeaderValue>,
}

/// What a request asks for.
#[derive(Clone, Default)]
pub(super) struct Ask {
    pub(super) method: Method,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Ask {
    fn accepting(accept: &'static str) -> Self {
        Self {
            headers: [(ACCEPT, HeaderValue::from_static(accept))].into_iter().collect(),
            ..Self::default()
        }
    }

    fn from(offset: u64) -> Self {
        let range = HeaderValue::try_from(format!("bytes={offset}-")).ok().filter(|_| offset > 0);
        Self { headers: range.map(|range| (RANGE, range)).into_iter().collect(), ..Self::default() }
    }
}

/// A manifest or index as it was sent, its digest verified.
pub(crate) struct Fetched {
    pub(crate) bytes: Vec<u8>,
    pub(crate) digest: Digest,
    pub(crate) content_type: Option<String>,
}

impl Session {
    /// For pulling.
    pub(crate) fn new(
        connections: Arc<Connections>,
        source: Source,
        credentials: Option<Credentials>,
    ) -> Self {
        let scope = format!("repository:{}:pull", source.reference.repository());
        Self::with_scope(connections, source, credentials, scope)
    }

    /// For pushing, with leave to look into the repositories `from`.
    pub(crate) fn for_push(
        connections: Arc<Connections>,
        source: Source,
        credentials: Option<Credentials>,
        from: &[String],
    ) -> Self {
        let others = from.iter().map(|repository| format!(" repository:{repository}:pull"));
        let scope = format!("repository:{}:pull,push", source.reference.repository());
        let scope = others.fold(scope, |all, other| all + &other);
        Self::with_scope(connections, source, credentials, scope)
    }

    /// For asking the registry itself, whatever repository the source names.
    pub(crate) fn for_login(
        connections: Arc<Connections>,
        source: Source,
        credentials: Option<Credentials>,
    ) -> Self {
        Self::with_scope(connections, source, credentials, String::new())
    }

    fn with_scope(
        connections: Arc<Connections>,
        source: Source,
        credentials: Option<Credentials>,
        scope: String,
    ) -> Self {
        let authorization = match &credentials {
            Some(Credentials::RegistryToken(token)) => token::bearer(token.expose()),
            _ => None,
        };
        let learnt = Mutex::new(Learnt { scheme: None, authorization });
        Self { inner: Arc::new(Inner { connections, source, credentials, scope, learnt }) }
    }

    /// The source's host as configured.
    pub(crate) fn host(&self) -> &str {
        self.inner.source.reference.registry()
    }

    pub(crate) fn source(&self) -> &Source {
        &self.inner.source
    }

    /// The manifest or index called `wanted`, a tag or a digest; `expected` is the digest it has to have.
    pub(crate) async fn manifest(
        &self,
        wanted: &str,
        expected: Option<&Digest>,
    ) -> Result<Fetched, RegistryError> {
        let path = format!("manifests/{wanted}");
        let work = async {
            let response = self.send(&path, &Ask::accepting(manifest::ACCEPT)).await?;
            let headers = response.headers().clone();
            Ok((read_all(response, MAX_MANIFEST_BYTES).await?, headers))
        };
        let (bytes, headers) = self.in_time(work).await?;
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let promised = text("docker-content-digest").and_then(|digest| Digest::parse(digest).ok());
        let algorithm = expected.or(promised.as_ref()).map_or(Algorithm::Sha256, Digest::algorithm);
        let digest = Digest::with(algorithm, &bytes);
        match (expected, promised) {
            (Some(expected), _) if *expected != digest => {
                return Err(RegistryError::Digest { actual: digest });
            }
            (None, Some(promised)) if promised != digest => {
                return Err(RegistryError::Promise { promised, actual: digest });
            }
            _ => {}
        }
        Ok(Fetched { bytes, digest, content_type: text(CONTENT_TYPE.as_str()).map(str::to_owned) })
    }

    /// Whether the registry accepts who we are (distribution specification, `GET /v2/`).
    pub(crate) async fn greet(&self) -> Result<(), RegistryError> {
        self.in_time(self.send("/", &Ask::default())).await.map(drop)
    }

    /// A blob small enough for memory, verified.
    pub(crate) async fn small_blob(&self, blob: &Descriptor, limit: u64) -> Result<Vec<u8>, RegistryError> {
        let path = format!("blobs/{}", blob.digest);
        if blob.size > limit {
            return Err(RegistryError::TooLarge { url: self.host().to_owned(), limit });
        }
        let work = async {
            let response = self.send(&path, &Ask::default()).await?;
            read_all(response, limit).await
        };
        let bytes = self.in_time(work).await?;
        if bytes.len() as u64 != blob.size {
            let (expected, actual) = (blob.size, bytes.len() as u64);
            return Err(RegistryError::Size { expected, actual });
        }
        let actual = Digest::with(blob.digest.algorithm(), &bytes);
        if actual != blob.digest {
            return Err(RegistryError::Digest { actual });
        }
        Ok(bytes)
    }

    /// A blob as a stream from `offset` on.
    pub(crate) async fn blob(&self, blob: &Descriptor, offset: u64) -> Result<BlobStream, RegistryError> {
        let path = format!("blobs/{}", blob.digest);
        let ask = Ask::from(offset);
        let response = self.in_time(self.send(&path, &ask)).await?;
        BlobStream::new(response, blob, offset)
    }

    pub(super) async fn in_time<T>(
        &self,
        work: impl Future<Output = Result<T, RegistryError>>,
    ) -> Result<T, RegistryError> {
        let limit = self.inner.connections.response_timeout();
        let late = |_| Err(RegistryError::Timeout { seconds: limit.as_secs() });
        tokio::time::timeout(limit, work).await.unwrap_or_else(late)
    }

    /// Ask for `path` of the repository, proving who we are if the registry asks for it; only a success is returned.
    pub(super) async fn send(&self, path: &str, ask: &Ask) -> Result<Response, RegistryError> {
        let (response, at_home) = self.try_schemes(path, ask).await?;
        if response.status() != StatusCode::UNAUTHORIZED || !at_home {
            return self.succeed(response).await;
        }
        let challenge = response.headers().get_all(WWW_AUTHENTICATE).iter();
        let challenge = challenge.filter_map(|value| challenge::parse(value.to_str().ok()?)).next();
        let Some(authorization) = self.authorize(challenge, response.url()).await? else {
            return self.succeed(response).await;
        };
        self.learn(|learnt| learnt.authorization = Some(authorization));
        let (response, _) = self.try_schemes(path, ask).await?;
        self.succeed(response).await
    }

    /// HTTPS; for an insecure source that cannot be reached by it, HTTP.
    async fn try_schemes(&self, path: &str, ask: &Ask) -> Result<(Response, bool), RegistryError> {
        let known = self.learnt().scheme;
        if self.endpoint().is_some_and(|endpoint| endpoint.base.is_some()) {
            return self.follow(self.url("", path)?, ask).await;
        }
        let scheme = known.unwrap_or("https");
        let result = self.follow(self.url(scheme, path)?, ask).await;
        let unreachable =
            matches!(&result, Err(RegistryError::Unreachable { source, .. }) if source.is_connect());
        let (scheme, result) = if known.is_none() && self.inner.source.insecure && unreachable {
            ("http", self.follow(self.url("http", path)?, ask).await)
        } else {
            (scheme, result)
        };
        if result.is_ok() {
            self.learn(|learnt| learnt.scheme = Some(scheme));
        }
        result
    }

    /// Ask at `url`, where the registry has sent us for this upload.
    pub(super) async fn send_to(&self, url: Url, ask: &Ask) -> Result<Response, RegistryError> {
        let home = self.url(self.learnt().scheme.unwrap_or("https"), "")?;
        self.check_redirect(&home, &url)?;
        let at_home = url.origin() == home.origin();
        let (response, _) = self.follow_from(url, at_home, ask).await?;
        self.succeed(response).await
    }

    /// Follow redirects. The answer says whether it is from the registry itself, which alone gets the authorization.
    async fn follow(&self, start: Url, ask: &Ask) -> Result<(Response, bool), RegistryError> {
        self.follow_from(start, true, ask).await
    }

    async fn follow_from(
        &self,
        start: Url,
        mut at_home: bool,
        ask: &Ask,
    ) -> Result<(Response, bool), RegistryError> {
        let authorization = self.learnt().authorization;
        let mut url = start.clone();
        for _ in 0..=MAX_REDIRECTS {
            let mut headers = ask.headers.clone();
            if at_home {
                headers.extend(self.configured_headers());
            }
            if let Some(value) = authorization.as_ref().filter(|_| at_home) {
                headers.insert(AUTHORIZATION, value.clone());
            }
            let request = self.connections().await?.request(ask.method.clone(), url.clone()).headers(headers);
            let has_body = !matches!(ask.method, Method::GET | Method::HEAD);
            let request = if has_body { request.body(ask.body.clone()) } else { request };
            let response = request.send().await.map_err(|error| unreachable_error(&url, error))?;
            let Some(target) = redirect_target(&response)? else { return Ok((response, at_home)) };
            self.check_redirect(&url, &target)?;
            at_home = at_home && target.origin() == start.origin();
            url = target;
        }
        let reason = "too many redirects";
        Err(RegistryError::Redirect { url: shown(&start), target: shown(&url), reason })
    }

    fn check_redirect(&self, from: &Url, to: &Url) -> Result<(), RegistryError> {
        let reason = match (from.scheme(), to.scheme()) {
            (_, "https") | ("http", "http") => return Ok(()),
            ("https", "http") if self.inner.source.insecure => return Ok(()),
            ("https", "http") => "a connection that began encrypted must not go on in the clear",
            _ => "neither http nor https",
        };
        Err(RegistryError::Redirect { url: shown(from), target: shown(to), reason })
    }

    /// The header that meets the challenge; none where there are no credentials for it.
    async fn authorize(
        &self,
        challenge: Option<Challenge>,
        registry: &Url,
    ) -> Result<Option<HeaderValue>, RegistryError> {
        match (challenge, &self.inner.credentials) {
            // It was sent already and did not do.
            (_, Some(Credentials::RegistryToken(_))) | (None, _) => Ok(None),
            (Some(Challenge::Basic), Some(Credentials::Basic { username, password })) => {
                Ok(token::basic(username, password))
            }
            (Some(Challenge::Basic), _) => Ok(None),
            (Some(Challenge::Bearer { realm, service, .. }), credentials) => {
                let realm = Url::parse(&realm).ok().filter(|realm| self.may_be_told(registry, realm));
                let malformed = || RegistryError::Malformed { url: shown(registry), what: "a token service" };
                let request = token::Request {
                    realm: realm.ok_or_else(malformed)?,
                    service,
                    // Not the scope the registry asks for: a token is to allow what this session does and no more.
                    scope: self.inner.scope.clone(),
                    credentials: credentials.as_ref(),
                };
                token::fetch(&self.connections_to(&request.realm, registry).await?, request).await.map(Some)
            }
        }
    }

    /// Whether credentials for `registry` may be told to its token service: not in the clear, unless the registry itself
    /// is insecure.
    fn may_be_told(&self, registry: &Url, realm: &Url) -> bool {
        match realm.scheme() {
            "https" => true,
            "http" => self.inner.source.insecure || registry.scheme() == "http",
            _ => false,
        }
    }

    async fn succeed(&self, response: Response) -> Result<Response, RegistryError> {
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let url = shown(response.url());
        let retry_after = retry_after(&response);
        let message = error_message(response).await;
        Err(match status {
            StatusCode::NOT_FOUND => RegistryError::NotFound,
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                let reason = if message.is_empty() { "no reason given".to_owned() } else { message };
                RegistryError::Unauthorized { reason }
            }
            status => {
                let message = if message.is_empty() { message } else { format!(": {message}") };
                RegistryError::Status { url, status: status.as_u16(), message, retry_after }
            }
        })
    }

    /// The address of `path` of the repository, or of the registry itself where it begins with a slash; where the host's
    /// own is configured, the scheme is that one's.
    fn url(&self, scheme: &str, path: &str) -> Result<Url, RegistryError> {
        let reference = &self.inner.source.reference;
        let base = self.endpoint().and_then(|endpoint| endpoint.base.clone());
        let base = base.unwrap_or_else(|| format!("{scheme}://{}/v2", api_host(reference.registry())));
        let below = if path.starts_with('/') {
            path.to_owned()
        } else {
            format!("/{}/{path}", reference.repository())
        };
        let mut url = Url::parse(&format!("{base}{below}"))
            .map_err(|_| RegistryError::Malformed { url: self.host().to_owned(), what: "an address" })?;
        if let Some(namespace) = self.endpoint().and_then(|endpoint| endpoint.namespace.as_deref()) {
            url.query_pairs_mut().append_pair("ns", namespace);
        }
        Ok(url)
    }

    fn endpoint(&self) -> Option<&Endpoint> {
        self.inner.source.endpoint.as_deref()
    }

    /// The headers that are configured for the host; a name or value that can be none is left out.
    fn configured_headers(&self) -> impl Iterator<Item = (HeaderName, HeaderValue)> + '_ {
        let headers = self.endpoint().map(|endpoint| endpoint.headers.as_slice()).unwrap_or_default();
        headers.iter().filter_map(|(name, value)| {
            let mut value = HeaderValue::try_from(value).ok()?;
            value.set_sensitive(true);
            Some((HeaderName::try_from(name).ok()?, value))
        })
    }

    async fn connections(&self) -> Result<reqwest::Client, RegistryError> {
        let connections = &self.inner.connections;
        if let Some(endpoint) = self.endpoint().filter(|endpoint| !endpoint.trust.is_plain()) {
            return connections.trusting(&endpoint.trust, self.inner.source.insecure).await;
        }
        if self.inner.source.insecure {
            connections.unverified().await.cloned()
        } else {
            connections.verified().await.cloned()
        }
    }

    /// An insecure registry does not make the token service of another host insecure.
    async fn connections_to(&self, realm: &Url, registry: &Url) -> Result<reqwest::Client, RegistryError> {
        if realm.host_str() == registry.host_str() {
            self.connections().await
        } else {
            self.inner.connections.verified().await.cloned()
        }
    }

    fn learnt(&self) -> Learnt {
        self.inner.learnt.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn learn(&self, change: impl FnOnce(&mut Learnt)) {
        change(&mut self.inner.learnt.lock().unwrap_or_else(PoisonError::into_inner));
    }
}
