//! How far apart stitches pull the weights they share, the paper's Fig. 2 (HANDS).

use esta_page::{
    markup::{details, escape, figure, image, missing, section as markup_section},
    numbers::count,
    table::table,
};

use super::view::View;
use crate::angles::TargetAngles;

const TITLE: &str = "Angles between gradients";

pub fn section(view: &View<'_>) -> String {
    if view.study.angles.is_none() {
        return String::new();
    }
    if view.angles.is_empty() {
        return markup_section(TITLE, "", &missing("No angles were measured yet: the study measures them at its end."));
    }
    let lead = "The angle between the loss gradients of two stitches on the query, key and value weights that both run, \
        before any training, as in the paper's Fig. 2: 0° pulls the same way, 90° is unrelated, above 90° one stitch \
        undoes what the other learns. Heads are fitted by ridge regression and stitching layers by least squares on \
        the images of each domain, since a head of zeros passes no gradient on; that is our choice, as is the number \
        of images.";
    let rows: Vec<Vec<String>> = view.angles.iter().flat_map(rows).collect();
    let heads = ["target", "domain", "stitches", "images", "pairs", "mean", "median", "above 90°"];
    let drawings: String = view.angles.iter().map(drawing).collect();
    markup_section(TITLE, lead, &(table(&heads, 2, &rows) + &details("Every pair, by target", &drawings)))
}

fn rows(angles: &TargetAngles) -> Vec<Vec<String>> {
    let row = |domain: &crate::angles::DomainAngles| {
        vec![
            escape(&angles.target),
            escape(&domain.domain),
            count(domain.stitches as u64),
            count(domain.images),
            count(domain.pairs as u64),
            format!("{:.1}°", domain.mean),
            format!("{:.1}°", domain.median),
            format!("{:.0} %", 100.0 * domain.above_90),
        ]
    };
    angles.domains.iter().map(row).collect()
}

fn drawing(angles: &TargetAngles) -> String {
    let label = format!("angles between gradients on {}", angles.target);
    figure(&image(&angles.drawing, &label), &escape(&angles.target))
}
