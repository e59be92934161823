//! Traces (HANDS): spans with ids that are known before anybody begins them.
//!
//! One trace per sampled step, one per generation. Its id and that of its root are a hash of (run, subject), so every
//! process names them alike, and whether a step is kept is decided by the same hash: the same steps on every rank. Spans are
//! told when they are over, with their times; that costs a send on a bounded queue, which drops what finds no room.

use std::{
    borrow::Cow,
    env, fmt,
    sync::{
        Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread,
    time::{Duration, SystemTime},
};

use esta_proto::{Generation, LeaderEpoch, Step};
use opentelemetry::{
    InstrumentationScope, KeyValue, SpanId, TraceFlags, TraceId,
    trace::{Event, Link, SpanContext, SpanKind, Status, TraceState},
};
use opentelemetry_otlp::SpanExporter;
use opentelemetry_sdk::{
    Resource,
    trace::{BatchConfigBuilder, BatchSpanProcessor, IdGenerator, RandomIdGenerator, SpanData, SpanProcessor},
};

/// Share of the steps that are traced unless [`share`] is told otherwise.
const SHARE: f64 = 0.01;

/// Spans that are sent at once, unless `OTEL_BSP_MAX_EXPORT_BATCH_SIZE` says otherwise: steps of thousands of slots fit into what
/// collectors take in one message, and none of them waits long for the processor that sends them.
const BATCH: usize = 64;

/// How long spans wait to be sent together, unless `OTEL_BSP_SCHEDULE_DELAY` says otherwise.
const DELAY: Duration = Duration::from_secs(1);

/// How long the end of a program waits for its last spans.
const FAREWELL: Duration = Duration::from_secs(4);

/// Where finished spans go; unset while nothing exports.
static EXPORT: OnceLock<Export> = OnceLock::new();

struct Export {
    processor: BatchSpanProcessor,
    scope: InstrumentationScope,
    share: f64,
    /// Until the program ends.
    later: Mutex<Option<SyncSender<Task>>>,
    done: Mutex<Receiver<()>>,
}

/// Spans to be made and told.
type Task = Box<dyn FnOnce() + Send>;

/// As many tasks may wait; what finds no room is dropped.
const TASKS: usize = 64;

pub(crate) fn start(exporter: SpanExporter, resource: &Resource, share: f64) {
    let mut batches = BatchConfigBuilder::default();
    if env::var_os("OTEL_BSP_MAX_EXPORT_BATCH_SIZE").is_none() {
        batches = batches.with_max_export_batch_size(BATCH);
    }
    if env::var_os("OTEL_BSP_SCHEDULE_DELAY").is_none() {
        batches = batches.with_scheduled_delay(DELAY);
    }
    let mut processor = BatchSpanProcessor::builder(exporter).with_batch_config(batches.build()).build();
    processor.set_resource(resource);
    let (later, tasks) = sync_channel::<Task>(TASKS);
    let (told, done) = sync_channel(1);
    let tell = move || {
        tasks.into_iter().for_each(|task| task());
        told.send(()).ok();
    };
    // Without the thread nobody takes a task, and what is many spans long is not told.
    thread::Builder::new().name("spans".into()).spawn(tell).ok();
    let (later, done) = (Mutex::new(Some(later)), Mutex::new(done));
    EXPORT.set(Export { processor, scope: crate::scope(), share, later, done }).ok();
}

/// Has a task that makes spans and ends them done on a thread of its own, in the order of calls: where a step has thousands of
/// draws, whoever draws them does not wait until each has its words.
pub fn later(task: impl FnOnce() + Send + 'static) {
    let Some(export) = EXPORT.get() else { return };
    if let Some(later) = &*export.later.lock().unwrap_or_else(PoisonError::into_inner) {
        static FULL: AtomicBool = AtomicBool::new(false);
        if later.try_send(Box::new(task)).is_err() && !FULL.swap(true, Ordering::Relaxed) {
            tracing::warn!("steps are drawn faster than they can be told of: traces lack some plans and scores");
        }
    }
}

/// The share of the steps that is traced, as OpenTelemetry's variables say it; none where nothing is to be traced at all.
///
/// # Errors
/// What they say, where it is no share.
pub(crate) fn share(variable: impl Fn(&str) -> Option<String>) -> Result<Option<f64>, String> {
    let set = |name: &str| variable(name).filter(|value| !value.is_empty());
    let share = match set("OTEL_TRACES_SAMPLER_ARG") {
        None => SHARE,
        Some(text) => {
            let share = text.parse().ok().filter(|share| (0.0..=1.0).contains(share));
            share.ok_or_else(|| format!("OTEL_TRACES_SAMPLER_ARG is {text:?}, and no share from 0 to 1"))?
        }
    };
    match set("OTEL_TRACES_SAMPLER").as_deref() {
        None | Some("traceidratio" | "parentbased_traceidratio") => Ok(Some(share)),
        Some("always_on" | "parentbased_always_on") => Ok(Some(1.0)),
        Some("always_off" | "parentbased_always_off") => Ok(None),
        Some(other) => {
            Err(format!("OTEL_TRACES_SAMPLER is {other:?}: it takes always_on, always_off and traceidratio"))
        }
    }
}

pub(crate) fn stop() {
    if let Some(export) = EXPORT.get() {
        drop(export.later.lock().unwrap_or_else(PoisonError::into_inner).take());
        let done = export.done.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(RecvTimeoutError::Timeout) = done.recv_timeout(FAREWELL / 2) {
            tracing::warn!("the last spans are not told: there are too many");
        }
        export.processor.shutdown_with_timeout(FAREWELL / 2).ok();
    }
}

/// Whether spans go anywhere.
#[must_use]
pub fn is_on() -> bool {
    EXPORT.get().is_some()
}

/// A place in a trace: the W3C trace context of messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Context {
    /// The trace.
    pub trace: TraceId,
    /// The span.
    pub span: SpanId,
}

