//! The chart's scenarios without a cluster: the commands, variables, files and probes that they render, started as processes
//! until the Job succeeds by its own rules, while coordinators roll, workers are drained and killed and the Job changes its size.
//!
//! The jobs are small ones, given as values.

use std::{collections::BTreeSet, fmt::Write as _, fs, path::Path, process::Command};

use anyhow::{Context, ensure};
use esta_tests::{
    Action, Certificates, Cluster, EtcdServer, EtcdTls, Lab, Lost, ObjectServer, Outcome, PATIENCE, Run, Scenario,
    TextLab, collector::Collector,
};

/// Top-level sections of a small job, as a chart's values have them: models and data are named by their places, and
/// where results go is the chart's to say.
fn sections(folder: &Path, job: &Path) -> anyhow::Result<Vec<String>> {
    let root = folder.to_string_lossy();
    let text = fs::read_to_string(job)?.replace(&format!("{root}/anchors"), "$(models)").replace(&*root, "$(data)");
    let mut sections: Vec<String> = Vec::new();
    for line in text.lines() {
        match sections.last_mut().filter(|_| line.starts_with(' ')) {
            Some(section) => writeln!(section, "{line}")?,
            None => sections.push(format!("{line}\n")),
        }
    }
    sections.retain(|section| !section.starts_with("output_dir"));
    Ok(sections)
}

/// Lines below a key.
fn below(key: &str, lines: &str) -> String {
    lines.lines().fold(format!("{key}\n"), |text, line| text + "  " + line + "\n")
}

/// What a job leaves behind that nobody disturbs, on one worker.
fn undisturbed(folder: &Path, name: &str, job: &Path) -> anyhow::Result<Outcome> {
    Run::of_job(folder, name, job, 1, PATIENCE)?.finish()
}

/// Checks that the pods of a place ended like this, one after the other.
fn ended(cluster: &Cluster, index: u32, as_expected: &[(i32, Option<Action>)]) {
    let of_place = cluster.ended().iter().filter(|pod| pod.index == index);
    let ends: Vec<_> = of_place.map(|pod| (pod.code, pod.action)).collect();
    assert_eq!(ends, as_expected, "the pods of the place {index}: {}", cluster.said());
}

/// The record is a file.
fn cpu_trial(lab: &Lab, steps: u64) -> anyhow::Result<(Scenario, std::path::PathBuf)> {
    let job = lab.write_job("trial", "sampling: {slots: 4}\n", steps)?;
    let scenario = Scenario {
        name: "cpu-trial".to_owned(),
        instead: below("job:", &sections(lab.path(), &job)?.concat()),
        claims: vec![
            ("esta-trial/anchors".to_owned(), lab.path().join("anchors")),
            ("esta-trial/fashion-mnist".to_owned(), lab.path().to_owned()),
        ],
        ..Scenario::default()
    };
    Ok((scenario, job))
}

#[test]
fn a_trial_on_processors_outlives_its_coordinator_and_a_killed_worker() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let (scenario, job) = cpu_trial(&lab, 600)?;
    let calm = undisturbed(lab.path(), "trial", &job)?;
    let mut cluster = Cluster::install(&lab.path().join("cluster"), &scenario)?;
    cluster.until_state("a coordinator to lead", |_| true)?;
    let said = cluster.helm_test()?;
    assert!(said.contains("trial"), "{said}");
    cluster.until_members(2)?;
    cluster.until_steps_more(2)?;
    cluster.kill_worker(1)?;
    assert_eq!(cluster.until_ended(1)?.action, Some(Action::Count));
    cluster.until_state("the loss to be told", |state| {
        state["events"].as_array().is_some_and(|events| events.iter().any(|event| event["kind"] == "gone"))
    })?;
    // A lone coordinator: the next start goes on with the file.
    cluster.roll(&["coordinator.podAnnotations.rolled=again"])?;
    cluster.until_success()?;
    ended(&cluster, 0, &[(0, None)]);
    ended(&cluster, 1, &[(137, Some(Action::Count)), (0, None)]);
    let said = cluster.helm_test()?;
    assert!(said.contains("complete"), "{said}");
    assert!(calm == Outcome::read(&cluster.results()?)?, "the run on a cluster ended with other bits");
    assert!(cluster.lost()?.workers > 0.0, "the metrics of the coordinator that is gone knew of the worker");
    assert_eq!(cluster.uninstall()?, [0]);
    Ok(())
}

