//! Studies: whole runs as cells, what is finished stays finished, and one failing cell costs no other.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context;
use esta_tests::{Lab, Process, deadline};
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

#[test]
fn a_study_tries_rules_that_look_after_training_and_measures_angles_in_both_domains() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let job = lab.write_job("job", "", STEPS)?;
    lab.change(&job, "eval: {stitches: all}", "eval: {stitches: all, probe_images: 40}")?;
    let data = lab.data_of();
    let slice = format!("  validation: {{{data}, split: {{count: 30}}}}\n");
    lab.change(&job, "data:\n", &format!("data:\n{slice}"))?;
    let study = lab.path().join("study.yaml");
    fs::write(
        &study,
        "name: small\ntitle: Small\nwords: It is small.\nseeds: [11]\n\
         targets: [{name: bars, config: job.yaml}]\narms: [{name: paper, set: [recipe=paper]}]\n\
         angles: {source: job.yaml, images: 16, stitches: 3}\n",
    )?;
    let (study, out) = (study.display().to_string(), lab.path().join("out").display().to_string());
    let mut process =
        Process::start(lab.path(), "study", "esta-worker", &["ablate", "--study", &study, "--out", &out])?;
    anyhow::ensure!(process.wait()?.success(), "{}", process.log());

    let text = fs::read_to_string(Path::new(&out).join("results.jsonl"))?;
    let result: Value = serde_json::from_str(text.trim())?;
    for stitch in result["stitches"].as_array().context("stitches")? {
        let value = |rule: &str| stitch["values"][rule].as_f64().with_context(|| format!("{rule} of {stitch}"));
        let anchor = stitch["anchor"] == true;
        assert_eq!(value("kl-own")? == 0.0, anchor, "an anchor answers as itself, a stitch as none: {stitch}");
        assert!(value("kl-largest")? <= 0.0 && value("train-loss")? < 0.0 && value("slice-loss")? < 0.0, "{stitch}");
        // A slice of ten images of each class.
        let hits = 30.0 * value("slice")?;
        assert!((hits - hits.round()).abs() < 1e-3 && (0.0..=30.0).contains(&hits), "{stitch}");
    }
    let angles: Value = serde_json::from_slice(&fs::read(Path::new(&out).join("angles/bars.json"))?)?;
    let domains = angles["domains"].as_array().context("domains")?;
    let named: Vec<_> = domains.iter().map(|domain| (domain["domain"].as_str(), domain["pairs"].as_u64())).collect();
    assert_eq!(named, [(Some("source"), Some(3)), (Some("target"), Some(3))]);
    assert_eq!(domains[0]["mean"], domains[1]["mean"], "here both domains are the same images");
    let page = fs::read_to_string(Path::new(&out).join("study.html"))?;
    assert!(page.contains("Angles between gradients") && page.contains("data:image/svg+xml,"));
    Ok(())
}

#[test]
fn a_study_that_is_killed_leaves_no_run_behind() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let job = lab.write_job("job", "", 1_000_000)?;
    let (job, out) = (job.display().to_string(), lab.path().join("out").display().to_string());
    let args = ["ablate", "--config", &job, "--over", "pst.bias=none", "--seeds", "1", "--out", &out, "--jobs", "2"];
    let mut study = Process::start(lab.path(), "study", "esta-worker", &args)?;
    // A coordinator for each of two cells, and its worker.
    let runs = || Some(runs_in(lab.path(), study.id())).filter(|pids| pids.len() >= 4);
    let pids = deadline("the runs of the study begin", runs)?;
    study.kill();
    deadline("the runs of the study end", || pids.iter().all(|pid| parent(*pid).is_none()).then_some(()))
}

/// The coordinators whose command line names this folder, but for the study's own process, and their workers.
fn runs_in(folder: &Path, study: u32) -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids: Vec<u32> = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    let line = |pid: &u32| fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let names = |pid: &u32| String::from_utf8_lossy(&line(pid)).contains(&folder.display().to_string());
    let coordinators: Vec<u32> = pids.iter().copied().filter(|pid| *pid != study && names(pid)).collect();
    let works = |pid: &u32| parent(*pid).is_some_and(|parent| coordinators.contains(&parent));
    pids.iter().copied().filter(|pid| coordinators.contains(pid) || works(pid)).collect()
}

/// The parent of a process that lives: neither gone nor waiting to be reaped.
fn parent(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_whitespace();
    if fields.next()? == "Z" { None } else { fields.next()?.parse().ok() }
}
