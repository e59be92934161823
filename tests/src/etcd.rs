//! A real etcd (Debian's `etcd-server`) on loopback, whose members can be killed, stopped and started again where they
//! were.

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

/// What is not as usual about a member.
#[derive(Debug, Clone, Default)]
struct Settings {
    tls: Option<EtcdTls>,
    /// Bytes its data may take.
    quota: Option<u64>,
}

/// One member.
pub struct EtcdServer {
    folder: PathBuf,
    name: String,
    /// For clients, and for its peers.
    ports: [u16; 2],
    /// Every member with its port for peers, as `--initial-cluster` takes them.
    cluster: String,
    settings: Settings,
    process: Option<Process>,
    starts: u32,
}

/// Several members of one cluster.
pub struct EtcdCluster(Vec<EtcdServer>);

impl EtcdCluster {
    /// Starts it; data and what the members say lie in `folder`.
    ///
    /// # Errors
    /// When a member does not start, or does not listen in time.
    pub fn start(folder: &Path, members: usize) -> anyhow::Result<Self> {
        Self::start_with(folder, members, &Settings::default())
    }

    fn start_with(folder: &Path, members: usize, settings: &Settings) -> anyhow::Result<Self> {
        let free =
            || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| Ok(listener.local_addr()?.port()));
        let named = |number: usize| anyhow::Ok((format!("e{number}"), [free()?, free()?]));
        let named: Vec<(String, [u16; 2])> = (0..members).map(named).collect::<anyhow::Result<_>>()?;
        let peers: Vec<String> = named.iter().map(|(name, [_, peer])| format!("{name}={}", url(*peer))).collect();
        let member = |(name, ports)| {
            let (folder, cluster, settings) = (folder.to_owned(), peers.join(","), settings.clone());
            EtcdServer { folder, name, ports, cluster, settings, process: None, starts: 0 }
        };
        let mut members: Vec<EtcdServer> = named.into_iter().map(member).collect();
        // A member of several waits for the others.
        members.iter_mut().try_for_each(EtcdServer::spawn)?;
        members.iter_mut().try_for_each(EtcdServer::listens)?;
        Ok(Self(members))
    }

    /// As `--store` takes it, with this prefix.
    #[must_use]
    pub fn store(&self, prefix: &str) -> String {
        let members: Vec<String> = self.0.iter().map(|member| format!("127.0.0.1:{}", member.ports[0])).collect();
        format!("etcd://{}/{prefix}", members.join(","))
    }

    /// A member by number.
    pub fn member(&mut self, number: usize) -> &mut EtcdServer {
        &mut self.0[number]
    }
}

impl EtcdServer {
    /// Starts a member that is a cluster by itself; its data and what it says lie in `folder`.
    ///
    /// # Errors
    /// When it does not start, or does not listen in time.
    pub fn start(folder: &Path) -> anyhow::Result<Self> {
        Self::start_with(folder, Settings::default())
    }

    /// Starts one that speaks TLS to its clients.
    ///
    /// # Errors
    /// When it does not start, or does not listen in time.
    pub fn start_with_tls(folder: &Path, tls: EtcdTls) -> anyhow::Result<Self> {
        Self::start_with(folder, Settings { tls: Some(tls), ..Settings::default() })
    }

    /// Starts one whose data may take this many bytes.
    ///
    /// # Errors
    /// When it does not start, or does not listen in time.
    pub fn start_with_room(folder: &Path, bytes: u64) -> anyhow::Result<Self> {
        Self::start_with(folder, Settings { quota: Some(bytes), ..Settings::default() })
    }

    fn start_with(folder: &Path, settings: Settings) -> anyhow::Result<Self> {
        EtcdCluster::start_with(folder, 1, &settings)?.0.pop().context("one member was asked for")
    }

    /// Starts it again with the data it had.
    ///
    /// # Errors
    /// When it does not start, or does not listen in time.
    pub fn restart(&mut self) -> anyhow::Result<()> {
        self.spawn()?;
        self.listens()
    }

