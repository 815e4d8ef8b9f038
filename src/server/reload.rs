//! A change of the config: read, bound, built, and then live at once; or refused, and nothing has happened.

use super::sockets::Sockets;
use crate::admin::Answer;
use crate::audit::Cause;
use crate::config::{self, Checked, Config, Finding};
use crate::filter;
use crate::runtime::{Change, Live, Stored};
use std::{path::PathBuf, sync::Arc};
use tokio::task::spawn_blocking;

/// What is to be live.
enum Wanted {
    /// The config that is on disk.
    OnDisk(Config),
    /// An earlier generation.
    Earlier(Box<Stored>, Config),
}

/// Reads the config again; a bad one is refused and the old one stays. Files are read off the event loop.
pub(super) async fn reload(
    live: &Arc<Live>,
    sockets: &mut Sockets,
    (file, again): (Option<PathBuf>, bool),
    cause: Cause,
) -> Answer {
    let Some(file) = file else {
        return refuse(live, vec![Finding::of_file("", "there is no config file to read again", None)], &cause);
    };
    let (reading, path) = (Arc::clone(live), file.clone());
    let read = spawn_blocking(move || {
        if again {
            reading.forget_rollback();
        }
        config::read_file_as(&path, &filter::KINDS, |text| reading.counts(&path, text))
    });
    let Checked { config, mut findings } = read.await.unwrap_or_else(|_panic| broken());
    let Some(config) = config else { return refuse(live, findings, &cause) };
    let (change, faults) = change(live, sockets, Wanted::OnDisk(config), cause).await;
    findings.extend(faults);
    if change.is_some() && live.is_rolled_back(&file) {
        let hint = "change it, or `belay reload --again`".to_owned();
        let message = "was rolled back, so an earlier text counts until it is changed";
        findings.push(Finding::of_file(file, message, Some(hint)).as_warning());
    }
    Answer::Config(change, findings)
}

/// Makes an earlier generation live.
pub(super) async fn roll_back(live: &Arc<Live>, sockets: &mut Sockets, generation: u64, cause: Cause) -> Answer {
    let reading = Arc::clone(live);
    let read = spawn_blocking(move || {
        let stored = reading.stored(generation)?;
        let text = stored.text().ok_or_else(|| Finding::of_file(&stored.entry.config, "is no text", None))?;
        let checked = config::read(&stored.entry.config, text, &filter::KINDS);
        Ok((stored, checked))
    });
    let (stored, Checked { config, mut findings }) = match read.await {
        Ok(Ok(read)) => read,
        Ok(Err(finding)) => return refuse(live, vec![finding], &cause),
        Err(_panic) => return refuse(live, broken().findings, &cause),
    };
    let Some(config) = config else { return refuse(live, findings, &cause) };
    let (change, faults) = change(live, sockets, Wanted::Earlier(Box::new(stored), config), cause).await;
    findings.extend(faults);
    Answer::Config(change, findings)
}

/// Makes a checked config live, with the sockets that it wants.
async fn change(
    live: &Arc<Live>,
    sockets: &mut Sockets,
    wanted: Wanted,
    cause: Cause,
) -> (Option<Change>, Vec<Finding>) {
    let (Wanted::OnDisk(config) | Wanted::Earlier(_, config)) = &wanted;
    let opening = match sockets.prepare(config) {
        Ok(opening) => opening,
        Err(fault) => {
            let findings = vec![fault.finding()];
            live.refused(&findings, &cause);
            return (None, findings);
        }
    };
    sockets.pause(&opening);
    let applying = Arc::clone(live);
    let applied = spawn_blocking(move || match wanted {
        Wanted::OnDisk(config) => applying.apply(config, &cause),
        Wanted::Earlier(stored, config) => applying.roll_back(&stored, config, &cause),
    });
    match applied.await.unwrap_or_else(|_panic| Err(broken().findings)) {
        Ok(change) => {
            for (name, address) in opening.addresses().listeners {
                log::info!("listener {name} on {address}");
            }
            sockets.commit(opening);
            (Some(change), Vec::new())
        }
        Err(findings) => {
            sockets.resume(&opening);
            (None, findings)
        }
    }
}

fn refuse(live: &Live, findings: Vec<Finding>, cause: &Cause) -> Answer {
    live.refused(&findings, cause);
    Answer::Config(None, findings)
}

fn broken() -> Checked {
    let finding = Finding::of_file("", "the change ended by a fault; the old config stays", None);
    Checked { config: None, findings: vec![finding] }
}
