//! The plot: one small chart for each sweep, as SVG that can be read on light and on dark paper. Pure text.
//!
//! Libraries for charts write their colours into every line, and then there is one paper for all readers; here a
//! style sheet of a few lines has both.

use std::fmt::Write;

use super::sweep::{Series, Sweep};

/// One document with a chart for each sweep, three beside each other.
pub fn svg(sweeps: &[Sweep]) -> String {
    let rows = sweeps.len().div_ceil(COLUMNS);
    let columns = sweeps.len().min(COLUMNS);
    let (width, height) = (columns as f64 * CELL.0 + MARGIN, rows as f64 * CELL.1 + MARGIN);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
         height=\"{height}\" role=\"img\">\n<title>What a router's work costs as it gets more to do</title>\n\
         <style>{STYLE}</style>\n<rect class=\"paper\" width=\"{width}\" height=\"{height}\" rx=\"6\"/>\n"
    );
    for (number, sweep) in sweeps.iter().enumerate() {
        let (column, row) = ((number % COLUMNS) as f64, (number / COLUMNS) as f64);
        let (x, y) = (MARGIN / 2.0 + column * CELL.0, MARGIN / 2.0 + row * CELL.1);
        line(&mut out, format_args!("<g transform=\"translate({x} {y})\">"));
        chart(&mut out, sweep);
        line(&mut out, format_args!("</g>"));
    }
    if !sweeps.len().is_multiple_of(COLUMNS) {
        // Beside the last chart.
        let x = width - MARGIN / 2.0 - CELL.0 + LEFT;
        let first = height - MARGIN / 2.0 - CELL.1 + TOP;
        for (number, words) in NOTE.iter().enumerate() {
            let y = first + number as f64 * 20.0;
            line(&mut out, format_args!("<text class=\"soft\" x=\"{x}\" y=\"{y}\">{words}</text>"));
        }
    }
    out += "</svg>\n";
    out
}

fn chart(out: &mut String, sweep: &Sweep) {
    line(out, format_args!("<text class=\"title\" x=\"{LEFT}\" y=\"22\">{}</text>", sweep.title));
    line(out, format_args!("<text class=\"soft\" x=\"{LEFT}\" y=\"40\">{}</text>", sweep.cost));
    legend(out, &sweep.series);
    let points = || sweep.series.iter().flat_map(|series| &series.points);
    let across = Axis::of_sizes(&sweep.sizes());
    let up = Axis::of_costs(points().map(|point| point.cost));
    for tick in &up.ticks {
        let y = BOTTOM - up.place(*tick) * (BOTTOM - TOP);
        line(out, format_args!("<path class=\"grid\" d=\"M{LEFT} {y:.1}H{RIGHT}\"/>"));
        let (x, y) = (LEFT - 7.0, y + 4.0);
        let label = short(*tick);
        line(out, format_args!("<text class=\"end\" x=\"{x}\" y=\"{y:.1}\">{label}</text>"));
    }
    let at = |size: u64| LEFT + INSET + across.place(size as f64) * (RIGHT - LEFT - 2.0 * INSET);
    line(out, format_args!("<path class=\"axis\" d=\"M{LEFT} {BOTTOM}H{RIGHT}\"/>"));
    for tick in &across.ticks {
        let (x, y, mark) = (at(*tick as u64), BOTTOM + 18.0, BOTTOM + 4.0);
        line(out, format_args!("<path class=\"axis\" d=\"M{x:.1} {BOTTOM}V{mark}\"/>"));
        let label = short(*tick);
        line(out, format_args!("<text class=\"middle\" x=\"{x:.1}\" y=\"{y}\">{label}</text>"));
    }
    let (x, y) = ((LEFT + RIGHT) / 2.0, BOTTOM + 36.0);
    line(
        out,
        format_args!("<text class=\"middle soft\" x=\"{x}\" y=\"{y}\">{}</text>", sweep.size),
    );
    for (series, class) in sweep.series.iter().zip(COLOURS) {
        let places: Vec<(f64, f64)> = series
            .points
            .iter()
            .map(|point| (at(point.size), BOTTOM - up.place(point.cost) * (BOTTOM - TOP)))
            .collect();
        let path: Vec<String> = places.iter().map(|(x, y)| format!("{x:.1} {y:.1}")).collect();
        line(out, format_args!("<path class=\"line {class}\" d=\"M{}\"/>", path.join("L")));
        let radius = if places.len() > FEW { 2.0 } else { 3.5 };
        for ((x, y), point) in places.iter().zip(&series.points) {
            let (name, size, cost) = (series.name, point.size, exact(point.cost));
            line(
                out,
                format_args!(
                    "<circle class=\"dot {class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius}\"><title>{name}, \
                     {size}: {cost}</title></circle>"
                ),
            );
        }
    }
}

