//! What a coordinator shows over HTTP (HANDS): a page, the state behind it, metrics, probes. It takes no orders and holds no
//! secret.
//!
//! A state is made at most once a second, for all readers together, and every few seconds for the gauges: reading costs the
//! run a look at its members, whoever and however many read. A coordinator that stands by tells what the leader's page does, so
//! that a reader of several coordinators behind one name sees the run whoever answers.

mod board;
mod gauges;
mod series;
mod state;

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use axum::{
    Router,
    extract::{RawQuery, State as Shared},
    http::{HeaderValue, StatusCode, header},
    response::{
        IntoResponse, Response,
        sse::{Event, KeepAlive, Sse},
    },
    routing::get,
};
use esta_page::markup;
use esta_telemetry::http::{self, ServeError, Served};
use futures::{Stream, stream};
use tokio::{
    sync::{Mutex, OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

pub use self::board::{Board, TermName};
use self::state::Inside;
use crate::rpc::Service;

/// How old a state may be that is told.
const FRESH: Duration = Duration::from_secs(1);

/// How often a page hears that it is still connected.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// Pages that may be kept up to date at once: the others ask by themselves, and probes and scrapers find room.
const PAGES: usize = 96;

/// How often gauges are brought up to date for a collector that nobody scrapes for.
const GAUGES_EVERY: Duration = Duration::from_secs(5);

/// What a browser may do with the page: run its own script, ask its own server, and nothing else.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; \
    base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const HTML: &str = "text/html; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

/// The page's files: path, kind, text.
const FILES: [(&str, &str, &str); 15] = [
    ("/", HTML, include_str!("http/page/index.html")),
    // It looks like the report of a run, so it has its sheets.
    ("/theme.css", STYLE, markup::THEME),
    ("/page.css", STYLE, markup::PAGE),
    ("/live.css", STYLE, include_str!("http/page/live.css")),
    ("/live.js", SCRIPT, include_str!("http/page/live.js")),
    ("/dom.js", SCRIPT, include_str!("http/page/dom.js")),
    ("/head.js", SCRIPT, include_str!("http/page/head.js")),
    ("/history.js", SCRIPT, include_str!("http/page/history.js")),
    ("/link.js", SCRIPT, include_str!("http/page/link.js")),
    ("/members.js", SCRIPT, include_str!("http/page/members.js")),
    ("/palette.js", SCRIPT, include_str!("http/page/palette.js")),
    ("/plot.js", SCRIPT, include_str!("http/page/plot.js")),
    ("/table.js", SCRIPT, include_str!("http/page/table.js")),
    ("/tips.js", SCRIPT, include_str!("http/page/tips.js")),
    ("/words.js", SCRIPT, include_str!("http/page/words.js")),
];

/// What of the state another coordinator asks for: its own, whoever leads.
const OWN: &str = "own";

/// How long the leader may take for its state: longer than it waits for a leader that has no time.
const PASSED_ON: Duration = Duration::from_secs(3);

/// Bytes of a state that is passed on: that of thousands of ranks and stitches is smaller.
const STATE: usize = 64 << 20;

/// A state, and when it was made.
type Told = (Instant, Arc<str>);

/// Where answers come from.
#[derive(Debug, Clone)]
struct Window {
    board: Board,
    service: Service,
    own: Arc<Mutex<Option<Told>>>,
    led: Arc<Mutex<Option<Told>>>,
    pages: Arc<Semaphore>,
}

/// Shows a board at an address until what is returned is dropped.
///
/// # Errors
/// [`ServeError`] where the address is taken.
pub fn serve(address: SocketAddr, board: Board, service: Service) -> Result<Served, ServeError> {
    let window = Window::new(board, service);
    let ready = {
        let window = window.clone();
        move || window.service.is_ready()
    };
    let mut router = Router::new()
        .route("/metrics", get(metrics))
        .route("/api/state", get(state_now))
        .route("/api/events", get(events));
    for (path, kind, text) in FILES {
        router = router.route(path, get(async move || page(kind, text)));
    }
    let router = router.with_state(window.clone()).merge(http::probes(ready));
    let served = http::serve(address, router)?;
    served.handle().spawn(window.keep_gauges());
    Ok(served)
}

/// Makes the gauges of a process that shows a board, whoever reads them.
pub fn gauges(board: &Board) {
    gauges::of(board);
}

/// Keeps the gauges of a board that is shown nowhere up to date, for the collector they are sent to; without one nobody reads
/// them. To be called within a runtime.
pub fn unseen(board: Board, service: Service) {
    if esta_telemetry::metrics::are_exported() {
        tokio::spawn(Window::new(board, service).keep_gauges());
    }
}

impl Window {
    fn new(board: Board, service: Service) -> Self {
        let (own, led) = (Arc::default(), Arc::default());
        Self { board, service, own, led, pages: Arc::new(Semaphore::new(PAGES)) }
    }

    /// The state of the run, as far as it is known here or by who leads, a second old at most.
    async fn state(&self) -> Arc<str> {
        let Some(page) = self.board.leader_page() else { return self.own_state().await };
        let url = format!("{}/api/state?{OWN}", page.trim_end_matches('/'));
        let passed_on = fresh(&self.led, async || match http::ask(&url, PASSED_ON, STATE).await {
            Ok(text) => text.into(),
            Err(error) => {
                tracing::debug!(error = &error as &dyn std::error::Error, url, "the leader's state cannot be told");
                self.own_state().await
            }
        });
        passed_on.await
    }

    /// What this coordinator knows, a second old at most.
    async fn own_state(&self) -> Arc<str> {
        let make = async || {
            self.look().await;
            self.board.to_json(SystemTime::now()).into()
        };
        fresh(&self.own, make).await
    }

    /// Looks inside the run, where it is led here. A leader that has no time is not waited for: what was found before is told.
    async fn look(&self) {
        let with_table = self.board.lacks_table();
        if let Ok(Ok(inside)) = timeout(FRESH, self.service.ask(move |run| Inside::of(run, with_table))).await {
            self.board.found(inside);
        }
    }

    async fn keep_gauges(self) {
        let mut due = tokio::time::interval(GAUGES_EVERY);
        loop {
            due.tick().await;
            self.own_state().await;
        }
    }
}

fn page(kind: &'static str, text: &'static str) -> Response {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(kind)),
        (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        // Another version of the program has another page.
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
    ];
    (headers, text).into_response()
}

/// What was made last, unless it is older than a second: then it is made anew. Several who ask at once wait for one and the same.
async fn fresh(last: &Mutex<Option<Told>>, make: impl AsyncFnOnce() -> Arc<str>) -> Arc<str> {
    let mut last = last.lock().await;
    match &*last {
        Some((at, text)) if at.elapsed() < FRESH => text.clone(),
        _ => {
            let text = make().await;
            *last = Some((Instant::now(), text.clone()));
            text
        }
    }
}

async fn metrics(Shared(window): Shared<Window>) -> Response {
    window.own_state().await;
    http::exposition().await
}

async fn state_now(Shared(window): Shared<Window>, RawQuery(asked): RawQuery) -> Response {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    ];
    let state = match asked.as_deref() {
        Some(OWN) => window.own_state().await,
        _ => window.state().await,
    };
    (headers, state.to_string()).into_response()
}

