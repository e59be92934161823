//! Runs that real backends watch: a Prometheus scrapes metrics and evaluates the chart's alert rules, a collector of another make
//! takes spans and metrics by OTLP, and one that never answers is waited for by nobody.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::TcpListener,
    path::PathBuf,
    process::Command,
};

use anyhow::{Context, ensure};
use esta_tests::{
    Lab, Outcome, Process, Run, Setting,
    backends::{
        Heard, Number, Prometheus, Rotel, Rule, Target, exporting_to, flaws_by_promtool, free_address, repository,
        untyped,
    },
    deadline,
    http::get,
};
use serde_json::Value;

/// Slots of a step, and images of one, in every job here.
const SLOTS: u64 = 4;
const BATCH: u64 = 16;

/// More steps than any test waits for.
const ENDLESS: u64 = 60_000;

/// The metrics that the chart's rules and dashboard know and a run of small images has not, and why.
const ABSENT: [(&str, &str); 1] =
    [("esta_worker_memory_planned_bytes", "only the memory that language models take is planned")];

fn job(lab: &Lab, name: &str, steps: u64) -> anyhow::Result<PathBuf> {
    let job = lab.write_job(name, &format!("sampling: {{slots: {SLOTS}}}\n"), steps)?;
    // Budgets that hold several stitches, or there would be nothing to be unsure of.
    lab.change(&job, "gap: 3000", "gap: 1000000")?;
    Ok(job)
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// A coordinator that shows itself at an address, and workers that do on ports of their own.
fn exposed(page: &str) -> Setting {
    let serve = words(&["--http", page, "--linger", "forever"]);
    Setting { serve, train: words(&["--http", "127.0.0.1:0"]), ..Setting::default() }
}

/// Where a worker says that it is looked at.
fn address_of(worker: &Process) -> anyhow::Result<String> {
    let said = || {
        let log = worker.log();
        let line = log.lines().find(|line| line.contains("metrics and probes are served"))?;
        let line: Value = serde_json::from_str(line).ok()?;
        Some(line["address"].as_str()?.to_owned())
    };
    deadline("a worker to say where its metrics are", said).with_context(|| worker.log())
}

/// The coordinator and its workers, as the chart's monitors would call them.
fn targets(run: &Run<'_>, page: &str, workers: usize) -> anyhow::Result<Vec<Target>> {
    let coordinator = Target { address: page.to_owned(), pod: "esta-coordinator-0".to_owned() };
    let worker = |number: usize| {
        let address = address_of(run.worker_at(number))?;
        anyhow::Ok(Target { address, pod: format!("esta-worker-{number}") })
    };
    std::iter::once(Ok(coordinator)).chain((0..workers).map(worker)).collect()
}

/// The alert rules that the chart makes of a scenario with two workers, as Prometheus reads them: what stands below `spec` in its document.
fn rules(stalled_for: &str) -> anyhow::Result<String> {
    let root = repository();
    let done = Command::new(root.join(".cache/chart/bin/helm"))
        .args(["template", "esta", "charts/esta", "--namespace", "train", "--kube-version", "1.37.0"])
        .args(["--values", "charts/esta/ci/multi-node-values.yaml", "--show-only", "templates/prometheusrule.yaml"])
        .args(["--set", &format!("metrics.rules.stalledFor={stalled_for}")])
        .args(["--set", "workers.replicas=2,workers.podDisruptionBudget.minAvailable=1"])
        .current_dir(&root)
        .output()
        .context("helm does not start; scripts/telemetry-tools.sh brings it")?;
    ensure!(done.status.success(), "helm: {}", String::from_utf8_lossy(&done.stderr));
    let document = String::from_utf8(done.stdout)?;
    let (_, spec) = document.split_once("\nspec:\n").context("a PrometheusRule has a spec")?;
    Ok(spec.lines().map(|line| format!("{}\n", line.strip_prefix("  ").unwrap_or(line))).collect())
}

/// The names that the chart's rules and dashboard use.
fn known_metrics() -> anyhow::Result<Vec<String>> {
    let text = std::fs::read_to_string(repository().join("tests/chart/metrics.txt"))?;
    Ok(text.lines().map(str::to_owned).collect())
}

/// The queries of the dashboard as Grafana puts them for all namespaces and releases, but for those of what a run here lacks.
fn panels() -> anyhow::Result<Vec<String>> {
    let text = std::fs::read_to_string(repository().join("charts/esta/files/dashboard.json"))?;
    let dashboard: Value = serde_json::from_str(&text)?;
    let panels = dashboard["panels"].as_array().context("a dashboard has panels")?;
    let targets = panels.iter().filter_map(|panel| panel["targets"].as_array()).flatten();
    let queries = targets.filter_map(|target| target["expr"].as_str());
    let queries: Vec<String> = queries
        .filter(|query| !ABSENT.iter().any(|(absent, _)| query.contains(absent)))
        .map(|query| query.replace("$namespace", ".*").replace("$release", ".*").replace("$__rate_interval", "30s"))
        .collect();
    ensure!(queries.len() > 40, "{} queries", queries.len());
    if let Some(query) = queries.iter().find(|query| query.contains('$')) {
        anyhow::bail!("a variable that is not known here: {query}");
    }
    Ok(queries)
}

/// Fails on a series that is there twice, and on whatever promtool has against an exposition.
fn check_exposition(lab: &Lab, address: &str) -> anyhow::Result<()> {
    let (status, text) = get(address, "/metrics")?;
    ensure!(status == 200, "{address}/metrics answers {status}");
    let mut seen = BTreeSet::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (series, value) = line.rsplit_once(' ').with_context(|| format!("{line:?} is no sample"))?;
        ensure!(value.parse::<f64>().is_ok_and(f64::is_finite), "{line:?} has no finite value");
        ensure!(seen.insert(series), "{series} is there twice");
    }
    assert_eq!(flaws_by_promtool(lab.path(), &text)?, "", "promtool on {address}");
    Ok(())
}

