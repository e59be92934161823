//! `status` (HANDS): asks a live coordinator, and how any command reaches one.

use std::time::Duration;

use esta_client::{Client, DialError, weigh};
use esta_proto::v1::StatusRequest;
use tonic::Status;

use super::{Server, say};
use crate::failure::Failure;

/// How long a coordinator may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

pub(super) async fn status(server: &Server) -> Result<(), Failure> {
    let answer = server.connect().await?.status(StatusRequest {}).await;
    let json = answer.map_err(|status| server.refused(&status))?.into_inner().json;
    let value: serde_json::Value = serde_json::from_str(&json).map_err(|error| server.failed(&error))?;
    say(&format!("{value:#}"))
}

impl Server {
    pub(super) async fn connect(&self) -> Result<Client, Failure> {
        let patient = self.credentials.connect(&self.url, |way| way.connect_timeout(PATIENCE).timeout(PATIENCE));
        patient.await.map_err(|error| match error {
            DialError::Connect { source, .. } => self.failed(&source),
            error => Failure::Dial(error),
        })
    }

    pub(super) fn refused(&self, status: &Status) -> Failure {
        let (url, why) = (self.url.clone(), status.message().to_owned());
        if weigh(status).is_about_trust() { Failure::Denied { url, why } } else { Failure::Call { url, why } }
    }

    /// The innermost cause says what a user can act on.
    pub(super) fn failed(&self, error: &dyn std::error::Error) -> Failure {
        let mut cause = error;
        while let Some(source) = cause.source() {
            cause = source;
        }
        Failure::Call { url: self.url.clone(), why: cause.to_string() }
    }
}
