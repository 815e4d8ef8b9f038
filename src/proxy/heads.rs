//! Heads of messages as filters work on them, and as they may take them for a while.

use crate::filter::{Borrowed, Head, Headers};
use crate::refusal::Refusal;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use pingora::http::{RequestHeader, ResponseHeader};
use std::any::Any;

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
