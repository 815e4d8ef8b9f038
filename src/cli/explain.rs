//! `belay explain`

use super::known::Known;
use super::socket::{self, NoAnswer};
use super::terminal::Terminal;
use super::{DEFAULT_CONFIG, Exit};
use crate::clock::{self, Clock};
use crate::config::Config;
use crate::identity::{ClaimPath, may_be_fact};
use crate::insight::{self, Asked, AskedUser, Circumstances, SignedFacts, Step, Story, Verdict};
use crate::name::{ListenerName, PeopleName, WorkloadName};
use crate::policy::rules::Declared;
use crate::refusal::Refusal;
use crate::request;
use http::Method;
use serde_json::{Map, Value, json};
use std::{
    fs::File,
    io::{BufRead, BufReader},
    net::IpAddr,
    path::{Path, PathBuf},
};

/// Tell a decision as a story: who came, what he showed, which route and rule decided, and what came of it.
///
/// Of a request that was made, by its id (the client reads it in `X-Request-Id`): from the memory of the running process,
/// or from an audit log. Or of one that nobody has made yet, by its method and URL: what the live config, an earlier or
/// another one would decide, if he who asks proves all that he can.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    belay explain 4b7ef76f55919cd1d8dd301f572d1dac\n  \
    belay explain 4b7ef76f55919cd1d8dd301f572d1dac --file /var/log/belay/audit.jsonl\n  \
    belay explain --as checkout GET https://shop.example.com/orders/7\n  \
    belay explain --as checkout --claim groups=support GET https://shop.example.com/admin\n  \
    belay explain --as checkout --by new.yaml GET https://shop.example.com/orders/7")]
pub(super) struct Args {
    /// The id of a request; or a method and a URL.
    #[arg(required = true, num_args = 1..=2, value_names = ["ID|METHOD", "URL"])]
    what: Vec<String>,
    /// Who asks; a stranger, if nobody is named.
    #[arg(long = "as", value_name = "WORKLOAD", value_parser = |text: &str| WorkloadName::parse(text))]
    workload: Option<WorkloadName>,
    /// Whose user comes through that workload: a name of `people`. Where there are no others, `--claim` is enough.
    #[arg(long = "user", value_name = "PEOPLE", value_parser = |text: &str| PeopleName::parse(text))]
    people: Option<PeopleName>,
    /// What the user's token says: a claim, or names with dots between them (`realm_access.roles`). It may be given more
    /// than once, and the same claim, too: then it is a list.
    #[arg(long = "claim", value_name = "NAME=VALUE", value_parser = claim)]
    claims: Vec<(ClaimPath, String)>,
    /// What the workload's token says beyond its own claims; it may be given more than once.
    #[arg(long = "fact", value_name = "NAME=VALUE", value_parser = fact)]
    facts: Vec<(String, String)>,
    /// The client's address, for rules that look at it.
    #[arg(long, value_name = "ADDRESS")]
    client: Option<IpAddr>,
    /// Where it comes in; at the first listener of the config, if none is named.
    #[arg(long, value_name = "LISTENER", value_parser = |text: &str| ListenerName::parse(text))]
    listener: Option<ListenerName>,
    /// Which config decides: `running`, the number of a generation that was live, or a config's file.
    #[arg(long, value_name = "WHAT", default_value = "running")]
    by: String,
    /// The audit log to look in, instead of asking the process.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// The config that names the socket.
    #[arg(short, long, value_name = "FILE", default_value = DEFAULT_CONFIG)]
    config: PathBuf,
    /// The socket, if no config says it.
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Print JSON: the records, or the decision with its steps.
    #[arg(long)]
    json: bool,
}

impl Args {
    /// Whether they say anything of a request that nobody has made.
    fn supposes(&self) -> bool {
        let named = [self.workload.is_some(), self.listener.is_some(), self.people.is_some()].contains(&true);
        named || self.client.is_some() || !self.claims.is_empty() || !self.facts.is_empty()
    }
}