fn legend(out: &mut String, series: &[Series]) {
    let mut x = LEFT;
    for (series, class) in series.iter().zip(COLOURS) {
        let end = x + SWATCH;
        line(out, format_args!("<path class=\"line {class}\" d=\"M{x:.1} 57H{end:.1}\"/>"));
        let text = end + 5.0;
        line(out, format_args!("<text x=\"{text:.1}\" y=\"61\">{}</text>", series.name));
        x = text + series.name.chars().count() as f64 * LETTER + 14.0;
    }
}

/// An axis from 0 to 1, and what stands beside it.
struct Axis {
    low: f64,
    high: f64,
    by_magnitude: bool,
    ticks: Vec<f64>,
}

impl Axis {
    /// By orders of magnitude, from the smallest to the largest.
    fn of_sizes(sizes: &[u64]) -> Self {
        let low = sizes.first().copied().unwrap_or(1).max(1) as f64;
        let high = sizes.last().copied().unwrap_or(1).max(1) as f64;
        let ticks = match sizes.len() {
            0..=FEW => sizes.iter().map(|size| *size as f64).collect(),
            _ => steps(low, high),
        };
        Self { low, high, by_magnitude: true, ticks }
    }

    /// From 0, so that what is flat looks flat; by orders of magnitude if there are several.
    fn of_costs(costs: impl Iterator<Item = f64> + Clone) -> Self {
        let high = costs.clone().fold(f64::MIN_POSITIVE, f64::max);
        let low = costs.filter(|cost| *cost > 0.0).fold(high, f64::min);
        if high / low > SEVERAL_MAGNITUDES {
            let (low, high) = (10_f64.powf(low.log10().floor()), 10_f64.powf(high.log10().ceil()));
            let decades = (high / low).log10().round() as i32;
            let ticks = (0..=decades).map(|decade| low * 10_f64.powi(decade)).collect();
            return Self { low, high, by_magnitude: true, ticks };
        }
        let step = steps(high / 10.0, high * 10.0).into_iter().find(|step| high / step <= 4.5);
        let step = step.unwrap_or(high);
        let count = (high / step).ceil();
        let ticks = (0..=count as usize).map(|tick| tick as f64 * step).collect();
        Self { low: 0.0, high: count * step, by_magnitude: false, ticks }
    }

    fn place(&self, value: f64) -> f64 {
        if self.low >= self.high {
            return 0.5;
        }
        match self.by_magnitude {
            true => (value.max(self.low) / self.low).ln() / (self.high / self.low).ln(),
            false => (value - self.low) / (self.high - self.low),
        }
    }
}

/// The numbers 1, 2 and 5 times a power of ten between these.
pub(super) fn steps(low: f64, high: f64) -> Vec<f64> {
    let powers = low.log10().floor() as i32..=high.log10().ceil() as i32;
    let all = powers.flat_map(|power| [1.0, 2.0, 5.0].map(|digit| digit * 10_f64.powi(power)));
    // A power of ten may be off by a hair.
    all.filter(|step| *step >= low * 0.999 && *step <= high * 1.001).collect()
}

/// 1,500 as 1.5 k.
fn short(value: f64) -> String {
    let (value, unit) = match value {
        value if value >= 1e6 => (value / 1e6, " M"),
        value if value >= 1e3 => (value / 1e3, " k"),
        value => (value, ""),
    };
    let rounded = (value * 1e3).round() / 1e3;
    format!("{rounded}{unit}")
}

/// With three digits or so.
pub(super) fn exact(cost: f64) -> String {
    match cost {
        cost if cost >= 100.0 => format!("{cost:.0}"),
        cost if cost >= 10.0 => format!("{cost:.1}"),
        cost => format!("{cost:.2}"),
    }
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a string does not fail.
    let _ = writeln!(out, "{text}");
}

