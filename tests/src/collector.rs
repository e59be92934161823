//! A collector of traces and metrics on this machine: what programs export by OTLP, kept for a test to read.

use std::{
    collections::BTreeSet,
    fs,
    net::{SocketAddr, TcpListener as StdListener},
    path::Path,
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
    common::v1::{AnyValue, KeyValue, any_value::Value},
    trace::v1::{Span, span::Event},
};
use tokio::{net::TcpListener, runtime::Runtime};
use tonic::{
    Request, Response, Status,
    transport::{Certificate, Identity, Server, ServerTlsConfig},
};

use crate::{Certificates, backends::exporting_to};

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
    certificates: Option<Certificates>,
    runtime: Option<Runtime>,
}

impl Drop for Collector {
    fn drop(&mut self) {
        // Whoever drops it may itself be a task.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
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
        Self::serve(Server::builder())
    }

    /// The same behind a certificate of its own, which it asks of others too.
    ///
    /// # Errors
    /// When there is no port, or the files cannot be read.
    pub fn start_sealed(certificates: &Certificates) -> anyhow::Result<Self> {
        let Certificates { ca, cert, key } = certificates;
        let config = ServerTlsConfig::new()
            .identity(Identity::from_pem(fs::read(cert)?, fs::read(key)?))
            .client_ca_root(Certificate::from_pem(fs::read(ca)?));
        let mut sealed = Self::serve(Server::builder().tls_config(config)?)?;
        sealed.certificates = Some(certificates.clone());
        Ok(sealed)
    }

    fn serve(mut server: Server) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let heard = Heard::default();
        let socket = StdListener::bind("127.0.0.1:0")?;
        socket.set_nonblocking(true)?;
        let address = socket.local_addr()?;
        let inside = runtime.enter();
        let socket = TcpListener::from_std(socket)?;
        let connections = tonic::transport::server::TcpIncoming::from(socket);
        let server = server
            .add_service(TraceServiceServer::new(heard.clone()))
            .add_service(MetricsServiceServer::new(heard.clone()))
            .serve_with_incoming(connections);
        runtime.spawn(server);
        drop(inside);
        Ok(Self { address, heard, certificates: None, runtime: Some(runtime) })
    }

    /// What programs are told, as variables of their environment, to export every step here.
    #[must_use]
    pub fn environment(&self) -> Vec<(String, String)> {
        let mut variables = exporting_to(&self.address.to_string());
        if let Some(Certificates { ca, cert, key }) = &self.certificates {
            let endpoint = format!("https://{}", self.address);
            let path = |file: &Path| file.to_string_lossy().into_owned();
            let sealed = [
                ("ENDPOINT", endpoint),
                ("CERTIFICATE", path(ca)),
                ("CLIENT_CERTIFICATE", path(cert)),
                ("CLIENT_KEY", path(key)),
            ];
            variables.retain(|(name, _)| name != "OTEL_EXPORTER_OTLP_ENDPOINT");
            variables.extend(sealed.map(|(what, value)| (format!("OTEL_EXPORTER_OTLP_{what}"), value)));
        }
        variables
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

/// An attribute that is several texts.
#[must_use]
pub fn texts(attributes: &[KeyValue], key: &str) -> Vec<String> {
    let Some(Value::ArrayValue(array)) = value(attributes, key) else { return Vec::new() };
    let text = |value: &AnyValue| match value.value.as_ref()? {
        Value::StringValue(text) => Some(text.clone()),
        _ => None,
    };
    array.values.iter().filter_map(text).collect()
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
