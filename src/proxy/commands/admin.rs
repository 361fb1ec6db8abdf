// SPDX-License-Identifier: Apache-2.0

//! Reads the admin listener of the running proxy.

use std::{io, time::Duration};

use axum::body::{Body, Bytes, to_bytes};
use hyper::{
    Request, StatusCode,
    client::conn::http1::handshake,
    header::{CONNECTION, HOST},
};
use hyper_util::rt::TokioIo;
use tokio::time::timeout;

use crate::{
    proxy::state::{Document, VERSION},
    transport::{Address, address::Socket},
};

/// Time for one answer.
const TIME: Duration = Duration::from_secs(5);
/// Maximum size of an answer, in bytes.
const MAX_ANSWER: usize = 64 << 20;
/// Maximum length of a refusal that is shown, in characters.
const MAX_SHOWN: usize = 200;

/// The reason why the running proxy cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum AdminError {
    /// The variable is empty.
    #[error(
        "the admin listener is off: NSM_ADMIN_ADDRESS is empty or not accepted; set it, or give --admin ADDRESS"
    )]
    Off,
    /// Nothing listens.
    #[error(
        "no proxy answers at {0}: it does not run here, or NSM_ADMIN_ADDRESS differs; see --admin ADDRESS"
    )]
    NoProxy(Address, #[source] io::Error),
    /// There was no answer, or only a part of it.
    #[error("the proxy at {0} does not answer within {TIME:?}")]
    Slow(Address),
    /// The answer is not one of HTTP.
    #[error("no answer of HTTP from {0}")]
    Broken(Address, #[source] tower::BoxError),
    /// The listener refuses the request.
    #[error("{path} is refused by the listener at {target} with {status}: {text}")]
    Refused {
        /// The listener.
        target: Address,
        /// The path of the request.
        path: String,
        /// The status of the answer.
        status: StatusCode,
        /// The beginning of the answer.
        text: String,
    },
    /// The document is that of another program.
    #[error("the state at {0} cannot be read")]
    Document(Address, #[source] serde_json::Error),
    /// The document is that of another version of this program.
    #[error("the state at {target} has version {version}, this program reads version {VERSION}")]
    Version {
        /// The listener.
        target: Address,
        /// The version of the document.
        version: u64,
    },
}

/// The state of the running proxy.
pub(super) async fn document(address: Option<&Address>) -> Result<Document, AdminError> {
    let target = address.ok_or(AdminError::Off)?;
    let bytes = get(address, "/state").await?;
    let broken = |error| AdminError::Document(target.clone(), error);
    let document: serde_json::Value = serde_json::from_slice(&bytes).map_err(broken)?;
    let version = document.get("version").and_then(serde_json::Value::as_u64).unwrap_or_default();
    if version != u64::from(VERSION) {
        return Err(AdminError::Version { target: target.clone(), version });
    }
    serde_json::from_value(document).map_err(broken)
}

/// The answer to a GET of a path.
pub(super) async fn get(address: Option<&Address>, path: &str) -> Result<Bytes, AdminError> {
    let target = address.ok_or(AdminError::Off)?;
    let slow = |_| AdminError::Slow(target.clone());
    let socket = timeout(TIME, Socket::connect(target)).await.map_err(slow)?;
    let socket = socket.map_err(|error| AdminError::NoProxy(target.clone(), error))?;
    let answer = timeout(TIME, ask(socket, target, path)).await.map_err(slow)?;
    let (status, body) = answer.map_err(|error| AdminError::Broken(target.clone(), error))?;
    if status != StatusCode::OK {
        let text = String::from_utf8_lossy(&body).trim().chars().take(MAX_SHOWN).collect();
        return Err(AdminError::Refused { target: target.clone(), path: path.into(), status, text });
    }
    Ok(body)
}

async fn ask(socket: Socket, target: &Address, path: &str) -> Result<(StatusCode, Bytes), tower::BoxError> {
    let (mut sender, connection) = handshake(TokioIo::new(socket)).await?;
    let host = match target {
        Address::Unix(_) => "localhost",
        Address::Tcp(address) => address,
    };
    let request = Request::get(path).header(HOST, host).header(CONNECTION, "close").body(Body::empty())?;
    let exchange = async {
        let answer = sender.send_request(request).await?;
        let status = answer.status();
        Ok((status, to_bytes(Body::new(answer.into_body()), MAX_ANSWER).await?))
    };
    tokio::select! {
        biased;
        answered = exchange => answered,
        Err(error) = connection => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::UnixListener,
    };

    use super::*;
    use crate::chain::causes;

    /// The error for a listener that answers with this text.
    async fn error_of(answer: &'static str) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let serve = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 1024];
            let length = stream.read(&mut request).await.unwrap();
            assert!(request[..length].starts_with(b"GET /state HTTP/1.1\r\n"));
            stream.write_all(answer.as_bytes()).await.unwrap();
        };
        let target = Address::Unix(path);
        let (read, ()) = tokio::join!(document(Some(&target)), serve);
        causes(&read.unwrap_err()).to_string()
    }

    #[tokio::test]
    async fn without_a_proxy_the_error_names_the_address() {
        let folder = tempfile::tempdir().unwrap();
        let target = Address::Unix(folder.path().join("none.sock"));
        let error = causes(&document(Some(&target)).await.unwrap_err()).to_string();
        assert!(error.starts_with("no proxy answers at unix:///"), "{error}");
        let off = document(None).await.unwrap_err().to_string();
        assert!(off.contains("NSM_ADMIN_ADDRESS"), "{off}");
    }

    #[tokio::test]
    async fn an_answer_that_is_no_state_is_named() {
        let refused = "HTTP/1.1 404 Not Found\r\ncontent-length: 5\r\n\r\nnope\n";
        assert!(error_of(refused).await.contains("with 404 Not Found: nope"));
        assert!(error_of("SSH-2.0-OpenSSH\r\n").await.starts_with("no answer of HTTP from unix:///"));
        assert!(error_of("").await.starts_with("no answer of HTTP from unix:///"));
        let html = "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\n<html>";
        assert!(error_of(html).await.contains("cannot be read"));
        let other = "HTTP/1.1 200 OK\r\ncontent-length: 13\r\n\r\n{\"version\":9}";
        assert!(error_of(other).await.contains("has version 9, this program reads version 1"));
        let cut = "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{";
        assert!(error_of(cut).await.starts_with("no answer of HTTP from unix:///"));
    }
}
