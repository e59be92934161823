//! A hub name is fetched into the cache once: a process with an environment of its own, a hub of this test's on loopback.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// Serves one repository as a hub does, from a folder; counts its requests.
fn hub(folder: &Path, requests: &Arc<AtomicUsize>) -> std::io::Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let (folder, requests) = (folder.to_owned(), Arc::clone(requests));
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            requests.fetch_add(1, Ordering::SeqCst);
            answer(stream, &folder).ok();
        }
    });
    Ok(format!("http://{address}"))
}

fn answer(mut stream: TcpStream, folder: &Path) -> std::io::Result<()> {
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
    let (status, headers, body) = match path.rsplit_once("/resolve/main/") {
        None if path.starts_with("/api/models/somebody/tiny") => {
            let files = std::fs::read_dir(folder)?.flatten().map(|entry| entry.file_name());
            let files: Vec<String> =
                files.map(|name| format!("{{\"rfilename\": \"{}\"}}", name.to_string_lossy())).collect();
            let body = format!("{{\"sha\": \"{COMMIT}\", \"siblings\": [{}]}}", files.join(", "));
            ("200 OK", "Content-Type: application/json\r\n".to_owned(), body.into_bytes())
        }
        Some((_, file)) if folder.join(file).is_file() => {
            let mut whole = Vec::new();
            std::fs::File::open(folder.join(file))?.read_to_end(&mut whole)?;
            let known = format!("X-Repo-Commit: {COMMIT}\r\nETag: \"{file}-1\"\r\nAccept-Ranges: bytes\r\n");
            match range.as_deref().and_then(|range| range.split_once('-')) {
                Some((first, last)) => {
                    let first: usize = first.parse().unwrap_or(0);
                    let last: usize = last.parse().unwrap_or(whole.len() - 1);
                    let headers = format!("{known}Content-Range: bytes {first}-{last}/{}\r\n", whole.len());
                    ("206 Partial Content", headers, whole.drain(first..=last).collect())
                }
                None => ("200 OK", known, whole),
            }
        }
        _ => ("404 Not Found", String::new(), b"no such model".to_vec()),
    };
    let length = body.len();
    write!(stream, "HTTP/1.1 {status}\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n")?;
    stream.write_all(&body)
}

fn generate(home: &Path, endpoint: &str, model: &str) -> std::process::Output {
    Command::new(env!("CARGO_BIN_EXE_esta-worker"))
        .args(["generate", "--model", model, "--prompt", "to", "--template", "raw", "--max-new-tokens", "3"])
        .env("HF_HOME", home)
        .env("HF_ENDPOINT", endpoint)
        .env_remove("HF_HUB_CACHE")
        .env_remove("HF_HUB_OFFLINE")
        .output()
        .expect("the worker starts")
}

#[test]
fn a_model_is_fetched_by_name_once_and_a_hub_that_has_none_is_named() {
    let dir = tempfile::tempdir().expect("a folder");
    let repository = dir.path().join("repository");
    esta_text::train_tokenizer(["to be or not to be".to_owned()], 270, &repository).expect("a tokenizer");
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("model/tests/golden/llama/llama");
    let config = std::fs::read_to_string(golden.join("config.json")).expect("readable");
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
    std::fs::write(repository.join("config.json"), config.to_string()).expect("written");
    esta_model::random_llama(&arch, 5).save(&repository.join("model.safetensors")).expect("written");
    std::fs::write(repository.join("README.md"), "not fetched").expect("written");

    let (home, requests) = (dir.path().join("home"), Arc::new(AtomicUsize::new(0)));
    let endpoint = hub(&repository, &requests).expect("it listens");
    let first = generate(&home, &endpoint, "somebody/tiny");
    let said = String::from_utf8_lossy(&first.stderr).into_owned();
    assert!(first.status.success(), "{said}");
    let asked = requests.load(Ordering::SeqCst);
    assert!(asked > 2 * 4, "{asked} requests for the list and four files");
    let snapshot = home.join("hub/models--somebody--tiny/snapshots").join(COMMIT);
    assert!(snapshot.join("model.safetensors").exists() && !snapshot.join("README.md").exists());

    let again = generate(&home, &endpoint, "somebody/tiny");
    assert_eq!(first.stdout, again.stdout);
    assert_eq!(requests.load(Ordering::SeqCst), asked, "what is in the cache is not asked for");

    let nobody = generate(&home, &endpoint, "nobody/nothing");
    let said = String::from_utf8_lossy(&nobody.stderr).into_owned();
    assert_eq!(nobody.status.code(), Some(8), "{said}");
    assert!(said.contains("there is no folder nobody/nothing") && said.contains("404"), "{said}");
}
