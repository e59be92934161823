//! A peer: this test executable started again in a role, spoken to in lines over its standard input and output.

use std::env;
use std::io::{BufRead, BufReader, Write, stdin};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use esta_c10d::{Backend, C10dError, GroupConfig, Host, PrefixStore, ProcessGroup, Store};
use tch::Device;

use super::tcp_store::TcpStore;

const ROLE: &str = "ESTA_C10D_TEST_ROLE";
const RANK: &str = "ESTA_C10D_TEST_RANK";
const STORE: &str = "ESTA_C10D_TEST_STORE";
const BACKEND: &str = "ESTA_C10D_TEST_BACKEND";
/// Lines of a peer to its parent start with this, to tell them from the test harness's own.
const MARK: &str = "peer> ";

/// Longer than anything here takes, on any machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

const SIGKILL: i32 = 9;
const SIGSTOP: i32 = 19;

unsafe extern "C" {
    fn kill(process: i32, signal: i32) -> i32;
}

/// The parent's handle on a peer; a peer ends with its handle.
pub struct Peer {
    child: Child,
    input: ChildStdin,
    lines: Receiver<String>,
}

impl Peer {
    /// Starts this executable's test `entry` in `role`, on a CUDA device of host memory where the backend is NCCL.
    pub fn start(entry: &str, (role, backend): (&str, Backend), rank: u32, store: SocketAddr) -> Self {
        let mut program = Command::new(env::current_exe().unwrap());
        program
            .args([entry, "--exact", "--nocapture", "--test-threads=1"])
            .envs([(ROLE, role.to_owned()), (RANK, rank.to_string()), (STORE, store.to_string())])
            .env(BACKEND, backend.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        if backend == Backend::Nccl {
            program.env("LD_PRELOAD", esta_rehearsal::library());
        }
        let mut child = program.spawn().unwrap();
        let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let (sender, lines) = channel();
        thread::spawn(move || {
            let lines = BufReader::new(output).lines().map_while(Result::ok);
            let marked = lines.filter_map(|line| line.split_once(MARK).map(|(_, said)| said.to_owned()));
            marked.into_iter().try_for_each(|line| sender.send(line))
        });
        Self { child, input, lines }
    }

    /// The next line it says.
    pub fn hear(&self) -> String {
        self.lines.recv_timeout(PATIENCE).unwrap_or_else(|error| panic!("a peer said nothing: {error}"))
    }

    pub fn said_nothing(&self) -> bool {
        self.lines.try_recv().is_err()
    }

    pub fn tell(&mut self, line: &str) {
        writeln!(self.input, "{line}").unwrap();
    }

    pub fn kill(&self) {
        self.signal(SIGKILL);
    }

    /// Stops it as a debugger or a lost host would: its sockets stay open and silent. Returns once it has stopped.
    pub fn stop(&self) {
        self.signal(SIGSTOP);
        let status = format!("/proc/{}/stat", self.child.id());
        let stopped = || std::fs::read_to_string(&status).unwrap().rsplit(')').next().unwrap().starts_with(" T");
        let deadline = Instant::now() + PATIENCE;
        while !stopped() {
            assert!(Instant::now() < deadline, "a peer did not stop");
            thread::yield_now();
        }
    }

    pub fn join(mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }

    fn signal(&self, signal: i32) {
        // SAFETY: a plain system call, on a child that has not been waited for.
        assert_eq!(unsafe { kill(self.child.id() as i32, signal) }, 0);
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        if self.child.try_wait().unwrap().is_none() {
            self.signal(SIGKILL);
            self.child.wait().unwrap();
        }
    }
}

/// The peer's view of itself; `None` in the parent.
pub struct Role {
    pub name: String,
    pub rank: u32,
    pub backend: Backend,
    store: Arc<dyn Store>,
}

impl Role {
    pub fn of_this_process() -> Option<Self> {
        let name = env::var(ROLE).ok()?;
        let rank = env::var(RANK).unwrap().parse().unwrap();
        let store = Arc::new(TcpStore(env::var(STORE).unwrap().parse().unwrap()));
        let backends = [Backend::Gloo, Backend::Nccl];
        let backend = backends.into_iter().find(|backend| env::var(BACKEND).unwrap() == backend.to_string()).unwrap();
        Some(Self { name, rank, backend, store })
    }

    /// The same role with its store wrapped.
    pub fn with_store(&self, wrap: impl FnOnce(Arc<dyn Store>) -> Arc<dyn Store>) -> Self {
        Self { name: self.name.clone(), rank: self.rank, backend: self.backend, store: wrap(self.store.clone()) }
    }

    /// Where the tensors of its groups live.
    pub fn device(&self) -> Device {
        match self.backend {
            Backend::Gloo => Device::Cpu,
            Backend::Nccl => Device::Cuda(0),
        }
    }

    /// Forms the group of a generation, with this rank.
    pub fn join(&self, generation: u32, world: u32, timeout: Duration) -> Result<ProcessGroup, C10dError> {
        let host = Some(Host::Hostname("127.0.0.1".to_owned()));
        let config = GroupConfig { backend: self.backend, rank: self.rank, world, timeout, host };
        ProcessGroup::new(&config, Arc::new(PrefixStore::new(format!("generation/{generation}"), self.store.clone())))
    }

    pub fn say(&self, line: &str) {
        println!("{MARK}{line}");
    }

    /// The next line from the parent.
    pub fn listen(&self) -> String {
        let mut line = String::new();
        stdin().read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }
}
