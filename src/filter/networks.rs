//! `networks`: who comes from where he may.

use super::kind::{Building, Settings, Spec};
use super::{About, Filter, Flow, Request};
use crate::config::{Fault, FilterSpec, Finding, Place, Reader};
use crate::network::Networks;
use crate::refusal::Refusal;
use ipnet::IpNet;
use schemars::JsonSchema;
use serde::Deserialize;
use std::{net::IpAddr, path::PathBuf, sync::Arc};

/// The longest file of networks, in bytes.
const FILE_MAX: usize = 4 * 1024 * 1024;

/// Lets pass by the client's address (the listener's `client_address` says which counts). Whose address is not known
/// does not pass.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NetworksFilter {
    /// Networks that pass, for example `203.0.113.0/24`, or `file:PATH` with one a line; all, without it.
    #[serde(default)]
    allow: Option<Vec<String>>,
    /// Networks that do not, whatever `allow` says.
    #[serde(default)]
    deny: Vec<String>,
}

#[derive(Debug)]
pub(super) struct Lists {
    allow: Option<List>,
    deny: List,
}

#[derive(Debug)]
struct List {
    networks: Vec<IpNet>,
    files: Vec<PathBuf>,
}

impl Settings for NetworksFilter {
    const NAME: &'static str = "networks";
    type Spec = Lists;

    fn read(self, reader: &mut Reader<'_>) -> Option<Lists> {
        let place = reader.place.clone();
        if self.allow.is_none() && self.deny.is_empty() {
            reader.fault(Fault::new(&place, "no network is named here").at_key().hint("write `allow` or `deny`"));
        }
        let allow = self.allow.map(|texts| list(texts, &place.key("allow"), reader));
        Some(Lists { allow, deny: list(self.deny, &place.key("deny"), reader) })
    }
}

fn list(texts: Vec<String>, place: &Place, reader: &mut Reader<'_>) -> List {
    let (files, texts): (Vec<_>, Vec<_>) = texts.into_iter().partition(|text| text.starts_with("file:"));
    let files = files.iter().filter_map(|text| reader.file_reference(text)).collect();
    List { networks: reader.networks(&texts, place), files }
}

impl List {
    fn build(&self, building: &mut Building<'_>, findings: &mut Vec<Finding>) -> Sorted {
        let mut networks = self.networks.clone();
        for file in &self.files {
            let read = building.files.page(file, FILE_MAX).and_then(|content| {
                String::from_utf8(content).map_err(|_no_text| Finding::of_file(file, "is no text in UTF-8", None))
            });
            match read {
                Ok(text) => lines(&text, file, &mut networks, findings),
                Err(finding) => findings.push(finding),
            }
        }
        Sorted::new(&networks)
    }
}

/// Networks of which there may be very many: disjoint ones in order.
#[derive(Debug)]
struct Sorted(Box<[IpNet]>);

impl Sorted {
    fn new(networks: &[IpNet]) -> Self {
        let mut disjoint = IpNet::aggregate(&networks.to_vec());
        disjoint.sort_unstable_by_key(IpNet::network);
        Self(disjoint.into())
    }

    /// Whether an address lies in one of them; an IPv4 address in IPv6's clothes counts as what it is.
    fn contain(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        let after = self.0.partition_point(|network| network.network() <= address);
        let nearest = after.checked_sub(1).and_then(|index| self.0.get(index));
        nearest.is_some_and(|network| network.contains(&address))
    }
}

/// One network a line; `#` begins a comment.
fn lines(text: &str, file: &std::path::Path, networks: &mut Vec<IpNet>, findings: &mut Vec<Finding>) {
    for (index, line) in text.lines().enumerate() {
        let entry = line.split('#').next().unwrap_or_default().trim();
        match Networks::parse(entry) {
            _ if entry.is_empty() => {}
            Ok(network) => networks.push(network),
            Err(fault) => {
                let message = format!("`{entry}` is no network: {fault}");
                findings.push(Finding::at(file, (index.saturating_add(1), 1), line, message));
            }
        }
    }
}

impl FilterSpec for Lists {}

impl Spec for Lists {
    fn build(&self, building: &mut Building<'_>) -> Result<Arc<dyn Filter>, Vec<Finding>> {
        let mut findings = Vec::new();
        let allow = self.allow.as_ref().map(|list| list.build(building, &mut findings));
        let deny = self.deny.build(building, &mut findings);
        if findings.is_empty() { Ok(Arc::new(ByNetwork { allow, deny })) } else { Err(findings) }
    }
}

#[derive(Debug)]
struct ByNetwork {
    allow: Option<Sorted>,
    deny: Sorted,
}

/// Whether an address is known and in one of the networks.
pub(super) fn address_is_in(address: Option<IpAddr>, networks: &Networks) -> bool {
    address.is_some_and(|address| networks.contain(address))
}

impl Filter for ByNetwork {
    fn name(&self) -> &str {
        NetworksFilter::NAME
    }

    fn request(&self, about: &About<'_>, _: &mut Request<'_>) -> Result<Flow, Refusal> {
        let address = about.client.ok_or(Refusal::NetworkNotAllowed)?;
        let is_allowed = self.allow.as_ref().is_none_or(|networks| networks.contain(address));
        if is_allowed && !self.deny.contain(address) { Ok(Flow::Goes) } else { Err(Refusal::NetworkNotAllowed) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use test_case::test_case;

    #[test_case("203.0.113.7", true; "in one")]
    #[test_case("::ffff:203.0.113.7", true; "mapped")]
    #[test_case("198.51.100.200", true; "in a small one")]
    #[test_case("198.51.100.201", false; "beside it")]
    #[test_case("10.255.255.255", true; "the last of a large one")]
    #[test_case("11.0.0.0", false; "after it")]
    #[test_case("2001:db8::1", true; "of the other family")]
    #[test_case("2001:db9::1", false; "beside that")]
    #[test_case("0.0.0.0", false; "before all")]
    fn an_address_is_in(address: &str, expected: bool) {
        let texts = ["203.0.113.0/24", "10.0.0.0/8", "10.1.0.0/16", "198.51.100.200", "2001:db8::/32"];
        let sorted = Sorted::new(&texts.map(|text| Networks::parse(text).unwrap()));
        assert_eq!(sorted.contain(address.parse().unwrap()), expected);
    }

    #[test]
    fn a_file_names_what_is_wrong() {
        let (mut networks, mut findings) = (Vec::new(), Vec::new());
        let text = "# offices\n203.0.113.0/24 # Vienna\n\n203.0.113.7/24\n";
        lines(text, std::path::Path::new("blocked.txt"), &mut networks, &mut findings);
        assert_eq!((networks.len(), findings.len()), (1, 1));
        assert_eq!(findings[0].line, 4);
    }
}
