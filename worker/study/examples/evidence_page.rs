//! Makes the pages of the committed evidence anew, without running anything and without libtorch:
//! `cargo run --release -p esta-study --example evidence_page`, from the repository's root.

use std::{
    fs,
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use esta_page::numbers::date;
use esta_study::{
    evidence::{COMMITTED, Evidence},
    page::About,
};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    COMMITTED.into_iter().try_for_each(write)
}

fn write(name: &str) -> Result<(), Box<dyn std::error::Error>> {
    let study = format!("configs/studies/{name}.yaml");
    let file = |kind: &str| Path::new("docs/evidence").join(format!("{name}.{kind}"));
    let evidence = Evidence::read(Path::new(&study), &file("jsonl"))?;
    let about = About {
        command: format!("STUDY={name} make reproduce\ncargo run --release -p esta-study --example evidence_page"),
        version: env!("CARGO_PKG_VERSION").into(),
        // Where the runs were made.
        machine: "2 cores".into(),
        device: "cpu".into(),
        date: date(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs_f64()),
    };
    Ok(fs::write(file("html"), evidence.page(&about))?)
}
