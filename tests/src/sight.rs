//! A run as its leader sees it, asked for from outside.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, ensure};
use esta_proto::v1::{StatusRequest, coordinator_client::CoordinatorClient};
use serde_json::Value;
use tonic::transport::Endpoint;

use crate::network::Network;

/// A coordinator that is stopped is connected to by the system and never answers.
const ANSWER: Duration = Duration::from_millis(500);

/// A run at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Sight {
    /// The coordinator that leads, by number.
    pub leader: usize,
    /// Generation of the process group.
    pub generation: u64,
    /// Steps on record.
    pub durable: u64,
    /// What the run is at.
    pub phase: String,
    /// Names of the workers that are in the group and can train.
    pub ready: Vec<String>,
    /// Names of all workers.
    pub workers: Vec<String>,
    /// By name: what a worker's trainer was at when it was heard of last, and for how many seconds then.
    pub doing: BTreeMap<String, (String, f64)>,
}

impl Sight {
    /// What the status of the coordinator of this number says.
    ///
    /// # Errors
    /// Naming what it does not say.
    pub(crate) fn read(leader: usize, status: &Value) -> anyhow::Result<Self> {
        let count = |key: &str| status[key].as_u64().with_context(|| format!("the status has {key}"));
        let workers = status["workers"].as_array().context("the status lists the workers")?;
        let named = |worker: &Value| worker["name"].as_str().unwrap_or_default().to_owned();
        let doing = |worker: &Value| {
            Some((named(worker), (worker["doing"].as_str()?.to_owned(), worker["doing_for_seconds"].as_f64()?)))
        };
        Ok(Self {
            leader,
            generation: count("generation")?,
            durable: count("durable_steps")?,
            phase: status["phase"].as_str().context("the status has phase")?.to_owned(),
            ready: workers.iter().filter(|worker| worker["ready"] == true).map(named).collect(),
            workers: workers.iter().map(named).collect(),
            doing: workers.iter().filter_map(doing).collect(),
        })
    }
}

/// The status of a coordinator that leads.
///
/// # Errors
/// When it does not lead, or nobody answers.
pub(crate) async fn ask(url: &str) -> anyhow::Result<Value> {
    let endpoint = Endpoint::from_shared(url.to_owned())?.connect_timeout(ANSWER).timeout(ANSWER);
    let mut client = CoordinatorClient::new(endpoint.connect().await?);
    Ok(serde_json::from_str(&client.status(StatusRequest {}).await?.into_inner().json)?)
}

/// The same as an operator asks who sits at the coordinator's own host.
///
/// # Errors
/// When it does not lead, or nobody answers.
pub(crate) fn ask_within(network: &Network, url: &str) -> anyhow::Result<Value> {
    let args = ["status", "--format", "json", "--coordinator", url];
    let output = network.command(0, "esta-coordinator").args(args).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(serde_json::from_slice(&output.stdout)?)
}
