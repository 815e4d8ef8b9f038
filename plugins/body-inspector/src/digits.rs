//! Long numbers, by the only thing that is certain about them: that they are many digits in a row.

/// Stars every run of at least so many digits. Whether there was one.
///
/// A long run fills a window of that many bytes, so that the window goes on behind the last byte in it that is no digit;
/// in words it mostly jumps, and nothing is looked at more than twice.
pub fn redact(body: &mut [u8], digits_min: usize) -> bool {
    let mut is_changed = false;
    let mut at = 0;
    while let Some(window) = body.get(at..at + digits_min) {
        if let Some(gap) = window.iter().rposition(|byte| !byte.is_ascii_digit()) {
            at += gap + 1;
            continue;
        }
        let run = digits_min + body[at + digits_min..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        body[at..at + run].fill(b'*');
        at += run;
        is_changed = true;
    }
    is_changed
}
