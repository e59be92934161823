//! Against a real server that speaks S3: what comes is what went, however often it was interrupted.

use std::{
    fs,
    io::{Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    path::Path,
    thread,
    time::Duration,
};

use esta_objects::{Access, Bucket, ObjectsError, Place, WHOLE};
use esta_tests::ObjectServer;
use tempfile::TempDir;

const LARGE: usize = 20 << 20;

struct Bench {
    folder: TempDir,
    server: ObjectServer,
}

impl Bench {
    fn new() -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let server = ObjectServer::start(folder.path())?;
        Ok(Self { folder, server })
    }

    fn place(&self, prefix: &str) -> Place {
        self.server.place(prefix).parse().expect("a place")
    }

    fn bucket(&self) -> Result<Bucket, ObjectsError> {
        Bucket::reached(&self.place(""), &Access::by(self.server.environment()))
    }

    /// A folder with a small file, an empty one, one in a folder, and one of several parts.
    fn source(&self) -> anyhow::Result<std::path::PathBuf> {
        let source = self.folder.path().join("source");
        fs::create_dir_all(source.join("inner/most"))?;
        fs::write(source.join("small.json"), "{}")?;
        fs::write(source.join("empty"), "")?;
        fs::write(source.join("inner/most/odd name #1~é.txt"), "here")?;
        fs::write(source.join("large.safetensors"), noise(LARGE))?;
        Ok(source)
    }
}

fn noise(bytes: usize) -> Vec<u8> {
    let mut word = 1_u32;
    let mut next = || {
        word = word.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (word >> 24) as u8
    };
    (0..bytes).map(|_| next()).collect()
}

fn same(a: &Path, b: &Path) -> anyhow::Result<()> {
    for name in ["small.json", "empty", "inner/most/odd name #1~é.txt", "large.safetensors"] {
        assert!(fs::read(a.join(name))? == fs::read(b.join(name))?, "{name}");
    }
    Ok(())
}

/// The error with its causes, as programs say it.
fn line(error: &ObjectsError) -> String {
    let causes = std::iter::successors(std::error::Error::source(error), |&cause| cause.source());
    causes.fold(error.to_string(), |line, cause| format!("{line}: {cause}"))
}

#[test]
fn what_was_pushed_is_fetched_and_nothing_comes_twice() -> anyhow::Result<()> {
    let bench = Bench::new()?;
    let (bucket, place, source) = (bench.bucket()?, bench.place("runs/a/checkpoint-20"), bench.source()?);
    let pushed = bucket.push(&source, &place)?;
    assert_eq!((pushed.files, pushed.bytes), (4, LARGE as u64 + 6));
    let names: Vec<String> = bucket.list(&place)?.into_iter().map(|object| object.name).collect();
    assert_eq!(names, [WHOLE, "empty", "inner/most/odd name #1~é.txt", "large.safetensors", "small.json"]);
    let into = bench.folder.path().join("into/b");
    let fetched = bucket.fetch(&place, &into)?;
    assert_eq!((fetched.files, fetched.bytes, fetched.came), (4, pushed.bytes, pushed.bytes));
    same(&source, &into)?;
    assert!(!into.join(WHOLE).exists(), "what says that it is whole is no file");
    assert_eq!(bucket.fetch(&place, &into)?.came, 0);
    assert_eq!(bucket.fetch(&place, &source)?.came, 0, "whoever pushed has it");
    Ok(())
}

