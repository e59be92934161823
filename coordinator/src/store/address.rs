//! Where a run's record is kept (HANDS): `redb:PATH`, `etcd://h1,h2,h3/prefix`, or `etcds://` where TLS is spoken.

use std::{path::PathBuf, str::FromStr};

/// The address of a store, as a user writes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreAddress {
    /// One file, for one coordinator.
    Redb(PathBuf),
    /// An etcd cluster, for any number of coordinators: the addresses of its members, and what keys begin with.
    Etcd {
        /// `http://host:port` of each.
        endpoints: Vec<String>,
        /// Without slashes around it; `esta/<name of the job>` when absent.
        prefix: Option<String>,
        /// What TLS is spoken with.
        tls: StoreTls,
    },
}

/// Files in PEM for a store that speaks TLS.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StoreTls {
    /// Those whose word that a member is one is believed; `etcds` addresses need it.
    pub ca: Option<PathBuf>,
    /// Certificate and key to show it.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// The port that etcd serves clients on.
const PORT: u16 = 2379;

impl StoreAddress {
    /// The same place, reached with these files.
    #[must_use]
    pub fn with_tls(self, tls: StoreTls) -> Self {
        match self {
            Self::Etcd { endpoints, prefix, .. } => Self::Etcd { endpoints, prefix, tls },
            file @ Self::Redb(_) => file,
        }
    }
}

impl FromStr for StoreAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("redb:") {
            return match path {
                "" => Err("redb: lacks the path of a file".to_owned()),
                path => Ok(Self::Redb(path.into())),
            };
        }
        let (scheme, rest) = match (text.strip_prefix("etcd://"), text.strip_prefix("etcds://")) {
            (Some(rest), _) => ("http", rest),
            (_, Some(rest)) => ("https", rest),
            (None, None) => {
                return Err(format!("{text:?} is neither redb:PATH nor etcd[s]://HOST[:PORT],...[/PREFIX]"));
            }
        };
        if cfg!(not(feature = "etcd")) {
            return Err("this program was built without etcd".to_owned());
        }
        let (hosts, prefix) = rest.split_once('/').map_or((rest, ""), |(hosts, prefix)| (hosts, prefix));
        let endpoint = |host: &str| {
            let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
            match host {
                "" => Err(format!("{text:?} names no host between two commas")),
                host if has_port => Ok(format!("{scheme}://{host}")),
                host => Ok(format!("{scheme}://{host}:{PORT}")),
            }
        };
        let endpoints = hosts.split(',').map(endpoint).collect::<Result<_, _>>()?;
        let prefix = prefix.trim_matches('/');
        Ok(Self::Etcd { endpoints, prefix: (!prefix.is_empty()).then(|| prefix.to_owned()), tls: StoreTls::default() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn etcd(endpoints: &[&str], prefix: Option<&str>) -> Result<StoreAddress, String> {
        let endpoints = endpoints.iter().map(|&endpoint| endpoint.to_owned()).collect();
        Ok(StoreAddress::Etcd { endpoints, prefix: prefix.map(str::to_owned), tls: StoreTls::default() })
    }

    #[test]
    fn hosts_get_etcds_port_and_keys_their_prefix() {
        assert_eq!("redb:/data/r.redb".parse(), Ok(StoreAddress::Redb("/data/r.redb".into())));
        assert_eq!("etcd://a".parse(), etcd(&["http://a:2379"], None));
        let three = etcd(&["http://a:1", "http://b:2379", "http://[::1]:3"], Some("x/y"));
        assert_eq!("etcd://a:1,b,[::1]:3/x/y/".parse(), three);
        assert_eq!("etcds://a".parse(), etcd(&["https://a:2379"], None));
    }

    #[test]
    fn what_is_no_store_is_said() {
        let flaw = |text: &str| text.parse::<StoreAddress>().expect_err("it is none");
        assert_eq!(flaw("a:2379"), "\"a:2379\" is neither redb:PATH nor etcd[s]://HOST[:PORT],...[/PREFIX]");
        assert_eq!(flaw("etcd://a,,b"), "\"etcd://a,,b\" names no host between two commas");
        assert_eq!(flaw("redb:"), "redb: lacks the path of a file");
    }
}
