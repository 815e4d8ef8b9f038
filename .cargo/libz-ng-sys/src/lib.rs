//! Stands in for `libz-ng-sys`, whose build needs cmake. It offers the same C interface from plain zlib, which
//! builds with a C compiler alone. Pingora forces the `zlib-ng` feature of flate2, hence the patch.
pub use libz_sys::*;
