//! What others see of a run: traces and metrics in a collector, metrics and probes over HTTP, and that none of it is waited for.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use anyhow::{Context, ensure};
use esta_tests::{
    Certificates, Lab, Outcome, Run, Setting, TextLab,
    backends::free_address,
    collector::{Collector, Told, events, number, real, text, texts},
    deadline,
    http::get,
};
use opentelemetry_proto::tonic::trace::v1::{Span, span::Event};

const STEPS: u64 = 24;

fn job(lab: &Lab, name: &str) -> anyhow::Result<PathBuf> {
    let job = lab.write_job(name, "sampling: {slots: 4}\n", STEPS)?;
    // Budgets that hold several stitches, or there would be nothing to be unsure of.
    lab.change(&job, "gap: 3000", "gap: 1000000")?;
    Ok(job)
}

/// What a run leaves behind that nobody watches.
fn unwatched(lab: &Lab) -> anyhow::Result<Outcome> {
    Run::start(lab, &job(lab, "unwatched")?, 2)?.finish()
}

/// The spans of one trace, by name.
struct Trace<'a>(Vec<&'a Told>);

impl<'a> Trace<'a> {
    fn named(&self, name: &str) -> Vec<&'a Span> {
        self.0.iter().filter(|told| told.span.name == name).map(|told| &told.span).collect()
    }

    fn one(&self, name: &str) -> anyhow::Result<&'a Span> {
        let found = self.named(name);
        ensure!(found.len() == 1, "{} spans are called {name:?}", found.len());
        Ok(found[0])
    }

    fn below(&self, parent: &Span) -> BTreeSet<&'a str> {
        let children = self.0.iter().filter(|told| told.span.parent_span_id == parent.span_id);
        children.map(|told| told.span.name.as_str()).collect()
    }
}

/// Traces by id that have a root of this name.
fn traces<'a>(spans: &'a [Told], root: &str) -> Vec<Trace<'a>> {
    let mut by_trace: BTreeMap<&[u8], Vec<&Told>> = BTreeMap::new();
    spans.iter().for_each(|told| by_trace.entry(&told.span.trace_id).or_default().push(told));
    let has_root =
        |trace: &Vec<&Told>| trace.iter().any(|told| told.span.name == root && told.span.parent_span_id.is_empty());
    by_trace.into_values().filter(has_root).map(Trace).collect()
}

