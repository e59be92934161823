//! Real backends on loopback: a Prometheus that scrapes (Debian's `prometheus`) and a collector that is spoken to by OTLP and
//! prints what it hears (`rotel` of PyPI). `scripts/telemetry-tools.sh` brings both.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, ensure};
use serde_json::Value;

use crate::{
    http::get,
    process::{Process, deadline},
};

/// Labels of a series, or attributes of a span as they are printed.
pub type Labels = BTreeMap<String, String>;

/// The root of this repository.
#[must_use]
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A port of loopback that nobody has at the moment.
///
/// # Errors
/// When there is none.
pub fn free_address() -> anyhow::Result<String> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.to_string())
}

/// What is said where a program is not there.
fn provisioned(program: &str) -> String {
    format!("{program} does not start; scripts/telemetry-tools.sh brings it")
}

/// Who is scraped, with the labels that the chart's monitors would give it.
#[derive(Debug, Clone)]
pub struct Target {
    /// Its `--http` address.
    pub address: String,
    /// Its pod.
    pub pod: String,
}

/// A Prometheus.
pub struct Prometheus {
    address: String,
    process: Process,
}

/// An alert rule as Prometheus sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// `ok` where its last evaluation was.
    pub health: String,
    /// `inactive`, `pending` or `firing`.
    pub state: String,
}

impl Prometheus {
    /// Scrapes these twice a second, and evaluates alert rules as often; data, configuration and log lie in `folder`.
    ///
    /// # Errors
    /// When it does not start, or does not answer in time.
    pub fn start(folder: &Path, targets: &[Target], rules: Option<&str>) -> anyhow::Result<Self> {
        let address = free_address()?;
        let mut config =
            "global: {scrape_interval: 500ms, scrape_timeout: 500ms, evaluation_interval: 500ms}\n".to_owned();
        if let Some(rules) = rules {
            fs::write(folder.join("rules.yaml"), rules)?;
            config.push_str("rule_files: [rules.yaml]\n");
        }
        config.push_str("scrape_configs:\n  - job_name: esta\n    static_configs:\n");
        for Target { address, pod } in targets {
            let labels = format!("namespace: train, esta_release: esta, pod: {pod}");
            writeln!(config, "      - {{targets: ['{address}'], labels: {{{labels}}}}}")?;
        }
        let path = folder.join("prometheus.yaml");
        fs::write(&path, config)?;
        let mut command = Command::new("prometheus");
        command
            .arg(format!("--config.file={}", path.display()))
            .arg(format!("--storage.tsdb.path={}", folder.join("prometheus").display()))
            .arg(format!("--web.listen-address={address}"));
        let process = Process::spawn(folder, "prometheus", &mut command).with_context(|| provisioned("prometheus"))?;
        let mut this = Self { address, process };
        deadline("Prometheus to be ready", || {
            let ended =
                (!this.process.runs()).then(|| Err(anyhow::anyhow!("Prometheus ended: {}", this.process.log())));
            ended.or_else(|| get(&this.address, "/-/ready").is_ok_and(|(status, _)| status == 200).then_some(Ok(())))
        })??;
        Ok(this)
    }

    /// Waits until every target is up.
    ///
    /// # Errors
    /// When one stays down; what Prometheus says of it is in the error.
    pub fn wait_for_targets(&self, count: usize) -> anyhow::Result<()> {
        deadline("every target to be up", || (self.number("sum(up)")? == count as f64).then_some(())).with_context(
            || {
                let all = self.api("/api/v1/targets").unwrap_or_default();
                format!("targets: {}", all["activeTargets"])
            },
        )
    }

    /// What an instant query answers: series and their values.
    ///
    /// # Errors
    /// When Prometheus does not take the query.
    pub fn query(&self, query: &str) -> anyhow::Result<Vec<(Labels, f64)>> {
        let data = self.api(&format!("/api/v1/query?query={}", escaped(query))).with_context(|| query.to_owned())?;
        let series = |one: &Value| {
            let labels = serde_json::from_value(one["metric"].clone())?;
            let value = one["value"][1].as_str().context("a sample has a value")?.parse()?;
            anyhow::Ok((labels, value))
        };
        data["result"].as_array().context("an answer has a result")?.iter().map(series).collect()
    }

    /// The value of a query with one series.
    #[must_use]
    pub fn number(&self, query: &str) -> Option<f64> {
        match self.query(query).ok()?.as_slice() {
            [(_, value)] => Some(*value),
            _ => None,
        }
    }

    /// Waits until a query has one series and its value fits.
    ///
    /// # Errors
    /// When it never does; its last answer is in the error.
    pub fn wait_for(&self, query: &str, fits: impl Fn(f64) -> bool) -> anyhow::Result<f64> {
        let fitting = || self.number(query).filter(|value| fits(*value));
        deadline(&format!("{query} to fit"), fitting).with_context(|| format!("{:?}", self.query(query)))
    }