pub(super) fn main(args: &Args, terminal: &Terminal) -> Exit {
    let told = match args.what.as_slice() {
        [method, url] => suppose(args, (method, url), terminal),
        [_] if args.supposes() => {
            let hint = "`--as`, `--user`, `--claim`, `--fact`, `--client` and `--listener` ask about a request that nobody has made: write METHOD URL";
            Err(wrong(terminal, Exit::Usage, hint))
        }
        [id] => remember(args, id, terminal),
        _ => Err(Exit::Usage),
    };
    match told {
        Ok(text) => {
            terminal.say(&text);
            Exit::Ok
        }
        Err(exit) => exit,
    }
}

fn wrong(terminal: &Terminal, exit: Exit, why: impl Into<String>) -> Exit {
    terminal.fail(&NoAnswer::Refused(why.into()));
    exit
}

/// What would be decided.
fn suppose(args: &Args, (method, url): (&str, &str), terminal: &Terminal) -> Result<String, Exit> {
    let usage = |why: String| wrong(terminal, Exit::Usage, why);
    let method = method.parse::<Method>().map_err(|_no_method| usage(format!("`{method}` is no method")))?;
    let (host, path) = request::place_of(url).map_err(usage)?;
    let facts: SignedFacts = args.facts.iter().cloned().collect();
    if facts.len() < args.facts.len() {
        return Err(usage("a fact is stated twice, and such a token is refused".into()));
    }
    let at = socket::At::of(args.config.clone(), args.socket.clone());
    let known = Known::meant(&args.by, &at, terminal)?;
    let config = &known.config;
    let first = || config.listeners.first().map(|listener| listener.name.clone());
    let listener = args.listener.clone().or_else(first);
    let listener = listener.ok_or_else(|| wrong(terminal, Exit::Config, "the config has no listener"))?;
    let user = user(args, config).map_err(usage)?;
    let asked = Asked { listener, workload: args.workload.clone(), user, method, host, path };
    let beside = Circumstances { client: args.client, ..Circumstances::with(known.rules(), clock::System.now()) };
    let story = insight::explain(config, &asked, &facts, &beside);
    Ok(if args.json { serde_json::to_string(&story).unwrap_or_default() } else { show(&story, terminal) })
}

/// The user who is meant; none if nothing is said of one.
fn user(args: &Args, config: &Config) -> Result<Option<AskedUser>, String> {
    let names: Vec<_> = config.people.iter().map(|people| people.terms.name.to_string()).collect();
    let people = match (&args.people, config.people.as_slice()) {
        (None, _) if args.claims.is_empty() => return Ok(None),
        (Some(name), _) if config.people.iter().all(|known| known.terms.name != *name) => {
            return Err(format!("there are no people `{name}`: there are {}", listed(&names)));
        }
        (Some(name), _) => name.clone(),
        (None, [only]) => only.terms.name.clone(),
        (None, _) => {
            return Err(format!("a claim is made by a user: say whose with `--user`: there are {}", listed(&names)));
        }
    };
    if args.workload.is_none() {
        return Err("a user comes through a workload: say which with `--as`".into());
    }
    Ok(Some(AskedUser { people, claims: all_of(&args.claims, &config.words.claims) }))
}

/// The claims, each of the type that is declared for it.
fn all_of(claims: &[(ClaimPath, String)], declared: &[Declared]) -> Map<String, Value> {
    let mut all = Map::new();
    for (path, word) in claims {
        let values = claims.iter().filter(|(other, _)| other == path).map(|(_, value)| value.clone());
        let mut claimed = path.claiming(values.collect());
        if let Some(value) = declared.iter().find(|known| known.path == *path).map(|known| known.meant(word))
            && !value.is_string()
        {
            claimed = path.saying(value);
        }
        merge(&mut all, claimed);
    }
    all
}

fn listed(names: &[String]) -> String {
    if names.is_empty() { "none".into() } else { names.join(", ") }
}

/// Adds claims to others, object by object.
fn merge(claims: &mut Map<String, Value>, more: Map<String, Value>) {
    for (name, value) in more {
        match (claims.get_mut(&name), value) {
            (Some(Value::Object(known)), Value::Object(value)) => merge(known, value),
            (_, value) => drop(claims.insert(name, value)),
        }
    }
}

