//! References that are made from the code are the code's. `BLESS=1 cargo test --test it docs` writes them anew.

#[path = "../../benches/compare/chart.rs"]
mod chart;
#[path = "../../benches/compare/figures.rs"]
#[expect(dead_code, reason = "it also measures")]
mod figures;
#[path = "../../benches/compare/page.rs"]
mod performance;

use belay::hangup::Hangup;
use belay::metrics::Metrics;
use belay::refusal::Refusal;
use belay::{admin, cli, config, filter};
use std::{fs, path::Path};

#[test]
fn the_references_are_true() {
    let pages = [
        ("configuration.md", configuration()),
        ("metrics.md", metrics()),
        ("refusals.md", refusals()),
        ("cli.md", command_line()),
        ("plugins.md", plugins()),
        ("openapi.json", serde_json::to_string_pretty(&admin::openapi()).unwrap() + "\n"),
        ("performance.md", performance::page(&last_run())),
        ("performance.svg", chart::draw(&last_run())),
    ];
    let mut stale = Vec::new();
    for (name, text) in pages {
        let path = Path::new("docs").join(name);
        if std::env::var_os("BLESS").is_some() {
            fs::write(&path, &text).unwrap();
        }
        if fs::read_to_string(&path).ok() != Some(text) {
            stale.push(name);
        }
    }
    assert!(stale.is_empty(), "not up to date: {stale:?}; write them with `BLESS=1 cargo test --test it docs`");
}

/// The comparison that the documentation shows.
fn last_run() -> figures::Run {
    serde_json::from_str(&fs::read_to_string("docs/performance.json").unwrap()).unwrap()
}

#[test]
fn the_readme_claims_what_was_measured() {
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let readme = words(&fs::read_to_string("README.md").unwrap());
    let claim = words(&performance::claim(&last_run()));
    assert!(readme.contains(&claim), "the README does not say: {claim}");
}

fn page(title: &str, about: &str, body: &str) -> String {
    format!("# {title}\n\n{about}\n\n*This page is made from the code; a test keeps it true.*\n\n{}\n", body.trim_end())
}

fn configuration() -> String {
    let about = "Every key that there is. An unknown key is an error with the line, the column and what was probably \
        meant. Relative paths start at the folder of the config's file. `belay schema` prints the same for editors.";
    page("Configuration", about, &config::reference(&config::schema(filter::KINDS)))
}

fn metrics() -> String {
    let about = "What `/metrics` on the admin address shows. Labels come from the config's names and from closed lists, \
        never from a request.";
    let rows = Metrics::REFERENCE.iter().map(|(name, kind, labels, help)| {
        let labels: Vec<_> = labels.iter().map(|label| format!("`{label}`")).collect();
        format!("| `{name}` | {kind} | {} | {help} |\n", labels.join(", "))
    });
    page(
        "Metrics",
        about,
        &format!("| metric | kind | labels | meaning |\n|---|---|---|---|\n{}", rows.collect::<String>()),
    )
}

fn refusals() -> String {
    let about = "Every way in which a request is refused. The reason is the label `reason` of \
        `belay_refusals_total`; with its family it is `event.reason` of the audit record. The description stands in the \
        `WWW-Authenticate` challenge, and only a peer who has proved something, by his certificate or by a signature, is told it.";
    let rows = Refusal::ALL.iter().map(|refusal| {
        let facts = refusal.facts();
        let told = facts.challenge.map_or(String::new(), |told| format!("`{told}`"));
        format!("| `{}` | {} | {told} | {} | {} |\n", facts.code, facts.status, facts.text, facts.explain)
    });
    let head = "| audit code | status | description | what the client reads | what it means |\n|---|---|---|---|---|\n";
    let hangups = "\n## Connections\n\nA connection that ends before it brings a request is counted by \
        `belay_connections_refused_total` with the reason, and has a record `connection` in the audit log. Of \
        these and of requests refused before an identity was proved 100 a second, and 1,000 an hour, are recorded singly \
        of each reason at each listener; what comes beyond stands in a record `summary` for each reason with its count, once a second.\n\n| audit code | what it means |\n|---|---|\n";
    let ended = Hangup::ALL.iter().map(|hangup| format!("| `{}` | {} |\n", hangup.code(), hangup.explain()));
    let body = format!("{head}{}{hangups}{}", rows.collect::<String>(), ended.collect::<String>());
    page("Refusals", about, &body)
}

fn plugins() -> String {
    let about = "What a plugin can call and ask. Which settings the filter `plugin` has stands in \
        [configuration.md](configuration.md), and how to write one in [plugins/README.md](../plugins/README.md). \
        `belay plugin check FILE` shows which of all this a module needs.";
    page("Plugins", about, &filter::plugin_reference())
}

fn command_line() -> String {
    let about = "Exit codes: 0 done, 64 wrong command line, 65 wrong data in a file, 69 something needed is not there \
        (for example a free address), 78 wrong config.";
    page("Command line", about, &cli::reference())
}
