//! Every mode of the program, from a job file to a finished run folder whose files agree with each other.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context;
use esta_tests::{Evidence, Lab, Process, Run};

const STEPS: u64 = 120;
/// Three classes, none more frequent than the others.
const CHANCE: f64 = 1.0 / 3.0;

/// `esta-coordinator run` with two workers of its own.
fn lead(lab: &Lab, job: &Path, more: &[&str]) -> anyhow::Result<Process> {
    let name = format!("{}-run", job.file_stem().unwrap_or_default().to_string_lossy());
    let config = job.to_string_lossy();
    let args = [&["run", "--config", &config, "--workers", "2"], more].concat();
    Process::start(lab.path(), &name, "esta-coordinator", &args)
}

/// Leads a job to its end and reads what it left behind.
fn carry_out(lab: &Lab, job: &Path, more: &[&str]) -> anyhow::Result<Evidence> {
    let mut run = lead(lab, job, more)?;
    let status = run.wait()?;
    anyhow::ensure!(status.success(), "the run ended with {status}:\n{}", run.log());
    Evidence::read(&job.with_extension(""), STEPS)
}

/// The losses fell by half, and every stitch classifies far better than by chance.
fn assert_learned(evidence: &Evidence) {
    let (first, last) = evidence.losses();
    assert!(last < 0.5 * first, "the loss went from {first} to {last}");
    let accuracies = evidence.accuracies();
    assert_eq!(accuracies.len(), evidence.stitches().len(), "every stitch is evaluated");
    assert!(accuracies.iter().all(|accuracy| *accuracy > CHANCE + 0.3), "{accuracies:?}");
}

/// A job of anchor b alone.
fn alone(lab: &Lab, name: &str, more: &str) -> anyhow::Result<PathBuf> {
    let job = lab.write_job(name, &format!("mode: anchor\n{more}"), STEPS)?;
    let text = fs::read_to_string(&job)?;
    let others = text.lines().filter(|line| !line.contains("{name: a,")).collect::<Vec<_>>().join("\n");
    fs::write(&job, others)?;
    Ok(job)
}

fn assert_alone(evidence: &Evidence) {
    assert_eq!(evidence.stitches(), [0], "an anchor alone is the only stitch");
    assert_eq!(evidence.visits(), BTreeMap::from([(0, evidence.draws.len() as u64)]));
    assert!(evidence.draws.iter().all(|draw| draw.probability == 1.0));
}

#[test]
fn pst_in_bfloat16_learns_and_ends_with_the_same_bits_for_one_and_two_workers() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let run = |workers: u32| {
        let job = lab.write_job(&format!("bf16-{workers}"), "", STEPS)?;
        lab.change(&job, "train: {max_steps", "train: {precision: bf16, max_steps")?;
        Run::start(&lab, &job, workers)?.finish()
    };
    let (one, two) = (run(1)?, run(2)?);
    assert_eq!(one.digest, two.digest, "two workers reduced other gradients");
    assert!(one == two, "two workers ended with other bits");
    let evidence = Evidence::read(&lab.path().join("bf16-2"), STEPS)?;
    assert_learned(&evidence);
    assert!(evidence.visits().len() == evidence.stitches().len(), "every stitch was visited: {:?}", evidence.visits());
    Ok(())
}

#[test]
fn the_best_recipe_ends_with_a_palette_by_its_own_rule() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let job = lab.write_job("best", "", STEPS)?;
    lab.change(&job, "recipe: paper\n", "")?;
    lab.change(&job, "eval: {stitches: all}", "eval: {stitches: palette}")?;
    let mut run = lead(&lab, &job, &[])?;
    let status = run.wait()?;
    anyhow::ensure!(status.success(), "the run ended with {status}:\n{}", run.log());
    let head = run.out().lines().find(|line| line.trim_start().starts_with("budget")).map(str::to_owned);
    let head = head.with_context(|| format!("the palette is printed:\n{}", run.out()))?;
    assert!(head.contains("auto  accuracy by snip") && head.contains("accuracy by auto"), "{head}");
    let evidence = Evidence::read(&lab.path().join("best"), STEPS)?;
    assert_eq!(evidence.palette["rule"], "auto");
    let folder = lab.path().join("best").display().to_string();
    let at_most = ["palette", "--run-dir", &folder, "--at-most", "1G", "--format", "json"];
    let mut palette = Process::start(lab.path(), "palette", "esta-coordinator", &at_most)?;
    anyhow::ensure!(palette.wait()?.success(), "{}", palette.log());
    let chosen: serde_json::Value = serde_json::from_str(&palette.out())?;
    assert_eq!(chosen[0]["rule"], "auto");
    assert!(chosen[0]["file"].as_str().is_some_and(|file| lab.path().join(file).is_dir()), "{chosen}");
    Ok(())
}

