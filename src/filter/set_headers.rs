//! `set_headers`: sets headers of the request, the response, or both. A header that was there is replaced.

use super::{Filter, Headers, Kind};
use crate::config::{Fault, FilterKind, FilterSpec, Node, Place};
use crate::refusal::Refusal;
use crate::request::headers::{is_framing, is_ours};
use http::{HeaderName, HeaderValue};
use schemars::{JsonSchema, Schema, schema_for};
use serde::Deserialize;
use std::{any::Any, collections::BTreeMap, sync::Arc};

/// Sets headers; one that was there is replaced. Headers that carry identity or framing cannot be set.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[derive(Default)]
struct Settings {
    /// Headers of the request to the server, by name.
    request: BTreeMap<String, String>,
    /// Headers of the response to the client, by name.
    response: BTreeMap<String, String>,
}

pub(super) struct SetHeadersKind;

#[derive(Debug, Clone)]
struct SetHeaders {
    request: Box<[(HeaderName, HeaderValue)]>,
    response: Box<[(HeaderName, HeaderValue)]>,
}

impl FilterSpec for SetHeaders {}

impl FilterKind for SetHeadersKind {
    fn name(&self) -> &'static str {
        "set_headers"
    }

    fn schema(&self) -> Schema {
        schema_for!(Settings)
    }

    fn parse(&self, settings: &Node, place: &Place) -> Result<Box<dyn FilterSpec>, Vec<Fault>> {
        let settings: Settings = settings.to().map_err(|error| vec![Fault::new(place, error.to_string())])?;
        let mut faults = Vec::new();
        let request = read(&settings.request, &place.key("request"), &mut faults);
        let response = read(&settings.response, &place.key("response"), &mut faults);
        if request.is_empty() && response.is_empty() && faults.is_empty() {
            faults.push(Fault::new(place, "nothing is set here").at_key().hint("write `request: { name: value }`"));
        }
        if faults.is_empty() { Ok(Box::new(SetHeaders { request, response })) } else { Err(faults) }
    }
}

impl Kind for SetHeadersKind {
    fn build(&self, spec: &dyn FilterSpec) -> Option<Arc<dyn Filter>> {
        let spec: &dyn Any = spec;
        spec.downcast_ref::<SetHeaders>().map(|filter| Arc::new(filter.clone()) as Arc<dyn Filter>)
    }
}

fn read(
    written: &BTreeMap<String, String>,
    place: &Place,
    faults: &mut Vec<Fault>,
) -> Box<[(HeaderName, HeaderValue)]> {
    let mut headers = Vec::new();
    for (name, value) in written {
        let place = place.key(name);
        let is_name = HeaderName::from_bytes(name.as_bytes()).ok().filter(|_| !name.contains('_'));
        match (is_name, HeaderValue::from_str(value)) {
            (None, _) => faults.push(Fault::new(&place, format!("`{name}` is no name of a header")).at_key()),
            (Some(_), _) if is_ours(name) || is_framing(name) => {
                let fault =
                    Fault::new(&place, format!("`{name}` carries identity or framing, which no filter may set"));
                faults.push(fault.at_key());
            }
            (Some(_), Err(_)) => faults.push(Fault::new(&place, "this is no value of a header")),
            (Some(name), Ok(value)) => headers.push((name, value)),
        }
    }
    headers.into()
}

impl Filter for SetHeaders {
    fn request(&self, headers: &mut dyn Headers) -> Result<(), Refusal> {
        self.request.iter().try_for_each(|(name, value)| headers.set(name, value))
    }

    fn response(&self, headers: &mut dyn Headers) -> Result<(), Refusal> {
        self.response.iter().try_for_each(|(name, value)| headers.set(name, value))
    }
}
