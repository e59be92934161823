//! The path of a GPU, rehearsed: whole runs on a CUDA device made of host memory, with a group in NCCL's place. They draw the
//! stitches, end with the bits and leave the results of the same runs on the CPU.

use std::{
    fs,
    path::Path,
    process::{Command, ExitStatus},
};

use anyhow::ensure;
use esta_tests::{Lab, Outcome, Process, Run, Setting, TextLab, binary, deadline};
use serde_json::Value;

const STEPS: u64 = 24;

/// Everybody has the library that plays the device, and workers compute on this one.
fn on(device: &str) -> Setting {
    Setting {
        environment: vec![preloaded(), ("ESTA_REHEARSAL_REPRODUCIBLE".to_owned(), "1".to_owned())],
        train: vec!["--device".to_owned(), device.to_owned()],
        ..Setting::default()
    }
}

fn preloaded() -> (String, String) {
    ("LD_PRELOAD".to_owned(), esta_rehearsal::library().display().to_string())
}

/// A program that sees the device, carried out.
fn say(folder: &Path, name: &str, program: &str, args: &[&str]) -> anyhow::Result<String> {
    let mut program = Command::new(binary(program));
    let mut process = Process::spawn(folder, name, program.args(args).envs([preloaded()]))?;
    let status: ExitStatus = process.wait()?;
    ensure!(status.success(), "{name} ended with {status}:\n{}", process.log());
    Ok(process.out())
}

fn json(path: &Path) -> anyhow::Result<Value> {
    Ok(serde_json::from_slice(&fs::read(path)?)?)
}

/// What was measured of each stitch, speed apart.
fn results(dir: &Path) -> anyhow::Result<Vec<[Value; 3]>> {
    let eval = json(&dir.join("eval.json"))?;
    let results = eval["results"].as_array().expect("results").iter();
    Ok(results.map(|result| ["stitch", "loss", "accuracy"].map(|key| result[key].clone())).collect())
}

/// A vision job and a change of its text, on both devices.
fn both(lab: &Lab, name: &str, (more, change): (&str, (&str, &str)), workers: u32) -> anyhow::Result<[Outcome; 2]> {
    let run = |device: &str| -> anyhow::Result<Outcome> {
        let job = lab.write_job(&format!("{name}-{device}"), more, STEPS)?;
        lab.change(&job, change.0, change.1)?;
        Run::set(lab, &job, workers, on(device))?.finish()
    };
    let outcomes = [run("cpu")?, run("cuda")?];
    let of = |device: &str| results(&lab.path().join(format!("{name}-{device}")));
    assert_eq!(of("cpu")?, of("cuda")?, "{name}: stitches were measured otherwise on the device");
    Ok(outcomes)
}

#[test]
fn every_mode_ends_on_the_device_with_the_bits_of_the_cpu() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let modes = [
        ("paper", "", ("recipe: paper\n", "recipe: paper\n")),
        ("best", "", ("recipe: paper\n", "")),
        ("rounded", "", ("train: {max_steps", "train: {precision: bf16, max_steps")),
        ("direct", "mode: snnet\nreduce: {kind: f32}\n", ("recipe: paper\n", "")),
        ("alone", "mode: anchor\n", ("train: {max_steps", "train: {full: true, max_steps")),
    ];
    for (name, more, change) in modes {
        let [host, device] = both(&lab, name, (more, change), 1)?;
        assert!(host == device, "{name} ended with other bits on the device");
    }
    Ok(())
}

#[test]
fn members_that_die_and_join_change_no_bit_on_the_device() -> anyhow::Result<()> {
    let (lab, steps) = (Lab::new()?, 240);
    let job = lab.write_job("calm", "", steps)?;
    let calm = Run::set(&lab, &job, 1, on("cpu"))?.finish()?;
    let job = lab.write_job("rough", "", steps)?;
    let mut rough = Run::set(&lab, &job, 3, on("cuda"))?;
    rough.wait_for_step(15)?;
    rough.kill_worker(1);
    rough.wait_for_step(45)?;
    rough.add_worker()?;
    rough.wait_for_step(75)?;
    rough.restart_coordinator()?;
    rough.wait_for_step(95)?;
    rough.kill_worker(0);
    assert!(calm == rough.finish()?, "the disturbed run on devices ended with other bits");
    Ok(())
}

#[test]
fn one_command_starts_a_worker_for_each_device_of_a_node() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let job = lab.write_job("calm", "", 120)?;
    let calm = Run::set(&lab, &job, 1, on("cpu"))?.finish()?;
    let job = lab.write_job("node", "", 120)?;
    let run = Run::serve(&lab, &job, 2)?;
    let (url, log) = (run.url(), "node-crew");
    let crew = |name: &str, devices: &str| {
        let mut program = Command::new(binary("esta-worker"));
        program.args(["train", "--coordinator", &url, "--device", "cuda", "--processes", "2", "--host", "127.0.0.1"]);
        Process::spawn(lab.path(), name, program.envs([preloaded()]).env("CUDA_VISIBLE_DEVICES", devices))
    };
    let said = crew("few", "4")?.fails_with(2)?;
    assert!(said.contains("CUDA_VISIBLE_DEVICES names 1 (4)"), "{said}");
    let mut crew = crew(log, "4,7")?;
    let shown = |worker: u32| {
        let variables = fs::read(format!("/proc/{worker}/environ")).ok()?;
        let mut variables = variables.split(|byte| *byte == 0);
        let own = variables.find_map(|variable| variable.strip_prefix(b"CUDA_VISIBLE_DEVICES="))?;
        Some(String::from_utf8_lossy(own).into_owned())
    };
    let seen = deadline("two workers with a device each", || {
        let mut seen: Vec<String> = crew.children().ok()?.into_iter().filter_map(shown).collect();
        seen.sort();
        // A process that is not a worker yet still has its parent's variables.
        (seen.len() == 2 && !seen.contains(&"4,7".to_owned())).then_some(seen)
    })?;
    assert_eq!(seen, ["4", "7"]);
    assert!(calm == run.finish()?, "other bits");
    let status = crew.wait()?;
    ensure!(status.success(), "the crew ended with {status}:\n{}", crew.log());
    Ok(())
}