const COLUMNS: usize = 3;
/// How wide and how high a chart is, with all that belongs to it,
const CELL: (f64, f64) = (340.0, 300.0);
const MARGIN: f64 = 20.0;
/// and where its lines are drawn.
const LEFT: f64 = 50.0;
const RIGHT: f64 = 325.0;
const TOP: f64 = 80.0;
const BOTTOM: f64 = 245.0;
/// How far the first and the last point are from the sides.
const INSET: f64 = 14.0;
const SWATCH: f64 = 16.0;
/// How wide a letter is, about.
const LETTER: f64 = 6.1;
/// More points than this are drawn small.
const FEW: usize = 6;
/// How many times the lowest cost the highest is at least, for an axis by magnitudes.
const SEVERAL_MAGNITUDES: f64 = 12.0;
const NOTE: [&str; 7] = [
    "Less is better; what is flat costs the same",
    "however much there is.",
    "",
    "CPU time of the router, user and system,",
    "of all its threads. Sizes go by orders of",
    "magnitude, and so do costs that differ by",
    "more than one.",
];
const COLOURS: [&str; 3] = ["a", "b", "c"];
const STYLE: &str = "
text{font:12px system-ui,-apple-system,'Segoe UI','DejaVu Sans',sans-serif;fill:#24292f}
.title{font-size:13.5px;font-weight:600}.soft{fill:#57606a}.end{text-anchor:end}.middle{text-anchor:middle}
.paper{fill:#fff}.grid{stroke:#e3e7eb}.axis{stroke:#8c959f}
.line{fill:none;stroke-width:2;stroke-linejoin:round;stroke-linecap:round}.dot{stroke:none}
.line.a{stroke:#1f6feb}.line.b{stroke:#c2570c}.line.c{stroke:#1a7f37}
.dot.a{fill:#1f6feb}.dot.b{fill:#c2570c}.dot.c{fill:#1a7f37}
@media (prefers-color-scheme:dark){
text{fill:#e6edf3}.soft{fill:#9198a1}.paper{fill:#0d1117}.grid{stroke:#262c36}.axis{stroke:#6e7681}
.line.a{stroke:#6cb0ff}.line.b{stroke:#ffa657}.line.c{stroke:#56d364}
.dot.a{fill:#6cb0ff}.dot.b{fill:#ffa657}.dot.c{fill:#56d364}}
";

#[cfg(test)]
mod tests {
    use super::super::sweep::Point;
    use super::*;

    fn sweep(costs: &[(u64, f64)]) -> Sweep {
        let point = |(size, cost): &(u64, f64)| Point { size: *size, cost: *cost, rate: 1.0 };
        let points = costs.iter().map(point).collect();
        Sweep {
            key: "key",
            title: "A frame",
            size: "instances",
            cost: "CPU ns",
            rate: "a second",
            series: vec![
                Series { name: "direct", points },
                Series { name: "hash", points: vec![] },
            ],
        }
    }

    /// What the elements with this beginning have as this attribute.
    fn attributes(svg: &str, element: &str, name: &str) -> Vec<f64> {
        let elements = svg.split('<').filter(|text| text.starts_with(element));
        let value =
            |text: &str| text.split(&format!(" {name}=\"")).nth(1)?.split('"').next()?.parse().ok();
        elements.filter_map(value).collect()
    }

    #[test]
    fn orders_of_magnitude_are_as_far_from_each_other_and_costs_begin_at_zero() {
        let svg = svg(&[sweep(&[(10, 50.0), (1_000, 100.0), (100_000, 0.0)])]);
        let x = attributes(&svg, "circle", "cx");
        assert!((x[1] - x[0] - (x[2] - x[1])).abs() < 0.2, "{x:?}");
        let y = attributes(&svg, "circle", "cy");
        assert_eq!(y[2], BOTTOM);
        assert!((y[1] + y[2] - 2.0 * y[0]).abs() < 0.2, "{y:?}");
        assert!(y.iter().all(|y| (TOP..=BOTTOM).contains(y)), "{y:?}");
    }

    #[test]
    fn costs_of_several_magnitudes_have_an_axis_of_them() {
        let up = Axis::of_costs([30.0, 4_000.0].into_iter());
        assert_eq!(up.ticks, [10.0, 100.0, 1_000.0, 10_000.0]);
        assert!((up.place(1_000.0) - 2.0 / 3.0).abs() < 1e-9);
        let up = Axis::of_costs([52.0, 81.0].into_iter());
        assert_eq!(up.ticks, [0.0, 20.0, 40.0, 60.0, 80.0, 100.0]);
    }

    #[test]
    fn every_chart_has_its_words_and_every_element_ends() {
        let svg = svg(&vec![sweep(&[(1, 1.0), (4, 2.0)]); 5]);
        for words in ["A frame", "instances", "CPU ns", "direct", "hash"] {
            assert_eq!(svg.matches(&format!(">{words}</text>")).count(), 5, "{words}");
        }
        assert!(svg.contains("prefers-color-scheme:dark") && svg.contains("Less is better"));
        for element in ["svg", "g", "text", "title", "circle", "style"] {
            let (begun, ended) = (format!("<{element}"), format!("</{element}>"));
            let begun = svg.split(&begun).skip(1).filter(|rest| rest.starts_with([' ', '>']));
            assert_eq!(begun.count(), svg.matches(&ended).count(), "{element}");
        }
    }

    #[test]
    fn many_sizes_get_round_numbers_below_them() {
        let sizes: Vec<u64> = (1..=20).map(|step| step * 50_000).collect();
        let labels: Vec<String> = Axis::of_sizes(&sizes).ticks.into_iter().map(short).collect();
        assert_eq!(labels, ["50 k", "100 k", "200 k", "500 k", "1 M"]);
    }
}
