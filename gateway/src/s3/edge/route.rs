//! Routes: which request is which operation, and what each operation accepts.
//!
//! A [`Route`] owns its operation's method, kind of target, parameters and headers. A parameter
//! that a write doesn't know is refused, because it may stand for another operation. Every header
//! that an operation reads must be in its table, and what the table refuses is refused before the
//! operation sees the request.

use super::Core;
use super::answer::Answer;
use super::authorise::{Granted, authorise};
use super::error::S3Error;
use super::request::Request;
use super::target::Target;
use super::unknown::UNKNOWN;
use futures::future::BoxFuture;
use http::{HeaderMap, Method};

/// What an operation works on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::s3) enum On {
    Service,
    Bucket,
    Object,
}

/// What a request must have for an operation to be chosen, besides method and target.
#[derive(Clone, Copy, Debug)]
pub(in crate::s3) enum Chosen {
    /// A parameter of the query, whatever its value.
    Query(&'static str),
    /// A parameter with that value.
    QueryIs(&'static str, &'static str),
    Header(&'static str),
}

/// What an operation does with a header.
#[derive(Clone, Copy, Debug)]
pub(in crate::s3) enum Field {
    /// It reads it.
    Reads(&'static str),
    /// It doesn't support the header yet: 501, with this text.
    Refuses(&'static str, &'static str),
    /// It accepts only some values.
    Checks(&'static str, fn(&str) -> Result<(), S3Error>),
}

/// What kind of body an operation takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::s3) enum Takes {
    /// None; a body that comes anyway is not read.
    Nothing,
    /// An object's bytes.
    Stream,
    /// A document. Checksum headers are about the document.
    Xml,
    /// A document. Checksum headers are about the object.
    XmlOfObject,
}

/// One operation's part of the S3 protocol.
#[derive(Debug)]
pub(in crate::s3) struct Route {
    /// The operation's name in S3, metrics and logs.
    pub(in crate::s3) name: &'static str,
    pub(in crate::s3) method: Method,
    pub(in crate::s3) on: On,
    /// All of these must hold.
    pub(in crate::s3) chosen_by: &'static [Chosen],
    /// Other parameters of the query that the request may have.
    pub(in crate::s3) query: &'static [&'static str],
    pub(in crate::s3) headers: &'static [&'static [Field]],
    pub(in crate::s3) takes: Takes,
}

/// One operation: what it reads from a request, and how it is served.
pub(in crate::s3) trait Operation: Sized + Send + 'static {
    const ROUTE: &'static Route;

    /// Reads what the operation needs. The route's tables have already been checked.
    ///
    /// # Errors
    /// The refusal, as S3's code.
    fn read(request: &mut Request) -> Result<Self, S3Error>;

    /// Carries out the operation.
    fn serve(
        self,
        granted: Granted,
        core: &Core,
    ) -> impl Future<Output = Result<Answer, S3Error>> + Send;
}

/// An operation as it stands in the table.
pub(in crate::s3) struct Entry {
    pub(in crate::s3) route: &'static Route,
    call: for<'a> fn(Request, &'a Core) -> BoxFuture<'a, Result<Answer, S3Error>>,
}

impl Entry {
    pub(in crate::s3) const fn of<O: Operation>() -> Self {
        Self {
            route: O::ROUTE,
            call: |request, core| Box::pin(run::<O>(request, core)),
        }
    }

    pub(super) fn call<'a>(
        &self,
        request: Request,
        core: &'a Core,
    ) -> BoxFuture<'a, Result<Answer, S3Error>> {
        (self.call)(request, core)
    }
}

/// Runs an operation, and is the only way to one: permission, tables, body, operation.
async fn run<O: Operation>(mut request: Request, core: &Core) -> Result<Answer, S3Error> {
    let verified = request.verified();
    let granted = authorise(verified, O::ROUTE, request.target(), request.headers())?;
    request.check_fields(O::ROUTE)?;
    // Held until the operation has ended: what it read is as large as the document.
    let _held = match O::ROUTE.takes {
        Takes::Nothing | Takes::Stream => None,
        Takes::Xml => request.read_whole(true, &core.store).await?,
        Takes::XmlOfObject => request.read_whole(false, &core.store).await?,
    };
    let operation = O::read(&mut request)?;
    drop(request);
    operation.serve(granted, core).await
}

impl Route {
    /// Returns whether the operation changes anything.
    fn writes(&self) -> bool {
        self.method != Method::GET && self.method != Method::HEAD
    }

    /// Returns whether the operation knows a parameter of the query.
    pub(super) fn knows_query(&self, name: &str) -> bool {
        let chooses = |chosen: &Chosen| match chosen {
            Chosen::Query(known) | Chosen::QueryIs(known, _) => *known == name,
            Chosen::Header(_) => false,
        };
        self.query.contains(&name) || self.chosen_by.iter().any(chooses)
    }

