//! The files of a finished run on their way out (HANDS): what describes the palette, and every exported model.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
};

use esta_objects::RunPlace;
use esta_proto::v1::{PullFile, PullPart, pull_part::Part};
use tokio::{sync::mpsc, task};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use crate::archive;

/// Bytes of a message.
const PIECE: usize = 1 << 20;

/// Messages read ahead of a client.
const AHEAD: usize = 4;

/// What describes a palette, beside the models.
const DESCRIPTIONS: [&str; 5] = ["palette.json", "eval.json", "table.json", "job.json", "report.html"];

/// Where the models are.
const MODELS: &str = "export";

/// The stream of a pull.
pub type Parts = ReceiverStream<Result<PullPart, Status>>;

/// Begins to send the files of a run's folder. Models that object storage keeps are brought first.
///
/// # Errors
/// [`Status`] when there is no palette in it.
pub async fn parts(place: RunPlace) -> Result<Parts, Status> {
    let run_dir = place.folder.clone();
    let listed = task::spawn_blocking({
        let run_dir = run_dir.clone();
        move || {
            archive::bring_models(&place).map_err(|error| io::Error::other(archive::line(&error)))?;
            files(&run_dir)
        }
    });
    let files =
        listed.await.map_err(|gone| Status::internal(gone.to_string()))?.map_err(|error| failed(&run_dir, &error))?;
    if !files.iter().any(|file| file == Path::new("palette.json")) {
        let folder = run_dir.display();
        return Err(Status::not_found(format!("{folder} has no palette.json here: another machine may hold it")));
    }
    let (sender, parts) = mpsc::channel(AHEAD);
    task::spawn_blocking(move || {
        for file in files {
            if let Err(error) = send(&run_dir, &file, &sender) {
                sender.blocking_send(Err(failed(&run_dir.join(file), &error))).ok();
                return;
            }
        }
    });
    Ok(ReceiverStream::new(parts))
}

fn failed(path: &Path, error: &io::Error) -> Status {
    Status::data_loss(format!("cannot read {}: {error}", path.display()))
}

/// Paths relative to the run's folder, in a fixed order.
fn files(run_dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found: Vec<PathBuf> =
        DESCRIPTIONS.into_iter().map(PathBuf::from).filter(|file| run_dir.join(file).is_file()).collect();
    let mut folders = vec![PathBuf::from(MODELS)];
    let mut models = Vec::new();
    while let Some(folder) = folders.pop() {
        let listed = match fs::read_dir(run_dir.join(&folder)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            listed => listed?,
        };
        for entry in listed {
            let entry = entry?;
            let (path, kind) = (folder.join(entry.file_name()), entry.file_type()?);
            // A link may lead anywhere.
            match () {
                () if kind.is_dir() => folders.push(path),
                () if kind.is_file() => models.push(path),
                () => {}
            }
        }
    }
    models.sort();
    found.append(&mut models);
    Ok(found)
}

/// Sends a file; that the client is gone is no failure of the file.
fn send(run_dir: &Path, file: &Path, to: &mpsc::Sender<Result<PullPart, Status>>) -> io::Result<()> {
    let mut source = File::open(run_dir.join(file))?;
    let path = file.components().map(|part| part.as_os_str().to_string_lossy()).collect::<Vec<_>>().join("/");
    let begun = Part::File(PullFile { path, size: source.metadata()?.len() });
    let say = |part| to.blocking_send(Ok(PullPart { part: Some(part) })).is_ok();
    if !say(begun) {
        return Ok(());
    }
    let mut digest = blake3::Hasher::new();
    loop {
        let mut piece = Vec::with_capacity(PIECE);
        source.by_ref().take(PIECE as u64).read_to_end(&mut piece)?;
        if piece.is_empty() {
            break;
        }
        digest.update(&piece);
        if !say(Part::Data(piece)) {
            return Ok(());
        }
    }
    say(Part::Digest(digest.finalize().as_bytes().to_vec()));
    Ok(())
}
