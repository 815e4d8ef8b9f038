//! Records as they are read again: no more of them than is asked for.

use serde::Deserialize;
use std::borrow::Cow;

/// Text of a record.
type Text<'a> = Option<Cow<'a, str>>;

/// A record, whatever it is of.
#[derive(Debug, Deserialize)]
pub(super) struct Seen<'a> {
    #[serde(rename = "@timestamp", borrow)]
    pub(super) time: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) event: Event<'a>,
    #[serde(default, borrow)]
    http: Http<'a>,
    #[serde(default, borrow)]
    url: Url<'a>,
    #[serde(default, borrow)]
    user: User<'a>,
    #[serde(default, borrow)]
    pub(super) file: File<'a>,
    #[serde(borrow)]
    pub(super) belay: Belay<'a>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Event<'a> {
    #[serde(borrow)]
    pub(super) action: Cow<'a, str>,
    #[serde(default, borrow)]
    pub(super) reason: Text<'a>,
    /// In nanoseconds.
    #[serde(default)]
    pub(super) duration: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
struct Http<'a> {
    #[serde(default, borrow)]
    request: Request<'a>,
    #[serde(default)]
    response: Response,
}

#[derive(Debug, Default, Deserialize)]
struct Request<'a> {
    #[serde(default, borrow)]
    id: Text<'a>,
    #[serde(default, borrow)]
    method: Text<'a>,
}

#[derive(Debug, Default, Deserialize)]
struct Response {
    #[serde(default)]
    status_code: Option<u16>,
}

#[derive(Debug, Default, Deserialize)]
struct Url<'a> {
    #[serde(default, borrow)]
    domain: Text<'a>,
    #[serde(default, borrow)]
    path: Text<'a>,
}

#[derive(Debug, Default, Deserialize)]
struct User<'a> {
    #[serde(default, borrow)]
    id: Text<'a>,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct File<'a> {
    #[serde(default, borrow)]
    pub(super) name: Text<'a>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Belay<'a> {
    #[serde(borrow)]
    pub(super) boot: Cow<'a, str>,
    #[serde(default, borrow)]
    decision: Text<'a>,
    #[serde(default, borrow)]
    rule: Text<'a>,
    #[serde(default, borrow)]
    workload: Text<'a>,
    #[serde(default, borrow)]
    route: Text<'a>,
    #[serde(default, borrow)]
    cf_ray: Text<'a>,
    #[serde(default, borrow)]
    pub(super) pool: Text<'a>,
    #[serde(default, borrow)]
    pub(super) server: Text<'a>,
    #[serde(default, borrow)]
    pub(super) cause: Text<'a>,
    #[serde(default, borrow)]
    pub(super) reason: Text<'a>,
    #[serde(default)]
    pub(super) count: Option<u64>,
}

/// What became of one request, or what else there is: a decision and its outcome put together.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) time: String,
    /// Of what it is, where it is no request.
    pub(super) action: Option<String>,
    pub(super) request: Option<String>,
    pub(super) decision: Option<String>,
    pub(super) status: Option<u16>,
    pub(super) rule: Option<String>,
    /// Why it was denied, or failed later.
    pub(super) reason: Option<String>,
    pub(super) workload: Option<String>,
    pub(super) user: Option<String>,
    pub(super) route: Option<String>,
    /// `POOL/NAME`.
    pub(super) server: Option<String>,
    pub(super) ray: Option<String>,
    pub(super) method: Option<String>,
    pub(super) url: Option<String>,
    /// From the request's head to the end, in nanoseconds.
    pub(super) took: Option<u64>,
    /// The records themselves.
    pub(super) lines: Vec<Box<str>>,
}

fn owned(text: Text<'_>) -> Option<String> {
    text.map(Cow::into_owned)
}

impl Row {
    /// Adds what a record says; what was known before stays.
    pub(super) fn add(&mut self, seen: Seen<'_>, line: &str) {
        let Seen { time, event, http, url, user, file, belay } = seen;
        let is_of_request = matches!(&*event.action, "decision" | "outcome");
        let is_outcome = event.action == "outcome";
        if self.time.is_empty() {
            self.time = time.into_owned();
        }
        let server = belay.pool.zip(belay.server).map(|(pool, server)| format!("{pool}/{server}"));
        let domain = url.domain.unwrap_or_default();
        let address = url.path.map(|path| format!("{domain}{path}"));
        let told = belay.reason.or(belay.cause).or(file.name);
        let counted = belay.count.map(|count| format!("{count} times"));
        let reason = event.reason.or_else(|| told.filter(|_| !is_of_request));
        self.request = self.request.take().or_else(|| owned(http.request.id));
        self.decision = self.decision.take().or_else(|| owned(belay.decision));
        self.rule = self.rule.take().or_else(|| owned(belay.rule));
        self.reason = self.reason.take().or_else(|| owned(reason));
        self.workload = self.workload.take().or_else(|| owned(belay.workload));
        self.user = self.user.take().or_else(|| owned(user.id));
        self.route = self.route.take().or_else(|| owned(belay.route));
        self.ray = self.ray.take().or_else(|| owned(belay.cf_ray));
        self.method = self.method.take().or_else(|| owned(http.request.method));
        self.url = self.url.take().or(address).or(counted);
        self.server = server.or_else(|| self.server.take());
        self.status = http.response.status_code.or(self.status);
        self.took = event.duration.filter(|_| is_outcome).or(self.took);
        if !is_of_request {
            self.action = Some(event.action.into_owned());
        }
        self.lines.push(line.into());
    }

    /// The request's id, where it is one.
    pub(super) fn id_of(seen: &Seen<'_>) -> Option<String> {
        seen.http.request.id.as_deref().map(ToOwned::to_owned)
    }
}
