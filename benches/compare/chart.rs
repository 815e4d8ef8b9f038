//! CPU per request, drawn: one group of bars for each job.

use super::figures::{Row, Run};
use std::fmt::Write;

const WIDTH: f64 = 820.0;
const LEFT: f64 = 120.0;
const RIGHT: f64 = 90.0;
const TOP: f64 = 56.0;
const BAR: f64 = 13.0;
const GAP: f64 = 14.0;

/// The picture. Each job has a scale of its own, so that the small ones can be read.
pub fn draw(run: &Run) -> String {
    let mut jobs: Vec<&str> = run.rows.iter().map(|row| row.job.as_str()).collect();
    jobs.dedup();
    let mut bars = String::new();
    let mut y = TOP;
    for job in jobs {
        let rows: Vec<_> = run.rows.iter().filter(|row| row.job == job && row.figures.is_some()).collect();
        let most = rows.iter().filter_map(|row| cpu(row)).fold(1.0, f64::max);
        let middle = y + BAR * rows.len() as f64 / 2.0 + 4.0;
        writeln!(bars, "<text class=\"ink end\" x=\"{}\" y=\"{middle:.0}\">{job}</text>", LEFT - 10.0).unwrap();
        for row in rows {
            y = draw_bar(&mut bars, row, most, y);
        }
        y += GAP;
    }
    let height = y + 10.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-labelledby=\"t d\">\n\
         <title id=\"t\">CPU per request by job</title>\n<desc id=\"d\">Microseconds of CPU that a request costs Belay, \
         HAProxy and nginx. The figures stand in the table beside it.</desc>\n{STYLE}\n\
         <rect class=\"bg\" width=\"{WIDTH}\" height=\"{height}\" rx=\"8\"/>\n\
         <text class=\"ink\" x=\"20\" y=\"24\">Microseconds of CPU per request; each job has its own scale</text>\n"
    );
    for (index, name) in ["Belay", "HAProxy", "nginx"].iter().enumerate() {
        let x = 520.0 + 90.0 * index as f64;
        writeln!(
            svg,
            "<rect class=\"{}\" x=\"{x}\" y=\"15\" width=\"12\" height=\"10\"/><text class=\"ink\" x=\"{}\" y=\"24\">{name}</text>",
            name.to_lowercase(),
            x + 18.0
        )
        .unwrap();
    }
    svg.push_str(&bars);
    svg.push_str("</svg>\n");
    svg
}

fn cpu(row: &Row) -> Option<f64> {
    row.figures.as_ref().map(|figures| figures.cpu.median)
}

/// One bar with its figure; where the next one goes.
fn draw_bar(bars: &mut String, row: &Row, most: f64, y: f64) -> f64 {
    let cpu = cpu(row).unwrap_or_default();
    let width = (WIDTH - LEFT - RIGHT) * cpu / most;
    let class = row.contender.to_lowercase();
    writeln!(
        bars,
        "<rect class=\"{class}\" x=\"{LEFT}\" y=\"{y:.0}\" width=\"{width:.0}\" height=\"{}\"/>\
         <text class=\"soft\" x=\"{:.0}\" y=\"{:.0}\">{cpu:.1}</text>",
        BAR - 2.0,
        LEFT + width + 6.0,
        y + BAR - 3.0
    )
    .unwrap();
    y + BAR
}

const STYLE: &str = "<style>text{font:12px -apple-system,'Segoe UI','Noto Sans',Helvetica,Arial,sans-serif}\
.end{text-anchor:end}.bg{fill:#ffffff;stroke:#d0d7de}.ink{fill:#1f2328}.soft{fill:#59636e}\
.belay{fill:#bc4c00}.haproxy{fill:#0969da}.nginx{fill:#8c959f}\
@media(prefers-color-scheme:dark){.bg{fill:#0d1117;stroke:#3d444d}.ink{fill:#f0f6fc}.soft{fill:#9198a1}\
.belay{fill:#db6d28}.haproxy{fill:#4493f8}.nginx{fill:#656c76}}</style>";