#[test]
fn a_step_is_one_trace_across_all_processes_and_watching_changes_no_bit() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let collector = Collector::start()?;
    let setting = Setting { environment: collector.environment(), ..Setting::default() };
    let outcome = Run::set(&lab, &job(&lab, "watched")?, 2, setting)?.finish()?;
    ensure!(outcome == unwatched(&lab)?, "a run that is watched ends with other bits");

    let spans = collector.spans();
    let steps = traces(&spans, "step");
    assert_eq!(steps.len() as u64, STEPS, "a trace for each step");
    let mut with_entropy = 0;
    for trace in &steps {
        let root = trace.one("step")?;
        let step = number(&root.attributes, "esta.step").context("a step has a number")?;
        assert_eq!(trace.below(root), BTreeSet::from(["plan", "rank step", "commit"]), "step {step}");

        let plan = trace.one("plan")?;
        assert!(number(&plan.attributes, "esta.table_version").is_some_and(|version| version <= step));
        let draws = events(plan, "draw");
        assert_eq!(draws.len(), 4);
        for draw in &draws {
            assert!(real(&draw.attributes, "esta.probability").is_some_and(|p| p > 0.0 && p <= 1.0));
            assert!(number(&draw.attributes, "esta.budget").is_some() && text(&draw.attributes, "esta.path").is_some());
        }
        if let Some(share) = real(&plan.attributes, "esta.entropy") {
            assert!((0.0..=1.0 + 1e-9).contains(&share), "step {step}: {share}");
            with_entropy += 1;
        }

        let ranks = trace.named("rank step");
        assert_eq!(ranks.len(), 2, "step {step}: both ranks kept it");
        let slots = trace.named("slot");
        let stitch = |slot: &Span| (number(&slot.attributes, "esta.slot"), number(&slot.attributes, "esta.stitch"));
        let ran: BTreeSet<_> = slots.iter().map(|slot| stitch(slot)).collect();
        let drawn: BTreeSet<_> =
            draws.iter().map(|d| (number(&d.attributes, "esta.slot"), number(&d.attributes, "esta.stitch"))).collect();
        assert_eq!((ran, slots.len()), (drawn, 4), "what was drawn ran, each slot once (ST-1)");
        for slot in slots {
            assert_eq!(trace.below(slot), BTreeSet::from(["forward", "backward"]));
        }
        for rank in &ranks {
            assert!(trace.below(rank).is_superset(&BTreeSet::from(["all-reduce", "apply"])));
            assert_ordered(rank, "the rank's part")?;
        }

        let commit = trace.one("commit")?;
        assert_eq!(trace.below(commit), BTreeSet::from(["table update", "record write"]));
        let linked: Vec<_> = commit.links.iter().map(|link| &link.span_id).collect();
        assert!(ranks.iter().any(|rank| linked == [&rank.span_id]), "a commit leads back to the rank that reported it");
        let scores = events(trace.one("table update")?, "score");
        assert!(scores.len() == 4 && scores.iter().all(|score| real(&score.attributes, "esta.score").is_some()));
        assert!(root.start_time_unix_nano <= plan.start_time_unix_nano);
        assert!(commit.end_time_unix_nano <= root.end_time_unix_nano);
    }
    assert!(with_entropy as u64 > STEPS / 2, "{with_entropy} plans tell how sure their draws were");
    let services: BTreeSet<_> = spans.iter().map(|told| told.service.as_str()).collect();
    assert_eq!(services, BTreeSet::from(["esta-coordinator", "esta-worker"]));

    let formed = traces(&spans, "generation");
    assert_eq!(formed.len(), 1, "one generation was formed");
    assert_eq!(formed[0].named("rank forms group").len(), 2);
    // A worker that comes before the coordinator leads is sent away and asks again.
    let let_in = |span: &Span| text(&span.attributes, "rpc.response.status_code").as_deref() == Some("OK");
    let asked = traces(&spans, "esta.v1.Coordinator/Join");
    let joins: Vec<_> = asked.iter().filter(|join| join.0.iter().all(|told| let_in(&told.span))).collect();
    assert_eq!(joins.len(), 2, "each worker's join");
    for join in joins {
        assert_eq!(join.named("esta.v1.Coordinator/Join").len(), 2, "its client's end and its server's");
    }

    let metrics = collector.metrics();
    for (service, metric) in [
        ("esta-coordinator", "esta.steps.committed"),
        ("esta-coordinator", "esta.plan.duration"),
        ("esta-coordinator", "esta.sampling.entropy"),
        ("esta-coordinator", "rpc.server.call.duration"),
        ("esta-worker", "esta.worker.steps.applied"),
        ("esta-worker", "esta.worker.memory"),
        ("esta-worker", "rpc.client.call.duration"),
    ] {
        assert!(metrics.contains(&(service.to_owned(), metric.to_owned())), "{service} exports {metric}: {metrics:?}");
    }
    Ok(())
}

fn assert_ordered(span: &Span, what: &str) -> anyhow::Result<()> {
    ensure!(span.start_time_unix_nano <= span.end_time_unix_nano, "{what} ends before it begins");
    Ok(())
}

