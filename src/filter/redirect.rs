//! `redirect`: the client is sent to another place.

use super::kind::Settings;
use super::{About, Answer, Filter, Flow, Request};
use crate::config::{Fault, FilterSpec, Reader};
use crate::refusal::Refusal;
use http::{HeaderValue, StatusCode, header};
use schemars::JsonSchema;
use serde::Deserialize;

/// Sends the client to another place; nothing is forwarded.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Redirect {
    /// Where to: a URL, or a path that begins with one `/`. `{host}`, `{path}` and `{query}` (with its `?`) stand for
    /// what was asked for.
    to: String,
    /// 301, 302, 303, 307 or 308; 308 keeps the method.
    #[serde(default = "permanent")]
    #[schemars(range(min = 301, max = 308))]
    status: u16,
}

const fn permanent() -> u16 {
    308
}

#[derive(Debug, Clone)]
pub(super) struct Redirecting {
    to: Box<[Part]>,
    status: StatusCode,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(Box<str>),
    Host,
    Path,
    Query,
}

impl Settings for Redirect {
    const NAME: &'static str = "redirect";
    type Spec = Redirecting;

    fn read(self, reader: &mut Reader<'_>) -> Option<Redirecting> {
        let place = reader.place.clone();
        let is_path = self.to.starts_with('/') && !self.to.starts_with("//");
        let is_url = self.to.starts_with("https://") || self.to.starts_with("http://");
        if !(is_path || is_url) || HeaderValue::from_str(&self.to).is_err() {
            let fault = Fault::new(&place.key("to"), format!("`{}` is no URL and no path", self.to));
            reader.fault(fault.hint("for example https://new.example.com{path}{query}"));
        }
        if !matches!(self.status, 301 | 302 | 303 | 307 | 308) {
            let fault = Fault::new(&place.key("status"), format!("{} is no redirect", self.status));
            reader.fault(fault.hint("one of 301, 302, 303, 307, 308"));
        }
        let to = parts(&self.to).map_err(|unknown| {
            let fault = Fault::new(&place.key("to"), format!("`{{{unknown}}}` stands for nothing"));
            fault.hint("one of {host}, {path}, {query}")
        });
        match (to, StatusCode::from_u16(self.status)) {
            (Ok(to), Ok(status)) => Some(Redirecting { to, status }),
            (Err(fault), _) => {
                reader.fault(fault);
                None
            }
            (Ok(_), Err(_)) => None,
        }
    }
}

/// The parts of a place; an error is a word that stands for nothing.
fn parts(text: &str) -> Result<Box<[Part]>, &str> {
    let (mut parts, mut rest) = (Vec::new(), text);
    while let Some((before, after)) = rest.split_once('{') {
        let (word, after) = after.split_once('}').ok_or(after)?;
        parts.push(Part::Text(before.into()));
        parts.push(match word {
            "host" => Part::Host,
            "path" => Part::Path,
            "query" => Part::Query,
            unknown => return Err(unknown),
        });
        rest = after;
    }
    parts.push(Part::Text(rest.into()));
    Ok(parts.into())
}

impl FilterSpec for Redirecting {}

impl Filter for Redirecting {
    fn name(&self) -> &str {
        Redirect::NAME
    }

    fn request(&self, about: &About<'_>, _: &mut Request<'_>) -> Result<Flow, Refusal> {
        let target = &about.facts.target;
        let (path, query) = target.find('?').map_or((&**target, ""), |at| target.split_at(at));
        // `//evil.example` is a path here and a host to a browser.
        let path = path.trim_start_matches('/');
        let mut place = String::new();
        for part in &self.to {
            match part {
                Part::Text(text) => place.push_str(text),
                Part::Host => place.push_str(&about.facts.host),
                Part::Path if place.ends_with('/') => place.push_str(path),
                Part::Path => {
                    place.push('/');
                    place.push_str(path);
                }
                Part::Query => place.push_str(query),
            }
        }
        let place = HeaderValue::try_from(place).map_err(|_unfit| Refusal::FilterFailed)?;
        Ok(Flow::Answered(Answer::new(Redirect::NAME, self.status).with(header::LOCATION, place)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use test_case::test_case;

    #[test_case("https://a.example{path}{query}", Ok(5))]
    #[test_case("/new", Ok(1))]
    #[test_case("/a{b}", Err("b"); "a word that stands for nothing")]
    #[test_case("/a{b", Err("b"); "no end")]
    fn a_place(text: &str, expected: Result<usize, &str>) {
        assert_eq!(parts(text).map(|parts| parts.len()), expected);
    }
}
