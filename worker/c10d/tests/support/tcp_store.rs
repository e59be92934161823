//! A store for several processes: the parent serves a `MemoryStore` on a loopback port, one connection per call.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use esta_c10d::{MemoryStore, Store, StoreError};

/// Serves a new store until the test process ends.
pub fn serve() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let store = Arc::new(MemoryStore::new());
    thread::spawn(move || {
        for connection in listener.incoming() {
            let store = store.clone();
            // A peer that was killed in mid-call is no concern of the others.
            thread::spawn(move || connection.and_then(|connection| answer(connection, &store)));
        }
    });
    address
}

/// The client's end.
pub struct TcpStore(pub SocketAddr);

/// One call: a name, its strings of bytes, and a number (milliseconds or an amount).
struct Call {
    name: u8,
    number: i64,
    parts: Vec<Vec<u8>>,
}

impl TcpStore {
    fn call(&self, name: u8, number: i64, parts: &[&[u8]]) -> Result<Vec<u8>, StoreError> {
        let exchange = || {
            let mut connection = TcpStream::connect(self.0)?;
            write_parts(&mut connection, name, number, parts)?;
            read_call(&mut connection)
        };
        let mut answer = exchange().map_err(|error: io::Error| StoreError::Failed(error.to_string()))?;
        let value = answer.parts.pop().unwrap();
        let text = || String::from_utf8(value.clone()).unwrap();
        match answer.name {
            b'+' => Ok(value),
            b't' => {
                Err(StoreError::TimedOut { key: text(), waited: Duration::from_millis(answer.number.unsigned_abs()) })
            }
            _ => Err(StoreError::Failed(text())),
        }
    }

    fn number(&self, name: u8, number: i64, parts: &[&[u8]]) -> Result<i64, StoreError> {
        self.call(name, number, parts).map(|value| i64::from_le_bytes(value.try_into().unwrap()))
    }
}

impl Store for TcpStore {
    fn set(&self, key: &str, value: &[u8]) -> Result<(), StoreError> {
        self.call(b's', 0, &[key.as_bytes(), value]).map(drop)
    }

    fn get(&self, key: &str, timeout: Duration) -> Result<Vec<u8>, StoreError> {
        self.call(b'g', timeout.as_millis() as i64, &[key.as_bytes()])
    }

    fn add(&self, key: &str, amount: i64) -> Result<i64, StoreError> {
        self.number(b'a', amount, &[key.as_bytes()])
    }

    fn wait(&self, keys: &[String], timeout: Duration) -> Result<(), StoreError> {
        self.call(b'w', timeout.as_millis() as i64, &bytes(keys)).map(drop)
    }

    fn check(&self, keys: &[String]) -> Result<bool, StoreError> {
        self.number(b'c', 0, &bytes(keys)).map(|answer| answer == 1)
    }

    fn compare_set(&self, key: &str, expected: &[u8], desired: &[u8]) -> Result<Vec<u8>, StoreError> {
        self.call(b'x', 0, &[key.as_bytes(), expected, desired])
    }

    fn delete(&self, key: &str) -> Result<bool, StoreError> {
        self.number(b'd', 0, &[key.as_bytes()]).map(|answer| answer == 1)
    }
}

fn bytes(keys: &[String]) -> Vec<&[u8]> {
    keys.iter().map(String::as_bytes).collect()
}

fn answer(mut connection: TcpStream, store: &MemoryStore) -> io::Result<()> {
    let call = read_call(&mut connection)?;
    match carry_out(&call, store) {
        Ok(value) => write_parts(&mut connection, b'+', 0, &[&value]),
        Err(StoreError::TimedOut { key, .. }) => write_parts(&mut connection, b't', call.number, &[key.as_bytes()]),
        Err(StoreError::Failed(text)) => write_parts(&mut connection, b'-', 0, &[text.as_bytes()]),
    }
}

fn carry_out(call: &Call, store: &MemoryStore) -> Result<Vec<u8>, StoreError> {
    let keys: Vec<String> = call.parts.iter().map(|part| String::from_utf8_lossy(part).into_owned()).collect();
    let timeout = Duration::from_millis(call.number.unsigned_abs());
    let flag = |answer: bool| i64::from(answer).to_le_bytes().to_vec();
    match call.name {
        b's' => store.set(&keys[0], &call.parts[1]).map(|()| Vec::new()),
        b'g' => store.get(&keys[0], timeout),
        b'a' => store.add(&keys[0], call.number).map(|sum| sum.to_le_bytes().to_vec()),
        b'w' => store.wait(&keys, timeout).map(|()| Vec::new()),
        b'c' => store.check(&keys).map(flag),
        b'x' => store.compare_set(&keys[0], &call.parts[1], &call.parts[2]),
        b'd' => store.delete(&keys[0]).map(flag),
        other => Err(StoreError::Failed(format!("no call {other}"))),
    }
}

fn write_parts(connection: &mut TcpStream, name: u8, number: i64, parts: &[&[u8]]) -> io::Result<()> {
    let mut message = vec![name];
    message.extend(number.to_le_bytes());
    message.extend((parts.len() as u32).to_le_bytes());
    for part in parts {
        message.extend((part.len() as u32).to_le_bytes());
        message.extend(*part);
    }
    connection.write_all(&message)
}

fn read_call(connection: &mut TcpStream) -> io::Result<Call> {
    let [name] = read_array(connection)?;
    let number = i64::from_le_bytes(read_array(connection)?);
    let count = u32::from_le_bytes(read_array(connection)?);
    let parts = (0..count).map(|_| {
        let mut part = vec![0; u32::from_le_bytes(read_array(connection)?) as usize];
        connection.read_exact(&mut part).map(|()| part)
    });
    Ok(Call { name, number, parts: parts.collect::<io::Result<_>>()? })
}

fn read_array<const N: usize>(connection: &mut TcpStream) -> io::Result<[u8; N]> {
    let mut array = [0; N];
    connection.read_exact(&mut array).map(|()| array)
}
