//! `maintenance`: everybody is told to come later, but for those who look whether it works again.

use super::kind::{Building, Settings, Spec};
use super::networks::address_is_in;
use super::respond::{Shown, plain};
use super::{About, Answer, Filter, Flow, Page, Request};
use crate::config::document::DurationText;
use crate::config::{FilterSpec, Finding, Reader};
use crate::network::Networks;
use crate::refusal::Refusal;
use http::{HeaderValue, StatusCode, header};
use schemars::JsonSchema;
use serde::Deserialize;
use std::{sync::Arc, time::Duration};

/// Answers 503 while the origin is worked on; nothing is forwarded. It begins and ends with a reload.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Maintenance {
    /// When to come again: 1s to 7d.
    retry_after: DurationText,
    /// Workloads and roles that pass all the same.
    except: Vec<String>,
    /// Networks whose clients do, for example `192.0.2.0/24`.
    except_networks: Vec<String>,
    /// What is shown: a text, or `file:PATH`.
    body: String,
    /// Its media type.
    content_type: String,
}

impl Default for Maintenance {
    fn default() -> Self {
        Self {
            retry_after: DurationText("5m".into()),
            except: Vec::new(),
            except_networks: Vec::new(),
            body: "The service is being worked on. Please come back later.\n".into(),
            content_type: plain(),
        }
    }
}

#[derive(Debug)]
pub(super) struct Resting {
    retry_after: Duration,
    except: Arc<[Box<str>]>,
    networks: Networks,
    page: Shown,
}

impl Settings for Maintenance {
    const NAME: &'static str = "maintenance";
    type Spec = Resting;

    fn read(self, reader: &mut Reader<'_>) -> Option<Resting> {
        let place = reader.place.clone();
        let range = Duration::from_secs(1)..=Duration::from_secs(7 * 24 * 60 * 60);
        let retry_after = reader.duration(&self.retry_after.0, &place.key("retry_after"), range);
        let networks = reader.networks(&self.except_networks, &place.key("except_networks")).into_iter().collect();
        let page = Shown::read(&self.body, &self.content_type, &place, reader);
        let except = self.except.into_iter().map(Into::into).collect();
        Some(Resting { retry_after: retry_after?, except, networks, page: page? })
    }
}

impl FilterSpec for Resting {}

impl Spec for Resting {
    fn build(&self, building: &mut Building<'_>) -> Result<Arc<dyn Filter>, Vec<Finding>> {
        let page: Page = self.page.build(building).map_err(|finding| vec![finding])?;
        let answer = Answer::new(Maintenance::NAME, StatusCode::SERVICE_UNAVAILABLE).showing(&page);
        let answer = answer.with(header::RETRY_AFTER, HeaderValue::from(self.retry_after.as_secs()));
        let (except, networks) = (Arc::clone(&self.except), self.networks.clone());
        Ok(Arc::new(Closed { except, networks, answer }))
    }
}

#[derive(Debug)]
struct Closed {
    except: Arc<[Box<str>]>,
    networks: Networks,
    answer: Answer,
}

impl Filter for Closed {
    fn name(&self) -> &str {
        Maintenance::NAME
    }

    fn request(&self, about: &About<'_>, _: &mut Request<'_>) -> Result<Flow, Refusal> {
        let principal = about.permit.principal();
        let mut names = principal
            .workload()
            .map(|workload| workload.name.as_str())
            .into_iter()
            .chain(principal.roles().map(crate::name::RoleName::as_str));
        let is_excepted = names.any(|name| self.except.iter().any(|excepted| **excepted == *name));
        if is_excepted || address_is_in(about.client, &self.networks) {
            return Ok(Flow::Goes);
        }
        Ok(Flow::Answered(self.answer.clone()))
    }
}
