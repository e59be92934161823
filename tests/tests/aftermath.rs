//! What can be done with a run that is over, and how workers leave one that is not.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    process::Command,
};

use anyhow::Context;
use esta_tests::{EtcdServer, Lab, Process, Run, Setting, deadline};

/// Files below a folder, by relative path.
fn files(folder: &Path) -> anyhow::Result<BTreeMap<String, Vec<u8>>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next).with_context(|| format!("listing {}", next.display()))? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(folder)?.to_string_lossy().into_owned();
                found.insert(name, fs::read(&path)?);
            }
        }
    }
    Ok(found)
}

/// Runs a program of this workspace to its end and answers what it printed.
fn output(lab: &Lab, name: &str, program: &str, args: &[&str]) -> anyhow::Result<String> {
    let mut process = Process::start(lab.path(), name, program, args)?;
    let status = process.wait()?;
    anyhow::ensure!(status.success(), "{name} ended with {status}: {}", process.log());
    Ok(process.out())
}

#[test]
fn a_complete_run_lets_its_palette_be_pulled_answers_questions_and_needs_no_worker() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let job = lab.write_job("kept", "sampling: {slots: 4}\n", 40)?;
    let serve = ["--linger", "forever"].map(str::to_owned).to_vec();
    let mut run = Run::set(&lab, &job, 1, Setting { serve, ..Setting::default() })?;
    let url = run.url();
    let pulled = lab.path().join("pulled");
    let to = pulled.to_string_lossy().into_owned();
    let pull = ["palette", "pull", "--coordinator", &url, "--to", &to];

    run.leader_beside(&[])?;
    let mut early = Process::start(lab.path(), "early", "esta-coordinator", &pull)?;
    if early.wait()?.code() != Some(0) {
        assert!(early.log().contains("the run is not complete"), "{}", early.log());
        assert!(!pulled.exists(), "nothing is left of a pull that failed");
    }
    let status = ["status", "--coordinator", &url, "--format", "json"];
    deadline("the run to be complete", || {
        let said = output(&lab, "status", "esta-coordinator", &status).ok()?;
        said.lines().last().map(|_| ())?;
        said.contains("\"phase\": \"complete\"").then_some(())
    })
    .with_context(|| run.said())?;
    if !pulled.exists() {
        output(&lab, "pull", "esta-coordinator", &pull)?;
    }
    let (here, there) = (files(&pulled)?, files(run.dir())?);
    assert!(here.keys().any(|file| file.starts_with("export/stitch-")), "{:?}", here.keys());
    for (file, bytes) in &here {
        assert!(there.get(file) == Some(bytes), "{file} differs from the run's");
    }
    let again = Process::start(lab.path(), "again", "esta-coordinator", &pull)?.fails_with(1)?;
    assert!(again.contains("is not empty"), "{again}");

    let palette = ["palette", "--coordinator", &url, "--format", "json"];
    let palette: serde_json::Value = serde_json::from_str(&output(&lab, "palette", "esta-coordinator", &palette)?)?;
    assert!(palette.as_array().is_some_and(|choices| !choices.is_empty()));
    // A worker that comes too late is not needed, and that is no failure.
    let mut late = run.worker("late", &[])?;
    assert_eq!(late.wait()?.code(), Some(0), "{}", late.log());

    // Started again on what it left, a coordinator answers as before, without a worker.
    run.coordinator().signal("TERM")?;
    run.coordinator().wait()?;
    run.reseat(0)?;
    deadline("the coordinator to answer again", || {
        let said = output(&lab, "status-again", "esta-coordinator", &status).ok()?;
        said.contains("\"phase\": \"complete\"").then_some(())
    })
    .with_context(|| run.said())?;
    run.coordinator().signal("TERM")?;
    run.finish()?;
    Ok(())
}

#[test]
fn a_worker_that_is_drained_before_the_end_says_so_by_its_exit_code() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let job = lab.write_job("drained", "sampling: {slots: 4}\n", 400)?;
    let environment = vec![("ESTA_DRAINED_EXIT_CODE".to_owned(), "143".to_owned())];
    let mut run = Run::set(&lab, &job, 2, Setting { environment, ..Setting::default() })?;
    run.wait_for_step(5)?;
    let mut leaving = run.take_worker(1);
    leaving.signal("TERM")?;
    assert_eq!(leaving.wait()?.code(), Some(143), "{}", leaving.log());
    // Whoever stays to the end ends with 0, whatever is set.
    run.finish()?;
    Ok(())
}

/// Whether a process listens for SIGTERM.
fn hears_sigterm(process: &Process) -> Option<()> {
    let status = fs::read_to_string(format!("/proc/{}/status", process.id())).ok()?;
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"))?;
    (u64::from_str_radix(caught.trim(), 16).ok()? & (1 << 14) != 0).then_some(())
}