impl Context {
    /// The root of a step's trace, if spans are exported and this step is among those that are kept.
    #[must_use]
    pub fn of_step(run_id: &str, step: Step) -> Option<Self> {
        let export = EXPORT.get()?;
        let (context, chance) = hashed(format_args!("{run_id}/{step}"));
        (chance < export.share).then_some(context)
    }

    /// The root of a generation's trace, if spans are exported: there are few, and all are kept.
    #[must_use]
    pub fn of_generation(run_id: &str, epoch: LeaderEpoch, generation: Generation) -> Option<Self> {
        EXPORT.get()?;
        Some(hashed(format_args!("{run_id}/generation/{epoch}/{generation}")).0)
    }

    /// The root of a call's trace, if spans are exported and chance keeps this one.
    #[must_use]
    pub fn of_call() -> Option<Self> {
        let export = EXPORT.get()?;
        Self::of_join().filter(|place| chance(place.span.to_bytes()) < export.share)
    }

    /// The root of a join's trace, if spans are exported: there are few, and all are kept.
    #[must_use]
    pub fn of_join() -> Option<Self> {
        EXPORT.get()?;
        Some(Self { trace: RandomIdGenerator::default().new_trace_id(), span: new_span() })
    }

    /// What a message says of it, if it says that it is kept and spans are exported here.
    #[must_use]
    pub fn of_message(traceparent: &str) -> Option<Self> {
        EXPORT.get()?;
        parse(traceparent)
    }

    /// A new place below this one.
    #[must_use]
    pub fn child(self) -> Self {
        Self { span: new_span(), ..self }
    }

    fn sdk(self) -> SpanContext {
        SpanContext::new(self.trace, self.span, TraceFlags::SAMPLED, false, TraceState::default())
    }
}

/// As in a `traceparent` header.
impl fmt::Display for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{}-{}-01", self.trace, self.span)
    }
}

/// A `traceparent` whose flags say that it is kept.
fn parse(traceparent: &str) -> Option<Context> {
    let mut parts = traceparent.split('-');
    let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    if version.len() != 2 || version == "ff" || (version == "00" && parts.next().is_some()) {
        return None;
    }
    let hex = |text: &str, digits: usize| text.len() == digits && text.bytes().all(|b| b.is_ascii_hexdigit());
    if !(hex(version, 2) && hex(trace, 32) && hex(span, 16) && hex(flags, 2)) {
        return None;
    }
    let kept = u8::from_str_radix(flags, 16).ok()? & 1 == 1;
    let context = Context { trace: TraceId::from_hex(trace).ok()?, span: SpanId::from_hex(span).ok()? };
    (kept && context.trace != TraceId::INVALID && context.span != SpanId::INVALID).then_some(context)
}

fn new_span() -> SpanId {
    RandomIdGenerator::default().new_span_id()
}

