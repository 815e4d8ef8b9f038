//! The words of proxy-wasm, version 0.2.1, and how lists of headers lie in a plugin's memory.
//! <https://github.com/proxy-wasm/spec/tree/main/abi-versions/v0.2.1>

use std::ops::{Index, IndexMut};

/// What a host function answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Status {
    Ok = 0,
    NotFound = 1,
    BadArgument = 2,
    InvalidMemoryAccess = 6,
    CasMismatch = 8,
    InternalFailure = 10,
    Unimplemented = 12,
}

/// Lists of headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Map {
    RequestHeaders,
    ResponseHeaders,
    ResponseTrailers,
    CallHeaders,
    /// One that is known and always empty here: Pingora drops a request's trailers, and errands read none.
    Nothing,
}

impl Map {
    pub(super) const fn of(number: u32) -> Option<Self> {
        match number {
            0 => Some(Self::RequestHeaders),
            2 => Some(Self::ResponseHeaders),
            3 => Some(Self::ResponseTrailers),
            6 => Some(Self::CallHeaders),
            1 | 7 => Some(Self::Nothing),
            _ => None,
        }
    }
}

/// Stretches of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Buffer {
    RequestBody,
    ResponseBody,
    CallBody,
    VmConfiguration,
    PluginConfiguration,
}

impl Buffer {
    pub(super) const fn of(number: u32) -> Option<Self> {
        match number {
            0 => Some(Self::RequestBody),
            1 => Some(Self::ResponseBody),
            4 => Some(Self::CallBody),
            6 => Some(Self::VmConfiguration),
            7 => Some(Self::PluginConfiguration),
            _ => None,
        }
    }
}

/// The direction of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Request,
    Response,
}

impl Way {
    /// How many headers stand for the request line, or the status line.
    pub(super) const fn pseudo_headers(self) -> usize {
        match self {
            Self::Request => 4,
            Self::Response => 1,
        }
    }

    pub(super) const fn of(number: u32) -> Option<Self> {
        match number {
            0 => Some(Self::Request),
            1 => Some(Self::Response),
            _ => None,
        }
    }
}

/// Something of each direction.
#[derive(Debug, Clone, Default)]
pub(super) struct Both<T> {
    request: T,
    response: T,
}

impl<T> Both<T> {
    /// Whether it is so of one of them.
    pub(super) fn any(&self, is_so: impl Fn(&T) -> bool) -> bool {
        is_so(&self.request) || is_so(&self.response)
    }
}

impl<T> Index<Way> for Both<T> {
    type Output = T;

    fn index(&self, way: Way) -> &T {
        match way {
            Way::Request => &self.request,
            Way::Response => &self.response,
        }
    }
}

impl<T> IndexMut<Way> for Both<T> {
    fn index_mut(&mut self, way: Way) -> &mut T {
        match way {
            Way::Request => &mut self.request,
            Way::Response => &mut self.response,
        }
    }
}

/// The most headers of one list.
const PAIRS_MAX: usize = 1024;

/// Reads a list: their number, the lengths of each name and value, and then the texts, each with a zero byte behind it.
/// None if it is none.
pub(super) fn read_pairs(bytes: &[u8]) -> Option<Vec<(&[u8], &[u8])>> {
    if bytes.is_empty() {
        return Some(Vec::new());
    }
    let number = |at: usize| {
        let bytes = bytes.get(at..at.checked_add(4)?)?;
        usize::try_from(u32::from_le_bytes(bytes.try_into().ok()?)).ok()
    };
    let count = number(0).filter(|count| *count <= PAIRS_MAX)?;
    let mut at = count.checked_mul(8)?.checked_add(4)?;
    let mut text = |length: usize| {
        let end = at.checked_add(length)?;
        let text = bytes.get(at..end)?;
        (*bytes.get(end)? == 0).then_some(())?;
        at = end.checked_add(1)?;
        Some(text)
    };
    let pair = |index: usize| {
        let place = index.checked_mul(8)?.checked_add(4)?;
        Some((text(number(place)?)?, text(number(place.checked_add(4)?)?)?))
    };
    (0..count).map(pair).collect()
}

/// Writes a list. None if it is too long to be one.
pub(super) fn write_pairs(pairs: &[(&[u8], &[u8])]) -> Option<Vec<u8>> {
    let mut bytes = u32::try_from(pairs.len()).ok()?.to_le_bytes().to_vec();
    for (name, value) in pairs {
        bytes.extend(u32::try_from(name.len()).ok()?.to_le_bytes());
        bytes.extend(u32::try_from(value.len()).ok()?.to_le_bytes());
    }
    for (name, value) in pairs {
        for text in [name, value] {
            bytes.extend_from_slice(text);
            bytes.push(0);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use test_case::test_case;

    proptest! {
        #[test]
        fn what_is_written_is_read(pairs: Vec<(Vec<u8>, Vec<u8>)>) {
            let pairs: Vec<_> = pairs.iter().map(|(name, value)| (&**name, &**value)).collect();
            let written = write_pairs(&pairs).unwrap();
            prop_assert_eq!(read_pairs(&written), Some(pairs));
        }

        #[test]
        fn any_bytes_are_a_list_or_none(bytes: Vec<u8>) {
            read_pairs(&bytes);
        }
    }

    #[test_case(&[1, 0, 0, 0]; "no lengths")]
    #[test_case(&[1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]; "no texts")]
    #[test_case(&[1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, b'a', b'b', 0]; "no zero behind a text")]
    #[test_case(&[0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]; "more than there can be")]
    #[test_case(&[1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0]; "longer than it is")]
    fn is_no_list(bytes: &[u8]) {
        assert_eq!(read_pairs(bytes), None);
    }
}
