// SPDX-License-Identifier: Apache-2.0

//! Encodes and decodes messages in buffers that are as large as the messages.
//!
//! A stream keeps its buffer for as long as it is open. The library's own codec allocates 8 KiB for
//! each; an open monitor stream needs that of the last event that it has sent.

use std::marker::PhantomData;

use prost::Message;
use tonic::{
    Status,
    codec::{BufferSettings, Codec, EncodeBuf, Encoder},
};
use tonic_prost::{ProstDecoder, ProstEncoder};

/// Bytes of a buffer before its first message.
const FIRST: usize = 256;
/// Bytes of messages that are ready from which on they are sent without waiting for more.
const YIELD: usize = 32 << 10;

/// Codec of all generated services and clients.
#[derive(Clone, Debug)]
pub(crate) struct Fitted<T, U>(PhantomData<(T, U)>);

/// Encodes messages of one type.
#[derive(Clone, Debug)]
pub(crate) struct FittedEncoder<T>(ProstEncoder<T>);

fn settings() -> BufferSettings {
    BufferSettings::new(FIRST, YIELD)
}

impl<T, U> Default for Fitted<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> Codec for Fitted<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = FittedEncoder<T>;
    type Decoder = ProstDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        FittedEncoder(ProstEncoder::new(settings()))
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstDecoder::new(settings())
    }
}

impl<T: Message> Encoder for FittedEncoder<T> {
    type Item = T;
    type Error = Status;

    fn encode(&mut self, item: T, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        // The message is written in small pieces, for which the buffer would double again and
        // again.
        buffer.reserve(item.encoded_len());
        self.0.encode(item, buffer)
    }

    fn buffer_settings(&self) -> BufferSettings {
        settings()
    }
}

#[cfg(test)]
mod tests {
    use futures::{StreamExt, future::poll_fn, stream};
    use hyper::body::Body as _;
    use tonic::codec::EncodeBody;

    use super::*;
    use crate::api::Connection;

    /// Bytes of the message with which a stream begins, and of the buffer that it keeps for that.
    async fn buffer_of(id: String) -> (usize, usize) {
        let connection = Connection { id, ..Connection::default() };
        let encoder = Fitted::<Connection, Connection>::default().encoder();
        let messages = stream::iter([Ok(connection)]).chain(stream::pending());
        let mut body = Box::pin(EncodeBody::new_server(encoder, messages, None, Default::default(), None));
        let frame = poll_fn(|cx| body.as_mut().poll_frame(cx)).await.unwrap().unwrap();
        let sent = frame.into_data().unwrap();
        drop(body);
        (sent.len(), sent.try_into_mut().unwrap().capacity())
    }

    #[tokio::test]
    async fn a_stream_keeps_a_buffer_as_large_as_its_message() {
        let (sent, kept) = buffer_of("x".repeat(3000)).await;
        assert!(sent > 3000 && kept - sent < 16, "{kept} bytes for {sent}");
        let (_, kept) = buffer_of("x".into()).await;
        assert_eq!(kept, FIRST);
    }
}