/// Ids by what is hashed, and a number in [0, 1) by the same hash.
fn hashed(subject: fmt::Arguments<'_>) -> (Context, f64) {
    let hash = blake3::hash(subject.to_string().as_bytes());
    let part = |at: usize| -> [u8; 8] { hash.as_bytes()[at..at + 8].try_into().expect("a hash has 32 bytes") };
    let trace = (u128::from(u64::from_be_bytes(part(0))) << 64) | u128::from(u64::from_be_bytes(part(8)));
    let span = u64::from_be_bytes(part(16));
    (Context { trace: TraceId::from(trace), span: SpanId::from(span) }, chance(part(24)))
}

/// Uniform in [0, 1).
fn chance(bytes: [u8; 8]) -> f64 {
    (u64::from_be_bytes(bytes) >> 11) as f64 / (1u64 << 53) as f64
}

/// A whole number as an attribute: unsigned ones would reach OTLP as text.
#[must_use]
pub fn number(key: &'static str, value: u64) -> KeyValue {
    KeyValue::new(key, i64::try_from(value).unwrap_or(i64::MAX))
}

/// Something that took time, told when it is over.
#[derive(Debug, Clone)]
pub struct Span {
    name: Cow<'static, str>,
    kind: SpanKind,
    at: Context,
    parent: Option<Context>,
    start: SystemTime,
    attributes: Vec<KeyValue>,
    events: Vec<Event>,
    links: Vec<Context>,
    error: Option<String>,
}

impl Span {
    /// A span at a place of its own, which begins now.
    #[must_use]
    pub fn at(name: impl Into<Cow<'static, str>>, at: Context) -> Self {
        Self {
            name: name.into(),
            kind: SpanKind::Internal,
            at,
            parent: None,
            start: SystemTime::now(),
            attributes: Vec::new(),
            events: Vec::new(),
            links: Vec::new(),
            error: None,
        }
    }

    /// A span below another, which begins now.
    #[must_use]
    pub fn below(parent: Context, name: impl Into<Cow<'static, str>>) -> Self {
        Self { parent: Some(parent), ..Self::at(name, parent.child()) }
    }

    /// It is below another.
    #[must_use]
    pub fn under(self, parent: Context) -> Self {
        Self { parent: Some(parent), ..self }
    }

    /// The same under a new id, below the place it had: whoever ends what stands there is another process.
    #[must_use]
    pub fn below_its_place(self, name: impl Into<Cow<'static, str>>) -> Self {
        Self { name: name.into(), parent: Some(self.at), at: self.at.child(), ..self }
    }

    /// When it began.
    #[must_use]
    pub fn began(&self) -> SystemTime {
        self.start
    }

    /// It began then.
    #[must_use]
    pub fn since(self, start: SystemTime) -> Self {
        Self { start, ..self }
    }

    /// What kind of span it is.
    #[must_use]
    pub fn of_kind(self, kind: SpanKind) -> Self {
        Self { kind, ..self }
    }

    /// With more attributes.
    #[must_use]
    pub fn with(mut self, attributes: impl IntoIterator<Item = KeyValue>) -> Self {
        self.attributes.extend(attributes);
        self
    }

    /// It goes back to a span of elsewhere.
    #[must_use]
    pub fn linked(mut self, to: Option<Context>) -> Self {
        self.links.extend(to);
        self
    }

    /// It failed, if there is a reason.
    #[must_use]
    pub fn failed(self, error: Option<String>) -> Self {
        Self { error, ..self }
    }

    /// Something happened within it.
    pub fn event(&mut self, name: impl Into<Cow<'static, str>>, at: SystemTime, attributes: Vec<KeyValue>) {
        self.events.push(Event::new(name, at, attributes, 0));
    }

    /// Its place, for spans below it.
    #[must_use]
    pub fn context(&self) -> Context {
        self.at
    }

    /// It is over now.
    pub fn end(self) {
        self.end_at(SystemTime::now());
    }

    /// It was over then.
    pub fn end_at(self, end: SystemTime) {
        let Some(export) = EXPORT.get() else { return };
        let Self { name, kind, at, parent, start, attributes, events, links, error } = self;
        let mut data = SpanData {
            span_context: at.sdk(),
            parent_span_id: parent.map_or(SpanId::INVALID, |parent| parent.span),
            parent_span_is_remote: false,
            span_kind: kind,
            name,
            start_time: start,
            end_time: end.max(start),
            attributes,
            dropped_attributes_count: 0,
            events: Default::default(),
            links: Default::default(),
            status: error.map_or(Status::Unset, Status::error),
            instrumentation_scope: export.scope.clone(),
        };
        data.events.events = events;
        data.links.links = links.into_iter().map(|to| Link::new(to.sdk(), Vec::new(), 0)).collect();
        export.processor.on_end(data);
    }
}

#[cfg(test)]
mod tests;
