//! The importance table as heat maps: stitches by budget (HANDS).

use esta_engine::catalog::Stitch;
use esta_page::{
    markup::{escape, missing, section as markup_section},
    numbers::significant,
    plot::{push, svg},
};

use super::evidence::Evidence;

const TITLE: &str = "The importance table";

/// What a map shows of a stitch.
struct Quantity {
    name: &'static str,
    note: &'static str,
    class: &'static str,
    value: fn(&Evidence, &Stitch) -> Option<f64>,
    /// Shade 0..1 of a value among those of its budget.
    shade: fn(f64, low: f64, high: f64) -> f64,
}

const QUANTITIES: [Quantity; 4] = [
    Quantity {
        name: "importance",
        note: "against the budget's highest",
        class: "h1",
        value: |evidence, stitch| evidence.row(stitch.id).importance,
        shade: highest_strongest,
    },
    Quantity {
        name: "visits",
        note: "against the budget's most visited",
        class: "h2",
        value: |evidence, stitch| Some(evidence.row(stitch.id).visits as f64),
        shade: highest_strongest,
    },
    Quantity {
        name: "training loss",
        note: "the budget's lowest is strongest",
        class: "h3",
        value: |evidence, stitch| evidence.row(stitch.id).loss,
        shade: lowest_strongest,
    },
    Quantity {
        name: "own part of the loss",
        note: "auto's; the budget's lowest is strongest",
        class: "h3",
        value: |evidence, stitch| evidence.row(stitch.id).effect,
        shade: lowest_strongest,
    },
];

fn highest_strongest(value: f64, _low: f64, high: f64) -> f64 {
    value / high
}

fn lowest_strongest(value: f64, low: f64, high: f64) -> f64 {
    (high - value) / (high - low)
}

pub fn section(evidence: &Evidence) -> String {
    if evidence.table.is_none() {
        return markup_section(
            TITLE,
            "",
            &missing("The run has not ended: <code>table.json</code> is written after its last step."),
        );
    }
    let lead = "A row is a budget, cheapest at the top; a cell is a stitch, cheaper ones to the left. Shades \
        compare the stitches of a \
        budget, as sampler and palette do; a frame marks what the job's rule chose. Hover for numbers.";
    let maps: String = QUANTITIES.iter().map(|quantity| map(evidence, quantity)).collect();
    markup_section(TITLE, lead, &format!("<div class=\"maps\">{maps}</div>\n"))
}

fn map(evidence: &Evidence, quantity: &Quantity) -> String {
    let widest = (0..evidence.budgets()).map(|budget| evidence.bin(budget).len()).max().unwrap_or(1);
    let cell = (300.0 / widest as f64).clamp(5.0, 24.0);
    let rows: String = (0..evidence.budgets()).map(|budget| row(evidence, quantity, budget, cell)).collect();
    let size = (28.0 + cell * widest as f64, 4.0 + ROW * evidence.budgets() as f64);
    let drawing = svg(size, &format!("{} of every stitch by budget", quantity.name), &rows);
    format!(
        "<figure style=\"flex-basis:{:.0}px\"><figcaption><b>{}</b> {}</figcaption>{drawing}</figure>",
        size.0, quantity.name, quantity.note
    )
}

const ROW: f64 = 22.0;

fn row(evidence: &Evidence, quantity: &Quantity, budget: usize, cell: f64) -> String {
    let stitches = evidence.bin(budget);
    let known = || stitches.iter().filter_map(|stitch| (quantity.value)(evidence, stitch));
    let (low, high) = (known().fold(f64::INFINITY, f64::min), known().fold(f64::NEG_INFINITY, f64::max));
    let top = 2.0 + ROW * budget as f64;
    let mut out = format!("<text class=\"tick e\" x=\"22\" y=\"{:.1}\">{budget}</text>", top + 14.0);
    for (column, stitch) in stitches.iter().enumerate() {
        let value = (quantity.value)(evidence, stitch);
        let shade = value
            .map(|value| (quantity.shade)(value, low, high))
            .map(|shade| if shade.is_finite() { shade } else { 1.0 });
        let (class, opacity) = match shade {
            Some(shade) => (quantity.class, 0.06 + 0.94 * shade.clamp(0.0, 1.0)),
            None => ("none", 1.0),
        };
        let frame = if evidence.chosen_by(stitch.id).contains(&evidence.rule) { " pick" } else { "" };
        let said = value.map_or_else(|| "not visited".to_owned(), significant);
        let title = format!("stitch {}: {}\n{} {said}", stitch.id, evidence.path(stitch), quantity.name);
        push(
            &mut out,
            format_args!(
                "<g class=\"{class}{frame}\"><rect x=\"{:.1}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"{:.1}\" \
                 fill-opacity=\"{opacity:.2}\"/><title>{}</title></g>",
                28.0 + cell * column as f64,
                cell - 2.0,
                ROW - 3.0,
                escape(&title)
            ),
        );
    }
    out
}
