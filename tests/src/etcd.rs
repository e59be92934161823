//! A real etcd (Debian's `etcd-server`) on loopback, that can be killed, stopped and started again where it was.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::Context;

use crate::process::{Process, deadline};

/// Files in PEM of a member that speaks TLS and asks for certificates.
#[derive(Debug, Clone)]
pub struct EtcdTls {
    /// Its certificate.
    pub cert: PathBuf,
    /// The key of it.
    pub key: PathBuf,
    /// Who signs the certificates of its clients.
    pub client_ca: PathBuf,
}

/// A member that is a cluster by itself.
pub struct EtcdServer {
    folder: PathBuf,
    /// For clients, and for the peers it does not have.
    ports: [u16; 2],
    tls: Option<EtcdTls>,
    process: Option<Process>,
    starts: u32,
}

impl EtcdServer {
    /// Starts it; its data and what it says lie in `folder`.
    ///
    /// # Errors
    /// When it does not start, or does not listen in time.
    pub fn start(folder: &Path) -> anyhow::Result<Self> {
        Self::start_speaking(folder, None)
    }

    /// Starts one that speaks TLS to its clients.
    ///
    /// # Errors
    /// When it does not start, or does not listen in time.
    pub fn start_with_tls(folder: &Path, tls: EtcdTls) -> anyhow::Result<Self> {
        Self::start_speaking(folder, Some(tls))
    }

    fn start_speaking(folder: &Path, tls: Option<EtcdTls>) -> anyhow::Result<Self> {
        let free =
            || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| Ok(listener.local_addr()?.port()));
        let ports = [free()?, free()?];
        let mut server = Self { folder: folder.to_owned(), ports, tls, process: None, starts: 0 };
        server.restart()?;
        Ok(server)
    }

    /// Starts it again with the data it had.
    ///
    /// # Errors
    /// When it does not start, or does not listen in time.
    pub fn restart(&mut self) -> anyhow::Result<()> {
        let (client, peer) = (self.endpoint(), format!("http://127.0.0.1:{}", self.ports[1]));
        let data = self.folder.join("etcd");
        self.starts += 1;
        let mut command = Command::new("etcd");
        command.args(["--name", "e", "--log-level", "warn", "--data-dir"]).arg(&data).args([
            "--listen-client-urls",
            &client,
            "--advertise-client-urls",
            &client,
            "--listen-peer-urls",
            &peer,
            "--initial-advertise-peer-urls",
            &peer,
            "--initial-cluster",
            &format!("e={peer}"),
            // Tests wait for leases.
            "--heartbeat-interval",
            "50",
            "--election-timeout",
            "500",
        ]);
        if let Some(EtcdTls { cert, key, client_ca }) = &self.tls {
            command.arg("--cert-file").arg(cert).arg("--key-file").arg(key);
            command.arg("--client-cert-auth").arg("--trusted-ca-file").arg(client_ca);
        }
        let process = Process::spawn(&self.folder, &format!("etcd-{}", self.starts), &mut command);
        let mut process = process.context("etcd does not start; `make test` installs etcd-server")?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.ports[0]));
        deadline("etcd to listen", || {
            if !process.runs() {
                return Some(Err(anyhow::anyhow!("etcd ended: {}", process.log())));
            }
            TcpStream::connect_timeout(&address, Duration::from_millis(100)).ok().map(|_| Ok(()))
        })??;
        self.process = Some(process);
        Ok(())
    }

    /// As `--store` takes it, with this prefix.
    #[must_use]
    pub fn store(&self, prefix: &str) -> String {
        let scheme = if self.tls.is_some() { "etcds" } else { "etcd" };
        format!("{scheme}://127.0.0.1:{}/{prefix}", self.ports[0])
    }

    /// `http://127.0.0.1:port`, or `https` where it speaks TLS.
    #[must_use]
    pub fn endpoint(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://127.0.0.1:{}", self.ports[0])
    }

    /// Kills it; what it acknowledged is on its disk.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Sends it a signal by name, such as `STOP`.
    ///
    /// # Errors
    /// When it does not run.
    pub fn signal(&self, signal: &str) -> anyhow::Result<()> {
        self.process.as_ref().context("etcd does not run")?.signal(signal)
    }
}