#[test]
fn a_lost_worker_is_an_event_of_the_step_it_was_lost_in() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let collector = Collector::start()?;
    let setting = Setting { environment: collector.environment(), ..Setting::default() };
    let job = lab.write_job("struck", "sampling: {slots: 4}\n", 400)?;
    let mut run = Run::set(&lab, &job, 3, setting)?;
    run.wait_for_step(20)?;
    run.add_worker_named("latecomer")?;
    run.wait_for_log("latecomer")?;
    run.wait_for_step(200)?;
    run.kill_worker(2);
    run.finish()?;
    let spans = collector.spans();
    let roots: Vec<&Span> = traces(&spans, "step").iter().map(|trace| trace.one("step")).collect::<Result<_, _>>()?;
    let struck = roots.iter().filter(|root| !events(root, "generation ended").is_empty());
    let struck: Vec<_> = struck.collect();
    assert!(!struck.is_empty(), "no step under way tells of the loss");
    let gone = |root: &Span| events(root, "worker gone").iter().any(|e| text(&e.attributes, "esta.worker").is_some());
    assert!(struck.iter().any(|root| gone(root)), "no step under way tells who was lost");
    let joined = |event: &&Event| texts(&event.attributes, "esta.workers").iter().any(|name| name == "latecomer");
    let joins = roots.iter().filter(|root| events(root, "generation prepared").iter().any(joined)).count();
    assert!(joins > 0, "no step under way tells who joins");
    let again = struck.iter().any(|root| events(root, "handed out").len() > 1);
    assert!(again, "no step tells that it was given out again");
    for root in struck {
        assert!(!events(root, "generation formed").is_empty(), "a step that was interrupted tells of what came next");
    }
    assert!(traces(&spans, "generation").len() >= 2, "the generation before and the one after it have traces");
    Ok(())
}

#[test]
fn a_step_that_outlives_its_leader_stays_one_trace() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let collector = Collector::start()?;
    let setting = Setting { environment: collector.environment(), ..Setting::default() };
    let job = lab.write_job("handed-over", "sampling: {slots: 4}\n", 300)?;
    let mut run = Run::set(&lab, &job, 2, setting)?;
    run.wait_for_step(40)?;
    run.coordinator().signal("TERM")?;
    run.coordinator().wait()?;
    run.reseat(0)?;
    run.finish()?;
    let spans = collector.spans();
    let roots =
        |name: &str| spans.iter().filter(|told| told.span.name == name && told.span.parent_span_id.is_empty()).count();
    let steps = traces(&spans, "step");
    assert_eq!((steps.len(), roots("step")), (300, 300), "each step has one trace, and that one root");
    let terms: Vec<_> = steps.iter().filter(|trace| !trace.named("term").is_empty()).collect();
    assert!(!terms.is_empty(), "a leader that went told of the steps it left");
    for trace in terms {
        let (root, term) = (trace.one("step")?, trace.one("term")?);
        assert_eq!(term.parent_span_id, root.span_id);
        assert!(term.status.as_ref().is_some_and(|status| status.message.contains("term ended")));
    }
    let ids: BTreeSet<_> = spans.iter().map(|told| &told.span.span_id).collect();
    assert_eq!(ids.len(), spans.len(), "no two spans have one id");
    Ok(())
}

#[test]
fn slots_of_a_node_that_shares_its_blocks_tell_forward_from_backward() -> anyhow::Result<()> {
    let lab = TextLab::new()?;
    let collector = Collector::start()?;
    let setting = Setting { environment: collector.environment(), ..Setting::default() };
    let job = lab.write_job_with("shared", 6, ("", ""), "model: {shard: node}\n")?;
    Run::of_job_set(lab.path(), "shared", &job, 2, setting)?.finish()?;
    let spans = collector.spans();
    let steps = traces(&spans, "step");
    assert_eq!(steps.len(), 6);
    for trace in &steps {
        let slots = trace.named("slot");
        assert!(!slots.is_empty());
        for slot in slots {
            assert_eq!(trace.below(slot), BTreeSet::from(["forward", "backward"]));
        }
    }
    Ok(())
}

