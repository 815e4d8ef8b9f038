//! The seam by which filters bring their own settings, although they live above this module.

use super::amount;
use super::fault::Fault;
use super::node::{Node, Place};
use super::value;
use crate::name::PoolName;
use crate::network::Networks;
use ipnet::IpNet;
use schemars::Schema;
use std::{
    any::Any,
    fmt,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    time::Duration,
};

/// A kind of filter, as far as a config can know it.
pub trait FilterKind: Send + Sync {
    /// Its key in `filters:`.
    fn name(&self) -> &'static str;

    /// The schema of its settings, with descriptions.
    fn schema(&self) -> Schema;

    /// Reads settings whose shape fits the schema. What is wrong with them is said to the reader.
    fn parse(&self, settings: &Node, reader: &mut Reader<'_>) -> Option<Box<dyn FilterSpec>>;
}

/// Settings that were read, and that only their filter understands.
pub trait FilterSpec: Any + fmt::Debug + Send + Sync {
    /// The pools that it sends errands to, and where it names them.
    fn pools(&self) -> &[(PoolName, Place)] {
        &[]
    }
}

/// Reads a filter's settings, and notes what is wrong with them.
#[derive(Debug)]
pub struct Reader<'a> {
    /// Where the settings stand.
    pub place: Place,
    /// Where relative paths start.
    folder: &'a Path,
    faults: Vec<Fault>,
}

impl<'a> Reader<'a> {
    /// Reads what stands at a place of a config in that folder.
    #[must_use]
    pub const fn new(place: Place, folder: &'a Path) -> Self {
        Self { place, folder, faults: Vec::new() }
    }

    /// What was wrong.
    #[must_use]
    pub fn faults(self) -> Vec<Fault> {
        self.faults
    }

    /// Whether nothing was wrong so far.
    #[must_use]
    pub const fn is_content(&self) -> bool {
        self.faults.is_empty()
    }

    /// Notes what is wrong.
    pub fn fault(&mut self, fault: Fault) {
        self.faults.push(fault);
    }

    /// The settings as a type.
    pub fn settings<T: serde::de::DeserializeOwned>(&mut self, settings: &Node) -> Option<T> {
        let read = settings.to().map_err(|error| Fault::new(&self.place, error.to_string()));
        read.map_err(|fault| self.fault(fault)).ok()
    }

    /// A time such as `2s`.
    pub fn duration(&mut self, text: &str, place: &Place, range: RangeInclusive<Duration>) -> Option<Duration> {
        let read = amount::duration(text, place, &range);
        read.map_err(|fault| self.fault(fault)).ok()
    }

    /// An amount of bytes such as `64KiB`.
    pub fn bytes(&mut self, text: &str, place: &Place, range: RangeInclusive<u64>) -> Option<u64> {
        let read = amount::bytes((text, value::bytes(text)), place, &range, "32KiB");
        read.map_err(|fault| self.fault(fault)).ok()
    }

    /// A pool's name; whether there is one is checked by who knows all of them.
    pub fn pool(&mut self, text: &str, place: &Place) -> Option<(PoolName, Place)> {
        match PoolName::parse(text) {
            Ok(name) => Some((name, place.clone())),
            Err(fault) => {
                self.fault(Fault::new(place, fault.to_string()));
                None
            }
        }
    }

    /// A file, whose way starts at the config's folder.
    #[must_use]
    pub fn path(&self, text: &str) -> PathBuf {
        self.folder.join(text)
    }

    /// A file that is named as `file:PATH`.
    #[must_use]
    pub fn file_reference(&self, text: &str) -> Option<PathBuf> {
        value::file_reference(text).ok().map(|path| self.folder.join(path))
    }

    /// A status such as `503`, or several: `500-599`.
    #[must_use]
    pub fn statuses(&self, text: &str) -> Option<RangeInclusive<u16>> {
        value::statuses(text)
    }

    /// Networks such as `203.0.113.0/24`.
    pub fn networks(&mut self, texts: &[String], place: &Place) -> Vec<IpNet> {
        let mut networks: Vec<IpNet> = Vec::new();
        for (index, text) in texts.iter().enumerate() {
            match Networks::parse(text) {
                Ok(network) => networks.push(network),
                Err(fault) => {
                    let fault = Fault::new(&place.index(index), format!("`{text}` is no network: {fault}"));
                    self.fault(fault.hint("for example 203.0.113.0/24"));
                }
            }
        }
        networks
    }
}
