#![expect(clippy::unwrap_used, reason = "a bench that cannot set up has nothing to measure")]
#![expect(clippy::indexing_slicing, reason = "a bench that reads too far has failed")]
#![expect(clippy::cast_precision_loss, reason = "figures are rounded anyway")]
#![expect(unreachable_pub, reason = "what its parts share is public to them")]
#![expect(clippy::print_stdout, reason = "its figures are its output")]
//! What clients feel when servers differ, slow down, hang and die: Belay beside HAProxy with the same config, and one way
//! of balancing beside another. `cargo bench --bench servers [-- --chart FILE]`.
//!
//! Servers are processes of their own, so that they can be killed and stopped. Requests come at a steady pace whatever
//! becomes of the others, and their time counts from when they were due. All of it shares one machine, so only what was
//! measured in one run may be compared.

mod chart;
mod load;
mod origin;
mod proxies;

use load::{Answer, Load, percentile};
use origin::Origin;
use proxies::{Balancing, Proxy};
use std::{collections::BTreeMap, path::PathBuf, time::Duration};

const RATE: u32 = 300;
const SLOW: Duration = Duration::from_millis(200);
/// What a server that hangs is waited for, and beyond which a request counts as held up by it.
const PATIENCE: Duration = Duration::from_secs(1);
const SECOND: Duration = Duration::from_secs(1);

fn main() {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    if let [flag, name] = arguments.as_slice()
        && flag == origin::FLAG
    {
        return origin::serve(name);
    }
    let chart =
        arguments.iter().position(|argument| argument == "--chart").map(|index| PathBuf::from(&arguments[index + 1]));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let haproxy = proxies::has_haproxy();
    if !haproxy {
        println!("HAProxy is not installed, so there is nothing to compare with: apt-get install haproxy\n");
    }
    println!("3 servers, {RATE} requests a second, checks every 200 ms that fail three times; times in ms\n");
    runtime.block_on(async {
        shares(haproxy).await;
        killed(haproxy).await;
        stopped(haproxy).await;
        slow(haproxy).await;
        if let Some(chart) = chart {
            draw(&chart).await;
        }
    });
}

/// Both proxies, or only ours.
fn proxies(haproxy: bool, balancing: [Balancing; 2]) -> Vec<(&'static str, Balancing)> {
    let both = [("Belay", balancing[0]), ("HAProxy", balancing[1])];
    both.into_iter().filter(|(name, _)| haproxy || *name == "Belay").collect()
}

async fn start(name: &str, balancing: Balancing, weights: [u32; 3]) -> (Proxy, [Origin; 3]) {
    let origins = ["a", "b", "c"].map(Origin::start);
    let proxy = Proxy::start(name == "HAProxy", balancing, &origins, weights);
    proxy.warm_up().await;
    (proxy, origins)
}

fn counts(answers: &[Answer]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for server in answers.iter().filter_map(|answer| answer.server.clone()) {
        *counts.entry(server).or_default() += 1;
    }
    counts
}

async fn shares(haproxy: bool) {
    println!("Shares of 2400 requests, round robin with the weights 3, 2 and 1");
    for (name, balancing) in proxies(haproxy, [Balancing::RoundRobin; 2]) {
        let (proxy, _origins) = start(name, balancing, [30, 20, 10]).await;
        let answers = Load::new(&proxy, 2 * RATE).run(4 * SECOND).await;
        println!("  {name:8} {}", shown(&counts(&answers)));
    }
    println!();
}

fn shown(counts: &BTreeMap<String, usize>) -> String {
    counts.iter().map(|(server, count)| format!("{server} {count}  ")).collect()
}

async fn killed(haproxy: bool) {
    println!("One of three servers is killed (SIGKILL)");
    println!("  {:8} {:>8} {:>8} {:>8} {:>20}", "", "failed", "p99", "slowest", "last one affected at");
    for (name, balancing) in proxies(haproxy, [Balancing::RoundRobin; 2]) {
        let (proxy, [victim, _second, _third]) = start(name, balancing, [100; 3]).await;
        let load = Load::new(&proxy, RATE);
        let (answers, ()) = tokio::join!(load.run(5 * SECOND), async {
            tokio::time::sleep(SECOND).await;
            drop(victim);
        });
        let failed = answers.iter().filter(|answer| answer.server.is_none()).count();
        let usual = percentile(answers.iter().filter(|answer| answer.due < SECOND), 99) * 3;
        let affected =
            answers.iter().filter(|answer| answer.due > SECOND && (answer.server.is_none() || answer.took > usual));
        let last = affected.map(|answer| answer.due - SECOND).max().unwrap_or_default();
        let after = || answers.iter().filter(|answer| answer.due > SECOND);
        println!(
            "  {name:8} {failed:>8} {:>8} {:>8} {:>20}",
            millis(percentile(after(), 99)),
            millis(percentile(after(), 100)),
            millis(last)
        );
    }
    println!();
}