#[test]
fn a_collector_with_a_certificate_is_spoken_to_by_tls_and_lines_of_the_log_lead_to_its_traces() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let collector = Collector::start_sealed(&Certificates::write(lab.path())?)?;
    let mut environment = collector.environment();
    environment.push(("RUST_LOG".to_owned(), "esta_worker=debug".to_owned()));
    let setting = Setting { environment, ..Setting::default() };
    let mut run = Run::set(&lab, &job(&lab, "sealed")?, 1, setting)?;
    let mut worker = run.take_worker(0);
    run.finish()?;
    ensure!(worker.wait()?.success(), "{}", worker.log());
    let spans = collector.spans();
    assert_eq!(traces(&spans, "step").len() as u64, STEPS);
    let metrics = collector.metrics();
    assert!(metrics.contains(&("esta-worker".to_owned(), "esta.worker.steps.applied".to_owned())), "{metrics:?}");
    let known: BTreeSet<String> = spans.iter().map(|told| hex(&told.span.trace_id)).collect();
    // It goes to a file here, so every line is JSON.
    let lines = worker.log();
    let told: BTreeSet<String> = lines.lines().filter_map(trace_of).collect();
    assert!(told.len() as u64 >= STEPS / 2, "{} traces are named in:\n{lines}", told.len());
    assert!(told.is_subset(&known), "a line names a trace that nobody has");
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The trace that a line of a log belongs to.
fn trace_of(line: &str) -> Option<String> {
    let line: serde_json::Value = serde_json::from_str(line).ok()?;
    line["span"]["trace_id"].as_str().map(str::to_owned)
}

#[test]
fn a_collector_that_is_not_there_is_waited_for_by_nobody() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    // Nobody listens on the port of a listener that is gone.
    let nobody = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let environment =
        [("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{nobody}")), ("OTEL_TRACES_SAMPLER_ARG", "1".into())];
    let environment = environment.map(|(name, value)| (name.to_owned(), value)).to_vec();
    let setting = Setting { environment, ..Setting::default() };
    let outcome = Run::set(&lab, &job(&lab, "unheard")?, 2, setting)?.finish()?;
    ensure!(outcome == unwatched(&lab)?, "a run that nobody hears ends with other bits");
    Ok(())
}

#[test]
fn metrics_and_probes_are_answered_by_coordinator_and_worker_and_a_complete_run_stays_to_be_seen() -> anyhow::Result<()>
{
    let lab = Lab::new()?;
    let (page, worker) = (free_address()?, free_address()?);
    let strings = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    let setting = Setting {
        serve: strings(&["--http", &page, "--linger", "forever"]),
        train: strings(&["--http", &worker]),
        ..Setting::default()
    };
    let job = lab.write_job("exposed", "sampling: {slots: 4}\n", 300)?;
    let mut run = Run::set(&lab, &job, 1, setting)?;
    // By then stitches of every budget have scores that say something.
    run.wait_for_step(60)?;
    let status = |address: &str, path: &str| get(address, path).map(|(status, _)| status);
    assert_eq!((status(&page, "/healthz")?, status(&page, "/readyz")?, status(&worker, "/readyz")?), (200, 200, 200));
    let ((_, seen), (_, of_worker)) = (get(&page, "/metrics")?, get(&worker, "/metrics")?);
    for metric in [
        "esta_steps_committed_total",
        "esta_plan_duration_seconds_bucket",
        "esta_members{state=\"ready\"}",
        "esta_sampling_coverage",
        "esta_importance_mean{budget=\"0\"}",
        "esta_record_lag_steps",
        "esta_leading 1",
        "rpc_server_call_duration_seconds_count{",
    ] {
        assert!(seen.contains(metric), "the coordinator has no {metric}:\n{seen}");
    }
    for metric in
        ["esta_worker_steps_applied_total", "esta_worker_memory_bytes{kind=\"rss\"}", "esta_worker_reduced_bytes_total"]
    {
        assert!(of_worker.contains(metric), "the worker has no {metric}:\n{of_worker}");
    }
    let complete = || {
        let (_, answer) = get(&page, "/api/state").ok()?;
        let state: serde_json::Value = serde_json::from_str(&answer).ok()?;
        (state["run"]["complete"] == true).then_some(state)
    };
    let state = deadline("the run to be complete", complete).with_context(|| run.said())?;
    assert_eq!(state["run"]["phase"], "complete");
    assert!(get(&page, "/metrics")?.1.contains("esta_run_complete 1"));
    assert_eq!(state["progress"]["committed"], 300);
    assert!(
        state["palette"].as_array().is_some_and(|palette| palette.iter().any(|choice| choice["accuracy"].is_f64()))
    );
    assert_eq!(status(&page, "/readyz")?, 200);
    run.coordinator().signal("TERM")?;
    run.finish()?;
    Ok(())
}