#[test]
fn weights_that_are_not_there_fail_the_job_at_once() -> anyhow::Result<()> {
    let lab = Lab::without_anchors()?;
    let (mut scenario, _) = cpu_trial(&lab, 300)?;
    // The claim is there, and nobody has copied anything to it.
    scenario.claims.remove(0);
    let mut cluster = Cluster::install(&lab.path().join("cluster"), &scenario)?;
    let why = cluster.until_failure()?;
    ensure!(why.contains("is given up"), "{why}");
    // One worker without weights would leave the others alone; there are none for any.
    (0..2).for_each(|index| ended(&cluster, index, &[(8, Some(Action::FailIndex))]));
    cluster.uninstall()?;
    Ok(())
}

#[test]
fn a_pod_of_eight_gpus_shares_its_blocks_and_is_replaced_once_it_is_drained() -> anyhow::Result<()> {
    let lab = TextLab::new()?;
    let job = lab.write_job_with("node", 160, ("", ""), "model: {shard: node}\n")?;
    let calm = undisturbed(lab.path(), "node", &job)?;
    // What names no place lies in a file that the job extends, as in the scenario.
    let (own, base): (Vec<_>, Vec<_>) = sections(lab.path(), &job)?
        .into_iter()
        .partition(|section| section.contains("$(") || section.starts_with("name:"));
    let job = below("job:", &format!("base: base.yaml\n{}", own.concat()));
    let base = below("jobFiles:", &below("base.yaml: |", &base.concat()));
    let scenario = Scenario {
        name: "gpu-node".to_owned(),
        instead: job + &base,
        claims: vec![
            ("llama/weights".to_owned(), lab.path().join("anchors")),
            ("alpaca".to_owned(), lab.path().to_owned()),
        ],
        secrets: vec![("hub-token".to_owned(), "HF_TOKEN".to_owned(), "unused".to_owned())],
        per_node: 1,
        ..Scenario::default()
    };
    let mut cluster = Cluster::install(&lab.path().join("cluster"), &scenario)?;
    cluster.until_state("a coordinator to lead", |_| true)?;
    cluster.helm_test()?;
    cluster.until_members(8)?;
    cluster.drain_worker(0)?;
    assert_eq!(cluster.until_ended(0)?.action, Some(Action::Ignore));
    cluster.until_success()?;
    ended(&cluster, 0, &[(143, Some(Action::Ignore)), (0, None)]);
    assert!(calm == Outcome::read(&cluster.results()?)?, "the run on a node ended with other bits");
    cluster.helm_test()?;
    assert_eq!(cluster.uninstall()?, [0]);
    Ok(())
}

/// A token, and what a file of tokens says of it.
fn token_line(names: &str, role: &str, token: &str) -> anyhow::Result<String> {
    let script = format!("printf %s {token} | sha256sum");
    let output = Command::new("sh").args(["-c", &script]).output()?;
    let digest = String::from_utf8(output.stdout)?;
    let digest = digest.split(' ').next().context("sha256sum answers")?;
    Ok(format!("{names} {role} {digest}\n"))
}

