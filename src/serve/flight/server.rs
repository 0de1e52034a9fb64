//! The Flight service with results that are not copied.
//!
//! tonic copies every message into a buffer behind its header. The bodies of results are most of what kymo sends, and each
//! has a buffer of its own, so `DoGet` sends them from there.

use std::convert::Infallible;
use std::mem::take;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use arrow_flight::flight_service_server::{FlightService, FlightServiceServer};
use arrow_flight::{FlightData, Ticket};
use futures::{StreamExt, stream};
use http::{HeaderMap, Request, Response};
use http_body::Frame;
use prost::Message;
use prost::bytes::{BufMut, Bytes, BytesMut};
use prost::encoding::{WireType, encode_key, encode_varint};
use tonic::body::Body;
use tonic::codegen::{BoxFuture, Service};
use tonic::server::{Grpc, NamedService, ServerStreamingService};
use tonic::{Code, Status};
use tonic_prost::ProstCodec;

use super::{Answers, Flight};

const DO_GET: &str = "/arrow.flight.protocol.FlightService/DoGet";
/// The number of `FlightData.data_body` in Flight's protocol. It is the last field.
const DATA_BODY: u32 = 1_000;
/// Before each message: whether it is compressed, and its length (gRPC over HTTP/2).
const PREFIX_BYTES: usize = 5;
/// A body up to this size is copied behind its header, as a frame of its own costs more.
const COPIED_BYTES_MAX: usize = 8 << 10;
/// No further message is put into the same frame after so many bytes.
const FRAME_BYTES: usize = 32 << 10;

/// Serves [`Flight`].
#[derive(Clone)]
pub(in crate::serve) struct FlightServer {
    flight: Arc<Flight>,
    service: FlightServiceServer<Flight>,
    request_bytes_max: usize,
}

impl FlightServer {
    pub(in crate::serve) fn new(flight: Arc<Flight>, request_bytes_max: usize) -> FlightServer {
        let service = FlightServiceServer::from_arc(Arc::clone(&flight)).max_decoding_message_size(request_bytes_max);
        FlightServer { flight, service, request_bytes_max }
    }
}

impl NamedService for FlightServer {
    const NAME: &'static str = FlightServiceServer::<Flight>::NAME;
}

impl Service<Request<Body>> for FlightServer {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Response<Body>, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        if request.uri().path() != DO_GET {
            return self.service.call(request);
        }
        let answers = Arc::default();
        let call = DoGet { flight: Arc::clone(&self.flight), answers: Arc::clone(&answers) };
        let codec = ProstCodec::<FlightData, Ticket>::default();
        let mut grpc = Grpc::new(codec).max_decoding_message_size(self.request_bytes_max);
        Box::pin(async move {
            // tonic reads the request and writes the head of the answer. It does not see the messages.
            let response = grpc.server_streaming(call, request).await;
            let answers = answers.lock().unwrap_or_else(PoisonError::into_inner).take();
            Ok(match answers {
                Some(answers) => response.map(|_| Body::new(Messages::of(answers))),
                // The call has failed, which the head says.
                None => response,
            })
        })
    }
}

/// One call, which puts its messages here.
struct DoGet {
    flight: Arc<Flight>,
    answers: Arc<Mutex<Option<Answers<FlightData>>>>,
}

impl ServerStreamingService<Ticket> for DoGet {
    type Response = FlightData;
    type ResponseStream = stream::Empty<Result<FlightData, Status>>;
    type Future = BoxFuture<tonic::Response<Self::ResponseStream>, Status>;

    fn call(&mut self, request: tonic::Request<Ticket>) -> Self::Future {
        let (flight, answers) = (Arc::clone(&self.flight), Arc::clone(&self.answers));
        Box::pin(async move {
            let response = flight.do_get(request).await?;
            Ok(response.map(|messages| {
                *answers.lock().unwrap_or_else(PoisonError::into_inner) = Some(messages);
                stream::empty()
            }))
        })
    }
}

/// The body of an answer over HTTP: messages, and how the call ended.
struct Messages {
    /// `None` after the end.
    answers: Option<Answers<FlightData>>,
    /// What is sent next.
    buffer: BytesMut,
    /// A message's body, which comes after `buffer`.
    body: Bytes,
    /// The end, which comes after both.
    end: Option<Status>,
}

impl Messages {
    fn of(answers: Answers<FlightData>) -> Messages {
        Messages { answers: Some(answers), buffer: BytesMut::new(), body: Bytes::new(), end: None }
    }

    fn next(&mut self) -> Option<Frame<Bytes>> {
        if !self.buffer.is_empty() {
            return Some(Frame::data(take(&mut self.buffer).freeze()));
        }
        if !self.body.is_empty() {
            return Some(Frame::data(take(&mut self.body)));
        }
        self.end.take().map(|status| Frame::trailers(trailers(&status)))
    }

