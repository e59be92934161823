//! A profile for reading (HANDS): the table, how well MACs foretell time, and what to do with the file.

use std::path::Path;

use esta_engine::{latency::Latency, law::Law, profile::Profile};

/// Half of a stitch's passes should lie within this share of its median: beyond it another program was in the way.
const QUIET: f64 = 0.2;

/// Bins that a suggested gap opens, more or less.
const BINS: f64 = 10.0;

/// Every stitch; beside one that is slower than a larger one stands that other's number.
pub fn table(law: &Law, profile: &Profile) {
    let slower = profile.slower_than_larger();
    let paths: Vec<String> = law.catalog.stitches().map(|stitch| stitch.path(&law.spec.family)).collect();
    let width = paths.iter().map(|path| path.chars().count()).max().unwrap_or(0);
    println!("stitch  {:<width$} {:>14} {:>10} {:>10} {:>10}  slower than", "path", "MACs", "median ms", "p25", "p75");
    for (stitch, path) in law.catalog.stitches().zip(&paths) {
        let Some(measured) = profile.stitches.get(&stitch.id) else { continue };
        let ms =
            |latency: Option<Latency>| latency.map_or_else(String::new, |latency| format!("{:.3}", latency.millis()));
        let [median, p25, p75] = [Some(measured.median), measured.p25, measured.p75].map(ms);
        let than = slower.get(&stitch.id).map_or_else(String::new, ToString::to_string);
        let line =
            format!("{:>6}  {path:<width$} {:>14} {median:>10} {p25:>10} {p75:>10}  {than}", stitch.id.0, stitch.macs);
        println!("{}", line.trim_end());
    }
}

/// Under which conditions it was measured, how quiet the machine was, and how well MACs foretell time.
pub fn summary(profile: &Profile) {
    let Profile { device, batch, threads, rounds, .. } = profile;
    let hardware = profile.hardware.as_ref().map_or_else(String::new, |name| format!(" ({name})"));
    let images = if *batch == 1 { "1 image".to_owned() } else { format!("{batch} images") };
    println!("\na forward pass of {images} on {device}{hardware}, {threads} thread(s), {rounds} rounds");
    if let Some(spread) = profile.spread() {
        println!("half of a stitch's passes lie within {:.1} % of its median (the middle stitch)", 100.0 * spread);
        if spread > QUIET {
            println!("this machine was busy: measure again when it is idle, or with more --rounds");
        }
    }
    match profile.macs_tau() {
        Some(tau) => {
            println!("by MACs the stitches are ordered as by time with Kendall tau {tau:.2}; 1 is the same order")
        }
        None => println!("MACs or times do not tell the stitches apart"),
    }
    println!("{}", inversions(profile));
}

/// The stitches that are slower than a larger one, and the worst of them.
fn inversions(profile: &Profile) -> String {
    let slower = profile.slower_than_larger();
    let ratio = |stitch, than| profile.stitches[stitch].median.millis() / profile.stitches[than].median.millis();
    let worst = slower.iter().max_by(|a, b| ratio(a.0, a.1).total_cmp(&ratio(b.0, b.1)));
    match worst {
        None => "no stitch is slower than one of more MACs by more than noise".to_owned(),
        Some((stitch, than)) => {
            let (count, percent) = (slower.len(), 100.0 * (ratio(stitch, than) - 1.0));
            let are = if count == 1 { "stitch is" } else { "stitches are" };
            format!(
                "{count} {are} slower than one of more MACs by more than noise; worst is {stitch}, {percent:.0} % slower \
                 than {than}"
            )
        }
    }
}

/// How a job takes its budgets from the file.
pub fn budgets(profile: &Profile, path: &Path) {
    let times = || profile.stitches.values().map(|measured| measured.median.millis());
    let span = times().fold(0.0, f64::max) - times().fold(f64::INFINITY, f64::min);
    let gap = Latency::from_millis(two_digits(span / BINS)).map_or(1.0, Latency::millis);
    println!("\n{} is written; a job uses it by, for example,", path.display());
    println!("budgets: {{latency: {{profile: {}, gap: {gap}ms}}}}", path.display());
}

/// How a run's palette is asked with the file.
pub fn answers(profile: &Profile, path: &Path, run_dir: &Path) {
    let mut medians: Vec<Latency> = profile.stitches.values().map(|measured| measured.median).collect();
    medians.sort_unstable();
    let Some(middle) = medians.get(medians.len() / 2) else { return };
    let (run_dir, most) = (run_dir.display(), two_digits(middle.millis()));
    println!("\n{} is written; ask for a model by, for example,", path.display());
    println!("esta-coordinator palette --run-dir {run_dir} --latency {} --at-most {most}ms", path.display());
}

/// Rounded to two significant digits.
fn two_digits(number: f64) -> f64 {
    if number <= 0.0 {
        return number;
    }
    let scale = 10_f64.powi(1 - number.log10().floor() as i32);
    (number * scale).round() / scale
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile(rows: &[(u64, f64)]) -> Profile {
        let row = |(id, (macs, ms)): (usize, &(u64, f64))| {
            (id.to_string(), serde_json::json!({"macs": macs, "median_ms": ms}))
        };
        let rows: serde_json::Map<_, _> = rows.iter().enumerate().map(row).collect();
        serde_json::from_value(serde_json::json!({ "stitches": rows })).expect("a profile")
    }

    #[test]
    fn the_worst_of_the_slower_stitches_is_named() {
        let mixed = profile(&[(10, 2.0), (20, 3.0), (30, 1.5), (40, 4.0)]);
        assert_eq!(
            inversions(&mixed),
            "2 stitches are slower than one of more MACs by more than noise; worst is 1, 100 % slower than 2"
        );
        let ordered = profile(&[(10, 1.0), (20, 2.0)]);
        assert_eq!(inversions(&ordered), "no stitch is slower than one of more MACs by more than noise");
    }

    #[test]
    fn suggestions_have_two_digits() {
        assert_eq!([0.01234, 1.26, 126.0, 0.0].map(two_digits), [0.012, 1.3, 130.0, 0.0]);
    }
}