#[test]
fn prometheus_has_every_metric_and_its_alerts_are_quiet_until_the_run_stalls() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let page = free_address()?;
    let run = Run::set(&lab, &job(&lab, "scraped", ENDLESS)?, 2, exposed(&page))?;
    let targets = targets(&run, &page, 2)?;
    let prometheus = Prometheus::start(lab.path(), &targets, Some(&rules("10s")?))?;
    prometheus.wait_for_targets(targets.len())?;

    // Every metric that somebody looks at exists.
    let missing = || -> anyhow::Result<Vec<String>> {
        let names = prometheus.names()?;
        let is_there = |metric: &str| names.contains(metric) || names.contains(&format!("{metric}_bucket"));
        let known = known_metrics()?.into_iter();
        Ok(known.filter(|metric| !is_there(metric) && ABSENT.iter().all(|(absent, _)| absent != metric)).collect())
    };
    deadline("every metric to be there", || missing().ok().filter(Vec::is_empty))
        .with_context(|| format!("missing: {:?}", missing()))?;
    for (absent, why) in ABSENT {
        ensure!(!prometheus.names()?.contains(absent), "{absent} is there, although {why}");
    }

    // Every panel of the dashboard has something to show.
    let empty = || -> anyhow::Result<Vec<String>> {
        let mut empty = Vec::new();
        for query in panels()? {
            if prometheus.query(&query).with_context(|| query.clone())?.is_empty() {
                empty.push(query);
            }
        }
        Ok(empty)
    };
    deadline("every panel to be filled", || empty().ok().filter(Vec::is_empty))
        .with_context(|| format!("empty: {:#?}", empty()))?;

    // Counters grow, of every process, and none is reset.
    for counter in ["esta_steps_committed_total", "esta_samples_total", "esta_worker_steps_applied_total"] {
        prometheus.wait_for(&format!("min(changes({counter}[1m]))"), |changes| changes >= 3.0)?;
    }
    let resets = |name: &str| prometheus.number(&format!("sum(resets({name}[5m]))"));
    let names = prometheus.names()?;
    for counter in names.iter().filter(|name| name.starts_with("esta_") && name.ends_with("_total")) {
        assert_eq!(resets(counter), Some(0.0), "{counter} was reset");
    }
    assert_eq!(prometheus.number("count(esta_worker_rank)"), Some(2.0));
    assert_eq!(prometheus.number("esta_members{state=\"ready\"}"), Some(2.0));

    // What is scraped is well-formed, to its readers and to Prometheus itself.
    targets.iter().try_for_each(|target| check_exposition(&lab, &target.address))?;
    for refused in ["duplicate_timestamp", "out_of_order", "out_of_bounds"] {
        let counted = format!("prometheus_target_scrapes_sample_{refused}_total");
        assert_eq!(prometheus.own(&counted)?, 0.0, "samples were refused: {refused}");
    }

    // The rules are evaluated over all that they look back to, and have nothing to say.
    prometheus.wait_for("esta_run_complete offset 10s", |complete| complete == 0.0)?;
    let evaluated =
        |rules: &BTreeMap<String, _>| rules.len() > 5 && rules.values().all(|rule: &Rule| rule.health == "ok");
    let rules = deadline("the rules to be evaluated", || prometheus.rules().ok().filter(evaluated));
    let rules = rules.with_context(|| format!("{:?}", prometheus.rules()))?;
    // Of two workers on shared processors one may be flagged for a moment: its alert waits a quarter of an hour before it is raised.
    let may_wait = |alert: &str, state: &str| alert == "EstaStragglers" && state == "pending";
    let loud: Vec<_> =
        rules.iter().filter(|(alert, rule)| rule.state != "inactive" && !may_wait(alert, &rule.state)).collect();
    assert!(loud.is_empty(), "alerts of a healthy run: {loud:?}");

    // Nobody goes on: the run is said to stall.
    (0..2).try_for_each(|worker| run.worker_at(worker).signal("STOP"))?;
    let stalled = || Some(prometheus.rules().ok()?.get("EstaRunStalled")?.state != "inactive").filter(|is| *is);
    deadline("EstaRunStalled to be raised", stalled).with_context(|| run.said())?;
    Ok(())
}