/// What a stopped server did to requests.
struct Stopped {
    failed: usize,
    held_up: usize,
    before: Duration,
    after: Duration,
}

impl Stopped {
    fn ratio(&self) -> f64 {
        self.after.as_secs_f64() / self.before.as_secs_f64()
    }
}

async fn stopped(haproxy: bool) {
    println!("One of three servers stops (SIGSTOP): it takes connections and never answers; the middle one of 5 runs");
    let heads = ["failed", "held up", "others' p99 before", "after", "ratio"];
    println!("  {:8} {:>8} {:>8} {:>20} {:>8} {:>8}", "", heads[0], heads[1], heads[2], heads[3], heads[4]);
    for (name, balancing) in proxies(haproxy, [Balancing::RoundRobin; 2]) {
        let mut runs = Vec::new();
        for _ in 0..5 {
            runs.push(stop_one(name, balancing).await);
        }
        runs.sort_by(|one, other| one.ratio().total_cmp(&other.ratio()));
        let run = &runs[2];
        let (failed, held_up, before, after) = (run.failed, run.held_up, millis(run.before), millis(run.after));
        println!("  {name:8} {failed:>8} {held_up:>8} {before:>20} {after:>8} {:>8.2}", run.ratio());
    }
    println!();
}

async fn stop_one(name: &str, balancing: Balancing) -> Stopped {
    let stops_at = 3 * SECOND;
    let (proxy, [victim, _second, _third]) = start(name, balancing, [100; 3]).await;
    let load = Load::new(&proxy, RATE);
    let (answers, ()) = tokio::join!(load.run(2 * stops_at), async {
        tokio::time::sleep(stops_at).await;
        victim.stop();
    });
    // Whom the stopped one has taken with it is waited for in vain once.
    let held_up = |answer: &&Answer| answer.took >= PATIENCE;
    let others = answers.iter().filter(|answer| answer.due >= stops_at && !held_up(answer));
    Stopped {
        failed: answers.iter().filter(|answer| answer.server.is_none()).count(),
        held_up: answers.iter().filter(held_up).count(),
        before: percentile(answers.iter().filter(|answer| answer.due < stops_at && !held_up(answer)), 99),
        after: percentile(others, 99),
    }
}

async fn slow(haproxy: bool) {
    println!("One of three servers takes {} ms instead of 2", SLOW.as_millis());
    println!("  {:28} {:>8} {:>8} {:>8}   its share", "", "p50", "p90", "p99");
    let mut all = proxies(haproxy, [Balancing::RoundRobin; 2]);
    all.extend(proxies(haproxy, [Balancing::LeastConnections; 2]));
    all.push(("Belay", Balancing::LeastLatency));
    for (name, balancing) in all {
        let (proxy, [snail, _second, _third]) = start(name, balancing, [100; 3]).await;
        snail.delay(SLOW).await;
        let answers = Load::new(&proxy, RATE).run(5 * SECOND).await;
        // It has to be found out first.
        let found_out = || answers.iter().filter(|answer| answer.due > SECOND);
        let figures = [50, 90, 99].map(|percent| millis(percentile(found_out(), percent)));
        let its = found_out().filter(|answer| answer.server.as_deref() == Some("a")).count();
        let label = format!("{name}, {}", balancing.words());
        let share = 100.0 * its as f64 / found_out().count() as f64;
        println!("  {label:28} {:>8} {:>8} {:>8}   {share:.1} %", figures[0], figures[1], figures[2]);
    }
    println!();
}

/// Latency over time while a server slows down and heals, for two ways of balancing.
async fn draw(file: &std::path::Path) {
    let mut lines = Vec::new();
    for balancing in [Balancing::RoundRobin, Balancing::LeastLatency] {
        let (proxy, [snail, _second, _third]) = start("Belay", balancing, [100; 3]).await;
        let load = Load::new(&proxy, RATE);
        let (answers, ()) = tokio::join!(load.run(chart::LENGTH), async {
            tokio::time::sleep(chart::SLOWS_AT).await;
            snail.delay(SLOW).await;
            tokio::time::sleep(chart::HEALS_AT - chart::SLOWS_AT).await;
            snail.delay(origin::USUAL_DELAY).await;
        });
        lines.push((balancing.words(), chart::points(&answers)));
    }
    std::fs::write(file, chart::draw(&lines)).unwrap();
    println!("Latency over time while that server slows down and heals: {}", file.display());
}

fn millis(time: Duration) -> String {
    format!("{:.1}", time.as_secs_f64() * 1000.0)
}
