//! Which of the servers that were found has which name: a pure state machine.

use std::net::SocketAddr;

/// The servers of one entry of a config. Who stays keeps his seat, and with it his name and all that is known of him.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::upstream) struct Seats(Vec<Option<SocketAddr>>);

impl Seats {
    /// Seats those who were found, each once, as many as there are seats. New ones take the first that are free; a backup
    /// (the second word) gives up his for somebody who is none.
    pub(in crate::upstream) fn seat(&mut self, found: &[(SocketAddr, bool)], seats: usize) {
        self.0.resize(seats, None);
        let is_backup =
            |address: SocketAddr| found.iter().find(|(found, _)| *found == address).map(|(_, is_backup)| *is_backup);
        for seat in &mut self.0 {
            *seat = seat.filter(|address| is_backup(*address).is_some());
        }
        let in_order =
            found.iter().filter(|(_, is_backup)| !is_backup).chain(found.iter().filter(|(_, is_backup)| *is_backup));
        for (address, comes_as_backup) in in_order {
            if self.0.contains(&Some(*address)) {
                continue;
            }
            let free = self.0.iter().position(Option::is_none);
            let given_up =
                || self.0.iter().rposition(|seat| !comes_as_backup && seat.and_then(is_backup) == Some(true));
            let Some(seat) = free.or_else(given_up).and_then(|index| self.0.get_mut(index)) else { return };
            *seat = Some(*address);
        }
    }

    /// The numbers of the seats, from 1 on, and who sits there.
    pub(in crate::upstream) fn seated(&self) -> impl Iterator<Item = (usize, SocketAddr)> {
        self.0.iter().enumerate().filter_map(|(index, seat)| Some((index.saturating_add(1), (*seat)?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use test_case::test_case;

    /// Upper case is a backup.
    fn addresses(hosts: &str) -> Vec<(SocketAddr, bool)> {
        let address = |host: u8| SocketAddr::from(([10, 0, 0, host.to_ascii_lowercase()], 80));
        hosts.bytes().map(|host| (address(host), host.is_ascii_uppercase())).collect()
    }

    /// Who was found, one time after the other, and who then sits where.
    #[test_case(2, &["ab"], "ab"; "all")]
    #[test_case(2, &["abc"], "ab"; "more than seats")]
    #[test_case(2, &["ab", "ba"], "ab"; "the order of an answer says nothing")]
    #[test_case(3, &["abc", "ac"], "a-c"; "who goes leaves his seat")]
    #[test_case(3, &["abc", "ac", "acd"], "adc"; "who comes takes a free one")]
    #[test_case(2, &["abc", "bc"], "cb"; "who had none has one when there is one")]
    #[test_case(2, &["aa"], "a-"; "each once")]
    #[test_case(1, &["a", "ba"], "a"; "one stays as long as he is there")]
    #[test_case(1, &["a", "b"], "b"; "one moves")]
    #[test_case(2, &["ab", ""], "--"; "none")]
    #[test_case(1, &["Ba"], "a"; "primaries first")]
    #[test_case(1, &["aB", "B", "aB"], "a"; "a primary comes back")]
    #[test_case(2, &["aBC", "BC", "aBC"], "ca"; "for the last backup")]
    #[test_case(2, &["abC"], "ab"; "a backup takes nobody's seat")]
    fn seats(seats: usize, answers: &[&str], expected: &str) {
        let mut seated = Seats::default();
        answers.iter().for_each(|answer| seated.seat(&addresses(answer), seats));
        let address = |host: char| (host != '-').then(|| addresses(&host.to_string())[0].0);
        let expected: Vec<_> = expected.chars().map(address).collect();
        assert_eq!(seated.0, expected);
    }

    proptest! {
        #[test]
        fn who_stays_keeps_his_seat(answers in proptest::collection::vec("[a-h]{0,8}", 1..10), seats in 1_usize..6) {
            let mut seated = Seats::default();
            for answer in answers {
                let (before, found) = (seated.clone(), addresses(&answer));
                seated.seat(&found, seats);
                for (number, address) in before.seated() {
                    let stays = found.iter().any(|(found, _)| *found == address);
                    prop_assert_eq!(seated.seated().any(|seat| seat == (number, address)), stays);
                }
                let distinct = found.iter().collect::<std::collections::HashSet<_>>().len();
                prop_assert_eq!(seated.seated().count(), distinct.min(seats));
            }
        }
    }
}