#[test]
fn texts_end_on_the_device_with_the_bits_of_the_cpu_and_their_models_answer() -> anyhow::Result<()> {
    let lab = TextLab::new()?;
    let run = |name: &str, (train, sections): (&str, &str), workers: u32, device: &str| {
        let job = lab.write_job_with(name, STEPS, (train, ""), sections)?;
        Run::of_job_set(lab.path(), name, &job, workers, on(device))?.finish()
    };
    let host = run("host", ("", ""), 1, "cpu")?;
    assert!(host == run("device", ("", ""), 3, "cuda")?, "other bits on the device");
    let dir = |name: &str| lab.path().join(name);
    assert_eq!(results(&dir("host"))?, results(&dir("device"))?);
    let little = ", precision: bf16, gradient_checkpointing: true, gradient_accumulation_steps: 2";
    assert!(run("little", (little, ""), 1, "cpu")? == run("little-device", (little, ""), 2, "cuda")?, "bf16");

    let exports = json(&dir("device").join("eval.json"))?["exports"].clone();
    let model = dir("device").join(exports[0]["path"].as_str().expect("a path")).display().to_string();
    let ask = |device: &str| {
        let args = ["generate", "--model", &model, "--prompt", "What does open return?", "--device", device];
        say(lab.path(), &format!("ask-{device}"), "esta-worker", &[&args[..], &["--max-new-tokens", "12"]].concat())
    };
    assert_eq!(ask("cpu")?, ask("cuda")?);
    Ok(())
}

#[test]
fn devices_of_a_node_share_blocks_and_change_no_bit() -> anyhow::Result<()> {
    let lab = TextLab::new()?;
    let teaching = ", gradient_accumulation_steps: 2, distill: {weight: 0.3, temperature: 2.0}";
    let job = |name: &str, sections: &str| lab.write_job_with(name, STEPS, (teaching, ""), sections);
    let whole = Run::of_job_set(lab.path(), "whole", &job("whole", "")?, 1, on("cpu"))?.finish()?;
    let shared = job("shared", "model: {shard: node}\n")?;
    let mut rough = Run::of_job_set(lab.path(), "shared", &shared, 3, on("cuda"))?;
    rough.wait_for_step(3)?;
    rough.kill_worker(1);
    rough.wait_for_step(8)?;
    rough.add_worker()?;
    assert!(whole == rough.finish_without_latecomers()?, "devices that share their blocks ended with other bits");
    Ok(())
}

#[test]
fn one_command_makes_anchors_and_a_palette_on_devices() -> anyhow::Result<()> {
    let lab = Lab::without_anchors()?;
    let job = lab.write_job("palette", "", STEPS)?;
    let config = job.display().to_string();
    let source = lab.write_job("source", "mode: anchor\nreduce: {kind: f32}\n", 30)?.display().to_string();
    say(lab.path(), "pretrain", "esta-worker", &["pretrain", "--config", &source, "--device", "cuda"])?;
    let table = say(
        lab.path(),
        "run",
        "esta-coordinator",
        &["run", "--config", &config, "--workers", "2", "--device", "cuda"],
    )?;
    assert!(table.contains("accuracy"), "{table}");
    let out = lab.path().join("palette");
    assert!(out.join("report.html").is_file());
    let dir = out.display().to_string();
    let latencies = say(
        lab.path(),
        "profile",
        "esta-worker",
        &["profile", "--config", &config, "--device", "cuda", "--rounds", "2", "--out", &format!("{dir}/latency.json")],
    )?;
    assert!(latencies.contains("median ms"), "{latencies}");
    assert_eq!(json(&out.join("latency.json"))?["device"], "cuda:0");
    let angles = ["angles", "--config", &config, "--images", "16", "--stitches", "3", "--device"];
    let measured = |device| -> anyhow::Result<Value> {
        say(lab.path(), &format!("angles-{device}"), "esta-worker", &[&angles[..], &[device]].concat())?;
        json(&out.join("angles.json"))
    };
    assert_eq!(measured("cpu")?, measured("cuda")?);
    Ok(())
}

#[test]
fn a_device_without_room_is_told_from_a_host_with_it() -> anyhow::Result<()> {
    let lab = TextLab::new()?;
    let job = lab.write_job("large", STEPS, ("", ""))?;
    let mut setting = on("cuda");
    setting.environment.push(("ESTA_REHEARSAL_MIB".to_owned(), "1".to_owned()));
    let said = Run::of_job_set(lab.path(), "large", &job, 1, setting)?.take_worker(0).fails_with(3)?;
    assert!(said.contains("the job does not fit: 1.0 MB are free"), "{said}");
    Ok(())
}

#[test]
fn more_workers_than_visible_devices_are_refused() -> anyhow::Result<()> {
    let lab = Lab::without_anchors()?;
    let job = lab.write_job("many", "", STEPS)?.display().to_string();
    let mut program = Command::new(binary("esta-coordinator"));
    program.args(["run", "--config", &job, "--workers", "3", "--device", "cuda"]).env("CUDA_VISIBLE_DEVICES", "4,6");
    let said = Process::spawn(lab.path(), "many", &mut program)?.fails_with(2)?;
    assert!(said.contains("CUDA_VISIBLE_DEVICES names 2 (4,6)"), "{said}");
    Ok(())
}
