//! A link to a server whose answers can be made to take their time: bytes come in order, and late.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::mpsc::unbounded_channel,
    task::JoinHandle,
    time::{Instant, sleep_until},
};

/// A port that leads to a server, as long as this stands.
pub struct Link {
    pub address: SocketAddr,
    answers_take_ms: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Link {
    /// One that holds nothing up.
    pub async fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port is free");
        let address = listener.local_addr().expect("it listens");
        let answers_take_ms = Arc::new(AtomicU64::new(0));
        let late = answers_take_ms.clone();
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = TcpStream::connect(server).await else { continue };
                let ((asked, answered), (answers, questions)) = (client.into_split(), server.into_split());
                tokio::spawn(carry(asked, questions, Arc::default()));
                tokio::spawn(carry(answers, answered, late.clone()));
            }
        });
        Self { address, answers_take_ms, task }
    }

    /// From now on every answer takes that long on its way.
    pub fn answers_take(&self, delay: Duration) {
        self.answers_take_ms.store(delay.as_millis() as u64, Ordering::SeqCst);
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, late_ms: Arc<AtomicU64>) {
    let (queue, mut due) = unbounded_channel();
    let reads = async move {
        let mut bytes = vec![0; 64 << 10];
        while let Ok(count @ 1..) = from.read(&mut bytes).await {
            let when = Instant::now() + Duration::from_millis(late_ms.load(Ordering::SeqCst));
            queue.send((when, bytes[..count].to_vec())).ok();
        }
    };
    let writes = async {
        while let Some((when, bytes)) = due.recv().await {
            sleep_until(when).await;
            if to.write_all(&bytes).await.is_err() {
                break;
            }
        }
    };
    tokio::join!(reads, writes);
}
