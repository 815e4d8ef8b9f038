#![expect(clippy::unwrap_used, reason = "a bench that cannot set up has nothing to measure")]
#![expect(clippy::indexing_slicing, reason = "a bench that reads too far has failed")]
#![expect(clippy::cast_precision_loss, reason = "figures are rounded anyway")]
#![expect(unreachable_pub, reason = "what its parts share is public to them")]
#![expect(clippy::print_stdout, reason = "its figures are its output")]
//! Belay beside HAProxy and nginx: the same jobs, the same certificates, on one machine in one run.
//!
//! `cargo bench --bench compare`, and `-- --help` says what else it can do.
//!
//! The load balancer has a core of its own; clients and the origin have the others. Rounds take turns, so that whatever
//! the machine does meanwhile does it to all. The figure to quote is the CPU time that the kernel charges to the load
//! balancer, and its ratio to HAProxy's in the same round. One failed request voids a row. `BELAY`, `HAPROXY` and
//! `NGINX` name other programs than the usual ones, and `BELAY_BUILD` says in a few words how Belay was built.

mod chart;
mod contenders;
mod figures;
mod instructions;
mod jobs;
mod load;
mod origin;
mod page;
mod process;
mod site;

use clap::Parser;
use contenders::{Contender, Running, Setup};
use figures::{Idle, Machine, Participant, Row, Run};
use jobs::{Job, Measured};
use process::Cores;
use site::Site;
use std::{
    collections::{HashMap, hash_map::Entry},
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

/// Connections that do nothing.
const IDLE: usize = 10_000;

/// Open files that everybody gets: a load balancer holds two connections for one that is served.
const FILES: u64 = 60_000;

/// Belay beside HAProxy and nginx: CPU per request, throughput, latency, and what idle connections cost.
#[derive(Debug, Parser)]
#[command(
    bin_name = "cargo bench --bench compare --",
    after_help = "BELAY, HAPROXY and NGINX name other programs than the usual ones (one that is not there is left out), and \
                  BELAY_BUILD says in a few words how Belay was built."
)]
struct Options {
    /// Rounds that count; one more before them warms up.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=100))]
    rounds: u16,
    /// Only jobs that have this in their names.
    #[arg(long, value_name = "WORD", value_parser = of_a_job)]
    only: Option<String>,
    /// Where the figures go.
    #[arg(long, value_name = "FILE", default_value = "target/compare.json")]
    json: PathBuf,
    /// Where the page goes, and the chart beside it.
    #[arg(long, value_name = "FILE")]
    page: Option<PathBuf>,
    /// Ask Belay for one job until this is stopped, for profilers.
    #[arg(long, value_name = "JOB", value_parser = of_a_job)]
    hold: Option<String>,
    /// Count instructions per request by callgrind, and fail if they have grown.
    #[arg(long)]
    instructions: bool,
    /// Write the counts down.
    #[arg(long, requires = "instructions")]
    bless: bool,
    /// Where callgrind's own files go.
    #[arg(long, value_name = "FOLDER", requires = "instructions")]
    keep: Option<PathBuf>,
    /// Cargo says that this is a bench.
    #[arg(long, hide = true)]
    bench: bool,
}

/// What stands in some job's name.
fn of_a_job(word: &str) -> Result<String, String> {
    let names: Vec<_> = Job::all().iter().map(|job| job.name).collect();
    let is_known = names.iter().any(|name| name.contains(word));
    if is_known {
        Ok(word.to_owned())
    } else {
        Err(format!("no job is called like that; there are {}", names.join(", ")))
    }
}

