//! Mistakes end in one clear line and an exit code that means something.

use std::{collections::BTreeSet, fs, path::Path};

use anyhow::Context;
use esta_tests::{Disk, EtcdServer, Evidence, Lab, Process, Run, SAMPLES, Setting, deadline, http::get, tensors};

#[test]
fn an_unreachable_coordinator_is_tried_for_the_budget_and_then_named() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let args = ["train", "--coordinator", "http://127.0.0.1:9", "--reconnect-budget", "0.3"];
    let mut worker = Process::start(dir.path(), "worker", "esta-worker", &args)?;
    assert_eq!(worker.wait()?.code(), Some(6));
    let log = worker.log();
    let last = log.lines().last().unwrap_or_default();
    assert!(last.starts_with("esta-worker: no coordinator could be reached within 300ms"), "{log}");
    assert!(last.contains("http://127.0.0.1:9"), "{log}");
    Ok(())
}

#[test]
fn of_two_workers_with_one_name_the_later_stays_and_the_earlier_is_told() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let job = lab.write_job("twins", "", 200)?;
    let mut run = Run::start(&lab, &job, 1)?;
    run.wait_for_step(5)?;
    let mut twin = run.worker("w0", &[])?;
    let mut earlier = run.take_worker(0);
    assert_eq!(earlier.wait()?.code(), Some(4));
    let log = earlier.log();
    assert!(log.contains("esta-worker: a later process took the name \"w0\""), "{log}");
    run.finish()?;
    assert_eq!(twin.wait()?.code(), Some(0));
    Ok(())
}

#[test]
fn a_worker_of_a_run_whose_record_is_gone_is_told_that_another_run_is_led_there() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let job = lab.write_job("forgotten", "", 2000)?;
    let mut run = Run::start(&lab, &job, 1)?;
    run.wait_for_step(5)?;
    run.coordinator().kill();
    fs::remove_file(run.dir().join("record.redb"))?;
    run.restart_coordinator()?;
    let line = run.take_worker(0).fails_with(3)?;
    assert!(line.contains("leads the run forgotten-") && line.contains("this worker is part of forgotten-"), "{line}");
    assert!(run.coordinator().runs(), "the new run waits for its workers");
    Ok(())
}

#[test]
fn a_worker_whose_job_was_changed_under_it_is_told_so() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let job = lab.write_job("changed", "", 2000)?;
    let mut run = Run::start(&lab, &job, 1)?;
    run.wait_for_step(5)?;
    run.coordinator().kill();
    fs::remove_file(run.dir().join("record.redb"))?;
    lab.change(&job, "learning_rate: 3.0e-3", "learning_rate: 1.0e-3")?;
    run.restart_coordinator()?;
    let line = run.take_worker(0).fails_with(3)?;
    assert!(line.ends_with("the coordinator serves another job than the one this worker has joined"), "{line}");
    Ok(())
}

#[test]
fn a_missing_anchor_is_named_with_its_path() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let job = lab.write_job("anchorless", "", 10)?;
    std::fs::remove_dir_all(lab.path().join("anchors/b"))?;
    let mut run = Run::serve(&lab, &job, 1)?;
    let mut worker = run.worker("w0", &[])?;
    assert_eq!(worker.wait()?.code(), Some(8));
    let log = worker.log();
    assert!(log.contains("anchor \"b\" does not load from") && log.contains("anchors/b"), "{log}");
    assert!(run.coordinator().runs(), "the coordinator waits for a worker that fits");
    Ok(())
}

#[test]
fn a_second_coordinator_on_the_same_address_says_so() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let job = lab.write_job("first", "", 10)?;
    let mut run = Run::serve(&lab, &job, 1)?;
    run.wait_for_step(0)?;
    let other = lab.write_job("second", "", 10)?;
    let listen = run.url().replace("http://", "");
    let args = ["serve", "--config", &other.to_string_lossy(), "--listen", &listen];
    let mut second = Process::start(lab.path(), "second", "esta-coordinator", &args)?;
    assert!(!second.wait()?.success());
    let log = second.log();
    assert!(log.contains("esta-coordinator: ") && log.contains(&listen), "{log}");
    assert!(run.coordinator().runs());
    Ok(())
}

#[test]
fn a_mistyped_key_is_refused_with_its_line_and_a_suggestion() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let job = lab.write_job("typo", "sampling: {slotz: 4}\n", 10)?;
    let args = ["config", "validate", "--config", &job.to_string_lossy()];
    let mut check = Process::start(lab.path(), "typo", "esta-coordinator", &args)?;
    assert_eq!(check.wait()?.code(), Some(3));
    let log = check.log();
    assert!(log.contains("slotz") && log.contains("slots") && log.contains("typo.yaml:5"), "{log}");
    Ok(())
}

