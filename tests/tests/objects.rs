//! Object storage: models and data come from it, runs are kept in it, and it changes no bit.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Context;
use esta_tests::{EtcdCluster, Lab, ObjectServer, Outcome, Process, Run, Setting, binary, deadline, http::get};

const STEPS: u64 = 900;
const WORKERS: u32 = 2;

/// A lab with an object storage that has its anchors and data.
struct Store {
    server: ObjectServer,
    lab: Lab,
}

impl Store {
    fn new() -> anyhow::Result<Self> {
        let lab = Lab::new()?;
        let server = ObjectServer::start(lab.path())?;
        server.stock(&lab)?;
        Ok(Self { server, lab })
    }

    fn place(&self, prefix: &str) -> String {
        self.server.place(prefix)
    }

    /// The names of what is in a place.
    fn names(&self, prefix: &str) -> anyhow::Result<Vec<String>> {
        Ok(self.server.bucket()?.list(&self.place(prefix).parse()?)?.into_iter().map(|object| object.name).collect())
    }

    /// A job that takes everything from there.
    fn job(&self, name: &str) -> anyhow::Result<PathBuf> {
        let (job, root) = (self.lab.write_job(name, "sampling: {slots: 4}\n", STEPS)?, self.lab.path().display());
        self.lab.change(&job, &format!("{root}/anchors/"), &format!("{}/", self.place("models")))?;
        self.lab.change(&job, &format!("{root}/images.idx"), &self.place("data/images.idx"))?;
        self.lab.change(&job, &format!("{root}/labels.idx"), &self.place("data/labels.idx"))?;
        Ok(job)
    }

    fn setting(&self, run: &str) -> Setting {
        Setting { environment: self.server.environment(), kept: Some(self.place(run)), ..Setting::default() }
    }

    /// What the job leaves with files alone.
    fn undisturbed(&self) -> anyhow::Result<Outcome> {
        let job = self.lab.write_job("calm", "sampling: {slots: 4}\n", STEPS)?;
        Run::start(&self.lab, &job, WORKERS)?.finish()
    }
}

#[test]
fn mb_2_a_run_that_is_kept_in_a_bucket_ends_with_the_bits_of_one_in_a_folder_whoever_dies() -> anyhow::Result<()> {
    let store = Store::new()?;
    let calm = store.undisturbed()?;
    let job = store.job("kept")?;
    // What a worker that is gone had half sent.
    store.server.put("runs/kept/checkpoint-1/adapters.safetensors", b"half")?;
    let mut run = Run::set(&store.lab, &job, WORKERS, store.setting("runs/kept"))?;
    run.wait_for_step(25)?;
    run.kill_worker(0);
    fs::remove_dir_all(run.cache(1)).context("the first worker had a cache")?;
    run.add_worker()?;
    // Steps take milliseconds: the third worker is waited for.
    run.wait_for_log("w1 w2")?;
    let whole = || store.names("runs/kept").ok()?.iter().any(|name| name.ends_with("/.whole")).then_some(());
    deadline("a checkpoint to be whole", whole).with_context(|| run.said())?;
    // All at once: what they knew is in the bucket alone.
    run.kill_worker(0);
    run.kill_worker(0);
    for worker in [2, 3] {
        fs::remove_dir_all(run.cache(worker)).context("every worker had a cache")?;
    }
    let before = run.sight().context("the coordinator goes on")?.durable;
    assert!(before < STEPS, "the run was over before its workers were");
    run.add_worker()?;
    run.add_worker()?;
    let rough = run.finish()?;
    assert!(calm == rough, "the run that is kept in a bucket ended with other bits");
    let names = store.names("runs/kept")?;
    for name in ["job.json", "metrics.jsonl", "draws.parquet", "palette.json", "table.json", "eval.json", "report.html"]
    {
        assert!(names.iter().any(|found| found == name), "{name} is not in {names:?}");
    }
    let checkpoints = names.iter().filter(|name| name.ends_with("/trainer_state.json")).count();
    assert_eq!(checkpoints, 3, "the oldest go there as well: {names:?}");
    assert!(!names.iter().any(|name| name.starts_with("checkpoint-1/")), "and what is half there: {names:?}");
    let exports = |names: &[String]| names.iter().filter(|name| name.starts_with("export/")).count();
    assert!(exports(&names) > 1, "{names:?}");
    Ok(())
}

