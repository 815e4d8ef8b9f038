//! What the service manager is told, where there is one: `Type=notify-reload` of systemd.

use sd_notify::NotifyState;
use tokio::time;

/// Serving, or serving again.
pub(super) fn ready() {
    tell(&[NotifyState::Ready]);
}

/// Reading the config again; [`ready`] ends it.
pub(super) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(fault) => log::warn!("the service manager is not told of a reload: {fault}"),
    }
}

/// Not serving for long any more.
pub(super) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// Another process is the service from now on.
pub(super) fn replaced_by(pid: u32) {
    tell(&[NotifyState::MainPid(pid), NotifyState::Ready]);
}

/// Says again and again that the process is well, twice in the time after which the service manager would restart it.
/// Whatever stops the runtime stops this.
pub(super) async fn watchdog() {
    let Some(patience) = sd_notify::watchdog_enabled() else { return };
    let mut beat = time::interval(patience / 2);
    loop {
        beat.tick().await;
        tell(&[NotifyState::Watchdog]);
    }
}

/// Without a service manager this does nothing.
fn tell(state: &[NotifyState<'_>]) {
    if let Err(fault) = sd_notify::notify(state) {
        log::warn!("the service manager cannot be told: {fault}");
    }
}
