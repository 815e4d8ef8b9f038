//! A change of the config: read, bound, built, and then live at once; or refused, and nothing has happened.

use super::sockets::{Opening, Sockets};
use crate::admin::Answer;
use crate::audit::Cause;
use crate::config::{self, Checked, Config, Finding};
use crate::filter;
use crate::runtime::{Change, Live, Stored};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};
use tokio::task::spawn_blocking;

/// Where a config comes from that is to be live.
enum Source {
    /// From disk; and whether no rollback counts any more.
    OnDisk { again: bool },
    /// From the history.
    Earlier(Box<Stored>),
}

impl Source {
    const fn action(&self) -> &'static str {
        match self {
            Self::OnDisk { .. } => "reload",
            Self::Earlier(_) => "rollback",
        }
    }
}

/// Reads the config again; a bad one is refused and the old one stays. Files are read off the event loop.
pub(super) async fn reload(
    live: &Arc<Live>,
    sockets: &mut Sockets,
    (file, again): (Option<PathBuf>, bool),
    cause: Cause,
) -> Answer {
    let Some(file) = file else {
        let finding = Finding::of_file("", "there is no config file to read again", None);
        return refuse(live, vec![finding], "reload", &cause);
    };
    let Checked { config, mut findings } = read(live, file.clone(), again).await;
    let Some(config) = config else { return refuse(live, findings, "reload", &cause) };
    let (change, faults) = change(live, sockets, (config, Source::OnDisk { again }), cause).await;
    findings.extend(faults);
    if change.is_some() && is_rolled_back(live, &file).await {
        let hint = "change it, or `belay reload --again`".to_owned();
        let message = "was rolled back, so an earlier text counts until it is changed";
        findings.push(Finding::of_file(file, message, Some(hint)).as_warning());
    }
    Answer::Config(change, findings)
}

/// Reads the config that is on disk, or what counts instead if it was rolled back.
async fn read(live: &Arc<Live>, file: PathBuf, again: bool) -> Checked {
    let live = Arc::clone(live);
    let read = spawn_blocking(move || {
        let counts = |text| if again { text } else { live.counts(&file, text) };
        config::read_file_as(&file, filter::KINDS, counts)
    });
    read.await.unwrap_or_else(|_panic| broken())
}

/// Whether something else counts than what is on disk; a generation that is being made is waited for.
async fn is_rolled_back(live: &Arc<Live>, file: &Path) -> bool {
    let (live, file) = (Arc::clone(live), file.to_owned());
    spawn_blocking(move || live.is_rolled_back(&file)).await.unwrap_or(false)
}

/// Says what stands against another process's start with the config that is on disk.
pub(super) async fn rehearse(live: &Arc<Live>, file: PathBuf, cause: Cause) -> Result<(), Vec<Finding>> {
    let Checked { config, findings } = read(live, file, false).await;
    let Some(config) = config else { return Err(findings) };
    let trying = Arc::clone(live);
    let tried = spawn_blocking(move || trying.would_apply(config, &cause));
    tried.await.unwrap_or_else(|_panic| Err(broken().findings))
}

/// Makes an earlier generation live.
pub(super) async fn roll_back(live: &Arc<Live>, sockets: &mut Sockets, generation: u64, cause: Cause) -> Answer {
    let reading = Arc::clone(live);
    let read = spawn_blocking(move || {
        let stored = reading.stored(generation)?;
        let text = stored.text().ok_or_else(|| Finding::of_file(&stored.entry.config, "is no text", None))?;
        let checked = config::read(&stored.entry.config, text, filter::KINDS);
        Ok((stored, checked))
    });
    let (stored, Checked { config, mut findings }) = match read.await {
        Ok(Ok(read)) => read,
        Ok(Err(finding)) => return refuse(live, vec![finding], "rollback", &cause),
        Err(_panic) => return refuse(live, broken().findings, "rollback", &cause),
    };
    let Some(config) = config else { return refuse(live, findings, "rollback", &cause) };
    let (change, faults) = change(live, sockets, (config, Source::Earlier(Box::new(stored))), cause).await;
    findings.extend(faults);
    Answer::Config(change, findings)
}

/// Makes a checked config live, with the sockets that it wants.
async fn change(
    live: &Arc<Live>,
    sockets: &mut Sockets,
    (config, source): (Config, Source),
    cause: Cause,
) -> (Option<Change>, Vec<Finding>) {
    let opening = match sockets.prepare(&config) {
        Ok(opening) => opening,
        Err(fault) => {
            let findings = vec![fault.finding()];
            live.refused(&findings, source.action(), &cause);
            return (None, findings);
        }
    };
    match apply(live, sockets, &opening, (config, source, cause)).await {
        Ok(change) => {
            opening.addresses().log();
            sockets.commit(opening);
            (Some(change), Vec::new())
        }
        Err(findings) => {
            sockets.resume(&opening);
            (None, findings)
        }
    }
}

/// Looks at what it means, and makes it live while nobody accepts where somebody else will, or nobody.
async fn apply(
    live: &Arc<Live>,
    sockets: &Sockets,
    opening: &Opening,
    (config, source, cause): (Config, Source, Cause),
) -> Result<Change, Vec<Finding>> {
    let (judging, action, by) = (Arc::clone(live), source.action(), cause.clone());
    let judged = spawn_blocking(move || judging.consent(config, action, &by));
    let consented = judged.await.unwrap_or_else(|_panic| Err(broken().findings))?;
    sockets.pause(opening);
    let applying = Arc::clone(live);
    let applied = spawn_blocking(move || match source {
        Source::OnDisk { again } => applying.apply(consented, again, &cause),
        Source::Earlier(stored) => applying.roll_back(&stored, consented, &cause),
    });
    applied.await.unwrap_or_else(|_panic| Err(broken().findings))
}

fn refuse(live: &Live, findings: Vec<Finding>, action: &'static str, cause: &Cause) -> Answer {
    live.refused(&findings, action, cause);
    Answer::Config(None, findings)
}

fn broken() -> Checked {
    let finding = Finding::of_file("", "the change ended by a fault; the old config stays", None);
    Checked { config: None, findings: vec![finding] }
}
