//! A hub name is fetched into the cache once, by however many processes, and whatever happened to a fetch before: processes with
//! environments of their own, a hub of this test's on loopback.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// Serves one repository as a hub does, from a folder.
struct Hub {
    folder: PathBuf,
    requests: AtomicUsize,
    /// Whether it answers; until then whoever asks waits.
    open: Mutex<bool>,
    opened: Condvar,
    /// What happens to the coming requests for weights, the last first.
    faults: Mutex<Vec<Fault>>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    Refuses,
    /// In the middle of the weights.
    HangsUp,
}

impl Hub {
    fn new(folder: &Path, faults: &[Fault]) -> Arc<Self> {
        let (open, opened, faults) = (Mutex::new(true), Condvar::new(), Mutex::new(faults.to_vec()));
        Arc::new(Self { folder: folder.to_owned(), requests: AtomicUsize::new(0), open, opened, faults })
    }

    /// Lets whoever asks wait, or answers them.
    fn set_open(&self, open: bool) {
        *self.open.lock().unwrap_or_else(PoisonError::into_inner) = open;
        self.opened.notify_all();
    }

    /// Answers its address.
    fn listen(self: &Arc<Self>) -> std::io::Result<String> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let hub = Arc::clone(self);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let hub = Arc::clone(&hub);
                thread::spawn(move || hub.answer(stream).ok());
            }
        });
        Ok(format!("http://{address}"))
    }

    fn asked(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }

    /// What happens to a request for weights; hanging up waits for one that asks for more than their size.
    fn fault(&self, range: Option<&str>) -> Option<Fault> {
        let mut faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        let next = *faults.last()?;
        (next == Fault::Refuses || range != Some("0-0")).then(|| faults.pop()).flatten()
    }

    fn answer(&self, mut stream: TcpStream) -> std::io::Result<()> {
        self.requests.fetch_add(1, Ordering::SeqCst);
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.opened.wait_while(open, |open| !*open).unwrap_or_else(PoisonError::into_inner));
        let mut reader = BufReader::new(stream.try_clone()?);
        let (mut request, mut range) = (String::new(), None);
        reader.read_line(&mut request)?;
        loop {
            let mut header = String::new();
            if reader.read_line(&mut header)? == 0 || header.trim().is_empty() {
                break;
            }
            if let Some((_, bytes)) = header.to_lowercase().split_once("range: bytes=") {
                range = Some(bytes.trim().to_owned());
            }
        }
        let path = request.split_whitespace().nth(1).unwrap_or_default();
        let file = path.rsplit_once("/resolve/main/").map(|(_, file)| file);
        let weights = file.is_some_and(|file| file.ends_with(".safetensors"));
        let fault = if weights { self.fault(range.as_deref()) } else { None };
        let (status, headers, body) = match file {
            _ if fault == Some(Fault::Refuses) => ("500 Internal Server Error", String::new(), b"not now".to_vec()),
            None if path.starts_with("/api/models/somebody/tiny") => {
                ("200 OK", "Content-Type: application/json\r\n".to_owned(), self.listing()?)
            }
            Some(file) if self.folder.join(file).is_file() => self.part_of(file, range.as_deref())?,
            _ => ("404 Not Found", String::new(), b"no such model".to_vec()),
        };
        let length = body.len();
        let sent = if fault == Some(Fault::HangsUp) { length / 2 } else { length };
        write!(stream, "HTTP/1.1 {status}\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n")?;
        stream.write_all(&body[..sent])
    }

    fn listing(&self) -> std::io::Result<Vec<u8>> {
        let files = fs::read_dir(&self.folder)?.flatten().map(|entry| entry.file_name());
        let files: Vec<String> =
            files.map(|name| format!("{{\"rfilename\": \"{}\"}}", name.to_string_lossy())).collect();
        Ok(format!("{{\"sha\": \"{COMMIT}\", \"siblings\": [{}]}}", files.join(", ")).into_bytes())
    }

    /// Status, headers and bytes of a range of a file, or of all of it.
    fn part_of(&self, file: &str, range: Option<&str>) -> std::io::Result<(&'static str, String, Vec<u8>)> {
        let mut whole = fs::read(self.folder.join(file))?;
        let known = format!("X-Repo-Commit: {COMMIT}\r\nETag: \"{file}-1\"\r\nAccept-Ranges: bytes\r\n");
        let Some((first, last)) = range.and_then(|range| range.split_once('-')) else {
            return Ok(("200 OK", known, whole));
        };
        let first: usize = first.parse().unwrap_or(0);
        let last: usize = last.parse().unwrap_or(whole.len() - 1);
        let headers = format!("{known}Content-Range: bytes {first}-{last}/{}\r\n", whole.len());
        Ok(("206 Partial Content", headers, whole.drain(first..=last).collect()))
    }
}

