//! Which of the servers that were found has which name: a pure state machine.

use std::net::SocketAddr;

/// The servers of one entry of a config. Who stays keeps his seat, and with it his name and all that is known of him.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::upstream) struct Seats(Vec<Option<SocketAddr>>);

impl Seats {
    /// Seats those who were found, each once, as many as there are seats. New ones take the first that are free.
    pub(in crate::upstream) fn seat(&mut self, found: &[SocketAddr], seats: usize) {
        self.0.resize(seats, None);
        for seat in &mut self.0 {
            *seat = seat.filter(|address| found.contains(address));
        }
        for address in found {
            if self.0.contains(&Some(*address)) {
                continue;
            }
            match self.0.iter_mut().find(|seat| seat.is_none()) {
                Some(free) => *free = Some(*address),
                None => return,
            }
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

    fn addresses(hosts: &str) -> Vec<SocketAddr> {
        hosts.bytes().map(|host| SocketAddr::from(([10, 0, 0, host], 80))).collect()
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
    fn seats(seats: usize, answers: &[&str], expected: &str) {
        let mut seated = Seats::default();
        answers.iter().for_each(|answer| seated.seat(&addresses(answer), seats));
        let expected: Vec<_> = expected
            .bytes()
            .map(|host| (host != b'-').then(|| addresses(char::from(host).encode_utf8(&mut [0; 4]))[0]))
            .collect();
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
                    let stays = found.contains(&address);
                    prop_assert_eq!(seated.seated().any(|seat| seat == (number, address)), stays);
                }
                let distinct = found.iter().collect::<std::collections::HashSet<_>>().len();
                prop_assert_eq!(seated.seated().count(), distinct.min(seats));
            }
        }
    }
}
