//! Angle matrices as one SVG (HANDS): a heat map per domain and their common legend, readable on light and dark pages.
//!
//! A right angle has no colour: hue says on which side of it an angle lies, opacity how far. So the page's own background
//! is the neutral middle, whatever it is.

use esta_page::plot::{document, push, text};

use super::{Domain, DomainAngles};

const STYLE: &str = "\
.title { font-size: 14px; font-weight: 600; fill: var(--ink); }
.e { text-anchor: end; } .m { text-anchor: middle; }
.with { fill: var(--loss); } .against { fill: var(--snip); } .same { fill: var(--line); }
.none { fill: url(#none); } .hatch { stroke: var(--line); stroke-width: 2; } .frame { fill: none; stroke: var(--line); }
.s0 { stop-color: var(--loss); } .s1 { stop-color: var(--snip); }
";

/// Side of a map.
const SIDE: f64 = 384.0;
const MARGIN: f64 = 44.0;
const HEADER: f64 = 62.0;
const FOOTER: f64 = 66.0;
/// Steps that the range of the legend is rounded up to, in degrees.
const RANGE_STEP: f64 = 15.0;
/// Stitch numbers along an edge, at most.
const TICKS: usize = 8;

/// Draws the domains side by side on one scale.
#[must_use]
pub fn draw(domains: &[DomainAngles]) -> String {
    let width = MARGIN + domains.len() as f64 * (SIDE + MARGIN);
    let height = HEADER + SIDE + FOOTER;
    let range = range(domains);
    let mut svg = String::from(DEFINITIONS);
    for (number, domain) in domains.iter().enumerate() {
        let left = MARGIN + number as f64 * (SIDE + MARGIN);
        let map = Map { domain, left, cell: SIDE / domain.stitches.len().max(1) as f64, range };
        map.draw(&mut svg);
    }
    legend(&mut svg, range);
    document((width, height), "Angles between the gradients of stitches", STYLE, &svg)
}

const DEFINITIONS: &str = "<defs>\
<linearGradient id=\"g0\"><stop class=\"s0\" offset=\"0\"/><stop class=\"s0\" offset=\"1\" stop-opacity=\"0\"/></linearGradient>\
<linearGradient id=\"g1\"><stop class=\"s1\" offset=\"0\" stop-opacity=\"0\"/><stop class=\"s1\" offset=\"1\"/></linearGradient>\
<pattern id=\"none\" width=\"6\" height=\"6\" patternUnits=\"userSpaceOnUse\" patternTransform=\"rotate(45)\">\
<line class=\"hatch\" y2=\"6\"/></pattern></defs>";

/// How far from a right angle the scale reaches, either way: as far as any angle does.
fn range(domains: &[DomainAngles]) -> f64 {
    let angles = domains.iter().flat_map(|domain| domain.matrix.pairs());
    let farthest = angles.map(|angle| (angle - 90.0).abs()).fold(0.0, f64::max);
    ((farthest / RANGE_STEP).ceil() * RANGE_STEP).clamp(RANGE_STEP, 90.0)
}

/// One domain's map.
struct Map<'a> {
    domain: &'a DomainAngles,
    left: f64,
    cell: f64,
    range: f64,
}

impl Map<'_> {
    fn draw(&self, svg: &mut String) {
        self.heading(svg);
        self.ticks(svg);
        for (row, angles) in self.domain.matrix.rows().iter().enumerate() {
            for (column, angle) in angles.iter().enumerate() {
                self.square(svg, (row, column), *angle);
            }
        }
        let Self { left, .. } = self;
        push(
            svg,
            format_args!("<rect class=\"frame\" x=\"{left}\" y=\"{HEADER}\" width=\"{SIDE}\" height=\"{SIDE}\"/>"),
        );
    }

    fn heading(&self, svg: &mut String) {
        let Self { left, domain, .. } = self;
        let which = match domain.domain {
            Domain::Source => "Source domain",
            Domain::Target => "Target domain",
        };
        text(svg, "title", (*left, 20.0), &format!("{which}: {}", domain.job));
        let Some(summary) = &domain.summary else { return };
        let (mean, above) = (summary.mean, 100.0 * summary.above_90);
        text(svg, "tick", (*left, 38.0), &format!("mean {mean:.1}°, {above:.0} % of pairs above 90°"));
    }

    /// Stitch numbers along the top and the left edge.
    fn ticks(&self, svg: &mut String) {
        let stitches = &self.domain.stitches;
        let step = stitches.len().div_ceil(TICKS).max(1);
        for (place, stitch) in stitches.iter().enumerate().step_by(step) {
            let middle = (place as f64 + 0.5) * self.cell;
            text(svg, "tick m", (self.left + middle, HEADER - 5.0), &stitch.to_string());
            text(svg, "tick e", (self.left - 5.0, HEADER + middle + 4.0), &stitch.to_string());
        }
    }

    fn square(&self, svg: &mut String, (row, column): (usize, usize), angle: Option<f64>) {
        let (x, y) = (self.left + column as f64 * self.cell, HEADER + row as f64 * self.cell);
        let (class, opacity) = match angle {
            _ if row == column => ("same", 1.0),
            None => ("none", 1.0),
            Some(angle) => (if angle > 90.0 { "against" } else { "with" }, (angle - 90.0).abs() / self.range),
        };
        let (first, second) = (self.domain.stitches[row], self.domain.stitches[column]);
        let said = angle.map_or_else(|| "no common block".to_owned(), |angle| format!("{angle:.1}°"));
        push(
            svg,
            format_args!(
                "<rect class=\"{class}\" x=\"{x:.2}\" y=\"{y:.2}\" width=\"{size:.2}\" height=\"{size:.2}\" \
             fill-opacity=\"{opacity:.3}\"><title>stitches {first} and {second}: {said}</title></rect>",
                size = self.cell
            ),
        );
    }
}

