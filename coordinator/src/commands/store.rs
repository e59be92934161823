//! Flags of a store that speaks TLS (HANDS).

use std::path::PathBuf;

use clap::Args;

use crate::store::{StoreAddress, StoreTls};

/// Files in PEM for an `etcds://` store, read when the command begins.
#[derive(Debug, Args)]
#[command(next_help_heading = "Store")]
pub(super) struct StoreTlsArgs {
    /// Certificates of those whose word that a member of etcd is one is believed.
    #[arg(long, value_name = "FILE", env = "ESTA_STORE_CA")]
    store_ca: Option<PathBuf>,
    /// Certificate to show etcd.
    #[arg(long, value_name = "FILE", env = "ESTA_STORE_CERT", requires = "store_key")]
    store_cert: Option<PathBuf>,
    /// The key of that certificate.
    #[arg(long, value_name = "FILE", env = "ESTA_STORE_KEY", requires = "store_cert")]
    store_key: Option<PathBuf>,
}

impl StoreTlsArgs {
    /// A store as it is reached with these files.
    pub(super) fn reach(&self, store: Option<&StoreAddress>) -> Option<StoreAddress> {
        let tls = StoreTls { ca: self.store_ca.clone(), identity: self.store_cert.clone().zip(self.store_key.clone()) };
        store.map(|store| store.clone().with_tls(tls))
    }
}