    /// The names of all metrics that it has.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn names(&self) -> anyhow::Result<BTreeSet<String>> {
        Ok(serde_json::from_value(self.api("/api/v1/label/__name__/values")?)?)
    }

    /// Alert rules by name.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn rules(&self) -> anyhow::Result<BTreeMap<String, Rule>> {
        let data = self.api("/api/v1/rules?type=alert")?;
        let groups = data["groups"].as_array().context("there are groups")?.iter();
        let rules = groups.filter_map(|group| group["rules"].as_array()).flatten();
        let text = |rule: &Value, key: &str| rule[key].as_str().unwrap_or_default().to_owned();
        Ok(rules.map(|r| (text(r, "name"), Rule { health: text(r, "health"), state: text(r, "state") })).collect())
    }

    /// A number that it counts of itself, such as of samples that it refused; 0 where it never counted.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn own(&self, metric: &str) -> anyhow::Result<f64> {
        let (_, text) = get(&self.address, "/metrics")?;
        let value = text.lines().find_map(|line| line.strip_prefix(metric)?.strip_prefix(' ')?.parse().ok());
        value.with_context(|| format!("Prometheus does not count {metric}"))
    }

    fn api(&self, path: &str) -> anyhow::Result<Value> {
        let (status, body) = get(&self.address, path)?;
        let mut answer: Value = serde_json::from_str(&body)?;
        ensure!(status == 200 && answer["status"] == "success", "Prometheus answers {status}: {body}");
        Ok(answer["data"].take())
    }
}

/// What `promtool check metrics` has against an exposition: nothing, if it is as it should be.
///
/// # Errors
/// When promtool does not start.
pub fn flaws_by_promtool(folder: &Path, exposition: &str) -> anyhow::Result<String> {
    let path = folder.join("exposition.txt");
    fs::write(&path, exposition)?;
    let done = Command::new("promtool").args(["check", "metrics"]).stdin(fs::File::open(&path)?).output();
    let done = done.with_context(|| provisioned("promtool"))?;
    let said = [done.stdout, done.stderr].map(|said| String::from_utf8_lossy(&said).into_owned()).concat();
    Ok(if done.status.success() { said } else { format!("{}: {said}", done.status) })
}

/// A query within an address.
fn escaped(query: &str) -> String {
    let byte = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' => (byte as char).to_string(),
        other => format!("%{other:02X}"),
    };
    query.bytes().map(byte).collect()
}

/// A span as rotel has heard it; attributes are written with their type, such as `Int(3)`.
#[derive(Debug, Clone, Default)]
pub struct Heard {
    /// Attributes of its resource.
    pub resource: Labels,
    /// Its trace.
    pub trace: String,
    /// Itself.
    pub id: String,
    /// What it is below; empty at the root.
    pub parent: String,
    /// Its name.
    pub name: String,
    /// Such as `SPAN_KIND_SERVER`.
    pub kind: String,
    /// Its attributes.
    pub attributes: Labels,
    /// What happened in it.
    pub events: Vec<(String, Labels)>,
    /// The spans that it leads back to.
    pub links: Vec<String>,
}

/// A number as rotel has heard it.
#[derive(Debug, Clone, Default)]
pub struct Number {
    /// `service.name` of its resource.
    pub service: String,
    /// Its metric.
    pub metric: String,
    /// Its attributes.
    pub attributes: Labels,
    /// The number.
    pub value: f64,
}

/// A rotel that listens for OTLP over gRPC.
pub struct Rotel {
    address: String,
    process: Process,
}

impl Rotel {
    /// Starts it; what it hears lies in `folder`.
    ///
    /// # Errors
    /// When it does not start, or does not listen in time.
    pub fn start(folder: &Path) -> anyhow::Result<Self> {
        let (address, http) = (free_address()?, free_address()?);
        let program = repository().join(".cache/telemetry/rotel");
        let mut command = Command::new(&program);
        command
            .args(["start", "--otlp-grpc-endpoint", &address, "--otlp-http-endpoint", &http])
            .args(["--exporter", "blackhole", "--debug-log", "traces", "--debug-log", "metrics"])
            .args(["--debug-log-verbosity", "detailed", "--pid-file"])
            .arg(folder.join("rotel.pid"))
            .arg("--log-file")
            .arg(folder.join("rotel-agent.log"));
        let process = Process::spawn(folder, "rotel", &mut command).with_context(|| provisioned("rotel"))?;
        let mut this = Self { address, process };
        deadline("rotel to listen", || {
            let ended = (!this.process.runs()).then(|| Err(anyhow::anyhow!("rotel ended: {}", this.process.log())));
            ended.or_else(|| TcpStream::connect(&this.address).is_ok().then_some(Ok(())))
        })??;
        Ok(this)
    }

