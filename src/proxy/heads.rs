//! Heads of messages as we work on them, as filters do, and as they may take them for a while.

use crate::filter::{Borrowed, Head, Headers};
use crate::refusal::Refusal;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, request, response};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::{ErrorType, OrErr};
use std::any::Any;

/// Changes a request's head in its plain form. Pingora's own keeps beside each name how it was spelled, and each change
/// costs twice. Names go on in lower case from here on, but for the usual ones, as HAProxy sends them. A target that is
/// not in origin form has to be set again.
pub(super) fn change_request<T>(head: &mut RequestHeader, change: impl FnOnce(&mut request::Parts) -> T) -> T {
    let nothing = RequestHeader::from(http::Request::new(()).into_parts().0);
    let mut parts = request::Parts::from(std::mem::replace(head, nothing));
    let changed = change(&mut parts);
    *head = RequestHeader::from(parts);
    changed
}

/// The same for a response.
pub(super) fn change_response<T>(
    head: &mut ResponseHeader,
    change: impl FnOnce(&mut response::Parts) -> pingora::Result<T>,
) -> pingora::Result<T> {
    let usual = head.status.canonical_reason();
    let reason = head.get_reason_phrase().filter(|reason| Some(*reason) != usual).map(str::to_owned);
    let nothing = ResponseHeader::from(http::Response::new(()).into_parts().0);
    let mut parts = response::Parts::from(std::mem::replace(head, nothing));
    let changed = change(&mut parts);
    *head = ResponseHeader::from(parts);
    if reason.is_some() {
        head.set_reason_phrase(reason.as_deref())?;
    }
    changed
}

/// A text as a header's value.
///
/// # Errors
/// If it holds what no value may.
pub(super) fn value(text: &str) -> pingora::Result<HeaderValue> {
    HeaderValue::from_str(text).or_err(ErrorType::InvalidHTTPHeader, "what is to be told is no header's value")
}

/// A request's head.
#[derive(Debug)]
pub(super) struct Request<'a>(pub(super) &'a mut RequestHeader);

/// A response's head.
#[derive(Debug)]
pub(super) struct Response<'a>(pub(super) &'a mut ResponseHeader);

/// A head that was taken.
#[derive(Debug)]
struct Taken<H>(H);

macro_rules! headers {
    ($($name:ty: $($status:ident)?;)*) => {$(
        impl Headers for $name {
            fn all(&self) -> &HeaderMap {
                &self.0.headers
            }

            fn set(&mut self, name: &HeaderName, value: &HeaderValue) -> Result<(), Refusal> {
                self.0.insert_header(name.clone(), value.clone()).map_err(|_unfit| Refusal::FilterFailed)
            }

            fn add(&mut self, name: &HeaderName, value: &HeaderValue) -> Result<(), Refusal> {
                self.0.append_header(name.clone(), value.clone()).map(|_| ()).map_err(|_unfit| Refusal::FilterFailed)
            }

            fn remove(&mut self, name: &HeaderName) {
                self.0.remove_header(name);
            }

            $(fn $status(&mut self, status: StatusCode) -> Result<(), Refusal> {
                self.0.$status(status).map_err(|_unfit| Refusal::FilterFailed)
            })?
        }
    )*};
}

headers! {
    Request<'_>: ;
    Response<'_>: set_status;
    Taken<RequestHeader>: ;
    Taken<ResponseHeader>: set_status;
}

impl Head for Taken<RequestHeader> {
    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

impl Head for Taken<ResponseHeader> {
    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

impl Borrowed for Request<'_> {
    /// What the connection goes by, method and version, stays.
    fn lend(&mut self) -> Result<Box<dyn Head>, Refusal> {
        let mut empty = RequestHeader::build_no_case(self.0.method.clone(), b"/", Some(0))
            .map_err(|_impossible| Refusal::Internal)?;
        empty.set_version(self.0.version);
        Ok(Box::new(Taken(std::mem::replace(self.0, empty))))
    }

    fn take_back(&mut self, head: Box<dyn Head>) {
        if let Ok(head) = head.into_any().downcast::<Taken<RequestHeader>>() {
            *self.0 = head.0;
        }
    }
}

impl Borrowed for Response<'_> {
    fn lend(&mut self) -> Result<Box<dyn Head>, Refusal> {
        let mut empty =
            ResponseHeader::build_no_case(self.0.status, Some(0)).map_err(|_impossible| Refusal::Internal)?;
        empty.set_version(self.0.version);
        Ok(Box::new(Taken(std::mem::replace(self.0, empty))))
    }

    fn take_back(&mut self, head: Box<dyn Head>) {
        if let Ok(head) = head.into_any().downcast::<Taken<ResponseHeader>>() {
            *self.0 = head.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Version;
    use http::header::{HOST, SERVER};

    #[test]
    fn a_request_stays_what_it_is() {
        let mut head = RequestHeader::build("PUT", b"/orders?x=1", None).unwrap();
        head.set_version(Version::HTTP_2);
        head.append_header("X-One", "1").unwrap();
        change_request(&mut head, |parts| parts.headers.insert(HOST, HeaderValue::from_static("shop")));
        assert_eq!(
            (&head.method, head.raw_path(), head.version),
            (&http::Method::PUT, &b"/orders?x=1"[..], Version::HTTP_2)
        );
        let mut wire = Vec::new();
        head.header_to_h1_wire(&mut wire);
        assert_eq!(String::from_utf8_lossy(&wire), "x-one: 1\r\nHost: shop\r\n");
    }

    #[test_case::test_case(Some("Teapot"), Some("Teapot"); "a reason of its own")]
    #[test_case::test_case(None, Some("Not Found"); "the usual reason")]
    fn a_response_stays_what_it_is(reason: Option<&str>, expected: Option<&str>) {
        let mut head = ResponseHeader::build(404, None).unwrap();
        head.set_reason_phrase(reason).unwrap();
        head.append_header("X-One", "1").unwrap();
        change_response(&mut head, |parts| Ok(parts.headers.insert(SERVER, HeaderValue::from_static("s")))).unwrap();
        assert_eq!((head.status.as_u16(), head.get_reason_phrase()), (404, expected));
        assert_eq!(head.headers.len(), 2);
    }
}