#[test]
fn a_label_outside_the_classes_is_named_with_its_file() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let job = lab.write_job("labels", "", 10)?;
    let text = std::fs::read_to_string(&job)?.replace("num_classes: 3", "num_classes: 2");
    std::fs::write(&job, text)?;
    let run = Run::serve(&lab, &job, 1)?;
    let mut worker = run.worker("w0", &[])?;
    assert_eq!(worker.wait()?.code(), Some(7));
    let log = worker.log();
    assert!(log.contains("labels.idx") && log.contains("label 2"), "{log}");
    Ok(())
}

#[test]
fn a_tensor_that_is_missing_misshapen_or_no_number_is_named() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let file = lab.path().join("anchors/b/model.safetensors");
    let sound = fs::read(&file)?;
    let refuses = |name: &str, damage: &dyn Fn(&Path) -> anyhow::Result<()>| {
        fs::write(&file, &sound)?;
        damage(&file)?;
        let job = lab.write_job(name, "", 10)?;
        let mut run = Run::serve(&lab, &job, 1)?;
        let line = run.worker("w0", &[])?.fails_with(8)?;
        assert!(line.contains("anchor \"b\" does not load") && line.contains("anchors/b/model.safetensors"), "{line}");
        assert!(run.coordinator().runs(), "the coordinator waits for a worker that fits");
        anyhow::Ok(line)
    };
    let line = refuses("missing", &|file| tensors::rename(file, "norm.bias", "norm.bios"))?;
    assert!(line.ends_with("lacks the tensor norm.bias of shape [16]"), "{line}");
    let line = refuses("misshapen", &|file| tensors::reshape(file, "norm.bias", &[4, 4]))?;
    assert!(line.ends_with("tensor norm.bias has shape [4, 4], expected [16]"), "{line}");
    let line = refuses("poisoned", &|file| tensors::poison(file, "blocks.1.attn.qkv.weight", f32::NAN))?;
    assert!(line.ends_with("tensor blocks.1.attn.qkv.weight holds a value that is not finite"), "{line}");
    Ok(())
}

#[test]
fn anchors_that_cannot_be_stitched_are_refused_by_what_differs() -> anyhow::Result<()> {
    let lab = Lab::without_anchors()?;
    let refuses = |from: &str, to: &str| {
        let job = lab.write_job("unlike", "", 10)?;
        lab.change(&job, from, to)?;
        let config = job.to_string_lossy();
        Process::start(lab.path(), "unlike", "esta-coordinator", &["serve", "--config", &config])?.fails_with(3)
    };
    let line = refuses("embed_dim: 16, depth: 3", "embed_dim: 16, depth: 4")?;
    assert!(line.contains("family.space.kind") && line.contains("3 blocks and another 4"), "{line}");
    let line = refuses("patch_size: 4, in_chans: 1, embed_dim: 16", "patch_size: 2, in_chans: 1, embed_dim: 16")?;
    assert!(line.contains("family.anchors[1]") && line.contains("17 tokens, the anchor before it 5"), "{line}");
    let line = refuses("in_chans: 1, embed_dim: 16", "in_chans: 3, embed_dim: 16")?;
    assert!(line.contains("family.anchors[1]") && line.contains("3 channels"), "{line}");
    assert!(!lab.path().join("unlike").exists(), "a job that cannot run leaves no folder");
    Ok(())
}

#[test]
fn a_corrupt_image_is_named_and_the_run_goes_on_when_it_is_mended() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let photos = lab.write_photos()?;
    let image = photos.join("1/001.png");
    let sound = fs::read(&image)?;
    let photos = format!("layout: image_folder, path: {}", photos.display());
    let set = |key: &str, data: &str| format!("  {key}: {{{data}}}");
    // With few images for the fit of the stitching layers, a step is the first to see the damage.
    let cases = [
        ("at-the-fit", "train", "", "the samples for the fit"),
        ("in-a-step", "train", "  stitch_init: {samples: 4}\n", "the batch of step"),
        ("at-the-end", "eval", "", "the held-out samples"),
    ];
    for (name, key, fit, what) in cases {
        let job = lab.write_job(name, "", 20)?;
        lab.change(&job, &set(key, &lab.data_of()), &set(key, &photos))?;
        lab.change(&job, "budgets:", &format!("{fit}budgets:"))?;
        fs::write(&image, &sound[..sound.len() / 2])?;
        let mut run = Run::serve(&lab, &job, 1)?;
        let line = run.worker("w", &[])?.fails_with(7)?;
        assert!(line.contains(what) && line.contains("photos/1/001.png: not readable as an image"), "{name}: {line}");
        fs::write(&image, &sound)?;
        run.add_worker()?;
        run.finish()?;
    }
    Ok(())
}