/// A claim of a user's token, and what it says.
fn claim(text: &str) -> Result<(ClaimPath, String), String> {
    let (name, value) = text.split_once('=').ok_or("write NAME=VALUE, for example groups=support")?;
    Ok((ClaimPath::parse(name).map_err(|why| why.to_string())?, value.to_owned()))
}

/// A claim that a Worker may add to its token, and what it says.
fn fact(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write NAME=VALUE, for example country=DE")?;
    if may_be_fact(name) {
        Ok((name.to_owned(), value.to_owned()))
    } else {
        Err(format!("`{name}` is a claim of the token itself, or no name"))
    }
}

fn show(story: &Story, terminal: &Terminal) -> String {
    let Asked { method, host, path, .. } = &story.asked;
    let who = story.asked.by();
    let decision = match &story.verdict {
        Verdict::Allow { .. } => "allow".to_owned(),
        Verdict::Deny { status, reason, .. } => format!("deny with {status}, {reason}"),
        Verdict::Nowhere => "nobody listens".to_owned(),
    };
    let head = format!("{decision}: {method} https://{host}{path} by {who}");
    lines(&head, &story.steps, terminal)
}

fn lines(head: &str, steps: &[Step], terminal: &Terminal) -> String {
    let width = steps.iter().map(|step| step.about.len()).max().unwrap_or(0);
    let line = |step: &Step| format!("\n  {}  {}", terminal.dim(&format!("{:width$}", step.about)), step.says);
    terminal.bold(head) + &steps.iter().map(line).collect::<String>()
}

/// What was decided.
fn remember(args: &Args, id: &str, terminal: &Terminal) -> Result<String, Exit> {
    let records = match &args.file {
        Some(file) => in_log(file, id).map_err(|why| wrong(terminal, Exit::Unavailable, why))?,
        None => {
            if request::Id::parse(id).is_none() {
                return Err(wrong(
                    terminal,
                    Exit::Usage,
                    format!("`{id}` is no request's id, and a URL needs a method"),
                ));
            }
            let at = socket::At::of(args.config.clone(), args.socket.clone());
            at.ask(&format!("/recent?request={id}"), terminal)?
        }
    };
    let records: Vec<Value> = records.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    if records.is_empty() {
        let where_else = if args.file.is_some() { "" } else { ": the process remembers 10,000; say --file AUDIT-LOG" };
        return Err(wrong(terminal, Exit::Unavailable, format!("nothing is known of the request {id}{where_else}")));
    }
    if args.json {
        return Ok(json!(records).to_string());
    }
    let is = |record: &Value, action: &str| text(record, "/event/action").as_deref() == Some(action);
    let of = |action: &'static str| records.iter().filter(move |record| is(record, action));
    let mut outcomes = of("outcome");
    let told = of("decision").map(|decision| {
        let steps = [of_decision(decision), outcomes.next().map(of_outcome).unwrap_or_default()].concat();
        lines(&head(decision), &steps, terminal)
    });
    Ok(told.collect::<Vec<_>>().join("\n\n"))
}

/// The lines of an audit log that are a request's.
fn in_log(file: &Path, id: &str) -> Result<String, String> {
    let fault = |fault| format!("{} cannot be read: {fault}", file.display());
    let needle = format!("\"id\":{}", Value::from(id));
    let mut found = String::new();
    for line in BufReader::new(File::open(file).map_err(fault)?).lines() {
        let line = line.map_err(fault)?;
        if line.contains(&needle) {
            found.push_str(&line);
            found.push('\n');
        }
    }
    Ok(found)
}

