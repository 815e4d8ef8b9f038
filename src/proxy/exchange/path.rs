//! Paths in records.

/// A path as it is recorded. One that is too long for a record ends with how long it was, after a sign that no path
/// as judged can hold.
pub(super) fn recorded(path: &str, max: usize) -> Box<str> {
    if path.len() <= max {
        return path.into();
    }
    let start: String = path.chars().take(max / 4).collect();
    format!("{start}?[{} bytes]", path.len()).into()
}
