//! Which servers take part: the primaries that are well; with the backups, when too few primaries are; or everybody,
//! when so few are well that the checks are not believed any more.

use std::time::Duration;

/// The least share of its weight with which a server starts slowly, in thousandths.
const RAMP_MIN: u128 = 100;

/// When backups help and when checks are believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tiers {
    /// Backups take part while less than this share of the primaries is well, in percent of their weight: 1 to 100.
    pub backups_below: u32,
    /// Everybody takes part while less than this share of all servers is well, in percent: 0 (never) to 100.
    pub panic_below: u32,
}

/// What counts of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standby {
    /// Its weight.
    pub weight: u32,
    /// Whether it is a backup.
    pub is_backup: bool,
    /// Whether it is well.
    pub is_up: bool,
}

/// Who takes part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tier {
    /// The primaries that are well.
    Primaries,
    /// And the backups that are.
    WithBackups,
    /// All, well or not.
    Everybody,
}

impl Tiers {
    /// Looks at all servers of a pool. Those without weight count for nothing.
    pub fn tier(&self, servers: impl Iterator<Item = Standby>) -> Tier {
        let (mut all, mut up, mut primaries, mut primaries_up) = (0_u64, 0_u64, 0_u64, 0_u64);
        for server in servers.filter(|server| server.weight > 0) {
            let (is_up, weight) = (u64::from(server.is_up), u64::from(server.weight));
            all += 1;
            up += is_up;
            if !server.is_backup {
                primaries += weight;
                primaries_up += weight * is_up;
            }
        }
        if up * 100 < all * u64::from(self.panic_below) {
            Tier::Everybody
        } else if primaries_up == 0 || primaries_up * 100 < primaries * u64::from(self.backups_below) {
            Tier::WithBackups
        } else {
            Tier::Primaries
        }
    }
}

impl Tier {
    /// Whether a server takes part.
    #[must_use]
    pub const fn has(self, server: Standby) -> bool {
        match self {
            Self::Primaries => server.is_up && !server.is_backup,
            Self::WithBackups => server.is_up,
            Self::Everybody => true,
        }
    }
}

/// A weight in thousandths, so long after the server has become well: it grows from a tenth to the whole of it.
#[must_use]
pub fn ramped(weight: u32, age: Duration, slow_start: Duration) -> u32 {
    let thousandths = match slow_start.as_millis() {
        0 => 1000,
        whole => (age.as_millis() * 1000 / whole).clamp(RAMP_MIN, 1000),
    };
    u32::try_from(thousandths).unwrap_or(1000).saturating_mul(weight)
}

#[cfg(test)]
mod tests {
    use super::*;
    use test_case::test_case;

    const UP: bool = true;

    fn standby(is_backup: bool, is_up: bool) -> Standby {
        Standby { weight: 100, is_backup, is_up }
    }

    /// Small letters are down, `P` is a primary and `B` a backup.
    #[test_case("PP B", (1, 0), Tier::Primaries; "all is well")]
    #[test_case("Pp B", (1, 0), Tier::Primaries; "one primary is enough")]
    #[test_case("pp B", (1, 0), Tier::WithBackups; "none is not")]
    #[test_case("pp b", (1, 0), Tier::WithBackups; "nobody, and nobody takes part")]
    #[test_case("Pp B", (50, 0), Tier::Primaries; "half is not less than half")]
    #[test_case("Ppp B", (50, 0), Tier::WithBackups; "a third is")]
    #[test_case("BB", (1, 0), Tier::WithBackups; "backups only")]
    #[test_case("Pp", (1, 50), Tier::Primaries; "half is enough to believe")]
    #[test_case("Ppp", (1, 50), Tier::Everybody; "a third is not")]
    #[test_case("ppp bB", (1, 50), Tier::Everybody; "backups count there, too")]
    #[test_case("", (1, 50), Tier::WithBackups; "no server at all")]
    fn who_takes_part(servers: &str, (backups_below, panic_below): (u32, u32), expected: Tier) {
        let servers = servers.chars().filter(|c| *c != ' ');
        let standbys = servers.map(|c| standby(c.eq_ignore_ascii_case(&'b'), c.is_ascii_uppercase()));
        assert_eq!(Tiers { backups_below, panic_below }.tier(standbys), expected);
    }

    #[test]
    fn who_has_no_weight_counts_for_nothing() {
        let servers = [Standby { weight: 0, ..standby(false, UP) }, standby(true, UP)];
        assert_eq!(Tiers { backups_below: 1, panic_below: 100 }.tier(servers.into_iter()), Tier::WithBackups);
    }

    #[test]
    fn tiers_have_whom_they_say() {
        let all = [standby(false, UP), standby(true, UP), standby(false, !UP), standby(true, !UP)];
        let of = |tier: Tier| all.map(|server| tier.has(server));
        assert_eq!(of(Tier::Primaries), [true, false, false, false]);
        assert_eq!(of(Tier::WithBackups), [true, true, false, false]);
        assert_eq!(of(Tier::Everybody), [true; 4]);
    }

    #[test_case(0, 0, 100_000; "without a slow start")]
    #[test_case(0, 10, 10_000; "a tenth at first")]
    #[test_case(5, 10, 50_000; "half of it")]
    #[test_case(10, 10, 100_000; "all of it")]
    #[test_case(99, 10, 100_000; "and no more")]
    fn a_weight_grows(age: u64, slow_start: u64, expected: u32) {
        assert_eq!(ramped(100, Duration::from_secs(age), Duration::from_secs(slow_start)), expected);
        assert_eq!(ramped(0, Duration::from_secs(age), Duration::from_secs(slow_start)), 0);
    }
}
