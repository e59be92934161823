//! Studies: whole runs as cells, what is finished stays finished, and one failing cell costs no other.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context;
use esta_tests::{Lab, Process};
use serde_json::Value;

const STEPS: u64 = 20;

/// `esta-worker ablate` on a job of the lab.
struct Ablation<'a> {
    lab: &'a Lab,
    job: PathBuf,
    out: PathBuf,
}

impl<'a> Ablation<'a> {
    fn new(lab: &'a Lab, out: &str) -> anyhow::Result<Self> {
        let job = lab.write_job("job", "", STEPS)?;
        Ok(Self { lab, job, out: lab.path().join(out) })
    }

    /// Runs it to its end: exit code and what it said.
    fn run(&self, name: &str, more: &[&str]) -> anyhow::Result<(Option<i32>, String)> {
        let (job, out) = (self.job.display().to_string(), self.out.display().to_string());
        let args = [&["ablate", "--config", &job, "--out", &out, "--jobs", "2"], more].concat();
        let mut process = Process::start(self.lab.path(), name, "esta-worker", &args)?;
        let status = process.wait()?;
        Ok((status.code(), process.log()))
    }

    fn results(&self) -> anyhow::Result<Vec<Value>> {
        let text = fs::read_to_string(self.out.join("results.jsonl"))?;
        text.lines().map(|line| serde_json::from_str(line).context("a result")).collect()
    }
}

fn written(folder: &Path) -> anyhow::Result<Vec<(PathBuf, std::time::SystemTime)>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        files.push((entry.path(), entry.metadata()?.modified()?));
    }
    files.sort();
    Ok(files)
}

#[test]
fn an_ablation_runs_every_cell_once_and_its_results_can_be_taken_elsewhere() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let ablation = Ablation::new(&lab, "study")?;
    let over = ["--over", "pst.bias=all|none", "--seeds", "2"];

    let (code, log) = ablation.run("first", &[&over[..], &["--only", "bias=none"]].concat())?;
    assert_eq!(code, Some(0), "{log}");
    assert_eq!(ablation.results()?.len(), 2, "two seeds of one arm");
    let kept = written(&ablation.out.join("results"))?;

    let (code, log) = ablation.run("second", &over)?;
    assert_eq!(code, Some(0), "{log}");
    let results = ablation.results()?;
    let cells: Vec<_> = results.iter().map(|result| (result["arm"].as_str(), result["seed"].as_u64())).collect();
    let arms = [Some("job"), Some("bias=none")];
    assert_eq!(cells, [(arms[0], Some(11)), (arms[1], Some(11)), (arms[0], Some(12)), (arms[1], Some(12))]);
    let again = written(&ablation.out.join("results"))?;
    assert!(kept.iter().all(|file| again.contains(file)), "what was finished was run again");
    for result in &results {
        let stitches = result["stitches"].as_array().context("stitches")?;
        assert!(stitches.len() > 2 && stitches.iter().all(|stitch| stitch["row"]["effect"].is_f64()), "{result}");
        assert!(result["costs"]["train_seconds"].as_f64() > Some(0.0), "{result}");
    }
    let trained = |arm: usize| results[arm]["costs"]["trained_params"].as_u64();
    assert!(trained(1) < trained(0), "biases are not trained where there are none");
    let page = fs::read_to_string(ablation.out.join("study.html"))?;
    assert!(page.contains("bias=none") && page.contains("Selection"), "the page names its arms");

    let elsewhere = Ablation::new(&lab, "elsewhere")?;
    let file = ablation.out.join("results.jsonl").display().to_string();
    let (code, log) = elsewhere.run("adopt", &[&over[..], &["--adopt", &file, "--page-only"]].concat())?;
    assert_eq!(code, Some(0), "{log}");
    assert_eq!(elsewhere.results()?, results);
    Ok(())
}

#[test]
fn a_cell_that_fails_is_named_and_the_others_are_done() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let ablation = Ablation::new(&lab, "study")?;
    let (code, log) = ablation.run("broken", &["--over", "data.train.path=/nowhere/images", "--seeds", "1"])?;
    assert_eq!(code, Some(1), "{log}");
    assert!(log.contains("1 of 2 cells failed: job--path=-nowhere-images--11"), "{log}");
    let results = ablation.results()?;
    assert_eq!(results.iter().map(|result| result["arm"].as_str()).collect::<Vec<_>>(), [Some("job")]);
    Ok(())
}

#[test]
fn a_mistake_is_named_before_anything_runs() -> anyhow::Result<()> {
    let lab = Lab::without_anchors()?;
    let ablation = Ablation::new(&lab, "study")?;
    let (code, log) = ablation.run("axis", &["--over", "slotz"])?;
    assert!(code != Some(0) && log.contains("--over slotz") && log.contains("slots"), "{code:?} {log}");
    let (code, log) = ablation.run("value", &["--over", "pst.bias=some"])?;
    assert_eq!(code, Some(3), "{log}");
    assert!(log.contains("pst.bias") && log.contains("some"), "{log}");
    assert!(!ablation.out.exists(), "nothing was begun");
    Ok(())
}
