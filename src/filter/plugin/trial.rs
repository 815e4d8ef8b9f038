//! A plugin by itself, without a load balancer: what it needs, and what it makes of a request.

use super::host::{Imports, NoPlugin};
use super::limits::Limits;
use super::{Plugging, Plugins, limits_of_default};
use crate::clock::{Clock, System};
use crate::filter::{About, Borrowed, Filter, Flow, Head, Headers, Request, Running, Sending};
use crate::generation::Generation;
use crate::identity::Profile;
use crate::metrics::Metrics;
use crate::name::{ListenerName, PoolName, RouteName};
use crate::policy::{self, Access, Case, Door, Permit, Term};
use crate::refusal::Refusal;
use crate::request::{self, Facts, Id, Protocol};
use crate::upstream::{Pools, Servers};
use crate::verdict::RuleId;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use std::{
    any::Any,
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

/// A head that belongs to no session.
#[derive(Debug, Clone, Default)]
pub struct LooseHead(pub HeaderMap);

impl Headers for LooseHead {
    fn all(&self) -> &HeaderMap {
        &self.0
    }

    fn set(&mut self, name: &HeaderName, value: &HeaderValue) -> Result<(), Refusal> {
        self.0.insert(name, value.clone());
        Ok(())
    }

    fn add(&mut self, name: &HeaderName, value: &HeaderValue) -> Result<(), Refusal> {
        self.0.append(name, value.clone());
        Ok(())
    }

    fn remove(&mut self, name: &HeaderName) {
        self.0.remove(name);
    }
}

impl Head for LooseHead {
    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

impl Borrowed for LooseHead {
    fn lend(&mut self) -> Result<Box<dyn Head>, Refusal> {
        Ok(Box::new(std::mem::take(self)))
    }

    fn take_back(&mut self, head: Box<dyn Head>) {
        if let Ok(head) = head.into_any().downcast::<Self>() {
            *self = *head;
        }
    }
}

/// What a plugin is tried with.
#[derive(Debug, Clone)]
pub struct Sample {
    /// The method.
    pub method: Method,
    /// The host.
    pub host: String,
    /// Path and query.
    pub target: String,
    /// Headers.
    pub headers: HeaderMap,
    /// The body; none where there is none.
    pub body: Option<Bytes>,
}

/// What a plugin has made of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Made {
    /// It goes on, with these headers.
    Goes(Vec<(String, String)>),
    /// It is answered.
    Answered(StatusCode, Bytes),
    /// It waits for an answer to a call, which nobody gives here.
    Waits,
    /// It is refused.
    Refused(Refusal),
}

/// A plugin that can be tried.
#[derive(Debug)]
pub struct Trial {
    filter: Arc<dyn Filter>,
    imports: Imports,
    /// How long it took to compile and to start.
    pub started: Duration,
    permit: Permit,
    facts: Arc<Facts>,
    listener: ListenerName,
    pools: Arc<Pools>,
    sample: Sample,
}

/// Why a plugin cannot be tried, for whoever wants to try it.
#[derive(Debug, thiserror::Error)]
pub enum Untried {
    /// It is no plugin.
    #[error("{0}")]
    Plugin(String),
    /// It imports what nobody provides.
    #[error("it imports what nobody provides")]
    Imports(Vec<String>),
    /// The sample is no request.
    #[error("the request to try it with is none: {}", .0.facts().explain)]
    Sample(Refusal),
    /// There is no room for it.
    #[error("it cannot be tried here")]
    Internal,
}

impl From<NoPlugin> for Untried {
    fn from(fault: NoPlugin) -> Self {
        if let NoPlugin::Imports(names) = fault {
            return Self::Imports(names.split(", ").map(str::to_owned).collect());
        }
        Self::Plugin(fault.to_string())
    }
}

impl Trial {
    /// Compiles and starts a plugin with the usual limits.
    ///
    /// # Errors
    /// [`Untried`].
    pub fn new(module: Bytes, name: &str, configuration: Bytes, sample: Sample) -> Result<Self, Untried> {
        let limits: Limits = limits_of_default().ok_or(Untried::Internal)?;
        let plugging = Plugging {
            module,
            name: name.into(),
            configuration,
            vm_configuration: Bytes::new(),
            root_id: "".into(),
            pools: Vec::new(),
            is_optional: false,
            limits,
        };
        let metrics = Metrics::new().map_err(|_twice| Untried::Internal)?;
        let began = Instant::now();
        let (filter, imports) = Plugins::new(&metrics, None).plug(&plugging)?;
        let started = began.elapsed();
        let facts = Arc::new(facts(&sample).map_err(Untried::Sample)?);
        let permit = permit(&facts).ok_or(Untried::Internal)?;
        let listener = ListenerName::parse("trial").map_err(|_malformed| Untried::Internal)?;
        let pools = Arc::new(Pools::build(Vec::new(), &Arc::new(HashMap::new()), &Servers::default(), &metrics));
        Ok(Self { filter, imports, started, permit, facts, listener, pools, sample })
    }

    /// Functions that it imports and that work.
    #[must_use]
    pub fn known(&self) -> &[String] {
        &self.imports.known
    }

    /// Functions that it imports and that answer that they are not there.
    #[must_use]
    pub fn unimplemented(&self) -> &[String] {
        &self.imports.unimplemented
    }

    /// Shows it the request once, to its end; what it has made of it, and how long that took.
    #[must_use]
    pub fn run(&self) -> (Made, Duration) {
        self.run_with(self.sample.body.as_ref())
    }

    /// The same with another body.
    #[must_use]
    pub fn run_with(&self, body: Option<&Bytes>) -> (Made, Duration) {
        let mut head = LooseHead(self.sample.headers.clone());
        let began = Instant::now();
        let flow = self.pass(&mut head, body);
        let took = began.elapsed();
        let made = match flow {
            Ok(Flow::Goes) => Made::Goes(texts(&head.0)),
            Ok(Flow::Answered(answer)) => Made::Answered(answer.status, answer.body),
            Ok(Flow::Waits(_)) => Made::Waits,
            Err(refusal) => Made::Refused(refusal),
        };
        (made, took)
    }

    fn pass(&self, head: &mut LooseHead, body: Option<&Bytes>) -> Result<Flow, Refusal> {
        let about = About {
            permit: &self.permit,
            facts: &self.facts,
            client: None,
            listener: &self.listener,
            tls: Some("1.3"),
            started: System.now(),
            pools: &self.pools,
        };
        let Some(mut running) = self.filter.begin(&about)? else { return Err(Refusal::PluginsBusy) };
        let flow = through(&mut *running, &about, (head, body))?;
        running.ended(Some(StatusCode::OK));
        Ok(flow)
    }
}

fn through(
    running: &mut dyn Running,
    about: &About<'_>,
    (head, body): (&mut LooseHead, Option<&Bytes>),
) -> Result<Flow, Refusal> {
    let mut sending = Sending::default();
    let mut request = Request { headers: &mut *head, has_body: body.is_some(), sending: &mut sending };
    let mut flow = running.request(about, &mut request)?;
    if let (Flow::Goes, Some(body)) = (&flow, body) {
        let lent = running.holds_head().then_some(&mut *head as &mut dyn Borrowed);
        flow = running.request_body(about, lent, &mut body.clone(), true)?;
    }
    Ok(flow)
}

fn texts(headers: &HeaderMap) -> Vec<(String, String)> {
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect()
}

fn facts(sample: &Sample) -> Result<Facts, Refusal> {
    Facts::read(&request::Head {
        method: &sample.method,
        target: sample.target.as_bytes(),
        authority: None,
        hosts: [Some(sample.host.as_bytes()), None],
        protocol: Protocol::Http1,
    })
}

/// The permit of a route that asks nobody who he is.
fn permit(facts: &Facts) -> Option<Permit> {
    let door = Door {
        route: RouteName::parse("trial").ok()?,
        demands: None,
        access: Arc::new(Access::Public(RuleId::new("trial"))),
        rules: None,
        is_hidden: false,
        demands_digest: false,
        term: Term::default(),
        pool: PoolName::parse("trial").ok()?,
    };
    let case = Case {
        id: &Id::random(),
        facts,
        client: None,
        tls: Some("1.3"),
        listener: Profile::None,
        generation: Generation::new(0),
        now: System.now(),
    };
    policy::admit_public(&door, &case).ok()
}