fn main() -> ExitCode {
    let options = Options::parse();
    if options.instructions {
        return count_instructions(&options);
    }
    if let Some(job) = &options.hold {
        return hold(job);
    }
    let contenders = present();
    let (cores, files) = (Cores::count(), process::open_files(FILES));
    if cores < 2 {
        println!("There is one core only, so clients and load balancer share it: latencies mean little.");
    }
    let _cores = Cores::Everybody.enter();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let run = runtime.block_on(async {
        tokio::spawn(never_sleep());
        let site = Site::new();
        let origin = origin::start().await;
        let rows = Bench { site: &site, origin: &origin, contenders: &contenders }.rows(&options).await;
        let idle = if options.only.is_none() && files > IDLE as u64 + 1_000 {
            idle(&site, &origin, &contenders).await
        } else {
            println!("Idle connections were not measured: that takes {IDLE} open files and more, and all jobs.");
            Vec::new()
        };
        let contenders = contenders.iter().map(|contender| participant(*contender)).collect();
        Run { date: figures::today(), machine: machine(cores), rounds: options.rounds.into(), contenders, rows, idle }
    });
    println!("\n{}", page::tables(&run));
    save(&options.json, &(serde_json::to_string_pretty(&run).unwrap() + "\n"));
    if let Some(page) = &options.page {
        println!("for the README:\n\n{}\n", page::claim(&run));
        save(page, &page::page(&run));
        save(&page.with_extension("svg"), &chart::draw(&run));
    }
    ExitCode::SUCCESS
}

/// Asks for one job as fast as it goes.
fn hold(word: &str) -> ExitCode {
    let Some(job) = Job::all().into_iter().find(|job| job.name.contains(word)) else { return ExitCode::FAILURE };
    let _cores = Cores::Everybody.enter();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let failure = runtime.block_on(async {
        tokio::spawn(never_sleep());
        let (site, origin) = (Site::new(), origin::start().await);
        let running = Running::start(Contender::Belay, job.setup, &site, &origin).await?;
        job.is_done(&running, &site).await?;
        println!("process {:?} is asked for {}", running.workers, job.name);
        loop {
            let before = process::cpu(&running.workers);
            let count = job.ask_fast(&running, &site).await?;
            let cpu = figures::micros(process::cpu(&running.workers) - before);
            println!("{:.1} µs of CPU a request", cpu / count as f64);
        }
    });
    let failure: Result<(), String> = failure;
    println!("{}", failure.err().unwrap_or_default());
    ExitCode::FAILURE
}

/// Fails if a request takes more instructions than is written down.
fn count_instructions(options: &Options) -> ExitCode {
    if !instructions::can_count() {
        println!("valgrind is not installed, so instructions cannot be counted: apt-get install valgrind");
        return ExitCode::FAILURE;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let counted = runtime.block_on(async {
        let (site, origin) = (Site::new(), origin::start().await);
        instructions::compare(&site, &origin, options.bless, options.keep.as_deref()).await
    });
    match counted {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            println!("{why}");
            ExitCode::FAILURE
        }
    }
}

/// Keeps clients and origin awake: waking another core is dear on a virtual machine, and would be charged to who sends,
/// the more the slower he is.
async fn never_sleep() {
    loop {
        tokio::task::yield_now().await;
    }
}

fn save(file: &Path, text: &str) {
    fs::write(file, text).unwrap();
    println!("written: {}", file.display());
}

/// Who is there; says who is not.
fn present() -> Vec<Contender> {
    let present = |contender: &Contender| {
        let version = contender.version();
        match &version {
            Some(version) => println!("{contender:8} {version}: {}", contender.program().display()),
            None => println!("{contender:8} is not installed and takes no part: apt-get install haproxy nginx-light"),
        }
        version.is_some()
    };
    Contender::ALL.into_iter().filter(present).collect()
}

fn participant(contender: Contender) -> Participant {
    Participant {
        name: contender.to_string(),
        version: contender.version().unwrap_or_default(),
        cryptography: contender.cryptography(),
        build: (contender == Contender::Belay).then(|| contenders::environment("BELAY_BUILD")).flatten(),
        config: contender.template().to_owned(),
    }
}

fn machine(cores: u32) -> Machine {
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let kernel = kernel.split('-').next().unwrap_or_default().trim().to_owned();
    Machine { processor: processor(), cores, kernel }
}

