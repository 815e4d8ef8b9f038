//! `error_pages`: what people are shown instead of an error.

use super::kind::{Building, Settings, Spec};
use super::respond::Shown;
use super::{About, Answer, Filter, Flow, Page, Request, Response, Running};
use crate::config::{Fault, FilterSpec, Finding, Reader};
use crate::refusal::Refusal;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, ETAG, LAST_MODIFIED};
use http::{HeaderMap, HeaderValue, StatusCode};
use schemars::JsonSchema;
use serde::Deserialize;
use std::{collections::BTreeMap, ops::RangeInclusive, sync::Arc};

/// Shows pages of yours instead of errors. The status stays what it is.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ErrorPages {
    /// Pages by status (`503`), or statuses (`500-599`); the narrowest counts.
    #[schemars(length(min = 1))]
    pages: BTreeMap<String, ErrorPage>,
    /// Whether they also take the place of what the origin says with such a status.
    #[serde(default)]
    of_origin: bool,
}

/// A page.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ErrorPage {
    /// What is shown: a text, or `file:PATH`.
    body: String,
    /// Its media type.
    #[serde(default = "html")]
    content_type: String,
}

fn html() -> String {
    "text/html; charset=utf-8".into()
}

#[derive(Debug)]
pub(super) struct Pages {
    pages: Vec<(RangeInclusive<u16>, Shown)>,
    of_origin: bool,
}

impl Settings for ErrorPages {
    const NAME: &'static str = "error_pages";
    type Spec = Pages;

    fn read(self, reader: &mut Reader<'_>) -> Option<Pages> {
        let place = reader.place.key("pages");
        let mut pages = Vec::new();
        for (text, page) in &self.pages {
            let place = place.key(text);
            let statuses = reader.statuses(text).filter(|statuses| *statuses.start() >= 400);
            if statuses.is_none() {
                let fault = Fault::new(&place, format!("`{text}` is no status of an error")).at_key();
                reader.fault(fault.hint("for example 503, or 500-599"));
            }
            let shown = Shown::read(&page.body, &page.content_type, &place, reader);
            pages.extend(statuses.zip(shown));
        }
        pages.sort_by_key(|(statuses, _)| statuses.end().saturating_sub(*statuses.start()));
        Some(Pages { pages, of_origin: self.of_origin })
    }
}

impl FilterSpec for Pages {}

impl Spec for Pages {
    fn build(&self, building: &mut Building<'_>) -> Result<Arc<dyn Filter>, Vec<Finding>> {
        let (mut pages, mut findings) = (Vec::new(), Vec::new());
        for (statuses, page) in &self.pages {
            match page.build(building) {
                Ok(page) => pages.push((statuses.clone(), page)),
                Err(finding) => findings.push(finding),
            }
        }
        let built = Built { pages: pages.into(), of_origin: self.of_origin };
        if findings.is_empty() { Ok(Arc::new(built)) } else { Err(findings) }
    }
}

#[derive(Debug, Clone)]
struct Built {
    pages: Arc<[(RangeInclusive<u16>, Page)]>,
    of_origin: bool,
}

impl Filter for Built {
    fn name(&self) -> &str {
        ErrorPages::NAME
    }

    fn begin(&self, _: &About<'_>) -> Result<Option<Box<dyn Running>>, Refusal> {
        Ok(self.of_origin.then(|| Box::new(Replacing { pages: self.clone(), body: None }) as Box<dyn Running>))
    }

    fn page(&self, status: StatusCode) -> Option<&Page> {
        let found = self.pages.iter().find(|(statuses, _)| statuses.contains(&status.as_u16()));
        found.map(|(_, page)| page)
    }
}

#[derive(Debug)]
struct Replacing {
    pages: Built,
    /// What takes the place of the origin's.
    body: Option<Bytes>,
}

impl Running for Replacing {
    fn request(&mut self, about: &About<'_>, request: &mut Request<'_>) -> Result<Flow, Refusal> {
        self.pages.request(about, request)
    }

    fn response(&mut self, _: &About<'_>, response: &mut Response<'_>) -> Result<Flow, Refusal> {
        self.body = None;
        if let Some(page) = self.pages.page(response.status) {
            if !response.has_body {
                let answer = Answer::new(ErrorPages::NAME, response.status).showing(page);
                return Ok(Flow::Answered(answer.with(CACHE_CONTROL, HeaderValue::from_static("no-store"))));
            }
            response.headers.set(&CONTENT_TYPE, &page.content_type)?;
            response.headers.set(&CACHE_CONTROL, &HeaderValue::from_static("no-store"))?;
            [CONTENT_ENCODING, ETAG, LAST_MODIFIED].iter().for_each(|name| response.headers.remove(name));
            self.body = Some(page.body.clone());
        }
        Ok(Flow::Goes)
    }

    fn takes_response_body(&self) -> bool {
        self.body.is_some()
    }

    fn response_body(&mut self, _: &About<'_>, piece: &mut Bytes, is_last: bool) -> Result<(), Refusal> {
        *piece = self.body.clone().filter(|_| is_last).unwrap_or_default();
        Ok(())
    }

    fn response_trailers(&mut self, _: &About<'_>, _: &mut HeaderMap) -> Result<Bytes, Refusal> {
        Ok(self.body.take().unwrap_or_default())
    }
}
