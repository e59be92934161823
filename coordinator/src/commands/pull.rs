//! `palette pull` (HANDS): takes the models of a finished run away from its coordinator.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Component, Path, PathBuf},
};

use clap::Args;
use esta_client::Client;
use esta_proto::v1::{PullPart, PullRequest, pull_part::Part};
use tonic::{Code, Status, Streaming};

use super::{
    live::{Answer, Patience, Server},
    say,
};
use crate::failure::Failure;

/// Arguments of `palette pull`.
#[derive(Debug, Args)]
pub struct PullArgs {
    #[command(flatten)]
    server: Server,
    /// The folder to put the palette into. It must not be there yet, or be empty.
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
}

pub(super) async fn pull(args: &PullArgs) -> Result<(), Failure> {
    let to = &args.to;
    if fs::read_dir(to).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(Failure::Other(format!(
            "{} is not empty: a palette is put into a folder of its own",
            to.display()
        )));
    }
    let call = |mut client: Client| async move { client.pull(PullRequest {}).await };
    let refused = |status: &Status| {
        let explained = matches!(status.code(), Code::FailedPrecondition | Code::NotFound);
        explained.then(|| Failure::Other(status.message().to_owned()))
    };
    let Answer { url, body } = args.server.ask(Patience::Long, call, refused).await?;
    // It gets its name once it is whole.
    let mut name = to.file_name().map(ToOwned::to_owned).unwrap_or_default();
    name.push(".part");
    let unfinished = to.with_file_name(name);
    let taken = take(body, &unfinished).await;
    let done = taken.and_then(|taken| {
        fs::remove_dir(to).or_else(ignore_absent)?;
        fs::rename(&unfinished, to)?;
        Ok(taken)
    });
    match done {
        Ok((files, bytes)) => say(&format!("{files} files, {} MB: {}", bytes / 1_000_000, to.display())),
        Err(error) => {
            fs::remove_dir_all(&unfinished).ok();
            Err(Failure::Other(format!("cannot pull the palette from {url} to {}: {error}", to.display())))
        }
    }
}

fn ignore_absent(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

/// Writes what arrives below a folder; how many files and bytes.
async fn take(mut parts: Streaming<PullPart>, folder: &Path) -> io::Result<(usize, u64)> {
    fs::remove_dir_all(folder).or_else(ignore_absent)?;
    let (mut files, mut bytes) = (0, 0);
    let mut open: Option<Incoming> = None;
    while let Some(PullPart { part }) = parts.message().await.map_err(io::Error::other)? {
        match (part, &mut open) {
            (Some(Part::File(file)), None) => open = Some(Incoming::begin(folder, &file.path, file.size)?),
            (Some(Part::Data(data)), Some(incoming)) => incoming.write(&data)?,
            (Some(Part::Digest(digest)), Some(_)) => {
                bytes += open.take().map_or(Ok(0), |incoming| incoming.finish(&digest))?;
                files += 1;
            }
            _ => return Err(io::Error::other("its messages make no sense: is it of another version?")),
        }
    }
    match open {
        Some(incoming) => Err(io::Error::other(format!("{} ends too early", incoming.path))),
        None => Ok((files, bytes)),
    }
}

/// A file on its way in.
struct Incoming {
    path: String,
    size: u64,
    written: u64,
    file: File,
    digest: blake3::Hasher,
}

impl Incoming {
    fn begin(folder: &Path, path: &str, size: u64) -> io::Result<Self> {
        let relative = Path::new(path);
        let stays = relative.components().all(|part| matches!(part, Component::Normal(_)));
        if path.is_empty() || !stays {
            return Err(io::Error::other(format!("{path:?} would be written elsewhere")));
        }
        let place = folder.join(relative);
        fs::create_dir_all(place.parent().unwrap_or(folder))?;
        let file = File::create_new(&place)?;
        Ok(Self { path: path.to_owned(), size, written: 0, file, digest: blake3::Hasher::new() })
    }

    fn write(&mut self, data: &[u8]) -> io::Result<()> {
        self.written += data.len() as u64;
        self.digest.update(data);
        self.file.write_all(data)
    }

    fn finish(self, digest: &[u8]) -> io::Result<u64> {
        if self.written != self.size || self.digest.finalize().as_bytes() != digest {
            return Err(io::Error::other(format!("{} was damaged on its way, or changed meanwhile", self.path)));
        }
        self.file.sync_all()?;
        Ok(self.written)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_file_is_written_outside_the_folder() {
        let folder = tempfile::tempdir().expect("a folder");
        for path in ["", "../evil", "/etc/evil", "export/../../evil"] {
            let refused = Incoming::begin(folder.path(), path, 1).err().map(|error| error.to_string());
            assert_eq!(refused, Some(format!("{path:?} would be written elsewhere")));
        }
        let whole = *blake3::hash(b"ab").as_bytes();
        let mut file = Incoming::begin(folder.path(), "export/stitch-1/a", 2).expect("begun");
        file.write(b"ab").expect("written");
        assert_eq!(file.finish(&whole).expect("whole"), 2);
        assert!(Incoming::begin(folder.path(), "export/stitch-1/a", 2).is_err(), "a file comes once");
        let mut cut = Incoming::begin(folder.path(), "b", 2).expect("begun");
        cut.write(b"a").expect("written");
        assert!(cut.finish(&whole).is_err_and(|error| error.to_string().starts_with("b was damaged")));
    }
}