#[test]
fn a_jobset_trains_behind_certificates_and_tokens_that_are_there_already() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let job = lab.write_job("set", "sampling: {slots: 4}\n", 200)?;
    let calm = undisturbed(lab.path(), "set", &job)?;
    let secret = |name: &str, key: &str, content: &str| (name.to_owned(), key.to_owned(), content.to_owned());
    let tokens = token_line("esta-*", "worker", "of-workers")? + &token_line("helm-test", "viewer", "of-viewers")?;
    // As the chart's README says of Secrets of one's own.
    let short = ["esta", "esta.train", "esta.train.svc", "localhost"];
    let long = ["esta.train.svc.cluster.local", "*.esta-coordinators.train.svc.cluster.local"];
    let hosts: Vec<String> = short.iter().chain(&long).map(|&host| host.to_owned()).collect();
    let scenario = Scenario {
        name: "jobset".to_owned(),
        instead: below("jobFile: |", &sections(lab.path(), &job)?.concat()),
        set: ["workers.replicas=4", "workers.jobSet.groups=2", "coordinator.waitForWorkers=3"]
            .map(str::to_owned)
            .to_vec(),
        replace: vec![("bond0".to_owned(), "lo".to_owned())],
        claims: vec![("models".to_owned(), lab.path().join("anchors")), ("imagenet".to_owned(), lab.path().to_owned())],
        secrets: vec![
            secret("esta-tokens", "tokens", &tokens),
            secret("esta-worker-token", "token", "of-workers"),
            secret("esta-viewer-token", "token", "of-viewers"),
        ],
        certificates: vec![
            ("esta-coordinator-tls".to_owned(), hosts),
            ("esta-worker-tls".to_owned(), vec!["esta-worker".to_owned()]),
        ],
        per_node: 2,
        ..Scenario::default()
    };
    let mut cluster = Cluster::install(&lab.path().join("cluster"), &scenario)?;
    cluster.until_state("a coordinator to lead", |_| true)?;
    cluster.helm_test()?;
    cluster.until_members(4)?;
    cluster.until_success()?;
    (0..4).for_each(|index| ended(&cluster, index, &[(0, None)]));
    assert!(calm == Outcome::read(&cluster.results()?)?, "the run of a JobSet ended with other bits");
    let said = cluster.helm_test()?;
    assert!(said.contains("complete"), "{said}");
    assert_eq!(cluster.uninstall()?, [0]);
    Ok(())
}

/// Three coordinators over an etcd that speaks TLS, whose three names lead to one member here, and everything else in object
/// storage, which speaks plain HTTP here.
struct MultiNode {
    _etcd: EtcdServer,
    storage: ObjectServer,
    collector: Collector,
    scenario: Scenario,
}

impl MultiNode {
    fn new(lab: &Lab, job: &Path, workers: u32) -> anyhow::Result<Self> {
        let files = Certificates::write(lab.path())?;
        let tls = EtcdTls { cert: files.cert.clone(), key: files.key.clone(), client_ca: files.ca.clone() };
        let (etcd, collector) = (EtcdServer::start_with_tls(lab.path(), tls)?, Collector::start()?);
        let secret = |name: &str, key: &str, content: String| (name.to_owned(), key.to_owned(), content);
        let storage = ObjectServer::start(lab.path())?;
        storage.stock(lab)?;
        let instead = below("job:", &sections(lab.path(), job)?.concat());
        let (_, listens) =
            etcd.endpoint().split_once("://").map(|(a, b)| (a.to_owned(), b.to_owned())).context("a URL")?;
        let collects = collector.environment().swap_remove(0).1.replace("http://", "");
        let mut replace: Vec<_> = (0..3).map(|n| (format!("etcd-{n}.etcd.etcd.svc"), listens.clone())).collect();
        replace.push(("minio.storage.svc:9000".to_owned(), storage.address().to_string()));
        replace.push(("collector.observability.svc:4317".to_owned(), collects));
        let set = [
            format!("workers.replicas={workers}"),
            "workers.podDisruptionBudget.minAvailable=1".to_owned(),
            "s3.endpoint=http://minio.storage.svc:9000".to_owned(),
        ];
        let scenario = Scenario {
            name: "multi-node".to_owned(),
            instead,
            set: set.to_vec(),
            replace,
            secrets: vec![
                secret("etcd-client", "ca.crt", fs::read_to_string(&files.ca)?),
                secret("etcd-client", "tls.crt", fs::read_to_string(&files.cert)?),
                secret("etcd-client", "tls.key", fs::read_to_string(&files.key)?),
                secret("esta-s3", "AWS_ACCESS_KEY_ID", "unused".to_owned()),
                secret("esta-s3", "AWS_SECRET_ACCESS_KEY", "unused".to_owned()),
            ],
            signs_tokens: true,
            ..Scenario::default()
        };
        Ok(Self { _etcd: etcd, storage, collector, scenario })
    }

    /// What the only run that object storage keeps has left, brought to a folder.
    fn outcome(&self, to: &Path) -> anyhow::Result<Outcome> {
        let (bucket, runs) = (self.storage.bucket()?, self.storage.place("runs"));
        let objects = bucket.list(&runs.parse()?)?;
        let names: BTreeSet<&str> = objects.iter().filter_map(|object| object.name.split('/').next()).collect();
        ensure!(names.len() == 1, "{runs} holds {names:?}");
        bucket.fetch(&format!("{runs}/{}", names.into_iter().collect::<String>()).parse()?, to)?;
        Outcome::read(to)
    }
}

