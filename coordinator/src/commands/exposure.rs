//! Flags that say where a run is looked at, and for how long (HANDS).

use std::{fmt, net::SocketAddr, str::FromStr, time::Duration};

use clap::Args;
use esta_telemetry::{Exposure, http::Served};

use super::say;
use crate::{coordinator::Front, failure::Failure, http};

/// Where a run is looked at.
#[derive(Debug, Args)]
pub struct ExposureArgs {
    /// Serve the run's page, metrics and probes at this address, in plain HTTP and to whoever asks; port 0 takes a free one.
    #[arg(long, value_name = "ADDRESS|off", env = "ESTA_HTTP", default_value = "127.0.0.1:0")]
    http: Exposure,
}

impl ExposureArgs {
    /// Shows what a front serves.
    pub(super) fn show(&self, front: &Front) -> Result<Shown, Failure> {
        http::gauges(front.board());
        Ok(Shown(match self.http {
            Exposure::Off => {
                http::unseen(front.board().clone(), front.service().clone());
                None
            }
            Exposure::At(address) => Some(http::serve(address, front.board().clone(), front.service().clone())?),
        }))
    }
}

/// A run that is looked at, until this is dropped.
pub(super) struct Shown(Option<Served>);

impl Shown {
    /// Where others reach the page, unless it is for this machine alone and workers come from others.
    pub fn reachable(&self, front: &Front) -> Option<String> {
        let address = self.0.as_ref()?.address();
        let of_use = !address.ip().is_loopback() || front.address().ip().is_loopback();
        of_use.then(|| reachable("http", address))
    }

    /// Says where.
    pub fn announce(&self) -> Result<(), Failure> {
        self.0.iter().try_for_each(|served| say(&format!("page: http://{}", served.address())))
    }
}

/// A name that others may reach an address by.
pub(super) fn reachable(scheme: &str, address: SocketAddr) -> String {
    if !address.ip().is_unspecified() {
        return format!("{scheme}://{address}");
    }
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_else(|_| "localhost".to_owned());
    format!("{scheme}://{}:{}", host.trim(), address.port())
}

/// An address that coordinators can ask: in plain HTTP, and nothing but host and port.
pub(super) fn page_url(text: &str) -> Result<String, String> {
    let host = text.strip_prefix("http://").map(|rest| rest.trim_end_matches('/')).unwrap_or_default();
    match host.is_empty() || host.contains(['/', '?', '#', '@', ' ']) {
        true => Err(format!("{text:?} is no address of plain HTTP, such as http://coordinator-0:7701")),
        false => Ok(format!("http://{host}")),
    }
}

/// How long a coordinator goes on serving after its run is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Linger {
    /// For this long.
    For(Duration),
    /// Until it is told to stop.
    Forever,
}

impl Linger {
    /// Whether it goes on at all.
    pub(super) fn is_any(self) -> bool {
        self != Self::For(Duration::ZERO)
    }

    /// Waits that long.
    pub(super) async fn wait(self) {
        match self {
            Self::For(time) => tokio::time::sleep(time).await,
            Self::Forever => std::future::pending().await,
        }
    }
}

impl fmt::Display for Linger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::For(time) => write!(f, "{}s", time.as_secs_f64()),
            Self::Forever => f.write_str("forever"),
        }
    }
}

impl FromStr for Linger {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "forever" {
            return Ok(Self::Forever);
        }
        let flaw = || format!("{text:?} is no time, such as 90s, 10m, 2h or 7d, and not `forever`");
        let (digits, unit) = text.split_at(text.len() - text.chars().next_back().map_or(0, char::len_utf8));
        let seconds = match unit {
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3_600.0,
            "d" => 86_400.0,
            _ => return Err(flaw()),
        };
        let count: f64 = digits.parse().map_err(|_| flaw())?;
        Duration::try_from_secs_f64(count * seconds).map(Self::For).map_err(|_| flaw())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_a_unit() {
        let seconds = |seconds| Ok(Linger::For(Duration::from_secs(seconds)));
        assert_eq!(["0s", "90s", "10m", "2h", "7d"].map(str::parse), [0, 90, 600, 7_200, 604_800].map(seconds));
        assert_eq!("forever".parse(), Ok(Linger::Forever));
        for wrong in ["", "10", "-1s", "1x", "é", "NaNs", "1e99d"] {
            assert!(wrong.parse::<Linger>().is_err_and(|why| why.contains("is no time")), "{wrong}");
        }
    }

    #[test]
    fn a_page_is_advertised_by_host_and_port() {
        assert_eq!(page_url("http://c-0:7701/"), Ok("http://c-0:7701".to_owned()));
        for wrong in ["", "c-0:7701", "https://esta.example.org", "http://", "http://c-0/api", "http://u@c-0"] {
            assert!(page_url(wrong).is_err_and(|why| why.contains("plain HTTP")), "{wrong}");
        }
    }
}
