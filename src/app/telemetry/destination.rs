// SPDX-License-Identifier: Apache-2.0
//! The destination of spans or metrics, and the verification of their receiver.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use opentelemetry_otlp::{
    ExporterBuildError, WithExportConfig, WithTonicConfig,
    tonic_types::transport::{Certificate, ClientTlsConfig, Identity},
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

use super::TelemetryError;

/// Maximum size of a file, in bytes.
const MAX_FILE: u64 = 1 << 20;

/// Default address of the collector.
pub const DEFAULT_ENDPOINT: &str = "http://localhost:4317";

/// The collector of exported spans or metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// `http://host:port`, or `https://host:port` for TLS.
    pub endpoint: String,
    /// File of the certificates that verify an `https` collector, in PEM. `None` means those of the
    /// machine.
    pub certificate: Option<PathBuf>,
    /// Files by which this process authenticates to an `https` collector. `None` means without
    /// authentication.
    pub client: Option<ClientFiles>,
}

/// A certificate and its private key, each in a file in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientFiles {
    /// The certificate, with its chain.
    pub certificate: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// A file for an `https` collector cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It cannot be read.
    #[error("cannot read {}", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The error of the file system.
        source: io::Error,
    },
    /// It was read, but lacks the expected content.
    #[error("{} has no {wanted} in PEM within its first MiB", .path.display())]
    Without {
        /// The file.
        path: PathBuf,
        /// The missing content.
        wanted: &'static str,
    },
}

impl Destination {
    /// The collector at `http://host:port` or `https://host:port`.
    pub fn at(endpoint: impl Into<String>) -> Self {
        Self { endpoint: endpoint.into(), certificate: None, client: None }
    }

    /// Builds an exporter to this destination, given a builder of its signal.
    pub(super) fn exporter<B, E>(
        &self,
        builder: B,
        build: impl FnOnce(B) -> Result<E, ExporterBuildError>,
    ) -> Result<E, TelemetryError>
    where
        B: WithExportConfig + WithTonicConfig,
    {
        let mut builder = builder.with_endpoint(&self.endpoint);
        let tls = self.tls()?;
        let by_machine = tls.is_some() && self.certificate.is_none();
        if let Some(tls) = tls {
            builder = builder.with_tls_config(tls);
        }
        build(builder).map_err(|error| match by_machine {
            true => TelemetryError::Machine(error),
            false => TelemetryError::Exporter(error),
        })
    }

    /// The verification of an `https` collector; `None` for one without TLS. Certificates are read
    /// once, at the start.
    fn tls(&self) -> Result<Option<ClientTlsConfig>, FileError> {
        if !self.endpoint.starts_with("https:") {
            return Ok(None);
        }
        let mut tls = ClientTlsConfig::new();
        tls = match &self.certificate {
            Some(file) => tls.ca_certificate(Certificate::from_pem(certificates(file)?)),
            None => tls.with_native_roots(),
        };
        if let Some(ClientFiles { certificate, key }) = &self.client {
            let certificate = certificates(certificate)?;
            let key_pem = read(key)?;
            has(PrivateKeyDer::from_pem_slice(&key_pem).is_ok(), "private key", key)?;
            tls = tls.identity(Identity::from_pem(certificate, key_pem));
        }
        Ok(Some(tls))
    }
}

fn certificates(path: &Path) -> Result<Vec<u8>, FileError> {
    let pem = read(path)?;
    has(CertificateDer::from_pem_slice(&pem).is_ok(), "certificate", path)?;
    Ok(pem)
}

fn has(found: bool, wanted: &'static str, path: &Path) -> Result<(), FileError> {
    if found { Ok(()) } else { Err(FileError::Without { path: path.to_owned(), wanted }) }
}

fn read(path: &Path) -> Result<Vec<u8>, FileError> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(MAX_FILE).read_to_end(&mut bytes));
    read.map_err(|source| FileError::Unreadable { path: path.to_owned(), source })?;
    Ok(bytes)
}
