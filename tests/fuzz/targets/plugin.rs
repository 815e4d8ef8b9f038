//! Plugins: whatever one calls, with whatever pointers, nothing outside of it breaks, and headers of identity stay as
//! they are.
#![no_main]

use belay::filter::trial::{Made, Sample, Trial};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use libfuzzer_sys::fuzz_target;
use std::{fmt::Write, sync::LazyLock};

/// What can be called: each with its parameters, of which `l` is a long one.
const FUNCTIONS: &[(&str, &str)] = &[
    ("proxy_log", "iii"),
    ("proxy_get_log_level", "i"),
    ("proxy_get_current_time_nanoseconds", "i"),
    ("proxy_get_property", "iiii"),
    ("proxy_set_property", "iiii"),
    ("proxy_get_header_map_size", "ii"),
    ("proxy_get_header_map_pairs", "iii"),
    ("proxy_set_header_map_pairs", "iii"),
    ("proxy_get_header_map_value", "iiiii"),
    ("proxy_add_header_map_value", "iiiii"),
    ("proxy_replace_header_map_value", "iiiii"),
    ("proxy_remove_header_map_value", "iii"),
    ("proxy_get_buffer_bytes", "iiiii"),
    ("proxy_get_buffer_status", "iii"),
    ("proxy_set_buffer_bytes", "iiiii"),
    ("proxy_continue_stream", "i"),
    ("proxy_close_stream", "i"),
    ("proxy_send_local_response", "iiiiiiii"),
    ("proxy_http_call", "iiiiiiiiii"),
    ("proxy_get_shared_data", "iiiii"),
    ("proxy_set_shared_data", "iiiii"),
    ("proxy_register_shared_queue", "iii"),
    ("proxy_define_metric", "iiii"),
    ("proxy_increment_metric", "il"),
    ("proxy_record_metric", "il"),
    ("proxy_get_metric", "ii"),
    ("proxy_done", ""),
    ("proxy_set_effective_context", "i"),
];
/// A number of a function, and ten numbers of four bytes.
const STEP: usize = 41;
const SCRIPT_MAX: usize = 60 * STEP;

/// A guest that does what stands in the request's body, step by step.
fn guest() -> Vec<u8> {
    let (mut imports, mut steps) = (String::new(), String::new());
    for (number, (name, parameters)) in FUNCTIONS.iter().enumerate() {
        let types: String = parameters.chars().map(|kind| if kind == 'l' { "i64 " } else { "i32 " }).collect();
        writeln!(imports, "(import \"env\" \"{name}\" (func $f{number} (param {types}) (result i32)))").unwrap();
        let arguments: String = parameters.chars().enumerate().fold(String::new(), |mut text, (index, kind)| {
            let load = format!("(i32.load offset={} (local.get $at))", 1 + 4 * index);
            text.push_str(&if kind == 'l' { format!("(i64.extend_i32_s {load})") } else { load });
            text
        });
        writeln!(
            steps,
            "(if (i32.eq (local.get $what) (i32.const {number})) (then (drop (call $f{number} {arguments}))))"
        )
        .unwrap();
    }
    let text = format!(
        "(module {imports}
          (memory (export \"memory\") 4)
          (global $top (mut i32) (i32.const 131072))
          (func (export \"proxy_abi_version_0_2_1\"))
          (func (export \"proxy_on_context_create\") (param i32 i32) (global.set $top (i32.const 131072)))
          (func (export \"proxy_on_memory_allocate\") (param $size i32) (result i32)
            (if (i32.gt_u (local.get $size) (i32.const 65536)) (then (return (i32.const 0))))
            (if (i32.gt_u (global.get $top) (i32.const 190000)) (then (global.set $top (i32.const 131072))))
            (global.get $top) (global.set $top (i32.add (global.get $top) (local.get $size))))
          (func $step (param $at i32) (local $what i32)
            (local.set $what (i32.rem_u (i32.load8_u (local.get $at)) (i32.const {count})))
            {steps})
          (func (export \"proxy_on_request_body\") (param $id i32) (param $size i32) (param $last i32) (result i32)
            (local $at i32) (local $end i32)
            (drop (call $f12 (i32.const 0) (i32.const 0) (i32.const {SCRIPT_MAX}) (i32.const 0) (i32.const 4)))
            (local.set $at (i32.load (i32.const 0)))
            (memory.copy (i32.const 65536) (local.get $at) (i32.load (i32.const 4)))
            (local.set $at (i32.const 65536))
            (local.set $end (i32.add (i32.const 65536) (i32.load (i32.const 4))))
            (loop $more
              (if (i32.le_u (i32.add (local.get $at) (i32.const {STEP})) (local.get $end)) (then
                (call $step (local.get $at))
                (local.set $at (i32.add (local.get $at) (i32.const {STEP})))
                (br $more))))
            (i32.const 0)))",
        count = FUNCTIONS.len()
    );
    wat::parse_str(&text).unwrap()
}

static TRIAL: LazyLock<Trial> = LazyLock::new(|| {
    let pairs = [("accept", "text/html"), ("cookie", "a=b"), ("content-length", "9")];
    let headers: HeaderMap = pairs
        .into_iter()
        .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
        .collect();
    let sample =
        Sample { method: Method::POST, host: "shop.example.com".into(), target: "/orders".into(), headers, body: None };
    Trial::new(guest().into(), "fuzz", Bytes::new(), sample).unwrap()
});

fuzz_target!(|script: &[u8]| {
    let script = Bytes::copy_from_slice(&script[..script.len().min(SCRIPT_MAX)]);
    let (made, _) = TRIAL.run_with(Some(&script));
    if let Made::Goes(headers) = made {
        let ours = headers.iter().find(|(name, _)| belay::request::headers::is_ours(name));
        assert!(ours.is_none(), "{ours:?}");
    }
});
