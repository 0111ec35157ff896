//! Answers as the server sends them.

use bytes::Bytes;
use http_body_util::{Either, Full};
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use hyper::{Response, StatusCode};
use serde::Serialize;

use super::problem::Problem;

/// What goes back.
pub(super) type Answer = Response<Body>;

/// A body that is there, or one that goes on.
pub(super) type Body = Either<Full<Bytes>, http_body_util::channel::Channel<Bytes>>;

/// What a function that answers a request gives.
pub(super) type Answered = Result<Answer, Problem>;

/// An answer in JSON.
pub(super) fn json(content: &impl Serialize) -> Answer {
    json_as("application/json", content)
}

/// The same, of a kind of JSON.
pub(super) fn json_as(kind: &'static str, content: &impl Serialize) -> Answer {
    match serde_json::to_vec(content) {
        Ok(body) => whole(StatusCode::OK, kind, body),
        // Nothing that is told here has a name that is not a text.
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, &format!("{error}\n")),
    }
}

/// An answer for people.
pub(super) fn text(status: StatusCode, body: &str) -> Answer {
    whole(status, "text/plain; charset=utf-8", body.to_owned())
}

/// An answer of any kind.
pub(super) fn whole(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Answer {
    of(status, kind, Either::Left(Full::from(body.into())))
}

/// An answer with any body. What stands there now may be wrong in a moment, and is for nobody's cache.
pub(super) fn of(status: StatusCode, kind: &'static str, body: Body) -> Answer {
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer
}
