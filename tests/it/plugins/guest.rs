//! Small plugins, written by hand in WebAssembly's text form.

use std::fmt::Write;

/// What every guest can call, by the names that the tests use.
const IMPORTS: &str = r#"
  (import "env" "proxy_log" (func $log (param i32 i32 i32) (result i32)))
  (import "env" "proxy_get_log_level" (func $log_level (param i32) (result i32)))
  (import "env" "proxy_get_current_time_nanoseconds" (func $time (param i32) (result i32)))
  (import "env" "proxy_set_tick_period_milliseconds" (func $tick_period (param i32) (result i32)))
  (import "env" "proxy_get_property" (func $get_property (param i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_set_property" (func $set_property (param i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_get_header_map_size" (func $map_size (param i32 i32) (result i32)))
  (import "env" "proxy_get_header_map_pairs" (func $get_pairs (param i32 i32 i32) (result i32)))
  (import "env" "proxy_set_header_map_pairs" (func $set_pairs (param i32 i32 i32) (result i32)))
  (import "env" "proxy_get_header_map_value" (func $get_header (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_add_header_map_value" (func $add_header (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_replace_header_map_value" (func $set_header (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_remove_header_map_value" (func $remove_header (param i32 i32 i32) (result i32)))
  (import "env" "proxy_get_buffer_bytes" (func $get_buffer (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_get_buffer_status" (func $buffer_status (param i32 i32 i32) (result i32)))
  (import "env" "proxy_set_buffer_bytes" (func $set_buffer (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_continue_stream" (func $continue (param i32) (result i32)))
  (import "env" "proxy_close_stream" (func $close (param i32) (result i32)))
  (import "env" "proxy_send_local_response"
    (func $respond (param i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_http_call"
    (func $call (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_get_shared_data" (func $get_shared (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_set_shared_data" (func $set_shared (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_register_shared_queue" (func $register_queue (param i32 i32 i32) (result i32)))
  (import "env" "proxy_define_metric" (func $define_metric (param i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_increment_metric" (func $increment (param i32 i64) (result i32)))
  (import "env" "proxy_record_metric" (func $record (param i32 i64) (result i32)))
  (import "env" "proxy_get_metric" (func $get_metric (param i32 i32) (result i32)))
  (import "env" "proxy_done" (func $done (result i32)))
  (import "env" "proxy_set_effective_context" (func $effective (param i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_prestat_get" (func $prestat (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
"#;

/// Memory, and what a guest needs to be one. At 0 and 4 stand what is given: where, and how long. What is set aside begins
/// anew with each request.
const BODY: &str = r#"
  (memory (export "memory") 4)
  (global $top (mut i32) (i32.const 131072))
  (func (export "proxy_on_memory_allocate") (param $size i32) (result i32)
    (global.get $top)
    (global.set $top (i32.add (global.get $top) (local.get $size))))
  (func (export "proxy_on_context_create") (param i32 i32) (global.set $top (i32.const 131072)))
  (func $at (result i32) (i32.load (i32.const 0)))
  (func $length (result i32) (i32.load (i32.const 4)))
"#;

/// A guest that is being written: texts are put into its memory, and named by place and length.
pub struct Guest {
    data: String,
    next: usize,
    body: String,
    abi: &'static str,
}

impl Guest {
    pub fn new() -> Self {
        Self { data: String::new(), next: 1024, body: String::new(), abi: "proxy_abi_version_0_2_1" }
    }

    /// The same in another version of the ABI.
    pub fn speaking(self, abi: &'static str) -> Self {
        Self { abi, ..self }
    }

    /// A text, as the place and the length that a function takes.
    pub fn text(&mut self, text: &str) -> String {
        let bytes: String = text.bytes().fold(String::new(), |mut bytes, byte| {
            write!(bytes, "\\{byte:02x}").unwrap();
            bytes
        });
        let at = self.next;
        writeln!(self.data, "  (data (i32.const {at}) \"{bytes}\")").unwrap();
        self.next += text.len();
        format!("(i32.const {at}) (i32.const {})", text.len())
    }

    /// A list of headers.
    pub fn pairs(&mut self, pairs: &[(&str, &str)]) -> String {
        let number = |number: usize| String::from_utf8(u32::try_from(number).unwrap().to_le_bytes().to_vec()).unwrap();
        let lengths: String = pairs.iter().map(|(name, value)| number(name.len()) + &number(value.len())).collect();
        let texts: String = pairs.iter().map(|(name, value)| format!("{name}\0{value}\0")).collect();
        self.text(&format!("{}{lengths}{texts}", number(pairs.len())))
    }

    /// A function that is called: `name`, its parameters, and whether it has a result.
    pub fn on(mut self, name: &str, signature: &str, body: &str) -> Self {
        writeln!(self.body, "  (func (export \"{name}\") {signature}\n{body})").unwrap();
        self
    }

    /// Reads a header of a request, or writes one.
    pub fn on_request(self, body: &str) -> Self {
        self.on("proxy_on_request_headers", "(param $id i32) (param $count i32) (param $all i32) (result i32)", body)
    }

    pub fn on_response(self, body: &str) -> Self {
        self.on("proxy_on_response_headers", "(param $id i32) (param $count i32) (param $all i32) (result i32)", body)
    }

    pub fn on_request_body(self, body: &str) -> Self {
        self.on("proxy_on_request_body", "(param $id i32) (param $size i32) (param $last i32) (result i32)", body)
    }

    pub fn on_response_body(self, body: &str) -> Self {
        self.on("proxy_on_response_body", "(param $id i32) (param $size i32) (param $last i32) (result i32)", body)
    }

    pub fn on_answer(self, body: &str) -> Self {
        let signature =
            "(param $id i32) (param $call i32) (param $headers i32) (param $size i32) (param $trailers i32)";
        self.on("proxy_on_http_call_response", signature, body)
    }

    /// Other parts of the module.
    pub fn part(mut self, part: &str) -> Self {
        writeln!(self.body, "{part}").unwrap();
        self
    }

    /// The module.
    pub fn module(&self) -> Vec<u8> {
        let abi = format!("  (func (export \"{}\"))\n", self.abi);
        let text = format!("(module\n{IMPORTS}{BODY}{abi}{}{})", self.data, self.body);
        wat::parse_str(&text).unwrap_or_else(|error| panic!("{error}\n{text}"))
    }
}

/// Tells a status, or another small number, in a header of the request: as a letter from `0` on.
pub fn tells(guest: &mut Guest, header: &str, number: &str) -> String {
    let name = guest.text(header);
    format!(
        "(i32.store8 (i32.const 16) (i32.add (i32.const 48) {number}))
         (drop (call $set_header (i32.const 0) {name} (i32.const 16) (i32.const 1)))"
    )
}