#[test]
fn what_prometheus_counted_is_what_the_run_did() -> anyhow::Result<()> {
    const STEPS: u64 = 40;
    let lab = Lab::new()?;
    let page = free_address()?;
    let mut run = Run::set(&lab, &job(&lab, "counted", STEPS)?, 2, exposed(&page))?;
    // Workers end with the run, so it is the coordinator alone that can be relied on to be there.
    let prometheus = Prometheus::start(lab.path(), &targets(&run, &page, 0)?, None)?;
    prometheus.wait_for("esta_run_complete", |complete| complete == 1.0).with_context(|| run.said())?;
    let (_, state) = get(&page, "/api/state")?;
    let state: Value = serde_json::from_str(&state)?;

    let number = |query: &str| prometheus.number(query).with_context(|| format!("{query} has no single value"));
    let steps = STEPS as f64;
    for (query, expected) in [
        ("esta_run_steps", steps),
        ("esta_run_committed_steps", steps),
        ("esta_steps_committed_total", steps),
        ("esta_samples_total", steps * BATCH as f64),
        ("esta_step_duration_seconds_count", steps),
        ("esta_commit_duration_seconds_count", steps),
        ("sum(esta_sampling_draws)", steps * SLOTS as f64),
        ("sum(esta_generations_total)", 1.0),
        ("esta_record_lag_steps", 0.0),
        ("esta_run_failed", 0.0),
        ("esta_leading", 1.0),
        (
            "rpc_server_call_duration_seconds_count{rpc_method=\"esta.v1.Coordinator/Join\",rpc_response_status_code=\"OK\"}",
            2.0,
        ),
    ] {
        assert_eq!(number(query)?, expected, "{query}");
    }
    // Several plans may be given out at once.
    assert!(number("esta_plan_duration_seconds_count")? > 0.0);
    let told = |pointer: &str| state.pointer(pointer).and_then(Value::as_f64).with_context(|| pointer.to_owned());
    assert_eq!(told("/progress/committed")?, steps);
    assert_eq!(number("esta_steps_skipped_total")?, told("/progress/skipped")?);
    assert_eq!(number("esta_steps_lost_total")?, told("/progress/lost")?);
    let budgets = state["budgets"].as_array().context("there are budgets")?;
    for (budget, of_budget) in budgets.iter().enumerate() {
        for (metric, key) in [
            ("esta_sampling_draws", "draws"),
            ("esta_sampling_entropy", "entropy"),
            ("esta_importance_mean", "importance"),
        ] {
            let scraped = prometheus.number(&format!("{metric}{{budget=\"{budget}\"}}"));
            assert_eq!(scraped, of_budget[key].as_f64(), "{metric} of budget {budget}");
        }
    }
    let stitches = state["stitches"].as_array().context("there are stitches")?;
    let visited = stitches.iter().filter(|stitch| stitch["visits"].as_u64() > Some(0)).count();
    assert_eq!(number("esta_sampling_coverage")?, visited as f64 / stitches.len() as f64);
    run.coordinator().signal("TERM")?;
    run.finish()?;
    Ok(())
}

