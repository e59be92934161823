//! A collector of traces and metrics on this machine: what programs export by OTLP, kept for a test to read.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use opentelemetry_proto::tonic::{
    collector::{
        metrics::v1::{
            ExportMetricsServiceRequest, ExportMetricsServiceResponse,
            metrics_service_server::{MetricsService, MetricsServiceServer},
        },
        trace::v1::{
            ExportTraceServiceRequest, ExportTraceServiceResponse,
            trace_service_server::{TraceService, TraceServiceServer},
        },
    },
    common::v1::{KeyValue, any_value::Value},
    trace::v1::{Span, span::Event},
};
use tokio::{net::TcpListener, runtime::Runtime};
use tonic::{Request, Response, Status, transport::Server};

use crate::backends::exporting_to;

/// A span, and the service that told of it.
#[derive(Debug, Clone)]
pub struct Told {
    /// `service.name` of its resource.
    pub service: String,
    /// The span.
    pub span: Span,
}

/// A collector that runs until it is dropped.
pub struct Collector {
    address: SocketAddr,
    heard: Heard,
    _runtime: Runtime,
}

#[derive(Debug, Clone, Default)]
struct Heard(Arc<Mutex<Kept>>);

#[derive(Debug, Default)]
struct Kept {
    spans: Vec<Told>,
    /// Service and metric.
    metrics: BTreeSet<(String, String)>,
}

impl Collector {
    /// Listens on a free port.
    ///
    /// # Errors
    /// When there is none.
    pub fn start() -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let heard = Heard::default();
        let socket = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
        let address = socket.local_addr()?;
        let connections = tonic::transport::server::TcpIncoming::from(socket);
        let server = Server::builder()
            .add_service(TraceServiceServer::new(heard.clone()))
            .add_service(MetricsServiceServer::new(heard.clone()))
            .serve_with_incoming(connections);
        runtime.spawn(server);
        Ok(Self { address, heard, _runtime: runtime })
    }

    /// What programs are told, as variables of their environment, to export every step here.
    #[must_use]
    pub fn environment(&self) -> Vec<(String, String)> {
        exporting_to(&self.address.to_string())
    }

    /// Every span so far.
    #[must_use]
    pub fn spans(&self) -> Vec<Told> {
        self.heard.kept().spans.clone()
    }

    /// Every metric so far, with the service that told of it.
    #[must_use]
    pub fn metrics(&self) -> BTreeSet<(String, String)> {
        self.heard.kept().metrics.clone()
    }
}

impl Heard {
    fn kept(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[tonic::async_trait]
impl TraceService for Heard {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let mut kept = self.kept();
        for resource in request.into_inner().resource_spans {
            let service = service_of(resource.resource.map(|resource| resource.attributes).unwrap_or_default());
            let spans = resource.scope_spans.into_iter().flat_map(|scope| scope.spans);
            kept.spans.extend(spans.map(|span| Told { service: service.clone(), span }));
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

#[tonic::async_trait]
impl MetricsService for Heard {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        let mut kept = self.kept();
        for resource in request.into_inner().resource_metrics {
            let service = service_of(resource.resource.map(|resource| resource.attributes).unwrap_or_default());
            let metrics = resource.scope_metrics.into_iter().flat_map(|scope| scope.metrics);
            kept.metrics.extend(metrics.map(|metric| (service.clone(), metric.name)));
        }
        Ok(Response::new(ExportMetricsServiceResponse::default()))
    }
}

fn service_of(attributes: Vec<KeyValue>) -> String {
    text(&attributes, "service.name").unwrap_or_default()
}

fn value<'a>(attributes: &'a [KeyValue], key: &str) -> Option<&'a Value> {
    attributes.iter().find(|attribute| attribute.key == key)?.value.as_ref()?.value.as_ref()
}

/// An attribute that is text.
#[must_use]
pub fn text(attributes: &[KeyValue], key: &str) -> Option<String> {
    match value(attributes, key)? {
        Value::StringValue(text) => Some(text.clone()),
        _ => None,
    }
}

/// An attribute that is a whole number.
#[must_use]
pub fn number(attributes: &[KeyValue], key: &str) -> Option<i64> {
    match value(attributes, key)? {
        Value::IntValue(number) => Some(*number),
        _ => None,
    }
}

/// An attribute that is a real number.
#[must_use]
pub fn real(attributes: &[KeyValue], key: &str) -> Option<f64> {
    match value(attributes, key)? {
        Value::DoubleValue(number) => Some(*number),
        _ => None,
    }
}

/// Events of this name.
pub fn events<'a>(span: &'a Span, name: &str) -> Vec<&'a Event> {
    span.events.iter().filter(|event| event.name == name).collect()
}
