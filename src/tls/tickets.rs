//! Session tickets, with a count of those that were taken.

use crate::uses::Uses;
use rustls::Error;
use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::server::ProducesTickets;
use std::sync::Arc;

/// Makes and reads tickets with a key that is made anew every 6 hours, and read for 6 more.
#[derive(Debug)]
pub(super) struct Tickets {
    inner: Arc<dyn ProducesTickets>,
    taken: Uses,
}

impl Tickets {
    /// With a key that nobody else has.
    ///
    /// # Errors
    /// If there is no randomness.
    pub(super) fn new(taken: Uses) -> Result<Self, Error> {
        Ok(Self { inner: Ticketer::new()?, taken })
    }
}

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        self.inner.enabled()
    }

    fn lifetime(&self) -> u32 {
        self.inner.lifetime()
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.inner.encrypt(plain)
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        self.inner.decrypt(cipher).inspect(|_| self.taken.add())
    }
}