#[test]
fn a_worker_that_is_told_to_leave_before_it_takes_part_leaves_at_once() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let nobody = ["train", "--coordinator", "http://127.0.0.1:9", "--drained-exit-code", "77"];
    let mut looking = Process::start(lab.path(), "looking", "esta-worker", &nobody)?;
    deadline("the worker to listen", || hears_sigterm(&looking))?;
    looking.signal("TERM")?;
    assert_eq!(looking.wait()?.code(), Some(77), "{}", looking.log());

    // Images that do not come.
    let stuck = lab.path().join("stuck.idx");
    assert!(Command::new("mkfifo").arg(&stuck).status()?.success());
    let job = lab.write_job("stuck", "", 20)?;
    lab.change(&job, "images.idx", "stuck.idx")?;
    let run = Run::serve(&lab, &job, 1)?;
    let mut loading = run.worker("w0", &["--drained-exit-code", "77"])?;
    let status = ["status", "--coordinator", &run.url(), "--format", "json"];
    let joined = || output(&lab, "status", "esta-coordinator", &status).ok()?.contains("\"expected\": 1").then_some(());
    deadline("the worker to join", joined).with_context(|| loading.log())?;
    loading.signal("TERM")?;
    assert_eq!(loading.wait()?.code(), Some(77), "{}", loading.log());
    Ok(())
}

#[test]
fn what_a_lost_leader_has_not_written_of_a_complete_run_is_written_by_the_next_one() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let job = lab.write_job("unwritten", "sampling: {slots: 4}\n", 40)?;
    let serve = ["--linger", "forever"].map(str::to_owned).to_vec();
    let mut run = Run::set(&lab, &job, 1, Setting { serve, ..Setting::default() })?;
    let written = |run: &Run| {
        let whole = || run.dir().join("report.html").is_file().then_some(());
        deadline("the report", whole).with_context(|| run.said())
    };
    written(&run)?;
    let results = ["palette.json", "table.json", "draws.parquet"];
    let read = |run: &Run| results.map(|name| fs::read(run.dir().join(name)).ok());
    let before = read(&run);
    run.coordinator().kill();
    for name in ["palette.json", "table.json", "report.html"] {
        fs::remove_file(run.dir().join(name))?;
    }
    run.reseat(0)?;
    written(&run)?;
    assert!(before.iter().all(Option::is_some) && read(&run) == before, "other results than those of the first leader");
    run.kill_all();
    Ok(())
}

/// What the operations guide says to keep of a run: its checkpoints, and the record after them.
fn keep(from: &Path, to: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(to)?;
    let kept = |name: &str| name.starts_with("checkpoint-") || name == "record.redb";
    for entry in fs::read_dir(from)? {
        let entry = entry?.path();
        let name = entry.file_name().context("an entry has a name")?.to_string_lossy().into_owned();
        if kept(&name) {
            let status = Command::new("cp").arg("-a").arg(&entry).arg(to).status()?;
            anyhow::ensure!(status.success(), "copying {name}: {status}");
        }
    }
    Ok(())
}

/// The step of the newest checkpoint in a folder.
fn newest_checkpoint(folder: &Path) -> anyhow::Result<Option<u64>> {
    let names = fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    let names: Vec<String> = names.collect::<anyhow::Result<_>>()?;
    let steps = names.iter().filter_map(|name| name.strip_prefix("checkpoint-")?.parse().ok());
    Ok(steps.collect::<BTreeSet<u64>>().last().copied())
}

/// Everything in a run's folder is lost and what was kept comes back, which is older.
fn lose_and_restore(dir: &Path, backup: &Path) -> anyhow::Result<()> {
    let lost = newest_checkpoint(dir)?;
    fs::remove_dir_all(dir)?;
    keep(backup, dir)?;
    let restored = newest_checkpoint(dir)?;
    assert!(restored.is_some() && restored < lost, "{restored:?} of {lost:?}");
    Ok(())
}

#[test]
fn a_run_that_is_restored_from_a_backup_ends_with_the_bits_of_an_undisturbed_one() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let undisturbed = Run::start(&lab, &lab.write_job("never-lost", "sampling: {slots: 4}\n", 300)?, 1)?.finish()?;
    let job = lab.write_job("lost", "sampling: {slots: 4}\n", 300)?;
    let (dir, backup) = (job.with_extension(""), lab.path().join("backup"));
    let mut run = Run::start(&lab, &job, 2)?;
    run.wait_for_step(90)?;
    run.coordinator().signal("TERM")?;
    run.coordinator().wait()?;
    keep(&dir, &backup)?;
    run.reseat(0)?;
    run.wait_for_step(200)?;
    // What was learned since the backup goes as well.
    run.kill_all();
    lose_and_restore(&dir, &backup)?;
    assert!(Run::start(&lab, &job, 2)?.finish()? == undisturbed, "the restored run ended with other bits");
    Ok(())
}

#[test]
fn a_record_on_etcd_is_saved_while_the_run_goes_on_and_restored_with_the_same_bits() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let undisturbed = Run::start(&lab, &lab.write_job("never-lost", "sampling: {slots: 4}\n", 600)?, 1)?.finish()?;
    let mut etcd = EtcdServer::start(lab.path())?;
    let job = lab.write_job("lost", "sampling: {slots: 4}\n", 600)?;
    // None goes while they are copied.
    lab.change(&job, "save_steps: 20", "save_steps: 20, save_total_limit: 100")?;
    let (dir, backup) = (job.with_extension(""), lab.path().join("backup"));
    let mut run = Run::on_etcd(&lab, &job, &etcd.store("t"), 2, 2)?;
    run.wait_for_step(90)?;
    keep(&dir, &backup)?;
    etcd.save(&backup.join("record.etcd"))?;
    run.wait_for_step(400)?;
    run.kill_all();
    lose_and_restore(&dir, &backup)?;
    etcd.restore(&backup.join("record.etcd"))?;
    let restored = Run::on_etcd(&lab, &job, &etcd.store("t"), 2, 2)?.finish()?;
    assert!(restored == undisturbed, "the restored run ended with other bits");
    Ok(())
}
