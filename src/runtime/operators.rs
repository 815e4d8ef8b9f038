//! Who may ask at the socket: users of the system, known by their numbers.

use nix::unistd::User;
use std::collections::HashSet;

/// What a user may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Right {
    /// Read what goes on.
    Read,
    /// The same, read the config, and change things.
    Change,
}

/// Users with rights beside root and the user that the process runs as, who may do everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Operators {
    read: HashSet<u32>,
    change: HashSet<u32>,
}

/// There is no such user.
#[derive(Debug, thiserror::Error)]
#[error("there is no user `{0}`")]
pub struct UnknownUser(String);

impl Operators {
    /// Those users, by name or number.
    ///
    /// # Errors
    /// [`UnknownUser`].
    pub fn named(read: &[String], change: &[String]) -> Result<Self, UnknownUser> {
        let numbers =
            |names: &[String]| names.iter().map(|name| number(name)).collect::<Result<HashSet<u32>, UnknownUser>>();
        Ok(Self { read: numbers(read)?, change: numbers(change)? })
    }

    /// What a user may do; none for nothing.
    #[must_use]
    pub fn right(&self, user: u32) -> Option<Right> {
        let is_own = user == 0 || user == rustix::process::geteuid().as_raw();
        if is_own || self.change.contains(&user) {
            Some(Right::Change)
        } else {
            self.read.contains(&user).then_some(Right::Read)
        }
    }

    /// Whether somebody is named at all.
    #[must_use]
    pub fn are_named(&self) -> bool {
        !self.read.is_empty() || !self.change.is_empty()
    }
}

fn number(name: &str) -> Result<u32, UnknownUser> {
    let named = || User::from_name(name).ok().flatten().map(|user| user.uid.as_raw());
    name.parse().ok().or_else(named).ok_or_else(|| UnknownUser(name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use test_case::test_case;

    const SOMEBODY: u32 = 4_000_000_001;

    #[test_case(&["4000000001"], &[], Some(Right::Read); "reads")]
    #[test_case(&[], &["4000000001"], Some(Right::Change); "changes")]
    #[test_case(&["4000000001"], &["4000000001"], Some(Right::Change); "both")]
    #[test_case(&["4000000002"], &["daemon"], None; "others")]
    #[test_case(&[], &[], None; "nobody")]
    fn rights(read: &[&str], change: &[&str], expected: Option<Right>) {
        let texts = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let operators = Operators::named(&texts(read), &texts(change)).unwrap();
        assert_eq!(operators.right(SOMEBODY), expected);
        assert_eq!(operators.right(0), Some(Right::Change), "root");
        assert_eq!(operators.right(rustix::process::geteuid().as_raw()), Some(Right::Change), "its own user");
    }

    #[test_case("no such user"; "a name")]
    #[test_case("-1"; "below 0")]
    #[test_case("4294967296"; "too large")]
    #[test_case(""; "nothing")]
    fn unknown(name: &str) {
        let error = Operators::named(&[], &[name.to_owned()]).unwrap_err();
        assert_eq!(error.to_string(), format!("there is no user `{name}`"));
    }
}