fn processor() -> String {
    let about = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = about.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    model.map_or_else(|| "unknown".to_owned(), |(_, model)| model.to_owned())
}

struct Bench<'a> {
    site: &'a Site,
    origin: &'a str,
    contenders: &'a [Contender],
}

/// What was measured of each job of each, round by round.
type Rounds = HashMap<(&'static str, Contender), Result<Vec<Measured>, String>>;
/// Those that run.
type Balancers = HashMap<(Contender, Setup), Running>;

impl Bench<'_> {
    async fn rows(&self, options: &Options) -> Vec<Row> {
        let jobs = Job::all().into_iter();
        let jobs: Vec<_> =
            jobs.filter(|job| options.only.as_ref().is_none_or(|only| job.name.contains(only))).collect();
        let mut balancers = Balancers::new();
        let mut rounds = Rounds::new();
        // The first round only warms up.
        for round in 0..=options.rounds {
            println!("round {round} of {}{}", options.rounds, if round == 0 { ", to warm up" } else { "" });
            for job in &jobs {
                self.measure(job, round, &mut balancers, &mut rounds).await;
            }
        }
        jobs::rows(&jobs, self.contenders, &rounds)
    }

    /// One job of all who can do it, in turns.
    async fn measure(&self, job: &Job, round: u16, balancers: &mut Balancers, rounds: &mut Rounds) {
        let able: Vec<_> = self.contenders.iter().copied().filter(|contender| job.can_be_done_by(*contender)).collect();
        for contender in &able {
            if let Err(failure) = self.start(job, *contender, balancers).await {
                fails(job, *contender, failure, rounds);
            }
        }
        // Each has a store of used tokens of its own, so all are sent the same.
        let requests = job.requests(self.site, round == 0);
        for place in 0..able.len() {
            let contender = able[(place + usize::from(round)) % able.len()];
            if rounds.get(&(job.name, contender)).is_some_and(Result::is_err) {
                continue;
            }
            let Some(balancer) = balancers.get(&(contender, job.setup)) else { continue };
            match job.measure(balancer, self.site, &requests).await {
                Ok(_) if round == 0 => {}
                Ok(measured) => {
                    let kept = rounds.entry((job.name, contender)).or_insert_with(|| Ok(Vec::new()));
                    kept.iter_mut().for_each(|kept| kept.push(measured));
                }
                Err(failure) => fails(job, contender, failure, rounds),
            }
        }
    }

    /// Starts it, unless it runs, and waits until it does the job.
    async fn start(&self, job: &Job, contender: Contender, balancers: &mut Balancers) -> Result<(), String> {
        let balancer = match balancers.entry((contender, job.setup)) {
            Entry::Occupied(balancer) => balancer.into_mut(),
            Entry::Vacant(place) => place.insert(Running::start(contender, job.setup, self.site, self.origin).await?),
        };
        job.is_done(balancer, self.site).await
    }
}

/// One failure, and all that it has done of the job counts for nothing.
fn fails(job: &Job, contender: Contender, failure: String, rounds: &mut Rounds) {
    if !rounds.get(&(job.name, contender)).is_some_and(Result::is_err) {
        println!("  {contender} fails at {}: {failure}", job.name);
        rounds.insert((job.name, contender), Err(failure));
    }
}

/// Ten thousand idle connections by mutual TLS while plain requests go on.
async fn idle(site: &Site, origin: &str, contenders: &[Contender]) -> Vec<Idle> {
    let mut all = Vec::new();
    for contender in contenders {
        println!("{IDLE} idle connections to {contender}");
        let idle = jobs::idle(*contender, IDLE, site, origin).await;
        all.push(idle.unwrap_or_else(|failure| Idle {
            contender: contender.to_string(),
            void: Some(failure),
            connections: IDLE,
            bytes: 0,
            dead: 0,
            p99: [0.0; 2],
            cpu: [0.0; 2],
        }));
    }
    all
}