fn text(record: &Value, pointer: &str) -> Option<String> {
    match record.pointer(pointer)? {
        Value::String(text) => Some(text.clone()),
        Value::Null => None,
        other @ (Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => Some(other.to_string()),
    }
}

/// The rules that were not met, and why.
fn near(decision: &Value) -> Option<String> {
    let near = decision.pointer("/belay/near")?.as_array()?.iter().filter_map(Value::as_str);
    Some(near.collect::<Vec<_>>().join("; "))
}

/// The roles of a user, if there is one.
fn roles(decision: &Value) -> Option<String> {
    let user = decision.get("user")?;
    let roles = user.get("roles").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    Some(listed(&roles.map(str::to_owned).collect::<Vec<_>>()))
}

fn head(decision: &Value) -> String {
    let get = |pointer: &str| text(decision, pointer).unwrap_or_else(|| "?".into());
    let (method, host, path) = (get("/http/request/method"), get("/url/domain"), get("/url/path"));
    let what =
        if decision.get("url").is_some() { format!("{method} https://{host}{path}") } else { "a request".into() };
    format!("{}: {what} at {}", get("/belay/decision"), get("/@timestamp"))
}

fn of_decision(decision: &Value) -> Vec<Step> {
    let get = |pointer: &str| text(decision, pointer);
    let from = match (get("/source/ip"), get("/client/ip")) {
        (Some(peer), Some(client)) => format!("by {peer} for {client}"),
        (Some(peer), None) => format!("by {peer}"),
        (None, _) => "over a Unix socket".to_owned(),
    };
    let tls = get("/tls/version").map_or_else(|| "without TLS".to_owned(), |version| format!("TLS {version}"));
    let listener = get("/belay/listener").unwrap_or_default();
    let edge = get("/belay/cf_ray").map_or_else(String::new, |ray| format!(", CF-Ray {ray}"));
    let showed = [
        get("/belay/certificate").map(|certificate| format!("certificate {certificate}")),
        get("/belay/kid").map(|kid| format!("token key {kid}")),
        get("/belay/asserted").map(|facts| format!("facts {facts}")),
    ];
    let showed: Vec<_> = showed.into_iter().flatten().collect();
    let user = get("/user/id").map_or_else(String::new, |user| format!("{user} through "));
    let proved = match (get("/belay/workload"), get("/belay/profile")) {
        (Some(workload), Some(profile)) => format!("{user}{workload}, by {profile}"),
        (Some(workload), None) => workload,
        (None, _) => "nobody".to_owned(),
    };
    let generation = get("/belay/generation").unwrap_or_default();
    let took = nanos(decision, "/event/duration").map_or_else(String::new, |took| format!(", in {took}"));
    let steps = [
        ("came", Some(format!("{from} to listener {listener}, {tls}{edge}"))),
        ("showed", Some(if showed.is_empty() { "nothing".into() } else { showed.join(", ") })),
        ("proved", Some(proved)),
        ("roles", roles(decision)),
        ("route", Some(get("/belay/route").unwrap_or_else(|| "none".into()))),
        ("rule", get("/belay/rule")),
        ("refused", get("/event/reason").map(|code| meaning(&code))),
        ("nearly", near(decision)),
        ("config", Some(format!("generation {generation}{took}"))),
        ("more", get("/event/reason").and_then(|code| what_else(decision, &code))),
    ];
    steps.into_iter().filter_map(|(about, says)| Some(Step { about, says: says? })).collect()
}

fn of_outcome(outcome: &Value) -> Vec<Step> {
    let get = |pointer: &str| text(outcome, pointer);
    let asked = get("/belay/server").map(|server| {
        let (pool, address) = (get("/belay/pool").unwrap_or_default(), get("/server/address").unwrap_or_default());
        let spans = [("queue", "waited"), ("connect", "connected in"), ("first_byte", "first byte after")];
        let spans = spans
            .into_iter()
            .filter_map(|(key, word)| Some(format!(", {word} {}", nanos(outcome, &format!("/belay/times/{key}"))?)));
        let attempts = match get("/belay/attempts").as_deref() {
            None | Some("1") => String::new(),
            Some(attempts) => format!(", {attempts} attempts"),
        };
        format!("{pool}/{server} at {address}{attempts}{}", spans.collect::<String>())
    });
    let status = get("/http/response/status_code").unwrap_or_else(|| "no status, the client had gone".into());
    let sent = get("/http/response/body/bytes").unwrap_or_default();
    let whole = if get("/belay/complete").as_deref() == Some("true") { "" } else { ", cut off" };
    let took = nanos(outcome, "/event/duration").map_or_else(String::new, |took| format!(", after {took}"));
    let steps = [
        ("server", asked),
        ("answered", Some(format!("{status}, {sent} bytes{whole}{took}"))),
        ("because", get("/event/reason").map(|code| meaning(&code))),
    ];
    steps.into_iter().filter_map(|(about, says)| Some(Step { about, says: says? })).collect()
}

/// What says who would have been let in.
fn what_else(decision: &Value, code: &str) -> Option<String> {
    let get = |pointer: &str| text(decision, pointer);
    let who = get("/belay/workload").map_or_else(String::new, |workload| format!("--as {workload} "));
    // What his token said is not written down.
    let user = get("/belay/people").map_or_else(String::new, |people| format!("--user {people} "));
    let (listener, generation) = (get("/belay/listener")?, get("/belay/generation")?);
    let url = format!("https://{}{}", get("/url/domain")?, get("/url/path")?);
    let is_policy = code.starts_with("policy.") || code.starts_with("route.");
    let command = format!(
        "belay explain {who}{user}--listener {listener} --by {generation} {} {url}",
        get("/http/request/method")?
    );
    is_policy.then_some(command)
}

/// What a refusal's code means.
fn meaning(code: &str) -> String {
    let known = Refusal::ALL.iter().map(|refusal| refusal.facts()).find(|facts| facts.code == code);
    known.map_or_else(|| code.to_owned(), |facts| format!("{code} ({}): {}", facts.status, facts.explain))
}

fn nanos(record: &Value, pointer: &str) -> Option<String> {
    let nanos = record.pointer(pointer)?.as_f64()?;
    Some(format!("{:.2} ms", nanos / 1e6))
}

#[cfg(test)]
mod tests {
    use super::*;
    use test_case::test_case;

    #[test_case("country=DE", Some(("country", "DE")); "a fact")]
    #[test_case("country=a=b", Some(("country", "a=b")); "with another sign")]
    #[test_case("country=", Some(("country", "")); "an empty one")]
    #[test_case("country", None; "no value")]
    #[test_case("sub=spiffe://x/y", None; "who it is")]
    #[test_case("=DE", None; "no name")]
    fn facts(text: &str, expected: Option<(&str, &str)>) {
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(fact(text).ok(), expected);
    }

    #[test_case(&["groups=a"], Some(&json!({ "groups": "a" })); "one")]
    #[test_case(&["groups=a", "groups=b", "email=x=y"], Some(&json!({ "groups": ["a", "b"], "email": "x=y" })); "several")]
    #[test_case(&["r.roles=a", "r.kind=b", "r.roles=c"], Some(&json!({ "r": { "roles": ["a", "c"], "kind": "b" } })); "within one")]
    #[test_case(&["https://x.y/roles=a"], Some(&json!({ "https://x.y/roles": "a" })); "a name with dots")]
    #[test_case(&["groups"], None; "no value")]
    #[test_case(&["=a"], None; "no name")]
    #[test_case(&["a..b=c"], None; "an empty name")]
    fn claims(texts: &[&str], expected: Option<&Value>) {
        let read: Result<Vec<_>, _> = texts.iter().map(|text| claim(text)).collect();
        assert_eq!(read.ok().map(|read| Value::Object(all_of(&read, &[]))).as_ref(), expected);
    }

    #[test]
    fn a_decision_to_read() {
        let decision = json!({ "@timestamp": "2026-11-23T09:00:00Z", "event": { "action": "decision", "duration": 210_000 },
            "source": { "ip": "203.0.113.7", "port": 4711 }, "http": { "request": { "id": "request-1", "method": "GET" } },
            "url": { "domain": "shop.example.com", "path": "/orders/7" }, "tls": { "version": "1.3" },
            "belay": { "listener": "edge", "route": "orders", "decision": "allow", "rule": "routes.orders.allow.checkout",
                "profile": "mtls+jwt", "workload": "checkout", "certificate": "abc", "kid": "checkout-1", "generation": 7 } });
        let outcome = json!({ "event": { "action": "outcome", "duration": 7_000_000, "reason": "upstream.connect_failed" },
            "http": { "response": { "status_code": 502, "body": { "bytes": 40 } } }, "server": { "address": "10.0.0.1:80" },
            "belay": { "pool": "shop", "server": "a", "attempts": 2, "complete": true, "times": { "connect": 1_200_000 } } });
        let steps = [of_decision(&decision), of_outcome(&outcome)].concat();
        insta::assert_snapshot!(lines(&head(&decision), &steps, &Terminal::plain()));
    }
}
