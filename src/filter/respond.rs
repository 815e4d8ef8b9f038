//! `respond`: a fixed answer.

use super::kind::{Building, Settings, Spec};
use super::{About, Answer, Filter, Flow, Page, Request, headers};
use crate::config::{Fault, FilterSpec, Finding, Place, Reader};
use crate::refusal::Refusal;
use bytes::Bytes;
use http::{HeaderValue, StatusCode};
use schemars::JsonSchema;
use serde::Deserialize;
use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

/// The longest body of ours, in bytes.
const BODY_MAX: usize = 1024 * 1024;

/// Answers itself; nothing is forwarded.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Respond {
    /// The status.
    #[serde(default = "ok")]
    #[schemars(range(min = 200, max = 599))]
    status: u16,
    /// The body: a text, or `file:PATH`.
    #[serde(default)]
    body: Option<String>,
    /// Its media type.
    #[serde(default = "plain")]
    content_type: String,
    /// Headers by name.
    #[serde(default)]
    headers: BTreeMap<String, String>,
}

const fn ok() -> u16 {
    200
}

/// What text is.
pub(super) fn plain() -> String {
    "text/plain; charset=utf-8".into()
}

/// A body in the config, or in a file of its own.
#[derive(Debug, Clone)]
pub(super) enum Content {
    Text(Bytes),
    File(PathBuf),
}

/// A page that is not read yet.
#[derive(Debug, Clone)]
pub(super) struct Shown {
    content_type: HeaderValue,
    content: Content,
}

impl Shown {
    /// Reads what a page says, and as what.
    pub(super) fn read(body: &str, content_type: &str, place: &Place, reader: &mut Reader<'_>) -> Option<Self> {
        let Ok(content_type) = HeaderValue::from_str(content_type) else {
            reader.fault(Fault::new(&place.key("content_type"), "this is no media type"));
            return None;
        };
        if body.len() > BODY_MAX {
            reader.fault(Fault::new(&place.key("body"), format!("this is over {BODY_MAX} bytes")));
        }
        let content = reader.file_reference(body).filter(|_| body.starts_with("file:"));
        let content = content.map_or_else(|| Content::Text(Bytes::from(body.to_owned())), Content::File);
        Some(Self { content_type, content })
    }

    /// The page.
    ///
    /// # Errors
    /// If its file cannot be read.
    pub(super) fn build(&self, building: &mut Building<'_>) -> Result<Page, Finding> {
        let body = match &self.content {
            Content::Text(text) => text.clone(),
            Content::File(path) => building.files.page(path, BODY_MAX)?.into(),
        };
        Ok(Page { content_type: self.content_type.clone(), body })
    }
}

#[derive(Debug)]
pub(super) struct Responding {
    status: StatusCode,
    body: Option<Shown>,
    headers: Box<[(http::HeaderName, HeaderValue)]>,
}

impl Settings for Respond {
    const NAME: &'static str = "respond";
    type Spec = Responding;

    fn read(self, reader: &mut Reader<'_>) -> Option<Responding> {
        let place = reader.place.clone();
        let status = StatusCode::from_u16(self.status).ok()?;
        if matches!(self.status, 204 | 205 | 304) && self.body.is_some() {
            reader.fault(Fault::new(&place.key("body"), format!("an answer {} has no body", self.status)));
        }
        let headers = headers::pairs(&self.headers, &place.key("headers"), reader);
        let body = match &self.body {
            Some(body) => Some(Shown::read(body, &self.content_type, &place, reader)?),
            None => None,
        };
        Some(Responding { status, body, headers })
    }
}

impl FilterSpec for Responding {}

impl Spec for Responding {
    fn build(&self, building: &mut Building<'_>) -> Result<Arc<dyn Filter>, Vec<Finding>> {
        let mut answer = Answer::new(Respond::NAME, self.status);
        if let Some(body) = &self.body {
            answer = answer.showing(&body.build(building).map_err(|finding| vec![finding])?);
        }
        answer.headers.extend(self.headers.iter().cloned());
        Ok(Arc::new(Fixed(answer)))
    }
}

#[derive(Debug)]
struct Fixed(Answer);

impl Filter for Fixed {
    fn name(&self) -> &str {
        Respond::NAME
    }

    fn request(&self, _: &About<'_>, _: &mut Request<'_>) -> Result<Flow, Refusal> {
        Ok(Flow::Answered(self.0.clone()))
    }
}