#[test]
fn held_out_images_that_are_not_there_are_named_before_the_first_step() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let job = lab.write_job("blind", "", 10)?;
    let nowhere = "  eval: {layout: image_folder, path: ./nowhere}";
    lab.change(&job, &format!("  eval: {{{}}}", lab.data_of()), nowhere)?;
    let line = Run::serve(&lab, &job, 1)?.worker("w", &[])?.fails_with(7)?;
    assert!(line.contains("the held-out samples do not load") && line.contains("./nowhere"), "{line}");
    Ok(())
}

#[test]
fn a_missing_image_is_named_before_the_first_step() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let photos = lab.write_photos()?;
    fs::write(lab.path().join("list.txt"), "0/000.png 0\n1/001.png 1\n2/nowhere.png 2\n")?;
    let job = lab.write_job("listed", "", 10)?;
    let list = format!("layout: image_list, path: {}, labels: {}/list.txt", photos.display(), lab.path().display());
    lab.change(&job, &lab.data_of(), &list)?;
    let args = ["run", "--config", &job.to_string_lossy(), "--workers", "2"];
    let line = Process::start(lab.path(), "listed", "esta-coordinator", &args)?.fails_with(7)?;
    assert!(line.contains("every worker is gone") && line.contains("exited with code 7"), "{line}");
    assert!(line.contains("cannot read") && line.contains("photos/2/nowhere.png"), "{line}");
    Ok(())
}

#[test]
fn a_worker_that_finds_other_data_is_turned_away_and_the_run_goes_on() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let job = lab.write_job("other-data", "", 200)?;
    let mut run = Run::start(&lab, &job, 1)?;
    run.wait_for_step(5)?;
    lab.write_images(SAMPLES - 1)?;
    let line = run.worker("other", &[])?.fails_with(3)?;
    assert!(line.contains("finds 95 training samples, the run has 96"), "{line}");
    run.finish()?;
    Ok(())
}

#[test]
fn a_loss_that_is_no_number_ends_the_run_with_advice_and_keeps_what_was_committed() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let job = lab.write_job("diverges", "", 400)?;
    lab.change(&job, "learning_rate: 3.0e-3", "learning_rate: 1.0e+3, warmup_ratio: 0.0")?;
    let mut run = Run::serve(&lab, &job, 1)?;
    let told = run.worker("w0", &[])?.fails_with(5)?;
    let line = run.coordinator().fails_with(5)?;
    for line in [told, line] {
        assert!(line.contains("not finite") && line.contains("lower train.learning_rate"), "{line}");
    }
    Run::serve(&lab, &job, 1)?.wait_for_step(10)
}

#[test]
fn a_run_that_failed_stays_to_be_seen_as_long_as_its_coordinator_lingers() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let etcd = EtcdServer::start(lab.path())?;
    let job = lab.write_job("diverges", "", 400)?;
    lab.change(&job, "learning_rate: 3.0e-3", "learning_rate: 1.0e+3, warmup_ratio: 0.0")?;
    let setting = Setting { serve: ["--linger", "forever"].map(str::to_owned).to_vec(), ..Setting::default() };
    let mut run = Run::set_on_etcd(&lab, &job, (&etcd.store("t"), 2), 1, setting)?;
    let leader = run.leader_beside(&[])?;
    run.take_worker(0).fails_with(5)?;
    let told = || {
        let args = ["status", "--coordinator", &run.url_of(leader)];
        let mut status = Process::start(lab.path(), "status", "esta-coordinator", &args).ok()?;
        status.wait().ok()?.success().then(|| status.out()).filter(|said| said.contains(": failed\n"))
    };
    let status = deadline("the failure to be told", told).with_context(|| run.said())?;
    assert!(status.contains("it failed: ") && status.contains("not finite"), "{status}");
    // Probes leave it in the service, and whoever stands by goes on doing so and shows it.
    for page in [run.page_of(leader)?, run.page_of(1 - leader)?] {
        assert_eq!(get(&page, "/readyz")?.0, 200);
        let state = || get(&page, "/api/state").ok()?.1.contains("not finite").then_some(());
        deadline("the page to say why", state)?;
    }
    let late = run.worker("late", &[])?.fails_with(5)?;
    assert!(late.contains("the run failed") && late.contains("not finite"), "{late}");
    assert!(told().is_some(), "it is still there");
    run.seat(leader).signal("TERM")?;
    assert!(run.seat(leader).fails_with(5)?.contains("not finite"));
    run.kill_all();
    Ok(())
}

