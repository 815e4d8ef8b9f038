//! Configs: any text makes findings or a config, and what was understood can be written and read again.
#![no_main]

use belay::{config, filter};
use libfuzzer_sys::fuzz_target;
use std::path::Path;

fuzz_target!(|text: &str| {
    let checked = config::read(Path::new("belay.yaml"), text, filter::KINDS);
    let failed = checked.findings.iter().any(|finding| finding.severity == config::Severity::Error);
    assert_eq!(checked.config.is_none(), failed, "a config without an error, or an error without a finding");
    checked.findings.iter().for_each(|finding| drop(finding.to_string()));
});
