//! `cors`: which pages of other origins may read answers (<https://fetch.spec.whatwg.org/#http-cors-protocol>).

use super::kind::Settings;
use super::{About, Answer, Filter, Headers, Response};
use crate::config::document::DurationText;
use crate::config::{Fault, FilterSpec, Reader};
use crate::refusal::Refusal;
use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD,
    ORIGIN, VARY,
};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use schemars::JsonSchema;
use serde::Deserialize;
use std::{sync::Arc, time::Duration};

/// Says which pages of other origins may read answers, and answers the browser's question for it. That question shows
/// nobody's identity: it is answered to whom the listener's proofs let in, and never forwarded. What the origin says of
/// CORS itself does not count.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Cors {
    /// Origins, for example `https://app.example.com`; `https://*.example.com` for one label more; or `*` alone for
    /// everybody, without credentials.
    #[schemars(length(min = 1))]
    origins: Vec<String>,
    /// Methods beside GET, HEAD and POST.
    #[serde(default)]
    methods: Vec<String>,
    /// Headers that the page may send beside those that are always let through.
    #[serde(default)]
    headers: Vec<String>,
    /// Headers of the answer that the page may read.
    #[serde(default)]
    expose: Vec<String>,
    /// Whether cookies and other credentials are sent and the answer may be read all the same.
    #[serde(default)]
    credentials: bool,
    /// How long a browser remembers the answer to its question: 0s to 1d.
    #[serde(default = "ten_minutes")]
    max_age: DurationText,
}

fn ten_minutes() -> DurationText {
    DurationText("10m".into())
}

#[derive(Debug, Clone)]
pub(super) struct Sharing {
    origins: Arc<[Origin]>,
    methods: HeaderValue,
    allowed_methods: Arc<[Method]>,
    headers: Option<HeaderValue>,
    expose: Option<HeaderValue>,
    credentials: bool,
    max_age: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Origin {
    Everybody,
    Exactly(Box<str>),
    /// A scheme with `://`, and what follows one label.
    Below(Box<str>, Box<str>),
}

impl Origin {
    fn read(text: &str) -> Option<Self> {
        if text == "*" {
            return Some(Self::Everybody);
        }
        let at = text.find("://")?.checked_add(3)?;
        let (scheme, host) = text.split_at_checked(at)?;
        let is_plain = |host: &str| {
            !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b':'))
        };
        let is_scheme = matches!(scheme, "https://" | "http://");
        match host.strip_prefix('*') {
            Some(rest) => (is_scheme && rest.starts_with('.') && is_plain(rest))
                .then(|| Self::Below(scheme.into(), rest.to_ascii_lowercase().into())),
            None => (is_scheme && is_plain(host)).then(|| Self::Exactly(text.to_ascii_lowercase().into())),
        }
    }

    fn takes(&self, origin: &str) -> bool {
        match self {
            Self::Everybody => true,
            Self::Exactly(own) => **own == *origin,
            Self::Below(scheme, rest) => {
                let label = origin.strip_prefix(&**scheme).and_then(|host| host.strip_suffix(&**rest));
                label.is_some_and(|label| !label.is_empty() && !label.contains(['.', ':', '/', '@']))
            }
        }
    }
}

impl Settings for Cors {
    const NAME: &'static str = "cors";
    type Spec = Sharing;

    fn read(self, reader: &mut Reader<'_>) -> Option<Sharing> {
        let place = reader.place.clone();
        let mut origins = Vec::new();
        for (index, text) in self.origins.iter().enumerate() {
            match Origin::read(text) {
                Some(origin) => origins.push(origin),
                None => {
                    let fault = Fault::new(&place.key("origins").index(index), format!("`{text}` is no origin"));
                    reader.fault(fault.hint("a scheme, a host and perhaps a port: https://app.example.com"));
                }
            }
        }
        if origins.contains(&Origin::Everybody) && (self.credentials || origins.len() > 1) {
            let message = "`*` stands alone and without `credentials`: every page could read what is its visitor's";
            reader.fault(Fault::new(&place.key("origins"), message).hint("name the origins"));
        }
        let mut methods = vec![Method::GET, Method::HEAD, Method::POST];
        for (index, text) in self.methods.iter().enumerate() {
            let method = Method::from_bytes(text.as_bytes()).ok();
            match method.filter(|method| *text == text.to_ascii_uppercase() && *method != Method::CONNECT) {
                Some(method) => methods.push(method),
                None => reader.fault(Fault::new(&place.key("methods").index(index), format!("`{text}` is no method"))),
            }
        }
        let mut list = |key: &str, names: &[String]| {
            let is_none = |(_, name): &(usize, &String)| http::HeaderName::from_bytes(name.as_bytes()).is_err();
            for (index, name) in names.iter().enumerate().filter(is_none) {
                let fault = Fault::new(&place.key(key).index(index), format!("`{name}` is no name of a header"));
                reader.fault(fault);
            }
            (!names.is_empty()).then(|| HeaderValue::from_str(&names.join(", ")).ok()).flatten()
        };
        let (headers, expose) = (list("headers", &self.headers), list("expose", &self.expose));
        let range = Duration::ZERO..=Duration::from_secs(24 * 60 * 60);
        let max_age = reader.duration(&self.max_age.0, &place.key("max_age"), range)?;
        let names: Vec<_> = methods.iter().map(Method::as_str).collect();
        Some(Sharing {
            origins: origins.into(),
            methods: HeaderValue::from_str(&names.join(", ")).ok()?,
            allowed_methods: methods.into(),
            headers,
            expose,
            credentials: self.credentials,
            max_age,
        })
    }
}

