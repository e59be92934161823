//! Who may connect and who may call what, over real connections: certificates, their replacement, tokens, roles, limits.
//! Whatever is refused is refused at once, in words, and harms nobody else.

mod authority;
#[path = "../support/mod.rs"]
mod support;

use std::{collections::BTreeMap, fs, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use authority::{Authority, Holds, Issuer};
use esta_client::{Client, Credentials, DialError, Refusal, weigh};
use esta_coordinator::{
    leader::Ending,
    rpc::{Door, Entrance},
    security::{Authorities, Guard, Role, ServerTls, ServiceAccounts, TlsFiles, Tokens},
};
use esta_proto::v1::{self, StatusRequest, worker_message::Body};
use ring::digest::{SHA256, digest};
use support::*;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tonic::{Code, Status};

/// A folder with the files of both ends.
struct Lab {
    folder: TempDir,
    ca: Authority,
}

impl Lab {
    /// A coordinator's certificate, one for clients, and tokens for `w-*`, `other`, a viewer and an admin: each is its name.
    fn new() -> Self {
        Self::signed_by("ours")
    }

    /// The same of an authority of this name.
    fn signed_by(name: &str) -> Self {
        let lab = Self { folder: tempfile::tempdir().expect("a folder"), ca: Authority::new(name) };
        lab.ca.write(&lab.path("ca.pem"));
        lab.sign("server", Holds::Still);
        lab.sign("client", Holds::Still);
        lab.write_tokens(&[("w-*", "worker"), ("other", "worker"), ("looker", "viewer"), ("boss", "admin")]);
        lab
    }

    fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join(file)
    }

    fn sign(&self, file: &str, holds: Holds) {
        self.ca.sign(self.folder.path(), file, &["127.0.0.1", "localhost"], holds);
    }

    fn write_tokens(&self, entries: &[(&str, &str)]) {
        let hash = |token: &str| digest(&SHA256, token.as_bytes());
        let hex = |token: &str| hash(token).as_ref().iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let line = |&(name, role): &(&str, &str)| -> String { format!("{name} {role} {}\n", hex(name)) };
        fs::write(self.path("tokens"), entries.iter().map(line).collect::<String>()).expect("writes");
    }

    /// TLS that asks for certificates of `ca.pem`.
    fn tls(&self) -> Arc<ServerTls> {
        let [cert, key, ca] = ["server.pem", "server.key", "ca.pem"].map(|file| self.path(file));
        Arc::new(ServerTls::watch(TlsFiles { cert, key, client_ca: Some(ca) }).expect("certificates"))
    }

    /// Mutual TLS.
    fn certified(&self) -> Entrance {
        Entrance { door: Door { tls: Some(self.tls()), ..Door::open() }, ..Entrance::open(local()) }
    }

    /// Tokens on a loopback address.
    fn guarded(&self) -> Entrance {
        let tokens = Some(Tokens::watch(self.path("tokens")).expect("tokens"));
        let guard = Guard::new(Authorities { tokens, accounts: None });
        Entrance { guard, ..Entrance::open(local()) }
    }

    /// What a client with this certificate shows.
    fn with(&self, certificate: &str) -> Credentials {
        Credentials {
            tls_ca: Some(self.path("ca.pem")),
            tls_cert: Some(self.path(&format!("{certificate}.pem"))),
            tls_key: Some(self.path(&format!("{certificate}.key"))),
            ..Credentials::default()
        }
    }

    /// What a client with this token shows.
    fn bearing(&self, token: &str) -> Credentials {
        let path = self.path(&format!("token-{}", blake3::hash(token.as_bytes()).to_hex()));
        fs::write(&path, format!("{token}\n")).expect("writes");
        Credentials { token_file: Some(path), ..Credentials::default() }
    }
}

async fn serve_at(entrance: Entrance) -> (Served, Arc<esta_engine::law::Law>, Place) {
    let (law, place) = (law(), Place::in_a_file());
    let served = try_serve_at(entrance, &law, &place, 1).await.expect("the coordinator starts");
    (served, law, place)
}

async fn reach(credentials: &Credentials, scheme: &str, address: SocketAddr) -> Result<Client, DialError> {
    let reached = timeout(DEADLINE, credentials.connect(&format!("{scheme}://{address}"), |way| way)).await;
    reached.expect("an answer, or none, but no waiting")
}

