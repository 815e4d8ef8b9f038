//! `rewrite`: the origin is asked for another path or host than the client has asked for.
//!
//! What was judged is what came; what is sent stands in the record of the outcome.

use super::kind::Settings;
use super::{About, Filter, Flow, Request};
use crate::config::{Fault, FilterSpec, Reader};
use crate::refusal::Refusal;
use crate::request::{Path, host_of};
use regex::Regex;
use schemars::JsonSchema;
use serde::Deserialize;
use std::borrow::Cow;

/// Asks the origin for another path or host. The query stays as it is. The record of the outcome says what was sent.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Rewrite {
    /// The path that is sent instead.
    #[serde(default)]
    path: Option<PathRewrite>,
    /// The host that is sent instead, with its port if it has one.
    #[serde(default)]
    host: Option<String>,
}

/// Another path. One of `prefix` and `pattern` says what of it is replaced.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct PathRewrite {
    /// A prefix by whole segments, for example `/api/v1`. A path that does not begin so stays as it is.
    #[serde(default)]
    prefix: Option<String>,
    /// A regular expression (<https://docs.rs/regex>) over the path as it came. Where it does not match, the path stays.
    #[serde(default)]
    pattern: Option<String>,
    /// What takes its place; in a pattern's, `$1` is the first group.
    with: String,
}

#[derive(Debug, Clone)]
pub(super) struct Rewriting {
    path: Option<How>,
    host: Option<Box<str>>,
}

#[derive(Debug, Clone)]
enum How {
    Prefix(Box<str>, Box<str>),
    Pattern(Regex, Box<str>),
}

impl Settings for Rewrite {
    const NAME: &'static str = "rewrite";
    type Spec = Rewriting;

    fn read(self, reader: &mut Reader<'_>) -> Option<Rewriting> {
        let place = reader.place.clone();
        if self.path.is_none() && self.host.is_none() {
            reader.fault(Fault::new(&place, "nothing is rewritten here").at_key().hint("write `path` or `host`"));
        }
        if self.host.as_ref().is_some_and(|host| host_of(host).is_err()) {
            reader.fault(Fault::new(&place.key("host"), "this is no host, with a port or without"));
        }
        let path = self.path.and_then(|path| how(path, reader));
        Some(Rewriting { path, host: self.host.map(Into::into) })
    }
}

fn how(path: PathRewrite, reader: &mut Reader<'_>) -> Option<How> {
    let place = reader.place.key("path");
    let is_path = |text: &str| text.starts_with('/') && !text.contains(['?', '#']) && Path::read(text).is_ok();
    match (path.prefix, path.pattern) {
        (Some(prefix), None) => {
            for (key, text) in [("prefix", &prefix), ("with", &path.with)] {
                if !is_path(text) {
                    reader.fault(Fault::new(&place.key(key), format!("`{text}` is no path")).hint("for example /api"));
                }
            }
            let trimmed = |text: &str| text.trim_end_matches('/').into();
            Some(How::Prefix(trimmed(&prefix), trimmed(&path.with)))
        }
        (None, Some(pattern)) => match Regex::new(&pattern) {
            Ok(pattern) => Some(How::Pattern(pattern, path.with.into())),
            Err(error) => {
                let message = format!("this is no regular expression: {}", error.to_string().replace('\n', " "));
                reader.fault(Fault::new(&place.key("pattern"), message));
                None
            }
        },
        (_, _) => {
            reader.fault(Fault::new(&place, "one of `prefix` and `pattern` is needed here"));
            None
        }
    }
}

impl How {
    /// The path that takes the place of that one; none if it stays.
    fn apply<'a>(&'a self, path: &'a str) -> Option<Cow<'a, str>> {
        match self {
            Self::Prefix(prefix, with) => {
                let rest = path.strip_prefix(&**prefix).filter(|rest| rest.is_empty() || rest.starts_with('/'))?;
                let new = format!("{with}{rest}");
                Some(if new.is_empty() { Cow::Borrowed("/") } else { Cow::Owned(new) })
            }
            Self::Pattern(pattern, with) => match pattern.replace(path, &**with) {
                Cow::Borrowed(_) => None,
                replaced @ Cow::Owned(_) => Some(replaced),
            },
        }
    }
}

impl FilterSpec for Rewriting {}

impl Filter for Rewriting {
    fn name(&self) -> &str {
        Rewrite::NAME
    }

    fn request(&self, about: &About<'_>, request: &mut Request<'_>) -> Result<Flow, Refusal> {
        let sending = &mut *request.sending;
        if let Some(how) = &self.path {
            let target = sending.target.clone().unwrap_or_else(|| about.facts.target.clone());
            let (path, query) = target.find('?').map_or((&*target, ""), |at| target.split_at(at));
            if let Some(new) = how.apply(path) {
                // What a pattern has put together must have one reading, like what comes in.
                let is_one = new.starts_with('/') && !new.contains(['?', '#']) && Path::read(&new).is_ok();
                let target = Some(format!("{new}{query}").into()).filter(|_| is_one);
                sending.target = Some(target.ok_or(Refusal::FilterFailed)?);
            }
        }
        if let Some(host) = &self.host {
            sending.host = Some(host.clone());
        }
        Ok(Flow::Goes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use test_case::test_case;

    #[test_case("/api", "/v2", "/api/orders", Some("/v2/orders"); "below")]
    #[test_case("/api", "/v2", "/api", Some("/v2"); "itself")]
    #[test_case("/api", "/", "/api", Some("/"); "to the root")]
    #[test_case("/api", "/", "/api/a/", Some("/a/"); "to the root, with what is below")]
    #[test_case("/", "/v2", "/a", Some("/v2/a"); "from the root")]
    #[test_case("/api", "/v2", "/apis", None; "another segment")]
    #[test_case("/api", "/v2", "/x/api", None; "not at the start")]
    fn a_prefix(prefix: &str, with: &str, path: &str, expected: Option<&str>) {
        let trimmed = |text: &str| text.trim_end_matches('/').into();
        assert_eq!(How::Prefix(trimmed(prefix), trimmed(with)).apply(path).as_deref(), expected);
    }

    #[test_case("^/users/([0-9]+)$", "/people/$1", "/users/7", Some("/people/7"); "with a group")]
    #[test_case("^/users/([0-9]+)$", "/people/$1", "/users/me", None; "no match")]
    fn a_pattern(pattern: &str, with: &str, path: &str, expected: Option<&str>) {
        assert_eq!(How::Pattern(Regex::new(pattern).unwrap(), with.into()).apply(path).as_deref(), expected);
    }
}
