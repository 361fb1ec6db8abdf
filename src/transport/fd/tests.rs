// SPDX-License-Identifier: Apache-2.0

use std::{
    io::{self, IoSlice, PipeReader, Read, Write},
    mem::MaybeUninit,
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
    time::Duration,
};

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    time::Instant,
};

use super::{
    hub::{MAX_QUEUED, MAX_UNCLAIMED, UNCLAIMED},
    *,
};
use crate::{
    api::Inode,
    testing::{eventually, soon},
};

/// A descriptor to send, and a witness that detects when the last copy of it is closed.
fn pipe() -> (Arc<OwnedFd>, Witness) {
    let (reader, writer) = io::pipe().unwrap();
    let writer: OwnedFd = writer.into();
    let inode = Inode::of(&writer).unwrap();
    rustix::io::ioctl_fionbio(&reader, true).unwrap();
    (Arc::new(writer), Witness { reader, inode })
}

struct Witness {
    reader: PipeReader,
    inode: Inode,
}

impl Witness {
    /// Whether all copies of the writing end are closed.
    fn is_closed(&self) -> bool {
        matches!((&self.reader).read(&mut [0]), Ok(0))
    }

    /// Waits until all copies are closed. Not always at once: a process that another test starts
    /// has copies until its exec.
    async fn closes(&self) {
        eventually(|| self.is_closed(), |closed| *closed).await;
    }
}

fn pair() -> (FdStream, FdStream) {
    let (left, right) = UnixStream::pair().unwrap();
    let left = FdStream::new(left);
    let right = FdStream::new(right);
    right.hub().keep_received();
    (left, right)
}

async fn all_close(witnesses: &[Witness]) {
    for witness in witnesses {
        witness.closes().await;
    }
}

async fn read(stream: &mut FdStream, bytes: usize) -> Vec<u8> {
    let mut buffer = vec![0; bytes];
    tokio::time::timeout_at(soon(), stream.read_exact(&mut buffer)).await.unwrap().unwrap();
    buffer
}

fn at_once() -> Instant {
    Instant::now() + Duration::from_millis(1)
}

#[tokio::test]
async fn a_descriptor_arrives_with_its_bytes_and_is_the_same_file() {
    let (mut left, mut right) = pair();
    let (fd, witness) = pipe();
    left.hub().send(fd).unwrap();
    assert_eq!(left.hub().queued(), 1);
    left.write_all(b"hello").await.unwrap();
    assert_eq!(left.hub().queued(), 0);
    assert_eq!(read(&mut right, 5).await, b"hello");
    let fd = right.hub().take(witness.inode, soon()).await.unwrap();
    assert!(!witness.is_closed());
    std::fs::File::from(fd).write_all(b"x").unwrap();
    let mut byte = [0];
    (&witness.reader).read_exact(&mut byte).unwrap();
    assert_eq!(&byte, b"x");
    witness.closes().await;
}

#[tokio::test]
async fn two_hundred_at_once_all_leave_with_one_small_write() {
    let (mut left, mut right) = pair();
    let (fds, witnesses): (Vec<_>, Vec<_>) = (0..200).map(|_| pipe()).unzip();
    let queued = left.hub().queue(&SendFds(fds)).unwrap();
    // The smallest TLS record has 22 bytes.
    left.write_all(&[7; 22]).await.unwrap();
    drop(queued);
    assert_eq!(read(&mut right, 22).await, [7; 22]);
    for witness in &witnesses {
        assert!(right.hub().take(witness.inode, soon()).await.is_some());
    }
    all_close(&witnesses).await;
}

#[tokio::test]
async fn more_than_may_wait_is_refused_whole_and_nothing_stays_open() {
    let (left, _right) = pair();
    let (fds, witnesses): (Vec<_>, Vec<_>) = (0..MAX_QUEUED).map(|_| pipe()).unzip();
    let queued = left.hub().queue(&SendFds(fds)).unwrap();
    let (one, refused) = pipe();
    let error = left.hub().send(one).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::QuotaExceeded);
    assert!(error.to_string().contains("257") && error.to_string().contains("256"), "{error}");
    refused.closes().await;
    drop(queued);
    all_close(&witnesses).await;
}