/// The spans of traces that have a root of this name.
fn traces<'a>(spans: &'a [Heard], root: &str) -> Vec<Vec<&'a Heard>> {
    let mut by_trace: BTreeMap<&str, Vec<&Heard>> = BTreeMap::new();
    spans.iter().for_each(|span| by_trace.entry(&span.trace).or_default().push(span));
    let has_root = |trace: &Vec<&Heard>| trace.iter().any(|span| span.name == root && span.parent.is_empty());
    by_trace.into_values().filter(has_root).collect()
}

fn named<'a>(trace: &[&'a Heard], name: &str) -> Vec<&'a Heard> {
    trace.iter().filter(|span| span.name == name).copied().collect()
}

fn service(span: &Heard) -> &str {
    span.resource.get("service.name").map(|name| untyped(name)).unwrap_or_default()
}

/// Attributes of these spans by one key, as they are printed.
fn told<'a>(spans: &[&'a Heard], key: &str) -> BTreeSet<&'a str> {
    spans.iter().filter_map(|span| span.attributes.get(key)).map(String::as_str).collect()
}

#[test]
fn a_collector_of_another_make_gets_one_trace_for_each_step_from_all_processes() -> anyhow::Result<()> {
    const STEPS: usize = 24;
    let lab = Lab::new()?;
    let rotel = Rotel::start(lab.path())?;
    let setting = Setting { environment: rotel.environment(), ..Setting::default() };
    Run::set(&lab, &job(&lab, "traced", STEPS as u64)?, 2, setting)?.finish()?;
    let all =
        || Some(rotel.spans()).filter(|spans| named(&spans.iter().collect::<Vec<_>>(), "rank step").len() == 2 * STEPS);
    let spans = deadline("the collector to have every rank's part", all)?;
    let ids: BTreeSet<&str> = spans.iter().map(|span| span.id.as_str()).collect();
    assert_eq!(ids.len(), spans.len(), "no two spans share an id");
    let orphans: Vec<_> = spans.iter().filter(|span| !span.parent.is_empty() && !ids.contains(&*span.parent)).collect();
    assert!(orphans.is_empty(), "spans below nothing: {orphans:?}");

    let steps = traces(&spans, "step");
    assert_eq!(steps.len(), STEPS, "a trace for each step");
    for trace in &steps {
        let count = |name: &str| named(trace, name).len();
        let counts = ["step", "plan", "rank step", "slot", "all-reduce", "apply", "commit", "table update"].map(count);
        assert_eq!(counts, [1, 1, 2, 4, 2, 2, 1, 1]);
        let (root, ranks, slots) = (named(trace, "step")[0], named(trace, "rank step"), named(trace, "slot"));
        assert_eq!(service(root), "esta-coordinator");
        assert!(ranks.iter().all(|rank| rank.parent == root.id && service(rank) == "esta-worker"));
        assert_eq!(told(&ranks, "esta.rank"), BTreeSet::from(["Int(0)", "Int(1)"]));
        assert_eq!(told(&ranks, "esta.worker"), BTreeSet::from(["Str(w0)", "Str(w1)"]));
        assert_eq!(told(&ranks, "esta.step").len(), 1, "both did the same step");
        assert_eq!(told(&slots, "esta.slot").len(), 4, "each slot was done once");
        assert!(slots.iter().all(|slot| slot.attributes["esta.loss"].starts_with("Double(")));
        let plan = named(trace, "plan")[0];
        let draws = plan.events.iter().filter(|(name, _)| name == "draw");
        assert_eq!(
            draws.map(|(_, draw)| draw["esta.stitch"].as_str()).collect::<BTreeSet<_>>(),
            told(&slots, "esta.stitch")
        );
        let commit = named(trace, "commit")[0];
        assert!(ranks.iter().any(|rank| commit.links == [rank.id.clone()]), "a commit leads back to a rank");
    }

    // Every process is told from the others.
    let instances: BTreeSet<_> = spans.iter().filter_map(|span| span.resource.get("service.instance.id")).collect();
    assert_eq!(instances.len(), 3, "{instances:?}");

    // Calls are told by OpenTelemetry's conventions, from both ends.
    let joins = traces(&spans, "esta.v1.Coordinator/Join");
    assert_eq!(joins.len(), 2);
    for join in joins {
        let kinds: BTreeMap<&str, &Heard> = join.iter().map(|span| (span.kind.as_str(), *span)).collect();
        let (client, server) = (kinds["SPAN_KIND_CLIENT"], kinds["SPAN_KIND_SERVER"]);
        assert_eq!(server.parent, client.id);
        for end in [client, server] {
            let said = |key: &str| end.attributes.get(key).map(String::as_str);
            assert_eq!(said("rpc.system.name"), Some("Str(grpc)"));
            assert_eq!(said("rpc.method"), Some("Str(esta.v1.Coordinator/Join)"));
            assert_eq!(said("rpc.response.status_code"), Some("Str(OK)"));
            assert_eq!(said("server.address"), Some("Str(127.0.0.1)"));
            assert!(said("server.port").is_some_and(|port| port.starts_with("Int(")), "{end:?}");
            assert_eq!(said("error.type"), None);
        }
    }
    Ok(())
}