#[test]
fn an_object_that_changed_is_fetched_again_and_one_that_went_goes() -> anyhow::Result<()> {
    let bench = Bench::new()?;
    let (bucket, place) = (bench.bucket()?, bench.place("data"));
    for (key, body) in [("data/a", "1111"), ("data/b", "22"), ("data/c", "3")] {
        bench.server.put(key, body.as_bytes())?;
    }
    let into = bench.folder.path().join("into");
    bucket.fetch(&place, &into)?;
    fs::write(into.join("own"), "mine")?;
    bench.server.put("data/a", b"4444")?;
    bucket.remove(&place.join("b"))?;
    bucket.remove_names(&place, vec!["c".to_owned()])?;
    bench.server.put("data/e/f", b"55555")?;
    let fetched = bucket.fetch(&place, &into)?;
    assert_eq!((fetched.files, fetched.came), (3, 9), "{fetched:?}");
    assert_eq!(fs::read_to_string(into.join("a"))?, "4444");
    assert_eq!(fs::read_to_string(into.join("e/f"))?, "55555");
    assert!(into.join("b").exists() && !into.join("c").exists() && into.join("own").exists());
    fs::write(into.join("a"), "cut")?;
    assert_eq!(bucket.fetch(&place, &into)?.came, 4, "a file that somebody cut");
    Ok(())
}

#[test]
fn a_fetch_that_broke_off_goes_on_where_it_was() -> anyhow::Result<()> {
    let bench = Bench::new()?;
    let place = bench.place("models/large");
    bench.server.put("models/large/model.safetensors", &noise(LARGE))?;
    let most = 5 << 20;
    let proxy = cut_after(bench.server.address(), most)?;
    let mut through = bench.server.environment();
    through
        .iter_mut()
        .filter(|(name, _)| name == "AWS_ENDPOINT_URL")
        .for_each(|(_, url)| *url = format!("http://{proxy}"));
    let into = bench.folder.path().join("into");
    let impatient = Access::by(through).patient(Duration::from_millis(300));
    let error = Bucket::reached(&place, &impatient)?.fetch(&place, &into).expect_err("it was cut");
    assert!(line(&error).starts_with("cannot fetch s3://esta/models/large"), "{}", line(&error));
    assert!(!into.join("model.safetensors").exists(), "half a file has no name");
    let fetched = bench.bucket()?.fetch(&place, &into)?;
    assert!(fetched.came < LARGE as u64 && fetched.came >= (LARGE - most) as u64, "{fetched:?}");
    assert!(fs::read(into.join("model.safetensors"))? == noise(LARGE), "the pieces do not fit");
    let left: Vec<_> = fs::read_dir(bench.folder.path())?.flatten().map(|entry| entry.file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().starts_with(".parts-")), "{left:?}");
    Ok(())
}

/// A way to the server that lets so many bytes of answers through and none after.
fn cut_after(server: SocketAddr, most: usize) -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        let mut left = most;
        // Listening ends with the thread: whoever comes later is refused.
        while left > 0 {
            let Ok((mut client, _)) = listener.accept() else { return };
            let Ok(mut upstream) = TcpStream::connect(server) else { return };
            let (Ok(mut asks), Ok(mut asked)) = (client.try_clone(), upstream.try_clone()) else { return };
            thread::spawn(move || {
                std::io::copy(&mut asks, &mut asked).ok();
                asked.shutdown(Shutdown::Write).ok();
            });
            let mut piece = [0; 1 << 16];
            while let Ok(count @ 1..) = upstream.read(&mut piece[..left.min(1 << 16)]) {
                if client.write_all(&piece[..count]).is_err() {
                    break;
                }
                left -= count;
            }
            client.shutdown(Shutdown::Both).ok();
        }
    });
    Ok(address)
}

#[test]
fn a_place_may_be_one_object_and_an_empty_one_says_so() -> anyhow::Result<()> {
    let bench = Bench::new()?;
    bench.server.put("data/images.idx", b"abc")?;
    bench.server.put("data/images.idx.gz", b"other")?;
    let bucket = bench.bucket()?;
    let into = bench.folder.path().join("into");
    assert_eq!(bucket.fetch_object(&bench.place("data/images.idx"), &into)?.came, 3);
    assert_eq!(fs::read_to_string(into.join("images.idx"))?, "abc");
    assert!(bucket.fetch_file(&bench.place("data"), "images.idx", &bench.folder.path().join("one"))?);
    assert!(!bucket.fetch_file(&bench.place("data"), "labels.idx", &bench.folder.path().join("one"))?);
    let nothing = bucket.fetch_object(&bench.place("data/labels.idx"), &into).expect_err("there is none");
    assert_eq!(line(&nothing), "cannot find s3://esta/data/labels.idx: there is nothing");
    let nothing = bucket.fetch(&bench.place("dat"), &into).expect_err("a name is whole");
    assert!(nothing.is_absence() && line(&nothing).ends_with("there is nothing"), "{}", line(&nothing));
    Ok(())
}