#[test]
fn a_full_disk_costs_checkpoints_and_nothing_that_was_committed() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let calm = Run::start(&lab, &lab.write_job("calm", "", 200)?, 1)?.finish()?;
    let job = lab.write_job("cramped", "", 200)?;
    let mut run = Run::start(&lab, &job, 1)?;
    let (dir, first) = (run.dir().to_owned(), run.dir().join("checkpoint-20"));
    deadline("the first checkpoint", || first.is_dir().then_some(()))?;
    run.kill_worker(0);
    let complete = || {
        let names = fs::read_dir(&dir)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
        let names: anyhow::Result<BTreeSet<String>> = names.collect();
        names.map(|names| names.into_iter().filter(|name| name.starts_with("checkpoint-")).collect::<Vec<_>>())
    };
    let earlier = complete()?;

    // The adapters take more than this, what a worker logs does not.
    let mut cramped = run.worker_on_full_disk("cramped", 16 << 10)?;
    let line = cramped.fails_with(9)?;
    assert!(line.contains("cramped/.checkpoint-200") && line.contains("adapters.safetensors"), "{line}");
    assert!(line.ends_with("File too large (os error 27)"), "{line}");
    let log = cramped.log();
    assert!(log.contains("no checkpoint"), "each checkpoint that was not written is told: {log}");
    let own = format!(".{}", cramped.id());
    let half = fs::read_dir(&dir)?.flatten().filter(|entry| entry.file_name().to_string_lossy().ends_with(&own));
    assert_eq!(half.count(), 0, "half a checkpoint takes room on a full disk");

    assert!(!earlier.is_empty() && complete()? == earlier, "what was complete stays: {earlier:?}");
    let args = ["eval", "--run-dir", &dir.to_string_lossy(), "--stitch", "0"];
    let mut eval = Process::start(lab.path(), "eval", "esta-worker", &args)?;
    assert!(eval.wait()?.success(), "the earlier checkpoint loads: {}", eval.log());
    run.add_worker()?;
    assert!(calm == run.finish()?, "with room again the run ended with other bits");
    Ok(())
}

#[test]
fn a_record_without_room_is_named_and_the_run_goes_on_once_there_is_room() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let calm = Run::start(&lab, &lab.write_job("calm", "", 300)?, 1)?.finish()?;
    let job = lab.write_job("roomless", "", 300)?;
    let args = ["run", "--config", &job.to_string_lossy()];
    // The first limit leaves no room for an empty record, the second none for that of all steps.
    for (most, action) in [(16 << 10, "cannot open"), (80 << 10, "cannot write")] {
        let mut run = Process::start_on_full_disk(lab.path(), "roomless", "esta-coordinator", &args, most)?;
        let line = run.fails_with(4)?;
        assert!(line.contains(action) && line.contains("roomless/record.redb"), "{line}");
        assert!(line.ends_with("File too large (os error 27)"), "{line}");
    }
    assert!(calm == Run::start(&lab, &job, 1)?.finish()?, "with room again the run ended with other bits");
    Ok(())
}

#[test]
fn a_disk_that_fills_up_under_everybody_costs_nothing_once_there_is_room_again() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let calm = Run::start(&lab, &lab.write_job("calm", "", 800)?, 2)?.finish()?;
    let job = lab.write_job("full", "", 800)?;
    let disk = Disk::mount(&lab.path().join("full"), 4 << 20)?;
    let mut run = Run::start(&lab, &job, 2)?;
    run.wait_for_step(100)?;
    disk.fill()?;
    let line = run.coordinator().fails_with(4)?;
    assert!(line.contains("no space is left for") && line.contains("full/record.redb"), "{line}");
    let log = run.worker_at(0).log();
    assert!(log.contains("no checkpoint") && log.contains("No space left on device (os error 28)"), "{log}");
    disk.free()?;
    run.reseat(0)?;
    assert!(calm == run.finish()?, "with room again the run ended with other bits");
    Ok(())
}

#[test]
fn results_that_cannot_be_written_are_a_failure_and_the_same_command_writes_them() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let job = lab.write_job("barred", "", 20)?;
    let run = || Process::start(lab.path(), "barred", "esta-coordinator", &["run", "--config", &job.to_string_lossy()]);
    let in_its_way = job.with_extension("").join("palette.json.tmp");
    fs::create_dir_all(&in_its_way)?;
    let line = run()?.fails_with(1)?;
    assert!(line.contains("cannot write the files of the run in") && line.contains("barred"), "{line}");
    fs::remove_dir(&in_its_way)?;
    assert!(run()?.wait()?.success());
    Evidence::read(&job.with_extension(""), 20)?;
    Ok(())
}