#[test]
fn a_palette_is_pulled_out_of_the_bucket_and_the_coordinator_may_start_again_elsewhere() -> anyhow::Result<()> {
    let store = Store::new()?;
    let job = store.job("pulled")?;
    let serve = ["--linger", "forever"].map(str::to_owned).to_vec();
    let mut run = Run::set(&store.lab, &job, 1, Setting { serve, ..store.setting("runs/pulled") })?;
    run.wait_for_step(STEPS)?;
    let report = || store.names("runs/pulled").ok()?.iter().any(|name| name == "report.html").then_some(());
    deadline("the report", report).with_context(|| run.said())?;
    let url = run.url();
    for attempt in ["here", "there"] {
        let to = store.lab.path().join(attempt);
        deadline("the palette", || {
            let to = to.to_string_lossy().into_owned();
            let pull = ["palette", "pull", "--coordinator", &url, "--to", &to];
            let mut pull =
                Process::start(store.lab.path(), &format!("pull-{attempt}"), "esta-coordinator", &pull).ok()?;
            pull.wait().ok()?.success().then_some(())
        })
        .with_context(|| run.said())?;
        let models = fs::read_dir(to.join("export"))?.count();
        assert!(models > 0 && to.join("palette.json").is_file() && to.join("report.html").is_file());
        // Another machine has the record, and nothing else.
        run.coordinator().kill();
        fs::remove_dir_all(run.cache(0))?;
        run.restart_coordinator()?;
    }
    Ok(())
}

#[test]
fn a_record_on_etcd_and_files_in_a_bucket_need_no_disk_of_the_coordinators() -> anyhow::Result<()> {
    let store = Store::new()?;
    let calm = store.undisturbed()?;
    let etcd = EtcdCluster::start(store.lab.path(), 1)?;
    let job = store.job("diskless")?;
    let serve = vec!["--store".to_owned(), etcd.store("t")];
    let mut run = Run::set(&store.lab, &job, WORKERS, Setting { serve, ..store.setting("runs/diskless") })?;
    run.wait_for_step(100)?;
    run.coordinator().kill();
    fs::remove_dir_all(run.cache(0))?;
    run.restart_coordinator()?;
    let diskless = run.finish()?;
    assert!(calm == diskless, "the run whose coordinator lost its disk ended with other bits");
    Ok(())
}