#[test]
fn a_coordinator_that_shows_nothing_exports_its_gauges_all_the_same() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let rotel = Rotel::start(lab.path())?;
    let setting = Setting { environment: rotel.environment(), serve: words(&["--http", "off"]), ..Setting::default() };
    let run = Run::set(&lab, &job(&lab, "unseen", ENDLESS)?, 1, setting)?;
    let ready = BTreeMap::from([("state".to_owned(), "Str(ready)".to_owned())]);
    let expected =
        [("esta.members", Some(&ready), 1.0), ("esta.generation", None, 1.0), ("esta.run.steps", None, ENDLESS as f64)];
    for (metric, attributes, value) in expected {
        let heard = || {
            let numbers = rotel.numbers(metric);
            let fits = |number: &&Number| {
                number.value == value && attributes.is_none_or(|attributes| number.attributes == *attributes)
            };
            numbers.iter().find(fits).map(|number| number.service.clone())
        };
        let service = deadline(&format!("{metric} to be {value}"), heard).with_context(|| run.said())?;
        assert_eq!(service, "esta-coordinator");
    }
    let applied = || rotel.numbers("esta.worker.steps.applied").iter().map(|number| number.value).reduce(f64::max);
    deadline("the worker to tell of its steps", || applied().filter(|steps| *steps > 0.0))?;
    Ok(())
}

#[test]
fn a_collector_that_never_answers_and_a_full_queue_cost_a_run_nothing_but_spans() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let unwatched: Outcome = Run::start(&lab, &job(&lab, "unwatched", 60)?, 2)?.finish()?;
    // It takes connections, as the kernel does for whoever listens, and never reads.
    let silent = TcpListener::bind("127.0.0.1:0")?;
    let mut environment = exporting_to(&silent.local_addr()?.to_string());
    let room = [("OTEL_BSP_MAX_QUEUE_SIZE", "16"), ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "8")];
    environment.extend(room.map(|(name, value)| (name.to_owned(), value.to_owned())));
    let setting = Setting { environment, ..Setting::default() };
    let run = Run::set(&lab, &job(&lab, "unheard", 60)?, 2, setting)?;
    let logs: Vec<PathBuf> = ["unheard-coordinator-0", "unheard-w0", "unheard-w1"]
        .map(|name| lab.path().join(format!("{name}.log")))
        .to_vec();
    let outcome = run.finish()?;
    ensure!(outcome == unwatched, "a run whose collector never answers ends with other bits");
    for log in logs {
        let said = std::fs::read_to_string(&log)?;
        ensure!(said.contains("SpanDroppingStarted"), "{} dropped nothing: {said}", log.display());
    }
    Ok(())
}