fn legend(svg: &mut String, range: f64) {
    let (left, top, half, thick) = (MARGIN, HEADER + SIDE + 16.0, 100.0, 12.0);
    let middle = left + half;
    for (x, gradient) in [(left, "g0"), (middle, "g1")] {
        push(
            svg,
            format_args!("<rect x=\"{x}\" y=\"{top}\" width=\"{half}\" height=\"{thick}\" fill=\"url(#{gradient})\"/>"),
        );
    }
    let width = 2.0 * half;
    push(svg, format_args!("<rect class=\"frame\" x=\"{left}\" y=\"{top}\" width=\"{width}\" height=\"{thick}\"/>"));
    let base = top + thick + 15.0;
    for (x, class, angle) in
        [(left, "tick", 90.0 - range), (middle, "tick m", 90.0), (left + width, "tick e", 90.0 + range)]
    {
        text(svg, class, (x, base), &format!("{angle:.0}°"));
    }
    let (box_left, text_left, base) = (left + width + 24.0, left + width + 42.0, top + 10.5);
    push(svg, format_args!("<rect class=\"none\" x=\"{box_left}\" y=\"{top}\" width=\"12\" height=\"12\"/>"));
    text(svg, "tick", (text_left, base), "no common block");
}

#[cfg(test)]
mod tests {
    use esta_proto::StitchId;

    use super::super::{AngleMatrix, BlockGram, Summary};
    use super::*;

    fn domain(domain: Domain, job: &str, products: &[f64]) -> DomainAngles {
        let rows: Vec<usize> = (0..products.len().isqrt()).collect();
        let stitches: Vec<StitchId> = (3..).map(StitchId).take(rows.len() + 1).collect();
        let matrix = AngleMatrix::new(stitches.len(), &[BlockGram { rows, products: products.to_vec() }]);
        let summary = Summary::of(&matrix);
        DomainAngles { domain, job: job.to_owned(), images: 8, stitches, matrix, summary }
    }

    #[test]
    fn names_cannot_break_out_of_the_drawing() {
        let svg = draw(&[domain(Domain::Target, "</text><script>alert(\"&'\")</script>\u{1}", &[1.0, 0.5, 0.5, 1.0])]);
        assert!(!svg.contains("<script"), "{svg}");
        assert!(svg.contains("&lt;/text&gt;&lt;script&gt;alert(&quot;&amp;&#39;&quot;)&lt;/script&gt;\u{fffd}"));
    }

    #[test]
    fn every_pair_has_a_square_that_says_its_angle() {
        let svg = draw(&[domain(Domain::Source, "made up", &[1.0, -0.5, -0.5, 1.0])]);
        assert_eq!(svg.matches("<title>").count(), 9, "three stitches");
        assert_eq!(svg.matches("<title>stitches 3 and 4: 120.0°</title>").count(), 1);
        assert_eq!(svg.matches("stitches 5 and 3: no common block").count(), 1);
        assert_eq!(svg.matches("class=\"against\"").count(), 2);
    }

    #[test]
    fn both_domains_share_one_scale() {
        let near = domain(Domain::Source, "near", &[1.0, 0.1, 0.1, 1.0]);
        let far = domain(Domain::Target, "far", &[1.0, 0.5, 0.5, 1.0]);
        assert_eq!(range(std::slice::from_ref(&near)), 15.0);
        assert_eq!(range(&[near.clone(), far.clone()]), 30.0);
        let svg = draw(&[near, far]);
        assert!(svg.contains(">60°<") && svg.contains(">120°<"), "{svg}");
    }
}
