//! Budgets by latency, from a measurement to a palette that answers milliseconds.

use std::{fs, path::Path};

use anyhow::Context;
use esta_tests::{Lab, Process};
use serde_json::Value;

const STEPS: u64 = 30;

/// Runs a program to its end and answers what it wrote to standard output.
fn say(folder: &Path, name: &str, program: &str, args: &[&str]) -> anyhow::Result<String> {
    let mut process = Process::start(folder, name, program, args)?;
    let status = process.wait()?;
    anyhow::ensure!(status.success(), "{name} ended with {status}:\n{}", process.log());
    Ok(fs::read_to_string(folder.join(format!("{name}.out")))?)
}

#[test]
fn a_measured_job_trains_in_budgets_of_latency_and_answers_milliseconds() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let job = lab.write_job("timed", "", STEPS)?;
    let (config, out) = (job.display().to_string(), lab.path().join("latency.json").display().to_string());
    let args = ["profile", "--config", &config, "--rounds", "3", "--threads", "1", "--out", &out];
    let shown = say(lab.path(), "profile", "esta-worker", &args)?;
    assert!(shown.contains("slower than") && shown.contains("Kendall tau"), "{shown}");
    assert!(shown.contains(&format!("budgets: {{latency: {{profile: {out}, gap: ")), "{shown}");

    lab.change(&job, "budgets: {gap: 3000}", &format!("budgets: {{latency: {{profile: {out}, gap: 0.01ms}}}}"))?;
    say(lab.path(), "run", "esta-coordinator", &["run", "--config", &config, "--workers", "2"])?;
    let run_dir = job.with_extension("").display().to_string();
    let ask = |name: &str, most: &str| {
        let args = ["palette", "--run-dir", &run_dir, "--at-most", most, "--format", "json"];
        let text = say(lab.path(), name, "esta-coordinator", &args)?;
        serde_json::from_str::<Vec<Value>>(&text).context("entries")
    };
    let all: Value = serde_json::from_str(&fs::read_to_string(&out)?)?;
    let rows = all["stitches"].as_object().context("stitches")?;
    let fastest = rows.values().filter_map(|row| row["median_ms"].as_f64()).fold(f64::INFINITY, f64::min);
    let any = ask("any", "10s")?;
    assert!(any.len() == 1 && any[0]["milliseconds"].as_f64() >= Some(fastest), "{any:?}");
    let only = ask("only", &format!("{fastest}ms"))?;
    assert_eq!(only[0]["milliseconds"].as_f64(), Some(fastest), "{only:?}");
    assert_eq!(ask("none", &format!("{}ms", 0.5 * fastest))?, Vec::<Value>::new());
    Ok(())
}
