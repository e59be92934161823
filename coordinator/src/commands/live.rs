//! How a command reaches a coordinator that leads (HANDS): address by address, and from one that stands by to its leader.

use std::{future::Future, time::Duration};

use clap::Args;
use esta_client::{Client, Credentials, DialError, weigh};
use esta_proto::LEADER;
use tonic::{Code, Response, Status};

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
    #[command(flatten)]
    credentials: Credentials,
}

/// How long the whole of an answer is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Patience {
    /// As long as a question takes.
    Short,
    /// As long as it takes: files may be many.
    Long,
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
    /// [`Failure`] of the last address that was tried; `refused` may know better what a refusal means.
    pub(super) async fn ask<T, Called>(
        &self,
        patience: Patience,
        call: impl Fn(Client) -> Called,
        refused: impl Fn(&Status) -> Option<Failure>,
    ) -> Result<Answer<T>, Failure>
    where
        Called: Future<Output = Result<Response<T>, Status>>,
    {
        let mut last = Failure::Other("no coordinator's address was given".to_owned());
        for url in &self.urls {
            let mut at = url.clone();
            // One step further: whoever is said to lead leads, or has just ceased to.
            for hearsay in [false, true] {
                let status = match self.connect(&at, patience).await {
                    Ok(client) => match call(client).await {
                        Ok(response) => return Ok(Answer { url: at, body: response.into_inner() }),
                        Err(status) => status,
                    },
                    Err(failure) => {
                        last = failure;
                        break;
                    }
                };
                last = refused(&status).unwrap_or_else(|| unexplained(&at, &status));
                match status.metadata().get(LEADER).and_then(|leader| leader.to_str().ok()) {
                    Some(leader) if !hearsay => at = leader.to_owned(),
                    // Another address may know better than one that does not lead or is going.
                    _ if status.code() == Code::Unavailable => break,
                    _ => return Err(last),
                }
            }
        }
        Err(last)
    }

    async fn connect(&self, url: &str, patience: Patience) -> Result<Client, Failure> {
        let patient = self.credentials.connect(url, |way| {
            let way = way.connect_timeout(PATIENCE);
            match patience {
                Patience::Short => way.timeout(PATIENCE),
                Patience::Long => way,
            }
        });
        patient.await.map_err(|error| match error {
            DialError::Connect { source, .. } => unintelligible(url, &source),
            error => Failure::Dial(error),
        })
    }
}

fn unexplained(url: &str, status: &Status) -> Failure {
    let (url, why) = (url.to_owned(), status.message().to_owned());
    if weigh(status).is_about_trust() { Failure::Denied { url, why } } else { Failure::Call { url, why } }
}

/// A coordinator that could not be reached or understood: the innermost cause says what a user can act on.
pub(super) fn unintelligible(url: &str, error: &dyn std::error::Error) -> Failure {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    Failure::Call { url: url.to_owned(), why: cause.to_string() }
}
