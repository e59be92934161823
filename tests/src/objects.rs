//! An object storage of its own for a test: a real server that speaks S3, on loopback. `scripts/objects-tools.sh` brings it.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, ensure};
use esta_objects::{Access, Bucket};

use crate::{
    lab::Lab,
    process::{Process, deadline},
};

/// The bucket it has.
const BUCKET: &str = "esta";
/// Unsigned, but it says which of the server's services is meant.
const FOR_IAM: &str =
    "AWS4-HMAC-SHA256 Credential=x/20200101/us-east-1/iam/aws4_request, SignedHeaders=host, Signature=x";
const FOR_S3: &str =
    "AWS4-HMAC-SHA256 Credential=x/20200101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=x";
const MAY_EVERYTHING: &str = "%7B%22Version%22%3A%222012-10-17%22%2C%22Statement%22%3A%5B%7B%22Effect%22%3A%22Allow%22%2C%22Action%22%3A%22%2A%22\
     %2C%22Resource%22%3A%22%2A%22%7D%5D%7D";

/// A server with one bucket.
pub struct ObjectServer {
    address: SocketAddr,
    process: Process,
    key: String,
    secret: String,
}

impl ObjectServer {
    /// Starts one that believes everybody; what it says lies in `folder`.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start(folder: &Path) -> anyhow::Result<Self> {
        let server = Self::spawn(folder, &[])?;
        server.call("PUT", &format!("/{BUCKET}"), &[], b"")?;
        Ok(server)
    }

    /// Starts one that lets in only whoever has its one key.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start_guarded(folder: &Path) -> anyhow::Result<Self> {
        // It asks for a key from the fifth action on.
        let mut server = Self::spawn(folder, &[("INITIAL_NO_AUTH_ACTION_COUNT", "4")])?;
        let headers = [("Authorization", FOR_IAM), ("Content-Type", "application/x-www-form-urlencoded")];
        let ask = |action: &str| {
            server.call("POST", "/", &headers, format!("{action}&UserName=w&Version=2010-05-08").as_bytes())
        };
        ask("Action=CreateUser")?;
        ask(&format!("Action=PutUserPolicy&PolicyName=all&PolicyDocument={MAY_EVERYTHING}"))?;
        let key = ask("Action=CreateAccessKey")?;
        server.call("PUT", &format!("/{BUCKET}"), &[], b"")?;
        (server.key, server.secret) = (between(&key, "AccessKeyId")?, between(&key, "SecretAccessKey")?);
        Ok(server)
    }

    fn spawn(folder: &Path, environment: &[(&str, &str)]) -> anyhow::Result<Self> {
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let mut command = Command::new(program());
        command.args(["-H", "127.0.0.1", "-p", &address.port().to_string()]).envs(environment.iter().copied());
        let process = Process::spawn(folder, &format!("objects-{}", address.port()), &mut command)
            .context("no object storage; scripts/objects-tools.sh brings one")?;
        let mut server = Self { address, process, key: "any".to_owned(), secret: "any".to_owned() };
        deadline("the object storage to listen", || {
            if !server.process.runs() {
                return Some(Err(anyhow::anyhow!("it ended: {}", server.process.log())));
            }
            TcpStream::connect_timeout(&address, Duration::from_millis(100)).ok().map(|_| Ok(()))
        })??;
        Ok(server)
    }

    /// Brings a lab's anchors to `models` and its data to `data`.
    ///
    /// # Errors
    /// When the server does not take them.
    pub fn stock(&self, lab: &Lab) -> anyhow::Result<()> {
        let bucket = self.bucket()?;
        bucket.push(&lab.path().join("anchors"), &self.place("models").parse()?)?;
        let data = vec!["images.idx".to_owned(), "labels.idx".to_owned()];
        bucket.send(lab.path(), &self.place("data").parse()?, data)?;
        Ok(())
    }

    /// Its bucket, as a program of this workspace reaches it.
    ///
    /// # Errors
    /// When the address is none.
    pub fn bucket(&self) -> anyhow::Result<Bucket> {
        Ok(Bucket::reached(&self.place("").parse()?, &Access::by(self.environment()))?)
    }

    /// `http://127.0.0.1:port`.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A place in its bucket.
    #[must_use]
    pub fn place(&self, prefix: &str) -> String {
        format!("s3://{BUCKET}/{prefix}")
    }

    /// Variables of whoever is to use it.
    #[must_use]
    pub fn environment(&self) -> Vec<(String, String)> {
        let variables = [
            ("AWS_ENDPOINT_URL", self.endpoint()),
            ("AWS_ALLOW_HTTP", "true".to_owned()),
            ("AWS_REGION", "us-east-1".to_owned()),
            ("AWS_ACCESS_KEY_ID", self.key.clone()),
            ("AWS_SECRET_ACCESS_KEY", self.secret.clone()),
        ];
        variables.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    /// Puts an object under a key as it is written in a request, past every client's care.
    ///
    /// # Errors
    /// When it refuses.
    pub fn put(&self, key: &str, body: &[u8]) -> anyhow::Result<()> {
        self.call("PUT", &format!("/{BUCKET}/{key}"), &[("Authorization", FOR_S3)], body).map(drop)
    }

    fn call(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> anyhow::Result<String> {
        let mut stream = TcpStream::connect(self.address)?;
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n", self.address);
        head.extend(headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")));
        head += &format!("Content-Length: {}\r\n\r\n", body.len());
        stream.write_all(head.as_bytes())?;
        stream.write_all(body)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        ensure!(answer.starts_with("HTTP/1.1 200"), "{method} {path}: {answer}");
        Ok(answer)
    }
}

fn program() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or_else(|| Path::new("."));
    let brought = root.join(".cache/objects/venv/bin/moto_server");
    if brought.is_file() { brought } else { "moto_server".into() }
}

fn between(xml: &str, name: &str) -> anyhow::Result<String> {
    let inner = xml.split_once(&format!("<{name}>")).and_then(|(_, rest)| rest.split_once(&format!("</{name}>")));
    Ok(inner.with_context(|| format!("no {name} in {xml}"))?.0.to_owned())
}
