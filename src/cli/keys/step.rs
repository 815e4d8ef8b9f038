//! The steps of a rotation, told.

use super::rotate::Args;
use crate::cli::for_a_shell;
use crate::cli::terminal::Terminal;
use crate::identity::Kid;
use serde_json::{Value, json};
use std::{path::PathBuf, time::Duration};

/// What came of a step.
pub(super) enum Step {
    /// A key counts beside the old one.
    Made { kid: Kid, old: Kid, ours: PathBuf, theirs: PathBuf },
    /// For the Worker.
    WaitsForUse { kid: Kid },
    /// The new one is active.
    Switched { kid: Kid, old: Kid },
    /// Until the old key has not been used for long enough.
    WaitsForQuiet { old: Kid, left: Duration },
    /// The old one counts no more.
    Revoked { old: Vec<Kid> },
}

impl Step {
    /// The key that decides how long it waits, if it does.
    pub(super) fn waits_for(&self) -> Option<Kid> {
        match self {
            Self::WaitsForUse { kid } | Self::WaitsForQuiet { old: kid, .. } => Some(kid.clone()),
            Self::Made { .. } | Self::Switched { .. } | Self::Revoked { .. } => None,
        }
    }

    pub(super) fn tell(&self, args: &Args, terminal: &Terminal) {
        if args.json {
            return terminal.say_json(&self.as_json());
        }
        let is_done = matches!(self, Self::Revoked { .. });
        let go_on = if args.wait || is_done { String::new() } else { format!("\nThen go on: {}", args.again()) };
        terminal.say(&format!("{}{go_on}", self.words(args, terminal)));
    }

    fn words(&self, args: &Args, terminal: &Terminal) -> String {
        let quiet_for = humantime::format_duration(args.quiet_for);
        match self {
            Self::Made { kid, old, ours, theirs } => {
                let whole = theirs.canonicalize().unwrap_or_else(|_| theirs.clone());
                format!(
                    "{} counts now beside {old}.\n  here      {}\n  Worker's  {}\n\n\
                     At Cloudflare, in the Worker's folder:\n  npx wrangler secret put EDGE_IDENTITY < {}\n\
                     and delete that file: it is the private half.",
                    terminal.bold(kid.as_str()),
                    ours.display(),
                    theirs.display(),
                    for_a_shell(&whole.to_string_lossy()),
                )
            }
            Self::WaitsForUse { kid } => {
                format!(
                    "Nobody signs with {kid} yet. Does the Worker have it, and is it called? Waiting for its tokens."
                )
            }
            Self::Switched { kid, old } => format!("{kid} is in use, and active. {old} is retiring."),
            Self::WaitsForQuiet { old, left } => {
                let left = humantime::format_duration(Duration::from_secs(left.as_secs().saturating_add(1)));
                format!("{old} is revoked once nobody has used it for {quiet_for}: in {left} at the earliest.")
            }
            Self::Revoked { old } => {
                let old = old.iter().map(Kid::as_str).collect::<Vec<_>>().join(", ");
                format!(
                    "{old} is revoked: nobody has used it for {quiet_for}. Done. Its line and its file can go when you \
                     like."
                )
            }
        }
    }

    fn as_json(&self) -> Value {
        match self {
            Self::Made { kid, old, ours, theirs } => {
                json!({ "step": "made", "kid": kid, "old": [old], "file": ours, "worker_file": theirs })
            }
            Self::WaitsForUse { kid } => json!({ "step": "waits_for_use", "kid": kid }),
            Self::Switched { kid, old } => json!({ "step": "switched", "kid": kid, "old": [old] }),
            Self::WaitsForQuiet { old, left } => {
                json!({ "step": "waits_for_quiet", "old": [old], "seconds": left.as_secs() })
            }
            Self::Revoked { old } => json!({ "step": "revoked", "old": old }),
        }
    }
}
