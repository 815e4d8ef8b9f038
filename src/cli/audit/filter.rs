//! Which records are meant.

use super::seen::Row;
use crate::audit::Pseudonyms;
use crate::clock::Timestamp;
use std::time::{Duration, UNIX_EPOCH};

/// Which records are meant. All that is said must be true of one.
#[derive(Debug, Default, clap::Args)]
pub(super) struct Filter {
    /// Of the request of that id.
    #[arg(long, value_name = "ID")]
    request: Option<String>,
    /// Of requests with that ray of Cloudflare's.
    #[arg(long, value_name = "RAY")]
    ray: Option<String>,
    /// Of that workload's requests.
    #[arg(long, value_name = "NAME")]
    workload: Option<String>,
    /// Of that user's requests: `issuer|subject`, or the subject alone.
    #[arg(long, value_name = "USER")]
    user: Option<String>,
    /// Of requests to that route.
    #[arg(long, value_name = "NAME")]
    route: Option<String>,
    /// Of requests that were let in, or that were not.
    #[arg(long)]
    decision: Option<Decision>,
    /// Of requests that were refused, or failed, for that reason, for example `identity.token_expired`.
    #[arg(long, value_name = "CODE")]
    reason: Option<String>,
    /// Of requests that were allowed or denied by that rule.
    #[arg(long, value_name = "RULE")]
    rule: Option<String>,
    /// Of requests that this server has answered, and of what was done with it: `NAME` or `POOL/NAME`.
    #[arg(long, value_name = "SERVER")]
    server: Option<String>,
    /// Of answers with that status: `503` or `5xx`.
    #[arg(long, value_name = "STATUS", value_parser = status)]
    status: Option<Status>,
    /// Of that action: `request`, or what the log says else, for example `reload`.
    #[arg(long, value_name = "ACTION")]
    action: Option<String>,
    /// From then on: `2026-11-22T13:00:00Z`, `2026-11-22`, or so long ago: `15m`.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    since: Option<Moment>,
    /// Before then.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    until: Option<Moment>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Decision {
    Allow,
    Deny,
}

/// The first and the last.
#[derive(Debug, Clone, Copy)]
struct Status(u16, u16);

fn status(text: &str) -> Result<Status, String> {
    let class = text.strip_suffix("xx").and_then(|class| class.parse::<u16>().ok()).filter(|class| *class < 10);
    let whole = text.parse().ok().filter(|status| (100..1000).contains(status)).map(|status| Status(status, status));
    let all = class.map(|class| Status(class * 100, class * 100 + 99)).or(whole);
    all.ok_or_else(|| "a status is for example 503 or 5xx".to_owned())
}

/// A moment, as records write it, or so long ago.
#[derive(Debug, Clone)]
enum Moment {
    At(String),
    Ago(Duration),
}

fn moment(text: &str) -> Result<Moment, String> {
    if let Ok(span) = humantime::parse_duration(text) {
        return Ok(Moment::Ago(span));
    }
    let whole = if text.len() == 10 { format!("{text}T00:00:00Z") } else { text.to_owned() };
    let time = humantime::parse_rfc3339(&whole).ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    let time = time.map(|since| Timestamp::EPOCH.plus(since).to_string());
    time.map(Moment::At).ok_or_else(|| "a time is 2026-11-22T13:00:00Z (UTC), 2026-11-22, or 15m ago: `15m`".into())
}

impl Moment {
    fn text(&self, now: Timestamp) -> String {
        match self {
            Self::At(text) => text.clone(),
            Self::Ago(span) => now.minus(*span).to_string(),
        }
    }
}

/// A filter with what it needs to know to be used.
#[derive(Debug)]
pub(super) struct Chosen<'a> {
    filter: &'a Filter,
    since: Option<String>,
    until: Option<String>,
    /// The user's hash, if users stand there by hashes.
    hash: Option<String>,
}

impl Filter {
    pub(super) fn chosen(&self, now: Timestamp, pseudonyms: Option<&Pseudonyms>) -> Chosen<'_> {
        Chosen {
            filter: self,
            since: self.since.as_ref().map(|moment| moment.text(now)),
            until: self.until.as_ref().map(|moment| moment.text(now)),
            hash: pseudonyms.zip(self.user.as_deref()).map(|(pseudonyms, user)| pseudonyms.of_user(user)),
        }
    }
}

