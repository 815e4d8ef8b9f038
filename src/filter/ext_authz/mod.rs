//! `ext_authz`: somebody else decides, too, asked over HTTP. He may refuse what the policy allows, and nothing more.

mod cache;

use super::kind::{Building, Settings, Spec};
use super::{About, Answer, Filter, Flow, Head, Headers, Request, Waited, headers};
use crate::config::document::{DurationText, SizeText};
use crate::config::{Fault, FilterSpec, Finding, Place, Reader};
use crate::name::PoolName;
use crate::refusal::Refusal;
use crate::request::headers::{REQUEST_ID, ROLES, ROUTE, USER, WORKLOAD, X_FORWARDED_FOR, X_FORWARDED_HOST};
use crate::upstream::{Call, Errand, Reply};
use bytes::Bytes;
use cache::Cache;
use http::header::{CONTENT_TYPE, LOCATION, RETRY_AFTER, SET_COOKIE, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use schemars::JsonSchema;
use serde::Deserialize;
use std::{sync::Arc, time::Duration};

/// The longest answer of who decides, in bytes.
const ANSWER_MAX: usize = 64 * 1024;

/// Asks a service of yours whether a request may pass, by a request of Belay's own. It is asked with the method and path
/// of the request below `path`, without its body, and is told who asks (`belay-workload`, `belay-user`, `belay-roles`,
/// `belay-route`, `x-forwarded-for`, `x-forwarded-host`, `x-request-id`). A status of 2xx lets pass; any other is the
/// client's answer, if it is 3xx or 4xx, else and without one the request is refused with 503.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ExtAuthz {
    /// The pool that is asked.
    pool: String,
    /// What the path of the request is put behind, for example `/check`.
    #[serde(default)]
    path: String,
    /// How long it may take: 1ms to 30s.
    #[serde(default = "two_hundred_milliseconds")]
    timeout: DurationText,
    /// Headers of the request that are sent along.
    #[serde(default = "cookie_and_authorization")]
    send: Vec<String>,
    /// Headers of an answer that lets pass which the origin gets.
    #[serde(default)]
    take: Vec<String>,
    /// Remembers answers that let pass, for the same question, byte for byte. The request's id is not sent then.
    #[serde(default)]
    cache: Option<ExtAuthzCache>,
}

/// What is remembered.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ExtAuthzCache {
    /// For how long: 1s to 1h.
    ttl: DurationText,
    /// How much memory it may take.
    #[serde(default = "a_mebibyte")]
    size: SizeText,
}

fn two_hundred_milliseconds() -> DurationText {
    DurationText("200ms".into())
}

fn a_mebibyte() -> SizeText {
    SizeText("1MiB".into())
}

fn cookie_and_authorization() -> Vec<String> {
    vec!["authorization".into(), "cookie".into()]
}

#[derive(Debug)]
pub(super) struct Asking {
    pools: [(PoolName, Place); 1],
    path: Box<str>,
    timeout: Duration,
    send: Arc<[HeaderName]>,
    take: Arc<[HeaderName]>,
    cache: Option<(Duration, u64)>,
}

impl Settings for ExtAuthz {
    const NAME: &'static str = "ext_authz";
    type Spec = Asking;

    fn read(self, reader: &mut Reader<'_>) -> Option<Asking> {
        let place = reader.place.clone();
        let pool = reader.pool(&self.pool, &place.key("pool"));
        let is_prefix = self.path.is_empty() || self.path.starts_with('/');
        if !is_prefix || self.path.contains(['?', '#', ' ']) {
            reader.fault(Fault::new(&place.key("path"), format!("`{}` is no path", self.path)).hint("like /check"));
        }
        let range = Duration::from_millis(1)..=Duration::from_secs(30);
        let timeout = reader.duration(&self.timeout.0, &place.key("timeout"), range);
        let mut names = |key: &str, texts: &[String]| {
            let place = place.key(key);
            let texts = texts.iter().enumerate();
            texts.filter_map(|(index, text)| headers::name(text, &place.index(index), reader)).collect()
        };
        let (send, take) = (names("send", &self.send), names("take", &self.take));
        let cache = match self.cache {
            Some(cache) => {
                let place = place.key("cache");
                let range = Duration::from_secs(1)..=Duration::from_secs(60 * 60);
                let ttl = reader.duration(&cache.ttl.0, &place.key("ttl"), range);
                let size = reader.bytes(&cache.size.0, &place.key("size"), 4096..=1024 * 1024 * 1024);
                ttl.zip(size)
            }
            None => None,
        };
        let path = self.path.trim_end_matches('/').into();
        Some(Asking { pools: [pool?], path, timeout: timeout?, send, take, cache })
    }
}

impl FilterSpec for Asking {
    fn pools(&self) -> &[(PoolName, Place)] {
        &self.pools
    }
}