#[tokio::test]
async fn unclaimed_descriptors_are_bounded_and_closed_at_the_end() {
    let (mut left, mut right) = pair();
    let mut witnesses = Vec::new();
    for _ in 0..MAX_UNCLAIMED + 3 {
        let (fd, witness) = pipe();
        left.hub().send(fd).unwrap();
        left.write_all(b"x").await.unwrap();
        read(&mut right, 1).await;
        witnesses.push(witness);
    }
    let hub = right.hub();
    assert_eq!(hub.unclaimed(), MAX_UNCLAIMED);
    let (oldest, kept) = witnesses.split_at(3);
    all_close(oldest).await;
    assert!(!kept.iter().any(Witness::is_closed));
    drop(right);
    all_close(kept).await;
}

#[tokio::test]
async fn unsent_descriptors_of_an_ended_call_are_withdrawn() {
    let (mut left, mut right) = pair();
    let ((stays, first), (goes, second)) = (pipe(), pipe());
    left.hub().send(stays).unwrap();
    drop(left.hub().queue(&SendFds(vec![goes])).unwrap());
    second.closes().await;
    left.write_all(b"x").await.unwrap();
    read(&mut right, 1).await;
    assert!(right.hub().take(first.inode, soon()).await.is_some());
    assert!(right.hub().take(second.inode, at_once()).await.is_none());
}

