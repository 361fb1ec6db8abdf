// SPDX-License-Identifier: Apache-2.0
//! A simulated process: a thread with a separate tokio runtime, for a component that the lab
//! simulates.
//!
//! Tasks and sockets that are made inside [`within`](Simulated::within) belong to it. They end at
//! once when it is killed (SIGKILL), and make no progress while it is stopped (SIGSTOP). Its
//! objects in the kernel stay.

use std::{
    io,
    sync::mpsc,
    thread::{self, JoinHandle},
};

use tokio::runtime::{Builder, Handle};
use tokio_util::sync::CancellationToken;

/// A running process. It is killed when dropped.
#[derive(Debug)]
pub struct Simulated {
    runtime: Handle,
    kill: CancellationToken,
    thread: Option<JoinHandle<()>>,
    stopped: Option<mpsc::Sender<()>>,
}

impl Simulated {
    /// Starts a process that does nothing yet.
    ///
    /// # Errors
    /// No thread or no descriptor is left.
    pub fn start(name: &str) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let kill = CancellationToken::new();
        let killed = kill.clone();
        let thread = thread::Builder::new().name(name.chars().take(15).collect()).spawn(move || {
            runtime.block_on(killed.cancelled());
            // Does not wait for blocking tasks, as a killed process does not.
            runtime.shutdown_background();
        })?;
        Ok(Self { runtime: handle, kill, thread: Some(thread), stopped: None })
    }

    /// Runs a function inside: its tasks and sockets belong to the process.
    pub fn within<T>(&self, work: impl FnOnce() -> T) -> T {
        let _entered = self.runtime.enter();
        work()
    }

    /// Stops the process, and returns when it has stopped: its sockets stay open, and none is
    /// served.
    pub fn stop(&mut self) {
        if self.stopped.is_none() {
            let (go_on, stopped) = mpsc::channel::<()>();
            let (reached, stops) = mpsc::channel();
            self.runtime.spawn(async move {
                let _seen = reached.send(());
                // The only thread of the runtime waits here, until the sender is dropped.
                let _dropped = stopped.recv();
            });
            let _reached = stops.recv();
            self.stopped = Some(go_on);
        }
    }

    /// Lets a stopped process continue.
    pub fn resume(&mut self) {
        self.stopped = None;
    }

    /// Stops the process, or lets it continue.
    pub fn hang(&mut self, hangs: bool) {
        if hangs { self.stop() } else { self.resume() }
    }
}

impl Drop for Simulated {
    fn drop(&mut self) {
        self.kill.cancel();
        self.resume();
        if let Some(thread) = self.thread.take() {
            let _ended = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        net::{SocketAddr, TcpListener, TcpStream},
        time::Duration,
    };

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// An echo of bytes in a process.
    fn echo(process: &Simulated) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let at = listener.local_addr().unwrap();
        process.within(|| {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            tokio::spawn(async move {
                loop {
                    let (mut stream, _) = listener.accept().await.unwrap();
                    tokio::spawn(async move {
                        let mut byte = [0];
                        while stream.read_exact(&mut byte).await.is_ok() {
                            stream.write_all(&byte).await.unwrap();
                        }
                    });
                }
            })
        });
        at
    }

    fn ask(stream: &mut TcpStream) -> io::Result<u8> {
        stream.write_all(b"a")?;
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        Ok(byte[0])
    }

    #[test]
    fn a_stopped_process_keeps_its_sockets_and_answers_later() {
        let mut process = Simulated::start("echo").unwrap();
        let mut stream = TcpStream::connect(echo(&process)).unwrap();
        assert_eq!(ask(&mut stream).unwrap(), b'a');
        process.stop();
        stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let error = ask(&mut stream).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        process.resume();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        assert_eq!(ask(&mut stream).unwrap(), b'a');
    }

    #[test]
    fn a_killed_process_closes_its_sockets_also_while_it_is_stopped() {
        for stopped in [false, true] {
            let mut process = Simulated::start("echo").unwrap();
            let at = echo(&process);
            let mut stream = TcpStream::connect(at).unwrap();
            assert_eq!(ask(&mut stream).unwrap(), b'a');
            if stopped {
                process.stop();
            }
            drop(process);
            assert!(ask(&mut stream).is_err());
            assert_eq!(TcpStream::connect(at).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        }
    }
}