impl FilterSpec for Sharing {}

impl Sharing {
    /// The origin that may read the answer; none if the request names none that may.
    fn shared_with(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        let mut origins = headers.get_all(ORIGIN).iter();
        let (Some(origin), None) = (origins.next(), origins.next()) else { return None };
        let text = origin.to_str().ok()?;
        if self.origins.contains(&Origin::Everybody) {
            return Some(HeaderValue::from_static("*"));
        }
        self.origins.iter().any(|own| own.takes(text)).then(|| origin.clone())
    }

    fn varies(&self) -> bool {
        !self.origins.contains(&Origin::Everybody)
    }

    /// The answer to a browser's question. An origin or method that may not is told nothing, so that the browser refuses.
    fn answer(&self, headers: &HeaderMap, method: &HeaderValue) -> Answer {
        let mut answer = Answer::new(Cors::NAME, StatusCode::NO_CONTENT);
        if self.varies() {
            answer = answer.with(VARY, HeaderValue::from_static("origin"));
        }
        let may = self.allowed_methods.iter().any(|known| known.as_str().as_bytes() == method.as_bytes());
        let Some(origin) = self.shared_with(headers).filter(|_| may) else { return answer };
        answer = answer.with(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        answer = answer.with(ACCESS_CONTROL_ALLOW_METHODS, self.methods.clone());
        if let Some(names) = &self.headers {
            answer = answer.with(ACCESS_CONTROL_ALLOW_HEADERS, names.clone());
        }
        if self.credentials {
            answer = answer.with(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
        answer.with(ACCESS_CONTROL_MAX_AGE, HeaderValue::from(self.max_age.as_secs()))
    }
}

/// The method for which a browser asks whether a page may use it; none if this is no such question.
#[must_use]
pub fn asked_method(method: &Method, headers: &HeaderMap) -> Option<HeaderValue> {
    let asks = *method == Method::OPTIONS && headers.contains_key(ORIGIN);
    headers.get(ACCESS_CONTROL_REQUEST_METHOD).filter(|_| asks).cloned()
}

/// Adds a name to `Vary`, once.
pub(super) fn vary_by<H: Headers + ?Sized>(headers: &mut H, name: &'static str) -> Result<(), Refusal> {
    let names = headers.all().get_all(VARY).iter().filter_map(|value| value.to_str().ok());
    let is_there = names.flat_map(|value| value.split(',')).any(|known| {
        let known = known.trim();
        known == "*" || known.eq_ignore_ascii_case(name)
    });
    if is_there { Ok(()) } else { headers.add(&VARY, &HeaderValue::from_static(name)) }
}

impl Filter for Sharing {
    fn name(&self) -> &str {
        Cors::NAME
    }

    fn preflight(&self, headers: &HeaderMap, method: &HeaderValue) -> Option<Answer> {
        Some(self.answer(headers, method))
    }

    fn response(&self, _: &About<'_>, response: &mut Response<'_>) -> Result<(), Refusal> {
        let headers = &mut *response.headers;
        let own: Vec<_> =
            headers.all().keys().filter(|name| name.as_str().starts_with("access-control-")).cloned().collect();
        own.iter().for_each(|name| headers.remove(name));
        if self.varies() {
            vary_by(headers, "origin")?;
        }
        let Some(origin) = self.shared_with(response.asked) else { return Ok(()) };
        headers.set(&ACCESS_CONTROL_ALLOW_ORIGIN, &origin)?;
        if self.credentials {
            headers.set(&ACCESS_CONTROL_ALLOW_CREDENTIALS, &HeaderValue::from_static("true"))?;
        }
        self.expose.iter().try_for_each(|names| headers.set(&ACCESS_CONTROL_EXPOSE_HEADERS, names))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use test_case::test_case;

    #[test_case("https://app.example.com", "https://app.example.com", true; "itself")]
    #[test_case("https://App.Example.com", "https://app.example.com", true; "as browsers write it")]
    #[test_case("https://app.example.com", "http://app.example.com", false; "another scheme")]
    #[test_case("https://app.example.com", "https://app.example.com:8443", false; "another port")]
    #[test_case("https://app.example.com", "https://app.example.com.evil.example", false; "longer")]
    #[test_case("https://app.example.com", "null", false; "no origin")]
    #[test_case("https://*.example.com", "https://a.example.com", true; "one label")]
    #[test_case("https://*.example.com", "https://example.com", false; "no label")]
    #[test_case("https://*.example.com", "https://a.b.example.com", false; "two labels")]
    #[test_case("https://*.example.com", "https://evil.example?.example.com", false; "something else in the label")]
    #[test_case("*", "https://evil.example", true; "everybody")]
    fn an_origin_is_taken(own: &str, origin: &str, expected: bool) {
        assert_eq!(Origin::read(own).unwrap().takes(origin), expected);
    }

    #[test_case("app.example.com"; "no scheme")]
    #[test_case("https://"; "no host")]
    #[test_case("https://app.example.com/path"; "with a path")]
    #[test_case("https://*"; "everybody of a scheme")]
    #[test_case("https://a*.example.com"; "a part of a label")]
    #[test_case("null"; "nobody")]
    fn is_no_origin(text: &str) {
        assert_eq!(Origin::read(text), None);
    }
}
