//! What is measured.

use super::Rounds;
use super::contenders::{Contender, MANY, PLUGINS, Running, Setup};
use super::figures::{Figures, Idle, Row, Spread, micros};
use super::load::{self, Ask, Clients, Outcome, Pace};
use super::process;
use super::site::Site;
use belay::identity::Algorithm;
use bytes::Bytes;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::time;

/// Something that a load balancer does all day.
#[derive(Debug)]
pub struct Job {
    pub name: &'static str,
    about: String,
    ask: Ask,
    pub setup: Setup,
    connections: usize,
    /// In a round, as fast as it goes.
    requests: usize,
    /// In a round at a steady pace, in a second.
    pace: u32,
}

/// What one round of a job brought.
#[derive(Debug, Clone, Copy)]
pub struct Measured {
    /// Microseconds a request.
    cpu: f64,
    rate: f64,
    /// Microseconds within which 500, 990 and 999 of a thousand were answered.
    times: [f64; 3],
}

/// A round's requests: those that come as fast as they go, and those that come at a steady pace.
pub struct Requests([Arc<[Bytes]>; 2]);

impl Job {
    /// All of them.
    pub fn all() -> Vec<Self> {
        let job = |name, about: &str, ask| Self {
            name,
            about: about.to_owned(),
            ask,
            setup: Setup::Usual,
            connections: 32,
            requests: 20_000,
            pace: 3_000,
        };
        let small = Ask::Plain { large: false };
        let connections = |name, about: &str, resumed| Self {
            connections: 8,
            requests: 800,
            pace: 200,
            ..job(name, about, Ask::NewConnection { resumed })
        };
        let token = |name, algorithm, requests| Self {
            requests,
            pace: 600,
            ..job(
                name,
                &format!("mutual TLS and a token ({algorithm}) for every request, each used once"),
                Ask::Token(algorithm),
            )
        };
        vec![
            job("plain", "HTTP/1.1, kept connections, answers of 128 B", small),
            job("plain-large", "the same with answers of 10 KiB", Ask::Plain { large: true }),
            job("mtls", "HTTP/1.1 over mutual TLS, kept connections", Ask::Mtls),
            connections("connections", "a new connection by mutual TLS for each request, none resumed", false),
            connections("resumed", "the same, and all of them resumed by a ticket", true),
            token("es256", Algorithm::Es256, 5_000),
            token("eddsa", Algorithm::EdDsa, 5_000),
            token("rs256", Algorithm::Rs256, 3_000),
            token("hs256", Algorithm::Hs256, 10_000),
            Self {
                connections: 4,
                ..job("http2", "HTTP/2 over mutual TLS, 8 requests at once on each connection", Ask::Http2)
            },
            Self { setup: Setup::ManyRoutes, ..job("routes", &format!("plain, one of {MANY} routes"), Ask::Routed) },
            Self {
                setup: Setup::Plugins,
                ..job("plugins", &format!("plain, through {PLUGINS} plugins that count requests"), small)
            },
        ]
    }

    /// Whether that one has what it takes.
    pub fn can_be_done_by(&self, contender: Contender) -> bool {
        match (self.ask, contender) {
            (_, Contender::Belay) => true,
            (_, _) if self.setup == Setup::Plugins => false,
            (Ask::Token(algorithm), Contender::HaProxy) => algorithm != Algorithm::EdDsa,
            (Ask::Token(_), Contender::Nginx) => false,
            (_, Contender::HaProxy | Contender::Nginx) => true,
        }
    }

    /// Made before the clock runs.
    pub fn requests(&self, site: &Site, is_warm_up: bool) -> Requests {
        let share = if is_warm_up { 10 } else { 1 };
        let counts = [self.requests, self.pace as usize];
        Requests(counts.map(|count| self.ask.requests(count / share, site)))
    }

    /// Waits until the job is done well: tokens are refused for some seconds after a start, since an earlier process may
    /// have seen them.
    ///
    /// # Errors
    /// The last failure.
    pub async fn is_done(&self, running: &Running, site: &Site) -> Result<(), String> {
        const WITHIN: Duration = Duration::from_secs(60);
        let started = Instant::now();
        loop {
            match self.ask_in_turn(1, running, site).await {
                Err(_) if started.elapsed() < WITHIN => time::sleep(Duration::from_millis(200)).await,
                done => return done,
            }
        }
    }

    /// Sends so many requests by one connection, one after the other.
    ///
    /// # Errors
    /// The first failure of a request.
    pub async fn ask_in_turn(&self, count: usize, running: &Running, site: &Site) -> Result<(), String> {
        let clients = Clients::connect(self.ask, 1, running, site).await?;
        good(clients.run(&self.ask.requests(count, site), Pace::Closed).await).map(drop)
    }

