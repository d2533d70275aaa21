//! gRPC's framing, both ways, with nothing kept between messages.
//!
//! tonic's own codec keeps a buffer of the size of the largest message that a stream has ever carried: 3 MB a
//! stream after one push of 3 MB, for ever. Here a response is handed to HTTP/2 as the shared bytes it is made of.

use super::session::Session;
use crate::Response;
use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue};
use http_body::{Body as _, Frame};
use std::{
    collections::VecDeque,
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tonic::{Status, body::Body};

/// What the proxy sends.
pub(super) struct Requests {
    body: Body,
    buffer: BytesMut,
    bytes_max: usize,
}

const PREFIX: usize = 5;

impl Requests {
    pub(super) fn new(body: Body, bytes_max: usize) -> Self {
        Self { body, buffer: BytesMut::new(), bytes_max }
    }

    /// The next message. Nothing is lost if the future is dropped before it is done.
    pub(super) async fn next(&mut self) -> Option<Result<Bytes, Status>> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Status>>> {
        loop {
            match self.message() {
                Ok(None) => {}
                Ok(Some(message)) => return Poll::Ready(Some(Ok(message))),
                Err(status) => return Poll::Ready(Some(Err(status))),
            }
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                }
                Some(Err(status)) => return Poll::Ready(Some(Err(status))),
                None => return Poll::Ready(None),
            }
        }
    }

    fn message(&mut self) -> Result<Option<Bytes>, Status> {
        let Some(mut prefix) = self.buffer.get(..PREFIX) else { return Ok(None) };
        if prefix.get_u8() != 0 {
            return Err(Status::unimplemented("compressed request"));
        }
        let length = prefix.get_u32() as usize;
        if length > self.bytes_max {
            return Err(Status::resource_exhausted(format!("request of {length} bytes, limit {}", self.bytes_max)));
        }
        let Some(message) = self.buffer.get(PREFIX..PREFIX + length) else { return Ok(None) };
        let message = Bytes::copy_from_slice(message);
        self.buffer.advance(PREFIX + length);
        if self.buffer.is_empty() {
            // `Node` comes once and is tens of KB; a BytesMut never shrinks.
            self.buffer = BytesMut::new();
        }
        Ok(Some(message))
    }
}

type Next = Pin<Box<dyn Future<Output = (Session, Option<Result<Response, Status>>)> + Send>>;

/// What the proxy gets. hyper asks for the next chunk when the last one has left, so a proxy that does not
/// read holds back its own stream and nothing else.
struct Responses {
    /// Between two polls exactly one of them is there, until the stream has ended.
    session: Option<Session>,
    next: Option<Next>,
    parts: VecDeque<Bytes>,
}

pub(super) fn response(session: Session) -> http::Response<Body> {
    let body = Responses { session: Some(session), next: None, parts: VecDeque::new() };
    let mut response = http::Response::new(Body::new(body));
    response.headers_mut().insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}

impl http_body::Body for Responses {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        loop {
            if let Some(chunk) = next_chunk(&mut self.parts) {
                return Poll::Ready(Some(Ok(Frame::data(chunk))));
            }
            self.parts = VecDeque::new();
            if let Some(session) = self.session.take() {
                self.next = Some(Box::pin(session.next()));
            }
            let Some(next) = &mut self.next else { return Poll::Ready(None) };
            let (session, response) = ready!(next.as_mut().poll(cx));
            self.next = None;
            let status = match response {
                Some(Ok(response)) => {
                    self.session = Some(session);
                    self.parts = message(response);
                    continue;
                }
                Some(Err(status)) => status,
                None => Status::ok(""),
            };
            let mut trailers = HeaderMap::new();
            return Poll::Ready(Some(status.add_header(&mut trailers).map(|()| Frame::trailers(trailers))));
        }
    }
}

fn message(response: Response) -> VecDeque<Bytes> {
    let length = u32::try_from(response.length()).expect("what is held in memory for one proxy is below 4 GiB");
    let mut own = Vec::with_capacity(PREFIX + response.own.len());
    own.push(0);
    own.extend_from_slice(&length.to_be_bytes());
    own.extend_from_slice(&response.own);
    std::iter::once(own.into()).chain(response.shared).collect()
}

/// Each chunk costs a `write`, about as much as copying 8 KB: join what is smaller, share what is larger.
fn next_chunk(parts: &mut VecDeque<Bytes>) -> Option<Bytes> {
    const SMALL: usize = 8 << 10;
    const JOINED_MAX: usize = 16 << 10;
    let small = |part: &Bytes| part.len() < SMALL;
    let first = parts.pop_front()?;
    if !small(&first) || !parts.front().is_some_and(small) {
        return Some(first);
    }
    let mut joined = Vec::with_capacity(JOINED_MAX);
    joined.extend_from_slice(&first);
    while let Some(part) = parts.front().filter(|part| small(part) && joined.len() + part.len() <= JOINED_MAX) {
        joined.extend_from_slice(part);
        parts.pop_front();
    }
    Some(joined.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_parts_are_shared_and_small_ones_joined() {
        let (a, b, c) = (Bytes::from(vec![1; 100]), Bytes::from(vec![2; 9000]), Bytes::from(vec![3; 6000]));
        let response = Response {
            type_url: "".into(),
            nonce: String::new(),
            version: String::new(),
            names: Vec::new(),
            removed: Vec::new(),
            own: vec![9; 7],
            shared: vec![a.clone(), a, b.clone(), c.clone(), c.clone(), c],
        };
        let mut parts = message(response);
        let chunks: Vec<_> = std::iter::from_fn(|| next_chunk(&mut parts)).collect();
        assert_eq!(chunks.iter().map(Bytes::len).collect::<Vec<_>>(), [5 + 7 + 200, 9000, 12000, 6000]);
        assert_eq!(chunks[1].as_ptr(), b.as_ptr());
        assert_eq!(chunks[0][..5], [0, 0, 0, (27_207_u32 >> 8) as u8, 27_207_u32 as u8]);
    }

    #[tokio::test]
    async fn requests_are_read_and_limited() {
        let body = |bytes: Vec<u8>| Body::new(http_body_util::Full::new(Bytes::from(bytes)));
        let two = [&[0, 0, 0, 0, 2][..], b"ab", &[0, 0, 0, 0, 1], b"c", &[0, 0, 0, 0, 9], b"cut"].concat();
        let mut requests = Requests::new(body(two), 4);
        assert_eq!(requests.next().await.unwrap().unwrap(), "ab");
        assert_eq!(requests.next().await.unwrap().unwrap(), "c");
        assert_eq!(requests.next().await.unwrap().unwrap_err().code(), tonic::Code::ResourceExhausted);
        let mut compressed = Requests::new(body(vec![1, 0, 0, 0, 0]), 4);
        assert_eq!(compressed.next().await.unwrap().unwrap_err().code(), tonic::Code::Unimplemented);
    }
}
