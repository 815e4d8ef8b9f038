//! Users of the system, by name.

use nix::unistd::{Uid, User};

/// The name of a user, or his number if he has none.
pub(super) fn name(user: u32) -> String {
    let known = User::from_uid(Uid::from_raw(user)).ok().flatten();
    known.map_or_else(|| user.to_string(), |known| known.name)
}