    /// Sends a round's requests as fast as it goes; how many they are.
    ///
    /// # Errors
    /// The first failure of a request.
    pub async fn ask_fast(&self, running: &Running, site: &Site) -> Result<usize, String> {
        let clients = Clients::connect(self.ask, self.connections, running, site).await?;
        good(clients.run(&self.ask.requests(self.requests, site), Pace::Closed).await)?;
        Ok(self.requests)
    }

    /// # Errors
    /// The first failure of a request.
    pub async fn measure(&self, running: &Running, site: &Site, requests: &Requests) -> Result<Measured, String> {
        let Requests([fast, steady]) = requests;
        let clients = Clients::connect(self.ask, self.connections, running, site).await?;
        let before = process::cpu(&running.workers);
        let outcome = good(clients.run(fast, Pace::Closed).await)?;
        let cpu = micros(process::cpu(&running.workers) - before) / fast.len() as f64;
        let rate = fast.len() as f64 / outcome.took.as_secs_f64();
        let clients = Clients::connect(self.ask, self.connections, running, site).await?;
        let mut outcome = good(clients.run(steady, Pace::Steady(self.pace)).await)?;
        Ok(Measured { cpu, rate, times: [500, 990, 999].map(|part| micros(outcome.percentile(part))) })
    }
}

fn good(outcome: Outcome) -> Result<Outcome, String> {
    outcome.failures.first().map_or(Ok(()), |failure| Err(failure.clone())).map(|()| outcome)
}

/// All rounds as rows: of each job, of each who took part.
pub fn rows(jobs: &[Job], contenders: &[Contender], rounds: &Rounds) -> Vec<Row> {
    let row = |job: &Job, contender: Contender| {
        let measured = rounds.get(&(job.name, contender));
        let theirs = rounds.get(&(job.name, Contender::HaProxy)).and_then(|rounds| rounds.as_ref().ok());
        let void = match measured {
            None => Some("cannot do it".to_owned()),
            Some(Err(failure)) => Some(failure.clone()),
            Some(Ok(_)) => None,
        };
        let figures = measured.and_then(|measured| figures(job, measured.as_ref().ok()?, theirs));
        Row { job: job.name.to_owned(), about: job.about.clone(), contender: contender.to_string(), void, figures }
    };
    jobs.iter().flat_map(|job| contenders.iter().map(move |contender| row(job, *contender))).collect()
}

fn figures(job: &Job, rounds: &[Measured], theirs: Option<&Vec<Measured>>) -> Option<Figures> {
    let of = |figure: fn(&Measured) -> f64| Spread::of(rounds.iter().map(figure));
    let ratios = |theirs: &Vec<Measured>| Spread::of(rounds.iter().zip(theirs).map(|(own, their)| own.cpu / their.cpu));
    Some(Figures {
        cpu: of(|measured| measured.cpu)?,
        ratio: theirs.and_then(ratios),
        rate: of(|measured| measured.rate)?,
        p50: of(|measured| measured.times[0])?,
        p99: of(|measured| measured.times[1])?,
        p999: of(|measured| measured.times[2])?,
        pace: job.pace,
    })
}

/// What idle connections cost, and whether they live.
///
/// # Errors
/// The first failure.
pub async fn idle(contender: Contender, count: usize, site: &Site, origin: &str) -> Result<Idle, String> {
    const PACE: u32 = 3_000;
    let running = Running::start(contender, Setup::Usual, site, origin).await?;
    let ask = Ask::Plain { large: false };
    let requests = ask.requests(5 * PACE as usize, site);
    let ask_steadily = async || -> Result<[f64; 2], String> {
        let clients = Clients::connect(ask, 32, &running, site).await?;
        let before = process::cpu(&running.workers);
        let mut outcome = good(clients.run(&requests, Pace::Steady(PACE)).await)?;
        let cpu = micros(process::cpu(&running.workers) - before) / requests.len() as f64;
        Ok([micros(outcome.percentile(990)), cpu])
    };
    // What the first connections and requests need once.
    drop(load::Idle::open(100, &running, site).await?);
    let without = ask_steadily().await?;
    let before = process::memory(&running.workers);
    let idle = load::Idle::open(count, &running, site).await?;
    let bytes = process::memory(&running.workers).saturating_sub(before) / count as u64;
    let with = ask_steadily().await?;
    Ok(Idle {
        contender: contender.to_string(),
        void: None,
        connections: count,
        bytes,
        dead: idle.dead(site).await,
        p99: [without[0], with[0]],
        cpu: [without[1], with[1]],
    })
}
