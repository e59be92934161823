//! Certificates for a cluster that speaks TLS (HANDS), read once: when this process begins.

use std::{fs, path::Path};

use etcd_client::{Certificate, Identity, TlsOptions};

use crate::store::{StoreError, StoreTls};

/// What TLS is spoken with.
///
/// # Errors
/// [`StoreError`] when nothing says whom to believe, or a file cannot be read.
pub(super) fn options(tls: &StoreTls, place: &str) -> Result<TlsOptions, StoreError> {
    let ca = tls.ca.as_ref().ok_or_else(|| StoreError::Trust { place: place.to_owned() })?;
    let options = TlsOptions::new().ca_certificate(Certificate::from_pem(read(ca)?));
    Ok(match &tls.identity {
        Some((cert, key)) => options.identity(Identity::from_pem(read(cert)?, read(key)?)),
        None => options,
    })
}

fn read(path: &Path) -> Result<Vec<u8>, StoreError> {
    fs::read(path).map_err(|source| StoreError::TlsFile { path: path.to_owned(), source })
}
