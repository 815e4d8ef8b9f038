//! Latency over time, drawn.

use super::load::{Answer, percentile};
use std::{fmt::Write, time::Duration};

pub const LENGTH: Duration = Duration::from_secs(12);
pub const SLOWS_AT: Duration = Duration::from_secs(3);
pub const HEALS_AT: Duration = Duration::from_secs(7);
/// One point.
const STEP: Duration = Duration::from_millis(250);

const WIDTH: f64 = 820.0;
const HEIGHT: f64 = 340.0;
const LEFT: f64 = 72.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 56.0;
const BOTTOM: f64 = 48.0;
/// The axis, in milliseconds.
const LEAST: f64 = 1.0;
const MOST: f64 = 1000.0;

/// Seconds, and the milliseconds within which 99 of 100 requests of a step were answered.
pub fn points(answers: &[Answer]) -> Vec<(f64, f64)> {
    let steps = LENGTH.as_millis() / STEP.as_millis();
    let point = |step: u32| {
        let (from, to) = (STEP * step, STEP * (step + 1));
        let of_step = answers.iter().filter(|answer| (from..to).contains(&answer.due));
        (from.as_secs_f64(), percentile(of_step, 99).as_secs_f64() * 1000.0)
    };
    (0..u32::try_from(steps).unwrap()).map(point).collect()
}

fn x(seconds: f64) -> f64 {
    LEFT + (WIDTH - LEFT - RIGHT) * seconds / LENGTH.as_secs_f64()
}

/// A logarithmic axis.
fn y(millis: f64) -> f64 {
    let share = (millis.clamp(LEAST, MOST) / LEAST).log10() / (MOST / LEAST).log10();
    HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * share
}

/// The picture of lines with their names.
pub fn draw(lines: &[(&str, Vec<(f64, f64)>)]) -> String {
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-labelledby=\"t d\">\n\
         <title id=\"t\">Latency over time with one slow server</title>\n\
         <desc id=\"d\">99 of 100 requests are answered within this time. From second {} to {} one of three servers takes \
         200 ms. With round robin the line rises for as long; with least latency only for a moment.</desc>\n{STYLE}\n\
         <rect class=\"bg\" width=\"{WIDTH}\" height=\"{HEIGHT}\" rx=\"8\"/>\n",
        SLOWS_AT.as_secs(),
        HEALS_AT.as_secs()
    );
    let (from, to) = (x(SLOWS_AT.as_secs_f64()), x(HEALS_AT.as_secs_f64()));
    let height = HEIGHT - TOP - BOTTOM;
    writeln!(svg, "<rect class=\"band\" x=\"{from:.0}\" y=\"{TOP}\" width=\"{:.0}\" height=\"{height}\"/>", to - from)
        .unwrap();
    writeln!(
        svg,
        "<text class=\"soft mid\" x=\"{:.0}\" y=\"{}\">one of three servers takes 200 ms</text>",
        f64::midpoint(from, to),
        TOP + 16.0
    )
    .unwrap();
    writeln!(svg, "<text class=\"ink\" x=\"{LEFT}\" y=\"24\">Within this time 99 of 100 requests are answered</text>")
        .unwrap();
    for millis in [1.0, 10.0, 100.0, 1000.0] {
        let at = y(millis);
        writeln!(svg, "<path class=\"grid\" d=\"M{LEFT} {at:.0}H{}\"/>", WIDTH - RIGHT).unwrap();
        writeln!(svg, "<text class=\"soft end\" x=\"{}\" y=\"{:.0}\">{millis} ms</text>", LEFT - 8.0, at + 4.0)
            .unwrap();
    }
    for second in (0..=LENGTH.as_secs()).step_by(2) {
        let at = x(second as f64);
        writeln!(svg, "<text class=\"soft mid\" x=\"{at:.0}\" y=\"{}\">{second} s</text>", HEIGHT - BOTTOM + 20.0)
            .unwrap();
    }
    for (index, (name, points)) in lines.iter().enumerate() {
        let path: Vec<_> =
            points.iter().map(|(seconds, millis)| format!("{:.1} {:.1}", x(*seconds), y(*millis))).collect();
        writeln!(svg, "<path class=\"line{index}\" d=\"M{}\"/>", path.join("L")).unwrap();
        let at = WIDTH - RIGHT - 260.0 + 130.0 * index as f64;
        writeln!(
            svg,
            "<path class=\"line{index}\" d=\"M{at} 20h18\"/>\n<text class=\"ink\" x=\"{}\" y=\"24\">{name}</text>",
            at + 24.0
        )
        .unwrap();
    }
    svg.push_str("</svg>");
    svg
}

const STYLE: &str = "<style>text{font:13px -apple-system,'Segoe UI','Noto Sans',Helvetica,Arial,sans-serif}\
.mid{text-anchor:middle}.end{text-anchor:end}.bg{fill:#ffffff;stroke:#d0d7de}.ink{fill:#1f2328}.soft{fill:#59636e}\
.band{fill:#fff1e5}.grid{stroke:#d0d7de;fill:none}.line0,.line1{fill:none;stroke-width:2;stroke-linejoin:round}\
.line0{stroke:#bc4c00}.line1{stroke:#0969da}\
@media(prefers-color-scheme:dark){.bg{fill:#0d1117;stroke:#3d444d}.ink{fill:#f0f6fc}.soft{fill:#9198a1}\
.band{fill:#2a1f13}.grid{stroke:#3d444d}.line0{stroke:#db6d28}.line1{stroke:#4493f8}}</style>";