    /// Returns whether the operation's table lists a header.
    pub(super) fn knows_header(&self, name: &str) -> bool {
        self.headers
            .iter()
            .copied()
            .flatten()
            .any(|field| match field {
                Field::Reads(known) | Field::Refuses(known, _) | Field::Checks(known, _) => {
                    *known == name
                }
            })
    }
}

#[cfg(test)]
impl Route {
    /// Returns a target, and names of headers, that choose this operation.
    pub(in crate::s3) fn example(&self) -> (String, Vec<&'static str>) {
        let path = match self.on {
            On::Service => "/",
            On::Bucket => "/box",
            On::Object => "/box/k",
        };
        let (mut pairs, mut headers) = (Vec::new(), Vec::new());
        for chosen in self.chosen_by {
            match chosen {
                Chosen::Query(name) => pairs.push(format!("{name}=1")),
                Chosen::QueryIs(name, value) => pairs.push(format!("{name}={value}")),
                Chosen::Header(name) => headers.push(*name),
            }
        }
        (format!("{path}?{}", pairs.join("&")), headers)
    }
}

/// Finds a request's operation in the table, in which more specific operations come first.
///
/// # Errors
/// `NotImplemented`; with the operation's name, if S3 has such an operation.
pub(super) fn find<'t>(
    table: &'t [Entry],
    method: &Method,
    target: &Target,
    query: &[(String, String)],
    headers: &HeaderMap,
) -> Result<&'t Entry, (Option<&'static str>, S3Error)> {
    let on = match target {
        Target::Service => On::Service,
        Target::Bucket(_) => On::Bucket,
        Target::Object { .. } => On::Object,
    };
    let has = |chosen: &Chosen| match chosen {
        Chosen::Query(name) => query.iter().any(|(found, _)| found == name),
        Chosen::QueryIs(name, value) => query
            .iter()
            .any(|(found, text)| found == name && text == value),
        Chosen::Header(name) => headers.contains_key(*name),
    };
    let unknown = UNKNOWN
        .iter()
        .find(|unknown| unknown.method == *method && unknown.on == on && has(&unknown.chosen_by));
    if let Some(unknown) = unknown {
        return Err((Some(unknown.name), S3Error::not_implemented(unknown.name)));
    }
    let entry = table.iter().find(|entry| {
        entry.route.method == *method
            && entry.route.on == on
            && entry.route.chosen_by.iter().all(has)
    });
    let Some(entry) = entry else {
        return Err((None, S3Error::not_implemented("unknown operation")));
    };
    // S3 ignores parameters that begin with "x-", such as those of signatures and clients, and has
    // no operation with other characters in its name.
    let foreign = |name: &str| {
        let ignored = name
            .get(..2)
            .is_some_and(|start| start.eq_ignore_ascii_case("x-"));
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        !name.is_empty() && !ignored && name.bytes().all(plain) && !entry.route.knows_query(name)
    };
    if entry.route.writes() && query.iter().any(|(name, _)| foreign(name)) {
        let refusal = S3Error::not_implemented("a parameter of the query");
        return Err((Some(entry.route.name), refusal));
    }
    Ok(entry)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::s3::operations::OPERATIONS;
    use megalith_sigv4::uri::parse_query;

    /// Each operation is found by its own route, and none hides another.
    #[test]
    fn every_operation_is_reached() {
        for entry in &OPERATIONS {
            let (target, names) = entry.route.example();
            let query = parse_query(target.split_once('?').map_or("", |(_, query)| query));
            let mut headers = HeaderMap::new();
            for name in names {
                headers.insert(name, http::HeaderValue::from_static("x"));
            }
            let (bucket, key) = ("box".to_owned(), "k".to_owned());
            let target = match entry.route.on {
                On::Service => Target::Service,
                On::Bucket => Target::Bucket(bucket),
                On::Object => Target::Object { bucket, key },
            };
            let query = query.expect("UTF-8");
            let found = find(&OPERATIONS, &entry.route.method, &target, &query, &headers);
            let found = found.ok().map(|found| found.route.name);
            assert_eq!(found, Some(entry.route.name));
        }
    }

    #[test]
    fn names_of_headers_are_in_lower_case() {
        for entry in &OPERATIONS {
            for field in entry.route.headers.iter().copied().flatten() {
                let (Field::Reads(name) | Field::Refuses(name, _) | Field::Checks(name, _)) = field;
                assert!(
                    !name.bytes().any(|byte| byte.is_ascii_uppercase()),
                    "{name}"
                );
            }
        }
    }
}