#[test]
fn while_a_folder_is_pushed_again_it_is_not_whole_and_what_was_left_of_another_goes() -> anyhow::Result<()> {
    let bench = Bench::new()?;
    let (bucket, place, source) = (bench.bucket()?, bench.place("c"), bench.source()?);
    bench.server.put("c/stale", b"of another run")?;
    bucket.push(&source, &place)?;
    assert!(bucket.list(&place)?.iter().all(|object| object.name != "stale"));
    let failed = bucket.push(&bench.folder.path().join("nowhere"), &place);
    assert!(failed.is_err_and(|error| line(&error).starts_with("cannot list ")));
    assert!(bucket.list(&place)?.iter().any(|object| object.name == WHOLE), "nothing was begun");
    bucket.remove(&place)?;
    assert_eq!(bucket.list(&place)?, []);
    Ok(())
}

#[test]
fn a_key_that_would_be_a_file_elsewhere_is_refused() -> anyhow::Result<()> {
    let bench = Bench::new()?;
    bench.server.put("data/..%2F..%2Fevil", b"evil")?;
    let error =
        bench.bucket()?.fetch(&bench.place("data"), &bench.folder.path().join("a/b/into")).expect_err("refused");
    let line = line(&error);
    assert!(
        line.starts_with("cannot list s3://esta/data: the key ") && line.contains("outside of its folder"),
        "{line}"
    );
    assert!(!bench.folder.path().join("a/evil").exists());
    Ok(())
}

#[test]
fn a_wrong_bucket_or_key_is_one_clear_line() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let server = ObjectServer::start_guarded(folder.path())?;
    // The server checks signatures of plain addresses only.
    let place: Place = server.place("").parse()?;
    let bucket = Bucket::reached(&place, &Access::by(server.environment()))?;
    assert_eq!(bucket.list(&place)?, [], "its own key is good");
    for (name, code) in
        [("AWS_ACCESS_KEY_ID", "InvalidAccessKeyId"), ("AWS_SECRET_ACCESS_KEY", "SignatureDoesNotMatch")]
    {
        let mut wrong = server.environment();
        wrong.iter_mut().filter(|(known, _)| known == name).for_each(|(_, value)| *value = "AKIAWRONG".to_owned());
        let error =
            Bucket::reached(&place, &Access::by(wrong))?.fetch(&place, &folder.path().join("in")).expect_err("refused");
        let expected = format!(
            "cannot list s3://esta: the credentials are refused ({code}); AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY \
             say who asks"
        );
        assert_eq!(line(&error), expected);
    }
    let elsewhere: Place = "s3://another/data".parse()?;
    let open = ObjectServer::start(folder.path())?;
    let bucket = Bucket::reached(&elsewhere, &Access::by(open.environment()))?;
    let error = bucket.fetch(&elsewhere, &folder.path().join("x")).expect_err("there is none");
    assert_eq!(line(&error), "cannot list s3://another/data: there is no such bucket");
    Ok(())
}

#[test]
fn plain_http_that_nobody_allowed_is_refused_before_a_key_travels() -> anyhow::Result<()> {
    let bench = Bench::new()?;
    let variables = bench.server.environment().into_iter().filter(|(name, _)| name != "AWS_ALLOW_HTTP");
    let access = Access::by(variables).patient(Duration::from_millis(200));
    let error = Bucket::reached(&bench.place("a"), &access)?.list(&bench.place("a")).expect_err("plain text");
    assert_eq!(line(&error).lines().count(), 1, "{}", line(&error));
    Ok(())
}
