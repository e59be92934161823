//! HTTP as a probe, a scraper or a script speaks it.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::Context;

/// How long an answer is waited for where nothing else is said.
const PATIENCE: Duration = Duration::from_secs(30);

/// What `GET` answers: the status and the body. In HTTP/1.0 an answer comes in one piece.
///
/// # Errors
/// When nobody answers.
pub fn get(address: &str, path: &str) -> anyhow::Result<(u16, String)> {
    ask(TcpStream::connect(address)?, address, path, PATIENCE)
}

/// The same as a kubelet asks, which gives up after this time.
///
/// # Errors
/// When nobody answers within it.
pub fn probe(address: SocketAddr, path: &str, timeout: Duration) -> anyhow::Result<(u16, String)> {
    ask(TcpStream::connect_timeout(&address, timeout)?, &address.to_string(), path, timeout)
}

fn ask(mut stream: TcpStream, host: &str, path: &str, timeout: Duration) -> anyhow::Result<(u16, String)> {
    stream.set_read_timeout(Some(timeout))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {host}\r\nUser-Agent: kube-probe/1.37\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("an answer has a head")?;
    let status = head.split(' ').nth(1).context("an answer has a status")?.parse()?;
    Ok((status, body.to_owned()))
}