#[test]
fn snnet_trains_every_weight_and_draws_all_stitches_alike() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let job = lab.write_job("direct", "mode: snnet\nreduce: {kind: f32}\n", STEPS)?;
    let evidence = carry_out(&lab, &job, &["--set", "family.space.kind=snnet"])?;
    assert_learned(&evidence);
    let (all, visits) = (evidence.stitches(), evidence.visits());
    assert_eq!(all.len(), 2 + 7, "two anchors and the windows of two over three blocks");
    assert!(evidence.draws.iter().all(|draw| draw.reason == "uniform"));
    assert!(evidence.draws.iter().all(|draw| (draw.probability * all.len() as f64 - 1.0).abs() < 1e-12));
    // Chi-square with 8 degrees of freedom exceeds 26.1 once in a thousand seeds.
    let expected = evidence.draws.len() as f64 / all.len() as f64;
    let square = |stitch: &i64| (visits.get(stitch).copied().unwrap_or(0) as f64 - expected).powi(2) / expected;
    let statistic: f64 = all.iter().map(square).sum();
    assert!(statistic < 26.1, "{visits:?} with chi-square {statistic}");
    Ok(())
}

#[test]
fn an_anchor_alone_is_tuned_whole_or_by_lora() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let whole = alone(&lab, "whole", "reduce: {kind: f32}\n")?;
    lab.change(&whole, "train: {max_steps", "train: {full: true, max_steps")?;
    let lora = alone(&lab, "lora", "sampling: {slots: 1}\n")?;
    for job in [&whole, &lora] {
        let evidence = carry_out(&lab, job, &[])?;
        assert_alone(&evidence);
        assert_learned(&evidence);
    }
    let trained = |job: &Path| -> anyhow::Result<u64> {
        let path = job.with_extension("").join(format!("checkpoint-{STEPS}/adapters.safetensors"));
        Ok(fs::metadata(&path).with_context(|| path.display().to_string())?.len())
    };
    assert!(trained(&whole)? > 2 * trained(&lora)?, "LoRA trains a part of the weights");
    Ok(())
}

#[test]
fn a_finished_run_is_found_finished_and_another_job_is_kept_out_of_its_folder() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let job = lab.write_job("once", "", STEPS)?;
    carry_out(&lab, &job, &[])?;
    let dir = job.with_extension("");
    let results = results(&dir)?;
    carry_out(&lab, &job, &[])?;
    assert_same(&results, &self::results(&dir)?);

    let line = lead(&lab, &job, &["--set", "train.learning_rate=1e-4"])?.fails_with(4)?;
    assert!(line.contains("another job (train.learning_rate is 0.003 there and 0.0001 here)"), "{line}");
    assert_same(&results, &self::results(&dir)?);
    Ok(())
}

/// By path: the files of a run that hold results. The record counts terms of office, and a report says what an
/// evaluation took.
fn results(dir: &Path) -> anyhow::Result<BTreeMap<PathBuf, Vec<u8>>> {
    let (mut files, mut folders) = (BTreeMap::new(), vec![dir.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if !path.ends_with("record.redb") {
                files.insert(path.strip_prefix(dir)?.to_owned(), fs::read(&path)?);
            }
        }
    }
    let eval = files.get_mut(Path::new("eval.json")).context("eval.json")?;
    let mut value: serde_json::Value = serde_json::from_slice(eval)?;
    for taken in ["seconds", "peak_memory", "cpu_seconds"] {
        value[taken].take();
    }
    *eval = value.to_string().into_bytes();
    Ok(files)
}

fn assert_same(before: &BTreeMap<PathBuf, Vec<u8>>, after: &BTreeMap<PathBuf, Vec<u8>>) {
    assert!(before.keys().eq(after.keys()), "{:?} became {:?}", before.keys(), after.keys());
    let changed: Vec<_> = before.iter().filter(|(path, bytes)| after[*path] != **bytes).map(|(path, _)| path).collect();
    assert!(changed.is_empty(), "{changed:?} changed");
}