fn generating(home: &Path, endpoint: &str, model: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_esta-worker"));
    command
        .args(["generate", "--model", model, "--prompt", "to", "--template", "raw", "--max-new-tokens", "3"])
        .env("HF_HOME", home)
        .env("HF_ENDPOINT", endpoint)
        .env_remove("HF_HUB_CACHE")
        .env_remove("HF_HUB_OFFLINE")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn generate(home: &Path, endpoint: &str, model: &str) -> Output {
    generating(home, endpoint, model).output().expect("the worker starts")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A repository with a tiny model, and a file that is no part of it.
fn repository(dir: &Path) -> PathBuf {
    let repository = dir.join("repository");
    esta_text::train_tokenizer(["to be or not to be".to_owned()], 270, &repository).expect("a tokenizer");
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("model/tests/golden/llama/llama");
    let config = fs::read_to_string(golden.join("config.json")).expect("readable");
    let arch = esta_engine::arch::LlamaArch {
        vocab_size: 270,
        hidden_size: 8,
        intermediate_size: 8,
        num_hidden_layers: 1,
        num_attention_heads: 2,
        num_key_value_heads: 2,
        head_dim: 4,
        ..esta_engine::arch::LlamaArch::preset("llama-7b").expect("shipped")
    };
    let mut config: serde_json::Value = serde_json::from_str(&config).expect("JSON");
    for (key, value) in serde_json::to_value(&arch).expect("a tree").as_object().expect("a map") {
        config[key] = value.clone();
    }
    fs::write(repository.join("config.json"), config.to_string()).expect("written");
    esta_model::random_llama(&arch, 5).save(&repository.join("model.safetensors")).expect("written");
    fs::write(repository.join("README.md"), "not fetched").expect("written");
    repository
}

#[test]
fn a_model_is_fetched_by_name_once_and_a_hub_that_has_none_is_named() {
    let dir = tempfile::tempdir().expect("a folder");
    let home = dir.path().join("home");
    let hub = Hub::new(&repository(dir.path()), &[]);
    let endpoint = hub.listen().expect("it listens");
    let first = generate(&home, &endpoint, "somebody/tiny");
    assert!(first.status.success(), "{}", said(&first));
    let asked = hub.asked();
    assert!(asked > 2 * 4, "{asked} requests for the list and four files");
    let snapshot = home.join("hub/models--somebody--tiny/snapshots").join(COMMIT);
    assert!(snapshot.join("model.safetensors").exists() && !snapshot.join("README.md").exists());

    let again = generate(&home, &endpoint, "somebody/tiny");
    assert_eq!(first.stdout, again.stdout);
    assert_eq!(hub.asked(), asked, "what is in the cache is not asked for");

    let nobody = generate(&home, &endpoint, "nobody/nothing");
    assert_eq!(nobody.status.code(), Some(8), "{}", said(&nobody));
    let said = said(&nobody);
    assert!(said.contains("there is no folder nobody/nothing") && said.contains("404"), "{said}");
}

#[test]
fn processes_that_want_the_same_model_at_once_wait_for_the_one_that_fetches_it() {
    let dir = tempfile::tempdir().expect("a folder");
    let repository = repository(dir.path());
    let alone = Hub::new(&repository, &[]);
    let expected = generate(&dir.path().join("alone"), &alone.listen().expect("it listens"), "somebody/tiny");
    assert!(expected.status.success(), "{}", said(&expected));

    let hub = Hub::new(&repository, &[]);
    hub.set_open(false);
    let (home, endpoint) = (dir.path().join("home"), hub.listen().expect("it listens"));
    let (says, heard) = mpsc::channel();
    let start = |_| {
        let mut worker = generating(&home, &endpoint, "somebody/tiny").spawn().expect("the worker starts");
        let (stderr, says) = (BufReader::new(worker.stderr.take().expect("piped")), says.clone());
        thread::spawn(move || stderr.lines().map_while(Result::ok).try_for_each(|line| says.send(line)));
        worker
    };
    let crew: Vec<_> = (0..3).map(start).collect();
    drop(says);
    // Whoever fetches is kept from it until both others have said that they wait.
    for waiting in 1..3 {
        let told = || heard.recv_timeout(Duration::from_secs(60)).ok();
        let waits = std::iter::from_fn(told).any(|line| line.contains("another process fetches it"));
        assert!(waits, "only {} of them wait", waiting - 1);
    }
    hub.set_open(true);
    for worker in crew {
        let output = worker.wait_with_output().expect("it ends");
        assert!(output.status.success(), "{:?}", heard.iter().collect::<Vec<_>>());
        assert_eq!(output.stdout, expected.stdout);
    }
    assert_eq!(hub.asked(), alone.asked(), "one of them asked the hub");
}

#[test]
fn a_fetch_that_was_interrupted_goes_on_once_the_hub_is_well() {
    let dir = tempfile::tempdir().expect("a folder");
    let home = dir.path().join("home");
    let hub = Hub::new(&repository(dir.path()), &[Fault::HangsUp, Fault::Refuses]);
    let endpoint = hub.listen().expect("it listens");
    for (fault, says) in [(Fault::Refuses, "500"), (Fault::HangsUp, "the hub gives none")] {
        let failed = generate(&home, &endpoint, "somebody/tiny");
        assert_eq!(failed.status.code(), Some(8), "{fault:?}: {}", said(&failed));
        assert!(said(&failed).contains(says), "{fault:?}: {}", said(&failed));
    }
    let snapshot = home.join("hub/models--somebody--tiny/snapshots").join(COMMIT);
    assert!(snapshot.join("tokenizer.json").exists() && !snapshot.join("model.safetensors").exists());
    let well = generate(&home, &endpoint, "somebody/tiny");
    assert!(well.status.success(), "{}", said(&well));
    let fetched = fs::read(snapshot.join("model.safetensors")).expect("readable");
    assert!(fetched == fs::read(hub.folder.join("model.safetensors")).expect("readable"), "resumed, not spoilt");
}

#[test]
fn of_a_model_that_is_cached_in_part_the_rest_is_fetched() {
    let dir = tempfile::tempdir().expect("a folder");
    let home = dir.path().join("home");
    let hub = Hub::new(&repository(dir.path()), &[]);
    let endpoint = hub.listen().expect("it listens");
    // What `hf download somebody/tiny config.json` left before the hub's newest commit.
    let model = home.join("hub/models--somebody--tiny");
    for folder in ["refs", "snapshots/0a1b"] {
        fs::create_dir_all(model.join(folder)).expect("made");
    }
    fs::write(model.join("refs/main"), "0a1b").expect("written");
    fs::copy(hub.folder.join("config.json"), model.join("snapshots/0a1b/config.json")).expect("copied");

    let mut offline = generating(&home, &endpoint, "somebody/tiny");
    let refused = offline.env("HF_HUB_OFFLINE", "1").output().expect("the worker starts");
    assert_eq!(refused.status.code(), Some(8), "{}", said(&refused));
    let says = "in the Hugging Face cache without model.safetensors; HF_HUB_OFFLINE forbids to fetch it";
    assert!(said(&refused).contains(says), "{}", said(&refused));
    assert_eq!(hub.asked(), 0);

    let fetched = generate(&home, &endpoint, "somebody/tiny");
    assert!(fetched.status.success(), "{}", said(&fetched));
    assert!(model.join("snapshots").join(COMMIT).join("config.json").exists());
}
