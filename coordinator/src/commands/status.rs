//! `status` (HANDS): asks a live coordinator, and how any command reaches one.

use std::time::Duration;

use esta_proto::v1::{StatusRequest, coordinator_client::CoordinatorClient};
use tonic::{
    Status,
    transport::{Channel, Endpoint},
};

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
    pub(super) async fn connect(&self) -> Result<CoordinatorClient<Channel>, Failure> {
        let endpoint = Endpoint::from_shared(self.url.clone()).map_err(|error| self.failed(&error))?;
        let channel = endpoint.connect_timeout(PATIENCE).timeout(PATIENCE).connect().await;
        Ok(CoordinatorClient::new(channel.map_err(|error| self.failed(&error))?))
    }

    pub(super) fn refused(&self, status: &Status) -> Failure {
        Failure::Call { url: self.url.clone(), why: status.message().to_owned() }
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
