//! Job files, spoilt: whatever is in them, they are refused in one line or make a law, in little time and room.

use std::{path::Path, time::Instant};

use esta_config::load;
use esta_engine::run::Ledger;
use esta_sim::mutate::{Mutator, over_seeds};

/// Files that bring a whole family with them.
const JOBS: [&str; 4] = ["snnet-deit.yaml", "snnet-v2-deit.yaml", "quickstart/target.yaml", "vision/_base.yaml"];

/// However busy the machine: a job that takes this long was not refused where it should have been.
const PATIENCE: f64 = 30.0;

fn configs() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs")
}

/// Loads a text in the place of a job of this name, so that its bases are found.
fn outcome(name: &str, text: &str) -> Result<(), String> {
    let folder = configs().join(name).parent().expect("it is in a folder").to_owned();
    let file = tempfile::Builder::new().suffix(".tmp").tempfile_in(folder).expect("a file beside the job");
    std::fs::write(file.path(), text).expect("writes");
    let law = load(file.path(), &[]).map_err(|error| error.to_string())?;
    let total = law.total_steps(1000);
    let ledger = Ledger::new(law.into(), total);
    assert!(ledger.plan(esta_proto::Step(0)).is_some(), "a job has a first step");
    Ok(())
}

#[test]
fn a_spoilt_job_is_refused_in_one_line_or_makes_a_law() {
    over_seeds(150, |seed| {
        let mut mutator = Mutator::new(seed);
        let name = *mutator.one_of(&JOBS);
        let whole = std::fs::read_to_string(configs().join(name)).expect("it is shipped");
        let text = mutator.text(&whole);
        let begun = Instant::now();
        if let Err(flaw) = outcome(name, &text) {
            assert!(!flaw.is_empty() && flaw.lines().count() == 1, "{flaw:?}");
        }
        assert!(begun.elapsed().as_secs_f64() < PATIENCE, "it took {:?}:\n{text}", begun.elapsed());
    });
}

#[test]
fn any_bytes_at_all_are_refused() {
    over_seeds(300, |seed| {
        let noise = Mutator::new(seed).noise(400);
        outcome(JOBS[0], &String::from_utf8_lossy(&noise)).expect_err("noise is no job");
    });
}

#[test]
fn numbers_beyond_all_measure_are_refused_by_their_key() {
    let job = std::fs::read_to_string(configs().join(JOBS[0])).expect("it is shipped");
    let flaw = |key: &str, value: &str| {
        let overrides = [format!("{key}={value}")];
        load(&configs().join(JOBS[0]), &overrides).expect_err(&format!("{key}={value}\n{job}")).to_string()
    };
    for (key, value) in [
        ("sampling.slots", "4294967295"),
        ("train.batch_size", "4294967280"),
        ("data.num_classes", "4000000000"),
        ("data.loader_threads", "4000000000"),
        ("train.intra_op_threads", "4000000000"),
        ("sampling.lookahead", "4000000000"),
        ("pst.lora_r", "4000000000"),
    ] {
        let flaw = flaw(key, value);
        assert!(flaw.contains(&format!("{key}: ")), "{flaw}");
    }
    let arch = "{image_size: 224, patch_size: 16, embed_dim: 8, depth: 4000000000, num_heads: 2}";
    let deep = flaw("family.anchors[0]", &format!("{{name: deep, weights: x, arch: {arch}}}"));
    assert!(deep.contains("blocks") || deep.contains("depth"), "{deep}");
}
