//! How a command reaches a coordinator that leads (HANDS): address by address, and from one that stands by to its leader.

use std::{future::Future, time::Duration};

use clap::Args;
use esta_proto::{LEADER, v1::coordinator_client::CoordinatorClient};
use tonic::{
    Code, Response, Status,
    transport::{Channel, Endpoint},
};

use crate::failure::Failure;

/// How long a coordinator may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// A live coordinator.
#[derive(Debug, Args)]
pub struct Server {
    /// Addresses of coordinators, tried in turn; one that stands by sends on to its leader.
    #[arg(
        id = "url",
        long = "coordinator",
        value_name = "URL,URL,..",
        value_delimiter = ',',
        env = "ESTA_COORDINATOR",
        default_value = "http://127.0.0.1:7700"
    )]
    urls: Vec<String>,
}

/// What a leader answered.
#[derive(Debug)]
pub(super) struct Answer<T> {
    /// Where it serves.
    pub url: String,
    pub body: T,
}

impl Server {
    /// Puts a question to the coordinator that leads.
    ///
    /// # Errors
    /// [`Failure::Call`] of the last address that was tried; `refused` may know better what an answered refusal means.
    pub async fn ask<T, Called>(
        &self,
        call: impl Fn(CoordinatorClient<Channel>) -> Called,
        refused: impl Fn(&Status) -> Option<Failure>,
    ) -> Result<Answer<T>, Failure>
    where
        Called: Future<Output = Result<Response<T>, Status>>,
    {
        let mut last = Failure::Other("no coordinator's address was given".to_owned());
        for url in &self.urls {
            let mut at = url.clone();
            // One step further: a leader leads, or has just ceased to.
            for hearsay in [false, true] {
                let status = match connect(&at).await {
                    Ok(client) => match call(client).await {
                        Ok(response) => return Ok(Answer { url: at, body: response.into_inner() }),
                        Err(status) => status,
                    },
                    Err(failure) => {
                        last = failure;
                        break;
                    }
                };
                if status.code() != Code::Unavailable {
                    let unexplained = || Failure::Call { url: at.clone(), why: status.message().to_owned() };
                    return Err(refused(&status).unwrap_or_else(unexplained));
                }
                last = Failure::Call { url: at.clone(), why: status.message().to_owned() };
                match status.metadata().get(LEADER).and_then(|leader| leader.to_str().ok()) {
                    Some(leader) if !hearsay => at = leader.to_owned(),
                    _ => break,
                }
            }
        }
        Err(last)
    }
}

async fn connect(url: &str) -> Result<CoordinatorClient<Channel>, Failure> {
    let failed = |error: tonic::transport::Error| unintelligible(url, &error);
    let endpoint = Endpoint::from_shared(url.to_owned()).map_err(failed)?;
    let channel = endpoint.connect_timeout(PATIENCE).timeout(PATIENCE).connect().await.map_err(failed)?;
    Ok(CoordinatorClient::new(channel))
}

/// A coordinator that could not be reached or understood: the innermost cause says what a user can act on.
pub(super) fn unintelligible(url: &str, error: &dyn std::error::Error) -> Failure {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    Failure::Call { url: url.to_owned(), why: cause.to_string() }
}
