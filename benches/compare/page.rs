//! A run as text: tables for the terminal, the page of the documentation, and what the README says of it.

use super::figures::{Idle, Row, Run, Spread};
use std::fmt::Write;

/// What was done about speed, and what was found.
const NOTES: &str = include_str!("notes.md");

/// The whole page.
pub fn page(run: &Run) -> String {
    format!(
        "# Performance\n\n*This page is made from the figures of one run, `performance.json`; a test keeps it true.*\n\n\
         {}\n\n{}\n\n{}\n\n{}",
        about(run),
        tables(run),
        "![CPU per request of Belay, HAProxy and nginx, by job](performance.svg)",
        NOTES
    )
}

fn about(run: &Run) -> String {
    let machine = &run.machine;
    let mut text = format!(
        "One run on {}: {} rounds, {} cores of {}, Linux {}. The load balancer has one core for itself; clients and the \
         origin have the others. `CPU µs` is the time that the kernel charges to the load balancer per request, the \
         middle of the rounds with the smallest and the largest; `ratio` compares with HAProxy in the same round. \
         `requests/s` is as fast as one core goes; the percentiles are those of a steady pace that all of them can keep, \
         in microseconds from when a request was due. A row with one failed request counts for nothing.\n\n",
        run.date, run.rounds, machine.cores, machine.processor, machine.kernel
    );
    text.push_str("| | version | cryptography | build | config |\n|---|---|---|---|---|\n");
    for participant in &run.contenders {
        let config = match participant.name.as_str() {
            "Belay" => "belay.yaml",
            "HAProxy" => "haproxy.cfg",
            _ => "nginx.conf",
        };
        let build = participant.build.as_deref().unwrap_or("as packaged");
        writeln!(
            text,
            "| {} | {} | {} | {build} | [{config}](../benches/compare/{config}) |",
            participant.name, participant.version, participant.cryptography
        )
        .unwrap();
    }
    text.push_str(
        "\nBelay writes two audit records for every request, at the durability `written`: a request is forwarded once the \
         system has its record. HAProxy and nginx write no log.\n\nWhat is remembered from one request to the next: \
         TLS sessions are resumed in `resumed` and nowhere else; what a client certificate is worth is found out once a \
         connection, so by each request of `connections` and `resumed` and by none of the others; connections to the \
         origin are kept in all jobs; and each token is new, since none counts twice.",
    );
    text
}

/// The tables alone.
pub fn tables(run: &Run) -> String {
    let mut text = String::new();
    text.push_str("| job | | CPU µs | ratio to HAProxy | requests/s | p50 | p99 | p99.9 |\n");
    text.push_str("|---|---|---|---|---|---|---|---|\n");
    let mut before = "";
    for row in &run.rows {
        let job = if row.job == before { String::new() } else { format!("`{}`: {}", row.job, row.about) };
        before = &row.job;
        writeln!(text, "| {job} | {} | {} |", row.contender, cells(row)).unwrap();
    }
    if !run.idle.is_empty() {
        text.push_str(
            "\n| connections by mutual TLS that do nothing | how many | bytes of memory each | lost | p99 µs of others, \
             and without them | CPU µs of others, and without them |\n|---|---|---|---|---|---|\n",
        );
        for idle in &run.idle {
            writeln!(text, "| {} | {} |", idle.contender, idle_cells(idle)).unwrap();
        }
    }
    text.trim_end().to_owned()
}

fn cells(row: &Row) -> String {
    let Some(figures) = &row.figures else {
        let why = row.void.as_deref().unwrap_or("not measured");
        return format!("{} | | | | |", why.lines().next().unwrap_or_default());
    };
    let ratio = figures.ratio.map_or_else(|| "–".to_owned(), |ratio| spread(ratio, 2));
    let whole = |value: f64| format!("{value:.0}");
    [
        spread(figures.cpu, 1),
        ratio,
        whole(figures.rate.median),
        whole(figures.p50.median),
        whole(figures.p99.median),
        whole(figures.p999.median),
    ]
    .join(" | ")
}

/// The median, and between which the others were.
fn spread(spread: Spread, digits: usize) -> String {
    let Spread { min, median, max } = spread;
    format!("**{median:.digits$}** ({min:.digits$}–{max:.digits$})")
}

fn idle_cells(idle: &Idle) -> String {
    if let Some(void) = &idle.void {
        return format!("{} | {void} | | |", idle.connections);
    }
    let [p99, cpu] = [idle.p99, idle.cpu];
    format!(
        "{} | {} | {} | {:.0}, {:.0} | {:.1}, {:.1}",
        idle.connections, idle.bytes, idle.dead, p99[1], p99[0], cpu[1], cpu[0]
    )
}

/// What the README says: nothing but what was measured.
pub fn claim(run: &Run) -> String {
    let ratio = |job: &str| {
        let row = run.rows.iter().find(|row| row.job == job && row.contender == "Belay");
        let ratio = row.and_then(|row| row.figures.as_ref()?.ratio);
        ratio.map_or_else(|| "an unknown number of".to_owned(), |ratio| format!("{:.2}", ratio.median))
    };
    let haproxy = run.contenders.iter().find(|participant| participant.name == "HAProxy");
    let version = haproxy.and_then(|haproxy| haproxy.version.split('-').next()).unwrap_or_default();
    let words = haproxy.map(|haproxy| haproxy.cryptography.split_whitespace().take(2).collect::<Vec<_>>().join(" "));
    format!(
        "**Speed.** CPU per request beside HAProxy {} on {}, one core each, one run of {} (HAProxy without a log, Belay \
         with two audit records for each request): {} times HAProxy's for a new connection by mutual TLS, {} for mutual \
         TLS with an ES256 token that is checked and used up, {} with RS256, {} with HS256, {} for kept connections by \
         mutual TLS, and {} for plain HTTP. All figures, and how to get your own: [docs/performance.md](docs/performance.md).",
        version,
        words.unwrap_or_default(),
        run.date,
        ratio("connections"),
        ratio("es256"),
        ratio("rs256"),
        ratio("hs256"),
        ratio("mtls"),
        ratio("plain"),
    )
}
