//! Finds any of several texts in bytes that come piece by piece, without regard to ASCII case (Aho and Corasick, 1975).
//!
//! One step for each byte, whatever the bytes are: a body that is made to be almost a match many times costs no more
//! than another.

use std::collections::VecDeque;

/// Where a search stands between two pieces: how much of a text the last bytes are.
#[derive(Clone, Copy, Default)]
pub struct Place(u16);

/// The texts as one automaton. A state is the longest beginning of a text that the bytes so far end with.
pub struct Texts {
    texts: Vec<String>,
    /// What kind of byte it is: those that are in no text are all the same, which keeps the table small.
    kinds: [u8; 256],
    kinds_count: usize,
    /// The next state by state and kind.
    next: Vec<u16>,
    /// The text that is complete in a state, by its index.
    found: Vec<Option<usize>>,
}

const ABSENT: u16 = u16::MAX;

impl Texts {
    /// The texts are not empty and together shorter than 65,535 bytes, or there would be more states than numbers.
    pub fn new(texts: Vec<String>) -> Self {
        let (kinds, kinds_count) = kinds_of(&texts);
        let next = vec![ABSENT; kinds_count];
        let mut automaton = Self { texts: Vec::new(), kinds, kinds_count, next, found: vec![None] };
        for (index, text) in texts.iter().enumerate() {
            automaton.add(index, text);
        }
        automaton.close();
        automaton.texts = texts;
        automaton
    }

    /// Goes on with the search; what it finds is the first text that is complete.
    pub fn find(&self, place: &mut Place, piece: &[u8]) -> Option<&str> {
        let mut state = place.0;
        for byte in piece {
            state = self.next[self.slot(state, *byte)];
            if let Some(index) = self.found[usize::from(state)] {
                return Some(&self.texts[index]);
            }
        }
        place.0 = state;
        None
    }

    pub fn is_empty(&self) -> bool {
        self.texts.is_empty()
    }

    fn slot(&self, state: u16, byte: u8) -> usize {
        usize::from(state) * self.kinds_count + usize::from(self.kinds[usize::from(byte)])
    }

    fn add(&mut self, index: usize, text: &str) {
        let mut state = 0;
        for byte in text.bytes() {
            let slot = self.slot(state, byte);
            if self.next[slot] == ABSENT {
                self.next[slot] = self.found.len() as u16;
                self.next.resize(self.next.len() + self.kinds_count, ABSENT);
                self.found.push(None);
            }
            state = self.next[slot];
        }
        self.found[usize::from(state)].get_or_insert(index);
    }

    // Where no text goes on, the search goes on with the longest end of the bytes that begins a text: the fallback.
    // States are visited by length, so that a fallback, which is shorter, is always closed already.
    fn close(&mut self) {
        let mut fallbacks = vec![0; self.found.len()];
        let mut open = VecDeque::from([0]);
        while let Some(state) = open.pop_front() {
            let fallback = fallbacks[usize::from(state)];
            let shorter = self.found[usize::from(fallback)];
            let found = &mut self.found[usize::from(state)];
            *found = found.or(shorter);
            for kind in 0..self.kinds_count {
                let slot = usize::from(state) * self.kinds_count + kind;
                let beside = if state == 0 { 0 } else { self.next[usize::from(fallback) * self.kinds_count + kind] };
                if self.next[slot] == ABSENT {
                    self.next[slot] = beside;
                } else {
                    fallbacks[usize::from(self.next[slot])] = beside;
                    open.push_back(self.next[slot]);
                }
            }
        }
    }
}

// Kind 0 is every byte that is in no text. A letter has the same kind in both cases.
fn kinds_of(texts: &[String]) -> ([u8; 256], usize) {
    let mut kinds = [0; 256];
    let mut last = 0;
    for byte in texts.iter().flat_map(|text| text.bytes()) {
        if kinds[usize::from(byte)] == 0 {
            last += 1;
            kinds[usize::from(byte.to_ascii_lowercase())] = last;
            kinds[usize::from(byte.to_ascii_uppercase())] = last;
        }
    }
    (kinds, usize::from(last) + 1)
}
