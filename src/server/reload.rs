//! A change of the config: read, bound, built, and then live at once; or refused, and nothing has happened.

use super::sockets::Sockets;
use crate::admin::Answer;
use crate::audit::Cause;
use crate::config::{self, Checked, Config, Finding};
use crate::filter;
use crate::runtime::{Change, Live};
use std::{path::PathBuf, sync::Arc};
use tokio::task::spawn_blocking;

/// Reads the config again; a bad one is refused and the old one stays. Files are read off the event loop.
pub(super) async fn reload(live: &Arc<Live>, sockets: &mut Sockets, file: Option<PathBuf>, cause: Cause) -> Answer {
    let Some(file) = file else {
        return refuse(live, vec![Finding::of_file("", "there is no config file to read again", None)], &cause);
    };
    let read = spawn_blocking(move || config::read_file(&file, &filter::KINDS)).await;
    let Checked { config, mut findings } = read.unwrap_or_else(|_panic| broken());
    let Some(config) = config else { return refuse(live, findings, &cause) };
    let (change, faults) = change(live, sockets, config, cause).await;
    findings.extend(faults);
    Answer::Config(change, findings)
}

/// Makes a checked config live, with the sockets that it wants.
async fn change(
    live: &Arc<Live>,
    sockets: &mut Sockets,
    config: Config,
    cause: Cause,
) -> (Option<Change>, Vec<Finding>) {
    let opening = match sockets.prepare(&config) {
        Ok(opening) => opening,
        Err(fault) => {
            let findings = vec![fault.finding()];
            live.refused(&findings, &cause);
            return (None, findings);
        }
    };
    sockets.pause(&opening);
    let applying = Arc::clone(live);
    let applied = spawn_blocking(move || applying.apply(config, &cause)).await;
    match applied.unwrap_or_else(|_panic| Err(broken().findings)) {
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
    let finding = Finding::of_file("", "the reload ended by a fault; the old config stays", None);
    Checked { config: None, findings: vec![finding] }
}