#[test]
fn every_coordinator_of_a_complete_run_has_all_that_was_written() -> anyhow::Result<()> {
    let store = Store::new()?;
    let etcd = EtcdCluster::start(store.lab.path(), 1)?;
    let job = store.job("answered")?;
    let serve = ["--linger", "forever"].map(str::to_owned).to_vec();
    let setting = Setting { serve, ..store.setting("runs/answered") };
    let mut run = Run::set_on_etcd(&store.lab, &job, (&etcd.store("t"), 2), 1, setting)?;
    // Both have led, so both have files of it.
    run.wait_for_step(50)?;
    let first = run.leader_beside(&[])?;
    run.seat(first).kill();
    run.leader_beside(&[first])?;
    run.reseat(first)?;
    for number in 0..2 {
        let page = run.page_of(number)?;
        let complete = || get(&page, "/api/state?own").ok()?.1.contains(r#""phase":"complete""#).then_some(());
        deadline("the run to be complete", complete).with_context(|| run.said())?;
        let to = store.lab.path().join(format!("of-{number}"));
        let pull = ["palette", "pull", "--coordinator", &run.url_of(number), "--to", &to.to_string_lossy()];
        let mut pull = Process::start(store.lab.path(), &format!("pull-{number}"), "esta-coordinator", &pull)?;
        anyhow::ensure!(pull.wait()?.success(), "from {number}: {}\n{}", pull.log(), run.said());
        assert!(to.join("report.html").is_file(), "{number} has no report");
        assert!(fs::read_to_string(to.join("palette.json"))?.contains("accuracy"), "{number} knows no accuracy");
    }
    run.kill_all();
    Ok(())
}

#[test]
fn workers_that_share_a_cache_bring_a_thing_once_and_say_how_much() -> anyhow::Result<()> {
    let store = Store::new()?;
    let job = store.job("shared")?;
    let cache = store.lab.path().join("cache");
    let mut environment = store.server.environment();
    environment.push(("ESTA_CACHE".to_owned(), cache.to_string_lossy().into_owned()));
    let run = Run::set(&store.lab, &job, WORKERS, Setting { environment, ..Setting::default() })?;
    let logs = |run: &Run| format!("{}{}", run.worker_at(0).log(), run.worker_at(1).log());
    let line = |log: &str, of: &str| -> Vec<String> {
        log.lines().filter(|line| line.contains("in the cache") && line.contains(of)).map(str::to_owned).collect()
    };
    let images = store.place("data/images.idx");
    let said = deadline("both workers to have the data", || {
        let said = line(&logs(&run), &images);
        (said.len() >= 2).then_some(said)
    })?;
    let came = |line: &&String| !line.contains("fetched=0") && !line.contains("\"fetched\":0");
    assert_eq!(said.iter().filter(came).count(), 1, "{said:#?}");
    let outcome = run.finish()?;
    assert!(outcome == store.undisturbed()?, "what comes from a bucket is the same");
    Ok(())
}

#[test]
fn what_is_not_in_the_bucket_ends_a_worker_like_a_file_that_is_missing() -> anyhow::Result<()> {
    let store = Store::new()?;
    for (name, from, to, code) in
        [("no-model", "models/b", "models/c", 8), ("no-data", "data/labels.idx", "data/nothing.idx", 7)]
    {
        let job = store.job(name)?;
        store.lab.change(&job, from, to)?;
        let mut run = Run::set(&store.lab, &job, 1, store.setting(&format!("runs/{name}")))?;
        let line = run.take_worker(0).fails_with(code)?;
        assert!(line.contains(&store.place(to)) && line.contains("there is nothing"), "{line}");
        run.coordinator().kill();
    }
    Ok(())
}

#[test]
fn a_record_is_no_object_and_an_address_that_is_none_is_refused() -> anyhow::Result<()> {
    let lab = Lab::without_anchors()?;
    let job = lab.write_job("job", "", STEPS)?;
    let told = |name: &str, dir: &str, more: &[&str], code: i32| {
        let (job, dir) = (job.to_string_lossy(), format!("output_dir={dir}"));
        let args = [&["serve", "--config", &job, "--set", &dir, "--listen", "127.0.0.1:0"], more].concat();
        Process::start(lab.path(), name, "esta-coordinator", &args)?.fails_with(code)
    };
    let line = told("no-store", "s3://esta/runs/a", &[], 4)?;
    assert!(line.contains("output_dir is s3://esta/runs/a") && line.contains("--store redb:PATH"), "{line}");
    let record = format!("redb:{}", lab.path().join("r.redb").display());
    let line = told("no-place", "s3://esta/../a", &["--store", &record], 3)?;
    assert!(line.contains("is no place in object storage"), "{line}");
    Ok(())
}

#[test]
fn a_language_model_in_the_bucket_says_its_own_shape() -> anyhow::Result<()> {
    let lab = Lab::without_anchors()?;
    let server = ObjectServer::start(lab.path())?;
    for (name, width) in [("a", 8), ("b", 16)] {
        let config = serde_json::json!({
            "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 64, "hidden_size": width,
            "intermediate_size": 2 * width, "num_hidden_layers": 2, "num_attention_heads": 2, "torch_dtype": "float32",
        });
        server.put(&format!("models/{name}/config.json"), config.to_string().as_bytes())?;
        server.put(&format!("models/{name}/model.safetensors"), &[0; 100_000])?;
    }
    let anchor = |name: &str| format!("{{name: {name}, weights: \"{}\"}}", server.place(&format!("models/{name}")));
    let job = lab.path().join("speak.yaml");
    let text = format!(
        "name: speak\nfamily: {{anchors: [{}, {}]}}\nbudgets: {{params: {{gap: 100}}}}\ntrain: {{max_steps: 1}}\ndata:\n  text: \
         {{}}\n  train: {{layout: alpaca, path: t.json}}\n",
        anchor("a"),
        anchor("b")
    );
    fs::write(&job, text)?;
    let cache = lab.path().join("cache");
    let mut command = Command::new(binary("esta-coordinator"));
    command.args(["config", "print", "--config"]).arg(&job).envs(server.environment()).env("ESTA_CACHE", &cache);
    let mut print = Process::spawn(lab.path(), "print", &mut command)?;
    anyhow::ensure!(print.wait()?.success(), "{}", print.log());
    let printed = print.out();
    assert!(printed.contains("hidden_size: 16") && printed.contains(&server.place("models/b")), "{printed}");
    let fetched: u64 =
        fs::read_dir(cache.join("objects"))?.flatten().filter_map(|entry| size_below(&entry.path())).sum();
    assert!(fetched < 10_000, "{fetched} bytes came of a model whose shape alone was asked for");
    Ok(())
}

/// Bytes of the files in a folder.
fn size_below(folder: &Path) -> Option<u64> {
    let files = fs::read_dir(folder).ok()?;
    Some(files.flatten().filter_map(|file| file.metadata().ok()).map(|file| file.len()).sum())
}
