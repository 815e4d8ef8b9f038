//! The algorithms, one piece of a body after another.

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use schemars::JsonSchema;
use serde::Deserialize;
use std::{
    fmt,
    io::{self, Write},
};

// Levels at which a core compresses some 100 MB/s of text: what is compressed while it is sent is compressed once.
const GZIP_LEVEL: u32 = 4;
const BROTLI_LEVEL: u32 = 4;
const ZSTD_LEVEL: i32 = 3;
/// As bits: what is looked back at is 256 KiB, so that a response takes a small multiple of that.
const WINDOW: u32 = 18;
const BROTLI_BUFFER: usize = 4096;

/// How a body is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
pub(in crate::filter) enum Algorithm {
    /// RFC 8878.
    #[serde(rename = "zstd")]
    Zstd,
    /// RFC 7932.
    #[serde(rename = "br")]
    Brotli,
    /// RFC 1952.
    #[serde(rename = "gzip")]
    Gzip,
}

impl Algorithm {
    /// Its content coding (RFC 9110 § 8.4.1).
    pub(super) const fn coding(self) -> &'static str {
        match self {
            Self::Zstd => "zstd",
            Self::Brotli => "br",
            Self::Gzip => "gzip",
        }
    }
}

/// One body that is being compressed; nothing once it has ended.
pub(super) struct Encoder(Option<Box<dyn Compressor>>);

/// What the libraries have in common.
trait Compressor: Write + Send + Sync {
    /// What there is to send.
    fn take(&mut self) -> Vec<u8>;

    /// The rest.
    fn finish(self: Box<Self>) -> io::Result<Vec<u8>>;
}

impl Compressor for zstd::stream::write::Encoder<'static, Vec<u8>> {
    fn take(&mut self) -> Vec<u8> {
        std::mem::take(self.get_mut())
    }

    fn finish(self: Box<Self>) -> io::Result<Vec<u8>> {
        (*self).finish()
    }
}

impl Compressor for brotli::CompressorWriter<Vec<u8>> {
    fn take(&mut self) -> Vec<u8> {
        std::mem::take(self.get_mut())
    }

    fn finish(self: Box<Self>) -> io::Result<Vec<u8>> {
        Ok(self.into_inner())
    }
}

impl Compressor for GzEncoder<Vec<u8>> {
    fn take(&mut self) -> Vec<u8> {
        std::mem::take(self.get_mut())
    }

    fn finish(self: Box<Self>) -> io::Result<Vec<u8>> {
        (*self).finish()
    }
}

impl Encoder {
    /// None if the library has no room for it.
    pub(super) fn new(algorithm: Algorithm) -> Option<Self> {
        let compressor: Box<dyn Compressor> = match algorithm {
            Algorithm::Zstd => {
                let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), ZSTD_LEVEL).ok()?;
                encoder.window_log(WINDOW).ok()?;
                Box::new(encoder)
            }
            Algorithm::Brotli => {
                Box::new(brotli::CompressorWriter::new(Vec::new(), BROTLI_BUFFER, BROTLI_LEVEL, WINDOW))
            }
            Algorithm::Gzip => Box::new(GzEncoder::new(Vec::new(), Compression::new(GZIP_LEVEL))),
        };
        Some(Self(Some(compressor)))
    }

    /// Takes a piece; what there is to send, which may be nothing yet. None if it fails, or was at its end already.
    pub(super) fn encode(&mut self, piece: &[u8], is_last: bool, flushes: bool) -> Option<Bytes> {
        let compressor = self.0.as_mut()?;
        compressor.write_all(piece).ok()?;
        if is_last {
            return self.0.take()?.finish().ok().map(Bytes::from);
        }
        if flushes && !piece.is_empty() {
            compressor.flush().ok()?;
        }
        Some(compressor.take().into())
    }
}

impl fmt::Debug for Encoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Encoder")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use test_case::test_case;

    fn decoded(algorithm: Algorithm, bytes: &[u8]) -> Vec<u8> {
        let mut text = Vec::new();
        match algorithm {
            Algorithm::Zstd => drop(zstd::stream::read::Decoder::new(bytes).unwrap().read_to_end(&mut text)),
            Algorithm::Brotli => drop(brotli::Decompressor::new(bytes, 4096).read_to_end(&mut text)),
            Algorithm::Gzip => drop(flate2::read::GzDecoder::new(bytes).read_to_end(&mut text)),
        }
        text
    }

    #[test_case(Algorithm::Zstd)]
    #[test_case(Algorithm::Brotli)]
    #[test_case(Algorithm::Gzip)]
    fn a_body_in_pieces(algorithm: Algorithm) {
        for flushes in [false, true] {
            let mut encoder = Encoder::new(algorithm).unwrap();
            let mut sent = Vec::new();
            for piece in ["one, ", "", "two, "] {
                sent.extend_from_slice(&encoder.encode(piece.as_bytes(), false, flushes).unwrap());
            }
            if flushes {
                assert_eq!(decoded(algorithm, &sent), b"one, two, ", "what was flushed can be read");
            }
            sent.extend_from_slice(&encoder.encode(b"three", true, flushes).unwrap());
            assert_eq!(decoded(algorithm, &sent), b"one, two, three");
            assert_eq!(encoder.encode(b"more", false, flushes), None, "nothing comes after the end");
        }
    }
}