/// Asks for the status: an answer, or why there is no connection.
async fn ask(credentials: &Credentials, address: SocketAddr) -> Result<String, DialError> {
    let mut client = reach(credentials, "https", address).await?;
    Ok(status_of(&mut client).await.expect("who is connected is answered"))
}

async fn status_of(client: &mut Client) -> Result<String, Status> {
    let status = timeout(DEADLINE, client.status(StatusRequest {})).await.expect("no waiting");
    status.map(|status| status.into_inner().json)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_over_mutual_tls_with_tokens_ends_with_the_table_of_an_open_one() {
    let lab = Lab::new();
    let entrance = Entrance { door: lab.certified().door, ..lab.guarded() };
    let (mut served, law, place) = serve_at(entrance).await;
    let shown = Credentials { token_file: lab.bearing("w-*").token_file, ..lab.with("client") };
    let mut client = reach(&shown, "https", served.address).await.expect("it is believed");
    let mut worker = FakeWorker::new("w-1", &law);
    let session = worker.enter_by(&mut client).await;
    let working = tokio::spawn(async move { worker.work_on(session).await });
    assert!(matches!(served.ended().await, Ending::Complete));
    assert!(matches!(working.await.expect("it lives"), Last::Stopped(_)));

    let (mut open, _, other) = serve_at(Entrance::open(local())).await;
    let mut worker = FakeWorker::new("w-1", &law);
    let address = open.address;
    let working = tokio::spawn(async move { worker.work(address).await });
    assert!(matches!(open.ended().await, Ending::Complete));
    working.await.expect("it lives");
    assert_eq!(bits(&recorded(&law, &place).await.1), bits(&recorded(&law, &other).await.1));
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_shows_no_certificate_or_a_wrong_one_is_told_why() {
    let lab = Lab::new();
    let (served, ..) = serve_at(lab.certified()).await;
    lab.sign("expired", Holds::NoMore);
    Authority::new("theirs").sign(lab.folder.path(), "foreign", &["client"], Holds::Still);
    let nothing = Credentials { tls_ca: Some(lab.path("ca.pem")), ..Credentials::default() };
    for (shown, why, passing) in [
        (nothing, "it asks for a certificate; give --tls-cert and --tls-key", false),
        (lab.with("foreign"), "it does not know who signed the certificate shown to it", false),
        (lab.with("expired"), "the certificate shown to it has expired", true),
    ] {
        let error = ask(&shown, served.address).await.expect_err("it is not believed");
        let line = error.to_string();
        assert!(line.ends_with(why), "{line}");
        assert_eq!(error.is_passing(), passing, "{line}");
    }
    let answer = ask(&lab.with("client"), served.address).await.expect("others are served");
    assert!(answer.contains("\"phase\":\"waiting\""), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_coordinator_that_cannot_show_who_it_is_is_not_told_anything() {
    let lab = Lab::new();
    let theirs = Lab::signed_by("theirs");
    let (served, ..) = serve_at(lab.certified()).await;
    let error = ask(&theirs.with("client"), served.address).await.expect_err("it is not believed");
    let line = error.to_string();
    assert!(line.contains("its certificate is refused: invalid peer certificate: UnknownIssuer"), "{line}");
    assert!(!error.is_passing());

    lab.ca.sign(lab.folder.path(), "server", &["elsewhere.example"], Holds::Still);
    let error = ask(&lab.with("client"), served.address).await.expect_err("it is somebody else's");
    assert!(error.to_string().contains("not valid for name") && !error.is_passing(), "{error}");

    lab.sign("server", Holds::NoMore);
    let error = ask(&lab.with("client"), served.address).await.expect_err("it has expired");
    assert!(error.to_string().contains("expired") && error.is_passing(), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_takes_tls_for_plain_text_or_the_reverse_is_told_what_to_write() {
    let lab = Lab::new();
    let ((plain, ..), (tls, ..)) = (serve_at(Entrance::open(local())).await, serve_at(lab.certified()).await);
    let error = reach(&lab.with("client"), "https", plain.address).await.expect_err("it speaks plain text");
    let line = format!(
        "what listens at https://{} does not speak TLS: a coordinator in plain text is reached by http://",
        plain.address
    );
    assert_eq!((error.to_string(), error.is_passing()), (line, false));
    let error = reach(&Credentials::default(), "http", tls.address).await.expect_err("it speaks TLS");
    let line = format!("the coordinator at http://{} speaks TLS: write https:// instead of http://", tls.address);
    assert_eq!((error.to_string(), error.is_passing()), (line, false));
    ask(&lab.with("client"), tls.address).await.expect("others are served");
}

#[tokio::test(flavor = "multi_thread")]
async fn something_else_that_listens_there_is_no_coordinator() {
    let listener = tokio::net::TcpListener::bind(local()).await.expect("binds");
    let address = listener.local_addr().expect("an address");
    for (said, why) in [
        ("HTTP/1.1 400 Bad Request\r\n\r\n", "what answers does not speak HTTP/2"),
        ("", "closed before a word was said"),
    ] {
        let answers = async {
            let (mut peer, _) = listener.accept().await.expect("somebody comes");
            peer.write_all(said.as_bytes()).await.expect("writes");
            peer.shutdown().await.expect("ends");
            peer.read_to_end(&mut Vec::new()).await.ok();
        };
        let nothing = Credentials::default();
        let (error, ()) = tokio::join!(reach(&nothing, "http", address), answers);
        let error = error.expect_err("it is none");
        let mut cause: &dyn std::error::Error = &error;
        while let Some(source) = cause.source() {
            cause = source;
        }
        assert_eq!((error.is_passing(), cause.to_string()), (true, why.to_owned()), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn replaced_certificates_serve_new_connections_and_old_sessions_go_on() {
    let lab = Lab::new();
    let (mut served, law, _place) = serve_at(lab.certified()).await;
    let old = lab.with("client");
    let mut before = reach(&old, "https", served.address).await.expect("it is believed");
    let mut worker = FakeWorker::new("w", &law);
    let session = worker.enter_by(&mut before).await;

    // Everything is signed anew, by somebody else; the client that has not heard of it keeps its files.
    let renewed = Lab::signed_by("theirs");
    let theirs = ["ca.pem", "client.pem", "client.key"].map(|file| lab.path(&format!("old-{file}")));
    for (file, kept) in ["ca.pem", "client.pem", "client.key"].into_iter().zip(&theirs) {
        fs::copy(lab.path(file), kept).expect("copies");
    }
    let [ca, cert, key] = theirs;
    let outdated = Credentials { tls_ca: Some(ca), tls_cert: Some(cert), tls_key: Some(key), ..Credentials::default() };
    for file in ["ca.pem", "server.pem", "server.key", "client.pem", "client.key"] {
        fs::copy(renewed.path(file), lab.path(file)).expect("copies");
    }
    let error = ask(&outdated, served.address).await.expect_err("its root signs no more");
    assert!(error.to_string().contains("UnknownIssuer"), "{error}");
    ask(&old, served.address).await.expect("the same files, read again, are believed");
    status_of(&mut before).await.expect("who is connected stays so");

    // A broken replacement changes nothing.
    for file in ["server.pem", "server.key", "ca.pem"] {
        let sound = fs::read(lab.path(file)).expect("reads");
        for broken in [&b"-----BEGIN CERTIFICATE-----\nbroken"[..], b""] {
            fs::write(lab.path(file), broken).expect("writes");
            ask(&renewed.with("client"), served.address).await.unwrap_or_else(|error| panic!("{file}: {error}"));
        }
        fs::write(lab.path(file), sound).expect("writes");
    }
    let working = tokio::spawn(async move { worker.work_on(session).await });
    assert!(matches!(served.ended().await, Ending::Complete), "the session outlived it all");
    assert!(matches!(working.await.expect("it lives"), Last::Stopped(_)));
}

/// Code and words of a refusal to join.
async fn turned_away(credentials: &Credentials, address: SocketAddr, name: &str) -> (Code, String, Refusal) {
    let mut client = reach(credentials, "http", address).await.expect("it may connect");
    let status = timeout(DEADLINE, client.join(join_request(name))).await.expect("no waiting").expect_err("refused");
    (status.code(), status.message().to_owned(), weigh(&status))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_says_who_may_do_what_under_which_name() {
    let lab = Lab::new();
    let (served, ..) = serve_at(lab.guarded()).await;
    let at = served.address;
    let no = |code, words: &str, refusal| (code, words.to_owned(), refusal);
    let none = "this coordinator asks for a token, and none was sent; give --token-file";
    let unauthenticated = Code::Unauthenticated;
    assert_eq!(turned_away(&Credentials::default(), at, "w-1").await, no(unauthenticated, none, Refusal::Denied));
    let unknown = "the token is not one that this coordinator knows";
    assert_eq!(turned_away(&lab.bearing("wrong"), at, "w-1").await, no(unauthenticated, unknown, Refusal::Denied));
    let denied = Code::PermissionDenied;
    let viewer = "looker is a viewer here and may not join";
    assert_eq!(turned_away(&lab.bearing("looker"), at, "looker").await, no(denied, viewer, Refusal::Denied));
    let name = "other may not be the worker \"w-1\": it may be called other";
    assert_eq!(turned_away(&lab.bearing("other"), at, "w-1").await, no(denied, name, Refusal::Denied));

    let mut worker = reach(&lab.bearing("w-*"), "http", at).await.expect("it connects");
    worker.join(join_request("w-17")).await.expect("it is its name");
    let status = status_of(&mut worker).await.expect_err("it only trains");
    assert_eq!((status.code(), status.message()), (denied, "w-* is a worker here and may not ask for the status"));
    let mut boss = reach(&lab.bearing("boss"), "http", at).await.expect("it connects");
    let status = status_of(&mut boss).await.expect("it may do everything");
    assert!(status.contains("\"workers\":[]"), "nobody of these has got in: {status}");
    boss.join(join_request("boss")).await.expect("it may do everything");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_file_of_tokens_holds_from_the_next_call_on() {
    let lab = Lab::new();
    let (served, ..) = serve_at(lab.guarded()).await;
    let mut looker = reach(&lab.bearing("looker"), "http", served.address).await.expect("it connects");
    status_of(&mut looker).await.expect("it may look on");
    lab.write_tokens(&[("new", "viewer")]);
    assert_eq!(status_of(&mut looker).await.expect_err("it was struck off").code(), Code::Unauthenticated);
    let mut new = reach(&lab.bearing("new"), "http", served.address).await.expect("it connects");
    status_of(&mut new).await.expect("it was added");
    fs::write(lab.path("tokens"), "new viewer\n").expect("writes");
    status_of(&mut new).await.expect("a broken file changes nothing");
}

fn claims(pod: &str, change: impl FnOnce(&mut serde_json::Value)) -> serde_json::Value {
    let mut claims = serde_json::json!({
        "iss": "https://cluster", "sub": "system:serviceaccount:esta:worker", "aud": ["esta"],
        "exp": 4_000_000_000_u64, "nbf": 1, "kubernetes.io": {"namespace": "esta", "pod": {"name": pod, "uid": "u"}},
    });
    change(&mut claims);
    claims
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_joins_under_its_own_name_with_the_token_of_its_cluster() {
    let (lab, issuer) = (Lab::new(), Issuer::new("k1"));
    issuer.write(&lab.path("jwks.json"));
    let roles = [("worker", Role::Worker), ("ops", Role::Viewer)];
    let roles: BTreeMap<_, _> =
        roles.iter().map(|(name, role)| (format!("system:serviceaccount:esta:{name}"), *role)).collect();
    let accounts = ServiceAccounts::watch(lab.path("jwks.json"), "https://cluster".into(), "esta".into(), (roles, 8));
    let authorities = Authorities { tokens: None, accounts: Some(accounts.expect("a key set")) };
    let (served, ..) = serve_at(Entrance { guard: Guard::new(authorities), ..Entrance::open(local()) }).await;
    let at = served.address;

    let good = lab.bearing(&issuer.token(&claims("pod-0", |_| {})));
    let mut worker = reach(&good, "http", at).await.expect("it connects");
    for own in ["pod-0/0", "pod-0/7"] {
        worker.join(join_request(own)).await.expect("it is that pod");
    }
    let (code, words, _) = turned_away(&good, at, "pod-0/8").await;
    assert_eq!(code, Code::PermissionDenied);
    assert!(words.ends_with("may not be the worker \"pod-0/8\": it may be called pod-0/0 to pod-0/7"), "{words}");

    let expired = issuer.token(&claims("pod-0", |claims| claims["exp"] = 1_600_000_000.into()));
    let (code, words, refusal) = turned_away(&lab.bearing(&expired), at, "pod-0").await;
    assert_eq!((code, refusal), (Code::Unauthenticated, Refusal::Expired), "a newer one may come");
    assert!(words.starts_with("the token has expired "), "{words}");

    let stranger = Issuer::new("k1").token(&claims("pod-0", |_| {}));
    let elsewhere = issuer.token(&claims("pod-0", |claims| claims["aud"] = "vault".into()));
    let other_cluster = issuer.token(&claims("pod-0", |claims| claims["iss"] = "https://other".into()));
    let early = issuer.token(&claims("pod-0", |claims| claims["nbf"] = 3_999_999_999_u64.into()));
    let endless = issuer.token(&claims("pod-0", |claims| claims["exp"] = serde_json::Value::Null));
    let nobody = issuer.token(&claims("pod-0", |claims| claims["sub"] = "system:serviceaccount:esta:web".into()));
    let unbound = issuer.token(&claims("pod-0", |claims| claims["kubernetes.io"] = serde_json::json!({})));
    for (token, why) in [
        (stranger, "the token is refused: no key of the issuer has signed it"),
        (elsewhere, "the token is refused: it is not for the audience \"esta\""),
        (other_cluster, "the token is refused: it is of the issuer \"https://other\""),
        (early, "the token is refused: it does not hold yet"),
        (endless, "the token is refused: it lacks iss, sub, aud or exp"),
        (nobody, "system:serviceaccount:esta:web has no role here; --token-role gives it one"),
        (unbound, "system:serviceaccount:esta:worker may not be the worker \"pod-0\": the token is bound to no pod"),
    ] {
        let (_, words, refusal) = turned_away(&lab.bearing(&token), at, "pod-0").await;
        assert_eq!((words.as_str(), refusal), (why, Refusal::Denied));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_number_is_of_use_to_nobody_but_whom_it_was_given_to() {
    let lab = Lab::new();
    let (served, law, _place) = serve_at(lab.guarded()).await;
    let mut owner = reach(&lab.bearing("w-*"), "http", served.address).await.expect("it connects");
    let thief = reach(&lab.bearing("other"), "http", served.address).await.expect("it connects");
    let session_id = owner.join(join_request("w-1")).await.expect("it may join").into_inner().session_id;
    let hello = |name: &str| v1::WorkerMessage {
        fence: None,
        traceparent: String::new(),
        body: Some(Body::Hello(v1::Hello {
            session_id,
            name: name.to_owned(),
            layout_digest: law.layout_digest.0.to_vec(),
            samples: SAMPLES,
            ..v1::Hello::default()
        })),
    };
    // Neither another caller nor the same one under another name.
    for (client, name) in [(&thief, "w-1"), (&thief, "other"), (&owner, "w-2")] {
        let status = open(&mut client.clone(), hello(name)).await.next().await.expect_err("it is not its own");
        let words = format!("session {session_id} was given to another caller or under another name");
        assert_eq!((status.code(), status.message()), (Code::PermissionDenied, words.as_str()));
    }
    formed(&mut open(&mut owner, hello("w-1")).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_learns_what_can_be_called_without_a_token() {
    use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
    use tonic_reflection::pb::v1::{
        ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
        server_reflection_request::MessageRequest,
    };
    let lab = Lab::new();
    let (served, ..) = serve_at(lab.guarded()).await;
    let channel = tonic::transport::Endpoint::from_shared(format!("http://{}", served.address));
    let channel = channel.expect("an address").connect().await.expect("it listens");
    HealthClient::new(channel.clone()).check(HealthCheckRequest::default()).await.expect("probes have no token");
    let list = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut stranger = ServerReflectionClient::new(channel.clone());
    let status = stranger.server_reflection_info(tokio_stream::iter([list.clone()])).await.expect_err("a stranger");
    assert_eq!(status.code(), Code::Unauthenticated);
    let with_token = |mut request: tonic::Request<()>| {
        request.metadata_mut().insert("authorization", "Bearer looker".parse().expect("text"));
        Ok(request)
    };
    let mut known = ServerReflectionClient::with_interceptor(channel, with_token);
    known.server_reflection_info(tokio_stream::iter([list])).await.expect("a viewer may ask");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_too_large_ends_its_call_and_nothing_else() {
    let (served, law, _place) = serve_at(Entrance::open(local())).await;
    let mut client = connect(served.address).await;
    let rule = "x".repeat(100 << 10);
    let status = client.palette(v1::PaletteRequest { rule, ..Default::default() }).await.expect_err("too large");
    assert_eq!(status.code(), Code::OutOfRange, "{status:?}");
    let status = client.join(join_request(&"w".repeat(100 << 10))).await.expect_err("too large");
    assert_eq!(status.code(), Code::OutOfRange, "{status:?}");

    let mut session = FakeWorker::new("w", &law).enter_by(&mut client).await;
    let fence = formed(&mut session).await;
    let set = v1::StoreSet { key: "k".into(), value: vec![7; 4 << 20] };
    session.send(fence, Body::Store(v1::StoreRequest { id: 1, op: Some(v1::store_request::Op::Set(set)) }));
    while let Ok(Some(_)) = session.next().await {}
    let status = status_of(&mut client).await.expect("others are served");
    assert!(status.contains("\"workers\":[]"), "it was taken off the list: {status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_connection_too_many_is_closed_and_there_is_room_again_when_one_ends() {
    let door = Door { max_connections: 2, ..Door::open() };
    let (served, ..) = serve_at(Entrance { door, ..Entrance::open(local()) }).await;
    let mut first = connect(served.address).await;
    let mut second = connect(served.address).await;
    status_of(&mut first).await.expect("an answer");
    status_of(&mut second).await.expect("an answer");
    let mut third = TcpStream::connect(served.address).await.expect("the system accepts it");
    let read = timeout(DEADLINE, third.read(&mut [0; 1])).await.expect("no waiting");
    assert!(matches!(read, Ok(0) | Err(_)), "it is closed: {read:?}");
    status_of(&mut first).await.expect("others are served");
    drop(second);
    let room = async {
        loop {
            if let Ok(mut client) = reach(&Credentials::default(), "http", served.address).await
                && status_of(&mut client).await.is_ok()
            {
                break;
            }
            tokio::task::yield_now().await;
        }
    };
    timeout(DEADLINE, room).await.expect("there is room again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_stalls_is_closed_and_keeps_nobody_waiting() {
    let lab = Lab::new();
    let patience = Duration::from_millis(100);
    let certified = lab.certified();
    let stalling = Entrance { door: Door { patience, ..certified.door }, ..certified };
    let open = Entrance { door: Door { patience, ..Door::open() }, ..Entrance::open(local()) };
    let (tls, ..) = serve_at(stalling).await;
    let (plain, ..) = serve_at(open).await;
    for address in [tls.address, plain.address] {
        let mut stalled = TcpStream::connect(address).await.expect("the system accepts it");
        // What the server says first comes before the end.
        let end = timeout(DEADLINE, stalled.read_to_end(&mut Vec::new())).await;
        drop(end.expect("it is not waited for"));
    }
    let (patient, ..) = serve_at(lab.certified()).await;
    let stalled = TcpStream::connect(patient.address).await.expect("the system accepts it");
    ask(&lab.with("client"), patient.address).await.expect("others need not wait for it");
    drop(stalled);
}

#[cfg(feature = "etcd")]
#[tokio::test(flavor = "multi_thread")]
async fn a_record_is_kept_on_an_etcd_that_speaks_mutual_tls() {
    use esta_coordinator::store::{Site, StoreAddress, StoreError, StoreTls, read};
    use esta_tests::{EtcdServer, EtcdTls};
    let lab = Lab::new();
    let [cert, key, client_ca] = ["server.pem", "server.key", "ca.pem"].map(|file| lab.path(file));
    let etcd = EtcdServer::start_with_tls(lab.folder.path(), EtcdTls { cert, key, client_ca }).expect("etcd starts");
    let bare: StoreAddress = etcd.store("run").parse().expect("an address");
    let law = law();
    let untold = Site::open(Some(&bare), &law).await.expect_err("it is told whom to believe");
    assert!(matches!(&untold, StoreError::Trust { place } if place.starts_with("etcds://127.0.0.1:")), "{untold}");
    let shown = |ca: &str| StoreTls {
        ca: Some(lab.path(ca)),
        identity: Some((lab.path("client.pem"), lab.path("client.key"))),
    };
    let absent = Site::open(Some(&bare.clone().with_tls(shown("no.pem"))), &law).await.expect_err("no file");
    assert!(matches!(absent, StoreError::TlsFile { .. }), "{absent}");
    Authority::new("theirs").write(&lab.path("foreign.pem"));
    let foreign = Site::open(Some(&bare.clone().with_tls(shown("foreign.pem"))), &law).await.expect_err("foreign");
    assert!(matches!(foreign, StoreError::Unreachable { .. }), "{foreign}");

    let address = bare.with_tls(shown("ca.pem"));
    let site = Site::open(Some(&address), &law).await.expect("it is believed");
    let term = site.lead(&law, &at("https://127.0.0.1:1"), &|_| ()).await.expect("nobody else leads");
    let run_id = term.store.meta().run_id.clone();
    drop(term.store);
    term.resign.await;
    assert_eq!(read(&address).await.expect("it is kept").0.run_id, run_id);
}
