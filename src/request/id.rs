//! The id of a request.

use crate::generation::write_hexadecimal;
use serde::Serialize;
use std::{cell::RefCell, fmt, sync::Arc};

/// 8 to 64 of `A-Z a-z 0-9 -`: the edge's where it signed one, else made here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Id(Arc<str>);

impl Id {
    /// Reads an id.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let inside = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
        ((8..=64).contains(&text.len()) && text.bytes().all(inside)).then(|| Self(text.into()))
    }

    /// A new one: 128 random bits in hexadecimal.
    #[must_use]
    pub fn random() -> Self {
        Self(std::str::from_utf8(&random_digits()).unwrap_or_default().into())
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// 32 hexadecimal digits, all random.
#[must_use]
pub fn random_digits() -> [u8; 32] {
    let mut digits = [0; 32];
    STOCK.with_borrow_mut(|stock| write_hexadecimal(&stock.take(), &mut digits));
    digits
}

/// Random bytes of a thread. A few are as dear as many.
struct Stock {
    bytes: [u8; Self::SIZE],
    used: usize,
}

thread_local! {
    static STOCK: RefCell<Stock> = const { RefCell::new(Stock { bytes: [0; Stock::SIZE], used: Stock::SIZE }) };
}

impl Stock {
    const SIZE: usize = 1024;

    fn take(&mut self) -> [u8; 16] {
        if self.used >= Self::SIZE {
            // It fails only where the system gives no randomness; then an id that repeats is the smaller evil, as nothing
            // trusts in ids being secret.
            aws_lc_rs::rand::fill(&mut self.bytes).ok();
            self.used = 0;
        }
        let next = self.bytes.get(self.used..).and_then(|rest| rest.first_chunk()).copied();
        self.used = self.used.saturating_add(16);
        next.unwrap_or_default()
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
