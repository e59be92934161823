//! Log lines (HANDS): text on a terminal, JSON otherwise. What is said inside a span carries that span's fields, the id of a
//! step's trace among them.

use std::{
    env,
    io::{self, IsTerminal},
};

use tracing_subscriber::{EnvFilter, Layer, fmt::MakeWriter, layer::SubscriberExt, util::SubscriberInitExt};

pub fn start<W>(filter: &str, writer: W)
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let wanted = env::var(EnvFilter::DEFAULT_ENV).ok().filter(|text| EnvFilter::try_new(text).is_ok());
    let wanted = wanted.unwrap_or_else(|| filter.to_owned());
    // What exporters say of themselves is for whoever asks for it by name.
    let quiet = if wanted.contains("opentelemetry") { "" } else { ",opentelemetry=warn" };
    let filter = EnvFilter::new(wanted + quiet);
    let format = tracing_subscriber::fmt::layer().with_writer(writer);
    let format = if io::stderr().is_terminal() {
        format.with_target(false).without_time().boxed()
    } else {
        format.json().flatten_event(true).with_span_list(false).boxed()
    };
    // A program that is tested within a process of others finds a logger there.
    tracing_subscriber::registry().with(format.with_filter(filter)).try_init().ok();
}
