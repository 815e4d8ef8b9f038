//! The header of the PROXY protocol: it never asks for what follows it.
#![no_main]

use belay::network::proxy_protocol::{Header, read};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut taken = 0;
    while let Ok(Header::Needs(more)) = read(&data[..taken]) {
        assert!(more > 0, "it asks for nothing and is not whole");
        taken += more;
        if taken > data.len() {
            return;
        }
    }
});