    /// What programs are told, as variables of their environment, to export every step here.
    #[must_use]
    pub fn environment(&self) -> Vec<(String, String)> {
        exporting_to(&self.address)
    }

    /// Every span so far.
    #[must_use]
    pub fn spans(&self) -> Vec<Heard> {
        spans(&self.process.out())
    }

    /// Every number of a metric so far, in the order they came.
    #[must_use]
    pub fn numbers(&self, metric: &str) -> Vec<Number> {
        numbers(&self.process.out()).into_iter().filter(|number| number.metric == metric).collect()
    }
}

/// What programs are told, as variables of their environment, to export every step to somebody.
#[must_use]
pub fn exporting_to(address: &str) -> Vec<(String, String)> {
    let endpoint = format!("http://{address}");
    [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
        ("OTEL_TRACES_SAMPLER_ARG", "1"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "200"),
        ("OTEL_BSP_SCHEDULE_DELAY", "100"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .to_vec()
}

/// `-> key: value`, at any depth.
fn pair(line: &str) -> Option<(String, String)> {
    let (key, value) = line.trim_start().strip_prefix("-> ")?.split_once(": ")?;
    Some((key.to_owned(), value.to_owned()))
}

/// What stands between a type's parentheses: `Str(x)` is x.
#[must_use]
pub fn untyped(value: &str) -> &str {
    value.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')')).unwrap_or(value)
}

/// Which part of a span the lines belong to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Resource,
    Span,
    Attributes,
    Event,
    Link,
    Metric,
}

/// The spans that rotel printed.
fn spans(text: &str) -> Vec<Heard> {
    let (mut spans, mut resource, mut part) = (Vec::<Heard>::new(), Labels::new(), Part::Metric);
    for line in text.lines() {
        if line.starts_with("ResourceSpans #") {
            (resource, part) = (Labels::new(), Part::Resource);
        } else if line.starts_with("ResourceMetrics #") {
            part = Part::Metric;
        } else if line.starts_with("Span #") && part != Part::Metric {
            spans.push(Heard { resource: resource.clone(), ..Heard::default() });
            part = Part::Span;
        } else if part == Part::Resource {
            resource.extend(pair(line));
        } else if let (Some(span), true) = (spans.last_mut(), part != Part::Metric) {
            part = span.read(line, part);
        }
    }
    spans
}

impl Heard {
    fn read(&mut self, line: &str, part: Part) -> Part {
        match line {
            "Attributes:" => return Part::Attributes,
            "Events:" | "Links:" => return part,
            _ if line.starts_with("SpanEvent #") => {
                self.events.push(Default::default());
                return Part::Event;
            }
            _ if line.starts_with("SpanLink #") => return Part::Link,
            _ => {}
        }
        match (part, pair(line)) {
            (Part::Attributes, Some(pair)) => self.attributes.extend([pair]),
            (Part::Event, Some((key, value))) => {
                if let Some((name, attributes)) = self.events.last_mut() {
                    match key.as_str() {
                        "Name" => *name = value,
                        _ => attributes.extend([(key, value)]),
                    }
                }
            }
            (Part::Link, Some((key, value))) if key == "ID" => self.links.push(value),
            (Part::Span, None) => {
                let Some((key, value)) = line.split_once(':') else { return part };
                let value = value.trim().to_owned();
                match key.trim() {
                    "Trace ID" => self.trace = value,
                    "Parent ID" => self.parent = value,
                    "ID" => self.id = value,
                    "Name" => self.name = value,
                    "Kind" => self.kind = value,
                    _ => {}
                }
            }
            _ => {}
        }
        part
    }
}

/// The numbers of sums and gauges that rotel printed.
fn numbers(text: &str) -> Vec<Number> {
    let (mut numbers, mut now, mut measured) = (Vec::new(), Number::default(), false);
    for line in text.lines() {
        if line.starts_with("ResourceSpans #") || line.starts_with("ResourceMetrics #") {
            measured = line.starts_with("ResourceMetrics #");
            now = Number::default();
        } else if line.starts_with("Metric #") {
            now.metric.clear();
        } else if line.starts_with("NumberDataPoints #") {
            now.attributes.clear();
        } else if let Some(value) = line.strip_prefix("Value: ").filter(|_| measured) {
            now.value = value.parse().unwrap_or(f64::NAN);
            numbers.push(now.clone());
        } else if let Some((key, value)) = pair(line) {
            match key.as_str() {
                "service.name" => now.service = untyped(&value).to_owned(),
                "Name" if now.metric.is_empty() => now.metric = value,
                _ => now.attributes.extend([(key, value)]),
            }
        }
    }
    numbers
}