#[test]
fn several_nodes_train_over_etcd_with_certificates_and_tokens_of_accounts_until_the_job_succeeds() -> anyhow::Result<()>
{
    let lab = Lab::new()?;
    let job = lab.write_job("nodes", "sampling: {slots: 4}\n", 600)?;
    let calm = undisturbed(lab.path(), "nodes", &job)?;
    let nodes = MultiNode::new(&lab, &job, 3)?;
    let mut cluster = Cluster::install(&lab.path().join("cluster"), &nodes.scenario)?;
    cluster.until_state("a coordinator to lead", |_| true)?;
    cluster.helm_test()?;
    cluster.until_members(3)?;
    cluster.drain_worker(2)?;
    assert_eq!(cluster.until_ended(2)?.action, Some(Action::Ignore));
    cluster.until_success()?;
    ended(&cluster, 2, &[(143, Some(Action::Ignore)), (0, None)]);
    let said = cluster.helm_test()?;
    assert!(said.contains("complete"), "{said}");
    assert!(calm == nodes.outcome(&lab.path().join("brought"))?, "the run on several nodes ended with other bits");
    assert_eq!(cluster.uninstall()?, [0; 3]);
    let told = nodes.collector.metrics();
    for (service, metric) in
        [("esta-coordinator", "esta.steps.committed"), ("esta-worker", "esta.worker.steps.applied")]
    {
        assert!(told.contains(&(service.to_owned(), metric.to_owned())), "{service} exports {metric}: {told:?}");
    }
    Ok(())
}

#[test]
fn a_rolling_upgrade_of_the_coordinators_loses_no_step() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    // As long as it takes; it is ended when it has been seen.
    let job = lab.write_job("rolled", "sampling: {slots: 4}\n", 100_000)?;
    let nodes = MultiNode::new(&lab, &job, 2)?;
    let mut cluster = Cluster::install(&lab.path().join("cluster"), &nodes.scenario)?;
    cluster.until_members(2)?;
    cluster.until_step(10)?;
    let before = cluster.state().context("somebody leads")?;
    // Coordinators read it, workers do not: they stay where they are.
    cluster.roll(&["job.timeouts.reconnect=120"])?;
    let steps = |state: &serde_json::Value| state["progress"]["committed"].as_u64().unwrap_or_default();
    cluster.until_step(steps(&before) + 10)?;
    let after = cluster.until_state("the run to go on", |_| true)?;
    assert_eq!(after["run"]["generation"], before["run"]["generation"], "workers noticed more than a pause");
    assert_ne!(after["run"]["epoch"], before["run"]["epoch"], "another one leads");
    assert_eq!(cluster.lost()?, Lost::default(), "{}", cluster.said());
    assert_eq!(after["progress"]["lost"], 0);
    assert!(cluster.ended().is_empty(), "no worker ended");
    cluster.uninstall()?;
    Ok(())
}

#[test]
fn a_job_that_is_patched_starts_and_drains_workers_while_the_run_goes_on() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let job = lab.write_job("scaled", "sampling: {slots: 4}\n", 100_000)?;
    let nodes = MultiNode::new(&lab, &job, 2)?;
    let mut cluster = Cluster::install(&lab.path().join("cluster"), &nodes.scenario)?;
    cluster.until_members(2)?;
    cluster.until_step(5)?;
    cluster.scale(4);
    cluster.until_members(4)?;
    let at = cluster.state().and_then(|state| state["progress"]["committed"].as_u64()).unwrap_or_default();
    cluster.until_step(at + 5)?;
    cluster.scale(1);
    cluster.until_members(1)?;
    let at = cluster.state().and_then(|state| state["progress"]["committed"].as_u64()).unwrap_or_default();
    cluster.until_step(at + 5)?;
    for index in 1..4 {
        // They leave in order, and nobody takes their places.
        ended(&cluster, index, &[(143, None)]);
    }
    cluster.uninstall()?;
    Ok(())
}