    /// Whether `next` must be sent before another message is asked for.
    fn is_full(&self) -> bool {
        self.buffer.len() >= FRAME_BYTES || !self.body.is_empty()
    }
}

impl http_body::Body for Messages {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = &mut *self;
        while !this.is_full()
            && let Some(answers) = &mut this.answers
        {
            match answers.poll_next_unpin(context) {
                Poll::Ready(Some(Ok(message))) => this.body = write(message, &mut this.buffer),
                Poll::Ready(end) => {
                    let status = end.and_then(Result::err).unwrap_or_else(|| Status::new(Code::Ok, ""));
                    (this.answers, this.end) = (None, Some(status));
                }
                Poll::Pending if this.buffer.is_empty() => return Poll::Pending,
                Poll::Pending => break,
            }
        }
        Poll::Ready(this.next().map(Ok))
    }
}

fn trailers(status: &Status) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    match status.add_header(&mut trailers) {
        Ok(()) => trailers,
        // Its text is no header.
        Err(refused) => {
            let mut trailers = HeaderMap::new();
            let _ = refused.add_header(&mut trailers);
            trailers
        }
    }
}

/// Writes a message, without its body if that is long. Returns this body, which is the end of the message.
fn write(mut message: FlightData, to: &mut BytesMut) -> Bytes {
    let body = take(&mut message.data_body);
    let start = to.len();
    to.put_bytes(0, PREFIX_BYTES);
    // A buffer that grows has room for every message.
    let _ = message.encode(to);
    if !body.is_empty() {
        encode_key(DATA_BODY, WireType::LengthDelimited, to);
        encode_varint(body.len() as u64, to);
    }
    let is_copied = body.len() <= COPIED_BYTES_MAX;
    if is_copied {
        to.extend_from_slice(&body);
    }
    let body = if is_copied { Bytes::new() } else { body };
    let length = to.len() - start - PREFIX_BYTES + body.len();
    // Limits of results are far below this.
    let length = u32::try_from(length).unwrap_or(u32::MAX);
    let mut prefix = &mut to[start..start + PREFIX_BYTES];
    prefix.put_u8(0);
    prefix.put_u32(length);
    body
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(body_bytes: usize) -> FlightData {
        let body = (0..body_bytes).map(|at| at.to_le_bytes()[0]).collect::<Vec<_>>().into();
        FlightData { data_header: Bytes::from_static(b"header"), data_body: body, ..FlightData::default() }
    }

    /// Sends messages as an answer, and reads it.
    async fn sent(messages: Vec<Result<FlightData, Status>>) -> (Vec<Bytes>, HeaderMap) {
        let (mut frames, mut trailers) = (Vec::new(), HeaderMap::new());
        let mut body = Messages::of(stream::iter(messages).boxed());
        while let Some(Ok(frame)) =
            std::future::poll_fn(|context| http_body::Body::poll_frame(Pin::new(&mut body), context)).await
        {
            assert!(trailers.is_empty(), "trailers are the end");
            match frame.into_data() {
                Ok(data) => frames.push(data),
                Err(frame) => trailers = frame.into_trailers().unwrap(),
            }
        }
        (frames, trailers)
    }

    #[tokio::test]
    async fn messages_are_those_of_grpc() {
        let lengths = [0, 1, COPIED_BYTES_MAX, COPIED_BYTES_MAX + 1, 300_000, 10];
        let (frames, trailers) = sent(lengths.map(|length| Ok(message(length))).into()).await;
        assert_eq!(trailers.get("grpc-status").unwrap(), "0");
        // The three short ones, and what is before the bodies of the two long ones, is joined.
        assert_eq!(frames.len(), 5);
        let mut bytes = &frames.concat()[..];
        for length in lengths {
            let (prefix, rest) = bytes.split_first_chunk::<PREFIX_BYTES>().unwrap();
            let [0, a, b, c, d] = *prefix else { panic!("it is compressed") };
            let (encoded, rest) = rest.split_at(u32::from_be_bytes([a, b, c, d]) as usize);
            assert_eq!(FlightData::decode(encoded).unwrap(), message(length));
            bytes = rest;
        }
        assert!(bytes.is_empty());
    }

    #[tokio::test]
    async fn a_long_body_is_sent_from_where_it_is() {
        let message = message(100_000);
        let place = message.data_body.as_ptr();
        let (frames, _) = sent(vec![Ok(message)]).await;
        assert_eq!((frames.len(), frames[1].as_ptr()), (2, place));
    }

    #[tokio::test]
    async fn a_failure_comes_after_what_was_before_it() {
        let (frames, trailers) = sent(vec![Ok(message(5)), Err(Status::not_found("gone"))]).await;
        assert_eq!((frames.len(), trailers.get("grpc-status").unwrap().as_bytes()), (1, &b"5"[..]));
        assert_eq!(trailers.get("grpc-message").unwrap(), "gone");
    }
}
