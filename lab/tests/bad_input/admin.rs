// SPDX-License-Identifier: Apache-2.0

//! Requests to the admin listener that are wrong, slow or too many, during start and shutdown.

use std::{net::TcpListener, time::Duration};

use nsm::transport::descriptors;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, sleep, timeout},
};

use crate::{process::Place, row::Checked};

const ADDRESS: &str = "127.0.0.1:9090";
/// Number of requests at once.
const CROWD: usize = 1000;
/// Time in which a good request is answered beside all others.
const PROMPT: Duration = Duration::from_secs(5);

pub(crate) async fn address_taken(place: &Place, texts: &[&str]) -> Checked {
    let taken = TcpListener::bind(ADDRESS).unwrap();
    let proxy = place.proxy(&[]);
    proxy.log.has(texts).await?;
    proxy.log.has(&["start waits", "the Workload API"]).await?;
    drop(taken);
    proxy.ends().await
}

pub(crate) async fn address_of_others(place: &Place, texts: &[&str]) -> Checked {
    let proxy = place.proxy(&[("NSM_ADMIN_ADDRESS", "0.0.0.0:9090")]);
    proxy.log.has(texts).await?;
    proxy.log.has(&["start waits", "the Workload API"]).await?;
    match TcpStream::connect(ADDRESS).await {
        Ok(_) => Err("it listens".into()),
        Err(_refused) => proxy.ends().await,
    }
}

/// Everything at once, while the proxy waits for its identity; then it gets one, and ends in order
/// beside clients that do nothing.
pub(crate) async fn crowded(place: &Place, texts: &[&str]) -> Checked {
    descriptors::raise().map_err(|error| error.to_string())?;
    let agent = place.agent();
    let proxy = place.proxy(&[]);
    proxy.log.has(texts).await?;
    let mut silent = Vec::new();
    for _ in 0..100 {
        silent.push(connect().await?);
    }
    is_prompt().await?;
    let slow = tokio::spawn(slow());
    for (request, status) in [
        ("banana\r\n\r\n".to_owned(), "HTTP/1.1 400"),
        (format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(100_000)), "HTTP/1.1 4"),
        (format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "x".repeat(100_000)), "HTTP/1.1 431"),
        (format!("GET / HTTP/1.1\r\n{}\r\n", "x: y\r\n".repeat(1000)), "HTTP/1.1 431"),
        ("PUT /log-level HTTP/1.1\r\ncontent-length: 4\r\n\r\nLOUD".to_owned(), "HTTP/1.1 400"),
        ("PUT /log-level HTTP/1.1\r\ncontent-length: 99999\r\n\r\n".to_owned(), "HTTP/1.1 413"),
        ("PUT /log-level HTTP/1.1\r\ncontent-length: 5\r\n\r\nTRA".to_owned(), "HTTP/1.1 408"),
        ("DELETE /state HTTP/1.1\r\n\r\n".to_owned(), "HTTP/1.1 405"),
        ("GET /../etc/passwd HTTP/1.1\r\n\r\n".to_owned(), "HTTP/1.1 404"),
    ] {
        let answer = ask(&request).await?;
        if !answer.starts_with(status) {
            return Err(format!("{:.60}: {answer:.200} instead of {status}", request));
        }
        is_prompt().await?;
    }
    let crowd: Vec<_> = (0..CROWD).map(|_| tokio::spawn(ask("GET /state HTTP/1.0\r\n\r\n"))).collect();
    let mut answered = 0;
    for one in crowd {
        // Another one may be closed, to make room; it is not left waiting.
        answered += usize::from(one.await.unwrap().is_ok_and(|answer| answer.starts_with("HTTP/1.0 200")));
    }
    if answered == 0 {
        return Err("of a crowd, nobody was answered".into());
    }
    is_prompt().await?;
    slow.await.unwrap()?;
    agent.grant(place.svid());
    proxy.log.has(&["\"identity\"", "spiffe://a.test/ns/default/pod/px"]).await?;
    drop(silent);
    is_prompt().await?;
    let held = [connect().await?, connect().await?, connect().await?];
    let ended = proxy.ends().await;
    drop(held);
    ended
}

async fn connect() -> Result<TcpStream, String> {
    TcpStream::connect(ADDRESS).await.map_err(|error| format!("cannot connect: {error}"))
}

async fn ask(request: &str) -> Result<String, String> {
    let mut stream = connect().await?;
    let mut answer = Vec::new();
    let asked = async {
        // The server may answer before it has read everything.
        let _written = stream.write_all(request.as_bytes()).await;
        stream.read_to_end(&mut answer).await
    };
    match timeout(4 * PROMPT, asked).await {
        Ok(Ok(_)) => Ok(String::from_utf8_lossy(&answer).into_owned()),
        Ok(Err(error)) if answer.is_empty() => Err(error.to_string()),
        Ok(Err(_reset)) => Ok(String::from_utf8_lossy(&answer).into_owned()),
        Err(_) => Err("neither answered nor closed".into()),
    }
}

async fn is_prompt() -> Checked {
    let started = Instant::now();
    let answer = ask("GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n").await?;
    match answer.starts_with("HTTP/1.1 200") && started.elapsed() < PROMPT {
        true => Ok(()),
        false => Err(format!("a good request after {:?}: {answer:.200}", started.elapsed())),
    }
}

/// A header that comes byte by byte is not waited for.
async fn slow() -> Checked {
    let mut stream = connect().await?;
    let started = Instant::now();
    let mut byte = [0];
    while started.elapsed() < 3 * PROMPT {
        if stream.write_all(b"G").await.is_err() {
            return Ok(());
        }
        match timeout(Duration::from_millis(300), stream.read(&mut byte)).await {
            Ok(_closed_or_refused) => return Ok(()),
            Err(_waits) => sleep(Duration::ZERO).await,
        }
    }
    Err("a slow client is still connected".into())
}
