//! Makes the page of the committed evidence anew, without running anything and without libtorch:
//! `cargo run --release -p esta-study --example evidence_page`, from the repository's root.

use std::{
    fs,
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use esta_page::numbers::date;
use esta_study::{evidence::Evidence, page::About};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = Path::new("docs/evidence");
    let evidence = Evidence::read(Path::new("configs/studies/offline.yaml"), &folder.join("offline.jsonl"))?;
    let about = About {
        command: "make reproduce\ncargo run --release -p esta-study --example evidence_page".into(),
        version: env!("CARGO_PKG_VERSION").into(),
        // Where the runs were made.
        machine: "2 cores".into(),
        device: "cpu".into(),
        date: date(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs_f64()),
    };
    fs::write(folder.join("offline.html"), evidence.page(&about))?;
    Ok(())
}
