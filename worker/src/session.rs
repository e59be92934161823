//! A worker's session with the coordinator (HANDS): carries out what `esta_worker_engine::Session` decides.
//!
//! One task owns the law. It hears the coordinator, the trainer and the rendezvous store, and keeps hearing the trainer
//! while the coordinator is away: with plans in hand the worker trains on.

mod call;
mod ending;
mod hands;
mod link;
mod rendezvous;
mod requests;
mod search;

use std::{sync::Arc, time::Duration};

use esta_client::Credentials;
use tokio::sync::mpsc;

pub use ending::{Ended, SessionError};
use hands::Hands;
pub use link::{Caller, LinkError};
pub use rendezvous::{SessionStore, StoreCall};
pub use requests::Requests;
use search::connect;

use crate::{
    telemetry::Place,
    trainer::{Trainer, TrainerOptions},
};

/// How long a worker that knows no job looks for a coordinator.
const FIRST_BUDGET: Duration = Duration::from_secs(60);

/// What a worker process is told on its command line.
#[derive(Debug, Clone)]
pub struct SessionOptions {
    /// Addresses of coordinators, tried in turn.
    pub coordinators: Vec<String>,
    /// Who it is.
    pub caller: Caller,
    /// What it shows coordinators, and which it believes.
    pub credentials: Credentials,
    /// How long it looks for a coordinator before it gives up; once it has joined, the job's `timeouts.reconnect` says it
    /// when this is absent.
    pub reconnect_budget: Option<Duration>,
    /// Where and how it trains.
    pub trainer: TrainerOptions,
    /// Where it stands, for whoever looks.
    pub place: Arc<Place>,
    /// Whether the end of standard input asks it to leave, as a signal does.
    pub on_leash: bool,
}

/// Takes part in a run until it ends.
///
/// # Errors
/// [`SessionError`] when the worker could not take part; how its part ended otherwise is in [`Ended`].
pub async fn run(options: SessionOptions) -> Result<Ended, SessionError> {
    match take_part(options).await {
        // Whenever that is said: the run may come to its end while this worker is away, or sets itself up.
        Err(SessionError::Refused(link)) if link.says_complete() => Ok(Ended::complete()),
        ended => ended,
    }
}

async fn take_part(options: SessionOptions) -> Result<Ended, SessionError> {
    // From its first moment on: the first process of a container is not sent what it does not listen for.
    let mut requests = Requests::listen(options.on_leash).map_err(SessionError::Deaf)?;
    let joined = tokio::select! {
        joined = connect(options.clone(), options.reconnect_budget.unwrap_or(FIRST_BUDGET)) => joined?,
        () = requests.next() => return Ok(Ended::unneeded()),
    };
    if joined.spare {
        tracing::warn!("there are more ranks than slots: this worker is a hot spare that reduces zeros");
    }
    let (calls, store_calls) = mpsc::unbounded_channel();
    // A thread that loads is left behind.
    let (trainer, setup) = tokio::select! {
        started = Trainer::start(joined.spec.clone(), options.trainer.clone(), calls) => started?,
        () = requests.next() => return Ok(Ended::unneeded()),
    };
    options.place.joined(setup.planned);
    Hands::of(options, &joined, trainer, setup).take_part(joined, store_calls, requests).await
}
