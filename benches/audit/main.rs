#![expect(clippy::unwrap_used, reason = "a bench that cannot set up has nothing to measure")]
#![expect(clippy::indexing_slicing, reason = "a bench that reads too far has failed")]
#![expect(clippy::cast_precision_loss, reason = "figures are rounded anyway")]
#![expect(clippy::print_stdout, reason = "its figures are its output")]
//! What a record costs: the event loop that hands it over, the thread that writes it, and the request that waits for it,
//! by durability; how many there can be; and how long a proof of a million takes. `cargo bench --bench audit`.
//!
//! The event loop's part is the time between calling the journal and having the call back, so it is an upper bound that
//! holds whatever else took the core meanwhile; the median of many calls. CPU is what the kernel has charged to each thread.

mod record;

use belay::audit::{Record, Sealer};
use belay::clock::{Clock, System};
use belay::config::{Durability, OnFailure};
use belay::journal::{Journal, Opening, Settings};
use belay::metrics::{Audit, Metrics};
use belay::name::NodeName;
use belay::request::Id;
use record::decision;
use std::{
    fs::{self, File},
    io::{BufWriter, Write},
    path::Path,
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

/// Requests at once.
const CLIENTS: usize = 32;
/// Requests that each makes in a row, before it rests.
const ROW: usize = 10;
/// So that there are 32,000 requests a second, if the disk allows it.
const REST: Duration = Duration::from_millis(10);
const ROUND: Duration = Duration::from_secs(3);
const SUSTAINED_RATE: u32 = 100_000;
const SUSTAINED_FOR: Duration = Duration::from_secs(10);
const MILLION: usize = 1_000_000;

fn main() {
    let folder = tempfile::tempdir().unwrap();
    println!(
        "by durability: {CLIENTS} clients, {ROW} requests in a row and {} ms of rest, for {} s",
        REST.as_millis(),
        ROUND.as_secs()
    );
    println!("  durability  records/s  waits p50 µs  waits p99 µs  loop ns/record  writer CPU µs/record");
    for (name, durability) in
        [("queued", Durability::Queued), ("written", Durability::Written), ("synced", Durability::Synced)]
    {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(by_durability(name, durability, folder.path()));
    }
    sustained(folder.path());
    proof(folder.path());
}

fn settings(durability: Durability) -> Settings {
    Settings { durability, on_failure: OnFailure::Refuse, ..Settings::default() }
}

fn open(folder: &Path, name: &str, durability: Durability) -> (Journal, Audit) {
    let metrics = Metrics::new().unwrap().audit();
    let file = folder.join(format!("{name}.jsonl"));
    let sealer = Sealer::new(NodeName::parse("bench").unwrap(), Id::random());
    let opening = Opening {
        file: &file,
        checkpoints: None,
        settings: settings(durability),
        sealer,
        clock: Arc::new(System),
        metrics: metrics.clone(),
    };
    (Journal::open(opening).unwrap(), metrics)
}

async fn by_durability(name: &str, durability: Durability, folder: &Path) {
    let (journal, metrics) = open(folder, name, durability);
    let journal = Arc::new(journal);
    let (cpu, end) = (cpu_of("audit"), Instant::now() + ROUND);
    let clients: Vec<_> = (0..CLIENTS).map(|_| tokio::spawn(client(Arc::clone(&journal), end))).collect();
    let (mut waits, mut calls) = (Vec::new(), Vec::new());
    for client in clients {
        let (waited, called) = client.await.unwrap();
        waits.extend(waited);
        calls.extend(called);
    }
    journal.flush();
    let cpu = cpu_of("audit").saturating_sub(cpu);
    let records = metrics.written.get();
    assert_eq!(metrics.lost.get(), 0, "a record was lost");
    let rate = records as f64 / ROUND.as_secs_f64();
    let micros = |share: usize| at(&mut waits.clone(), share).as_nanos() as f64 / 1000.0;
    println!(
        "  {name:10}  {rate:9.0}  {:12.1}  {:12.1}  {:14}  {:20.2}",
        micros(50),
        micros(99),
        at(&mut calls, 50).as_nanos(),
        cpu.as_secs_f64() * 1e6 / records as f64
    );
}

/// Requests, one after the other: how long each has waited for its record, and how long each call took.
async fn client(journal: Arc<Journal>, end: Instant) -> (Vec<Duration>, Vec<Duration>) {
    let (mut waits, mut calls) = (Vec::new(), Vec::new());
    while Instant::now() < end {
        let (record, outcome) = (decision(System.now()), decision(System.now()));
        let before = Instant::now();
        let recorded = journal.decision(record).unwrap();
        calls.push(before.elapsed());
        recorded.safely().await.unwrap();
        waits.push(before.elapsed());
        let before = Instant::now();
        journal.note(Record::Decision(outcome));
        calls.push(before.elapsed());
        tokio::task::yield_now().await;
        if waits.len() % ROW == 0 {
            tokio::time::sleep(REST).await;
        }
    }
    (waits, calls)
}

/// As many records a second as may be for a while, none of them lost.
fn sustained(folder: &Path) {
    let (journal, metrics) = open(folder, "sustained", Durability::Queued);
    let (cpu, began) = (cpu_of("audit"), Instant::now());
    let mut sent: u32 = 0;
    while began.elapsed() < SUSTAINED_FOR {
        let due = (began.elapsed().as_secs_f64() * f64::from(SUSTAINED_RATE)).floor();
        while f64::from(sent) < due {
            // What finds no room is counted.
            drop(journal.decision(decision(System.now())));
            sent += 1;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    journal.flush();
    let (took, cpu) = (began.elapsed(), cpu_of("audit").saturating_sub(cpu));
    println!(
        "sustained, queued: {:.0} records/s for {:.1} s, {} lost, the writer at {:.0} % of a core",
        f64::from(sent) / took.as_secs_f64(),
        took.as_secs_f64(),
        metrics.lost.get(),
        100.0 * cpu.as_secs_f64() / took.as_secs_f64()
    );
}

/// A log of a million records, proven by the command.
fn proof(folder: &Path) {
    let file = folder.join("million.jsonl");
    let mut sealer = Sealer::new(NodeName::parse("bench").unwrap(), Id::random());
    let mut to = BufWriter::new(File::create(&file).unwrap());
    let mut line = Vec::new();
    for _ in 0..MILLION {
        line.clear();
        sealer.seal(&Record::Decision(decision(System.now())), &mut line).unwrap();
        to.write_all(&line).unwrap();
    }
    to.flush().unwrap();
    let size = fs::metadata(&file).unwrap().len() / 1_000_000;
    for (what, arguments) in [("verify", &["audit", "verify"][..]), ("query", &["audit", "query", "--status", "503"])] {
        let began = Instant::now();
        let output = Command::new(env!("CARGO_BIN_EXE_belay")).args(arguments).arg(&file).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        println!("{what} of a million records ({size} MB): {:.1} s", began.elapsed().as_secs_f64());
    }
}

fn at(times: &mut [Duration], share: usize) -> Duration {
    times.sort_unstable();
    times[(times.len() * share / 100).min(times.len() - 1)]
}

/// What the kernel has charged to this process's threads of that name.
fn cpu_of(name: &str) -> Duration {
    let tasks = fs::read_dir("/proc/self/task").unwrap().filter_map(Result::ok);
    let mut ticks = 0;
    for task in tasks {
        let stat = fs::read_to_string(task.path().join("stat")).unwrap_or_default();
        let Some((head, rest)) = stat.rsplit_once(") ") else { continue };
        if head.ends_with(&format!("({name}")) {
            let fields: Vec<u64> = rest.split(' ').skip(11).take(2).map(|field| field.parse().unwrap()).collect();
            ticks += fields.iter().sum::<u64>();
        }
    }
    // The kernel counts 100 of them a second, whatever its own clock does.
    Duration::from_millis(ticks * 10)
}
