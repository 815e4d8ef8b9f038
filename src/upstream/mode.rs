//! What an operator, or an agent, has said of a server; it outlives reloads, but not the process.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};

/// Whether a server is meant to take requests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// It is.
    #[default]
    Ready,
    /// Only to its end what it works on. Its checks go on.
    Draining,
    /// The same, and it is not checked either.
    Maintenance,
}

impl Mode {
    /// The word for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Draining => "draining",
            Self::Maintenance => "in maintenance",
        }
    }

    /// What leads to it.
    #[must_use]
    pub const fn action(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Draining => "drain",
            Self::Maintenance => "maint",
        }
    }
}

/// No weight, which is more than any.
const AS_CONFIGURED: u32 = u32::MAX;

/// What was said.
#[derive(Debug)]
pub(super) struct Said {
    mode: AtomicU8,
    weight: AtomicU32,
    down: AtomicBool,
}

impl Default for Said {
    fn default() -> Self {
        Self {
            mode: AtomicU8::new(Mode::Ready as u8),
            weight: AtomicU32::new(AS_CONFIGURED),
            down: AtomicBool::new(false),
        }
    }
}

impl Said {
    pub(super) fn mode(&self) -> Mode {
        let mode = self.mode.load(Ordering::Relaxed);
        [Mode::Draining, Mode::Maintenance].into_iter().find(|it| *it as u8 == mode).unwrap_or_default()
    }

    pub(super) fn set_mode(&self, mode: Mode) {
        self.mode.store(mode as u8, Ordering::Relaxed);
    }

    /// Whether anything was said that counts.
    pub(super) fn says_something(&self) -> bool {
        self.mode() != Mode::Ready || self.weight().is_some()
    }

    /// As if nothing was said.
    pub(super) fn forget(&self) {
        self.set_mode(Mode::Ready);
        self.set_weight(None);
        self.set_down(false);
    }

    /// Whether it is down, whatever its checks say.
    pub(super) fn is_down(&self) -> bool {
        self.down.load(Ordering::Relaxed)
    }

    pub(super) fn set_down(&self, down: bool) {
        self.down.store(down, Ordering::Relaxed);
    }

    /// The weight, if one was said.
    pub(super) fn weight(&self) -> Option<u32> {
        Some(self.weight.load(Ordering::Relaxed)).filter(|weight| *weight != AS_CONFIGURED)
    }

    pub(super) fn set_weight(&self, weight: Option<u32>) {
        self.weight.store(weight.unwrap_or(AS_CONFIGURED), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_said_is_known() {
        let said = Said::default();
        assert_eq!((said.mode(), said.weight()), (Mode::Ready, None));
        for mode in [Mode::Maintenance, Mode::Draining, Mode::Ready] {
            said.set_mode(mode);
            assert_eq!(said.mode(), mode);
        }
        said.set_weight(Some(0));
        assert_eq!(said.weight(), Some(0));
        said.set_weight(None);
        assert_eq!(said.weight(), None);
    }
}