#[tokio::test]
async fn a_claim_waits_for_its_arrival_and_each_arrival_satisfies_one() {
    let (mut left, mut right) = pair();
    let (fd, witness) = pipe();
    let hub = right.hub();
    let claim = tokio::spawn(async move { hub.take(witness.inode, soon()).await });
    let (other, _) = pipe();
    left.hub().send(other).unwrap();
    left.hub().send(fd).unwrap();
    left.write_all(b"x").await.unwrap();
    read(&mut right, 1).await;
    assert_eq!(Inode::of(claim.await.unwrap().unwrap()).unwrap(), witness.inode);
    assert!(right.hub().take(witness.inode, at_once()).await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_claim_ends_at_its_deadline_if_the_descriptor_never_comes() {
    let (_left, right) = pair();
    let (_fd, witness) = pipe();
    let start = Instant::now();
    assert!(right.hub().take(witness.inode, start + Duration::from_secs(15)).await.is_none());
    assert_eq!(start.elapsed().as_secs(), 15);
}

#[tokio::test]
async fn the_end_of_the_connection_ends_all_claims() {
    let (_left, right) = pair();
    let (fd, witness) = pipe();
    let hub = right.hub();
    let claiming = Arc::clone(&hub);
    let claim = tokio::spawn(async move { claiming.take(witness.inode, soon()).await });
    tokio::task::yield_now().await;
    drop(right);
    assert!(claim.await.unwrap().is_none());
    assert_eq!(hub.send(fd).unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    witness.closes().await;
}

#[tokio::test]
async fn a_connection_receives_none_until_it_keeps_them() {
    let (left, right) = UnixStream::pair().unwrap();
    let mut left = FdStream::new(left);
    let mut right = FdStream::new(right);
    let ((before, first), (after, second)) = (pipe(), pipe());
    left.hub().send(before).unwrap();
    left.write_all(b"x").await.unwrap();
    assert_eq!(read(&mut right, 1).await, b"x");
    first.closes().await;
    right.hub().keep_received();
    left.hub().send(after).unwrap();
    left.write_all(b"x").await.unwrap();
    read(&mut right, 1).await;
    assert_eq!(right.hub().unclaimed(), 1);
    assert!(!second.is_closed());
}

/// A client that sends the end of its handshake and its first call at once.
#[tokio::test]
async fn bytes_behind_a_handshake_are_read_after_it() {
    let (left, right) = UnixStream::pair().unwrap();
    let mut left = FdStream::new(left);
    let mut right = FdStream::new(right);
    for handshake in [1, 2, 100, 4000] {
        right.hub().receive(Receives::Later);
        let (fd, witness) = pipe();
        left.write_all(&vec![b'h'; handshake]).await.unwrap();
        left.hub().send(fd).unwrap();
        left.write_all(b"call").await.unwrap();
        let mut buffer = vec![0; 8192];
        let mut read_so_far = 0;
        while read_so_far < handshake {
            read_so_far += right.read(&mut buffer[read_so_far..]).await.unwrap();
        }
        assert_eq!(buffer[..read_so_far], vec![b'h'; handshake]);
        right.hub().keep_received();
        assert_eq!(read(&mut right, 4).await, b"call");
        assert!(right.hub().take(witness.inode, soon()).await.is_some());
    }
}

#[tokio::test]
async fn a_handshake_gets_its_bytes_without_their_descriptors() {
    let (mut left, mut right) = pair();
    right.hub().receive(Receives::Later);
    let (fd, witness) = pipe();
    left.hub().send(fd).unwrap();
    left.write_all(b"hello").await.unwrap();
    assert_eq!(read(&mut right, 5).await, b"hello");
    witness.closes().await;
    assert_eq!(right.hub().unclaimed(), 0);
}

#[tokio::test]
async fn a_descriptor_that_is_not_claimed_in_time_is_closed() {
    let (mut left, mut right) = pair();
    let (fd, witness) = pipe();
    left.hub().send(fd).unwrap();
    left.write_all(b"x").await.unwrap();
    read(&mut right, 1).await;
    tokio::time::pause();
    let mut byte = [0];
    let silent = tokio::time::timeout(UNCLAIMED + Duration::from_secs(1), right.read(&mut byte)).await;
    assert!(silent.is_err());
    witness.closes().await;
    assert_eq!(right.hub().unclaimed(), 0);
}

/// NSM's Go peers send one message of one byte for each descriptor, then the rest of the record.
#[tokio::test]
async fn one_byte_and_one_descriptor_a_message_is_understood() {
    let (left, right) = UnixStream::pair().unwrap();
    let mut right = FdStream::new(right);
    right.hub().keep_received();
    let (fds, witnesses): (Vec<_>, Vec<_>) = (0..10).map(|_| pipe()).unzip();
    let record = b"a record of TLS";
    for (byte, fd) in record.iter().zip(&fds) {
        send_one(&left, *byte, fd);
    }
    drop(fds);
    assert_eq!(left.try_write(&record[10..]).unwrap(), record.len() - 10);
    assert_eq!(read(&mut right, record.len()).await, record);
    for witness in &witnesses {
        assert!(right.hub().take(witness.inode, soon()).await.is_some());
    }
}

fn send_one(stream: &UnixStream, byte: u8, fd: &OwnedFd) {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let fds = [fd.as_fd()];
    assert!(ancillary.push(SendAncillaryMessage::ScmRights(&fds)));
    assert_eq!(sendmsg(stream, &[IoSlice::new(&[byte])], &mut ancillary, SendFlags::empty()).unwrap(), 1);
}

/// Partial writes, full buffers and merged reads on the way.
#[tokio::test]
async fn bytes_stay_whole_and_in_order_while_descriptors_pass() {
    let (mut left, mut right) = pair();
    let sent: Vec<u8> = (0..1_000_000_u32).map(|number| number as u8).collect();
    let (fds, witnesses): (Vec<_>, Vec<_>) = (0..100).map(|_| pipe()).unzip();
    let hub = right.hub();
    let bytes = sent.clone();
    let writing = tokio::spawn(async move {
        for (chunk, fd) in bytes.chunks(10_000).zip(fds) {
            left.hub().send(fd).unwrap();
            left.write_all(chunk).await.unwrap();
        }
    });
    assert!(read(&mut right, sent.len()).await == sent);
    writing.await.unwrap();
    eventually(|| hub.unclaimed(), |unclaimed| *unclaimed == 100).await;
    for witness in &witnesses {
        assert!(hub.take(witness.inode, soon()).await.is_some());
    }
}