impl Chosen<'_> {
    pub(super) fn means(&self, row: &Row) -> bool {
        let Filter { request, ray, workload, user, route, decision, reason, rule, server, status, action, .. } =
            self.filter;
        let is = |wanted: &Option<String>, have: &Option<String>| wanted.is_none() || wanted == have;
        let decided = |decision: &Decision| match decision {
            Decision::Allow => "allow",
            Decision::Deny => "deny",
        };
        let is_server = |wanted: &String| {
            let have = row.server.as_deref().unwrap_or_default();
            have == wanted || have.split_once('/').is_some_and(|(_, name)| name == wanted)
        };
        let is_action = |wanted: &String| match &row.action {
            Some(action) => action == wanted,
            None => wanted == "request" || wanted == "decision" || wanted == "outcome",
        };
        is(request, &row.request)
            && is(ray, &row.ray)
            && is(workload, &row.workload)
            && is(route, &row.route)
            && is(reason, &row.reason)
            && is(rule, &row.rule)
            && user.as_deref().is_none_or(|wanted| self.is_user(wanted, row.user.as_deref()))
            && decision.as_ref().map(decided).is_none_or(|wanted| row.decision.as_deref() == Some(wanted))
            && server.as_ref().is_none_or(is_server)
            && status.is_none_or(|Status(first, last)| row.status.is_some_and(|it| (first..=last).contains(&it)))
            && action.as_ref().is_none_or(is_action)
            && self.since.as_ref().is_none_or(|since| row.time >= *since)
            && self.until.as_ref().is_none_or(|until| row.time < *until)
    }

    fn is_user(&self, wanted: &str, have: Option<&str>) -> bool {
        let is_subject = |have: &str| have.split_once('|').is_some_and(|(_, subject)| subject == wanted);
        have.is_some_and(|have| have == wanted || is_subject(have) || self.hash.as_deref() == Some(have))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use test_case::test_case;

    #[derive(Debug, Parser)]
    struct Command {
        #[command(flatten)]
        filter: Filter,
    }

    fn row() -> Row {
        let text = |text: &str| Some(text.to_owned());
        Row {
            time: "2026-11-22T13:00:00.000000000Z".into(),
            request: text("r-1"),
            decision: text("deny"),
            status: Some(503),
            reason: text("upstream.no_server"),
            workload: text("checkout"),
            user: text("https://login.example.com|ada"),
            route: text("orders"),
            server: text("shop/a"),
            ray: text("abc-FRA"),
            ..Row::default()
        }
    }

    #[test_case("", true; "everything")]
    #[test_case("--request r-1 --ray abc-FRA --workload checkout --route orders", true; "by names")]
    #[test_case("--request r-2", false)]
    #[test_case("--ray abc", false; "a part of a ray")]
    #[test_case("--workload reports", false)]
    #[test_case("--user https://login.example.com|ada", true)]
    #[test_case("--user ada", true; "a subject")]
    #[test_case("--user da", false; "a part of one")]
    #[test_case("--decision deny --reason upstream.no_server", true)]
    #[test_case("--decision allow", false)]
    #[test_case("--server a", true; "a server")]
    #[test_case("--server shop/a", true; "a server of a pool")]
    #[test_case("--server store/a", false)]
    #[test_case("--status 503", true)]
    #[test_case("--status 5xx", true)]
    #[test_case("--status 4xx", false)]
    #[test_case("--action request", true)]
    #[test_case("--action reload", false)]
    #[test_case("--since 2026-11-22T13:00:00Z --until 2026-11-22T13:00:01Z", true)]
    #[test_case("--since 2026-11-22 --until 2026-11-23", true; "a day")]
    #[test_case("--until 2026-11-22T13:00:00Z", false; "until then, and not then")]
    #[test_case("--since 15m", true; "not long ago")]
    #[test_case("--since 5m", false; "longer ago")]
    fn means(arguments: &str, expected: bool) {
        let arguments = std::iter::once("query").chain(arguments.split_whitespace());
        let Command { filter } = Command::try_parse_from(arguments).unwrap();
        let now = Timestamp::from_unix_seconds(1_795_352_400 + 600);
        assert_eq!(filter.chosen(now, None).means(&row()), expected);
    }

    #[test_case("--status 9xxx")]
    #[test_case("--status 99")]
    #[test_case("--since yesterday")]
    #[test_case("--decision maybe")]
    fn is_refused(arguments: &str) {
        let arguments = std::iter::once("query").chain(arguments.split_whitespace());
        assert!(Command::try_parse_from(arguments).is_err());
    }

    #[test]
    fn a_user_is_found_by_his_hash() {
        let pseudonyms = Pseudonyms::new(&crate::secret::Secret::new(vec![7; 32]));
        let arguments = ["query", "--user", "https://login.example.com|ada"];
        let Command { filter } = Command::try_parse_from(arguments).unwrap();
        let hashed = Row { user: Some(pseudonyms.of_user("https://login.example.com|ada")), ..row() };
        let now = Timestamp::EPOCH;
        assert!(filter.chosen(now, Some(&pseudonyms)).means(&hashed));
        assert!(!filter.chosen(now, None).means(&hashed));
    }
}