impl Spec for Asking {
    fn build(&self, _: &mut Building<'_>) -> Result<Arc<dyn Filter>, Vec<Finding>> {
        let [(pool, _)] = &self.pools;
        Ok(Arc::new(Asked {
            errand: Errand::to(pool.clone()),
            path: self.path.clone(),
            timeout: self.timeout,
            send: Arc::clone(&self.send),
            take: Arc::clone(&self.take),
            cache: self.cache.map(|(ttl, size)| Arc::new(Cache::new(ttl, size))),
        }))
    }
}

#[derive(Debug)]
struct Asked {
    errand: Errand,
    path: Box<str>,
    timeout: Duration,
    send: Arc<[HeaderName]>,
    take: Arc<[HeaderName]>,
    cache: Option<Arc<Cache>>,
}

impl Asked {
    fn call(&self, about: &About<'_>, request: &Request<'_>) -> Option<Call> {
        let mut headers = HeaderMap::new();
        for name in &*self.send {
            for value in request.headers.all().get_all(name) {
                headers.append(name.clone(), value.clone());
            }
        }
        let principal = about.permit.principal();
        let mut tell = |name: &'static HeaderName, value: &str| -> Option<()> {
            headers.insert(name, HeaderValue::from_str(value).ok()?);
            Some(())
        };
        if let Some(workload) = principal.workload() {
            tell(&WORKLOAD, workload.name.as_str())?;
        }
        if let Some(user) = principal.user() {
            tell(&USER, &user.to_string())?;
        }
        if let Some(roles) = principal.role_list() {
            tell(&ROLES, &roles)?;
        }
        tell(&ROUTE, about.permit.route().as_str())?;
        tell(&X_FORWARDED_HOST, &about.facts.authority)?;
        if let Some(client) = about.client {
            tell(&X_FORWARDED_FOR, &client.to_string())?;
        }
        if self.cache.is_none() {
            tell(&REQUEST_ID, about.permit.request_id().as_str())?;
        }
        Some(Call {
            // What a method may have a body for has none here.
            method: if about.facts.method == Method::HEAD { Method::GET } else { about.facts.method.clone() },
            target: format!("{}{}", self.path, about.facts.target).into(),
            host: about.facts.authority.clone(),
            headers,
            body: Bytes::new(),
            timeout: self.timeout,
            answer_max: ANSWER_MAX,
        })
    }
}

impl Filter for Asked {
    fn name(&self) -> &str {
        ExtAuthz::NAME
    }

    fn request(&self, about: &About<'_>, request: &mut Request<'_>) -> Result<Flow, Refusal> {
        let call = self.call(about, request).ok_or(Refusal::FilterFailed)?;
        let question = self.cache.as_ref().map(|_| Cache::question(&call));
        if let Some(known) = self.cache.as_ref().zip(question.as_ref()).and_then(|(cache, key)| cache.get(key)) {
            return gives(&mut *request.headers, &self.take, &known).map(|()| Flow::Goes);
        }
        let (pools, errand, take) = (Arc::clone(about.pools), self.errand.clone(), Arc::clone(&self.take));
        let remembers = self.cache.clone().zip(question);
        let mut head = request.headers.lend()?;
        Ok(Flow::Waits(Box::pin(async move {
            let reply = pools.send(&errand, call).await.map_err(|fault| {
                log::warn!("ext_authz: pool {}: {fault}", errand.pool());
                Refusal::AuthorizerSilent
            })?;
            let answer = decided(&reply, &mut *head, &take)?;
            if let (None, Some((cache, question))) = (&answer, remembers) {
                cache.put(question, taken(&reply, &take));
            }
            Ok(Waited { head: Some(head), body: None, answer })
        })))
    }
}

/// What an answer gives to the origin.
fn taken(reply: &Reply, take: &[HeaderName]) -> Arc<[(HeaderName, HeaderValue)]> {
    take.iter().filter_map(|name| Some((name.clone(), reply.headers.get(name)?.clone()))).collect()
}

/// Gives the origin what the service says. What the client has sent under such a name must not pass for its word.
fn gives<H: Headers + ?Sized>(
    headers: &mut H,
    take: &[HeaderName],
    given: &[(HeaderName, HeaderValue)],
) -> Result<(), Refusal> {
    take.iter().for_each(|name| headers.remove(name));
    given.iter().try_for_each(|(name, value)| headers.set(name, value))
}

/// The client's answer, unless he may pass.
fn decided(reply: &Reply, head: &mut dyn Head, take: &[HeaderName]) -> Result<Option<Answer>, Refusal> {
    if reply.status.is_success() {
        return gives(head, take, &taken(reply, take)).map(|()| None);
    }
    if !reply.status.is_client_error() && !reply.status.is_redirection() {
        return Err(Refusal::AuthorizerSilent);
    }
    let mut answer = Answer::new(ExtAuthz::NAME, reply.status);
    for name in [CONTENT_TYPE, LOCATION, RETRY_AFTER, SET_COOKIE, WWW_AUTHENTICATE] {
        for value in reply.headers.get_all(&name) {
            answer.headers.append(name.clone(), value.clone());
        }
    }
    answer.body = reply.body.clone();
    Ok(Some(answer))
}
