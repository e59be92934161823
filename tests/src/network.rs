//! Hosts of their own on one switch: network namespaces, whose links can be cut so that everything sent is lost without a
//! word, as by a cable that is pulled. Needs root, or the capability CAP_NET_ADMIN.

use std::{
    net::{IpAddr, Ipv4Addr},
    path::Path,
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::{Context, ensure};

use crate::process::binary;

/// Networks this process has made: each has names of its own.
static MADE: AtomicU32 = AtomicU32::new(0);

/// A switch and its hosts; all of it is gone when it is dropped.
pub struct Network {
    tag: String,
    hosts: usize,
}

impl Network {
    /// Sets up so many hosts; nobody else reaches them.
    ///
    /// # Errors
    /// When `ip` refuses, as it does without the right to.
    pub fn new(hosts: usize) -> anyhow::Result<Self> {
        let tag = format!("esta-{}-{}", std::process::id(), MADE.fetch_add(1, Ordering::Relaxed));
        let network = Self { tag, hosts };
        let switch = network.switch();
        ip(&["netns", "add", &switch])?;
        ip(&["-n", &switch, "link", "add", "switch", "type", "bridge"])?;
        ip(&["-n", &switch, "link", "set", "switch", "up"])?;
        for host in 0..hosts {
            let (name, port, address) = (network.host(host), port(host), format!("{}/24", Self::address(host)));
            ip(&["netns", "add", &name])?;
            ip(&["link", "add", "eth0", "netns", &name, "type", "veth", "peer", "name", &port, "netns", &switch])?;
            ip(&["-n", &switch, "link", "set", &port, "master", "switch"])?;
            ip(&["-n", &switch, "link", "set", &port, "up"])?;
            ip(&["-n", &name, "address", "add", &address, "dev", "eth0"])?;
            ip(&["-n", &name, "link", "set", "eth0", "up"])?;
            ip(&["-n", &name, "link", "set", "lo", "up"])?;
        }
        Ok(network)
    }

    /// Where a host is reached.
    #[must_use]
    pub fn address(host: usize) -> IpAddr {
        Ipv4Addr::new(10, 77, 0, host as u8 + 1).into()
    }

    /// Cuts a host off.
    ///
    /// # Errors
    /// When `ip` refuses.
    pub fn cut(&self, host: usize) -> anyhow::Result<()> {
        ip(&["-n", &self.switch(), "link", "set", &port(host), "down"])
    }

    /// Connects it again.
    ///
    /// # Errors
    /// When `ip` refuses.
    pub fn mend(&self, host: usize) -> anyhow::Result<()> {
        ip(&["-n", &self.switch(), "link", "set", &port(host), "up"])
    }

    /// A program of this workspace, to be started on a host.
    #[must_use]
    pub fn command(&self, host: usize, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.host(host)]).arg::<&Path>(&binary(program));
        command
    }

    fn switch(&self) -> String {
        format!("{}-switch", self.tag)
    }

    fn host(&self, number: usize) -> String {
        format!("{}-host{number}", self.tag)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // One that was never made is no loss.
        for name in (0..self.hosts).map(|host| self.host(host)).chain([self.switch()]) {
            drop(Command::new("ip").args(["netns", "delete", &name]).output());
        }
    }
}

fn port(host: usize) -> String {
    format!("port{host}")
}

fn ip(args: &[&str]) -> anyhow::Result<()> {
    let output = Command::new("ip").args(args).output().context("starting ip; `make test` installs iproute2")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "ip {} (it needs root): {}", args.join(" "), said.trim());
    Ok(())
}
