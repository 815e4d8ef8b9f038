//! Long numbers, by the only thing that is certain about them: that they are many digits in a row.

/// Stars every run of at least so many digits. Whether there was one.
pub fn redact(body: &mut [u8], digits_min: usize) -> bool {
    let mut is_changed = false;
    for run in body.chunk_by_mut(|left, right| left.is_ascii_digit() && right.is_ascii_digit()) {
        if run.len() >= digits_min && run[0].is_ascii_digit() {
            run.fill(b'*');
            is_changed = true;
        }
    }
    is_changed
}
