//! What the kernel tells of processes, and on which core they run.

use nix::time::ClockId;
use nix::unistd::Pid;
use rustix::process::{Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::{fs, process::Child, time::Duration};

/// Who runs where, so that clients and origin take no time from who is measured.
#[derive(Debug, Clone, Copy)]
pub enum Cores {
    /// The first.
    Balancer,
    /// All others.
    Everybody,
}

/// On these cores until this is dropped.
pub struct Entered(CpuSet);

impl Cores {
    /// How many there are.
    pub fn count() -> u32 {
        sched_getaffinity(None).map_or(1, |set| set.count())
    }

    /// This thread, and whatever it starts, runs there from now on.
    pub fn enter(self) -> Entered {
        let before = sched_getaffinity(None).unwrap();
        let mut set = CpuSet::new();
        let available: Vec<_> = (0..CpuSet::MAX_CPU).filter(|core| ALL.with(|all| all.is_set(*core))).collect();
        let (first, others) = available.split_at(1);
        let chosen = match self {
            Self::Everybody if !others.is_empty() => others,
            Self::Everybody | Self::Balancer => first,
        };
        chosen.iter().for_each(|core| set.set(*core));
        sched_setaffinity(None, &set).unwrap();
        Entered(before)
    }
}

thread_local! {
    /// The cores that there were at the beginning.
    static ALL: CpuSet = sched_getaffinity(None).unwrap();
}

impl Drop for Entered {
    fn drop(&mut self) {
        sched_setaffinity(None, &self.0).unwrap();
    }
}

/// The processes that work for this one: its children, or itself.
pub fn workers(pid: u32) -> Vec<u32> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let children: Vec<_> = children.split_whitespace().map(|child| child.parse().unwrap()).collect();
    if children.is_empty() { vec![pid] } else { children }
}

/// The time that the kernel has charged to them, user and system.
pub fn cpu(workers: &[u32]) -> Duration {
    let spent = |pid: &u32| {
        let clock = ClockId::pid_cpu_clock_id(Pid::from_raw((*pid).try_into().unwrap())).unwrap();
        Duration::from(clock.now().unwrap())
    };
    workers.iter().map(spent).sum()
}

/// What they hold of the memory, in bytes.
pub fn memory(workers: &[u32]) -> u64 {
    let resident = |pid: &u32| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.split_whitespace().next().unwrap().parse::<u64>().unwrap() * 1024
    };
    workers.iter().map(resident).sum()
}

/// Asks a process to end.
pub fn end(process: &Child) {
    if let Some(pid) = rustix::process::Pid::from_raw(process.id().try_into().unwrap()) {
        kill_process(pid, Signal::TERM).unwrap_or_default();
    }
}

/// Lets so many files be open, here and in what is started, or as many as may be; how many that is.
pub fn open_files(wanted: u64) -> u64 {
    let allow = |maximum| setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    if allow(Some(wanted)).is_err() {
        // Only who may do everything may allow himself more.
        allow(getrlimit(Resource::Nofile).maximum).unwrap_or_default();
    }
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}
