//! Latencies of a tiny family, measured end to end: without data, with and without anchors, merged and not.

#[path = "../model/tests/model/fixture.rs"]
#[allow(dead_code, reason = "shared with the model's tests")]
mod tiny;

use std::{collections::BTreeMap, fs, num::NonZeroU32, path::Path};

use clap::Parser;
use esta_engine::{law::Law, profile::Profile, spec::JobSpec, spec::Precision};
use esta_model::random_vit;
use esta_proto::StitchId;
use esta_worker::{
    commands::Cli,
    exit,
    profile::{Bench, Conditions},
};
use serde_json::json;
use tch::Device;

/// A job whose anchors and images are nowhere.
fn spec() -> JobSpec {
    let mut spec =
        tiny::spec(json!({ "data": { "train": { "path": "/nowhere/images", "labels": "/nowhere/labels" } } }));
    for anchor in &mut spec.family.anchors {
        anchor.weights = format!("/nowhere/{}", anchor.name);
    }
    spec
}

fn write_job(dir: &Path, spec: &JobSpec) -> String {
    let path = dir.join("job.yaml");
    let text = serde_json::to_string(spec).expect("a job is JSON, and JSON is YAML");
    fs::write(&path, text).expect("writes");
    path.display().to_string()
}

fn profile(words: &[&str]) -> anyhow::Result<()> {
    let words = [&["esta-worker", "profile", "--threads", "1"], words].concat();
    Cli::try_parse_from(words).expect("they are words of this program").command.run().map(drop)
}

fn read(path: &Path) -> Profile {
    serde_json::from_slice(&fs::read(path).expect("it was written")).expect("a profile")
}

#[test]
fn every_stitch_is_measured_without_data_or_anchors_and_the_file_fits_the_job() {
    let dir = tempfile::tempdir().unwrap();
    let (job, out) = (write_job(dir.path(), &spec()), dir.path().join("latency.json"));
    profile(&["--config", &job, "--batch", "2", "--rounds", "5", "--out", &out.display().to_string()]).unwrap();
    let measured = read(&out);
    let catalog = Law::new(spec()).unwrap().catalog;
    assert_eq!(measured.latencies(&catalog).map(|latencies| latencies.len()), Ok(catalog.stitches().count()));
    let Profile { device, precision, merged, batch, threads, rounds, torch, stitches, .. } = measured;
    assert_eq!((device.as_str(), precision, merged, batch, threads, rounds), ("cpu", Precision::F32, true, 2, 1, 5));
    assert!(torch.starts_with("2."), "{torch}");
    for row in stitches.values() {
        assert!(row.p25 <= Some(row.median) && Some(row.median) <= row.p75, "{row:?}");
    }
    let left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "the job and the profile, nothing else: {left:?}");
}

#[test]
fn a_job_that_names_its_profile_can_be_measured_before_there_is_one() {
    let dir = tempfile::tempdir().unwrap();
    let (mut spec, out) = (spec(), dir.path().join("latency.json").display().to_string());
    spec.budgets = serde_json::from_value(json!({ "latency": { "profile": out, "gap": "0.001ms" } })).unwrap();
    let job = write_job(dir.path(), &spec);
    assert!(esta_config::load(job.as_ref(), &[]).is_err(), "there is no profile yet");
    profile(&["--config", &job, "--rounds", "1", "--out", &out]).unwrap();
    let law = esta_config::load(job.as_ref(), &[]).expect("now there is");
    assert!(law.catalog.knows_latencies());
}

#[test]
fn a_runs_folder_receives_its_profile() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("job.json"), serde_json::to_string(&spec()).unwrap()).unwrap();
    profile(&["--run-dir", &dir.path().display().to_string(), "--rounds", "1", "--merged=false"]).unwrap();
    let measured = read(&dir.path().join("latency.json"));
    assert!(!measured.merged && measured.rounds == 1);
}

#[test]
fn anchors_that_are_there_are_used_and_damaged_ones_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut spec = spec();
    let arch = spec.family.anchors[0].arch.clone().expect("given in numbers");
    spec.family.anchors[0].weights = dir.path().join("a.safetensors").display().to_string();
    random_vit(&arch, 3, 1).save(spec.family.anchors[0].weights.as_ref()).unwrap();
    let conditions =
        Conditions { device: Device::Cpu, precision: Precision::Bf16, merged: true, batch: NonZeroU32::MIN };
    let mut absent = Vec::new();
    let law = Law::new(spec.clone()).unwrap();
    Bench::new(law, conditions, |name, _| absent.push(name.to_owned())).unwrap();
    let others: Vec<&String> = spec.family.anchors[1..].iter().map(|anchor| &anchor.name).collect();
    assert!(absent.iter().eq(others), "{absent:?}");

    fs::write(&spec.family.anchors[0].weights, "no tensors").unwrap();
    let error = profile(&["--config", &write_job(dir.path(), &spec)]).unwrap_err();
    assert_eq!(exit::of(&error), exit::WEIGHTS, "{error:#}");
}

#[test]
fn progress_counts_every_stitch_of_every_round_and_the_warm_up() {
    let conditions =
        Conditions { device: Device::Cpu, precision: Precision::F32, merged: true, batch: NonZeroU32::MIN };
    let bench = Bench::new(Law::new(spec()).unwrap(), conditions, |_, _| {}).unwrap();
    let mut heard = Vec::new();
    let measured: BTreeMap<StitchId, _> =
        bench.measure(NonZeroU32::new(2).unwrap(), |done, all| heard.push((done, all)));
    let all = 3 * measured.len() as u64;
    assert!(heard.iter().copied().eq((1..=all).map(|done| (done, all))));
}

#[test]
fn a_file_that_cannot_be_written_is_known_before_anything_is_measured() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("no/folder/latency.json").display().to_string();
    let error =
        profile(&["--config", &write_job(dir.path(), &spec()), "--rounds", "1000000", "--out", &out]).unwrap_err();
    assert_eq!(exit::of(&error), exit::OUTPUT);
    assert!(format!("{error:#}").starts_with(&format!("cannot write {out}: ")), "{error:#}");
}

#[test]
fn a_job_or_a_run_is_given_and_not_both() {
    let parse = |words: &[&str]| Cli::try_parse_from([&["esta-worker", "profile"], words].concat()).map(drop);
    assert!(parse(&[]).is_err() && parse(&["--config", "a", "--run-dir", "b"]).is_err());
    assert!(parse(&["--run-dir", "b", "--set", "seed=1"]).is_err(), "a run's job is what it is");
    assert!(parse(&["--config", "a", "--merged", "--device", "cuda:1"]).is_ok());
    assert!(parse(&["--config", "a", "--device", "gpu"]).is_err());
}