/// The state whenever it has changed, at most once a second.
async fn events(Shared(window): Shared<Window>) -> Response {
    let Ok(place) = window.pages.clone().try_acquire_owned() else {
        return (StatusCode::SERVICE_UNAVAILABLE, "too many pages are kept up to date here; ask /api/state\n")
            .into_response();
    };
    Sse::new(paced(changes(window, place))).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response()
}

/// States as they change, as long as somebody reads them.
fn changes(window: Window, place: OwnedSemaphorePermit) -> impl Stream<Item = Result<Event, Infallible>> {
    stream::unfold((window, place, None::<Arc<str>>), async |(window, place, last)| {
        loop {
            let state = window.state().await;
            if last.as_ref().is_none_or(|last| timeless(last) != timeless(&state)) {
                let event = Event::default().event("state").data(&*state);
                return Some((Ok(event), (window, place, Some(state))));
            }
            tokio::time::sleep(FRESH).await;
        }
    })
}

/// One item a second.
fn paced<T>(items: impl Stream<Item = T>) -> impl Stream<Item = T> {
    stream::unfold((Box::pin(items), false), async |(mut items, second)| {
        if second {
            tokio::time::sleep(FRESH).await;
        }
        let item = futures::StreamExt::next(&mut items).await?;
        Some((item, (items, true)))
    })
}

/// A state without the time it was made at.
fn timeless(state: &str) -> (&str, &str) {
    let Some(at) = state.find("\"now\":") else { return (state, "") };
    let rest = state[at..].find(',').map_or("", |comma| &state[at + comma..]);
    (&state[..at], rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_asks_for_nothing_that_is_not_served() {
        let answers = ["api/state", "api/events", "metrics"];
        let served = |path: &str| {
            answers.contains(&path) || FILES.iter().any(|(known, ..)| known.trim_start_matches('/') == path)
        };
        let mut asked = 0;
        for (file, _, text) in FILES {
            for mark in ["href=\"", "src=\"", "from './", "import './"] {
                for rest in text.split(mark).skip(1) {
                    let path: String = rest.chars().take_while(|c| !matches!(c, '"' | '\'')).collect();
                    asked += 1;
                    assert!(
                        path.starts_with("data:") || path.starts_with('#') || served(&path),
                        "{file} asks for {path}"
                    );
                }
            }
        }
        assert!(asked > FILES.len(), "{asked} references were found");
    }

    #[test]
    fn a_state_that_is_only_later_is_no_news() {
        let at = |now: u64, step: u64| format!(r#"{{"version":"0","now":{now},"progress":{{"committed":{step}}}}}"#);
        assert_eq!(timeless(&at(1, 7)), timeless(&at(2, 7)));
        assert_ne!(timeless(&at(1, 7)), timeless(&at(2, 8)));
    }
}
