//! `headers`: sets, adds, removes and replaces headers of the request, the response, or both.

use super::kind::Settings;
use super::view::{Headers, is_guarded};
use super::{About, Filter, Flow, Request, Response};
use crate::config::{Fault, FilterSpec, Place, Reader};
use crate::refusal::Refusal;
use http::{HeaderName, HeaderValue};
use regex::Regex;
use schemars::JsonSchema;
use serde::Deserialize;
use std::{borrow::Cow, collections::BTreeMap};

/// Changes headers, in this order: what is removed, replaced, set, added. Headers that carry identity or framing cannot
/// be changed.
#[derive(Deserialize, JsonSchema, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct HeadersFilter {
    /// Of the request to the server.
    request: HeaderChanges,
    /// Of the response to the client.
    response: HeaderChanges,
}

/// Changes of headers.
#[derive(Deserialize, JsonSchema, Default)]
#[serde(deny_unknown_fields, default)]
struct HeaderChanges {
    /// Names of headers that are taken out.
    remove: Vec<String>,
    /// Values in which text is replaced, by the header's name; each value of it, if it is there.
    replace: BTreeMap<String, Replacement>,
    /// Values by name. One that was there is replaced.
    set: BTreeMap<String, String>,
    /// Values by name, beside what is there.
    add: BTreeMap<String, String>,
}

/// What takes the place of what in a value.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Replacement {
    /// A regular expression (<https://docs.rs/regex>), for example `^http:`.
    pattern: String,
    /// What each match becomes; `$1` is the first group, `$$` a dollar.
    with: String,
}

#[derive(Debug, Clone)]
pub(super) struct Both {
    request: Changes,
    response: Changes,
}

#[derive(Debug, Clone, Default)]
struct Changes {
    remove: Box<[HeaderName]>,
    replace: Box<[(HeaderName, Regex, Box<str>)]>,
    set: Box<[(HeaderName, HeaderValue)]>,
    add: Box<[(HeaderName, HeaderValue)]>,
}

impl Settings for HeadersFilter {
    const NAME: &'static str = "headers";
    type Spec = Both;

    fn read(self, reader: &mut Reader<'_>) -> Option<Both> {
        let place = reader.place.clone();
        let request = read(&self.request, &place.key("request"), reader);
        let response = read(&self.response, &place.key("response"), reader);
        if request.is_empty() && response.is_empty() && reader.is_content() {
            let fault = Fault::new(&place, "nothing is changed here").at_key();
            reader.fault(fault.hint("write `request: { set: { name: value } }`"));
        }
        Some(Both { request, response })
    }
}

fn read(written: &HeaderChanges, place: &Place, reader: &mut Reader<'_>) -> Changes {
    let remove = written.remove.iter().enumerate();
    let remove = remove.filter_map(|(index, text)| name(text, &place.key("remove").index(index), reader)).collect();
    let mut replace = Vec::new();
    for (text, replacement) in &written.replace {
        let place = place.key("replace").key(text);
        match Regex::new(&replacement.pattern) {
            Ok(pattern) => {
                replace
                    .extend(name(text, &place, reader).map(|name| (name, pattern, replacement.with.as_str().into())));
            }
            Err(error) => {
                let message = format!("this is no regular expression: {}", error.to_string().replace('\n', " "));
                reader.fault(Fault::new(&place.key("pattern"), message));
            }
        }
    }
    let set = pairs(&written.set, &place.key("set"), reader);
    Changes { remove, replace: replace.into(), set, add: pairs(&written.add, &place.key("add"), reader) }
}

/// Headers by name, as other filters write them, too.
pub(super) fn pairs(
    written: &BTreeMap<String, String>,
    place: &Place,
    reader: &mut Reader<'_>,
) -> Box<[(HeaderName, HeaderValue)]> {
    let mut headers = Vec::new();
    for (text, value) in written {
        let place = place.key(text);
        match HeaderValue::from_str(value) {
            Ok(value) => headers.extend(name(text, &place, reader).map(|name| (name, value))),
            Err(_) => reader.fault(Fault::new(&place, "this is no value of a header")),
        }
    }
    headers.into()
}

/// The name of a header that filters may write.
pub(super) fn name(text: &str, place: &Place, reader: &mut Reader<'_>) -> Option<HeaderName> {
    let is_name = HeaderName::from_bytes(text.as_bytes()).ok().filter(|_| !text.contains('_'));
    if is_name.is_none() {
        reader.fault(Fault::new(place, format!("`{text}` is no name of a header")).at_key());
    } else if is_guarded(text) {
        let message = format!("`{text}` carries identity or framing, which no filter may set");
        reader.fault(Fault::new(place, message).at_key());
        return None;
    }
    is_name
}

impl Changes {
    fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.replace.is_empty() && self.set.is_empty() && self.add.is_empty()
    }

    fn apply<H: Headers + ?Sized>(&self, headers: &mut H) -> Result<(), Refusal> {
        self.remove.iter().for_each(|name| headers.remove(name));
        self.replace.iter().try_for_each(|replacement| replace(headers, replacement))?;
        self.set.iter().try_for_each(|(name, value)| headers.set(name, value))?;
        self.add.iter().try_for_each(|(name, value)| headers.add(name, value))
    }
}

/// Replaces text in each value of a header that is text.
fn replace<H: Headers + ?Sized>(
    headers: &mut H,
    (name, pattern, with): &(HeaderName, Regex, Box<str>),
) -> Result<(), Refusal> {
    let replaced = |value: &HeaderValue| {
        let text = value.to_str().ok()?;
        match pattern.replace_all(text, &**with) {
            Cow::Borrowed(_) => None,
            Cow::Owned(text) => HeaderValue::from_str(&text).ok(),
        }
    };
    let values: Vec<_> = headers.all().get_all(name).iter().map(|value| (replaced(value), value.clone())).collect();
    if values.iter().all(|(replaced, _)| replaced.is_none()) {
        return Ok(());
    }
    headers.remove(name);
    values.into_iter().try_for_each(|(replaced, value)| headers.add(name, &replaced.unwrap_or(value)))
}

impl FilterSpec for Both {}

impl Filter for Both {
    fn name(&self) -> &str {
        HeadersFilter::NAME
    }

    fn request(&self, _: &About<'_>, request: &mut Request<'_>) -> Result<Flow, Refusal> {
        self.request.apply(request.headers).map(|()| Flow::Goes)
    }

    fn response(&self, _: &About<'_>, response: &mut Response<'_>) -> Result<(), Refusal> {
        self.response.apply(response.headers)
    }
}