    /// Saves what it holds to a file, while it serves.
    ///
    /// # Errors
    /// When `etcdctl` is not there or fails.
    pub fn save(&self, to: &Path) -> anyhow::Result<()> {
        let mut save = Command::new("etcdctl");
        save.args(["--endpoints", &self.endpoint(), "snapshot", "save"]).arg(to);
        self.administer("save", &mut save)
    }

    /// Kills it, if it runs, and starts it again with what a file holds instead of its data.
    ///
    /// # Errors
    /// When the file cannot be restored, or it does not start or listen in time.
    pub fn restore(&mut self, from: &Path) -> anyhow::Result<()> {
        self.kill();
        let data = self.folder.join(&self.name);
        std::fs::remove_dir_all(&data).with_context(|| format!("removing {}", data.display()))?;
        let peers = url(self.ports[1]);
        let mut restore = Command::new("etcdctl");
        restore.args(["snapshot", "restore"]).arg(from).arg("--data-dir").arg(data);
        restore.args(["--name", &self.name, "--initial-cluster", &self.cluster]);
        restore.args(["--initial-advertise-peer-urls", &peers]);
        self.administer("restore", &mut restore)?;
        self.restart()
    }

    fn administer(&self, what: &str, command: &mut Command) -> anyhow::Result<()> {
        let process = Process::spawn(&self.folder, &format!("etcd-{}-{what}", self.name), command);
        let mut process = process.context("etcdctl does not start; `make test` installs etcd-client")?;
        let status = process.wait()?;
        anyhow::ensure!(status.success(), "etcdctl's {what} ended with {status}: {}", process.log());
        Ok(())
    }

    fn spawn(&mut self) -> anyhow::Result<()> {
        let (client, peer) = (self.endpoint(), url(self.ports[1]));
        self.starts += 1;
        let mut command = Command::new("etcd");
        command
            .args(["--name", &self.name, "--log-level", "warn", "--data-dir"])
            .arg(self.folder.join(&self.name))
            .args([
                "--listen-client-urls",
                &client,
                "--advertise-client-urls",
                &client,
                "--listen-peer-urls",
                &peer,
                "--initial-advertise-peer-urls",
                &peer,
                "--initial-cluster",
                &self.cluster,
                // Tests wait for leases.
                "--heartbeat-interval",
                "50",
                "--election-timeout",
                "500",
            ]);
        if let Some(EtcdTls { cert, key, client_ca }) = &self.settings.tls {
            command.arg("--cert-file").arg(cert).arg("--key-file").arg(key);
            command.arg("--client-cert-auth").arg("--trusted-ca-file").arg(client_ca);
        }
        if let Some(bytes) = self.settings.quota {
            command.args(["--quota-backend-bytes", &bytes.to_string()]);
        }
        let process = Process::spawn(&self.folder, &format!("etcd-{}-{}", self.name, self.starts), &mut command);
        self.process = Some(process.context("etcd does not start; `make test` installs etcd-server")?);
        Ok(())
    }

    fn listens(&mut self) -> anyhow::Result<()> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.ports[0]));
        let process = self.process.as_mut().context("etcd does not run")?;
        deadline("etcd to listen", || {
            if !process.runs() {
                return Some(Err(anyhow::anyhow!("etcd ended: {}", process.log())));
            }
            TcpStream::connect_timeout(&address, Duration::from_millis(100)).ok().map(|_| Ok(()))
        })?
    }

    /// As `--store` takes it, with this prefix.
    #[must_use]
    pub fn store(&self, prefix: &str) -> String {
        let scheme = if self.settings.tls.is_some() { "etcds" } else { "etcd" };
        format!("{scheme}://127.0.0.1:{}/{prefix}", self.ports[0])
    }

    /// `http://127.0.0.1:port`, or `https` where it speaks TLS.
    #[must_use]
    pub fn endpoint(&self) -> String {
        let scheme = if self.settings.tls.is_some() { "https" } else { "http" };
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

fn url(port: u16) -> String {
    format!("http://127.0.0.1:{port}")
}
